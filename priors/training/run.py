"""A training run: a recipe in, checkpoints on the way, a prior out."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, RichProgressBar
from torch import Tensor
from torch.utils.data import DataLoader

from onmanifold.errors import InputError
from onmanifold.prior import ManifoldPrior
from onmanifold.priors.training.checkpoints import FILE, read_checkpoint, write_checkpoint
from onmanifold.priors.training.identity import check_same, identity
from onmanifold.priors.training.method import TrainingMethod
from onmanifold.priors.training.recipe import Recipe
from onmanifold.priors.training.values import warn_if_nothing_learned
from onmanifold.storage import DamagedFile, check_folder

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
        ValueError: the checkpoint there is damaged, or belongs to another recipe or other data.
    """

    def __init__(self, folder: Path, recipe: Recipe, module: TrainingMethod, resume: bool) -> None:
        self.folder, self.identity = folder, identity(recipe, module.data)
        self.state = read_checkpoint(folder) if resume else None
        if self.state is not None:
            check_same(self.state["identity"], self.identity, f"the checkpoint in {folder}")
            with self._loading() as state:
                if state["step"] > module.schedule.steps:
                    raise InputError(f"step {state['step']} of {module.schedule.steps}")
                module.load_state_dict(state["module"])
        self.start = 0 if self.state is None else int(self.state["step"])
        self.seconds = 0.0 if self.state is None else float(self.state["seconds"])
        self.losses: list[float] = []

    @contextmanager
    def _loading(self) -> Iterator[dict[str, Any]]:
        """The state that is resumed; what does not fit to it is said in one line."""
        assert self.state is not None
        try:
            yield self.state
        except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
            message = " ".join(str(error).split())[:300]
            raise DamagedFile(
                f"{self.folder / FILE} is no state of its own recipe ({message}): another version wrote it, "
                "or it was altered; train without --resume"
            ) from error

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        self.began = time.perf_counter()
        if self.state is not None:
            with self._loading() as state:
                trainer.optimizers[0].load_state_dict(state["optimizer"])
                trainer.lr_scheduler_configs[0].scheduler.load_state_dict(state["scheduler"])
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
            "identity": self.identity,
            "module": pl_module.state_dict(),
            "optimizer": trainer.optimizers[0].state_dict(),
            "scheduler": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
        }
        write_checkpoint(self.folder, state)
        with open(self.folder / "loss.csv", "a", encoding="utf-8") as stream:
            stream.write(f"{step},{sum(self.losses) / len(self.losses):.6g}\n")
        self.losses.clear()

    def _stop(self, what: str, step: int) -> None:
        last = read_checkpoint(self.folder)
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
        ValueError: a recipe or data that cannot be trained, or a checkpoint that is damaged, or of another
            recipe or of other data; found before the first step.
        Diverged: the loss or the weights became NaN or infinite; the last good checkpoint stays.

    Warns:
        ValueRangeWarning: a number of the recipe does not fit to the range of the data's values.
        NothingLearned: examples are no nearer to the prior than to their mean.
    """
    lightning.seed_everything(recipe.seed, verbose=False)
    module = recipe.prepare()
    checkpoints = Checkpoints(check_folder(output), recipe, module, resume)
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
    module.finish()
    prior = module.prior.eval().requires_grad_(False)
    if trainer.is_global_zero:
        warn_if_nothing_learned(prior, module.data, recipe.seed)
    return prior


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
