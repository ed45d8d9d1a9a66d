"""The command ``onmanifold``.

Plugins add subcommands by entry points of the group ``onmanifold.commands`` (name -> a function with typer
annotations). A plugin is imported when its command is called, or when ``--help`` lists the commands.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import EntryPoint, version
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from onmanifold import commands
from onmanifold.entry_points import COMMANDS, plugins
from onmanifold.errors import InputError, MissingPackage
from onmanifold.solution import InconsistentWarning

USER_ERROR = 2
_USAGE: Any = typer.BadParameter.__base__  # UsageError of click, or of typer's own copy of it


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Bad input exits with code 2 and one line; a bug keeps its traceback."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # torch sets up its forward-mode derivatives with what it deprecates itself
    warnings.filterwarnings("ignore", r"`torch\.jit.*` is deprecated", FutureWarning)
    warnings.simplefilter("ignore", InconsistentWarning)  # the summary says it
    try:
        code = app(args=given or ["--help"], prog_name="onmanifold", standalone_mode=False)
    except typer.Abort:
        sys.exit(130)
    except _USAGE as error:
        _refuse(error.format_message())
    except (InputError, OSError) as error:
        _refuse(str(error))
    sys.exit(code if isinstance(code, int) else 0)


def _refuse(message: str) -> NoReturn:
    line = " ".join(message.split())
    print(f"onmanifold: {line}", file=sys.stderr)
    sys.exit(USER_ERROR)


class _Commands(TyperGroup):
    """The core's subcommands, then those of plugins."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(dict.fromkeys([*super().list_commands(ctx), *plugins(COMMANDS)]))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = plugins(COMMANDS).get(cmd_name)
        own = super().get_command(ctx, cmd_name)
        return own if own is not None or entry is None else _load(entry)


def _load(entry: EntryPoint) -> Any:
    """A plugin's command; one that does not import says so when it is called."""
    try:
        function = entry.load()
    except (ImportError, AttributeError) as error:
        reason = f"not available: {error}"

        def function() -> None:
            raise MissingPackage(f"{entry.name} is {reason}")

        function.__doc__ = reason
    single = typer.Typer(add_completion=False)
    single.command(entry.name)(function)
    return typer.main.get_command(single)


app = typer.Typer(
    cls=_Commands,
    help="Inverse problems, solved on learned manifolds.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(commands.priors)
app.command()(commands.operators)
app.command()(commands.solve)


@app.callback(invoke_without_command=True)
def _version(
    version_: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version_:
        print(version("onmanifold"))
        raise typer.Exit
