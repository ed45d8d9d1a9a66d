"""The command ``onmanifold``.

Plugins add subcommands by entry points of the group ``onmanifold.commands`` (name -> a function with typer
annotations). A plugin is imported when its command is called, or when ``--help`` lists the commands.
"""

from __future__ import annotations

import io
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

USER_ERROR = 2
_USAGE: Any = typer.BadParameter.__base__  # UsageError of click, or of typer's own copy of it


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Bad input exits with code 2 and one line; a bug keeps its traceback."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # torch sets up its forward-mode derivatives with what it deprecates itself
    warnings.filterwarnings("ignore", r"`torch\.jit.*` is deprecated", FutureWarning)
    _write_any_letter()
    try:
        code = app(args=given or ["--help"], prog_name="onmanifold", standalone_mode=False)
    except typer.Abort:
        sys.exit(130)
    except _USAGE as error:
        _refuse(error.format_message())
    except (InputError, OSError) as error:
        _refuse(str(error))
    except (MemoryError, RuntimeError) as error:
        if not _is_of_memory(error):
            raise
        reason = str(error).strip().rpartition("\n")[2]
        _refuse(f"there is not enough memory: {reason}; fewer --starts take less")
    sys.exit(code if isinstance(code, int) else 0)


def _write_any_letter() -> None:
    """Let names with letters that the terminal's encoding lacks be printed, as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_of_memory(error: Exception) -> bool:
    """Whether memory ran out: torch has a class of its own for that of a GPU, but none for the CPU's."""
    words = ("not enough memory", "can't allocate memory", "out of memory")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


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
