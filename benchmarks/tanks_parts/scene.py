"""Scenes of objects, their number by evidence: the method of ``onmanifold tank`` and parts of it."""

from __future__ import annotations

import time

import torch

from benchmarks.tanks_parts.data_terms import MakeDataTerm
from benchmarks.tanks_parts.method import Reconstruction
from onmanifold import load_prior
from onmanifold.applications.tanks import describe, tank_posterior, tank_prior
from onmanifold.operators.eit import Inclusions, Measurement, ktc
from onmanifold.posterior import Laplace
from onmanifold.prior import Point
from onmanifold.priors.scene import RadialOutlines, Scene


class LearnedOutlines:
    """Scenes of outlines on a learned manifold.

    Args:
        data_term: of a reference and a measurement.
    """

    def __init__(self, data_term: MakeDataTerm) -> None:
        self.data_term = data_term
        self.scenes = self.make()
        self.prior = tank_prior(self.scenes)

    def make(self) -> Scene:
        """The prior of scenes."""
        scene = load_prior("scene")
        assert isinstance(scene, Scene)
        return scene

    def __call__(self, reference: Measurement, measurement: Measurement) -> Reconstruction:
        began = time.perf_counter()
        data = self.data_term(reference, measurement)
        operator = data.operator(Inclusions, self.prior.x_shape)
        posterior = tank_posterior(operator, data.y, data.fidelity, self.prior)
        found = describe(posterior, time.perf_counter() - began)
        variants = {
            "misfit": self._one(posterior, int(_misfits(posterior).argmin())),
            "mode": self._one(posterior, int(posterior.log_mass[0].argmax())),
        }
        counted = next(iter(found.counts))
        return Reconstruction(found.labels, found.probabilities, counted, found.seconds, variants)

    def _one(self, posterior: Laplace, number: int) -> Reconstruction:
        """One mode, as it is."""
        chart, z = posterior.chart[:1, number], posterior.mode[:1, number].to(self.prior.dtype)
        with torch.no_grad():
            resistive, conductive, _ = self.prior.decode(Point(chart, z))[0]
        counts = self.scenes.counts[int(chart[0])]
        labels = ktc.classes((conductive - resistive)[None])
        return Reconstruction(labels, None, (counts[0], counts[1]))


class FourierOutlines(LearnedOutlines):
    """Scenes of star-shaped outlines by five orders of a Fourier series: nothing is learned."""

    def make(self) -> Scene:
        return Scene(RadialOutlines(), kinds=2)


def _misfits(posterior: Laplace) -> torch.Tensor:
    """Each mode's misfit, ``(M,)``."""
    problem = posterior.problem
    chart, z = posterior.chart[0], posterior.mode[0].to(problem.prior.dtype)
    with torch.no_grad():
        y = problem.operator.A(problem.prior.decode(Point(chart, z)))
        return problem.select(torch.zeros(len(z), dtype=torch.long)).misfit(y)
