"""Search regret: the evidence that a search from the data alone misses, known from one from the truth."""

import warnings
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from joblib import Memory

from onmanifold import InconsistentWarning, Point
from onmanifold.applications.tanks import (
    scaled_posterior,
    tank_operators,
    tank_posterior,
    tank_prior,
    tank_search,
)
from onmanifold.applications.tanks.error_scale import modes_of
from onmanifold.priors.nuisance import MeasurementParameters
from onmanifold.priors.scene import count_probabilities, scene_of
from shared.jobs import in_jobs
from shared.tables import Table
from tanks_parts.cases import Case
from tanks_parts.scenes import HARDER, make_scene
from tanks_parts.scoring import calibrated

LOST = 1.0  # nats: more is a scene that the search should have found


class Regret(NamedTuple):
    """What two searches found in a tank."""

    case: str
    level: int
    harder: bool
    found: float  # the best evidence from the data alone, nats
    from_truth: float  # from the truth's scene
    counted: tuple[bool, bool]  # whether both have the right number of objects
    linearizations: int  # of the search from the data

    @property
    def lost(self) -> float:
        """Nats, none where the search from the data found more."""
        return max(self.from_truth - self.found, 0.0)


def true_scene(case: Case, prior: MeasurementParameters) -> Point:
    """The point of the manifold nearest to the truth, object by object."""
    scene, truth = scene_of(prior), make_scene(case.number)
    alone = (truth._replace(bodies=(body,)).labels() > 0 for body in truth.bodies)
    objects = [
        (body.kind - 1, scene.fit(mask)) for body, mask in zip(truth.bodies, alone, strict=True)
    ]
    return prior.extend(scene.points([objects]))


def regret(folder: Path, cases: Sequence[Case], levels: Sequence[int], jobs: int) -> list[Regret]:
    """The regrets of all cases at all levels; those that the folder lacks are computed."""
    cached = Memory(folder, verbose=0).cache(one_regret, ignore=["case"])

    def work(task: tuple[Case, int]) -> Regret:
        case, level = task
        found: Regret = cached(case.name, level, case)
        return found

    return in_jobs(work, list(product(cases, levels)), jobs, "searches")


def one_regret(name: str, level: int, case: Case) -> Regret:
    """Search from the data, and on from the truth's scene, too; a case is known by its name."""
    tank, measurement = calibrated(case.reference), case.at(level).measurement
    prior = tank_prior()
    operator, draft = tank_operators(tank, prior)
    y = measurement.voltages.flatten()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentWarning)
        search = tank_search(operator, y, prior, draft=draft)
        blind, _ = scaled_posterior(tank.errors(measurement), search, draft)
        known = Point.cat([true_scene(case, prior), modes_of(blind)])
        informed = tank_posterior(
            operator, y, blind.problem.fidelity, prior, draft=draft, known=known
        )
    evidences = (float(found.log_mass.max()) for found in (blind, informed))
    right = [next(iter(count_probabilities(p)[0])) == case.objects for p in (blind, informed)]
    steps = int(blind.problem.counts.linearizations[0])
    return Regret(name, level, case.number >= HARDER, *evidences, (right[0], right[1]), steps)


def summary(found: Sequence[Regret]) -> None:
    """Print by level: the share of cases that lost more than a nat, how much, right numbers of objects."""
    columns = {
        "scenes": "<8", "level": "d", "cases": "d", "lost": ".0%", "median": ".1f", "95 %": ".1f",
        "most": ".1f", "counted": ".0%", "from truth": ".0%", "steps": ".0f",
    }  # fmt: skip
    table = Table(columns)
    for harder, level in product((False, True), dict.fromkeys(each.level for each in found)):
        own = [each for each in found if (each.harder, each.level) == (harder, level)]
        if own:
            lost = np.array([each.lost for each in own])
            right = np.mean([each.counted for each in own], axis=0)
            steps = np.median([each.linearizations for each in own])
            table.row(
                "harder" if harder else "usual", level, len(own), (lost > LOST).mean(),
                *np.quantile(lost, [0.5, 0.95, 1.0]), *right, steps,
            )  # fmt: skip
    for each in sorted(found, key=lambda each: -each.lost):
        if each.lost > LOST:
            print(f"{each.case} level {each.level}: {each.lost:.1f} nats lost")
