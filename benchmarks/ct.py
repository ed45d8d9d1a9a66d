"""Holes in simulated and measured disks, from arcs of 30 to 90 degrees.

Run ``python benchmarks/ct.py [scene] [binary] [tv] [fbp]``: Matthews correlation, numbers of holes, seconds,
and how often pixels are material by the probability that they were given. Phantoms from 1000 on are those
that numbers were chosen on; the ones below are for evaluation. ``--real`` takes the measured disks in
$ONMANIFOLD_DATA instead. Results are kept as they are made (in runs/ct): a run that was interrupted goes on
where it stopped. Delete that folder where the package has changed.
"""

import os
import time
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: one process a core

import numpy as np
import typer
from joblib import Memory
from numpy.typing import NDArray

from ct_parts.methods import METHODS
from ct_parts.phantoms import Phantom, make_phantom
from ct_parts.simulation import simulate
from onmanifold.operators.ct import CalibratedScanner, Sinogram, calibrate_disk, htc
from shared.jobs import in_jobs
from shared.options import one_of
from shared.tables import Table

MethodName = one_of(METHODS)
SCENE = MethodName("scene")
REAL = ("ta_30", "td_30", "ta_60")
RESULTS = Path(__file__).resolve().parents[1] / "runs" / "ct"
EDGES = np.linspace(0, 1, 11)  # of the bins of probabilities


class Case(NamedTuple):
    """A disk to reconstruct."""

    name: str
    arc: float
    scanner: CalibratedScanner
    data: Sinogram
    truth: NDArray[np.bool_]
    holes: int


class Score(NamedTuple):
    """What a method made of a case."""

    method: str
    case: str
    arc: float
    score: float
    counted: bool
    consistent: bool
    seconds: float
    bins: NDArray[np.float64]  # pixels and material in each bin of probabilities, (2, 10)


def simulated(number: int, arc: float) -> Case:
    """A phantom, measured over an arc, and a solid disk over 30 degrees."""
    scanner = calibrate_disk(simulate(Phantom(0, (), ()), 30.0).data)
    phantom = make_phantom(number)
    made = simulate(phantom, arc)
    truth = phantom.mask(complex(*made.disk.centre), made.disk.radius, htc.SIZE, htc.PIXEL)
    return Case(str(number), arc, scanner, made.data, truth, len(phantom.holes))


def measured(name: str) -> Case:
    """One of the challenge's disks."""
    folder = Path(os.environ["ONMANIFOLD_DATA"]) / "htc2022"
    scanner = calibrate_disk(htc.read(folder / "solid_30.mat"))
    truth = htc.read_truth(folder / f"{name[:2]}_true.png")
    holes = {"ta": 8, "td": 4}[name[:2]]
    return Case(name, float(name[3:]), scanner, htc.read(folder / f"{name}.mat"), truth, holes)


@lru_cache(maxsize=1)  # for all methods
def load(name: str, arc: float) -> Case:
    """A measured disk, or a phantom by its number."""
    return measured(name) if name in REAL else simulated(int(name), arc)


def run(folder: Path, methods: list[str], task: tuple[str, float]) -> list[Score]:
    """All methods on one case; those that the folder lacks."""
    cached = Memory(folder, verbose=0).cache(reconstruct)
    return [cached(method, *task) for method in methods]


def reconstruct(method: str, name: str, arc: float) -> Score:
    """A method on a case."""
    case = load(name, arc)
    began = time.perf_counter()
    found = METHODS[method](case.scanner, case.data)
    seconds = time.perf_counter() - began
    bins = np.zeros((2, 10))
    if found.probabilities is not None:
        place = np.digitize(found.probabilities.ravel(), EDGES[1:-1])
        truth = case.truth.ravel().astype(float)
        bins = np.stack([np.bincount(place, w, minlength=10) for w in (None, truth)])
    score, counted = htc.score(found.material, case.truth), found.holes == case.holes
    return Score(method, name, case.arc, score, counted, found.consistent, seconds, bins)


def summary(scores: list[Score]) -> None:
    """Means by method and arc."""
    columns = {"method": "<8", "arc": "4.0f", "disks": "5d", "mean": "6.4f", "least": "6.4f"}
    table = Table(columns | {"counted": "7.0%", "consistent": "10.0%", "median s": "8.1f"})
    for method, arc in sorted({(s.method, s.arc) for s in scores}):
        some = [s for s in scores if (s.method, s.arc) == (method, arc)]
        values = [s.score for s in some]
        shares = (float(np.mean([getattr(s, n) for s in some])) for n in ("counted", "consistent"))
        seconds = float(np.median([s.seconds for s in some]))
        table.row(method, arc, len(some), float(np.mean(values)), min(values), *shares, seconds)


def calibration(scores: list[Score]) -> None:
    """Shares of material by the probability that pixels were given."""
    bins = sum(s.bins for s in scores if s.bins.any())
    if np.any(bins):
        print("\nprobability of material, share of pixels, share that is material")
        table = Table({"from": "4.1f", "to": "4.1f", "pixels": "8.5f", "material": "8.3f"})
        for low, high, count, right in zip(EDGES, EDGES[1:], *bins, strict=False):
            table.row(low, high, count / bins[0].sum(), right / max(count, 1.0))


def main(
    methods: Annotated[list[MethodName], typer.Argument()] = (SCENE,),
    phantoms: int = 40,
    first: int = 0,
    arcs: Annotated[list[float], typer.Option()] = (30.0, 50.0, 90.0),
    real: bool = False,
    folder: Path = RESULTS,
    jobs: int = 1,
) -> None:
    """Reconstruct so many phantoms from number ``first`` on, or the measured disks, and print."""
    numbers = range(first, first + phantoms)
    tasks = [(name, 0.0) for name in REAL] if real else [(str(n), a) for a in arcs for n in numbers]
    names = [str(method.value) for method in methods]
    results = in_jobs(partial(run, folder, names), tasks, jobs, "disks")
    scores = [score for some in results for score in some]
    each = Table({"method": "<8", "disk": "<6", "arc": "4.0f", "score": "6.4f", "s": "6.1f"})
    for s in scores:
        each.row(s.method, s.case, s.arc, s.score, s.seconds)
    print()
    summary(scores)
    calibration(scores)


if __name__ == "__main__":
    typer.run(main)
