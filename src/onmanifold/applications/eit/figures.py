"""Figures of a reconstruction: a frame on one page, all frames as a film."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from onmanifold.applications.eit.reconstruction import Frame, Reconstruction
from onmanifold.errors import InputError
from onmanifold.operators.eit.geometry.tank import Tank
from onmanifold.operators.eit.plot import draw_image
from onmanifold.plot.style import STYLE

_SECONDS = 0.4  # that each frame of a film stays
_REST = 1.5  # that the last one stays longer


@matplotlib.rc_context(STYLE)
def figure_of(found: Reconstruction, frame: int = 0) -> Figure:
    """The linear image, the prior's and its standard deviation; marked where not to be believed.

    Args:
        found: by :func:`reconstruct`.
        frame: from 0.
    """
    if not 0 <= frame < len(found.frames):
        raise InputError(f"there is no frame {frame} (counted from 0) of {len(found.frames)}")
    shown, most, widest = found.frames[frame], _most(found), _widest(found)
    panels = _panels(shown, most, widest)
    figure = Figure(figsize=(3.4 * len(panels), 3.9), layout="constrained")
    tank: Any = found.measured.tank.calibration.geometry
    for axis, (title, image, scale) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        drawn = draw_image(axis, tank, image, ~np.isnan(image), **scale)
        _number(axis, tank)
        axis.set_title(title, pad=16)  # above the electrodes' numbers
        figure.colorbar(drawn, ax=axis, location="bottom", shrink=0.8)
    figure.suptitle(_headline(found, frame), color=_colour(shown), fontsize=10)
    return figure


def film_of(found: Reconstruction) -> bytes:
    """All frames as a GIF, on one scale."""
    pages = []
    for k in range(len(found.frames)):
        stream = io.BytesIO()
        figure_of(found, k).savefig(stream, format="png", dpi=70)
        pages.append(Image.open(stream).convert("P", palette=Image.Palette.ADAPTIVE))
    film = io.BytesIO()
    stay = [int(1000 * _SECONDS)] * (len(pages) - 1) + [int(1000 * (_SECONDS + _REST))]
    pages[0].save(film, "GIF", save_all=True, append_images=pages[1:], duration=stay, loop=0)
    return film.getvalue()


def _panels(
    frame: Frame, most: float, widest: float
) -> list[tuple[str, NDArray[np.float64], dict[str, Any]]]:
    signed = {"min": -most, "max": most, "cmap": "coolwarm"}
    positive = {"min": 0.0, "max": widest, "cmap": "magma"}
    if frame.image is None or frame.std is None:
        return [
            ("one linear step", frame.linear, signed),
            ("its standard deviation", frame.linear_std, positive),
        ]
    return [
        ("one linear step", frame.linear, signed | _own(frame.linear)),
        ("prior", frame.image, signed),
        ("standard deviation (Laplace)", frame.std, positive),
    ]


def _own(image: NDArray[np.float64]) -> dict[str, float]:
    """The linear image has a scale of its own: it is blurred, so that its contrast is smaller."""
    most = max(float(np.nanmax(np.abs(image))), 1e-6)
    return {"min": -most, "max": most}


def _most(found: Reconstruction) -> float:
    images = [f.linear if f.image is None else f.image for f in found.frames]
    return max(max(float(np.nanmax(np.abs(image))) for image in images), 1e-6)


def _widest(found: Reconstruction) -> float:
    images = [f.linear_std if f.std is None else f.std for f in found.frames]
    return max(max(float(np.nanmax(image)) for image in images), 1e-6)


def _number(axis: Any, tank: Tank) -> None:
    """The first two electrodes' numbers: where it begins, and which way round."""
    for k, (x, y) in enumerate(1.1 * tank.centres[:2], start=1):
        axis.text(x, y, str(k), ha="center", va="center", fontsize=8, clip_on=False)


def _headline(found: Reconstruction, frame: int) -> str:
    shown = found.frames[frame]
    title = "ln(conductivity / background)"
    if len(found.frames) > 1:
        title = f"frame {frame + 1} of {len(found.frames)}: {title}"
    if not shown.consistent:
        return f"{title}\ninconsistent with the data, p = {shown.p_value:.2g}: do not rely on it"
    if shown.unreliable:
        numbers = ", ".join(str(j + 1) for j in shown.unreliable)
        title = f"{title}\nchannels {numbers} look bad and count little"
    return title if shown.image is None else f"{title}, p = {shown.p_value:.2g}"


def _colour(frame: Frame) -> str:
    return "#333333" if frame.consistent else "darkred"
