"""One training of the table."""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from benchmarks.table_parts.designs import CASES, FIXED, GRIDS, Budget
from onmanifold.priors.datasets import part_of
from onmanifold.priors.training.recipe import Recipe

BATCH = 1000  # pictures that are measured at once


@dataclass(frozen=True)
class Run:
    """What a training depends on.

    Attributes:
        case: name of the block of the table.
        method: name of the training method.
        value: of the number in :data:`GRIDS` that the method chooses.
        learning_rate: largest learning rate.
        seed: of weights, batches and noise.
        budget: what all trainings share.
    """

    case: str
    method: str
    value: float
    learning_rate: float
    seed: int
    budget: Budget

    @property
    def key(self) -> tuple[str, ...]:
        """The run as it stands in a row of the file of results."""
        return tuple(str(value) for value in self.row().values())

    def row(self) -> dict[str, str | float | int]:
        """Columns that tell the run."""
        told, case = asdict(self), CASES[self.case]
        budget = told.pop("budget")
        return told | {"examples": case.examples, "dim": case.dim} | budget

    def recipe(self) -> Recipe:
        """The training as a recipe."""
        case, budget = CASES[self.case], self.budget
        name, _ = GRIDS[self.method]
        loss = FIXED.get(self.method, {})
        return Recipe(
            f"{self.case}-{self.method}",
            {},
            {"name": case.data, "size": case.examples},
            {"dim": case.dim, "options": {"hidden": budget.hidden, "depth": budget.depth}},
            {
                "length": budget.steps,
                "batch_size": budget.batch_size,
                "learning_rate": self.learning_rate,
                "examples": case.examples,
            },
            loss if self.method == "ae" else loss | {name: self.value},
            self.method,
            self.seed,
        )


@dataclass(frozen=True)
class Result:
    """What a training gave.

    Attributes:
        validation: smallest mean squared error per pixel on the validation pictures.
        test: error on the test pictures, with the same weights.
        best: the step at which these weights were reached.
        preparation: seconds before the first step (neighbours, embeddings).
        seconds: of the steps.
    """

    validation: float
    test: float
    best: int
    preparation: float
    seconds: float


def fit(run: Run) -> Result:
    """Train, on one thread, and measure; the seconds are those of the processor.

    The loop is plain, since batches are as small here as the overhead of a trainer is large; batches,
    optimizer, rates and clipping are the method's own.
    """
    torch.set_num_threads(1)
    began = time.process_time()
    torch.manual_seed(run.seed)
    module = run.recipe().prepare()
    check, test = (part_of(module.data, split).x for split in ("validation", "held-out"))
    told = module.configure_optimizers()
    optimizer, scheduler = told["optimizer"], told["lr_scheduler"]["scheduler"]
    prepared = time.process_time()
    measured, best, weights = 0.0, (float("inf"), 0), module.prior.state_dict()
    for step in range(run.budget.steps):
        optimizer.zero_grad()
        module.loss(module.draw(step)).backward()
        module.configure_gradient_clipping()
        optimizer.step()
        scheduler.step()
        if (step + 1) % (run.budget.steps // run.budget.checks) == 0:
            pause = time.process_time()
            reached = error(module.prior, check), step + 1
            if reached < best:
                best, weights = reached, deepcopy(module.prior.state_dict())
            measured += time.process_time() - pause
    spent = time.process_time() - prepared - measured
    module.prior.load_state_dict(weights)
    return Result(best[0], error(module.prior, test), best[1], prepared - began, spent)


@torch.no_grad()
def error(model: nn.Module, x: Tensor) -> float:
    """Mean squared error per pixel of reconstructed pictures."""
    parts = [model.decoder(model.encoder(part)) - part for part in x.split(BATCH)]
    return float(torch.cat(parts).square().mean())
