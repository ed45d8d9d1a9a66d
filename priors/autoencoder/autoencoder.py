"""The autoencoder: a learned manifold with one chart, whose encoder is a learned inverse."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import inf, prod
from typing import Any, Self

import torch
from torch import Tensor, nn

from onmanifold.checks import as_generator, check_count, check_field, check_number, check_shape
from onmanifold.errors import InputError
from onmanifold.prior import ManifoldPrior, Point
from onmanifold.priors.autoencoder.mixture import GaussianMixture
from onmanifold.priors.networks import network_pair

BATCH = 500  # examples that are encoded at once
PASSES = 5  # through decoder and encoder, at most, to bring a point back
MARGIN = 1.05  # the latent box reaches so far beyond the codes of the examples


@dataclass(frozen=True)
class AutoencoderConfig:
    """What an autoencoder is built from; the recipes and cards have the same fields.

    Attributes:
        x_shape: shape of the unknown.
        dim: latent dimension d.
        network: kind of both networks, see :func:`~onmanifold.priors.networks.network_pair`.
        options: their arguments.
        components: Gaussians of the latent density.
        tube: whether points that leave a tube around the codes of the examples are brought back to it: for
            codes that are a thin set of lower dimension than ``dim``.
        whiten: whether the codes of the examples are given mean zero and unit covariance after training, by
            linear maps that the networks take in: the same manifold in other coordinates.
        background: value that the networks take for 0.
        amplitude: what they take for 1: how far values are from the background, at most or so.
    """

    x_shape: tuple[int, ...]
    dim: int
    network: str = "dense"
    options: dict[str, Any] = field(default_factory=lambda: {"hidden": 256})
    components: int = 10
    tube: bool = False
    whiten: bool = False
    background: float = 0.0
    amplitude: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "x_shape", check_shape(self.x_shape, "x_shape"))
        for name in ("dim", "components"):
            check_field(self, name, check_count)
        check_field(self, "amplitude", check_number)
        check_field(self, "background", check_number, low=-inf)
        if self.dim > prod(self.x_shape):
            raise InputError(
                f"dim {self.dim} has to be from 1 to the size of {self.x_shape}, {prod(self.x_shape)}"
            )


class Autoencoder(ManifoldPrior):
    """A decoder network and an encoder network that was trained to invert it.

    Latent coordinates are the encoder's, centred or whitened; the box is as wide as the codes of the
    examples, and the latent density is a :class:`GaussianMixture` fitted to them (:meth:`fit_latents`). How
    exact the inverse is, ``inverse_error`` says.

    Example:
        >>> prior = Autoencoder(AutoencoderConfig(x_shape=(3,), dim=2, options={"hidden": 8}))
        >>> prior.fit_latents(torch.randn(100, 3), seed=0)
        >>> point = prior.sample(5, 0)
        >>> prior.decode(point).shape
        torch.Size([5, 3])
    """

    centre: Tensor
    latent_box: Tensor
    radius: Tensor
    error: Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.settings = config
        self.x_shape, self.dim = config.x_shape, config.dim
        self.decoder, self.encoder = network_pair(
            config.network, config.dim, config.x_shape, config.options
        )
        self.density = GaussianMixture(config.dim, config.components)
        self.register_buffer("centre", torch.zeros(config.dim))
        self.register_buffer("latent_box", torch.ones(config.dim))
        self.register_buffer("radius", torch.tensor(0.0))
        self.register_buffer("error", torch.tensor(1.0))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the autoencoder that :meth:`config` describes, with random weights."""
        return cls(AutoencoderConfig(**config))

    def config(self) -> dict[str, Any]:
        return asdict(self.settings)

    @property
    def box(self) -> Tensor:  # type: ignore[override]
        """Half-widths of the latent box, ``(d,)``."""
        return self.latent_box

    @property
    def inverse_error(self) -> float:  # type: ignore[override]
        return float(self.error)

    def decode_chart(self, z: Tensor, chart: int) -> Tensor:
        return self.in_unit(self.decoder(z + self.centre))

    def encode_chart(self, x: Tensor, chart: int) -> Tensor:
        z: Tensor = self.encoder(self.normalized(x)) - self.centre
        return z

    def normalized(self, x: Tensor) -> Tensor:
        """What the networks see of unknowns ``(B, *x_shape)``."""
        if self.settings.amplitude == 1 and self.settings.background == 0:
            return x
        return (x - self.settings.background) / self.settings.amplitude

    def in_unit(self, seen: Tensor) -> Tensor:
        """The inverse of :meth:`normalized`."""
        if self.settings.amplitude == 1 and self.settings.background == 0:
            return seen
        return self.settings.background + self.settings.amplitude * seen

    def log_prob_chart(self, z: Tensor, chart: int) -> Tensor:
        return self.density.log_prob(z)

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Point:
        z = self.density.sample(check_count(n, "n"), as_generator(generator))
        z = torch.clamp(z, -self.latent_box, self.latent_box)
        chart = torch.zeros(n, dtype=torch.long, device=self.device)
        return self.project_code(Point(chart, z))

    def project_code(self, point: Point) -> Point:
        """Bring points back that left the tube around the codes of the examples."""
        if not self.settings.tube:
            return point
        z = point.z
        for _ in range(PASSES):
            back = self.encoder(self.decoder(z + self.centre)) - self.centre
            far = (back - z).norm(dim=1, keepdim=True) > self.radius
            if not bool(far.any()):
                break
            z = torch.where(far, back, z)
        return point.at(z)

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        """What the encoder network makes of examples ``(n, *x_shape)``, not centred: ``(n, d)``."""
        return torch.cat([self.encoder(self.normalized(part)) for part in x.split(BATCH)])

    @torch.no_grad()
    def fit_latents(self, x: Tensor, seed: int) -> None:
        """Take centre, box, density and tube from examples ``(n, *x_shape)``, after training."""
        codes = self.codes(x)
        if self.settings.whiten:
            self._whiten(codes)
            codes = self.codes(x)
        else:
            self.centre.copy_((codes.amax(dim=0) + codes.amin(dim=0)) / 2)
            codes = codes - self.centre
        self.latent_box.copy_(MARGIN * codes.abs().amax(dim=0))
        self.density.fit(codes, seed)
        self.radius.copy_(2 * self._round_trip(codes).quantile(0.99))
        drawn = self.sample(1000, seed).z
        self.error.copy_(self._round_trip(drawn).median() / drawn.norm(dim=1).median())

    def _whiten(self, codes: Tensor) -> None:
        """Let the outer linear layers of both networks undo mean and covariance of the codes."""
        mean = codes.mean(dim=0)
        factor = torch.linalg.cholesky(torch.cov(codes.T).view(self.dim, self.dim))
        first = next(m for m in self.decoder.modules() if isinstance(m, nn.Linear))
        last = [m for m in self.encoder.modules() if isinstance(m, nn.Linear)][-1]
        first.bias.add_(first.weight @ mean)
        first.weight.copy_(first.weight @ factor)
        last.bias.sub_(mean)
        for value in (last.weight.data, last.bias.data[:, None]):
            value.copy_(torch.linalg.solve_triangular(factor, value, upper=False))

    def _round_trip(self, z: Tensor) -> Tensor:
        """``|E(D(z)) - z|``, ``(n,)``."""
        trips = [self.encode_chart(self.decode_chart(part, 0), 0) for part in z.split(BATCH)]
        off: Tensor = (torch.cat(trips) - z).norm(dim=1)
        return off
