"""The subcommands ``priors`` and ``operators``."""

from __future__ import annotations

import inspect
import json
import re
from typing import Annotated

import typer

from onmanifold import plugins, pretrained
from onmanifold.options import parameters_of


def priors(
    name: Annotated[str | None, typer.Argument(help="Show the whole card of this one.")] = None,
) -> None:
    """List the priors that load by name: shipped ones, and those in the folders of ONMANIFOLD_PRIORS."""
    from rich import box
    from rich.console import Console
    from rich.table import Column, Table

    from onmanifold.prior import values_of

    if name is not None:
        print(json.dumps(pretrained.prior_card(name), indent=2))
        return
    names = pretrained.prior_names()
    table = Table(
        Column("prior", min_width=max(map(len, names), default=0)),  # whole: one has to type it
        Column("kind", overflow="fold"),
        *(Column(name, no_wrap=True) for name in ("shape", "d", "K")),
        Column("description", overflow="fold", min_width=18),
        box=box.SIMPLE,
        pad_edge=False,
    )
    for known in names:
        card = pretrained.prior_card(known)
        dims = sorted({min(card.get("chart_dims", [card["dim"]])), card["dim"]})
        words = [card.get("description", ""), values_of(card)]
        table.add_row(
            known,
            card["kind"],
            "x".join(map(str, card["x_shape"])),
            " to ".join(map(str, dims)),
            str(card["num_charts"]),
            "; values ".join(word for word in words if word),
        )
    Console().print(table)


def operators() -> None:
    """List the forward operators and their options."""
    from rich.console import Console
    from rich.table import Table

    table = Table("operator", "options", "description")
    for name in plugins.operator_names():
        try:
            factory = plugins.operator_factory(name)
        except ImportError as error:
            table.add_row(name, "", f"not available: {error}")
            continue
        known, _ = parameters_of(factory, skip=1)
        options = known.values()
        lines = [p.name if p.default is p.empty else f"{p.name}={p.default}" for p in options]
        summary = (inspect.getdoc(factory) or "").split("\n\n")[0]
        table.add_row(name, "\n".join(lines), _plain(summary))
    Console().print(table)


def _plain(text: str) -> str:
    """Docstring markup taken off: ``:class:`Blur` `` is Blur."""
    return re.sub(r":\w+:(?=`)|`", "", " ".join(text.split()))
