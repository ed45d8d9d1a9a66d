"""The subcommand ``solve``."""

from __future__ import annotations

import io
import json
import math
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from onmanifold import plugins, pretrained
from onmanifold.commands import choices
from onmanifold.commands.choices import METHODS
from onmanifold.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from onmanifold.operator import ForwardOperator
    from onmanifold.posterior.base import Posterior
    from onmanifold.prior import ManifoldPrior
    from onmanifold.solution import Solution

Noise = Annotated[
    str | None,
    typer.Option(
        help="Standard deviation of the measurement's noise, or estimate; none: least squares."
    ),
]
Df = Annotated[
    float | None,
    typer.Option(help="Degrees of freedom of Student's t, for noise with outliers; none: normal."),
]
Options = Annotated[
    list[str] | None,
    typer.Option(help="NAME=VALUE for the operator, VALUE as JSON or text; repeat for more."),
]
MethodName = Annotated[str | None, typer.Option(help=f"How to descend: {', '.join(METHODS)}.")]
Weight = Annotated[
    str | None,
    typer.Option(help="Weight of the prior's density, a number, discrepancy or l-curve; none: 1."),
]
PosteriorName = Annotated[
    str | None,
    typer.Option(help="Standard deviations by laplace, explore or sample, in figure and files."),
]


def solve(
    operator: Annotated[
        str, typer.Option(help="Name of the forward operator, or your own, as MODULE:OBJECT.")
    ],
    prior: Annotated[str, typer.Option(help="Name of a pretrained prior, or its folder.")],
    measurement: Annotated[Path, typer.Option(help="A .npy, .npz, .mat or .png file.")],
    output: Annotated[Path, typer.Option(help="Folder for figures, numbers and arrays.")],
    noise: Noise = None,
    df: Df = None,
    option: Options = None,
    key: Annotated[str | None, typer.Option(help="Variable in a .npz or .mat file.")] = None,
    nan_is_missing: Annotated[
        bool, typer.Option("--nan-is-missing", help="Entries that are NaN were not measured.")
    ] = False,
    method: MethodName = None,
    prior_weight: Weight = None,
    posterior: PosteriorName = None,
    starts: Annotated[int | None, typer.Option(help="How many descents to run.")] = None,
    steps: Annotated[int | None, typer.Option(help="Largest number of steps of a descent.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the initial points.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
) -> None:
    """Reconstruct what was measured: reconstruction.png, convergence.png, numbers.json and arrays.npz."""
    import onmanifold
    from onmanifold.solve import unfinished
    from onmanifold.storage import check_folder

    check_folder(output)
    weight, level = choices.prior_weight(prior_weight), choices.noise_level(noise)
    arguments: dict[str, Any] = {"method": choices.method(method), "starts": starts, "seed": seed}
    options = choices.operator_options(operator, _texts(option or []))
    manifold = pretrained.load_prior(prior, device=_device(device))
    describe = choices.posterior(posterior, level, weight, manifold)
    forward = _operator(operator, options, manifold)
    y, mask = _measurement(measurement, key, forward, manifold, nan_is_missing)
    arguments |= {"fidelity": choices.fidelity(level, df, mask), "prior_weight": weight}
    if steps is not None:
        arguments["stop"] = onmanifold.MaxSteps(steps) | onmanifold.SmallDecrease(1e-6)
    with unfinished():  # summary, figure and files say what is inconsistent
        solution = onmanifold.solve(forward, y, manifold, **arguments, progress=True)
    settings = {
        "operator": operator,
        "options": options,
        "prior": _readable(prior),
        "prior_sha256": pretrained.prior_card(prior)["sha256"],
        "measurement": _readable(measurement),
        "noise": level,
        "df": df,
        "method": method,
        "prior_weight": prior_weight,
        "posterior": posterior,
        "seed": seed,
        "version": version("onmanifold"),
    }
    _write(output, settings, solution, describe(solution))


def _operator(name: str, options: dict[str, Any], manifold: ManifoldPrior) -> ForwardOperator:
    from torch import nn

    forward = plugins.load_operator(name, manifold.x_shape, **options)
    return forward.to(manifold.device) if isinstance(forward, nn.Module) else forward


def _readable(name: str | Path) -> str:
    """A name on the command line as text, also where Python takes names for ASCII with escapes."""
    return os.fsencode(name).decode("utf-8", "replace")


def _write(
    output: Path, settings: dict[str, Any], solution: Solution, found: Posterior | None
) -> None:
    from onmanifold.plot.style import png
    from onmanifold.storage import write_folder

    std = None if found is None else choices.std_of(found)
    files = {
        "reconstruction.png": png(solution.plot(std=std), 120),
        "convergence.png": png(solution.plot_convergence(), 120),
        "numbers.json": _json(settings, solution),
        "arrays.npz": _npz(solution, std),
    }
    write_folder(output, files)
    print(solution.summary())
    if found is not None:
        print(found)
    print(f"written to {output}: {', '.join(files)}")


def _texts(pairs: list[str]) -> dict[str, str]:
    """``["std=15", "boundary=reflect"]`` by name."""
    texts: dict[str, str] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name.isidentifier():
            raise InputError(f"--option takes NAME=VALUE, got {pair!r}")
        if name in texts:
            raise InputError(f"--option {name} is given twice")
        texts[name] = text
    return texts


def _device(name: str) -> str:
    import torch

    try:
        torch.zeros(1, device=name).add(1).item()
    except Exception as error:  # each kind of device fails in its own way
        reason = str(error).splitlines() or [type(error).__name__]
        raise InputError(f"device {name!r} cannot be used: {reason[0]}") from error
    return name


def _measurement(
    path: Path, key: str | None, operator: ForwardOperator, prior: ManifoldPrior, nan: bool
) -> tuple[Tensor, Tensor | None]:
    """The measurement as a batch, and which of its entries are there (``None``: all)."""
    import torch

    from onmanifold.arrays import read_array
    from onmanifold.tensors import as_real

    recorded = getattr(operator, "as_measurement", None)  # such as complex k-space
    array = read_array(path, key, complex_too=recorded is not None)
    if recorded is not None and array.dtype.kind == "c":
        array = recorded(array).numpy()
    array = _batch(path, array, tuple(operator.y_shape))
    y = as_real(array, str(path), dtype=prior.dtype).to(prior.device)
    missing = torch.isnan(y)
    if not bool(missing.any()):
        return y, None
    if not nan:
        raise InputError(
            f"{path} holds {int(missing.sum())} NaN of {y.numel()} entries: --nan-is-missing says that they "
            "were not measured"
        )
    return torch.nan_to_num(y, nan=0.0), ~missing


def _batch(path: Path, array: NDArray[Any], y_shape: tuple[int, ...]) -> NDArray[Any]:
    """An array from a file as one measurement or several, ``(B, *y_shape)``."""
    if array.shape[1:] == y_shape and array.ndim > len(y_shape):
        return array
    if path.suffix.lower() == ".png" and y_shape == (3, *array.shape):  # grey, for what has colours
        return np.broadcast_to(array, (1, *y_shape))
    squeezed = tuple(n for n in y_shape if n > 1)  # .mat: vectors are (n, 1)
    if array.shape != y_shape and array.squeeze().shape != squeezed:
        expected = ", ".join(map(str, y_shape))
        raise InputError(
            f"{path} holds an array of shape {array.shape}, expected ({expected}) or, for "
            f"several measurements, (B, {expected})"
        )
    return array.reshape(1, *y_shape)


def _json(settings: dict[str, Any], solution: Solution) -> bytes:
    known = (
        ~solution.p_value.isnan()
    ).tolist()  # whether the fidelity says how large a misfit may be
    each = [
        {
            "objective": _number(solution.objective[b]),
            "misfit": _number(solution.misfit[b]),
            "expected_misfit": _number(solution.expected_misfit[b]),
            "p_value": _number(solution.p_value[b]),
            "consistent": bool(solution.consistent[b]) if known[b] else None,
            "noise_std": None if solution.noise_std is None else _number(solution.noise_std[b]),
            "status": status.name,
            "converged": status.converged,
            "reason": status.message,
            "steps": int(solution.steps[b]),
            "operator_calls": int(solution.operator_calls[b]),
            "chart": int(solution.chart[b]),
            "z": [_number(value) for value in solution.z[b]],
        }
        for b, status in enumerate(solution.status)
    ]
    numbers = settings | {"seconds": solution.seconds, "measurements": each}
    return (json.dumps(numbers, indent=2) + "\n").encode()


def _number(value: Tensor) -> float | None:
    """A number that JSON has: NaN and infinity are ``null``."""
    number = float(value)
    return number if math.isfinite(number) else None


def _npz(solution: Solution, std: Tensor | None) -> bytes:
    stream = io.BytesIO()
    tensors = {
        "x": solution.x,
        "spread": solution.spread(),
        "z": solution.z,
        "chart": solution.chart,
        "p_value": solution.p_value,
        "consistent": solution.consistent,
        "objective_history": solution.history.objective,
    }
    if std is not None:
        tensors["std"] = std
    arrays: dict[str, Any] = {name: value.cpu().numpy() for name, value in tensors.items()}
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()
