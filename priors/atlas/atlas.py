"""The atlas: a mixture of variational autoencoders whose decoders are charts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import log
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from onmanifold.checks import as_generator, check_count, check_field, check_number, check_shape
from onmanifold.prior import ManifoldPrior, Point
from onmanifold.priors.atlas.chart import Chart
from onmanifold.priors.atlas.density import SoftBox
from onmanifold.priors.atlas.flow import LatentFlow


@dataclass(frozen=True)
class AtlasConfig:
    """What an atlas is built from; the recipes and cards have the same fields.

    Attributes:
        x_shape: shape of the unknown.
        dim: latent dimension d.
        charts: number of charts K.
        sigma_x: standard deviation of the data around the manifold, in their unit.
        sigma_z: standard deviation of the encoder's latent noise.
        steepness: decay of the latent density outside the unit box.
        flow: arguments of :class:`LatentFlow`.
        chart: arguments of :class:`Chart`.
    """

    x_shape: tuple[int, ...]
    dim: int
    charts: int
    sigma_x: float
    sigma_z: float = 0.01
    steepness: float = 100.0
    flow: dict[str, Any] = field(default_factory=dict)
    chart: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "x_shape", check_shape(self.x_shape, "AtlasConfig: x_shape"))
        for name in ("dim", "charts"):
            check_field(self, name, check_count)
        for name in ("sigma_x", "sigma_z", "steepness"):
            check_field(self, name, check_number)


class Atlas(ManifoldPrior):
    """A learned manifold covered by K charts ``D_k = V_k o T_k``.

    ``V_k`` is an injective :class:`Chart`, ``T_k`` a :class:`LatentFlow`, and the latent points have the
    density :class:`SoftBox`. In the coordinates ``t`` of ``V_k`` each chart is a variational autoencoder.

    Source: Alberti, Hertrich, Santacesaria, Sciutto, JMLR 25 (2024).

    Example:
        >>> atlas = Atlas(AtlasConfig(x_shape=(2,), dim=1, charts=2, sigma_x=0.1,
        ...                           chart={"network": "dense", "options": {"hidden": 8}}))
        >>> point = atlas.sample(5, 0)
        >>> atlas.decode(point).shape
        torch.Size([5, 2])
    """

    box: float = 1.0

    def __init__(self, config: AtlasConfig) -> None:
        super().__init__()
        self.settings = config
        self.x_shape, self.dim, self.num_charts = config.x_shape, config.dim, config.charts
        self.density = SoftBox(config.steepness)
        self.charts = nn.ModuleList(
            Chart(config.dim, config.x_shape, **config.chart) for _ in range(config.charts)
        )
        self.flows = nn.ModuleList(
            LatentFlow(config.dim, **config.flow) for _ in range(config.charts)
        )
        self.logits = nn.Parameter(torch.zeros(config.charts))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the atlas that :meth:`config` describes, with random weights."""
        return cls(AtlasConfig(**config))

    def config(self) -> dict[str, Any]:
        return asdict(self.settings)

    def pair(self, chart: int) -> tuple[Chart, LatentFlow]:
        """V_k and T_k."""
        return cast(Chart, self.charts[chart]), cast(LatentFlow, self.flows[chart])

    @property
    def log_weights(self) -> Tensor:
        """Log alpha_k, shape ``(K,)``."""
        return self.logits.log_softmax(dim=0)

    def decode_chart(self, z: Tensor, chart: int) -> Tensor:
        injection, flow = self.pair(chart)
        return injection.decode(flow.forward(z))

    def encode_chart(self, x: Tensor, chart: int) -> Tensor:
        injection, flow = self.pair(chart)
        return flow.inverse(injection.encode(x))[0]

    def log_prob_chart(self, z: Tensor, chart: int) -> Tensor:
        return self.density.log_prob(z) + self.log_weights[chart]

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Point:
        n, source = check_count(n, "n"), as_generator(generator)
        weights = self.log_weights.detach().exp().double().cpu()
        chart = torch.multinomial(weights, n, replacement=True, generator=source)
        z = self.density.sample(n, self.dim, source)
        return Point(chart.to(self.device), z.to(self.device, self.dtype))

    @torch.no_grad()
    def responsibilities(self, x: Tensor) -> Tensor:
        return (self.log_weights - self.energies(x)).softmax(dim=1)

    @torch.no_grad()
    def responsibilities_at(self, point: Point, x: Tensor) -> Tensor:
        energies = x.new_empty(len(x), self.num_charts)
        for k, (_, flow) in enumerate(map(self.pair, range(self.num_charts))):
            here, elsewhere = ((point.chart == k) == own for own in (True, False))
            if bool(here.any()):
                s = point.z[here]
                _, ladj = flow.inverse(flow.forward(s))
                energies[here, k] = -self._log_latent(s, ladj)  # no misfit: x is on the chart
            if bool(elsewhere.any()):
                energies[elsewhere, k] = self.energy(x[elsewhere], k)
        return (self.log_weights - energies).softmax(dim=1)

    def energies(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """The negative evidence bound L_k(x) of every chart, ``(B, K)``.

        Args:
            x: unknowns ``(B, *x_shape)``.
            noise: standard normal numbers ``(B, d)`` for one sample of the bound; without them the bound is
                evaluated at the encoder's mean.
        """
        return torch.stack([self.energy(x, k, noise) for k in range(self.num_charts)], dim=1)

    def energy(
        self, x: Tensor, chart: int, noise: Tensor | None = None, stretch: float = 1.0
    ) -> Tensor:
        """L_k(x) of one chart, ``(B,)``, with the latent density evaluated at ``stretch * s``."""
        config, (injection, flow) = self.settings, self.pair(chart)
        t = injection.encode(x)
        if noise is not None:
            t = t + config.sigma_z * noise
        s, ladj = flow.inverse(t)
        misfit = (x - injection.decode(t)).flatten(1).square().sum(dim=1)
        energy: Tensor = misfit / (2 * config.sigma_x**2) - self._log_latent(stretch * s, ladj)
        return energy

    def _log_latent(self, s: Tensor, ladj: Tensor) -> Tensor:
        """The part of the bound that does not depend on the misfit, ``(B,)``."""
        return self.density.log_prob(s) + ladj + self.dim * log(self.settings.sigma_z)
