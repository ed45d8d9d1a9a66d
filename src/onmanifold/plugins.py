"""Operators, data sets and kinds of priors by their names."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

from onmanifold.entry_points import DATASETS, OPERATORS, PRIORS, load, plugins
from onmanifold.errors import InputError, InputLookupError, MissingPackage
from onmanifold.operator import ForwardOperator, as_operator
from onmanifold.options import check_options, made, parse_options
from onmanifold.prior import ManifoldPrior


def operator_names() -> list[str]:
    """Names of the installed operators.

    Example:
        >>> "blur" in operator_names()
        True
    """
    return list(plugins(OPERATORS))


def operator_factory(name: str) -> Callable[..., ForwardOperator]:
    """The function that makes an operator of that name from ``x_shape`` and options.

    A name ``module:object`` stands for an object of one's own: a function or class whose first parameter is
    ``x_shape``, an operator, or what :func:`onmanifold.as_operator` makes one of.
    """
    if isinstance(name, str) and ":" in name:
        return _own_factory(name)
    return cast(Callable[..., ForwardOperator], load(OPERATORS, "operator", name))


def _own_factory(name: str) -> Callable[..., ForwardOperator]:
    module, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except ImportError as error:
        raise MissingPackage(f"operator {name!r}: {module} does not import: {error}") from error
    except (AttributeError, ValueError) as error:
        raise InputLookupError(
            f"operator {name!r} is no object of a module: {error}; write MODULE:OBJECT, such as "
            "blurs:my_blur for my_blur of blurs.py"
        ) from error
    if inspect.isclass(found) or inspect.isfunction(found):
        if next(iter(inspect.signature(found).parameters), None) == "x_shape":
            return cast(Callable[..., ForwardOperator], found)
    return lambda x_shape: as_operator(found, x_shape)


def load_operator(
    name: str, x_shape: tuple[int, ...] | None = None, **options: Any
) -> ForwardOperator:
    """Make an operator by name.

    Args:
        name: one of :func:`operator_names`, or ``module:object``.
        x_shape: shape of one image, such as a prior's; ``None`` where the operator knows its own.
        options: what the operator takes. They are converted by the types that its factory's annotations
            name.

    Raises:
        LookupError: unknown name.
        TypeError: unknown option, one that is missing, or one of another type.
        ValueError: no operator can be made with these options.

    Example:
        >>> load_operator("blur", (32, 32), size=9, std=2.0).y_shape
        (32, 32)
    """
    factory, subject = operator_factory(name), f"operator {name!r}"
    return cast(
        ForwardOperator,
        made(subject, factory, x_shape, **check_options(subject, factory, options, skip=1)),
    )


def operator_options(name: str, texts: Mapping[str, str]) -> dict[str, Any]:
    """Options of an operator that were written as text: JSON, or else text.

    Args:
        name: one of :func:`operator_names`.
        texts: what was written, by the options' names.

    Raises:
        LookupError: unknown name.
        TypeError: unknown option.

    Example:
        >>> operator_options("blur", {"std": "[1, 2]", "boundary": "zero"})
        {'std': (1, 2), 'boundary': 'zero'}
    """
    return parse_options(f"operator {name!r}", operator_factory(name), texts, skip=1)


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
        options: what its class takes, converted as those of :func:`load_operator`.

    Returns:
        An object with ``x_shape`` and ``sample(n, generator) -> (examples, coordinates)``.

    Raises:
        LookupError: unknown name.
        TypeError: unknown option, one that is missing, or one of another type.
        ValueError: no data set can be made with these options.

    Example:
        >>> load_dataset("bar", size=32).x_shape
        (1, 32, 32)
    """
    factory = cast(Callable[..., Any], load(DATASETS, "data set", name))
    subject = f"data set {name!r}"
    return made(subject, factory, **check_options(subject, factory, options))


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
