"""Images of measured voltages: one linear step, and a learned prior with unknown contrasts."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, log
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onmanifold import Fidelity, ManifoldPrior, Point, load_prior
from onmanifold.applications.eit.measured import Measured, Voltages, measure
from onmanifold.applications.tanks import (
    probability_of_scale,
    scaled_posterior,
    tank_search,
)
from onmanifold.errors import InputError
from onmanifold.operators.eit import (
    CalibratedTank,
    Exponential,
    Inclusions,
    Labels,
    Measurement,
    Protocol,
    one_step,
)
from onmanifold.operators.eit.conductivity import ConductivityMap
from onmanifold.operators.eit.measurements.approximation_error import ApproximationError
from onmanifold.posterior import Laplace, find_posterior
from onmanifold.priors.nuisance import MeasurementParameters
from onmanifold.priors.scene import Scene, count_probabilities
from onmanifold.solution import UNLIKELY, InconsistentWarning

Array = NDArray[np.float64]

_SIZE = 64  # pixels along each side of the linear image
_CONTRAST = 4.0  # of objects, times or over the background: the middle of what is expected
_SPREAD = 0.6  # standard deviation of the logarithm of that contrast's logarithm: 1.5 to 100
_DRIFT = 0.05  # of the background between two measurements, relative standard deviation
_UNKNOWN = 0.3  # of the background where there is no reference, the same
_SAMPLES = 60  # of the posterior, behind image and standard deviation
_BACKGROUND = 0.05  # what priors of images have to show where nothing is


@dataclass(frozen=True, eq=False)
class Frame:
    """The images of one measurement.

    Images hold the natural logarithm of conductivity over the reference's, row 0 on top, NaN outside of
    the tank.

    Attributes:
        linear: by one linear step from the background, ``(64, 64)``.
        linear_std: its standard deviation.
        image: posterior mean under the prior, ``(H, W)``; ``None`` without a prior.
        std: its standard deviation, of the Laplace posterior.
        p_value: probability of errors of the model at least as large as those that explain what the best
            image leaves of the data; NaN without a prior.
        contrast: conductivity over the background's of resistive and of conductive objects, each with
            the factor of one standard deviation; empty where the prior is not one of objects.
        drift: conductivity of the background over that in the reference, with its standard deviation.
        counts: probability of each number of resistive and conductive objects; empty for other priors.
        unreliable: patterns that count little, from 0.
        seconds: how long it took.
    """

    linear: Array
    linear_std: Array
    image: Array | None
    std: Array | None
    p_value: float
    contrast: dict[str, tuple[float, float]]
    drift: tuple[float, float]
    counts: dict[tuple[int, ...], float]
    unreliable: tuple[int, ...]
    seconds: float

    @property
    def consistent(self) -> bool:
        """Whether the voltages are consistent with the best image; if not, do not rely on it."""
        return not self.p_value < UNLIKELY


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """All frames of a file.

    Attributes:
        measured: the calibrated tank, the measurements, and what is implausible in them.
        frames: their images.
    """

    measured: Measured
    frames: tuple[Frame, ...]

    @property
    def background(self) -> float:
        """Conductivity of the tank without objects (times its depth), S for currents in A.

        Of currents that are on average as large as they are said to be.
        """
        currents = self.measured.tank.calibration.values.currents
        return self.measured.tank.background / exp(float(currents.mean()))

    @property
    def consistent(self) -> bool:
        """Whether all frames are consistent with their images."""
        return all(frame.consistent for frame in self.frames)


def reconstruct(
    reference: Voltages | None,
    data: Voltages,
    protocol: Protocol | str | None = None,
    *,
    prior: ManifoldPrior | str | None = "scene",
    absolute: bool = False,
    seed: int = 0,
    **options: Any,
) -> Reconstruction:
    """From voltages to images: a linear one, the prior's, its standard deviation, and a p-value.

    Args:
        reference: voltages without objects: a file, an array or a :class:`Measurement`; of several the
            mean is taken. ``None`` where there is none; then images are absolute ones.
        data: voltages with objects, one measurement or several.
        protocol: what was driven and measured, or its name
            (:func:`onmanifold.operators.eit.models.presets.convention`); ``None`` where the file says it.
        prior: a scene of two kinds, or images from -1 (resistive) over 0 to 1 (conductive); by name, or
            itself. ``None``: the linear image alone.
        absolute: model the voltages, not their difference to the reference, which then only calibrates.
        seed: of initial points and samples.
        options: of :func:`measure`: ``tank`` (a :class:`Tank`), or ``radius`` (m), ``width`` (of an
            electrode, degrees; by default half of the spacing), ``first_angle`` (degrees),
            ``clockwise``; ``current`` (A), ``factor`` (what voltages are multiplied by: 0.001 for mV,
            -1 for the other sign), ``conductivity`` of the empty tank (S/m times its depth, where voltages
            and currents are in V and A: other units are then found), ``variable`` and ``decimal`` of files.

    Raises:
        ValueError: voltages of another protocol, order, sign or unit than said; the message says which.

    Warns:
        Implausible: of bad channels, or of another tank than said.
        InconsistentWarning: a frame is inconsistent with the best image that was found.

    Example:
        >>> from onmanifold.operators.eit import Tank, homogeneous_voltages
        >>> empty = homogeneous_voltages(Tank(electrodes=8, width=22), Protocol.adjacent(8), 1.0)
        >>> found = reconstruct(empty, 1.01 * empty, Protocol.adjacent(8), prior=None)
        >>> found.frames[0].linear.shape, bool(abs(np.log(found.background)) < 0.2)
        ((64, 64), True)
    """
    measured = measure(reference, data, protocol, **options)
    found = Reconstruction(measured, tuple(reconstruct_frames(measured, prior, absolute, seed)))
    if not found.consistent:
        bad = [str(k) for k, frame in enumerate(found.frames) if not frame.consistent]
        warnings.warn(
            f"frames {', '.join(bad)} (from 0) are inconsistent with the best image that was found; do not "
            "rely on them",
            InconsistentWarning,
            stacklevel=2,
        )
    return found


def reconstruct_frames(
    measured: Measured,
    prior: ManifoldPrior | str | None = "scene",
    absolute: bool = False,
    seed: int = 0,
) -> Iterator[Frame]:
    """The images of each frame, in turn; arguments as for :func:`reconstruct`."""
    absolute = absolute or measured.absolute
    inner = load_prior(prior) if isinstance(prior, str) else prior
    tank = measured.tank
    whole = None if inner is None else _with_unknowns(inner, _UNKNOWN if absolute else _DRIFT)
    for frame, bad in zip(measured.frames, measured.unreliable, strict=True):
        began = time.perf_counter()
        errors = tank.absolute_errors if absolute else tank.errors
        problem = _Problem(tank, frame, errors(frame, bad), absolute)
        linear, linear_std = problem.linear()
        left = tuple(sorted({*bad, *tank.unreliable}))
        found: dict[str, Any] = {
            "image": None,
            "std": None,
            "p_value": float("nan"),
            "contrast": {},
            "drift": (1.0, 0.0),
            "counts": {},
        }
        if whole is not None:
            found = problem.posterior(whole, seed)
        seconds = time.perf_counter() - began
        yield Frame(linear, linear_std, **found, unreliable=left, seconds=seconds)


def _with_unknowns(inner: ManifoldPrior, drift: float) -> MeasurementParameters:
    """The prior with what is not known of the measurement: drift and contrasts."""
    if isinstance(inner, Scene):
        if inner.kinds != 2:
            raise InputError(
                f"the scene has {inner.kinds} kinds; expected 2, resistive and conductive"
            )
        return MeasurementParameters(inner, [drift, _SPREAD, _SPREAD])
    if len(inner.x_shape) != 3 or inner.x_shape[0] != 1:
        raise InputError(
            f"the prior has images of shape {inner.x_shape}; expected a scene of two kinds, or (1, H, W)"
        )
    with torch.no_grad():
        x = inner.decode(inner.sample(32, 0))
    usual = float(x.median())
    if abs(usual) > _BACKGROUND or float(x.abs().max()) > 1.5:
        raise InputError(
            f"the prior's images have values from {float(x.min()):.3g} to {float(x.max()):.3g}, {usual:.3g} "
            "mostly; expected -1 (resistive) to 1 (conductive) with 0 where nothing is, or a scene"
        )
    return MeasurementParameters(inner, [_SPREAD, drift, _SPREAD])


@dataclass(frozen=True, eq=False)
class _Problem:
    """One frame: its voltages, and what they are compared with."""

    tank: CalibratedTank
    frame: Measurement
    errors: ApproximationError
    absolute: bool

    def y(self) -> Tensor:
        return self.frame.voltages.reshape(self.tank.calibration.protocol.shape)

    def linear(self) -> tuple[Array, Array]:
        """The image of one linear step, and its standard deviation."""
        log_ratio = Exponential(self.tank.background)
        operator = self.tank.operator(log_ratio, (1, _SIZE, _SIZE), absolute=self.absolute)
        found = one_step(operator, self.y()[None], self.errors.fidelity())
        outside = ~operator.inside
        mean, std = (x[0, 0].masked_fill(outside, torch.nan) for x in (found.mean, found.std))
        return mean.numpy(), std.numpy()

    def posterior(self, prior: MeasurementParameters, seed: int) -> dict[str, Any]:
        """What the posterior says: image, standard deviation, consistency, contrasts."""
        scene = isinstance(prior.prior, Scene)
        background = self.tank.background
        material: ConductivityMap = (
            Inclusions(background, 1 - 1 / _CONTRAST, 1 - 1 / _CONTRAST, free=True)
            if scene
            else Labels(
                background / _CONTRAST,
                background,
                background * _CONTRAST,
                free=("resistive", "background", "conductive"),
            )
        )
        operator, draft = (
            self.tank.operator(material, prior.x_shape, absolute=self.absolute, coarse=coarse)
            for coarse in (False, True)
        )
        y = self.y().to(prior.dtype)

        def on_one_manifold(fidelity: Fidelity, known: Point | None) -> Laplace:
            return find_posterior(
                operator, y[None], prior, fidelity=fidelity, starts=known, seed=seed
            )

        search = tank_search(operator, y, prior, seed, draft=draft) if scene else on_one_manifold
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InconsistentWarning)  # the frame says it
            found, scale = scaled_posterior(self.errors, search, draft)
        x = found.x(_SAMPLES, seed)[0].double()
        ratio = _log_ratio(material, x, background).masked_fill(~operator.inside, torch.nan)
        return {
            "image": ratio.mean(0).numpy(),
            "std": ratio.std(0).numpy(),
            "p_value": probability_of_scale(scale),
            "contrast": _contrasts(x, found) if scene else {},
            "drift": _moments(x[:, 2].mean((1, 2)).exp()),
            "counts": dict(count_probabilities(found)[0]) if scene else {},
        }


def _log_ratio(material: ConductivityMap, x: Tensor, background: float) -> Tensor:
    """Logarithm of conductivity over the background's of images ``(S, C, H, W)``: ``(S, H, W)``."""
    return (material(x.flatten(2)) / background).log().view(len(x), *x.shape[2:])


def _contrasts(x: Tensor, found: Laplace) -> dict[str, tuple[float, float]]:
    """Conductivity of objects over the background's, and the factor of a standard deviation.

    Of the kinds that are there in most samples.
    """
    result = {}
    for k, (kind, sign) in enumerate((("resistive", -1), ("conductive", 1))):
        there = x[:, k].amax((1, 2)) > 0.5
        if float(there.double().mean()) > 0.5:
            logs = sign * log(_CONTRAST) * x[there, 3 + k].mean((1, 2)).exp()
            mean, std = _moments(logs)
            result[kind] = (exp(mean), exp(std))
    return result


def _moments(values: Tensor) -> tuple[float, float]:
    return float(values.mean()), float(values.std())
