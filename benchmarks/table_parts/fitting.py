"""One training of the table."""

import time
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from onmanifold.priors.datasets import part_of
from onmanifold.priors.training.recipe import Recipe
from table_parts.designs import BLOCKS, FIXED, GRIDS

NETWORK = {"hidden": 256, "depth": 2}  # of encoder and decoder
STEPS, BATCH_SIZE = 4000, 64
CHECKS = 10  # how often the validation error is measured; the weights of the best are kept


class Training(NamedTuple):
    """What a training depends on."""

    block: str
    method: str
    value: float  # of the number in GRIDS that the method chooses
    learning_rate: float
    seed: int  # of weights, batches and noise
    steps: int = STEPS

    def recipe(self) -> Recipe:
        """The training as a recipe."""
        block, name = BLOCKS[self.block], GRIDS[self.method][0]
        loss = FIXED.get(self.method, {})
        schedule = {
            "length": self.steps,
            "batch_size": BATCH_SIZE,
            "learning_rate": self.learning_rate,
            "examples": block.examples,
        }
        return Recipe(
            f"{self.block}-{self.method}",
            {},
            {"name": block.data, "size": block.examples},
            {"dim": block.dim, "options": NETWORK},
            schedule,
            loss if self.method == "ae" else loss | {name: self.value},
            self.method,
            self.seed,
        )


def fit(training: Training) -> dict[str, float]:
    """Train on one thread, and measure; the seconds are those of the processor.

    The loop is plain, since batches are as small here as the overhead of a trainer is large. Batches,
    optimizer, rates and clipping are the method's own.

    Returns:
        ``validation``: smallest mean squared error per pixel on the validation images; ``test``: that on
        the test images with the same weights; ``best``: the step that reached them; ``preparation``: seconds
        before the first step (neighbours, embeddings); ``seconds`` of the steps.
    """
    began = time.process_time()
    torch.manual_seed(training.seed)
    module = training.recipe().prepare()
    check, test = (part_of(module.data, split).x for split in ("validation", "held-out"))
    optimizer = module.make_optimizer()
    prepared = time.process_time()
    measured, best, weights = 0.0, (float("inf"), 0), module.prior.state_dict()
    for step in range(training.steps):
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate * module.schedule.rate(step)
        optimizer.zero_grad()
        module.loss(module.draw(step)).backward()
        nn.utils.clip_grad_norm_(module.parameters(), module.schedule.clip)
        optimizer.step()
        if (step + 1) % (training.steps // CHECKS) == 0:
            pause = time.process_time()
            reached = error(module.prior, check), step + 1
            if reached < best:
                best, weights = reached, deepcopy(module.prior.state_dict())
            measured += time.process_time() - pause
    spent = time.process_time() - prepared - measured
    module.prior.load_state_dict(weights)
    found = {"validation": best[0], "test": error(module.prior, test), "best": best[1]}
    return found | {"preparation": prepared - began, "seconds": spent}


@torch.no_grad()
def error(model: nn.Module, x: Tensor) -> float:
    """Mean squared error per pixel of reconstructed images."""
    parts = [model.decoder(model.encoder(part)) - part for part in x.split(1000)]
    return float(torch.cat(parts).square().mean())
