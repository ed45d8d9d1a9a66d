"""Calibration of content, contacts and instrument by a measurement without objects."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from torch import Tensor

from onmanifold.errors import InputError
from onmanifold.operators.eit.arguments import doubles
from onmanifold.operators.eit.calibration.instrument import Instrument
from onmanifold.operators.eit.calibration.reference_fit import (
    PARTS,
    Fitted,
    ReferenceFit,
)
from onmanifold.operators.eit.calibration.uniform import UniformTank
from onmanifold.operators.eit.fem.assembly import MeshLike, discretize
from onmanifold.operators.eit.fem.discretization import Discretization
from onmanifold.operators.eit.geometry.base import Geometry
from onmanifold.operators.eit.geometry.tank import Tank
from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.mesh.generate import generate_mesh
from onmanifold.operators.eit.mesh.mesh import Mesh
from onmanifold.operators.eit.models.protocol import Protocol


@dataclass(frozen=True, eq=False)
class TankParameters:
    """What a calibration finds, or the standard errors of that.

    Attributes:
        conductivity: of the tank's content, S/m.
        impedances: contact impedance of each electrode, Ohm m^2, ``(L,)``.
        offsets: of each channel, V, ``(M,)``.
        common: common-mode error of each channel, without unit, ``(M,)``.
        currents: relative error of each injection's current, ``(I,)``.
    """

    conductivity: float
    impedances: Tensor
    offsets: Tensor
    common: Tensor
    currents: Tensor


@dataclass(frozen=True, eq=False)
class Calibration:
    """A tank and its instrument as a reference measurement shows them.

    Attributes:
        geometry: the tank, with the contact impedances that were found.
        instrument: offsets, common-mode errors and currents that were found.
        values: what was found; what was not asked for is as it was given.
        errors: standard errors of the values: 0 where not asked for, infinite where the measurement says
            nothing, so that the value is that of the prior.
        voltages: what the calibrated model predicts for the reference, V, the protocol's shape.
        before: relative residual of the reference with the best conductivity alone.
        after: relative residual with all that was fitted.
        std: the noise's standard deviation, V; estimated from the residual where none was given.
        converged: whether the last step was small.
    """

    geometry: Geometry
    instrument: Instrument
    values: TankParameters
    errors: TankParameters
    voltages: Tensor
    before: float
    after: float
    std: Tensor
    converged: bool

    @property
    def protocol(self) -> Protocol:
        """The protocol with this instrument's errors: ``EIT(calibration.geometry, calibration.protocol)``.

        With common-mode errors its measurements are vectors, ``voltages.flatten()``.
        """
        return self.instrument.effective()

    def summary(self) -> str:
        """What was found, as a text of a few lines."""
        v, e = self.values, self.errors
        lines = [
            f"conductivity {v.conductivity:.4g} +- {e.conductivity:.2g} S/m",
            f"relative residual {self.before:.4f} before, {self.after:.4f} after"
            + ("" if self.converged else ", not converged"),
        ]
        for name, unit in (
            ("impedances", "Ohm m^2"),
            ("offsets", "V"),
            ("common", "1"),
            ("currents", "1"),
        ):
            value, error = getattr(v, name), getattr(e, name)
            known = torch.isfinite(error) & (error > 0)
            if bool((error > 0).any()):
                line = f"{name}: {int(known.sum())} of {len(value)} determined"
                if bool(known.any()):
                    found = value[known]
                    line += f", {float(found.min()):.3g} to {float(found.max()):.3g} {unit}"
                lines.append(line)
        return "\n".join(lines)


def calibrate(
    geometry: Geometry,
    reference: Measurement,
    *,
    mesh: MeshLike = None,
    fit: Sequence[str] = ("conductivity", "impedances", "offsets"),
    std: float | ArrayLike | Tensor | None = None,
) -> Calibration:
    """Find conductivity, contact impedances and errors of the instrument from a tank without objects.

    Maximum a posteriori by nonlinear least squares, after one factorization. Conductivity, impedances and
    currents are fitted by their logarithms. Weak normal priors keep what the measurement does not determine
    at its initial value, such as the contact of an electrode without current. Their standard deviations
    are 3 of log impedances, the largest voltage of offsets, 1 of common-mode errors, 0.05 of log currents.

    Args:
        geometry: the tank; its contact impedances are the fit's initial values and the prior's mean.
        reference: a measurement of the tank without objects.
        mesh: as for :class:`EIT`.
        fit: some of "conductivity", "impedances" (L), "offsets" (M), "common" (M: common-mode errors of the
            channels) and "currents" (I: factors of the amplitudes); see :class:`Instrument`.
        std: standard deviation of the voltages' noise, V, broadcasts to the protocol's shape. Where it is
            ``None``, one number is estimated from the residual, which includes the model's error.

    Raises:
        ValueError: an unknown name in ``fit``, geometry and protocol for different numbers of
            electrodes, no voltages, numbers that are not positive.

    Example:
        >>> from onmanifold.operators.eit import EIT, Protocol, Tank
        >>> eit = EIT(Tank.unit(), Protocol.adjacent(32), mesh="coarse")
        >>> water = Measurement.from_values(eit.protocol, eit.A(torch.full((1, 1, 64, 64), 2.0))[0])
        >>> round(calibrate(eit.tank, water, mesh="coarse").values.conductivity, 3)
        2.0
    """
    return calibration(geometry, *fit_reference(geometry, reference, mesh, fit, std))


def fit_reference(
    geometry: Geometry,
    reference: Measurement,
    mesh: MeshLike,
    fit: Sequence[str],
    std: float | ArrayLike | Tensor | None = None,
) -> tuple[ReferenceFit, Fitted, Fitted]:
    """The problem of :func:`calibrate`, its solution, and that with a conductivity alone."""
    unknown = [name for name in fit if name not in PARTS]
    if unknown:
        raise InputError(f"fit knows {', '.join(PARTS)}; got {', '.join(unknown)}")
    model = UniformTank(geometry, reference.protocol, discretize(mesh, geometry))
    noise = None if std is None else _noise(std, reference)
    first = ReferenceFit(model, geometry, reference, ("conductivity",))
    theta = first.origin.clone()
    theta[0] = math.log(_best_conductivity(first))
    plain = first.solve(theta, noise)
    found = ReferenceFit(model, geometry, reference, fit)
    return found, found.solve(plain.at.theta, noise), plain


def calibrate_width(
    tank: Tank,
    reference: Measurement,
    *,
    make_mesh: Callable[[Tank], Mesh | Discretization] = generate_mesh,
    **options: Any,
) -> Calibration:
    """:func:`calibrate` with the width of the electrodes as a further unknown.

    Electrodes that reach into the tank, or are higher than the water is deep, act wider than they are.
    About ten meshes are made.

    Args:
        tank: the tank; widths from 0.7 to 1.4 times its own are tried, within the gaps.
        reference: a measurement of it without objects.
        make_mesh: makes a mesh of a tank; :func:`generate_mesh` needs gmsh, :func:`polar_mesh` does not.
        options: of :func:`calibrate`, ``mesh`` aside.

    Returns:
        The calibration whose residual is smallest; ``geometry.width`` is the width.
    """
    low, high = 0.7 * tank.width, min(1.4 * tank.width, 0.95 * tank.spacing)
    tried: dict[float, Calibration] = {}

    def residual(width: float) -> float:
        one = replace(tank, width=float(width))
        tried[float(width)] = calibrate(one, reference, mesh=make_mesh(one), **options)
        return tried[float(width)].after

    minimize_scalar(residual, bounds=(low, high), method="bounded", options={"xatol": 0.02 * low})
    return min(tried.values(), key=lambda calibration: calibration.after)


def calibration(
    geometry: Geometry, fit: ReferenceFit, fitted: Fitted, plain: Fitted
) -> Calibration:
    """What a fit found, in the units of the parameters."""
    theta, errors = fitted.at.theta, fitted.errors
    found = {name: fit.part(theta, name).clone() for name in PARTS}
    spread = {name: fit.part(errors, name).clone() for name in PARTS}
    for name in ("conductivity", "impedances"):  # errors of logarithms are relative
        found[name] = found[name].exp()
        spread[name] = spread[name] * found[name]
    both = [TankParameters(float(part.pop("conductivity")), **part) for part in (found, spread)]
    tank: Any = geometry
    if bool(fit.free[fit.slices["impedances"]].any()):
        tank = replace(tank, contact_impedance=tuple(both[0].impedances.tolist()))
    return Calibration(
        geometry=tank,
        instrument=fit.instrument(theta),
        values=both[0],
        errors=both[1],
        voltages=fitted.at.prediction,
        before=fit.relative(plain.at),
        after=fit.relative(fitted.at),
        std=fitted.std,
        converged=fitted.converged,
    )


def _best_conductivity(fit: ReferenceFit) -> float:
    """Where to start: up to the contacts, voltages fall like 1 / conductivity."""
    model = fit.predict(fit.origin).prediction[fit.reference.mask]
    measured = fit.reference.voltages[fit.reference.mask]
    inverse = float((model * measured).sum() / model.square().sum())
    if not inverse > 0:
        raise InputError(
            "no positive conductivity fits the reference: are its voltages those of the protocol, "
            "with their signs?"
        )
    return 1 / inverse


def _noise(std: float | ArrayLike | Tensor, reference: Measurement) -> Tensor:
    value = torch.from_numpy(doubles(std, "std"))
    if not bool((torch.isfinite(value) & (value > 0)).all()):
        raise InputError("std has to be positive and finite")
    try:
        return value.expand(reference.protocol.shape)
    except RuntimeError:
        raise InputError(
            f"std has shape {tuple(value.shape)}, expected one that broadcasts to "
            f"{reference.protocol.shape}"
        ) from None
