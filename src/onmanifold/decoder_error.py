"""How far genuine unknowns lie off a learned manifold, and what that does to their measurements.

A decoder misses the examples that it was not trained on by a little. Measured, the miss ``A'(x) e`` is
an error of the model, which adds to the noise. With its covariance in the data term, misfits are judged by
what genuine unknowns leave, and standard deviations include what the manifold cannot show.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onmanifold.checks import as_generator, check_batch, check_count
from onmanifold.operator import ForwardOperator, OutsideDomain, linearize

RANK = 32  # axes that are kept
_PROBES = 64  # random signs, by which the measured variance of independent errors is estimated


class DecoderError(nn.Module):
    """The distribution of what genuine unknowns have beside the manifold's nearest point.

    Its covariance is ``s (F^T F + diag(rest^2))``, where the scale s has mean 1: some unknowns are missed
    by more than others.

    Attributes:
        factor: F, ``(k, *x_shape)``.
        rest: standard deviation of the independent part of each entry, ``x_shape``.
        scale_variance: variance of s, ``()``.

    Example:
        >>> error = DecoderError.of(torch.tensor([[0.1, 0.2], [-0.1, 0.2]]), rank=1)
        >>> error.variance
        tensor([0.0100, 0.0400])
    """

    factor: Tensor
    rest: Tensor
    scale_variance: Tensor

    def __init__(self, rank: int, x_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("factor", torch.zeros(rank, *x_shape))
        self.register_buffer("rest", torch.zeros(x_shape))
        self.register_buffer("scale_variance", torch.zeros(()))

    @classmethod
    def of(cls, errors: Tensor, rank: int = RANK) -> DecoderError:
        """Fit it to n examples of the error, ``(n, *x_shape)``: the k principal axes, and the rest."""
        check_batch(errors, tuple(errors.shape[1:]), "errors", finite=True)
        flat = errors.flatten(1)
        rank = min(check_count(rank, "rank"), *flat.shape)
        _, sizes, axes = torch.linalg.svd(flat / len(flat) ** 0.5, full_matrices=False)
        factor = sizes[:rank, None] * axes[:rank]
        variance = flat.square().mean(0)
        rest = (variance - factor.square().sum(0)).clamp(min=0.0).sqrt()
        scale = flat.square().sum(1) / variance.sum().clamp(min=torch.finfo(flat.dtype).tiny)
        made = cls(rank, tuple(errors.shape[1:])).to(errors)
        made.factor.copy_(factor.view_as(made.factor))
        made.rest.copy_(rest.view_as(made.rest))
        made.scale_variance.copy_(scale.var(correction=0))
        return made

    @property
    def variance(self) -> Tensor:
        """Of each entry, ``x_shape``."""
        return self.factor.square().sum(0) + self.rest.square()

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Tensor:
        """``n`` errors, ``(n, *x_shape)``, their scales by a gamma distribution."""
        source = as_generator(generator)
        common, own = (
            torch.randn(n, *shape, generator=source).to(self.factor)
            for shape in (self.factor.shape[:1], self.rest.shape)
        )
        error = torch.einsum("nk,k...->n...", common, self.factor) + own * self.rest
        spread = float(self.scale_variance.clamp(min=1e-6))
        shape = torch.full((n, *[1] * self.rest.ndim), 1 / spread)
        scale = spread * torch._standard_gamma(shape, generator=source)
        return error * scale.sqrt().to(error)

    def measured(self, operator: ForwardOperator, x: Tensor) -> tuple[Tensor, Tensor] | None:
        """The error as an operator sees it: ``(m, k)`` factor, ``y_shape`` deviations.

        Exact up to the probes' scatter for a linear operator; for others the mean over the unknowns ``x``
        ``(n, *x_shape)``, at which it is linearized; those outside of its domain, or with values that are not
        finite, do not count. ``None`` where none is left.
        """
        source = as_generator(0)
        signs = 2.0 * torch.randint(0, 2, (_PROBES, *self.rest.shape), generator=source) - 1
        directions = torch.cat([self.factor, signs.to(self.rest) * self.rest])
        shown = [_shown(operator, place[None], directions[None]) for place in x]
        seen = [part[0] for part in shown if part is not None and bool(torch.isfinite(part).all())]
        if not seen:
            return None
        k, count = len(self.factor), len(seen) ** 0.5
        factor = torch.cat([part[:k] for part in seen]).flatten(1) / count
        variance = torch.cat([part[k:] for part in seen]).square().mean(0)
        if len(seen) > 1:
            _, sizes, axes = torch.linalg.svd(factor, full_matrices=False)
            factor = sizes[:, None] * axes
            left = factor[k:].square().sum(0)
            factor, variance = factor[:k], variance + left.view_as(variance)
        return factor.mT, variance.sqrt()


def _shown(operator: ForwardOperator, x: Tensor, directions: Tensor) -> Tensor | None:
    """The operator's derivative along directions, ``None`` outside of its domain."""
    try:
        return linearize(operator, x).jvp(directions)
    except OutsideDomain:
        return None
