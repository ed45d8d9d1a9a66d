"""Methods of reconstruction: a data term makes one, a reference and a measurement are its arguments."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from torch import Tensor
from torch.nn.functional import interpolate

from onmanifold import InitialPoints, MaxSteps, Point, SmallDecrease, Solution, load_prior, solve
from onmanifold.applications.tanks import (
    describe,
    linear_image,
    tank_posterior,
    tank_prior,
)
from onmanifold.operators.eit import Inclusions, Measurement, ktc
from onmanifold.posterior import Laplace
from onmanifold.priors.nuisance import BackgroundOffset
from onmanifold.priors.scene import RadialOutlines, Scene
from tanks_parts.data_terms import DATA_TERMS, X_SHAPE, MakeDataTerm, saturating
from tanks_parts.thresholds import otsu, water_is_most

WATER_STD = 0.05  # of the water's conductivity from one measurement to the next
TEMPERATURE = 20.0  # objective above the best one at which a final point still counts


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What a method finds in a tank.

    Attributes:
        labels: classes ``(256, 256)``: 0 water, 1 resistive, 2 conductive, row 0 on top.
        probabilities: of the three classes, ``(3, 256, 256)``, if the method knows.
        objects: how many there are, or how many resistive and conductive ones, if the method knows.
        seconds: how long it took, the data term included.
        variants: results of the same search with a part of the method switched off, by name.
    """

    labels: NDArray[np.uint8]
    probabilities: NDArray[np.floating] | None = None
    objects: int | tuple[int, int] | None = None
    seconds: float = float("nan")
    variants: Mapping[str, "Reconstruction"] = field(default_factory=dict)


class Linear:
    """Smoothness prior, one linear step from water, Otsu's two thresholds.

    The method of the challenge's organisers, with one change: how far conductivities spread is not given
    but found for each measurement, as the value under which its voltages are likeliest.
    """

    def __init__(self, data_term: MakeDataTerm) -> None:
        self.data_term = data_term

    def __call__(self, reference: Measurement, measurement: Measurement) -> Reconstruction:
        began = time.perf_counter()
        data = self.data_term(reference, measurement)
        operator = data.operator(saturating(data.water), X_SHAPE)
        mean, std = (
            interpolate(image[None, None], (256, 256), mode="bilinear")[0, 0].numpy()
            for image in linear_image(operator, data.y, data.fidelity)
        )
        std = std.clip(1e-12)  # outside of the tank it is zero
        resistive, conductive = water_is_most(mean, *otsu(mean))
        labels = np.where(mean < resistive, 1, np.where(mean > conductive, 2, 0)).astype(np.uint8)
        below, above = ndtr((resistive - mean) / std), ndtr((mean - conductive) / std)
        probabilities = np.stack([1 - below - above, below, above])
        return Reconstruction(labels, probabilities, seconds=time.perf_counter() - began)


class WholeImage:
    """Levenberg-Marquardt along one manifold of images of whole tanks: no list of objects."""

    def __init__(self, data_term: MakeDataTerm) -> None:
        self.data_term = data_term
        self.prior = BackgroundOffset(load_prior("tank"), WATER_STD)

    def __call__(self, reference: Measurement, measurement: Measurement) -> Reconstruction:
        began = time.perf_counter()
        data = self.data_term(reference, measurement)
        solution = solve(
            data.operator(saturating(data.water), X_SHAPE),
            data.y[None].to(self.prior.dtype),
            self.prior,
            fidelity=data.fidelity,
            starts=InitialPoints(pool=96, keep=6),
            stop=MaxSteps(40) | SmallDecrease(1e-3),
        )
        labels = self.classes(solution.x[0], solution.z[0])
        probabilities = self.probabilities(solution)
        return Reconstruction(labels, probabilities, seconds=time.perf_counter() - began)

    def classes(self, x: Tensor, z: Tensor) -> NDArray[np.uint8]:
        """Classes of an image without the water's change, ``(256, 256)``; z's last entry is that change."""
        centre = (torch.arange(x.shape[-1]) + 0.5) * 2 / x.shape[-1] - 1
        tank = torch.hypot(centre[:, None], centre) <= 1
        return ktc.classes((x - self.prior.std * z[-1]) * tank.float())

    def probabilities(self, solution: Solution) -> NDArray[np.float64]:
        """Share of each class among the final points, better ones with more weight, ``(3, 256, 256)``."""
        final = solution.final_points
        above = torch.nan_to_num(final.objective[0] - final.objective[0, 0], nan=torch.inf)
        weights = torch.softmax(-above / TEMPERATURE, dim=0)
        share = np.zeros((3, 256, 256))
        for weight, x, z in zip(weights.tolist(), final.x[0], final.z[0], strict=True):
            if weight > 0:
                share += weight * (self.classes(x, z) == np.arange(3)[:, None, None])
        return share


class LearnedOutlines:
    """Scenes of outlines on a learned manifold, their number by evidence, as ``onmanifold tank``."""

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
        operator = data.operator(Inclusions(data.water), self.prior.x_shape)
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
        return Reconstruction(labels, objects=(counts[0], counts[1]))


class FourierOutlines(LearnedOutlines):
    """Scenes of star-shaped outlines by five orders of a Fourier series: nothing is learned."""

    def make(self) -> Scene:
        return Scene(RadialOutlines(), kinds=2)


def _misfits(posterior: Laplace) -> Tensor:
    """Each mode's misfit, ``(M,)``."""
    problem = posterior.problem
    chart, z = posterior.chart[0], posterior.mode[0].to(problem.prior.dtype)
    with torch.no_grad():
        y = problem.operator.A(problem.prior.decode(Point(chart, z)))
        return problem.select(torch.zeros(len(z), dtype=torch.long)).misfit(y)


METHODS = {
    "linear": Linear,
    "image": WholeImage,
    "scene": LearnedOutlines,
    "fourier": FourierOutlines,
}


@cache  # one of a kind in each process
def tank_method(name: str, data_term: str) -> Any:
    """A method of :data:`METHODS`, or ``module:class``, with a data term of :data:`DATA_TERMS`."""
    if name in METHODS:
        return METHODS[name](DATA_TERMS[data_term])
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)(DATA_TERMS[data_term])
