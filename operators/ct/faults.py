"""What is wrong in a sinogram: counts, dead and saturated detector pixels, missing angles."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from onmanifold.errors import InputError
from onmanifold.operators.ct.sinogram import Sinogram

_LARGEST = 12.0  # line integrals above are none: e^12 = 160 000 counts would be one
_APART = 0.15  # a pixel that is farther from its neighbours in most views is dead
_EQUAL = 10  # so many equal largest values are those of a detector at its limit
_MOST = 0.2  # share of values that may be missing


class UnreliableData(UserWarning):
    """Some values of a measurement are left out, or some were expected and are missing."""


def refuse_counts(data: Sinogram) -> None:
    """Raise where values are counts of photons instead of line integrals."""
    values = data.values[data.mask]
    edge = max(1, data.values.shape[1] // 50)
    outer = float(np.median(np.concatenate([data.values[:, :edge], data.values[:, -edge:]])))
    middle = data.values.shape[1] // 2
    inner = float(np.median(data.values[:, middle - edge : middle + edge]))
    if np.abs(values).max(initial=0.0) > _LARGEST or outer > max(inner, 0.5):
        raise InputError(
            f"{data.name}: values from {values.min():.3g} to {values.max():.3g}, {outer:.3g} beside the "
            f"object and {inner:.3g} behind it, look like counts; line integrals log(I_0 / I) were "
            "expected, 0 in air"
        )


def mask_faults(data: Sinogram) -> Sinogram:
    """The sinogram without dead and saturated pixels.

    Raises:
        ValueError: more than a fifth of the values would be missing.

    Warns:
        UnreliableData: what is left out, and which angles are missing.
    """
    bad = {"dead": _dead(data), "saturated": _saturated(data), "not finite": ~data.mask}
    notes = []
    for name, where in bad.items():
        pixels = np.flatnonzero(where.any(0)) + 1
        if len(pixels):
            some = ", ".join(map(str, pixels[:8])) + (", ..." if len(pixels) > 8 else "")
            notes.append(f"detector pixels {some} are {name} in {int(where.any(1).sum())} views")
    mask = ~np.logical_or.reduce(list(bad.values()))
    if (~mask).mean() > _MOST:
        raise InputError(f"{data.name}: too little is left of it: {'; '.join(notes)}")
    notes += _gaps(data)
    if notes:
        warnings.warn(f"{data.name}: {'; '.join(notes)}", UnreliableData, stacklevel=3)
    return replace(data, values=np.where(mask, data.values, 0.0), mask=mask)


def _dead(data: Sinogram) -> NDArray[np.bool_]:
    """Pixels that are constant or far from their neighbours in most views, in all of them."""
    values = data.values
    padded = np.pad(values, ((0, 0), (2, 2)), mode="edge")
    n = values.shape[1]
    around = np.median(np.stack([padded[:, k : k + n] for k in (0, 1, 3, 4)]), axis=0)
    far = np.median(np.abs(values - around), axis=0) > _APART
    constant = np.ptp(values, axis=0) == 0
    return np.broadcast_to(far | constant, values.shape) & data.mask


def _saturated(data: Sinogram) -> NDArray[np.bool_]:
    """Values at the largest one, where many are equal."""
    top = data.values == data.values[data.mask].max(initial=0.0)
    return top & data.mask if top.sum() >= _EQUAL else np.zeros_like(top)


def _gaps(data: Sinogram) -> list[str]:
    """Where angles are missing within the arc."""
    angles = np.sort(data.angles)
    steps = np.diff(angles)
    usual = float(np.median(steps))
    wide = np.flatnonzero(steps > 1.5 * usual)
    return [
        f"{round(steps[k] / usual) - 1} views are missing between {angles[k] - 180:g} and "
        f"{angles[k + 1] - 180:g} degrees, where steps are {usual:g}"
        for k in wide[:3]
    ]
