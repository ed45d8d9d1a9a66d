"""Each main job, its floor, and what a busy machine does to it: ``python benchmarks/speed.py [PART ...]``.

Parts: ``jobs`` (bars, digits, two balls), ``digits`` (one alone, and many in a call), ``start`` (the
first solve of a process), ``growth`` (more bars, more starts), ``tank`` (measured tanks by scenes) and
``peers`` (the same work by other packages).

- *seconds*: of one call, the least of three;
- *operator and networks*: the part of it inside the operator, the networks and their derivatives: the floor;
- *outside*: the rest, as a share;
- *busy*: seconds beside as many processes that only count as there are cores less one, over those without.

Figures are those of one run on one machine: ratios hold elsewhere, seconds do not.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any

import torch
import typer

from balls import Balls
from bars import NOISE, blurred_bars
from descent_parts.clock import clock_on
from onmanifold import Fidelity, Gaussian, InitialPoints, load_prior, simulate, solve
from onmanifold.applications import tanks
from onmanifold.operators.eit import calibrate_tank, ktc
from onmanifold.operators.mask import from_options as random_mask
from onmanifold.priors.datasets import stream
from shared.options import one_of
from shared.tables import Table
from shared.timing import seconds_of, side_by_side
from tanks_parts.cases import load_real, measured_tanks

Job = tuple[str, Any, torch.Tensor, Any, Fidelity]
PARTS = ("jobs", "digits", "start", "growth", "tank", "peers")


def jobs() -> Iterator[Job]:
    """Name, operator, measurements, prior and fidelity of each."""
    _, _, blur, y = blurred_bars(20)
    yield "20 bars", blur, y, load_prior("bar"), Gaussian(NOISE)
    for count in (1, 20):
        yield f"{count} digits inpainted", *masked_digits(count)
    made = Balls.make(2, 0)
    yield (
        "2 pairs of balls",
        made.operator,
        made.measurement,
        load_prior("two-balls"),
        Gaussian(made.std),
    )


def masked_digits(count: int) -> tuple[Any, torch.Tensor, Any, Fidelity]:
    """Operator, measurements, prior and fidelity of digits of which half was seen."""
    prior = load_prior("mnist")
    truth = prior.decode(prior.sample(count, stream(0, "held-out")))
    mask = random_mask(prior.x_shape, keep=0.5)
    return mask, simulate(mask, truth, 0.05, 0), prior, Gaussian(0.05)


@contextmanager
def busy_machine() -> Iterator[None]:
    """Processes that compute on all cores but one, and at least one."""
    endless = [sys.executable, "-S", "-c", "while True: pass"]
    others = [subprocess.Popen(endless) for _ in range(max((os.cpu_count() or 1) - 1, 1))]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def print_jobs() -> None:
    """Seconds of each job, its floor, and the same on a busy machine."""
    floor = {"operator and networks": "7.2f", "outside": ".0%"}
    table = Table({"job": "<22", "seconds": "7.2f"} | floor | {"busy": ".2f"})
    for name, operator, y, prior, fidelity in jobs():
        work = partial(solve, operator, y, prior, fidelity=fidelity)
        work()
        idle = min(seconds_of(work) for _ in range(3))
        with busy_machine():
            beside = min(seconds_of(work) for _ in range(3))
        with clock_on(operator, prior, prior.sample(1, 0)) as clock:
            total = seconds_of(work)
        table.row(name, idle, clock.seconds, 1 - clock.seconds / total, beside / idle)


def print_digits() -> None:
    """Seconds of a digit alone and among many, by all starts and where halving drops some.

    *Higher*: digits that end more than half a nat higher for it.
    """
    mask, y, prior, fidelity = masked_digits(1000)

    def objectives(rows: torch.Tensor, starts: InitialPoints | None) -> torch.Tensor:
        return solve(mask, rows, prior, fidelity=fidelity, starts=starts).objective

    objectives(y[:1], None)
    table = Table({"digits": "6d", "halve_after": "<11", "seconds each": "12.2f", "higher": "6.1%"})
    for parts in (y[:12].split(1), (y[:100],), (y,)):
        count, best = len(parts[0]), torch.cat([objectives(rows, None) for rows in parts])
        for halve in (None, 4, 2):
            starts = InitialPoints(halve_after=halve)
            began = time.perf_counter()
            found = torch.cat([objectives(rows, starts) for rows in parts])
            seconds = (time.perf_counter() - began) / len(found)
            higher = (found > best + 0.5).float().mean()
            table.row(count, str(halve or "none"), seconds, higher)


FIRST = """
import sys, time
start = time.perf_counter()
import torch
began = time.perf_counter()
import onmanifold
imported = time.perf_counter() - began
from onmanifold import Gaussian, load_prior, solve
from onmanifold.operators import Blur, gaussian_kernel
prior = load_prior("bar")
operator = Blur(gaussian_kernel(40, 15.0), prior.x_shape)
y = operator.A(prior.decode(prior.sample(3, 0)).detach())
times = []
for _ in range(3):
    began = time.perf_counter()
    solve(operator, y, prior, fidelity=Gaussian(0.1))
    times.append(time.perf_counter() - began)
heavy = [name for name in ("sympy", "torch._dynamo", "torch.distributed.fsdp") if name in sys.modules]
print(f"import of the package over torch's: {imported:.2f} s")
print(f"three bars: first solve {times[0]:.2f} s, then {times[1]:.2f} and {times[2]:.2f} s")
print(f"imported on the way: {', '.join(heavy) or 'no compiler'}")
"""


def print_start() -> None:
    """The first solve of a fresh process against the next."""
    subprocess.run([sys.executable, "-c", FIRST], check=True)


def print_growth() -> None:
    """Seconds for each bar, and for each descent, of more and more at once."""
    _, _, blur, y = blurred_bars(64)
    prior = load_prior("bar")
    table = Table({"bars": "d", "starts": "d", "seconds each": "8.3f", "each start": "8.4f"})
    for count, starts in ((1, 8), (4, 8), (16, 8), (64, 8), (16, 2), (16, 32)):
        pool = InitialPoints(max(64, starts), starts)
        work = partial(solve, blur, y[:count], prior, fidelity=Gaussian(NOISE), starts=pool)
        each = min(seconds_of(work) for _ in range(2)) / count
        table.row(count, starts, each, each / starts)


def print_tanks() -> None:
    """Measured tanks by scenes, one core: calibration and reconstruction."""
    if not measured_tanks().is_dir():
        print(f"tank: no measured data in {measured_tanks()}, set ONMANIFOLD_DATA: skipped")
        return
    table = Table({"tank": "<8", "level": "d", "calibration": ".1f", "reconstruction": ".1f"})
    prior = tanks.tank_prior()
    for case in load_real():
        for level in (1, 4, 7):
            began = time.perf_counter()
            tank = calibrate_tank(ktc.tank(), case.reference)
            calibrated = time.perf_counter() - began
            found = tanks.reconstruct(tank, case.at(level).measurement, prior)
            table.row(case.name, level, calibrated, found.seconds)


def print_peers() -> None:
    """The same work by another package, called in turns: its time over ours."""
    import deepinv
    from pymanopt.optimizers import TrustRegions

    from onmanifold.interfaces.pymanopt import LearnedManifold, as_problem

    _, _, blur, y = blurred_bars(20)
    x = torch.rand(20, *blur.x_shape)
    kernel = blur.kernel[None, None]
    theirs = deepinv.physics.BlurFFT(tuple(blur.x_shape), filter=kernel)
    works: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "blur of 20 images, deepinv BlurFFT": (lambda: blur.A(x), lambda: theirs.A(x)),
        "its adjoint": (lambda: blur.A_vjp(x, y), lambda: theirs.A_adjoint(y)),
    }
    prior, one = load_prior("bar"), y[:1]
    manifold = LearnedManifold(prior)
    problem = as_problem(manifold, blur, one, Gaussian(NOISE))
    start = prior.sample(8, 1)
    start = start.select((start.chart == 0).nonzero()[:1, 0])
    trust = TrustRegions(verbosity=0)
    works["a bar from one start, pymanopt's trust regions"] = (
        partial(solve, blur, one, prior, fidelity=Gaussian(NOISE), starts=start),
        lambda: trust.run(problem, initial_point=start.z[0].double().numpy()),
    )
    table = Table({"work": "<48", "ms": ".1f", "peer, ms": ".1f", "ratio": ".1f"})
    for name, (own, other) in works.items():
        mine, their = side_by_side(own, other, repeats=5)
        table.row(name, mine, their, their / mine)


Part = one_of(PARTS)


def main(parts: Annotated[list[Part], typer.Argument()] = tuple(Part)) -> None:
    """Print the tables of the parts."""
    torch.manual_seed(0)
    printers = {
        "jobs": print_jobs,
        "digits": print_digits,
        "start": print_start,
        "growth": print_growth,
        "tank": print_tanks,
        "peers": print_peers,
    }
    for part in parts:
        print(f"\n{part}")
        printers[part]()


if __name__ == "__main__":
    typer.run(main)
