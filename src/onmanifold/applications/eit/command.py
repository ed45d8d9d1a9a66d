"""The subcommand ``eit``: measured voltages in files to images."""

from __future__ import annotations

import io
import json
import math
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from onmanifold.applications.eit.figures import figure_of, film_of
from onmanifold.applications.eit.measured import Measured, measure
from onmanifold.applications.eit.reconstruction import Frame, Reconstruction, reconstruct_frames
from onmanifold.errors import InputError
from onmanifold.plot.style import saved
from onmanifold.storage import check_folder, write_folder

INCONSISTENT = 3  # exit code: all was written, but some frame is inconsistent with its best image
_FORMATS = ("png", "svg")
_NO_PRIOR = "none"


Reference = Annotated[
    Path, typer.Argument(help="Voltages without objects; with --absolute they may be the data.")
]
Data = Annotated[
    Path | None, typer.Argument(help="Voltages with objects; several frames make a film.")
]
Output = Annotated[Path, typer.Option(help="Folder for figures, numbers and arrays.")]
ProtocolName = Annotated[
    str | None,
    typer.Option(
        help="adjacent16, pyeit16, pyeit-opposite, eidors-skip-2, ...-rotated, '[0 1],[0 1]'; none: the "
        "file's own."
    ),
]
Prior = Annotated[
    str, typer.Option(help="scene, tank, a prior's folder; none: the linear image alone.")
]
Absolute = Annotated[
    bool, typer.Option("--absolute", help="Model the voltages, not their difference.")
]
Radius = Annotated[float, typer.Option(help="Of the tank, m.")]
Width = Annotated[
    float | None, typer.Option(help="Of an electrode, degrees; default: half of the spacing.")
]
FirstAngle = Annotated[
    float | None, typer.Option(help="Of the first electrode, degrees from 3 o'clock.")
]
Clockwise = Annotated[
    bool | None,
    typer.Option("--clockwise/--counterclockwise", help="How electrodes are numbered."),
]
Current = Annotated[float, typer.Option(help="Driven, A.")]
Factor = Annotated[
    float, typer.Option(help="Voltages are multiplied by it: 0.001 for mV, -1 for the other sign.")
]
Conductivity = Annotated[
    float | None, typer.Option(help="Of the empty tank, S/m times depth: checks the units.")
]
Variable = Annotated[str | None, typer.Option(help="Name in a .mat or .npz file.")]
Decimal = Annotated[str | None, typer.Option(help="Decimal sign of text files: , or .")]
Format = Annotated[str, typer.Option(help="Of figures: png or svg.")]
Seed = Annotated[int, typer.Option(help="Of initial points and samples.")]


def eit(
    reference: Reference,
    data: Data = None,
    output: Output = Path("eit-images"),
    protocol: ProtocolName = None,
    prior: Prior = "scene",
    absolute: Absolute = False,
    radius: Radius = 1.0,
    width: Width = None,
    first_angle: FirstAngle = None,
    clockwise: Clockwise = None,
    current: Current = 1.0,
    factor: Factor = 1.0,
    conductivity: Conductivity = None,
    variable: Variable = None,
    decimal: Decimal = None,
    format: Format = "png",
    seed: Seed = 0,
) -> None:
    """Image voltages in files: a linear image, the prior's, its uncertainty, a p-value.

    CSV (also with decimal commas), .mat, .npy and .npz files; one measurement,
    or a time series with a frame in each row or column. The exit code is 3 if
    some frame is inconsistent with its best image: do not rely on it.
    """
    settings = dict(locals())
    _check(reference, data, absolute, format)
    check_folder(output)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are among the notes
        measured = measure(
            None if data is None else reference,
            reference if data is None else data,
            protocol,
            radius=radius,
            width=width,
            first_angle=first_angle,
            clockwise=clockwise,
            current=current,
            factor=factor,
            conductivity=conductivity,
            variable=variable,
            decimal=decimal,
        )
    for note in measured.notes:
        typer.echo(f"warning: {note}", err=True)
    found = _imaged(measured, None if prior == _NO_PRIOR else prior, absolute, seed)
    files = files_of(found, settings, format)
    write_folder(output, files)
    report(found)
    shown = [name for name in files if not name.endswith(".npy")]
    print(f"written to {output}: {', '.join(_short(shown))} and the images as .npy")
    if not found.consistent:
        raise typer.Exit(INCONSISTENT)


def _check(reference: Path, data: Path | None, absolute: bool, format: str) -> None:
    if format not in _FORMATS:
        raise InputError(f"--format is {' or '.join(_FORMATS)}, got {format!r}")
    if data is None and not absolute:
        raise InputError(
            f"expected two files, REFERENCE without objects and DATA, got {reference} alone; without a "
            "reference: --absolute"
        )


def _imaged(measured: Measured, prior: str | None, absolute: bool, seed: int) -> Reconstruction:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(transient=True, console=Console(stderr=True)) as progress:
        frames = reconstruct_frames(measured, prior, absolute, seed)
        task = progress.track(frames, len(measured.frames), description="frames")
        return Reconstruction(measured, tuple(task))


def files_of(found: Reconstruction, settings: dict[str, Any], format: str) -> dict[str, bytes]:
    """Figures, film, numbers and images, by the names of their files."""
    files = {"numbers.json": numbers_of(found, settings)}
    arrays: dict[str, list[Any]] = {
        "linear.npy": [f.linear for f in found.frames],
        "linear-std.npy": [f.linear_std for f in found.frames],
        "image.npy": [f.image for f in found.frames if f.image is not None],
        "std.npy": [f.std for f in found.frames if f.std is not None],
    }
    for name, images in arrays.items():
        if images:
            stream = io.BytesIO()
            np.save(stream, np.stack(images))
            files[name] = stream.getvalue()
    digits = len(str(len(found.frames)))
    for k in range(len(found.frames)):
        number = f"-{k + 1:0{digits}d}" if len(found.frames) > 1 else ""
        files[f"image{number}.{format}"] = saved(figure_of(found, k), format, 110)
    if len(found.frames) > 1:
        files["film.gif"] = film_of(found)
    return files


def numbers_of(found: Reconstruction, settings: dict[str, Any]) -> bytes:
    """What was found in each frame, and of the tank, as JSON."""
    calibration = found.measured.tank.calibration
    numbers = {
        "settings": {name: _plain(value) for name, value in settings.items()},
        "version": version("onmanifold"),
        "electrodes": calibration.geometry.electrodes,
        "voltages": int(found.measured.frames[0].mask.numel()),
        "background": found.background,
        "reference_residual": calibration.after,
        "warnings": list(found.measured.notes),
        "frames": [_numbers(frame) for frame in found.frames],
    }
    return (json.dumps(numbers, indent=2) + "\n").encode()


def _numbers(frame: Frame) -> dict[str, Any]:
    return {
        "p_value": frame.p_value if math.isfinite(frame.p_value) else None,
        "consistent": frame.consistent if math.isfinite(frame.p_value) else None,
        "counts": [
            {"resistive": r, "conductive": c, "probability": probability}
            for (r, c), probability in frame.counts.items()
        ],
        "contrast": {
            kind: {"times_background": value, "factor_of_one_std": std}
            for kind, (value, std) in frame.contrast.items()
        },
        "background_drift": dict(zip(("factor", "std"), frame.drift, strict=True)),
        "unreliable_channels": [j + 1 for j in frame.unreliable],
        "seconds": frame.seconds,
    }


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _short(names: list[str]) -> list[str]:
    """At most three names: the first ones and the last one."""
    return names if len(names) <= 3 else [*names[:2], "...", names[-1]]


def report(found: Reconstruction) -> None:
    """Print the tank and what was found in each frame, in 80 columns."""
    calibration = found.measured.tank.calibration
    print(
        f"{calibration.geometry.electrodes} electrodes, {found.measured.frames[0].mask.numel()} voltages, "
        f"background {found.background:.4g}, residual {calibration.after:.1%}"
    )
    if found.frames[0].image is not None:
        print("frame  resistive  conductive      times the background     sure       p  seconds")
    for k, frame in enumerate(found.frames):
        if frame.image is not None:
            print(_row(k, frame))
    bad = [str(k + 1) for k, frame in enumerate(found.frames) if not frame.consistent]
    if bad:
        plural = "s" if len(bad) > 1 else ""
        typer.echo(
            f"warning: frame{plural} {', '.join(bad)}: the voltages are inconsistent with the best image; "
            "do not rely on it. Is it the same tank, are the electrodes where they were?",
            err=True,
        )


def _row(k: int, frame: Frame) -> str:
    (resistive, conductive), probability = next(iter(frame.counts.items()), (("", ""), 1.0))
    contrast = ", ".join(f"{value:.2g}" for value, _ in frame.contrast.values())
    sure = f"{probability:.0%}" if frame.consistent and frame.counts else "?" * bool(frame.counts)
    return (
        f"{k + 1:>5}  {resistive:>9}  {conductive:>10}  {contrast:>24}  {sure:>7} {frame.p_value:7.2g} "
        f"{frame.seconds:8.1f}"
    )
