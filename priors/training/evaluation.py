"""The card of a trained prior: what it learned, and figures on held-out examples that training never saw."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onmanifold.pretrained import save_prior
from onmanifold.prior import ManifoldPrior
from onmanifold.priors.atlas.atlas import Atlas
from onmanifold.priors.atlas.diagnostics import (
    chart_distances,
    coverage,
    decode_encode,
    held_out,
    relative_to_norm,
)
from onmanifold.priors.datasets import Dataset, stream
from onmanifold.priors.training.checkpoints import read_checkpoint
from onmanifold.priors.training.recipe import Recipe

DRAWS = 4  # samples of the encoders' noise that a bound of the likelihood is the mean of
CHUNK = 100  # examples whose likelihood is computed at once


def store(recipe: Recipe, prior: ManifoldPrior, output: Path) -> None:
    """Write a trained prior and its card, in 16 bits; the card's metrics are those after rounding."""
    state = read_checkpoint(output / "checkpoints")
    rounded = prior.half().float()
    run = {"seconds": round(state["seconds"]), "device": state["device"]} if state else None
    save_prior(rounded, output, card(recipe, rounded, run), half=True)


def card(recipe: Recipe, prior: ManifoldPrior, run: dict[str, Any] | None = None) -> dict[str, Any]:
    """The card of a trained prior: the recipe's texts, the recipe itself, held-out metrics.

    Args:
        recipe: what was trained.
        prior: the result.
        run: how it was trained (seconds, device), for the record.
    """
    return {
        "name": recipe.name,
        **recipe.card,
        "training_data": f"data set {recipe.data['name']!r}, split 'train'",
        "recipe": {
            "method": recipe.method,
            "data": recipe.data,
            "loss": recipe.loss,
            "schedule": recipe.schedule,
            "seed": recipe.seed,
            "precision": recipe.precision,
            "threads": recipe.threads,
        },
        "training": run or {},
        "metrics": held_out_metrics(prior, recipe.load_data(), recipe.seed),
    }


@torch.no_grad()
def held_out_metrics(
    prior: ManifoldPrior, data: Dataset, seed: int = 0, n: int = 1000
) -> dict[str, float | list[float]]:
    """Reconstruction of held-out examples by their best chart, and the prior's own checks.

    Args:
        prior: a trained prior.
        data: the data set that it learned.
        seed: seed of its recipe; the examples come from the split ``held-out``.
        n: number of examples.

    Returns:
        ``relative_error``, ``psnr``, ``psnr_peak_1``: median over the examples of their distance to the
        manifold, as a share of the example's norm, and in dB of the data's range or of 1;
        ``relative_error_95``: its 95th percentile; ``mean_squared_error``: mean over all entries;
        ``decode_encode``: largest |E(D(z)) - z| of samples of the prior; of a learned
        inverse also ``inverse_error``: its median, relative to |z|; of an atlas also
        ``log_likelihood``: mean of :func:`log_likelihood`, ``chart_usage``: share of the examples in each
        chart, ``overlap``: share that a second chart explains about as well; ``data_near_atlas``,
        ``atlas_near_data``: see :func:`coverage`, where data have what it takes.
    """
    x = held_out(data, n, seed).to(prior.device, prior.dtype)
    errors = chart_distances(prior, x)
    best = errors.amin(dim=1)
    relative = relative_to_norm(best, x)
    size, span = x[0].numel(), float(x.max() - x.min())
    psnr = 20 * torch.log10(math.sqrt(size) / best.clamp(min=torch.finfo(x.dtype).tiny))
    return {
        **_coverage(prior, data, seed),
        "held_out_examples": len(x),
        "relative_error": _digits(relative.median()),
        "relative_error_95": _digits(relative.quantile(0.95)),
        "mean_squared_error": _digits(best.square().mean() / size),
        "psnr": _digits(psnr.median() + 20 * math.log10(span or 1.0)),
        "psnr_peak_1": _digits(psnr.median()),
        "decode_encode": _digits(decode_encode(prior, min(n, 200))),
        **({"inverse_error": _digits(prior.inverse_error)} if prior.inverse_error else {}),
        **(_of_charts(prior, x, errors, seed) if isinstance(prior, Atlas) else {}),
    }


def _of_charts(
    atlas: Atlas, x: Tensor, errors: Tensor, seed: int
) -> dict[str, float | list[float]]:
    """How an atlas's charts explain examples at distances ``errors`` ``(B, K)``."""
    best, chart = errors.min(dim=1)
    usage = torch.bincount(chart, minlength=atlas.num_charts) / len(x)
    close = (errors <= 2 * best[:, None]).sum(dim=1) > 1
    likelihood = log_likelihood(atlas, x, stream(seed, "held-out", 1)).mean()
    return {
        "log_likelihood": _digits(likelihood),
        "chart_usage": [_digits(share) for share in usage],
        "overlap": _digits(close.float().mean()),
    }


def _coverage(prior: ManifoldPrior, data: Dataset, seed: int) -> dict[str, float]:
    """Both shares of :func:`coverage` where they are defined."""
    if len(data.x_shape) > 1:
        return {}
    found = coverage(prior, data, seed=seed)
    shares = {"data_near_atlas": found.covered, "atlas_near_data": found.on_manifold}
    return {name: share for name, share in shares.items() if share is not None}


@torch.no_grad()
def log_likelihood(atlas: Atlas, x: Tensor, generator: torch.Generator) -> Tensor:
    """A lower bound of the log-likelihood of examples ``(B, *x_shape)`` in nats, ``(B,)``.

    log sum_k alpha_k exp(ELBO_k): each chart's evidence lower bound, constants included, so that atlases
    with other numbers of charts, and of latent dimensions, can be compared on the same data.

    Args:
        atlas: the mixture.
        x: examples.
        generator: of the encoders' noise.
    """
    config = atlas.settings
    size = x[0].numel()
    constant = config.dim * (math.log(2 * math.pi) + 1) / 2
    constant -= size * math.log(2 * math.pi * config.sigma_x**2) / 2
    bounds = []
    for part in x.split(CHUNK):
        noise = torch.randn((DRAWS, len(part), config.dim), generator=generator).to(x)
        energy = torch.stack([atlas.energies(part, each) for each in noise]).mean(dim=0)
        bounds.append((atlas.log_weights - energy + constant).logsumexp(dim=1))
    return torch.cat(bounds)


def _digits(value: Tensor | float) -> float:
    return float(f"{float(value):.4g}")
