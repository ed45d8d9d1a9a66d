"""The least-squares problem behind :func:`calibrate`: its model, its derivatives, its solution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor

from onmanifold.errors import InputError
from onmanifold.operators.eit.calibration.instrument import Instrument
from onmanifold.operators.eit.calibration.uniform import UniformTank
from onmanifold.operators.eit.geometry.base import Geometry
from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.models.protocol import Protocol

PARTS = ("conductivity", "impedances", "offsets", "common", "currents")
# standard deviation of each part's normal prior; of offsets in parts of the largest voltage
_PRIOR = (math.inf, 3.0, 1.0, 1.0, 0.05)
_ENOUGH = 1e-6  # relative decrease of the objective that nobody can see in the data


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The model evaluated at some parameters.

    Attributes:
        theta: log conductivity, log impedances, offsets, common-mode errors, log currents, ``(n,)``.
        w: the model's solution at this conductivity and these impedances, ``(b, L - 1)``.
        potentials: of the electrodes in each injection, V, ``(I, L)``.
        prediction: measured voltages, V, the protocol's shape.
    """

    theta: Tensor
    w: Tensor
    potentials: Tensor
    prediction: Tensor


@dataclass(frozen=True, eq=False)
class Fitted:
    """Where a fit ended.

    Attributes:
        at: parameters and predictions.
        std: of the noise, V, the protocol's shape.
        errors: standard errors of ``theta``, infinite where undetermined, ``(n,)``.
        converged: whether the last step's reduction was next to nothing.
    """

    at: Evaluation
    std: Tensor
    errors: Tensor
    converged: bool


class ReferenceFit:
    """A tank of one conductivity, with unknown contacts and an instrument with unknown errors.

    Args:
        model: of the reference's protocol.
        geometry: its contact impedances are the prior's.
        reference: the measurement to fit.
        fit: names among ``PARTS`` of what is fitted.

    Raises:
        ValueError: a reference that holds nothing.
    """

    def __init__(
        self, model: UniformTank, geometry: Geometry, reference: Measurement, fit: Sequence[str]
    ) -> None:
        self.model, self.reference = model, reference
        self.protocol: Protocol = reference.protocol
        largest = float(reference.voltages.abs().max())
        if not largest > 0:
            raise InputError("the reference holds no voltage other than zero")
        injections, patterns = self.protocol.full_shape
        sizes = (1, geometry.electrodes, patterns, patterns, injections)
        ends = np.cumsum(sizes).tolist()
        self.slices = {
            name: slice(end - size, end) for name, size, end in zip(PARTS, sizes, ends, strict=True)
        }
        self.origin = torch.zeros(ends[-1], dtype=torch.float64)
        self.origin[self.slices["impedances"]] = torch.tensor(geometry.impedances).log()
        width = torch.tensor(_PRIOR, dtype=torch.float64).repeat_interleave(torch.tensor(sizes))
        width[self.slices["offsets"]] *= largest
        named = torch.tensor([name in fit for name in PARTS])
        self.free = named.repeat_interleave(torch.tensor(sizes))
        self.weight = width[self.free] ** -2  # inverse variances of the free parameters' prior

    # The model ------------------------------------------------------------------------------------

    def part(self, theta: Tensor, name: str) -> Tensor:
        """The entries of one part of the parameters."""
        return theta[self.slices[name]]

    def instrument(self, theta: Tensor) -> Instrument:
        """The instrument with these parameters."""
        return Instrument(self.protocol, *(self.part(theta, name).clone() for name in PARTS[2:]))

    def predict(self, theta: Tensor) -> Evaluation:
        """Solve the model."""
        s, z = (self.part(theta, name).exp() for name in PARTS[:2])
        w = self.model.solve(float(s), z)
        potentials = self.model.read(self.model.transfer(w))
        prediction = self.protocol.pick(self.instrument(theta).read(potentials))
        return Evaluation(theta, w, potentials, prediction)

    def jacobian(self, state: Evaluation) -> Tensor:
        """Derivative of the predictions by the free parameters, ``(free, *shape)``."""
        instrument = self.instrument(state.theta)
        parts = [
            self.protocol.pick(self._derivative(name, state, instrument))
            for name, part in self.slices.items()
            if bool(self.free[part].any())
        ]
        return torch.cat(parts)

    def _derivative(self, name: str, state: Evaluation, instrument: Instrument) -> Tensor:
        """By one part of the parameters: ``(size, I, M)``."""
        model, potentials = self.model, state.potentials
        if name in ("conductivity", "impedances"):
            value = self.part(state.theta, name).exp()
            change = (
                model.by_conductivity(state.w)
                if name == "conductivity"
                else model.by_impedances(state.w, value)
            )
            return instrument.read(model.read(change * value[:, None, None]), offsets=False)
        injections, patterns = self.protocol.full_shape
        if name == "currents":
            read = instrument.read(potentials, offsets=False)
            return torch.eye(injections, dtype=read.dtype)[:, :, None] * read
        one = torch.eye(patterns, dtype=torch.float64)[:, None, :]
        if name == "offsets":
            return one.expand(patterns, injections, patterns)
        return one * instrument.currents.exp()[:, None] * instrument.heights(potentials)

    # The fit --------------------------------------------------------------------------------------

    def residual(self, state: Evaluation) -> Tensor:
        """Measured minus predicted voltages, V, of those that are there."""
        return (self.reference.voltages - state.prediction)[self.reference.mask]

    def relative(self, state: Evaluation) -> float:
        """Norm of the residual over that of the voltages."""
        voltages = self.reference.voltages[self.reference.mask]
        return float(self.residual(state).norm() / voltages.norm())

    def solve(self, theta: Tensor, std: Tensor | None) -> Fitted:
        """Fit from ``theta``; where ``std`` is ``None``, it is estimated in turns with the parameters."""
        state, converged = self.predict(theta), True
        scale = self._scale(state) if std is None else std
        for _ in range(6 if bool(self.free.any()) else 0):
            state, converged = self._best(state, scale)
            if std is not None:
                break
            before, scale = scale, self._scale(state)
            if bool((before / scale - 1).abs().max() < 0.01):
                break
        return Fitted(state, scale, self._errors(state, scale), converged)

    def _best(self, start: Evaluation, std: Tensor) -> tuple[Evaluation, bool]:
        """The mode at a given noise level, and whether the search converged."""
        mask, root = self.reference.mask, self.weight.sqrt()

        @lru_cache(maxsize=2)
        def at(free: bytes) -> Evaluation:
            theta = start.theta.clone()
            theta[self.free] = torch.from_numpy(np.frombuffer(free).copy())
            return self.predict(theta)

        def rest(free: np.ndarray) -> np.ndarray:
            state = at(free.tobytes())
            prior = root * (self.origin - state.theta)[self.free]
            return torch.cat([self.residual(state) / std[mask], prior]).numpy()

        def slope(free: np.ndarray) -> np.ndarray:
            rows = self.jacobian(at(free.tobytes()))[:, mask] / std[mask]
            return -torch.cat([rows, root.diag()], dim=1).T.numpy()

        initial = start.theta[self.free].numpy()
        found = least_squares(rest, initial, slope, method="lm", x_scale="jac", ftol=_ENOUGH)
        return at(found.x.tobytes()), bool(found.status > 0)

    def _scale(self, state: Evaluation) -> Tensor:
        """The residual's scale as one number, in the protocol's shape."""
        r = self.residual(state)
        spare = max(1, len(r) - int(self.free.sum()))
        floor = 1e-9 * float(self.reference.voltages.abs().max())
        scale = (r.square().sum() / spare).sqrt().clamp(min=floor)
        return scale.expand(self.protocol.shape)

    def _errors(self, state: Evaluation, std: Tensor) -> Tensor:
        """Standard errors: of the posterior, infinite where it hardly differs from the prior."""
        if not bool(self.free.any()):
            return torch.zeros_like(state.theta)
        scaled = (self.jacobian(state) / std)[:, self.reference.mask]
        information = scaled @ scaled.T + self.weight.diag()
        variance = torch.linalg.inv(information).diagonal()
        unknown = variance * self.weight > 0.5
        errors = torch.zeros_like(state.theta)
        errors[self.free] = torch.where(unknown, torch.inf, variance.clamp(min=0).sqrt())
        return errors
