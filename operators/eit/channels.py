"""The channels of a measurement: their noise, their offsets, and which are bad."""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor


def noise_std(
    reference: ArrayLike | Tensor, relative: float = 0.0005, floor: float = 0.0001
) -> Tensor:
    """Standard deviation of voltages: ``std^2 = (relative |U|)^2 + (floor max|U|)^2``.

    The defaults are the challenge's own.

    Args:
        reference: voltages U, V, any shape.
        relative: part of each voltage.
        floor: part of the largest one.

    Returns:
        V, the shape of ``reference``, float64.

    Raises:
        ValueError: a negative part, both zero, or voltages that are zero or not finite.
    """
    u = torch.as_tensor(reference).detach().to("cpu", torch.float64).abs()
    if not (relative >= 0 and floor >= 0 and relative + floor > 0):
        raise ValueError(
            f"expected parts >= 0, not both zero; got relative {relative}, floor {floor}"
        )
    if u.numel() == 0 or not bool(torch.isfinite(u).all()):
        raise ValueError("reference has to hold finite voltages")
    std = ((relative * u) ** 2 + (floor * u.max()) ** 2).sqrt()
    if bool((std == 0).any()):
        raise ValueError("reference has voltages of zero, which get a noise of zero; set floor > 0")
    return std
