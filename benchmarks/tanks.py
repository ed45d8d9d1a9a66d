"""Methods of reconstruction on simulated water tanks that are as wrong as real ones.

Run ``python benchmarks/tanks.py [linear] [image] [scene] [fourier]``. Prints scores, counts, times, and how
often pixels are of a class by the probability that they were given. Voltages are simulated once and kept,
results as they are made (in runs/tanks): a run that was interrupted goes on where it stopped. ``--harder``
takes scenes of three to five objects, half of them far from round, ``--real`` the four measured tanks in
$ONMANIFOLD_DATA. ``image`` needs a prior that is not shipped: ``onmanifold train tank --output FOLDER/tank``,
with FOLDER in $ONMANIFOLD_PRIORS.

``python benchmarks/tanks.py regret`` prints how much less evidence the search finds from the data alone than
one that starts at the truth's scene.
"""

import os
from pathlib import Path
from typing import Annotated

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: one process a core

import torch
import typer

from shared.options import one_of
from tanks_parts import cases, regret, scoring
from tanks_parts.methods import DATA_TERMS, METHODS
from tanks_parts.scenes import HARDER

REGRET = "regret"
MethodName = one_of([*METHODS, REGRET])
DataTerm = one_of(DATA_TERMS)
LINEAR, TRANSFER = MethodName("linear"), DataTerm("transfer")


def main(
    methods: Annotated[list[MethodName], typer.Argument()] = (LINEAR,),
    scenes: int = 60,
    levels: Annotated[list[int], typer.Option(min=1, max=7)] = (1, 4, 7),
    data: DataTerm = TRANSFER,
    harder: bool = False,
    real: bool = False,
    folder: Path = cases.SIMULATED,
    jobs: int = 1,
) -> None:
    """Reconstruct the first so many scenes, or measured tanks, at levels of the challenge, and print."""
    torch.set_num_threads(1)
    first = HARDER if harder else 0
    numbers = range(first, first + scenes)
    chosen = cases.load_real() if real else cases.load_cases(folder, numbers, jobs)
    if REGRET in methods:
        if real:
            raise typer.BadParameter("regret needs scenes whose every object is known")
        regret.summary(regret.regret(folder / "regret", chosen, levels, jobs))
        methods = [method for method in methods if method != REGRET]
    if not methods:
        return
    names = [method.value for method in methods]  # results are known by them
    found = scoring.run(folder / "results", names, data.value, chosen, levels, jobs)
    scoring.summary(found)
    print("\nshare of pixels that are of a class, by the probability that they were given")
    scoring.calibration(found)


if __name__ == "__main__":
    typer.run(main)
