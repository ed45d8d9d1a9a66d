"""How often the checks of water tanks find a bad channel, and how often they take a good one for bad.

Run ``python benchmarks/bad_channels.py``, on the measured tanks in $ONMANIFOLD_DATA and on simulated ones
(those of ``benchmarks/tanks.py``). Each case gets faults of one kind at a time, in the measurement or in the
reference: two channels swapped, one saturated, dead, or ten times as noisy. Printed are the shares found, and
how many channels are wrongly flagged.
"""

import os
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch

import numpy as np
import torch
import typer
from torch import Tensor

from onmanifold.operators.eit import (
    Measurement,
    check_against,
    check_reference,
    homogeneous_voltages,
    ktc,
    noise_std,
)
from shared.tables import Table
from tanks_parts.cases import SIMULATED, Case, load_cases, load_real, measured_tanks

KINDS = ("swapped", "saturated", "dead", "noisy")
LEVELS = (1, 4, 7)


def spoil(voltages: Tensor, kind: str, channels: np.ndarray, source: np.random.Generator) -> Tensor:
    """Voltages ``(76, 31)`` with a fault in a channel, or two swapped."""
    spoiled, channel = voltages.clone(), channels[0]
    noise = torch.from_numpy(source.standard_normal(len(voltages)))
    if kind == "swapped":
        spoiled[:, channels] = voltages[:, channels[::-1].copy()]
    elif kind == "saturated":
        most = voltages[:, channel].abs().quantile(source.uniform(0.4, 0.8))
        spoiled[:, channel] = voltages[:, channel].clamp(-most, most)
    elif kind == "dead":
        spoiled[:, channel] = 1e-4 * voltages.abs().max() * noise
    else:
        spoiled[:, channel] += 10 * noise_std(voltages)[:, channel] * noise
    return spoiled


def flagged(case: Case, predicted: Tensor) -> set[int]:
    """Channels that either check calls bad."""
    with warnings.catch_warnings(action="ignore"):
        reference = check_reference(case.reference, predicted, case.name)
        measurement = check_against(case.reference, case.measurement, case.name)
    return {*reference.bad, *measurement.bad}


def spoiled_case(cut: Case, kind: str, where: str, seed: list[int]) -> tuple[Case, set[int]]:
    """The case with a fault, and the channels that have it."""
    source = np.random.default_rng(seed)
    good = sorted(set(np.flatnonzero(cut.measurement.mask.any(0))) - set(cut.bad))
    channels = source.choice(good, 2 if kind == "swapped" else 1, replace=False)
    old: Measurement = getattr(cut, where)
    new = torch.where(old.mask, spoil(old.voltages, kind, channels, source), 0.0)
    return cut._replace(**{where: replace(old, voltages=new)}), set(channels.tolist())


def report(table: Table, group: str, cases: Sequence[Case], level: int, faults: int) -> None:
    """Print the rows of a level: without faults, and with so many of each kind, place and case."""
    predicted = homogeneous_voltages(ktc.tank(), ktc.protocol(), ktc.WATER_CONDUCTIVITY)
    cut = [case.at(level) for case in cases]
    false = sum(len(flagged(case, predicted) - set(case.bad)) for case in cut)
    table.row(group, level, "none", *[""] * len(KINDS), false)
    for where in ("measurement", "reference"):
        found, false = defaultdict(list), 0
        for (number, case), (kind, name), k in product(
            enumerate(cut), enumerate(KINDS), range(faults)
        ):
            bad, those = spoiled_case(case, name, where, [level, number, kind, k])
            flags = flagged(bad, predicted)
            found[name].append(those <= flags)
            false += len(flags - those - set(case.bad))
        table.row(group, level, where, *(np.mean(found[kind]) for kind in KINDS), false)


def main(scenes: int = 30, faults: int = 4, folder: Path = SIMULATED) -> None:
    """Spoil every case, the first so many simulated scenes in the folder among them, and print a table."""
    groups = {"measured": load_real()} if measured_tanks().is_dir() else {}
    groups["simulated"] = load_cases(folder, range(scenes))
    shares = dict.fromkeys(KINDS, ".1%")
    table = Table({"group": "<9", "level": "d", "fault in": "<11"} | shares | {"false": "d"})
    for (group, cases), level in product(groups.items(), LEVELS):
        if cases:
            report(table, group, cases, level, faults)


if __name__ == "__main__":
    typer.run(main)
