"""Operators, data sets and kinds of priors by their names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

from onmanifold.entry_points import DATASETS, OPERATORS, PRIORS, UnknownName, plugins
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


def dataset_names() -> list[str]:
    """Names of the installed data sets."""
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
        TypeError: unknown option.

    Example:
        >>> load_dataset("bar", size=32).x_shape
        (1, 32, 32)
    """
    known = plugins(DATASETS)
    if name not in known:
        raise UnknownName("data set", name, known)
    return known[name].load()(**options)


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
