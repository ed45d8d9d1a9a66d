"""One handwritten digit on its way: turned, or shifted, step by step."""

from __future__ import annotations

from math import radians
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from onmanifold.checks import check_count
from onmanifold.errors import InputError
from onmanifold.priors.datasets.finite import FiniteDataset, Part
from onmanifold.priors.datasets.mnist import Mnist

BETWEEN = {"train": 0.0, "seeding": 0.0, "validation": 0.25, "held-out": 0.5}  # steps


class RotatedDigit(FiniteDataset):
    """Images of one MNIST digit, turned about the centre and shifted to the right in equal steps.

    Images to learn from are at the steps' beginnings, held-out ones in their middle. The toy example of
    Lee, Kwon and Park, NeurIPS 2021.

    Args:
        turn: counterclockwise, over all steps, in degrees.
        shift: over all steps, in pixels; the middle of the way is the image as it is in the file.
        steps: number of images.
        label: which digit.
        number: which of the training images with that label.
        folder: where the files are, see :class:`Mnist`.

    Raises:
        FileNotFoundError: the files of MNIST are not there.
        ValueError: no such image, or neither turn nor shift.

    Reference: Y. LeCun, C. Cortes, C. J. C. Burges, http://yann.lecun.com/exdb/mnist/.
    """

    def __init__(
        self,
        turn: float = 180.0,
        shift: float = 0.0,
        steps: int = 100,
        label: int = 3,
        number: int = 0,
        folder: str | Path | None = None,
    ) -> None:
        check_count(steps, "RotatedDigit: steps")
        if turn == shift == 0:
            raise InputError("RotatedDigit: turn and shift are both 0, so that nothing moves")
        digits = Mnist(folder=folder, labels=[label]).part("train").x
        if not 0 <= number < len(digits):
            raise InputError(
                f"RotatedDigit: there are {len(digits)} training images of label {label}, "
                f"numbered from 0; got number {number}"
            )
        self.digit, self.steps = digits[number], steps
        self.turn, self.shift = turn, shift
        self.x_shape = tuple(self.digit.shape)
        super().__init__({split: self._of(split) for split in BETWEEN})

    @property
    def whole(self) -> float:
        """The last coordinate: the turn in radians or, where there is none, the shift in pixels."""
        return radians(self.turn) if self.turn else self.shift

    def _of(self, split: str) -> Part:
        """Its coordinate is from 0 to :attr:`whole`."""
        at = (torch.arange(self.steps) + BETWEEN[split]) * (self.whole / self.steps)
        return Part(self.render(at[:, None]), at, replacement=split == "train")

    def render(self, coordinates: Tensor) -> Tensor:
        """Images ``(n, 1, 28, 28)`` at coordinates ``(n, 1)`` from 0 to :attr:`whole`."""
        share = coordinates[:, 0] / self.whole
        angle = radians(self.turn) * share
        width = self.x_shape[2]
        offset = self.shift * (share - 0.5) * 2 / width  # the image reaches from -1 to 1
        cos, sin = angle.cos(), angle.sin()
        # which place of the digit a pixel shows; rows point down
        rows = [cos, -sin, -cos * offset, sin, cos, -sin * offset]
        places = functional.affine_grid(
            torch.stack(rows, dim=1).view(-1, 2, 3),
            [len(share), *self.x_shape],
            align_corners=False,
        )
        digits = self.digit.to(coordinates).expand(len(share), *self.x_shape)
        return functional.grid_sample(digits, places, align_corners=False)
