"""The objects in a tank: scenes found by descent and jumps, weighed by their evidence."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from onmanifold import (
    Fidelity,
    InitialPoints,
    ManifoldPrior,
    MaxSteps,
    Point,
    SmallDecrease,
    load_prior,
)
from onmanifold.applications.tanks.error_scale import (
    Search,
    probability_of_scale,
    scaled_posterior,
)
from onmanifold.applications.tanks.initial_points import initial_points
from onmanifold.operator import ForwardOperator
from onmanifold.operators.eit import EIT, CalibratedTank, Inclusions, Measurement, ktc
from onmanifold.operators.eit.measurements.approximation_error import ErrorScale
from onmanifold.posterior import Laplace, find_posterior
from onmanifold.priors.nuisance import MeasurementParameters
from onmanifold.priors.scene import count_probabilities
from onmanifold.solution import UNLIKELY

PATIENCE = 1  # modes in a row whose jumps lead to nothing better before the search ends
_SAMPLES = 60  # of the posterior, behind labels and probabilities
_DRIFT = 0.05  # of the water's conductivity between two measurements, relative standard deviation
_POOL = 32  # samples of the prior that compete with the other initial points
_STARTS, _HALVED = 8, 4  # descents before the first jump, and steps until half of them go on
_EXPECTED = ErrorScale()
_SLACK = 4.0  # how much less evidence modes may have that jumps are tried from, nats


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The objects in a tank, and how certain they are.

    Attributes:
        labels: classes of the best expected score, ``(256, 256)``, row 0 on top: 0 water, 1 resistive,
            2 conductive.
        probabilities: of water, resistive, conductive, ``(3, 256, 256)``.
        counts: probability of each number of resistive and conductive objects, largest first.
        p_value: probability of errors of the model that are at least as large as those that explain what
            the most probable scene leaves of the data.
        seconds: how long it took.
        error_scale: how many times as large as expected the model's errors are, shared by voltages and of
            single ones.
        linearizations: of the operator in descents, most of them without new tangents.
        evaluations: of the operator, those of linearizations among them.
    """

    labels: NDArray[np.uint8]
    probabilities: NDArray[np.float64]
    counts: Mapping[tuple[int, ...], float]
    p_value: float
    seconds: float
    error_scale: ErrorScale = ErrorScale()
    linearizations: int = 0
    evaluations: int = 0

    @property
    def uncertainty(self) -> NDArray[np.float64]:
        """Probability of any other class than the most probable one, ``(256, 256)``."""
        return np.asarray(1 - self.probabilities.max(axis=0))

    @property
    def consistent(self) -> bool:
        """Whether the voltages are consistent with the most probable scene; if not, do not rely on it."""
        return not self.p_value < UNLIKELY


def tank_prior(scene: ManifoldPrior | None = None) -> MeasurementParameters:
    """Scenes of resistive and conductive objects, and the drift of the water's conductivity.

    Args:
        scene: of two kinds; by default the pretrained ``scene``.
    """
    return MeasurementParameters(load_prior("scene") if scene is None else scene, [_DRIFT])


def tank_posterior(
    operator: ForwardOperator,
    y: Tensor,
    fidelity: Fidelity,
    prior: MeasurementParameters,
    seed: int = 0,
    patience: int = PATIENCE,
    draft: ForwardOperator | None = None,
    jobs: int = 1,
    known: Point | None = None,
    rough: bool = False,
) -> Laplace:
    """The posterior over scenes and the water's drift, given voltages.

    Args:
        operator: masks of resistive and conductive objects and the drift, ``(3, H, W)``, to voltages.
        y: measured, V, ``(*y_shape,)``.
        fidelity: what their residual costs.
        prior: of :func:`tank_prior`.
        seed: of the samples among the initial points.
        patience: modes in a row whose jumps may lead to nothing better.
        draft: a quicker operator for the descents of candidates; by default the same one.
        jobs: processes that share the work; the result is the same.
        known: scenes to descend from; by default the best of what a linear step shows, of single objects, and
            of samples of the prior.
        rough: as for :func:`onmanifold.posterior.find_posterior`.
    """
    y = y.to(prior.dtype)
    starts: InitialPoints | Point | None = known
    if starts is None:
        guesses = initial_points(operator if draft is None else draft, y, fidelity, prior)
        starts = InitialPoints(_POOL, _STARTS, _HALVED, also=guesses)
    return find_posterior(
        operator,
        y[None],
        prior,
        fidelity=fidelity,
        starts=starts,
        stop=MaxSteps(12) | SmallDecrease(1e-3),
        seed=seed,
        patience=patience,
        slack=_SLACK,
        draft=draft,
        jobs=jobs,
        rough=rough,
    )


def tank_search(
    operator: ForwardOperator,
    y: Tensor,
    prior: MeasurementParameters,
    seed: int = 0,
    patience: int = PATIENCE,
    draft: ForwardOperator | None = None,
    jobs: int = 1,
) -> Search:
    """The search that :func:`scaled_posterior` repeats; the arguments are those of :func:`tank_posterior`.

    The first one is rough, since another one follows.
    """

    def search(fidelity: Fidelity, known: Point | None) -> Laplace:
        rough = known is None
        return tank_posterior(
            operator, y, fidelity, prior, seed, patience, draft, jobs, known=known, rough=rough
        )

    return search


def reconstruct(
    tank: CalibratedTank,
    measurement: Measurement,
    prior: MeasurementParameters | None = None,
    *,
    unreliable: Sequence[int] = (),
    patience: int = PATIENCE,
    seed: int = 0,
    jobs: int = 1,
) -> Reconstruction:
    """Find the objects in a tank: seconds on one core.

    Args:
        tank: calibrated by a measurement without objects.
        measurement: with objects; the same tank and protocol.
        prior: by default :func:`tank_prior`.
        unreliable: measurement patterns that are bad in it, from 0; those of the reference are known.
        patience: modes in a row whose jumps may lead to nothing better before the search ends.
        seed: of the samples.
        jobs: processes that share the work; the result is the same, to the last bit.

    Warns:
        InconsistentWarning: the voltages are inconsistent with the most probable scene.
    """
    began = time.perf_counter()
    prior = tank_prior() if prior is None else prior
    y = measurement.voltages.flatten()
    operator, draft = tank_operators(tank, prior)

    search = tank_search(operator, y, prior, seed, patience, draft, jobs)
    posterior, scale = scaled_posterior(tank.errors(measurement, unreliable), search, draft)
    found = describe(posterior, scale, seed)
    return replace(found, seconds=time.perf_counter() - began)


def tank_operators(tank: CalibratedTank, prior: MeasurementParameters) -> tuple[EIT, EIT]:
    """The operator of a tank, and the quicker one of drafts."""
    conductivity = Inclusions(tank.background)
    return (
        tank.operator(conductivity, prior.x_shape),
        tank.operator(conductivity, prior.x_shape, coarse=True),
    )


def describe(
    posterior: Laplace, error_scale: ErrorScale = _EXPECTED, seed: int = 0
) -> Reconstruction:
    """Labels, class probabilities and numbers of objects of a posterior over scenes.

    Args:
        posterior: of :func:`tank_posterior`.
        error_scale: how many times as large as expected the model's errors are.
        seed: of the samples.
    """
    counts = posterior.problem.counts
    masks = posterior.x(_SAMPLES, seed)[0][:, :2]
    return Reconstruction(
        labels=ktc.best_labels(masks),
        probabilities=class_probabilities(masks),
        counts=count_probabilities(posterior)[0],
        p_value=probability_of_scale(error_scale),
        seconds=0.0,
        error_scale=error_scale,
        linearizations=int(counts.linearizations[0]),
        evaluations=int(counts.evaluations[0]),
    )


def class_probabilities(masks: Tensor) -> NDArray[np.float64]:
    """Of water and the two classes, by samples of their masks ``(S, 2, H, W)``: ``(3, 256, 256)``.

    The mean of the masks with their soft edges: no outline of the prior is the true one to a pixel.
    """
    fine = interpolate(masks, (ktc.SIZE, ktc.SIZE), mode="bilinear")
    objects = fine.double().mean(0).numpy()
    return np.concatenate([np.clip(1 - objects.sum(0, keepdims=True), 0, 1), objects])
