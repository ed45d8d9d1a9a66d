"""One training path: a recipe file in, a checkpointed run, a prior with its card out."""

from __future__ import annotations

import logging
import os
import tomllib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import lightning
import torch
import typer
from lightning.pytorch.callbacks import Callback, RichProgressBar
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from onmanifold.priors.atlas.atlas import Atlas, AtlasConfig
from onmanifold.priors.atlas.training import AtlasTraining, Schedule
from onmanifold.priors.evaluation import held_out_metrics
from onmanifold.priors.manifolds import stream
from onmanifold.registry import load_manifold

RECIPES = Path(__file__).parent / "recipes"
EPOCH = 100  # steps between checkpoints


@dataclass(frozen=True)
class Recipe:
    """Everything that a training run depends on, read from a TOML file.

    Attributes:
        name: name of the prior.
        card: free text for its card (description, value range, unit, licence).
        data: name of the data manifold, and its options.
        atlas: arguments of :class:`AtlasConfig`, ``x_shape`` aside.
        schedule: arguments of :class:`Schedule`.
        seed: seed of weights, data and noise.
        precision: lightning's precision, ``"32-true"`` or ``"bf16-mixed"``.
    """

    name: str
    card: dict[str, str]
    data: dict[str, Any]
    atlas: dict[str, Any]
    schedule: dict[str, Any]
    seed: int = 0
    precision: str = "32-true"

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Read a recipe file, or a shipped recipe by its name.

        Raises:
            ValueError: no such recipe, or a key that is missing or unknown.
        """
        shipped = {file.stem: file for file in sorted(RECIPES.glob("*.toml"))}
        file = shipped.get(str(path), Path(path))
        if not file.is_file():
            raise ValueError(
                f"no recipe {str(path)!r}; shipped: {', '.join(shipped)}, or give a file"
            )
        try:
            return cls(**tomllib.loads(file.read_text()))
        except (TypeError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"{file.name}: {error}") from error


class Batches(Dataset[dict[str, Tensor]]):
    """Item i is the batch of step ``start + i``, drawn from the step's own stream.

    Of several processes each takes its share of the same batch, so that their number changes nothing but the
    rounding.
    """

    def __init__(
        self, module: AtlasTraining, start: int, rank: int = 0, processes: int = 1
    ) -> None:
        self.module, self.start = module, start
        self.share = slice(rank, None, processes)

    def __len__(self) -> int:
        return min(EPOCH, self.module.schedule.steps - self.start)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        module, step = self.module, self.start + index
        n, dim = module.schedule.batch_size, module.atlas.dim
        generator = stream(module.seed, "train", step)
        x, _ = module.data.sample(n, generator)
        latent = module.atlas.density.sample(n, dim, generator).float()
        noise = torch.randn((n, dim), generator=generator)
        parts = {"x": x, "noise": noise, "latent": latent}
        share = {name: value[self.share] for name, value in parts.items()}
        return share | {"step": torch.tensor(step)}


class Epochs(lightning.LightningDataModule):
    """The batches of the current epoch; an epoch is the stretch between two checkpoints."""

    def __init__(self, module: AtlasTraining, start: int) -> None:
        super().__init__()
        self.module, self.start = module, start

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        assert self.trainer is not None
        start = self.start + self.trainer.current_epoch * EPOCH
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        return DataLoader(Batches(self.module, start, rank, processes), batch_size=None)


class Checkpoints(Callback):
    """After each epoch: the run's whole state in ``last.ckpt``, the mean loss in ``loss.csv``.

    Args:
        folder: where they are written.
        state: a state to go on from, as :meth:`read` returns it.
    """

    def __init__(self, folder: Path, state: dict[str, Any] | None) -> None:
        self.folder, self.state = folder, state
        self.start = 0 if state is None else int(state["step"])
        self.losses: list[float] = []

    @staticmethod
    def read(folder: Path) -> dict[str, Any] | None:
        """The state in a folder, or None. Read as tensors and numbers: no code is executed."""
        file = folder / "last.ckpt"
        return torch.load(file, weights_only=True) if file.exists() else None

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        if self.state is not None:
            pl_module.load_state_dict(self.state["module"])
            trainer.optimizers[0].load_state_dict(self.state["optimizer"])
            trainer.lr_scheduler_configs[0].scheduler.load_state_dict(self.state["scheduler"])

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any
    ) -> None:
        self.losses.append(float(trainer.callback_metrics["loss"]))

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        if not trainer.is_global_zero:
            return
        step = self.start + trainer.global_step
        state = {
            "step": step,
            "module": pl_module.state_dict(),
            "optimizer": trainer.optimizers[0].state_dict(),
            "scheduler": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.save(state, self.folder / "next.ckpt")
        os.replace(self.folder / "next.ckpt", self.folder / "last.ckpt")  # never half written
        with open(self.folder / "loss.csv", "a") as stream:
            stream.write(f"{step},{sum(self.losses) / len(self.losses):.6g}\n")
        self.losses.clear()


def train(
    recipe: Recipe,
    output: str | Path,
    *,
    resume: bool = False,
    progress: bool = True,
    devices: int | str = 1,
) -> Atlas:
    """Train the prior of a recipe.

    Args:
        recipe: what to train.
        output: folder for checkpoints.
        resume: continue from the last checkpoint there, if any, as if nothing had happened.
        progress: show a progress bar.
        devices: number of devices, as in lightning.

    Returns:
        The trained atlas, in evaluation mode.
    """
    lightning.seed_everything(recipe.seed, verbose=False)
    data = load_manifold(**recipe.data)
    atlas = Atlas(AtlasConfig(x_shape=data.x_shape, **recipe.atlas))
    module = AtlasTraining(atlas, data, Schedule(**recipe.schedule), recipe.seed)
    folder = Path(output)
    checkpoints = Checkpoints(folder, Checkpoints.read(folder) if resume else None)
    remaining = module.schedule.steps - checkpoints.start
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    trainer = lightning.Trainer(
        accelerator="auto",
        devices=devices,
        strategy="auto" if devices == 1 else "ddp_find_unused_parameters_true",  # a chart may rest
        use_distributed_sampler=False,
        precision=recipe.precision,  # type: ignore[arg-type]
        max_steps=remaining,
        max_epochs=-(-remaining // EPOCH),
        gradient_clip_val=module.schedule.clip,
        reload_dataloaders_every_n_epochs=1,
        callbacks=[checkpoints, RichProgressBar()] if progress else [checkpoints],
        enable_progress_bar=progress,
        enable_checkpointing=False,
        enable_model_summary=False,
        logger=False,
    )
    with warnings.catch_warnings():  # lightning's own, about torch internals that it still uses
        warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`")
        warnings.filterwarnings("ignore", message="The '.*dataloader' does not have many workers")
        if remaining > 0:
            trainer.fit(module, datamodule=Epochs(module, checkpoints.start))
    return atlas.eval().requires_grad_(False)


def card(recipe: Recipe, atlas: Atlas) -> dict[str, Any]:
    """The card of a trained prior: the recipe's texts, the recipe itself, held-out metrics."""
    data = load_manifold(**recipe.data)
    return {
        "name": recipe.name,
        **recipe.card,
        "training_data": f"data manifold {recipe.data['name']!r}, generated, split 'train'",
        "recipe": {
            "data": recipe.data,
            "schedule": recipe.schedule,
            "seed": recipe.seed,
            "precision": recipe.precision,
        },
        "metrics": held_out_metrics(atlas, data, recipe.seed),
    }


def train_command(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name, or a recipe file.")],
    output: Annotated[Path, typer.Option(help="Folder for the prior and its checkpoints.")],
    resume: Annotated[bool, typer.Option(help="Continue from the last checkpoint.")] = False,
    devices: Annotated[int, typer.Option(help="Number of devices.")] = 1,
) -> None:
    """Train a prior from a recipe, and store it with a card of held-out metrics."""
    told = Recipe.read(recipe)
    atlas = train(told, output / "checkpoints", resume=resume, devices=devices)
    if os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0":  # the first process
        store(told, atlas, output)


def store(recipe: Recipe, atlas: Atlas, output: Path) -> None:
    """Write a trained prior and its card, in 16 bits: what the card says is measured after rounding."""
    rounded = atlas.half().float()
    rounded.save(output, card(recipe, rounded), half=True)
