"""A training run: a recipe in, checkpoints on the way, a prior out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from onmanifold.errors import InputError
from onmanifold.extras import needs
from onmanifold.prior import ManifoldPrior
from onmanifold.priors.datasets import Dataset
from onmanifold.priors.training.checkpoints import FILE, read_checkpoint, write_checkpoint
from onmanifold.priors.training.identity import check_same, identity
from onmanifold.priors.training.method import TrainingMethod
from onmanifold.priors.training.processes import Processes, joined, launch, to_launch
from onmanifold.priors.training.progress import Reporter
from onmanifold.priors.training.recipe import Recipe
from onmanifold.priors.training.values import warn_if_nothing_learned
from onmanifold.priors.training.watch import Watch
from onmanifold.storage import DamagedFile, check_folder

EPOCH = 100  # steps between checkpoints


class Diverged(InputError, ArithmeticError):
    """The loss or the weights became NaN or infinite."""


class Run:
    """A training under way: after each epoch its whole state is in ``last.ckpt``, the curves in ``loss.csv``.

    A run whose loss or weights are no longer finite is stopped; its last checkpoint stays.

    Args:
        recipe: what is trained.
        method: the training, before its first step.
        folder: where checkpoints are written.
        resume: whether to go on from the checkpoint there, if there is one.
        processes: those that train together.

    Raises:
        ValueError: the checkpoint there is damaged, or belongs to another recipe or other data.
    """

    def __init__(
        self,
        recipe: Recipe,
        method: TrainingMethod,
        folder: Path,
        resume: bool,
        processes: Processes,
    ) -> None:
        self.recipe, self.method, self.folder, self.processes = recipe, method, folder, processes
        self.identity = identity(recipe, method.data)
        self.steps, self.step, self.seconds = method.schedule.steps, 0, 0.0
        state = read_checkpoint(folder) if resume else None
        if state is not None:
            check_same(state["identity"], self.identity, f"the checkpoint in {folder}")
        method.to(processes.device)
        self.optimizer = method.optimizer = method.make_optimizer()
        self.watch = Watch(method)
        if state is not None:
            with self._loading():
                self._load(state)

    def _load(self, state: dict[str, Any]) -> None:
        if state["step"] > self.steps:
            raise InputError(f"step {state['step']} of {self.steps}")
        self.method.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.watch.load(state["watch"])
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        if self.step and not self.optimizer.state:
            raise ValueError("the optimizer's state is empty")

    @contextmanager
    def _loading(self) -> Iterator[None]:
        """What does not fit to the state that is resumed is said in one line."""
        try:
            yield
        except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
            message = " ".join(str(error).split())[:300]
            raise DamagedFile(
                f"{self.folder / FILE} is no state of its own recipe ({message}): another version wrote it, "
                "or it was altered; train without --resume"
            ) from error

    @property
    def done(self) -> bool:
        """Whether no step is left, or none would help."""
        return self.step >= self.steps or self.watch.exhausted

    def train(self, reporter: Reporter) -> None:
        """Take the steps that are left, and give the prior its best weights."""
        began = time.perf_counter() - self.seconds
        if self.step == 0 and self.processes.rank == 0:
            (self.folder / "loss.csv").unlink(missing_ok=True)
        self.method.train()
        while not self.done:
            losses = []
            for step in range(self.step, min(self.step + EPOCH, self.steps)):
                losses.append(self._step(step))
                reporter.step(step + 1, losses[-1])
            self.step += len(losses)
            self._check_weights()
            self.watch.look(self.step)
            reporter.looked(self.step, self.watch.curve, self.done)
            self.seconds = time.perf_counter() - began
            if self.processes.rank == 0:
                self._write(sum(losses) / len(losses))
        self.watch.restore()

    def _step(self, step: int) -> float:
        method, schedule = self.method, self.method.schedule
        for group in self.optimizer.param_groups:
            group["lr"] = schedule.learning_rate * schedule.rate(step)
        batch = self.processes.share(method.draw(step)) | {"step": torch.tensor(step)}
        half = self.recipe.precision == "bf16-mixed"
        with torch.autocast(self.processes.device.type, torch.bfloat16, enabled=half):
            loss = method.training_step(batch)
        self.optimizer.zero_grad()
        loss.backward()
        mean = float(self.processes.average(loss, method))
        if not math.isfinite(mean):
            self._stop(f"the loss is {mean}", step + 1)
        torch.nn.utils.clip_grad_norm_(method.parameters(), schedule.clip)
        self.optimizer.step()
        return mean

    def _check_weights(self) -> None:
        if not all(bool(torch.isfinite(p).all()) for p in self.method.parameters()):
            self._stop("weights are NaN or infinite", self.step)

    def _write(self, loss: float) -> None:
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "device": self.processes.device.type,
            "identity": self.identity,
            "module": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "watch": self.watch.state(),
        }
        write_checkpoint(self.folder, state)
        curve = self.watch.curve
        error = f"{curve[-1][1]:.6g}" if curve and curve[-1][0] == self.step else ""
        with open(self.folder / "loss.csv", "a", encoding="utf-8") as stream:
            stream.write(f"{self.step},{loss:.6g},{error}\n")

    def _stop(self, what: str, step: int) -> None:
        last = read_checkpoint(self.folder) if self.step else None
        kept = (
            f"{self.folder / FILE} keeps the state after step {last['step']}"
            if last is not None
            else "there is no checkpoint yet"
        )
        raise Diverged(
            f"training diverged at step {step}: {what}. {kept}; lower schedule.learning_rate or "
            "schedule.clip"
        )


def train(
    recipe: Recipe,
    output: str | Path,
    *,
    data: Dataset | None = None,
    resume: bool = False,
    progress: bool = True,
    devices: int = 1,
    nodes: int = 1,
) -> ManifoldPrior:
    """Train the prior of a recipe.

    Args:
        recipe: what to train.
        output: folder for checkpoints.
        data: the examples, where the recipe names none that can be loaded.
        resume: continue from the last checkpoint there, if any, as if nothing had happened.
        progress: say how far it is: a bar on a terminal, else a line now and then.
        devices: number of devices on a machine.
        nodes: number of machines; start one process a device on each, by ``torchrun``.

    Returns:
        The trained prior, in evaluation mode.

    Raises:
        ValueError: a recipe or data that cannot be trained, or a checkpoint that is damaged, or of another
            recipe or of other data; found before the first step.
        Diverged: the loss or the weights became NaN or infinite; the last good checkpoint stays.

    Warns:
        ValueRangeWarning: a number of the recipe does not fit to the range of the data's values.
        NothingLearned: examples are no nearer to the prior than to their mean.
    """
    with needs("training fits latent densities by scikit-learn", "train"):
        import sklearn  # noqa: F401
    folder = check_folder(output)
    with torch.random.fork_rng(devices=[]), _threads(recipe.threads):
        torch.manual_seed(recipe.seed)
        method = recipe.prepare(data)
        together = to_launch(devices, nodes)
        if together:
            if data is not None:
                raise InputError(
                    "examples in memory are learned by one process: save them to a file first"
                )
            launch(recipe, folder, resume, progress, devices)
        count = (1, 1) if together else (devices, nodes)
        with joined(*count) as processes:
            run = Run(recipe, method, folder, resume or together, processes)
            reporter = Reporter(run.steps, run.step, progress and processes.rank == 0)
            with reporter.running():
                run.train(reporter)
            method.cpu().finish()
    prior = method.prior.eval().requires_grad_(False)
    if processes.rank == 0:
        warn_if_nothing_learned(prior, method.data, recipe.seed)
    return prior


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Hold torch to a number of threads, if one is given."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
