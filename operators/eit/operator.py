"""The EIT forward operator: pixels to conductivity to electrode voltages."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from onmanifold._checks import check_batch, check_shape
from onmanifold.operators.eit.assembly import assemble, require_dolfinx
from onmanifold.operators.eit.conductivity import Affine, ConductivityMap, Scaled
from onmanifold.operators.eit.discretization import Discretization, load_discretization
from onmanifold.operators.eit.engine import Engine
from onmanifold.operators.eit.linearization import EITLinearization, voltages
from onmanifold.operators.eit.mesh import Mesh
from onmanifold.operators.eit.pixels import cell_average
from onmanifold.operators.eit.protocol import Protocol
from onmanifold.operators.eit.tank import Tank

Array = NDArray[np.float64]


class EIT:
    """Electrical impedance tomography: a picture of the conductivity to electrode voltages.

    ``A(x) = F(s(x))``, where s maps pixel values to conductivity, cells take the average over their pixels,
    and F is the complete electrode model, computed in float64 on the CPU whatever the dtype and device of
    ``x``. One factorization and L - 1 solves a picture give the voltages, the derivative in any number of
    directions and its adjoint. It is an autograd function: ``loss(A(x)).backward()`` works.

    With a measured ``reference`` of the tank that holds background only, the operator models the difference:
    ``A(x) = reference + F(s(x)) - F(background)``. What the model gets wrong in both measurements alike
    cancels, and the measured voltages are compared as they are.

    Args:
        tank: geometry and contact impedances.
        protocol: injections and measurement patterns.
        x_shape: shape of a picture, ``(1, H, W)`` or ``(H, W)``. It covers the square around the tank,
            row 0 on top (largest y); pixels outside the tank have no effect.
        conductivity: map from pixel values to conductivity, S/m.
        mesh: a shipped one (``"coarse"``, ``"medium"``, ``"fine"``), a :class:`Mesh` of this tank in m,
            or what :func:`assemble` made of one.
        reference: voltages measured without objects, V, ``(I, M)`` or flat.
        background: conductivity of the tank in the reference measurement, S/m; that of ``x = 0`` if ``None``.

    Raises:
        ImportError: dolfinx is missing.
        ValueError: tank, protocol, mesh or reference do not fit together, or an unknown mesh.

    Example:
        >>> import torch
        >>> from onmanifold.operators.eit import EIT, Protocol, Tank
        >>> eit = EIT(Tank.unit(), Protocol.adjacent(32), x_shape=(1, 16, 16), mesh="coarse")
        >>> voltages = eit.A(torch.ones(1, 1, 16, 16))
        >>> voltages.shape
        torch.Size([1, 32, 32])
    """

    linear = False

    def __init__(
        self,
        tank: Tank,
        protocol: Protocol,
        x_shape: Sequence[int] = (1, 64, 64),
        *,
        conductivity: ConductivityMap | None = None,
        mesh: str | Mesh | Discretization = "medium",
        reference: ArrayLike | Tensor | None = None,
        background: float | None = None,
    ) -> None:
        self.tank = tank
        self.protocol = protocol
        self.x_shape = check_shape(x_shape, "x_shape")
        if len(self.x_shape) not in (2, 3) or self.x_shape[:-2] not in ((), (1,)):
            raise ValueError(f"x_shape has to be (1, H, W) or (H, W), got {self.x_shape}")
        self.y_shape: tuple[int, ...] = protocol.shape
        if protocol.electrodes != tank.electrodes:
            raise ValueError(
                f"the protocol is for {protocol.electrodes} electrodes, the tank has {tank.electrodes}"
            )
        self.conductivity: ConductivityMap = conductivity or Affine()
        self.background = background
        self._measured = None if reference is None else self._check_reference(reference)
        require_dolfinx()
        self._engine = Engine(_discretize(mesh, tank), tank.impedances, protocol)
        d = self._engine.discretization
        height, width = self.x_shape[-2:]
        self._average = cell_average(d.points, d.cells, tank.extent, (height, width))
        self._offset = self._reference_offset()

    # The protocol -----------------------------------------------------------------------------

    def A(self, x: Tensor) -> Tensor:
        """Voltages, V: ``(B, *x_shape)`` to ``(B, I, M)``."""
        check_batch(x, self.x_shape, "x", finite=True)
        keep = torch.is_grad_enabled() and x.requires_grad
        return voltages(x, self._value, self.linearize, keep)

    def A_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Derivative at ``x`` applied to tangents ``v`` of ``(B, *x_shape)``."""
        check_batch(v, self.x_shape, "v")
        return self.linearize(x).jvp(v[:, None])[:, 0]

    def A_vjp(self, x: Tensor, u: Tensor) -> Tensor:
        """Adjoint of the derivative at ``x`` applied to ``u`` of ``(B, I, M)``."""
        check_batch(u, self.y_shape, "u")
        return self.linearize(x).vjp(u[:, None])[:, 0]

    @torch.no_grad()
    def linearize(self, x: Tensor) -> EITLinearization:
        """Voltages and derivative at ``x``: one factorization and L - 1 solves for each of its members."""
        check_batch(x, self.x_shape, "x", finite=True)
        fields = [self._engine.potentials(s) for s in self._cells(x)]
        y = torch.stack([self._engine.voltages(w) + self._offset for w in fields])
        slope = self.conductivity.derivative(self._pixels(x))
        return EITLinearization(self._engine, self._average, self.x_shape, y.to(x), slope, fields)

    # Around it --------------------------------------------------------------------------------

    def cell_conductivity(self, x: Tensor) -> Tensor:
        """Conductivity of each cell, S/m: ``(B, *x_shape)`` to ``(B, C)``, float64."""
        check_batch(x, self.x_shape, "x", finite=True)
        return torch.from_numpy(np.stack(self._cells(x)))

    def jacobian(self, x: Tensor) -> Tensor:
        """The whole derivative, ``(B, I, M, *x_shape)``, from the fields of one factorization a member."""
        return self.linearize(x).jacobian()

    def with_conductivity(self, conductivity: ConductivityMap) -> Self:
        """The same operator with another map; mesh, matrices, reference and background are shared.

        A ``background`` that was left to ``x = 0`` stays what it was.
        """
        other = copy.copy(self)
        other.conductivity = conductivity
        return other

    def scaled(self, factor: float) -> Self:
        """The same operator where everything conducts ``factor`` times as well, the reference excepted."""
        return self.with_conductivity(Scaled(self.conductivity, factor))

    def fit_scale(
        self, x: Tensor, y: Tensor, std: float | Tensor = 1.0, mask: Tensor | None = None
    ) -> Tensor:
        """The factor ``c`` of :meth:`scaled` with which ``x`` explains the voltages ``y`` best.

        Up to the contact impedances ``F(c s) = F(s) / c``, so ``1 / c`` follows from linear least squares.

        Args:
            x: pictures, ``(B, *x_shape)``.
            y: measured voltages, V, ``(B, I, M)``.
            std: standard deviation of the voltages, V, broadcasts to ``(I, M)``.
            mask: which voltages were measured, bool, broadcasts to ``(I, M)``; all if ``None``.

        Returns:
            ``c``, ``(B,)``.
        """
        check_batch(y, self.y_shape, "y", finite=True)
        with torch.no_grad():
            model = self.A(x) - self._offset.to(x)
        weight = torch.as_tensor(std, dtype=y.dtype, device=y.device).expand(self.y_shape) ** -2
        if mask is not None:
            weight = weight * mask.to(weight)
        wanted = y - self._offset.to(y)
        inverse = (weight * model * wanted).sum((1, 2)) / (weight * model**2).sum((1, 2))
        return 1 / inverse

    # Inside -----------------------------------------------------------------------------------

    @torch.no_grad()
    def _value(self, x: Tensor) -> Tensor:
        voltages = [self._engine.voltages(self._engine.potentials(s)) for s in self._cells(x)]
        return (torch.stack(voltages) + self._offset).to(x)

    def _pixels(self, x: Tensor) -> Tensor:
        return x.detach().to("cpu", torch.float64).flatten(1)

    def _cells(self, x: Tensor) -> list[Array]:
        """Positive conductivity of the cells for each member of a batch."""
        s = self.conductivity(self._pixels(x))
        cells: Array = np.ascontiguousarray((self._average @ s.numpy().T).T)
        bad = ~(np.isfinite(cells) & (cells > 0))
        if bad.any():
            b, c = np.argwhere(bad)[0]
            raise ValueError(
                f"conductivity has to be positive and finite, got {cells[b, c]:.6g} S/m in cell {c} of "
                f"member {b} ({bad.sum()} such cells); pixel values run from {float(x.min()):.6g} to "
                f"{float(x.max()):.6g} under {self.conductivity}"
            )
        return list(cells)

    def _reference_offset(self) -> Tensor:
        """What is added to the model's voltages: ``reference - F(background)``, or zero."""
        if self._measured is None:
            return torch.zeros(self.y_shape, dtype=torch.float64)
        if self.background is None:
            self.background = float(self.conductivity(torch.zeros(1, dtype=torch.float64)))
        if not (np.isfinite(self.background) and self.background > 0):
            raise ValueError(
                f"the background's conductivity has to be positive, got {self.background} S/m; "
                "pass background="
            )
        uniform = np.full(self._engine.cells, self.background)
        return self._measured - self._engine.voltages(self._engine.potentials(uniform))

    def _check_reference(self, reference: ArrayLike | Tensor) -> Tensor:
        value = torch.as_tensor(reference).detach().to("cpu", torch.float64)
        count = self.y_shape[0] * self.y_shape[1]
        if tuple(value.shape) not in (self.y_shape, (count,), (count, 1)):
            raise ValueError(
                f"reference has shape {tuple(value.shape)}, expected {self.y_shape} or ({count},)"
            )
        if not bool(torch.isfinite(value).all()):
            raise ValueError("reference holds NaN or infinite voltages; it has to be complete")
        return value.reshape(self.y_shape)


def _discretize(mesh: str | Mesh | Discretization, tank: Tank) -> Discretization:
    if isinstance(mesh, str):
        return load_discretization(mesh, tank)
    if isinstance(mesh, Mesh):
        mesh = assemble(mesh)
    if not isinstance(mesh, Discretization):
        raise TypeError(
            f"mesh has to be a name, a Mesh or a Discretization, got {type(mesh).__name__}"
        )
    return mesh
