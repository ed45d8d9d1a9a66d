"""Several measurements in one table: which axis counts the frames, and one of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onmanifold.checks import check_count
from onmanifold.errors import InputError
from onmanifold.operators.eit.models.protocol import Protocol


def frame_axis(shape: tuple[int, ...], protocol: Protocol) -> int | None:
    """Which axis of an array of voltages counts frames; ``None`` where it holds one measurement.

    Frames are columns ``(K, F)`` or rows ``(F, K)``, of all K voltages that the protocol measures or of
    ``I M`` for each of its patterns; or matrices ``(F, I, M)`` or ``(I, M, F)``.

    Raises:
        ValueError: both axes would do.

    Example:
        >>> frame_axis((5, 208), Protocol.adjacent(16, drop_driven=True))
        0
    """
    full = protocol.full_shape
    counts = {int(protocol.mask.sum()), full[0] * full[1]}
    if len(shape) == 3:
        fits = [axis for axis, rest in ((0, shape[1:]), (2, shape[:2])) if rest == full]
    elif len(shape) == 2 and shape != full and 1 not in shape:
        fits = [axis for axis in (1, 0) if shape[1 - axis] in counts]
    else:
        return None
    if len(fits) > 1:
        raise InputError(
            f"voltages of shape {shape} may have a frame in each row or in each column; pick one, pass it "
            "to Measurement.from_values"
        )
    return fits[0] if fits else None


def pick_frame(
    values: NDArray[Any], protocol: Protocol, frame: int | None, where: str
) -> NDArray[Any]:
    """One frame of the values; all of them where they are one measurement.

    Raises:
        ValueError: there are several frames and none was named, or there is no such frame.
    """
    axis = frame_axis(values.shape, protocol)
    if frame is not None:
        frame = check_count(frame, "frame", at_least=0)
    if axis is None:
        if frame:
            raise InputError(
                f"{where}: there is no frame {frame} in voltages of shape {values.shape}"
            )
        return values
    count = values.shape[axis]
    if frame is None:
        raise InputError(
            f"{where}: {count} measurements of {values.size // count} voltages; say which one with frame="
        )
    if frame >= count:
        raise InputError(f"{where}: no frame {frame} in voltages of shape {values.shape}")
    picked: NDArray[Any] = np.take(values, frame, axis)
    if picked.dtype.kind == "f" and np.isnan(picked).all():
        raise InputError(f"{where}: frame {frame} holds no voltages")
    return picked
