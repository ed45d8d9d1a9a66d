"""Results in a file, and what is missing there trained side by side."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, fields
from multiprocessing import get_context
from pathlib import Path

from benchmarks.table_parts.fitting import Result, Run, fit


class Records:
    """Results by their runs, kept in a CSV file: what is there is not trained again.

    Args:
        file: where they are kept.

    Raises:
        ValueError: a file of another kind.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.results = file, dict[tuple[str, ...], Result]()
        if not file.exists():
            return
        with open(file, newline="") as stream:
            for row in csv.DictReader(stream):
                self._read(row)

    def _read(self, row: dict[str, str]) -> None:
        names = [field.name for field in fields(Result)]
        if not set(names) <= set(row):
            raise ValueError(
                f"{self.file}: expected columns {', '.join(names)}, got {', '.join(row)}"
            )
        validation, test, best, preparation, seconds = (float(row[name]) for name in names)
        key = tuple(value for name, value in row.items() if name not in names)
        self.results[key] = Result(validation, test, int(best), preparation, seconds)

    def of(self, run: Run) -> Result | None:
        """The result of a run, if there is one."""
        return self.results.get(run.key)

    def train(self, runs: Iterable[Run], jobs: int) -> None:
        """Train what is missing, ``jobs`` runs at a time, and write each down as it ends."""
        missing = [run for run in runs if self.of(run) is None]
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            started = {pool.submit(fit, run): run for run in missing}
            for number, done in enumerate(as_completed(started), 1):
                run, result = started[done], done.result()
                self._add(run, result)
                print(
                    f"{number:4d} of {len(missing)}  {run.case:9s} {run.method:10s} {run.value:<7g} "
                    f"seed {run.seed}  validation {result.validation:.5f}  test {result.test:.5f}  "
                    f"best at {result.best}  {result.preparation:.0f} + {result.seconds:.0f} s",
                    flush=True,
                )

    def _add(self, run: Run, result: Result) -> None:
        row = run.row() | asdict(result)
        new = not self.file.exists()
        with open(self.file, "a", newline="") as stream:
            writer = csv.DictWriter(stream, row)
            if new:
                writer.writeheader()
            writer.writerow(row)
        self.results[run.key] = result
