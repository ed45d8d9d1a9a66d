"""Methods of reconstruction, and what the errors of voltages cost them."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from skimage.filters import threshold_multiotsu
from torch import Tensor
from torch.nn.functional import interpolate

from onmanifold import (
    Fidelity,
    Gaussian,
    InitialPoints,
    MaxSteps,
    Point,
    SmallDecrease,
    load_prior,
    solve,
)
from onmanifold.applications.tanks import (
    describe,
    scaled_posterior,
    tank_operators,
    tank_posterior,
    tank_prior,
    tank_search,
)
from onmanifold.operators.eit import CalibratedTank, Measurement, Saturating, ktc, one_step
from onmanifold.operators.eit.measurements.approximation_error import (
    ApproximationError,
    ErrorScale,
)
from onmanifold.posterior import Laplace
from onmanifold.priors.nuisance import BackgroundOffset
from onmanifold.priors.scene import RadialOutlines, Scene

X_SHAPE = (1, 64, 64)


class Found(NamedTuple):
    """What a method finds in a tank."""

    labels: NDArray[
        np.uint8
    ]  # classes (256, 256): 0 water, 1 resistive, 2 conductive, row 0 on top
    probabilities: NDArray[np.floating] | None = None  # of them, (3, 256, 256), if the method knows
    objects: tuple[int, ...] | None = None  # how many of both kinds, if the method knows


# Results by name: that of the method, and what it would be with a part of it switched off.
Results = Mapping[str, Found]
# Errors of a size that is found with the scene, or a data term as it is.
Errors = ApproximationError | Gaussian
Method = Callable[[CalibratedTank, Measurement, Errors], Results]


def saturating(water: float) -> Saturating:
    """Conductivity by one number a pixel: -1 resistive, 0 water, 1 conductive.

    Objects conduct 50 times better or worse than water; more makes no difference.
    """
    return Saturating(water, conductive=0.98, resistive=0.98, reach=0.9)


def offset_images() -> BackgroundOffset:
    """Images of whole tanks, with the drift of the water."""
    return BackgroundOffset(load_prior("tank"), std=0.05)


# Data terms -----------------------------------------------------------------------------------------


def noise(reference: Measurement, measurement: Measurement, bad: tuple[int, ...]) -> Tensor:
    """Standard deviation of voltage differences, V, mostly error of the model.

    A true image has a relative residual of about 0.1 in the difference signal, in proportion to the signal
    and spread over all electrodes. Bad channels have a sixteenth of the weight of the others.
    """
    difference = (measurement.voltages - reference.voltages) * measurement.mask
    typical = (difference.square().sum() / measurement.mask.sum()).sqrt()
    parts = 0.1 * difference, 0.05 * typical, 0.001 * reference.voltages
    std = sum(part**2 for part in parts).sqrt()
    std[:, list(bad)] *= 4
    return std


def independent(tank: CalibratedTank, measurement: Measurement) -> Gaussian:
    """Errors as large as those of the calibrated tank's model, but independent in each voltage."""
    std = noise(tank.reference, measurement, tank.unreliable)
    return Gaussian(std.flatten(), mask=measurement.mask.flatten())


def expected(errors: Errors) -> Fidelity:
    """The data term of errors of the expected size."""
    return errors.fidelity() if isinstance(errors, ApproximationError) else errors


DATA_TERMS: dict[str, Callable[[CalibratedTank, Measurement], Errors]] = {
    "transfer": CalibratedTank.errors,
    "calibrated": independent,
}


# Methods --------------------------------------------------------------------------------------------


def linear(tank: CalibratedTank, measurement: Measurement, errors: Errors) -> Results:
    """Smoothness prior, one linear step from water, Otsu's two thresholds.

    The method of the challenge's organisers, with one change: how far conductivities spread is not given
    but found for each measurement, as the value under which its voltages are likeliest.
    """
    operator = tank.operator(saturating(tank.background), X_SHAPE)
    found = one_step(operator, measurement.voltages.flatten()[None], expected(errors))
    mean, std = (
        interpolate(image, (ktc.SIZE, ktc.SIZE), mode="bilinear")[0, 0].numpy()
        for image in (found.mean, found.std)
    )
    limits = np.array([-np.inf, *threshold_multiotsu(mean, classes=3), np.inf])
    water = np.bincount(np.digitize(mean, limits[1:3]).ravel()).argmax()  # the largest class
    low, high = limits[water : water + 2]
    labels = np.where(mean < low, ktc.RESISTIVE, np.where(mean > high, ktc.CONDUCTIVE, ktc.WATER))
    std = std.clip(1e-12)  # outside of the tank it is zero
    below, above = ndtr((low - mean) / std), ndtr((mean - high) / std)
    probabilities = np.stack([1 - below - above, below, above])
    return {"linear": Found(labels.astype(np.uint8), probabilities)}


def image(tank: CalibratedTank, measurement: Measurement, errors: Errors) -> Results:
    """Levenberg-Marquardt along one manifold of images of whole tanks: no list of objects."""
    prior = offset_images()
    solution = solve(
        tank.operator(saturating(tank.background), X_SHAPE),
        measurement.voltages.flatten()[None].to(prior.dtype),
        prior,
        fidelity=expected(errors),
        starts=InitialPoints(pool=96, keep=6),
        stop=MaxSteps(40) | SmallDecrease(1e-3),
    )
    without_drift, _ = prior.split(solution.x)
    return {"image": Found(ktc.classes(without_drift[0]))}


def objects(
    name: str,
    make_scene: Callable[[], Scene],
    tank: CalibratedTank,
    measurement: Measurement,
    errors: Errors,
) -> Results:
    """Scenes of outlines, their number by evidence, as ``onmanifold tank``."""
    scene = make_scene()
    prior = tank_prior(scene)
    operator, draft = tank_operators(tank, prior)
    y = measurement.voltages.flatten()

    if isinstance(errors, ApproximationError):
        search = tank_search(operator, y, prior, draft=draft)
        posterior, scale = scaled_posterior(errors, search, draft)
    else:
        posterior = tank_posterior(operator, y, errors, prior, draft=draft)
        scale = ErrorScale()
    found = describe(posterior, scale)
    return {
        name: Found(found.labels, found.probabilities, next(iter(found.counts))),
        f"{name}-misfit": _mode(posterior, scene, int(_misfits(posterior).argmin())),
        f"{name}-mode": _mode(posterior, scene, int(posterior.log_mass[0].argmax())),
    }


@torch.no_grad()
def _mode(posterior: Laplace, scene: Scene, number: int) -> Found:
    """One mode, as it is."""
    prior = posterior.problem.prior
    chart, z = posterior.chart[:1, number], posterior.mode[:1, number].to(prior.dtype)
    resistive, conductive, _ = prior.decode(Point(chart, z))[0]
    return Found(ktc.classes(conductive - resistive), objects=scene.counts[int(chart[0])])


@torch.no_grad()
def _misfits(posterior: Laplace) -> Tensor:
    """Each mode's misfit, ``(M,)``."""
    problem = posterior.problem
    chart, z = posterior.chart[0], posterior.mode[0].to(problem.prior.dtype)
    y = problem.operator.A(problem.prior.decode(Point(chart, z)))
    return problem.select(torch.zeros(len(z), dtype=torch.long)).misfit(y)


@cache
def learned() -> Scene:
    """Outlines on a learned manifold."""
    return load_prior("scene")


@cache
def fourier() -> Scene:
    """Star-shaped outlines by five orders of a Fourier series: nothing is learned."""
    return Scene(RadialOutlines(), kinds=2)


METHODS: dict[str, Method] = {
    "linear": linear,
    "image": image,
    "scene": partial(objects, "scene", learned),
    "fourier": partial(objects, "fourier", fourier),
}
