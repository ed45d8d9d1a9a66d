"""Five problems on held-out digits, beside other methods: ``python benchmarks/restoration.py``.

A blur by a 9 x 9 Gaussian of standard deviation 2, half of the pixels, a quarter of the resolution along
each axis, 12 angles of parallel-beam tomography, a quarter of the lines of k-space; noise as the table says.
The peak signal-to-noise ratio (peak 1, results clipped to [0, 1]) of

* the manifold solution: ``solve`` by Levenberg-Marquardt from several starts;
* the same, relaxed: ``relax`` lets it leave the manifold;
* total variation, as in ``benchmarks/digits.py``;
* deepinv's proximal gradient descent (``PGD``) with the same manifold as prior, from the adjoint's image;
* the same descent plug-and-play (``PnP``), with a small network that this script trains to denoise
  training digits.

What there is to choose (weight of the latent density, how far to leave the manifold, weight of TV, the
denoiser's noise level) has the highest mean ratio on validation digits, from the grids below. The digits are
read from ``$ONMANIFOLD_DATA/mnist``; the denoiser is kept in ``--denoiser-folder`` and trained if it is not
there.
"""

import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import deepinv
import torch
import typer
from rich.progress import track
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from digits import Measured, Restored, chosen, manifold, measure, psnr, total_variation
from onmanifold import (
    ForwardOperator,
    Gaussian,
    InconsistentWarning,
    InitialPoints,
    load_dataset,
    load_operator,
    load_prior,
    relax,
    solve,
)
from onmanifold.geometry import locate
from onmanifold.interfaces.deepinv import as_deepinv_prior, as_physics
from onmanifold.priors.datasets import part_of, stream
from shared.tables import Table

DENOISER = Path(__file__).resolve().parents[1] / "runs" / "restoration"
PRIOR_WEIGHTS = (0.1, 0.3, 1.0, 3.0)
RELAXED = (0.02, 0.05, 0.1, 0.2)  # standard deviation off the manifold
TV_WEIGHTS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
DENOISER_LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2)
STEPS = 100  # of deepinv's descent with a denoiser
PROJECTIONS = 30  # steps of that on the manifold
PROBLEMS = {  # name of the operator, its options, noise
    "deblurring, 9 x 9": ("blur", {"size": 9, "std": 2.0}, 0.1),
    "half of the pixels": ("mask", {}, 0.05),
    "downsampling by 4": ("downsampling", {"factor": 4}, 0.02),
    "tomography, 12 angles": ("tomography", {"angles": 12}, 0.5),
    "k-space, a quarter": ("fourier", {"acceleration": 4.0}, 0.05),
}


def square_of_norm(operator: ForwardOperator, steps: int = 50) -> float:
    """The largest eigenvalue of ``A* A``, by the power method, and 2 % for what it is short of."""
    x = torch.rand(1, *operator.x_shape, generator=torch.Generator().manual_seed(0))
    for _ in range(steps):
        x = operator.A_vjp(x, operator.A(x / x.norm()))
    return 1.02 * float(x.norm())


def relaxed(data: Measured, weight: float, std: float) -> Restored:
    """The solution and a part off the manifold, of that standard deviation in each pixel."""
    began = time.perf_counter()
    options = {"prior_weight": weight, "starts": data.start}
    on = solve(data.operator, data.y, data.prior, fidelity=Gaussian(data.noise), **options)
    return Restored(relax(on, std=std).x, torch.nan, torch.nan, time.perf_counter() - began)


def by_deepinv(
    data: Measured, prior: deepinv.optim.Prior, square: float, level: float | None
) -> Restored:
    """Proximal gradient descent of deepinv from the adjoint's image, divided by the norm's square."""
    began, physics = time.perf_counter(), as_physics(data.operator)
    descent = deepinv.optim.PGD(
        data_fidelity=deepinv.optim.L2(),
        prior=prior,
        stepsize=1 / square,
        sigma_denoiser=level,
        max_iter=PROJECTIONS if level is None else STEPS,
        early_stop=False,
        custom_init=lambda y, physics: {"est": (physics.A_adjoint(y) / square,) * 2},
    )
    with torch.no_grad():
        x = descent(data.y, physics).reshape(data.truth.shape)
    return Restored(x, torch.nan, torch.nan, time.perf_counter() - began)


class Denoiser(nn.Module):
    """``x - s f(x, s)`` with five convolutions f, which predict the noise of standard deviation s."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = [2, *[width] * 4, 1]
        layers = [nn.Conv2d(n, m, 3, padding=1) for n, m in pairwise(sizes)]
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        active: list[nn.Module] = []
        for layer in layers[:-1]:
            active += [layer, nn.ReLU()]
        self.network = nn.Sequential(*active, layers[-1])

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        level = torch.as_tensor(sigma, dtype=x.dtype).expand(len(x)).view(-1, 1, 1, 1)
        return x - level * self.network(torch.cat([x, level.expand_as(x)], dim=1))


def denoiser(folder: Path, steps: int, seed: int) -> Denoiser:
    """A denoiser for standard deviations up to 0.3, trained on training digits."""
    torch.manual_seed(seed)
    network, file = Denoiser(), folder / "denoiser.safetensors"
    if file.is_file():
        load_model(network, file)
        return network.eval()
    digits = part_of(load_dataset("mnist"), "train")
    source = stream(seed, "train")
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in track(range(steps), "training the denoiser"):
        clean = digits.sample(32, source)[0].float()
        level = 0.01 + 0.29 * torch.rand(len(clean), 1, 1, 1, generator=source)
        noisy = clean + level * torch.randn(clean.shape, generator=source)
        loss = ((network(noisy, level.flatten()) - clean) / level).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    folder.mkdir(parents=True, exist_ok=True)
    save_model(network, str(file))
    return network.eval()


def compare(validation: Measured, data: Measured, network: nn.Module) -> dict[str, Restored]:
    """Each method with its number chosen on validation digits, on the held-out ones."""
    square, known = square_of_norm(data.operator), validation.truth
    found: dict[str, Restored] = {}

    def tuned(
        name: str, grid: tuple[float, ...], run: Callable[[Measured, float], Restored]
    ) -> float:
        best = chosen(name, lambda value: run(validation, value), grid, known)
        found[f"{name} {best:g}"] = run(data, best)
        return best

    def pnp(one: Measured, level: float) -> Restored:
        return by_deepinv(one, deepinv.optim.PnP(denoiser=network), square, level)

    weight = tuned("manifold, prior_weight", PRIOR_WEIGHTS, manifold)
    tuned("relaxed, std", RELAXED, lambda one, std: relaxed(one, weight, std))
    tuned("TV, weight", TV_WEIGHTS, lambda one, w: total_variation(one, w * square, square))
    found["PGD on the manifold"] = by_deepinv(data, as_deepinv_prior(data.prior), square, None)
    tuned("PGD plug-and-play, level", DENOISER_LEVELS, pnp)
    return found


def show(found: dict[str, Restored], truth: Tensor) -> None:
    """A row for each method; *better*: digits on which it beats the manifold solution."""
    ours = psnr(next(iter(found.values())).x, truth)
    table = Table(
        {"": "<32", "mean dB": ".2f", "median": ".2f", "worst": ".2f", "better": "d", "s": "7.1f"}
    )
    for name, result in found.items():
        ratio = psnr(result.x, truth)
        better = int((ratio > ours).sum())
        table.row(name, ratio.mean(), ratio.median(), ratio.min(), better, result.seconds)


def main(
    prior: str = "mnist",
    digits: int = 10,
    validation: int = 5,
    starts: int = 8,
    pool: int = 256,
    denoiser_steps: int = 500,
    denoiser_folder: Path = DENOISER,
    seed: int = 0,
) -> None:
    """Print a table for each problem; the seed is that of digits, noise, masks and samples."""
    warnings.simplefilter("ignore", InconsistentWarning)
    manifold_prior, data = load_prior(prior), load_dataset("mnist")
    network = denoiser(denoiser_folder, denoiser_steps, seed)
    known, truth = (
        part_of(data, split).sample(n, stream(seed, split))[0].to(manifold_prior.dtype)
        for split, n in (("validation", validation), ("held-out", digits))
    )
    nearest = psnr(manifold_prior.decode(locate(manifold_prior, truth)), truth)
    print(f"the point of the manifold nearest to the truth: mean {nearest.mean():.2f} dB")
    options = {"prior": manifold_prior, "starts": InitialPoints(pool, starts)}
    for title, (name, settings, noise) in PROBLEMS.items():
        operator = load_operator(name, manifold_prior.x_shape, **settings)
        print(f"{title}, noise {noise:g}, {digits} held-out digits", flush=True)
        first, second = (
            measure(operator, noise, x, seed=s, **options)
            for x, s in ((known, seed + 1), (truth, seed))
        )
        show(compare(first, second, network), truth)


if __name__ == "__main__":
    typer.run(main)
