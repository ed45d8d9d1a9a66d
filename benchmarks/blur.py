"""Time the three ways to blur, fit the cost rule of ``onmanifold.operators.Blur`` and judge it.

Run: ``python benchmarks/blur.py [--threads 1] [--dtype float32] [--device cpu]``. Prints milliseconds an
image for each way, the way the rule takes and how far from the fastest it is, and the constants that fit
these times best (``COST_*`` in ``operators/_convolution.py``; only their ratios matter).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import torch

from onmanifold.operators import Blur, gaussian_kernel
from onmanifold.operators._convolution import Fourier, Separable, Spatial

WAYS = {"spatial": Spatial, "fft": Fourier, "separable": Separable}
SIZES = (32, 64, 128, 256, 512)
TAPS = (3, 5, 7, 15, 40, 91)
BATCHES = (1, 16)


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
) -> tuple[dict[str, float], dict[str, float], str]:
    """Seconds and unscaled cost of each way, and the way that ``auto`` takes."""
    kernel = gaussian_kernel(taps, std=taps / 4, dtype=like.dtype)
    x = torch.rand((batch, n, n), dtype=like.dtype, device=like.device)
    times, costs = {}, {}
    for name, way in WAYS.items():
        costs[name] = way.work((taps, taps), (n, n), boundary)
        if name == "spatial" and costs[name] * batch > 2e8:
            continue  # takes long, and is never the fastest there
        blur = Blur(kernel, (n, n), boundary, name).to(like.device)
        times[name] = seconds(lambda blur=blur: (blur.A(x), blur.A_adjoint(x)), like.device)
        times[name] /= 2 * batch
    return times, costs, Blur(kernel, (n, n), boundary).method


def main() -> None:
    """Measure, print, fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    like = torch.empty(0, dtype=getattr(torch, options.dtype), device=options.device)
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    losses = []
    print(
        f"{'image':>6} {'taps':>5} {'batch':>5} {'boundary':>9}",
        *(f"{w:>10}" for w in WAYS),
        "  auto",
    )
    for n in SIZES:
        for taps in TAPS:
            for batch in BATCHES:
                for boundary in ("zero", "reflect", "circular"):
                    times, costs, chosen = measure(n, taps, batch, boundary, like)
                    for name, t in times.items():
                        rates[name].append(t / costs[name])
                    loss = times[chosen] / min(times.values())
                    losses.append(loss)
                    cells = (
                        f"{1e3 * times[w]:10.3f}" if w in times else f"{'-':>10}" for w in WAYS
                    )
                    print(
                        f"{n:6} {taps:5} {batch:5} {boundary:>9}", *cells, f"  {chosen} x{loss:.1f}"
                    )
    losses.sort()
    print(
        f"auto against the fastest: median x{losses[len(losses) // 2]:.2f}, worst x{losses[-1]:.2f}"
    )
    for name, values in rates.items():
        values.sort()
        print(f"COST_{name.upper()} = {1e9 * values[len(values) // 2]:.3g} ns (median)")


if __name__ == "__main__":
    main()
