"""Which objects stand in a tank: scenes found by descent and jumps, weighed by their evidence."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from ktc_parts.linear import hinted_objects
from onmanifold import Fidelity, InconsistentWarning, InitialPoints, MaxSteps, SmallDecrease, solve
from onmanifold.operators.eit import EIT, ktc
from onmanifold.posterior import Laplace, explore
from onmanifold.prior import Point
from onmanifold.priors.parameters import WithParameters
from onmanifold.priors.scene import Scene

SIZE = 256  # pixels along each side of the challenge's pictures
SAMPLES = 60  # of the posterior, behind labels and probabilities
DRIFT = 0.05  # of the water's conductivity between two measurements, relative standard deviation
POOL = 32  # samples of the prior that compete with the hints
STARTS, HALVED = 8, 4  # descents before the first jump, and steps until half of them go on
PATIENCE = 3  # modes in a row whose jumps lead to nothing better, and the search ends
SLACK = 4.0  # how much less evidence modes may have that jumps are tried from, nats


@dataclass(frozen=True, eq=False)
class Found:
    """What is believed to stand in a tank.

    Attributes:
        labels: classes that are expected to score best, ``(256, 256)``, row 0 on top.
        probabilities: of water, resistive, conductive, ``(3, 256, 256)``.
        objects: probability of each number of resistive and conductive objects, largest first.
        seconds: how long it took.
    """

    labels: NDArray[np.uint8]
    probabilities: NDArray[np.float64]
    objects: Mapping[tuple[int, int], float]
    seconds: float

    @property
    def unsure(self) -> NDArray[np.float64]:
        """Probability of any other class than the likeliest, ``(256, 256)``."""
        return np.asarray(1 - self.probabilities.max(axis=0))


def with_drift(scene: Scene) -> WithParameters:
    """A prior of scenes of two kinds with the logarithm of the water's drift as a third channel."""
    return WithParameters(scene, [DRIFT])


def posterior_of(
    operator: EIT,
    y: Tensor,
    fidelity: Fidelity,
    prior: WithParameters,
    seed: int = 0,
    patience: int = PATIENCE,
) -> Laplace:
    """The scenes, with the water's drift, that explain voltages.

    Args:
        operator: masks of resistive and conductive objects and the drift, ``(3, H, W)``, to voltages.
        y: measured, V, ``(*y_shape,)``.
        fidelity: what their residual costs.
        prior: of :func:`with_drift`.
        seed: of the samples.
        patience: modes in a row whose jumps may lead to nothing better.
    """
    y = y.to(prior.dtype)
    guesses = Point.cat([hinted_objects(operator, y, fidelity, prior), lone_objects(prior)])
    starts = InitialPoints(POOL, STARTS, HALVED, also=guesses)
    with warnings.catch_warnings():
        # the first descents may end in charts that cannot explain the data: jumps lead out of them
        warnings.simplefilter("ignore", InconsistentWarning)
        solution = solve(
            operator,
            y[None],
            prior,
            fidelity=fidelity,
            starts=starts,
            stop=MaxSteps(12) | SmallDecrease(1e-3),
            seed=seed,
        )
    return explore(solution, patience=patience, slack=SLACK)


def lone_objects(prior: WithParameters) -> Point:
    """Scenes of one small disk, anywhere: a single object may be where a linear step sees none."""
    empty = Point(torch.zeros(1, dtype=torch.long), torch.zeros(1, prior.dim, dtype=prior.dtype))
    return Point.cat([points for points in prior.jumps(empty).values() if len(points)])


def described(posterior: Laplace, prior: WithParameters, seconds: float, seed: int = 0) -> Found:
    """Labels, probabilities and numbers of objects of a posterior."""
    masks = posterior.x(SAMPLES, seed)[0][:, :2]
    labels = ktc.best_labels(masks)
    return Found(labels, class_probabilities(masks), numbers(posterior, prior), seconds)


def class_probabilities(masks: Tensor) -> NDArray[np.float64]:
    """Of water and the two classes, by samples of their masks ``(S, 2, H, W)``: ``(3, 256, 256)``.

    The mean of the masks with their soft edges: no outline of the prior is the true one to a pixel.
    """
    fine = interpolate(masks, (SIZE, SIZE), mode="bilinear")
    objects = fine.double().mean(0).numpy()
    return np.concatenate([np.clip(1 - objects.sum(0, keepdims=True), 0, 1), objects])


def numbers(posterior: Laplace, prior: WithParameters) -> dict[tuple[int, int], float]:
    """Probability of each number of resistive and conductive objects, largest first."""
    scene = prior.prior
    assert isinstance(scene, Scene)
    mass: dict[tuple[int, int], float] = {}
    for chart, weight in zip(
        posterior.chart[0].tolist(), posterior.weights[0].tolist(), strict=True
    ):
        resistive, conductive = scene.counts[chart]
        mass[resistive, conductive] = mass.get((resistive, conductive), 0.0) + weight
    return dict(sorted(mass.items(), key=lambda item: -item[1]))
