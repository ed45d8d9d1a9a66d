"""A training run: a recipe in, checkpoints on the way, a prior out."""

from __future__ import annotations

import logging
import math
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, RichProgressBar
from torch import Tensor
from torch.utils.data import DataLoader

from onmanifold.errors import InputError
from onmanifold.prior import ManifoldPrior
from onmanifold.priors.training.method import TrainingMethod
from onmanifold.priors.training.recipe import Recipe

EPOCH = 100  # steps between checkpoints


class Diverged(InputError, ArithmeticError):
    """The loss or the weights became NaN or infinite."""


class Epochs(lightning.LightningDataModule):
    """The batches of the current epoch; an epoch is the stretch between two checkpoints.

    Of several processes each takes its share of the same batch, so that their number changes nothing but the
    rounding.
    """

    def __init__(self, module: TrainingMethod, start: int) -> None:
        super().__init__()
        self.module, self.start = module, start

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        assert self.trainer is not None
        first = self.start + self.trainer.current_epoch * EPOCH
        steps: Any = range(first, min(first + EPOCH, self.module.schedule.steps))
        share = slice(self.trainer.global_rank, None, self.trainer.world_size)

        def batch(step: Any) -> dict[str, Tensor]:
            drawn = {name: value[share] for name, value in self.module.draw(step).items()}
            return drawn | {"step": torch.tensor(step)}

        return DataLoader(steps, batch_size=None, collate_fn=batch)


class Checkpoints(Callback):
    """After each epoch: the run's whole state in ``last.ckpt``, the mean loss in ``loss.csv``.

    A run whose loss or weights are no longer finite is stopped; its last checkpoint stays.

    Args:
        folder: where they are written.
        recipe: what is trained.
        resume: whether to go on from the checkpoint there, if there is one.

    Raises:
        ValueError: the checkpoint there belongs to another recipe.
    """

    def __init__(self, folder: Path, recipe: Recipe, resume: bool) -> None:
        self.folder, self.recipe = folder, asdict(recipe)
        self.state = self.read(folder) if resume else None
        if self.state is not None:
            _check_same(self.state["recipe"], self.recipe, folder)
        self.start = 0 if self.state is None else int(self.state["step"])
        self.seconds = 0.0 if self.state is None else float(self.state["seconds"])
        self.losses: list[float] = []

    @staticmethod
    def read(folder: Path) -> dict[str, Any] | None:
        """The state in a folder, or None. Read as tensors and numbers: no code is executed."""
        file = folder / "last.ckpt"
        return torch.load(file, weights_only=True) if file.exists() else None

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        self.began = time.perf_counter()
        if self.state is not None:
            pl_module.load_state_dict(self.state["module"])
            trainer.optimizers[0].load_state_dict(self.state["optimizer"])
            trainer.lr_scheduler_configs[0].scheduler.load_state_dict(self.state["scheduler"])
        elif trainer.is_global_zero:
            (self.folder / "loss.csv").unlink(missing_ok=True)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any
    ) -> None:
        loss = float(trainer.strategy.reduce(trainer.callback_metrics["loss"], reduce_op="mean"))
        self.losses.append(loss)
        if not math.isfinite(loss):
            self._stop(f"the loss is {loss}", self.start + trainer.global_step)

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        step = self.start + trainer.global_step
        if not all(bool(torch.isfinite(p).all()) for p in pl_module.parameters()):
            self._stop("weights are NaN or infinite", step)
        if not trainer.is_global_zero:
            return
        state = {
            "step": step,
            "seconds": self.seconds + time.perf_counter() - self.began,
            "device": trainer.strategy.root_device.type,
            "recipe": self.recipe,
            "module": pl_module.state_dict(),
            "optimizer": trainer.optimizers[0].state_dict(),
            "scheduler": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.save(state, self.folder / "next.ckpt")
        os.replace(self.folder / "next.ckpt", self.folder / "last.ckpt")  # never half written
        with open(self.folder / "loss.csv", "a", encoding="utf-8") as stream:
            stream.write(f"{step},{sum(self.losses) / len(self.losses):.6g}\n")
        self.losses.clear()

    def _stop(self, what: str, step: int) -> None:
        last = self.read(self.folder)
        kept = (
            f"{self.folder / 'last.ckpt'} keeps the state after step {last['step']}"
            if last is not None
            else "there is no checkpoint yet"
        )
        raise Diverged(
            f"training diverged at step {step}: {what}. {kept}; lower schedule.learning_rate or "
            "schedule.clip"
        )


def _check_same(stored: dict[str, Any], recipe: dict[str, Any], folder: Path) -> None:
    """Raise unless a checkpoint's recipe trains the same weights as ``recipe``."""
    other = [key for key in recipe if key != "card" and stored.get(key) != recipe[key]]
    if other:
        differences = "; ".join(
            f"{key}: {stored.get(key)} there, {recipe[key]} here" for key in other
        )
        raise InputError(
            f"the checkpoint in {folder} belongs to another recipe ({differences}): give another "
            "folder, or train without --resume"
        )


def train(
    recipe: Recipe,
    output: str | Path,
    *,
    resume: bool = False,
    progress: bool = True,
    devices: int | str = 1,
    nodes: int = 1,
) -> ManifoldPrior:
    """Train the prior of a recipe.

    Args:
        recipe: what to train.
        output: folder for checkpoints.
        resume: continue from the last checkpoint there, if any, as if nothing had happened.
        progress: show a progress bar.
        devices: number of devices on a node, as in lightning.
        nodes: number of machines; start one process a device on each, by ``torchrun``.

    Returns:
        The trained prior, in evaluation mode.

    Raises:
        ValueError: a recipe or data that cannot be trained, or a checkpoint of another recipe; found
            before the first step.
        Diverged: the loss or the weights became NaN or infinite; the last good checkpoint stays.
    """
    lightning.seed_everything(recipe.seed, verbose=False)
    module = recipe.prepare()
    checkpoints = Checkpoints(Path(output), recipe, resume)
    remaining = module.schedule.steps - checkpoints.start
    with _quiet(), _threads(recipe.threads):
        trainer = lightning.Trainer(
            accelerator="auto",
            devices=devices,
            num_nodes=nodes,
            # a chart may rest
            strategy="auto" if devices == nodes == 1 else "ddp_find_unused_parameters_true",
            use_distributed_sampler=False,
            precision=recipe.precision,  # type: ignore[arg-type]
            max_steps=remaining,
            max_epochs=-(-remaining // EPOCH),
            reload_dataloaders_every_n_epochs=1,
            callbacks=[checkpoints, RichProgressBar()] if progress else [checkpoints],
            enable_progress_bar=progress,
            enable_checkpointing=False,
            enable_model_summary=False,
            logger=False,
        )
        if remaining > 0:
            trainer.fit(module, datamodule=Epochs(module, checkpoints.start))
        elif checkpoints.state is not None:
            module.load_state_dict(checkpoints.state["module"])
    module.finish()
    return module.prior.eval().requires_grad_(False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide lightning's advertisements and its warnings about torch internals that it still uses."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`")
        warnings.filterwarnings("ignore", message="The '.*dataloader' does not have many workers")
        yield


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Hold torch to a number of threads, if one is given."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
