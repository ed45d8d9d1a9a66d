"""Names of operators, kinds of priors and pretrained priors.

The core never imports a plugin: it finds them by entry points, those of this package in the same
way as those of any other. The groups:

==========================  ==================  ====================================================
group                       name                value
==========================  ==================  ====================================================
``onmanifold.operators``    operator's name     a function ``(x_shape, **options) -> operator``
``onmanifold.priors``       kind, as in cards   a subclass of ``ManifoldPrior``
``onmanifold.pretrained``   any                 a package whose folders are stored priors
``onmanifold.manifolds``    data manifold       a class ``(**options)`` with ``x_shape``, ``sample``
``onmanifold.commands``     subcommand          a function with typer annotations
``onmanifold.adapters``     library             a function like ``as_operator``
==========================  ==================  ====================================================
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, cast

import torch

from onmanifold.operator import ForwardOperator
from onmanifold.prior import ManifoldPrior

OPERATORS = "onmanifold.operators"
PRIORS = "onmanifold.priors"
PRETRAINED = "onmanifold.pretrained"
MANIFOLDS = "onmanifold.manifolds"
COMMANDS = "onmanifold.commands"
ADAPTERS = "onmanifold.adapters"


class UnknownName(LookupError):
    """No operator, prior or kind of prior of that name is installed."""

    def __init__(self, what: str, name: str, known: Iterable[str], hint: str = "") -> None:
        known = sorted(known)
        close = difflib.get_close_matches(name, known, n=1)
        listed = ", ".join(known) if known else "none is installed"
        guess = f"; did you mean {close[0]!r}?" if close else "."
        super().__init__(f"unknown {what} {name!r}{guess} Known: {listed}{hint}")


def plugins(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name.

    Raises:
        ValueError: two packages claim one name.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise ValueError(
                f"two installed packages claim the name {entry.name!r} in {group}: "
                f"{_owner(other)} and {_owner(entry)}; remove one"
            )
    return dict(sorted(found.items()))


def _owner(entry: EntryPoint) -> str:
    package = entry.dist.name if entry.dist is not None else "?"
    return f"{package} ({entry.value})"


# Operators ----------------------------------------------------------------------------------------


def operator_names() -> list[str]:
    """Names of the installed operators.

    Example:
        >>> "blur" in operator_names()
        True
    """
    return list(plugins(OPERATORS))


def operator_factory(name: str) -> Callable[..., ForwardOperator]:
    """The function that makes an operator of that name from ``x_shape`` and options."""
    known = plugins(OPERATORS)
    if name not in known:
        raise UnknownName("operator", name, known)
    return cast(Callable[..., ForwardOperator], known[name].load())


def load_operator(
    name: str, x_shape: tuple[int, ...] | None = None, **options: Any
) -> ForwardOperator:
    """Make an operator by name.

    Args:
        name: one of :func:`operator_names`.
        x_shape: shape of one unknown, such as a prior's; ``None`` where the operator knows its own.
        options: what the operator takes.

    Raises:
        LookupError: unknown name.
        TypeError: unknown option, or one that is missing.

    Example:
        >>> load_operator("blur", (32, 32), size=9, std=2.0).y_shape
        (32, 32)
    """
    factory = operator_factory(name)
    parameters = list(inspect.signature(factory).parameters.values())[1:]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        known = [p.name for p in parameters]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise TypeError(
                f"operator {name!r} has no option {', '.join(map(repr, unknown))}; "
                f"its options: {', '.join(known) or 'none'}"
            )
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    missing = [n for n in needed if n not in options]
    if missing:
        raise TypeError(f"operator {name!r} needs {', '.join(missing)}")
    return factory(x_shape, **options)


def adapters(foreign: object) -> Iterator[Callable[..., ForwardOperator | None]]:
    """The functions that may make an operator of another library's object.

    An adapter's name is the package that defines the object's class, or one that it inherits from; that
    package has been imported already. It returns ``None`` for what is no operator of its library.
    """
    known = plugins(ADAPTERS)
    packages = [cls.__module__.partition(".")[0] for cls in type(foreign).__mro__]
    for package in dict.fromkeys(packages):
        if package in known:
            yield known[package].load()


# Data manifolds -----------------------------------------------------------------------------------


def manifold_names() -> list[str]:
    """Names of the installed data manifolds."""
    return list(plugins(MANIFOLDS))


def load_manifold(name: str, **options: Any) -> Any:
    """Make a data manifold, a source of examples, by name.

    Args:
        name: one of :func:`manifold_names`.
        options: what its class takes.

    Returns:
        An object with ``x_shape`` and ``sample(n, generator) -> (examples, coordinates)``.

    Raises:
        LookupError: unknown name.
        TypeError: unknown option.

    Example:
        >>> load_manifold("bar", size=32).x_shape
        (1, 32, 32)
    """
    known = plugins(MANIFOLDS)
    if name not in known:
        raise UnknownName("data manifold", name, known)
    return known[name].load()(**options)


# Priors -------------------------------------------------------------------------------------------


def built(kind: str, config: dict[str, Any]) -> ManifoldPrior:
    """A prior of a kind from its configuration, with random weights."""
    return configured(prior_class(kind), config)


def configured(cls: type[ManifoldPrior], config: dict[str, Any]) -> ManifoldPrior:
    """A prior of a class: ``cls.from_config(config)``, or ``cls(**config)`` where there is no such method."""
    make = getattr(cls, "from_config", None)
    return cast(ManifoldPrior, cls(**config) if make is None else make(config))


def prior_class(kind: str) -> type[ManifoldPrior]:
    """The class of a kind of prior."""
    known = plugins(PRIORS)
    if kind not in known:
        hint = "; is the package that defines it installed?"
        raise UnknownName("kind of prior", kind, known, hint)
    return cast(type[ManifoldPrior], known[kind].load())


def kind_of(cls: type[ManifoldPrior]) -> str:
    """The kind under which an entry point names a class."""
    value = f"{cls.__module__}:{cls.__qualname__}"
    known = plugins(PRIORS)
    for kind, entry in known.items():  # first by name alone: no plugin is imported in vain
        if entry.value.replace(" ", "") == value:
            return kind
    for kind, entry in known.items():
        if entry.module.split(".")[0] == cls.__module__.split(".")[0] and entry.load() is cls:
            return kind
    raise ValueError(
        f"{value} cannot be stored: no entry point of the group {PRIORS!r} names it, so that "
        "nobody could load it. Add it to your package's pyproject.toml. "
        f"Known kinds: {', '.join(known)}"
    )


def _folders() -> dict[str, Traversable]:
    """Folders of the pretrained priors, by name."""
    found: dict[str, Traversable] = {}
    for entry in plugins(PRETRAINED).values():
        package = importlib.import_module(entry.module)
        for folder in files(package).iterdir():
            if not (folder.is_dir() and folder.joinpath("card.json").is_file()):
                continue
            if folder.name in found:
                raise ValueError(
                    f"two installed packages ship a prior {folder.name!r}: {found[folder.name]} "
                    f"and {folder}; load one of them by its folder"
                )
            found[folder.name] = folder
    return dict(sorted(found.items()))


def prior_names() -> list[str]:
    """Names of the pretrained priors."""
    return list(_folders())


def _folder(name: str | Path) -> Traversable:
    path = Path(name)
    if isinstance(name, Path) or len(path.parts) != 1 or name.startswith("."):
        return path
    known = _folders()
    if name in known:
        return known[name]
    if path.joinpath("card.json").is_file():
        return path
    raise UnknownName("prior", name, known, ", or the folder of a stored prior")


def prior_card(name: str | Path) -> dict[str, Any]:
    """The card of a prior: kind, shapes, value range, training data, metrics, licence.

    Args:
        name: one of :func:`prior_names`, or the folder of a stored prior.
    """
    from onmanifold.storage import read_card

    return read_card(_folder(name))


def load_prior(
    name: str | Path,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> ManifoldPrior:
    """Load a pretrained prior by its name, or a stored one by its folder.

    Args:
        name: one of :func:`prior_names`, or a path to a folder.
        device: where to put it; default: the CPU.
        dtype: in which dtype; default: as stored.

    Raises:
        LookupError: unknown name.
        FileNotFoundError: no such folder.
        onmanifold.storage.DamagedFile: its files were truncated or altered.
    """
    from onmanifold.storage import load_prior_folder

    return load_prior_folder(_folder(name), device, dtype)
