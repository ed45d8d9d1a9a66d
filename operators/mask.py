"""Mask: some entries of the unknown are measured, the others are missing (inpainting)."""

from __future__ import annotations

import math
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from onmanifold.checks import as_generator, check_batch, check_count, check_number, check_shape
from onmanifold.errors import InputError, InputTypeError
from onmanifold.operator import Linear
from onmanifold.tensors import as_mask


class Mask(Linear, nn.Module):
    """The entries of x where a mask is true: ``A(x) = x[mask]``, in row-major order.

    It computes in the dtype of its input; ``.to(device)`` moves it.

    Attributes:
        mask: True where an entry is measured, shape ``x_shape``, boolean.
        x_shape: shape of one unknown.
        y_shape: ``(m,)``, the number of entries measured.

    Args:
        mask: boolean, of shape ``x_shape``, or of its last two axes, ``(H, W)``: one mask for all
            channels.
        x_shape: shape of one unknown, such as ``(H, W)`` or ``(C, H, W)``.

    Raises:
        TypeError: the mask is not boolean.
        ValueError: the mask has another shape, or is false everywhere.

    Example:
        >>> import torch
        >>> left = torch.tensor([[True, False], [True, False]])
        >>> operator = Mask(left, (2, 2))
        >>> operator.A(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
        tensor([[1., 3.]])
        >>> operator.A_adjoint(torch.tensor([[1.0, 3.0]]))
        tensor([[[1., 0.],
                 [3., 0.]]])
    """

    mask: Tensor
    kept: Tensor

    def __init__(self, mask: ArrayLike | Tensor, x_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.x_shape = check_shape(x_shape, "x_shape")
        whole = _check_mask(mask, self.x_shape).expand(self.x_shape)
        kept = whole.flatten().nonzero().squeeze(1)  # numbers of the entries measured
        self.y_shape = (len(kept),)
        self.register_buffer("mask", whole.clone(), persistent=False)
        self.register_buffer("kept", kept, persistent=False)

    def A(self, x: Tensor) -> Tensor:
        """Take the entries measured: ``(B, *x_shape)`` to ``(B, m)``."""
        check_batch(x, self.x_shape, "x")
        return x.flatten(1).index_select(1, self.kept)

    def A_adjoint(self, u: Tensor) -> Tensor:
        """Put entries back to their places among zeros: ``(B, m)`` to ``(B, *x_shape)``."""
        check_batch(u, self.y_shape, "u")
        zeros = torch.zeros_like(u[:, :1]).expand(-1, math.prod(self.x_shape))
        return zeros.index_copy(1, self.kept, u).reshape(-1, *self.x_shape)

    def draw_y(self, ax: Any, y: Tensor, **scale: Any) -> Any:
        """Draw the entries measured in their places; see :mod:`onmanifold.plot`."""
        from onmanifold.plot import draw

        gaps = y.new_full((math.prod(self.x_shape),), torch.nan)
        return draw(ax, gaps.index_copy(0, self.kept, y).reshape(self.x_shape), **scale)

    def extra_repr(self) -> str:
        return f"{self.y_shape[0]} of {math.prod(self.x_shape)} entries, x_shape={self.x_shape}"


def _check_mask(given: ArrayLike | Tensor, x_shape: tuple[int, ...]) -> Tensor:
    mask = as_mask(given, "the mask")
    if tuple(mask.shape) not in (x_shape, _pixels(x_shape)):
        shared = "" if len(x_shape) < 3 else f" or {_pixels(x_shape)}"
        raise InputError(f"the mask has shape {tuple(mask.shape)}, expected {x_shape}{shared}")
    if not bool(mask.any()):
        raise InputError("the mask keeps nothing: it has to be True where an entry is measured")
    return mask


def _pixels(x_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without channels, ``(H, W)``; of a vector its whole shape."""
    return x_shape[-2:]


def from_options(
    x_shape: tuple[int, ...] | None,
    *,
    keep: float = 0.5,
    seed: int = 0,
    box: tuple[int, int, int, int] | None = None,
) -> Mask:
    """A :class:`Mask` of pixels drawn at random, the same for all channels.

    Args:
        x_shape: shape of one unknown.
        keep: fraction of the pixels that is measured, above 0 and at most 1.
        seed: seed of the draw.
        box: a rectangle of which nothing is measured, ``(top, bottom, left, right)``; ``bottom`` and
            ``right`` are exclusive. ``keep`` is then the fraction of the pixels outside. With ``keep=1``
            only the rectangle is missing.

    Raises:
        TypeError: ``keep`` or an entry of ``box`` is a number of the wrong type.
        ValueError: ``keep`` lies outside (0, 1] or is so small that it keeps nothing, or the rectangle
            does not lie within the image.

    Example:
        >>> from_options((28, 28), keep=0.25).y_shape
        (196,)
        >>> from_options((3, 28, 28), keep=1.0, box=(10, 18, 10, 18)).y_shape
        (2160,)
    """
    if x_shape is None:
        raise InputError("mask needs the shape of the unknown: x_shape such as (H, W) or (C, H, W)")
    keep = check_number(keep, "keep", low=-math.inf)
    if not 0 < keep <= 1:
        raise InputError(f"keep has to be above 0 and at most 1, got {keep}")
    outside = torch.ones(_pixels(check_shape(x_shape, "x_shape")), dtype=torch.bool)
    if box is not None:
        top, bottom, left, right = _check_box(box, tuple(outside.shape))
        outside[top:bottom, left:right] = False
    candidates = outside.flatten().nonzero().squeeze(1)
    order = torch.randperm(len(candidates), generator=as_generator(seed))
    drawn = candidates[order[: round(keep * len(candidates))]]
    mask = torch.zeros(outside.numel(), dtype=torch.bool).index_fill(0, drawn, True)
    return Mask(mask.reshape(outside.shape), x_shape)


def _check_box(
    box: tuple[int, int, int, int], pixels: tuple[int, ...]
) -> tuple[int, int, int, int]:
    if not isinstance(box, tuple | list) or len(box) != 4:
        raise InputTypeError(f"box has to be four ints (top, bottom, left, right), got {box!r}")
    top, bottom, left, right = (
        check_count(side, f"box {box}: each side", at_least=0) for side in box
    )
    if len(pixels) != 2:
        raise InputError(f"box needs images (H, W) or (C, H, W), the unknown has shape {pixels}")
    if not (0 <= top < bottom <= pixels[0] and 0 <= left < right <= pixels[1]):
        raise InputError(f"box {box} (top, bottom, left, right) is no rectangle within {pixels}")
    return top, bottom, left, right
