"""A density of latent codes, fitted after training."""

from __future__ import annotations

from math import log, pi

import torch
from torch import Tensor, nn

from onmanifold.checks import as_generator


class GaussianMixture(nn.Module):
    r"""A mixture of Gaussians with full covariances on R^d.

    Fitted to the codes of the examples after training, it turns a deterministic autoencoder into one that can
    be sampled from (Ghosh et al., *From variational to deterministic autoencoders*, ICLR 2020).

    Args:
        dim: d.
        components: number M of Gaussians.

    Example:
        >>> density = GaussianMixture(dim=2, components=3)
        >>> density.fit(torch.randn(200, 2), seed=0)
        >>> density.log_prob(density.sample(5, 0)).shape
        torch.Size([5])
    """

    log_weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, dim: int, components: int) -> None:
        super().__init__()
        self.register_buffer("log_weights", torch.full((components,), -log(components)))
        self.register_buffer("means", torch.zeros(components, dim))
        self.register_buffer("factors", torch.eye(dim).repeat(components, 1, 1))

    def fit(self, z: Tensor, seed: int) -> None:
        """Fit the mixture to codes ``(n, d)`` by expectation maximization (scikit-learn)."""
        from sklearn.mixture import GaussianMixture as Fit

        scale = z.std(dim=0).clamp(min=1e-12)
        found = Fit(
            len(self.log_weights), random_state=seed, reg_covar=1e-4, init_params="k-means++"
        ).fit((z / scale).double().cpu().numpy())
        covariances = torch.from_numpy(found.covariances_) * scale.outer(scale).cpu()
        self.log_weights.copy_(torch.from_numpy(found.weights_).log())
        self.means.copy_(torch.from_numpy(found.means_) * scale.cpu())
        self.factors.copy_(torch.linalg.cholesky(covariances))

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density at ``(B, d)``: ``(B,)``."""
        offsets = (z[:, None, :] - self.means).permute(1, 2, 0)  # (M, d, B)
        whitened = torch.linalg.solve_triangular(self.factors, offsets, upper=False)
        volume = self.factors.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        energy = 0.5 * whitened.square().sum(dim=1) + volume[:, None]
        constant = 0.5 * z.shape[1] * log(2 * pi)
        found: Tensor = (self.log_weights[:, None] - energy).logsumexp(dim=0) - constant
        return found

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Tensor:
        """``n`` codes ``(n, d)``."""
        source = as_generator(generator)
        weights = self.log_weights.double().exp().cpu()
        component = torch.multinomial(weights, n, replacement=True, generator=source)
        noise = torch.randn((n, self.means.shape[1]), generator=source, dtype=torch.float64)
        component, noise = component.to(self.means.device), noise.to(self.means)
        return self.means[component] + (self.factors[component] @ noise[:, :, None]).squeeze(2)
