"""Losses of the field: plain, denoising, variational, Wasserstein, contractive, of distances.

Example:
    >>> from onmanifold.priors.training.recipe import Recipe
    >>> recipe = Recipe("w", {}, {"name": "sphere"}, {"dim": 2}, {}, {"weight": 0.1}, method="wae")
    >>> method = recipe.prepare()
    >>> method.loss(method.draw(0)).shape
    torch.Size([])
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pdist

from onmanifold.checks import check_count
from onmanifold.errors import InputError
from onmanifold.priors.autoencoder.loss import AutoencoderTraining, LossOptions
from onmanifold.priors.networks import network_pair

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the kernels that WAE adds


class AE(AutoencoderTraining):
    """The plain autoencoder: mean squared error of the reconstruction."""


@dataclass(frozen=True)
class DAEOptions(LossOptions):
    """Numbers of the loss.

    Attributes:
        noise: standard deviation of what is added to each entry of x.
    """

    noise: float = 0.1


class DAE(AutoencoderTraining):
    """The denoising autoencoder: mean squared error of x reconstructed from x with Gaussian noise.

    Reference: P. Vincent, H. Larochelle, I. Lajoie, Y. Bengio, P.-A. Manzagol, *Stacked denoising
    autoencoders*, JMLR 11 (2010).
    """

    Options = DAEOptions

    def extras(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        noise = torch.randn((len(rows), *self.model.x_shape), generator=generator)
        return {"noise": self.options.noise * noise.to(self.examples)}

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        x = batch["x"]
        return (self.reconstruction(x + batch["noise"]) - x).square().mean()


@dataclass(frozen=True)
class VAEOptions(LossOptions):
    """Numbers of the loss.

    Attributes:
        variance: of the decoder's Gaussian, for each entry of x.
        inverse: weight with which the encoder learns to invert the decoder where no examples are.
    """

    or_zero = ("inverse",)

    variance: float = 0.01
    inverse: float = 0.0


class VAE(AutoencoderTraining):
    r"""Reconstruction from a noisy code, and the divergence of the codes from a standard normal density.

    With m = E(x), variances s^2 of its entries from a second network (of the encoder's kind, dropped after
    training) and z = m + s xi, the negative evidence bound of a decoder with variance v, times 2 v / n:

        |x - D(z)|^2 / n  +  (2 v / n) KL(N(m, diag s^2) | N(0, I))

    so that it is measured like the mean squared error. With ``inverse`` > 0 the encoder alone also learns
    from samples z of the normal density, by ``inverse |E(D(z)) - z|^2 / d``: between the codes of examples it
    would be no inverse.

    Reference: D. Kingma, M. Welling, *Auto-encoding variational Bayes*, ICLR 2014.
    """

    Options = VAEOptions

    def set_up(self) -> None:
        model = self.model.settings
        _, self.log_variance = network_pair(model.network, model.dim, model.x_shape, model.options)

    def extras(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        names = ["noise", "sample"] if self.options.inverse else ["noise"]
        shape = (len(rows), self.model.dim)
        return {name: torch.randn(shape, generator=generator).to(self.examples) for name in names}

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        x = batch["x"]
        mean, log_variance = self.model.encoder(x), self.log_variance(x)
        z = mean + (log_variance / 2).exp() * batch["noise"]
        error = self.error(x, self.model.decoder(z))
        divergence = divergence_from_normal(mean, log_variance).mean()
        loss: Tensor = error + 2 * self.options.variance / x[0].numel() * divergence
        return loss + self.inverse_error(batch["sample"]) if self.options.inverse else loss

    def inverse_error(self, z: Tensor) -> Tensor:
        """What the encoder is wrong by at samples ``(B, d)``, weighted; the decoder learns nothing."""
        with torch.no_grad():
            x = self.model.decoder(z)
        error: Tensor = self.options.inverse * (self.model.encoder(x) - z).square().mean()
        return error


def divergence_from_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, diag exp(log_variance)) | N(0, I)) of ``(B, d)`` and ``(B, d)``: ``(B,)``.

    Example:
        >>> divergence_from_normal(torch.ones(1, 2), torch.zeros(1, 2))
        tensor([1.])
    """
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(dim=1)


# Mean squared error and a weighted term -----------------------------------------------------------


@dataclass(frozen=True)
class WeightOption(LossOptions):
    """The number that these losses have.

    Attributes:
        weight: of the method's own term beside the mean squared error.
    """

    weight: float = 0.01


class WithTerm(AutoencoderTraining):
    """Mean squared error, and ``weight`` times a term of the method's own."""

    Options: ClassVar[Callable[..., WeightOption]] = WeightOption

    @abstractmethod
    def term(self, x: Tensor, z: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """The method's own term of a batch of examples ``x`` with codes ``z`` ``(B, d)``."""

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        x = batch["x"]
        z = self.model.encoder(x)
        error = (self.model.decoder(z) - x.detach()).square().mean()
        loss: Tensor = error + self.options.weight * self.term(x, z, batch)
        return loss


class WAE(WithTerm):
    """The Wasserstein autoencoder: discrepancy of a batch of codes from a standard normal density.

    Reference: I. Tolstikhin, O. Bousquet, S. Gelly, B. Schoelkopf, *Wasserstein auto-encoders*, ICLR 2018
    (WAE-MMD).
    """

    smallest_batch = 2

    def extras(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        prior = torch.randn(len(rows), self.model.dim, generator=generator)
        return {"prior": prior.to(self.examples)}

    def term(self, x: Tensor, z: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return discrepancy(z, batch["prior"])


def discrepancy(z: Tensor, w: Tensor) -> Tensor:
    """Unbiased squared maximum mean discrepancy of codes ``(B, d)`` and ``(B, d)``.

    With the inverse multiquadratic kernels C / (C + |z - w|^2), C = 2 d s for several scales s: 2 d is the
    expected squared distance of two standard normal codes. For two samples of the same density it is 0 in
    the mean, so that single values may be negative.

    Example:
        >>> source = torch.Generator().manual_seed(0)
        >>> z, w = torch.randn(2, 500, 3, generator=source)
        >>> bool(abs(discrepancy(z, w)) < 0.01 < discrepancy(z, w + 1))
        True
    """
    n, dim = z.shape
    between = torch.cdist(z, w).square()
    within = torch.stack([torch.cdist(z, z), torch.cdist(w, w)]).square()
    total = z.new_zeros(())
    for scale in SCALES:
        constant = 2 * dim * scale
        # each of the 2 n points has kernel 1 with itself, which the unbiased estimate leaves out
        same = ((constant / (constant + within)).sum() - 2 * n) / (n * (n - 1))
        total = total + same - 2 * (constant / (constant + between)).mean()
    return total


class CAE(WithTerm):
    """The contractive autoencoder: the squared Frobenius norm |J|^2 of the encoder's Jacobian at x.

    It is estimated without bias (Hutchinson) by |J^T u|^2 with random signs u.

    Reference: S. Rifai, P. Vincent, X. Muller, X. Glorot, Y. Bengio, *Contractive auto-encoders*, ICML 2011.
    """

    Options = partial(WeightOption, weight=1e-4)

    def extras(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        signs = torch.randint(2, (len(rows), 1, self.model.dim), generator=generator)
        return {"directions": (2.0 * signs - 1).to(self.examples)}

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        return super().loss(batch | {"x": batch["x"].clone().requires_grad_()})

    def term(self, x: Tensor, z: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return contraction(x, z, batch["directions"]).mean()


def contraction(x: Tensor, z: Tensor, directions: Tensor) -> Tensor:
    """Sum over P directions u of |J^T u|^2, with J = dz / dx: ``(B,)``.

    Args:
        x: ``(B, *x_shape)``, of which ``z`` was computed and by which it can be differentiated.
        z: codes ``(B, d)``.
        directions: ``(B, P, d)``.

    Example:
        >>> x = torch.ones(1, 3, requires_grad=True)
        >>> contraction(x, 2 * x[:, :2], torch.eye(2)[None]).tolist()
        [8.0]
    """
    (products,) = torch.autograd.grad(
        z, x, directions.transpose(0, 1), create_graph=True, is_grads_batched=True
    )
    return products.square().transpose(0, 1).flatten(1).sum(dim=1)


class SPAE(WithTerm):
    """How far latent distances are from proportional to distances of the examples.

    Reference: A. Singh, K. Nag, *Structure-preserving deep autoencoder-based dimensionality reduction for
    data visualization*, IEEE SNPD 2021.
    """

    smallest_batch = 3  # two distances to compare

    def term(self, x: Tensor, z: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return log_ratio_spread(x, z)


def log_ratio_spread(x: Tensor, z: Tensor) -> Tensor:
    """Standard deviation of log(|x_i - x_j| / |z_i - z_j|) over the pairs of a batch; 0 if all scale alike.

    Pairs of equal points say nothing about scale and are left out.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
        >>> float(log_ratio_spread(x, 3 * x).round(decimals=5))
        0.0
    """
    ambient, latent = pdist(x.flatten(1)), pdist(z)
    apart = (ambient > 0) & (latent > 0)
    ratios = ambient[apart].log() - latent[apart].log()
    # not std(): its derivative at 0 is not a number
    return (ratios.var(correction=0) + 1e-12).sqrt()


@dataclass(frozen=True)
class GRAEOptions(WeightOption):
    """Numbers of the loss.

    Attributes:
        neighbours: of each example in the graph that UMAP embeds.
    """

    neighbours: int = 15

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.neighbours, "loss: neighbours", at_least=2)


class GRAE(WithTerm):
    """Mean squared difference of the codes from an embedding of the examples.

    The embedding is UMAP's into R^d, moved and scaled to mean 0 and variance 1.

    Reference: A. F. Duque, S. Morin, G. Wolf, K. Moon, *Extendable and invertible manifold learning with
    geometry regularized autoencoders*, IEEE Big Data 2020 (there with PHATE in place of UMAP).
    """

    Options = GRAEOptions
    targets: Tensor

    def set_up(self) -> None:
        neighbours, there = self.options.neighbours, len(self.examples)
        if neighbours >= there:
            raise InputError(
                f"loss: neighbours {neighbours}, but each of {there} examples has {there - 1} others"
            )
        if self.model.dim >= there - 1:  # as many eigenvectors of the graph as dimensions, and one
            raise InputError(f"dim {self.model.dim} is too large to embed {there} examples")
        targets = embedding(self.examples.flatten(1), self.model.dim, neighbours, self.seed)
        self.register_buffer("targets", targets.to(self.examples), persistent=False)

    def term(self, x: Tensor, z: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return (z - self.targets[batch["rows"]]).square().mean()


def embedding(x: Tensor, dim: int, neighbours: int, seed: int) -> Tensor:
    """Examples ``(n, m)`` embedded by UMAP: ``(n, dim)``, of mean 0 and variance 1."""
    with warnings.catch_warnings():  # umap says so at its import where tensorflow is missing
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        from umap import UMAP
    # umap repeats itself on one thread only
    found = UMAP(n_neighbors=neighbours, n_components=dim, random_state=seed, n_jobs=1)
    z = torch.from_numpy(found.fit_transform(x.cpu().numpy()))
    z = z - z.mean(dim=0)  # first: what it is off by is no spread
    return z / z.std()
