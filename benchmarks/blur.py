"""Time the three ways to blur, and what the rule of ``onmanifold.operators.Blur`` makes of them.

Run: ``python benchmarks/blur.py [--threads 1] [--dtype float32] [--device cpu]``. Prints milliseconds an
image for each way, the way that ``auto`` takes and how far from the fastest it is.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable

import torch

from onmanifold.operators import Blur, gaussian_kernel

METHODS = ("spatial", "fft", "separable")
SIZES = (32, 64, 128, 256, 512)
TAPS = (3, 5, 7, 15, 40, 91)
BATCHES = (1, 16)
BOUNDARIES = ("zero", "reflect", "circular")


def seconds(run: Callable[[], object], device: torch.device, budget: float = 0.1) -> float:
    """Fastest of several runs of ``run``."""
    best = math.inf
    run()
    started = time.perf_counter()
    while best == math.inf or time.perf_counter() - started < budget:
        begin = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begin)
    return best


def measure(
    n: int, taps: int, batch: int, boundary: str, like: torch.Tensor
) -> tuple[dict[str, float], str]:
    """Seconds an image for each way, and the way that ``auto`` takes."""
    kernel = gaussian_kernel(taps, std=taps / 4, dtype=like.dtype)
    x = torch.rand((batch, n, n), dtype=like.dtype, device=like.device)
    times = {}
    for method in METHODS:
        if method == "spatial" and (n * taps) ** 2 * batch > 1e8:
            continue  # takes long, and is never the fastest there
        blur = Blur(kernel, (n, n), boundary, method).to(like.device)
        both = seconds(lambda blur=blur: (blur.A(x), blur.A_adjoint(x)), like.device)
        times[method] = both / (2 * batch)
    return times, Blur(kernel, (n, n), boundary).method


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    like = torch.empty(0, dtype=getattr(torch, options.dtype), device=options.device)
    losses = []
    print(f"{'image':>6} {'taps':>5} {'batch':>5} {'boundary':>9}", *(f"{m:>10}" for m in METHODS))
    for n, taps, batch, boundary in itertools.product(SIZES, TAPS, BATCHES, BOUNDARIES):
        times, chosen = measure(n, taps, batch, boundary, like)
        losses.append(times[chosen] / min(times.values()))
        cells = (f"{1e3 * times[m]:10.3f}" if m in times else f"{'-':>10}" for m in METHODS)
        print(f"{n:6} {taps:5} {batch:5} {boundary:>9}", *cells, f"  {chosen} x{losses[-1]:.1f}")
    losses.sort()
    middle = losses[len(losses) // 2]
    print(f"auto against the fastest: median x{middle:.2f}, worst x{losses[-1]:.2f}")


if __name__ == "__main__":
    main()
