"""The least-squares problem behind :func:`calibrate`: its model, its derivatives, its solution."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from onmanifold.fidelity import Gaussian, StudentT
from onmanifold.operators.eit.calibration.instrument import Instrument
from onmanifold.operators.eit.fem.engine import Engine, Field
from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.models.protocol import Protocol

PARTS = ("conductivity", "impedances", "offsets", "common", "currents")
_LONGEST = 2.0  # a step in a logarithm
_ENOUGH = 1e-3  # a decrease of the negative log-density that nobody can see in the data


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The model evaluated at some parameters.

    Attributes:
        theta: log conductivity, log impedances, offsets, common-mode errors, log currents, ``(n,)``.
        field: the engine's, at this conductivity and these impedances.
        potentials: of the electrodes in each injection, V, ``(I, L)``.
        prediction: measured voltages, V, the protocol's shape.
    """

    theta: Tensor
    field: Field
    potentials: Tensor
    prediction: Tensor


@dataclass(frozen=True, eq=False)
class Fitted:
    """Where a fit ended.

    Attributes:
        at: parameters and predictions.
        std: of the noise, V, the protocol's shape.
        errors: standard errors of ``theta``, infinite where undetermined, ``(n,)``.
        factorizations: how many it took.
        converged: whether the last step's predicted reduction was next to nothing.
    """

    at: Evaluation
    std: Tensor
    errors: Tensor
    factorizations: int
    converged: bool


class ReferenceFit:
    """A tank of one conductivity, with unknown contacts and an instrument with unknown errors.

    Args:
        engine: predicts the potentials of all electrodes, ``(I, L)``.
        impedances: contact impedances of the prior, Ohm m^2, ``(L,)``.
        reference: the measurement to fit.
        free: names among ``PARTS`` of what is fitted.
        widths: standard deviation of the normal prior of each part in ``theta``, by name.
    """

    def __init__(
        self,
        engine: Engine,
        impedances: Tensor,
        reference: Measurement,
        free: tuple[str, ...],
        widths: dict[str, float],
    ) -> None:
        self.engine, self.reference = engine, reference
        self.protocol: Protocol = reference.protocol
        injections, patterns = self.protocol.full_shape
        sizes = (1, len(impedances), patterns, patterns, injections)
        self.origin = torch.zeros(sum(sizes), dtype=torch.float64)
        self.slices: dict[str, slice] = {}
        self.width = torch.zeros_like(self.origin)
        self.free = torch.zeros(len(self.origin), dtype=torch.bool)
        for name, size in zip(PARTS, sizes, strict=True):
            begin = sum(s.stop - s.start for s in self.slices.values())
            self.slices[name] = part = slice(begin, begin + size)
            self.width[part] = widths[name]
            self.free[part] = name in free
        self.origin[self.slices["impedances"]] = impedances.log()
        self.factorizations = 0

    # The model ------------------------------------------------------------------------------------

    def part(self, theta: Tensor, name: str) -> Tensor:
        """The entries of one part of the parameters."""
        return theta[self.slices[name]]

    def instrument(self, theta: Tensor) -> Instrument:
        """The instrument with these parameters."""
        return Instrument(self.protocol, *(self.part(theta, name).clone() for name in PARTS[2:]))

    def predict(self, theta: Tensor) -> Evaluation:
        """Solve the model: one factorization."""
        self.factorizations += 1
        s = self.part(theta, "conductivity").exp().expand(1, self.engine.cells)
        fields = self.engine.fields(s.contiguous(), self.part(theta, "impedances").exp())
        potentials = self.engine.voltages(fields)[0]
        prediction = self.protocol.pick(self.instrument(theta).read(potentials))
        return Evaluation(theta, fields[0], potentials, prediction)

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
        field, potentials = state.field, state.potentials
        if name == "conductivity":
            ds = self.part(state.theta, name).exp().expand(self.engine.cells, 1)
            return instrument.read(self.engine.jvp(field, ds.contiguous()), offsets=False)
        if name == "impedances":
            z = self.part(state.theta, name).exp()
            change = self.engine.impedance_derivative(field, z) * z[:, None, None]
            return instrument.read(change, offsets=False)
        injections, patterns = self.protocol.full_shape
        if name == "currents":
            read = instrument.read(potentials, offsets=False)
            return torch.eye(injections, dtype=read.dtype)[:, :, None] * read
        one = torch.eye(patterns, dtype=torch.float64)[:, None, :]
        if name == "offsets":
            return one.expand(patterns, injections, patterns)
        return one * instrument.currents.exp()[:, None] * instrument.heights(potentials)

    # The fit --------------------------------------------------------------------------------------

    @cached_property
    def weight(self) -> Tensor:
        """Inverse variances of the prior, of the free parameters; none for the conductivity."""
        weight = self.width**-2
        weight[self.slices["conductivity"]] = 0.0
        return weight[self.free]

    def residual(self, state: Evaluation) -> Tensor:
        """Measured minus predicted voltages, V, of those that are there."""
        return (self.reference.voltages - state.prediction)[self.reference.mask]

    def relative(self, state: Evaluation) -> float:
        """Norm of the residual over that of the voltages."""
        voltages = self.reference.voltages[self.reference.mask]
        return float(self.residual(state).norm() / voltages.norm())

    def solve(self, theta: Tensor, std: Tensor | None, df: float | None, steps: int) -> Fitted:
        """Fit from ``theta``; where ``std`` is ``None``, it is estimated in turns with the parameters."""
        state, converged = self.predict(theta), True
        scale = self._scale(state, df) if std is None else std
        for _ in range(6 if bool(self.free.any()) else 0):
            state, converged = self._descend(state, scale, df, steps)
            if std is not None:
                break
            before, scale = scale, self._scale(state, df)
            if bool((before / scale - 1).abs().max() < 0.01):
                break
        errors = self._errors(state, scale, df)
        return Fitted(state, scale, errors, self.factorizations, converged)

    def _descend(
        self, state: Evaluation, std: Tensor, df: float | None, steps: int
    ) -> tuple[Evaluation, bool]:
        """Levenberg-Marquardt steps at a given noise level."""
        shared = std[None], self.reference.mask[None]
        fidelity = Gaussian(*shared) if df is None else StudentT(*shared, df)
        measured = self.reference.voltages[None]
        damping = 1e-3

        def objective(at: Evaluation) -> float:
            prior = 0.5 * (self.weight * (at.theta - self.origin)[self.free] ** 2).sum()
            return float(fidelity.value(at.prediction[None], measured)[0] + prior)

        value = objective(state)
        for _ in range(steps):
            j, p = self.jacobian(state), state.prediction[None]
            curved = fidelity.curvature(p, measured, j[None])[0].flatten(1)
            hessian = curved @ j.flatten(1).T + self.weight.diag()
            gradient = j.flatten(1) @ fidelity.gradient(p, measured)[0].flatten()
            gradient = gradient + self.weight * (state.theta - self.origin)[self.free]
            while True:
                step = -torch.linalg.solve(hessian + damping * hessian.diag().diag(), gradient)
                predicted = -float(gradient @ step + 0.5 * step @ hessian @ step)
                if predicted < _ENOUGH or damping > 1e12:
                    return state, predicted < _ENOUGH
                trial = self.predict(self._moved(state.theta, step))
                reached = objective(trial)
                if reached < value:
                    break
                damping *= 10
            state, value, damping = trial, reached, damping / 10
        return state, False

    def _moved(self, theta: Tensor, step: Tensor) -> Tensor:
        moved = torch.zeros_like(theta)
        moved[self.free] = step
        for name in ("conductivity", "impedances"):
            self.part(moved, name).clamp_(-_LONGEST, _LONGEST)
        return theta + moved

    def _scale(self, state: Evaluation, df: float | None) -> Tensor:
        """The residual's scale as one number, by maximum likelihood, in the protocol's shape."""
        r = self.residual(state)
        spare = max(1, len(r) - int(self.free.sum()))
        floor = 1e-9 * float(self.reference.voltages.abs().max())
        square = r.square().sum() / spare
        if df is not None:
            for _ in range(100):
                weight = (df + 1) / (df + r.square() / square.clamp(min=floor**2))
                square = (weight * r.square()).sum() / spare
        return square.sqrt().clamp(min=floor).expand(self.protocol.shape)

    def _errors(self, state: Evaluation, std: Tensor, df: float | None) -> Tensor:
        """Standard errors: of the posterior, infinite where it hardly differs from the prior."""
        if not bool(self.free.any()):
            return torch.zeros_like(state.theta)
        scaled = (self.jacobian(state) / std)[:, self.reference.mask]
        fisher = 1.0 if df is None else (df + 1) / (df + 3)
        information = fisher * scaled @ scaled.T + self.weight.diag()
        variance = torch.linalg.inv(information).diagonal()
        unknown = variance * self.weight > 0.5
        errors = torch.zeros_like(state.theta)
        errors[self.free] = torch.where(unknown, torch.inf, variance.clamp(min=0).sqrt())
        return errors
