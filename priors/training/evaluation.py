"""The card of a trained prior: what it learned, and figures on held-out examples that training never saw."""

from __future__ import annotations

import math
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onmanifold.decoder_error import DecoderError
from onmanifold.geometry import measure_decoder_error
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
from onmanifold.priors.training.identity import fingerprint
from onmanifold.priors.training.linear import PCA
from onmanifold.priors.training.recipe import Recipe
from onmanifold.priors.training.report import page
from onmanifold.priors.training.values import some_examples
from onmanifold.priors.training.watch import watched_examples

DRAWS = 4  # samples of the encoders' noise that a bound of the likelihood is the mean of
FEWEST = 50  # examples that the decoder's error is measured on
CHUNK = 100  # examples whose likelihood is computed at once


def store(recipe: Recipe, prior: ManifoldPrior, output: Path, data: Dataset | None = None) -> None:
    """Write a trained prior, its card, recipe and report, in 16 bits; all metrics are those after rounding.

    Args:
        recipe: what was trained.
        prior: the result.
        output: folder, complete or not written at all; its folder ``checkpoints`` says how training went.
        data: the examples, where the recipe names none that can be loaded.
    """
    data = recipe.load_data() if data is None else data
    state = read_checkpoint(output / "checkpoints")
    rounded = prior.half().float()
    rounded.decoder_error = _decoder_error(rounded, data, recipe.seed)
    run = None
    if state is not None:
        run = {
            "seconds": round(state["seconds"]),
            "device": state["device"],
            "steps": state["step"],
        }
    written = card(recipe, rounded, run, data)
    pca = _components(data, rounded, recipe.seed)
    curve = _curve(output / "checkpoints" / "loss.csv")
    files = {
        "recipe.toml": recipe.text().encode(),
        "report.png": page(rounded, data, pca, written, curve),
    }
    save_prior(rounded, output, written, half=True, beside=files)


def _decoder_error(prior: ManifoldPrior, data: Dataset, seed: int) -> DecoderError | None:
    """How far examples of the split ``validation`` lie off a prior, in numbers that 16 bits hold.

    None of few examples, and in units in which 16 bits are too short.
    """
    x = watched_examples(data, seed)
    if x is None or len(x) < FEWEST:
        return None
    error = measure_decoder_error(prior, x.to(prior.device, prior.dtype)).half().float()
    variance = error.variance
    held = bool(torch.isfinite(variance).all()) and bool((variance > 0).any())
    return error if held else None


def _curve(file: Path) -> list[list[float]]:
    """Steps, losses and errors as a run wrote them."""
    if not file.exists():
        return []
    rows = [line.split(",") for line in file.read_text("utf-8").splitlines()]
    return [[float(text or "nan") for text in row] for row in rows]


def card(
    recipe: Recipe,
    prior: ManifoldPrior,
    run: dict[str, Any] | None = None,
    data: Dataset | None = None,
) -> dict[str, Any]:
    """The card of a trained prior: the recipe and its texts, what the data were, held-out metrics.

    Args:
        recipe: what was trained.
        prior: the result.
        run: how it was trained (seconds, device, steps), for the record.
        data: the examples, where the recipe names none that can be loaded.
    """
    data = recipe.load_data() if data is None else data
    about = described(data, recipe.seed)
    low, high = about["range"]
    return {
        "name": recipe.name,
        "value_range": f"{low:g} to {high:g}",
        **recipe.card,
        "training_data": f"data set {recipe.data.get('name')!r}, split 'train'",
        "data": about,
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
        "metrics": held_out_metrics(prior, data, recipe.seed),
    }


def described(data: Dataset, seed: int) -> dict[str, Any]:
    """What data are: kind, shape, range, and of finite data number, shares held out, and sha256.

    Example:
        >>> from onmanifold.priors.datasets import OwnExamples
        >>> described(OwnExamples.of(torch.arange(40.0).view(20, 2)), 0)["held_out"]
        2
    """
    x = some_examples(data, seed)
    about: dict[str, Any] = {
        "kind": getattr(data, "kind", type(data).__name__),
        "shape": list(data.x_shape),
        "range": [float(x.min()), float(x.max())],
    }
    parts = getattr(data, "parts", None)
    if parts is None:
        return about
    return about | {
        "examples": sum(len(part) for part in parts.values()),
        **{name.replace("-", "_"): len(part) for name, part in parts.items()},
        "sha256": fingerprint(data),
    }


def _components(data: Dataset, prior: ManifoldPrior, seed: int) -> PCA:
    """Principal components of a prior's dimension, of what it learned from."""
    return PCA.fit(some_examples(data, seed), min(prior.dim, prod(data.x_shape)))


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
        ``pca_relative_error``, ``pca_psnr``: the same of principal components of as many dimensions;
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
    psnr = _psnr(best, x)
    pca = (_components(data, prior, seed).project(x) - x).flatten(1).norm(dim=1)
    return {
        **_coverage(prior, data, seed),
        "held_out_examples": len(x),
        "relative_error": _digits(relative.median()),
        "relative_error_95": _digits(relative.quantile(0.95)),
        "mean_squared_error": _digits(best.square().mean() / size),
        "psnr": _digits(psnr.median() + 20 * math.log10(span or 1.0)),
        "psnr_peak_1": _digits(psnr.median()),
        "pca_relative_error": _digits(relative_to_norm(pca, x).median()),
        "pca_psnr": _digits(_psnr(pca, x).median() + 20 * math.log10(span or 1.0)),
        "decode_encode": _digits(decode_encode(prior, min(n, 200))),
        **({"inverse_error": _digits(prior.inverse_error)} if prior.inverse_error else {}),
        **(_of_charts(prior, x, errors, seed) if isinstance(prior, Atlas) else {}),
    }


def _psnr(distance: Tensor, x: Tensor) -> Tensor:
    """In dB of 1, at distances ``(B,)`` from examples."""
    size, tiny = x[0].numel(), torch.finfo(x.dtype).tiny
    return 20 * torch.log10(math.sqrt(size) / distance.clamp(min=tiny))


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
