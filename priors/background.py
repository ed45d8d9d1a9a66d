"""Pictures on an unknown background: a learned manifold, thickened by one direction."""

from __future__ import annotations

from math import log, pi
from typing import Any, Self

import torch
from torch import Tensor

from onmanifold._checks import as_generator
from onmanifold.prior import ManifoldPrior, Point
from onmanifold.priors.atlas.chart import corners
from onmanifold.registry import kind_of, prior_class


class WithBackground(ManifoldPrior):
    r"""A prior's pictures, each plus an unknown constant: :math:`D'(z, c) = D(z) + c\,\sigma`.

    For measurements whose background is not known exactly, as the conductivity of the water in a
    tank. The last latent coordinate ``c`` is standard normal and is estimated along with the picture.

    Args:
        prior: the manifold of pictures on a known background.
        std: standard deviation :math:`\sigma` of the constant, in units of the picture.
        known: pixels whose mean is the same in every picture of the prior, boolean, ``x_shape``; the
            encoder reads the constant there. Default: the corners around the disk that fills the picture.

    Raises:
        ValueError: if ``std`` is not positive, or ``known`` has another shape or is empty.

    Example:
        >>> from onmanifold import load_prior
        >>> prior = WithBackground(load_prior("tank"), std=0.05)
        >>> prior.dim - load_prior("tank").dim
        1
    """

    known: Tensor
    half_widths: Tensor
    reach = 4.0  # the constant stays within four standard deviations

    def __init__(self, prior: ManifoldPrior, std: float, known: Tensor | None = None) -> None:
        super().__init__()
        if not std > 0:
            raise ValueError(f"WithBackground: std has to be positive, got {std}")
        known = corners(prior.x_shape) if known is None else known
        if known.shape != prior.x_shape or known.dtype != torch.bool or not known.any():
            raise ValueError(
                f"WithBackground: known has to be a boolean {prior.x_shape} with a true entry, got "
                f"{known.dtype} {tuple(known.shape)}"
            )
        self.prior, self.std = prior, float(std)
        self.x_shape, self.dim, self.num_charts = prior.x_shape, prior.dim + 1, prior.num_charts
        self.register_buffer("known", known)
        inner = torch.as_tensor(prior.box, dtype=prior.dtype).expand(prior.dim).cpu()
        self.register_buffer("half_widths", torch.cat([inner, inner.new_full((1,), self.reach)]))
        self.train(prior.training)

    @property
    def box(self) -> Tensor:  # type: ignore[override]
        """Half-widths of the latent box, ``(d + 1,)``."""
        return self.half_widths

    def decode_chart(self, z: Tensor, chart: int) -> Tensor:
        constant = self.std * z[:, -1]
        return self.prior.decode_chart(z[:, :-1], chart) + constant.view(
            -1, *[1] * len(self.x_shape)
        )

    def encode_chart(self, x: Tensor, chart: int) -> Tensor:
        constant = self._constant(x)
        picture = x - constant.view(-1, *[1] * len(self.x_shape))
        z = self.prior.encode_chart(picture, chart)
        return torch.cat([z, constant[:, None] / self.std], dim=1)

    def log_prob_chart(self, z: Tensor, chart: int) -> Tensor:
        normal = -0.5 * z[:, -1].square() - 0.5 * log(2 * pi)
        return self.prior.log_prob_chart(z[:, :-1], chart) + normal

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Point:
        source = as_generator(generator)
        point = self.prior.sample(n, source)
        constant = torch.randn((n, 1), generator=source).clamp(-self.reach, self.reach)
        return Point(point.chart, torch.cat([point.z, constant.to(point.z)], dim=1))

    def responsibilities(self, x: Tensor) -> Tensor:
        constant = self._constant(x)
        return self.prior.responsibilities(x - constant.view(-1, *[1] * len(self.x_shape)))

    def config(self) -> dict[str, Any]:
        return {
            "prior": {"kind": kind_of(type(self.prior)), "config": self.prior.config()},
            "std": self.std,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build what :meth:`config` describes, with the inner prior's random weights."""
        inner = prior_class(config["prior"]["kind"])
        return cls(inner.from_config(config["prior"]["config"]), config["std"])  # type: ignore[attr-defined]

    def _constant(self, x: Tensor) -> Tensor:
        """What the known pixels show above what the prior itself shows there, ``(B,)``."""
        origin = self.prior.decode_chart(x.new_zeros(1, self.prior.dim), 0)
        return (x[:, self.known] - origin[:, self.known]).mean(dim=1)
