"""Operators, data sets and kinds of priors by their names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

from onmanifold.entry_points import DATASETS, OPERATORS, PRIORS, load, plugins
from onmanifold.errors import InputError, InputTypeError
from onmanifold.operator import ForwardOperator
from onmanifold.prior import ManifoldPrior


def operator_names() -> list[str]:
    """Names of the installed operators.

    Example:
        >>> "blur" in operator_names()
        True
    """
    return list(plugins(OPERATORS))


def operator_factory(name: str) -> Callable[..., ForwardOperator]:
    """The function that makes an operator of that name from ``x_shape`` and options."""
    return cast(Callable[..., ForwardOperator], load(OPERATORS, "operator", name))


def load_operator(
    name: str, x_shape: tuple[int, ...] | None = None, **options: Any
) -> ForwardOperator:
    """Make an operator by name.

    Args:
        name: one of :func:`operator_names`.
        x_shape: shape of one image, such as a prior's; ``None`` where the operator knows its own.
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
    _check_options(f"operator {name!r}", parameters, options)
    return factory(x_shape, **options)


def dataset_names() -> list[str]:
    """Names of the installed data sets.

    Example:
        >>> "bar" in dataset_names()
        True
    """
    return list(plugins(DATASETS))


def load_dataset(name: str, **options: Any) -> Any:
    """Make a data set, a source of examples, by name.

    Args:
        name: one of :func:`dataset_names`.
        options: what its class takes.

    Returns:
        An object with ``x_shape`` and ``sample(n, generator) -> (examples, coordinates)``.

    Raises:
        LookupError: unknown name.
        TypeError: unknown option, or one that is missing.

    Example:
        >>> load_dataset("bar", size=32).x_shape
        (1, 32, 32)
    """
    factory = cast(Callable[..., Any], load(DATASETS, "data set", name))
    _check_options(
        f"data set {name!r}", list(inspect.signature(factory).parameters.values()), options
    )
    return factory(**options)


def _check_options(
    subject: str, parameters: list[inspect.Parameter], options: dict[str, Any]
) -> None:
    """Raise ``TypeError`` for options that ``parameters`` do not name, and for those that are missing."""
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = [p.name for p in parameters]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InputTypeError(
            f"{subject} has no option {', '.join(map(repr, unknown))}; "
            f"its options: {', '.join(known) or 'none'}"
        )
    missing = [p.name for p in parameters if p.default is p.empty and p.name not in options]
    if missing:
        raise InputTypeError(f"{subject} needs {', '.join(missing)}")


def prior_class(kind: str) -> type[ManifoldPrior]:
    """The class of a kind of prior, as written in a card."""
    hint = "; is the package that defines it installed?"
    return cast(type[ManifoldPrior], load(PRIORS, "kind of prior", kind, hint))


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
    raise InputError(
        f"{value} cannot be stored: no entry point of the group {PRIORS!r} names it, so that "
        "nobody could load it. Add it to your package's pyproject.toml. "
        f"Known kinds: {', '.join(known)}"
    )


def configured(cls: type[ManifoldPrior], config: dict[str, Any]) -> ManifoldPrior:
    """A prior of a class: ``cls.from_config(config)``, or ``cls(**config)`` where there is no such method."""
    make = getattr(cls, "from_config", None)
    return cast(ManifoldPrior, cls(**config) if make is None else make(config))


def built(kind: str, config: dict[str, Any]) -> ManifoldPrior:
    """A prior of a kind from its configuration, with random weights."""
    return configured(prior_class(kind), config)
