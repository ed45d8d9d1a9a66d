"""How often the checks of water tanks find a bad channel, and how often they take a good one for bad.

    python benchmarks/bad_channels.py --tanks FOLDER [--real FOLDER] [--faults 4]

FOLDER holds simulated scenes (``python benchmarks/tanks.py make``), ``--real`` the files of the challenge.
Each case gets faults of one kind at a time, in the measurement or in the reference: two channels
swapped, one saturated, dead, or ten times as noisy. Printed are the shares found, and how many channels are
wrongly flagged.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch

import numpy as np
import torch
from torch import Tensor

from onmanifold.operators.eit import (
    EIT,
    Measurement,
    check_against,
    check_reference,
    ktc,
    noise_std,
)
from tanks_parts.cases import Case, load_cases, load_real

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
        return set(reference.bad) | set(
            check_against(case.reference, case.measurement, case.name).bad
        )


def spoiled_case(
    case: Case, level: int, kind: str, where: str, seed: list[int]
) -> tuple[Case, set[int]]:
    """The case with a fault, and the channels that have it."""
    source = np.random.default_rng(seed)
    cut = case.at(level)
    good = sorted(set(np.flatnonzero(cut.measurement.mask.any(0))) - set(case.bad))
    channels = source.choice(good, 2 if kind == "swapped" else 1, replace=False)
    old: Measurement = getattr(cut, where)
    new = torch.where(old.mask, spoil(old.voltages, kind, channels, source), 0.0)
    return replace(cut, **{where: replace(old, voltages=new)}), set(channels.tolist())


def main() -> None:
    """Read the arguments, spoil every case, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tanks", type=Path, help="folder of simulated scenes")
    parser.add_argument("--scenes", type=int, default=30, help="how many of them")
    parser.add_argument("--real", type=Path, help="folder with ref.mat, data1.mat, ...")
    parser.add_argument("--faults", type=int, default=4, help="of each kind, place, level and case")
    arguments = parser.parse_args()
    groups = {}
    if arguments.real:
        groups["measured"] = load_real(arguments.real)
    if arguments.tanks:
        groups["simulated"] = load_cases(arguments.tanks, range(arguments.scenes))
    model = EIT(ktc.tank(), ktc.protocol(), (8, 8))
    predicted = model.A(torch.full((1, 8, 8), 0.79, dtype=torch.float64))[0]
    print("group      level  fault in     " + "".join(f"{kind:>11}" for kind in KINDS) + "   false")
    for group, cases in groups.items():
        for level in LEVELS:
            clean = {case.name: flagged(case.at(level), predicted) for case in cases}
            false = sum(len(clean[case.name] - set(case.bad)) for case in cases)
            print(f"{group:10} {level:5}  {'none':12}{'':44}{false:8}")
            for where in ("measurement", "reference"):
                found, false = defaultdict(list), 0
                for number, case in enumerate(cases):
                    for kind in KINDS:
                        for k in range(arguments.faults):
                            seed = [level, number, KINDS.index(kind), k]
                            bad, those = spoiled_case(case, level, kind, where, seed)
                            flags = flagged(bad, predicted)
                            found[kind].append(those <= flags)
                            false += len(flags - those - set(case.bad))
                shares = "".join(f"{np.mean(found[kind]):11.1%}" for kind in KINDS)
                print(f"{group:10} {level:5}  {where:12} {shares}{false:8}", flush=True)


if __name__ == "__main__":
    main()
