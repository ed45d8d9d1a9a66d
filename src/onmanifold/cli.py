"""The command ``onmanifold``.

Subcommands that belong to plugins are found by entry points of the group ``onmanifold.commands``
(name -> a function with typer annotations) and imported only when they are called.
"""

from __future__ import annotations

import ast
import dis
import importlib.util
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from onmanifold import commands
from onmanifold.entry_points import COMMANDS, DATASETS, OPERATORS, PRETRAINED, PRIORS, plugins

USER_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit with code 2 and one line if the input was bad.

    A bug keeps its traceback: only what a check raises on purpose counts as bad input.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # torch sets up its forward-mode derivatives with what it deprecates itself
    warnings.filterwarnings("ignore", r"`torch\.jit.*` is deprecated", FutureWarning)
    # What noise does not explain stands in what is printed.
    warnings.filterwarnings("ignore", r"\d+ of \d+ measurements .* are not explained", UserWarning)
    try:
        code = _app(given)(args=given or ["--help"], prog_name="onmanifold", standalone_mode=False)
    except typer.Abort:
        sys.exit(130)
    except Exception as error:
        if isinstance(error, _USAGE):
            _refuse(error.format_message())
        if not _on_purpose(error):
            raise
        _refuse(str(error))
    sys.exit(code if isinstance(code, int) else 0)


# click's, or typer's own copy of it: all errors of usage derive from this class
_USAGE: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _refuse(message: str) -> NoReturn:
    line = " ".join(message.split())
    print(f"onmanifold: {line}", file=sys.stderr)
    sys.exit(USER_ERROR)


def _on_purpose(error: Exception) -> bool:
    """Whether a check refused bad input: raised by a ``raise`` in this package or in a plugin."""
    if isinstance(error, OSError):
        return True
    if not isinstance(error, ValueError | TypeError | LookupError | ImportError | ArithmeticError):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    code = trace.tb_frame.f_code.co_code
    explicit = dis.opname[code[trace.tb_lasti]] == "RAISE_VARARGS"
    module = str(trace.tb_frame.f_globals.get("__name__", ""))
    return explicit and module.split(".")[0] in _packages()


def _packages() -> set[str]:
    groups = (OPERATORS, PRIORS, PRETRAINED, DATASETS, COMMANDS)
    owners = {entry.module.split(".")[0] for group in groups for entry in plugins(group).values()}
    return owners | {"onmanifold"}


def _app(arguments: Sequence[str]) -> typer.Typer:
    """All subcommands; a plugin's is imported if it is the one that is called."""
    app = typer.Typer(
        help="Inverse problems, solved on learned manifolds.",
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback(invoke_without_command=True)(_version)
    app.command("priors")(commands.priors)
    app.command("operators")(commands.operators)
    app.command("solve")(commands.solve)
    called = next((a for a in arguments if not a.startswith("-")), None)
    for name, entry in plugins(COMMANDS).items():
        app.command(name)(entry.load() if name == called else _stub(entry))
    return app


def _stub(entry: EntryPoint) -> Callable[[], None]:
    """Stands for a command in the list: its docstring, read without importing its module."""

    def command() -> None:
        raise AssertionError("a stub was called")  # pragma: no cover

    command.__doc__ = _docstring(entry)
    return command


def _docstring(entry: EntryPoint) -> str:
    try:
        spec = importlib.util.find_spec(entry.module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        return "Not installed completely."
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == entry.attr:
            return ast.get_docstring(node) or ""
    return ""


def _version(
    version_: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version_:
        print(version("onmanifold"))
        raise typer.Exit
