"""Voltages and their derivative at a batch of images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.sparse import csr_array
from torch import Tensor

from onmanifold.checks import check_batch
from onmanifold.errors import InputError
from onmanifold.operators.eit.fem.engine import Engine, Fields
from onmanifold.operators.eit.fem.threads import each
from onmanifold.operators.sparse import SparseMatrix


@dataclass(frozen=True, eq=False)
class EITLinearization:
    """Value and derivative of :class:`EIT` at ``B`` images.

    With electrodes no further factorization or solve is needed. In the continuum model tangents need the
    sensors' potentials, which are computed once, and cotangents those or one solve for each source.

    Attributes:
        engine: the finite element model.
        average: pixels to cells, ``(C, P)``.
        x_shape: shape of one image.
        y: voltages, V, ``(B, *y_shape)``.
        slope: derivative of the conductivity by each channel's value, ``(B, channels, P)``, float64.
        fields: potentials at the images.
    """

    engine: Engine
    average: SparseMatrix
    x_shape: tuple[int, ...]
    y: Tensor
    slope: Tensor
    fields: Fields

    def jvp(self, v: Tensor) -> Tensor:
        """Map tangents ``(B, T, *x_shape)`` to ``(B, T, *y_shape)``."""
        self._check(v, self.x_shape, "tangents")
        fields = self.fields.members()
        parts = each(lambda k: self.engine.jvp(fields[k], self._cells(v[k], k)), len(fields))
        return self.engine.sum(torch.stack(parts)).to(v)

    def _cells(self, v: Tensor, member: int) -> Tensor | csr_array:
        """How fast the cells' conductivities change along tangents ``(T, *x_shape)``: ``(T, C)``.

        What is below the rounding of a direction's largest number counts as nothing: soft edges of masks
        never end, and cells that do not move cost nothing.
        """
        slope = self.slope[member]
        channels = v.detach().to(slope.device).reshape(len(v), *slope.shape)
        size = channels.abs().amax(1)
        t, p = (size > torch.finfo(v.dtype).eps * size.amax(1, keepdim=True)).nonzero(as_tuple=True)
        parts = [one[t, p] * slope[c][p] for c, one in enumerate(channels.unbind(1))]
        change = torch.stack(parts).sum(0).to(v.dtype)
        return self.average.on_rows(change, t, p, len(v))

    def vjp(self, u: Tensor) -> Tensor:
        """Map cotangents ``(B, T, *y_shape)`` to ``(B, T, *x_shape)``."""
        self._check(u, tuple(self.y.shape[1:]), "cotangents")
        cells = self.engine.vjp(self.fields, self._double(u))
        pixels = self.engine.sum(torch.stack([self.average.adjoint(c).T for c in cells]))
        full = pixels.unsqueeze(2) * self.slope.unsqueeze(1)
        return full.reshape(*u.shape[:2], *self.x_shape).to(u)

    def jacobian(self) -> Tensor:
        """The whole derivative, ``(B, *y_shape, *x_shape)``."""
        rows = [self.engine.jacobian(field, self.average) for field in self.fields.members()]
        full = self.engine.sum(torch.stack(rows)).unsqueeze(-2)  # (B, *y_shape, 1, P)
        slope = self.slope.view(len(rows), *[1] * (self.y.ndim - 1), *self.slope.shape[1:])
        return (full * slope).reshape(*self.y.shape, *self.x_shape).to(self.y)

    def select(self, rows: Tensor) -> EITLinearization:
        """The same at the images ``rows``, a mask or an index."""
        inside = rows.to(self.slope.device)
        return EITLinearization(
            self.engine,
            self.average,
            self.x_shape,
            self.y[rows],
            self.slope[inside],
            self.fields.select(inside),
        )

    def _double(self, value: Tensor) -> Tensor:
        return value.detach().to(self.engine.device, torch.float64)

    def _check(self, value: Tensor, shape: tuple[int, ...], name: str) -> None:
        if value.ndim < 2 or len(value) != len(self.fields):
            raise InputError(
                f"{name} have shape {tuple(value.shape)}, expected "
                f"({len(self.fields)}, T, {', '.join(map(str, shape))})"
            )
        check_batch(value[0], shape, name)
