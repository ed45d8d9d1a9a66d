"""Several processes that train together: each takes its share of every batch.

``torchrun`` starts them on several machines; on one machine :func:`launch` does. Each holds all weights, and
gradients are averaged, so that their number changes nothing but rounding.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from onmanifold.errors import InputError
from onmanifold.priors.training.recipe import Recipe


@dataclass(frozen=True)
class Processes:
    """Those that train together, as one of them sees them.

    Attributes:
        device: that this one computes on.
        rank: its number.
        size: how many there are.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    def share(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """This one's members of a batch, on its device."""
        return {
            name: value[self.rank :: self.size].to(self.device) for name, value in batch.items()
        }

    def average(self, loss: Tensor, module: nn.Module) -> Tensor:
        """Average the gradients of all in place; the mean loss.

        Weights without a gradient anywhere, such as those of a chart that rests, keep none.
        """
        loss = loss.detach()
        if self.size == 1:
            return loss
        trained = [p for p in module.parameters() if p.requires_grad]
        used = torch.tensor([p.grad is not None for p in trained], dtype=torch.float32).to(
            loss.device
        )
        distributed.all_reduce(used)
        moved = [p for p, count in zip(trained, used.tolist(), strict=True) if count]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in moved]
        together = torch.cat([loss.view(1), *(g.flatten() for g in gradients)])
        distributed.all_reduce(together)
        together /= self.size
        parts = together[1:].split([g.numel() for g in gradients])
        for parameter, part in zip(moved, parts, strict=True):
            parameter.grad = part.view_as(parameter)
        return together[0]


def is_first_process() -> bool:
    """Whether this process is the one that writes and prints; any that ``torchrun`` did not start is."""
    return os.environ.get("RANK", "0") == "0"


def default_device() -> torch.device:
    """An accelerator that torch sees, or the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def to_launch(devices: int, nodes: int) -> bool:
    """Whether this process has to start those that train.

    Raises:
        InputError: several machines, but ``torchrun`` did not start this process, or started too few.
    """
    if devices * nodes == 1:
        return False
    started = int(os.environ.get("WORLD_SIZE", 0))
    if started == devices * nodes:
        return False
    if started:
        raise InputError(
            f"torchrun started {started} processes, expected {nodes} x {devices}: nodes x devices"
        )
    if nodes > 1:
        raise InputError(
            f"several machines need one process a device on each: torchrun --nnodes {nodes} --nproc-per-node "
            f"{devices} ..."
        )
    return True


@contextmanager
def joined(devices: int, nodes: int) -> Iterator[Processes]:
    """This process as one of those that train together."""
    device = default_device()
    if devices * nodes == 1:
        yield Processes(device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(device, distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def launch(recipe: Recipe, folder: Path, resume: bool, progress: bool, devices: int) -> None:
    """Train by several processes on this machine, which leave the checkpoint of the last step.

    Raises:
        InputError: one of them failed; its own message is on the standard error stream.
    """
    order = {"recipe": asdict(recipe), "folder": str(folder.absolute()), "resume": resume}
    order |= {"progress": progress, "devices": devices}
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "order.json"
        file.write_text(json.dumps(order), encoding="utf-8")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [
            "--nproc-per-node",
            str(devices),
            "-m",
            "onmanifold.priors.training.worker",
            str(file),
        ]
        if subprocess.run(command, check=False).returncode:
            raise InputError(f"one of {devices} processes that trained together failed")
