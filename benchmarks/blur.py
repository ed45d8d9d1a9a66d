"""Time the three ways to blur, and what the rule of ``onmanifold.operators.Blur`` makes of them.

Run: ``python benchmarks/blur.py [--threads 1] [--dtype float32] [--device cpu]``. Prints milliseconds an
image for each way, the way that ``auto`` takes and how far from the fastest it is.
"""

from itertools import product

import torch
import typer

from onmanifold.operators import Blur, gaussian_kernel
from shared.tables import Table
from shared.timing import seconds_of

METHODS = ("spatial", "fft", "separable")
SIZES = (32, 64, 128, 256, 512)
TAPS = (3, 5, 7, 15, 40, 91)
BATCHES = (1, 16)
BOUNDARIES = ("zero", "reflect", "circular")


def fastest(blur: Blur, x: torch.Tensor, budget: float = 0.1) -> float:
    """Fewest milliseconds an image of ``A`` or its adjoint, in runs of at least 0.1 s."""

    def both() -> None:
        blur.A(x)
        blur.A_adjoint(x)
        if x.is_cuda:
            torch.cuda.synchronize()

    seconds_of(both)
    times = [seconds_of(both)]
    while sum(times) < budget:
        times.append(seconds_of(both))
    return 1000 * min(times) / (2 * len(x))


def main(threads: int = 1, dtype: str = "float32", device: str = "cpu") -> None:
    """Measure and print."""
    torch.set_num_threads(threads)
    kind, losses = getattr(torch, dtype), []
    columns = {"image": "d", "taps": "d", "batch": "d", "boundary": "9"}
    table = Table(columns | dict.fromkeys(METHODS, "10.3f") | {"auto": "<", "times": ".1f"})
    for n, taps, batch, boundary in product(SIZES, TAPS, BATCHES, BOUNDARIES):
        kernel = gaussian_kernel(taps, std=taps / 4, dtype=kind)
        x, times = torch.rand((batch, n, n), dtype=kind, device=device), {}
        for method in METHODS:
            if method == "spatial" and (n * taps) ** 2 * batch > 1e8:
                continue  # takes long, and is never the fastest there
            times[method] = fastest(Blur(kernel, (n, n), boundary, method).to(device), x)
        chosen = Blur(kernel, (n, n), boundary).method
        losses.append(times[chosen] / min(times.values()))
        cells = (times.get(method, "-") for method in METHODS)
        table.row(n, taps, batch, boundary, *cells, chosen, losses[-1])
    losses.sort()
    middle = losses[len(losses) // 2]
    print(f"auto against the fastest: median x{middle:.2f}, worst x{losses[-1]:.2f}")


if __name__ == "__main__":
    typer.run(main)
