"""Options of plugins, converted by the types that a factory's annotations name.

Options come from a command line, a recipe or a call by name, where nobody has checked their types. A number
that is text, or an int that is 40.7, is refused before the factory sees it.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAliasType, Union, get_args, get_origin

import numpy as np
from torch import Tensor

from onmanifold.errors import InputError, InputTypeError

_UNIONS = (Union, types.UnionType)
_LISTS = (list, tuple, Sequence)
_WORDS = {
    bool: "true or false",
    int: "an int",
    float: "a number",
    str: "text",
    Path: "a path",
    type(None): "null",
}
_LONGEST = 60  # letters of a value that messages repeat


class _Refused(Exception):
    """A value does not fit to an annotation."""


def parameters_of(
    factory: Callable[..., Any], skip: int = 0
) -> tuple[dict[str, inspect.Parameter], bool]:
    """The parameters of a factory by name, without the first ``skip``, and whether it takes any other name.

    Annotations that are text are evaluated; one that cannot be stays text, and then anything fits.
    """
    try:
        signature = inspect.signature(factory, eval_str=True)
    except Exception:  # an annotation is code, such as a name that only type checkers import
        signature = inspect.signature(factory)
    rest = list(signature.parameters.values())[skip:]
    named = {p.name: p for p in rest if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    return named, any(p.kind is p.VAR_KEYWORD for p in rest)


def check_options(
    subject: str, factory: Callable[..., Any], options: Mapping[str, Any], skip: int = 0
) -> dict[str, Any]:
    """``options`` by the types of the factory's annotations.

    Args:
        subject: what messages call the factory.
        factory: what takes the options.
        options: by name.
        skip: how many of its first parameters are no options.

    Raises:
        TypeError: an option that the factory does not have, one that is missing, or one of another type.

    Example:
        >>> def make(*, size: int, std: float | tuple[float, float] = 1.0): ...
        >>> check_options("operator 'made-up'", make, {"size": 3, "std": [1, 2]})
        {'size': 3, 'std': (1.0, 2.0)}
        >>> check_options("operator 'made-up'", make, {"size": 40.7})
        Traceback (most recent call last):
        onmanifold.errors.InputTypeError: operator 'made-up': size has to be an int, got 40.7
    """
    known = _known(subject, factory, options, skip)
    missing = [name for name, p in known.items() if p.default is p.empty and name not in options]
    if missing:
        raise InputTypeError(f"{subject} needs {', '.join(missing)}")
    return {
        name: _checked(
            value, known[name].annotation if name in known else Any, f"{subject}: {name}"
        )
        for name, value in options.items()
    }


def parse_options(
    subject: str, factory: Callable[..., Any], texts: Mapping[str, str], skip: int = 0
) -> dict[str, Any]:
    """Options that were written as text, such as on a command line: JSON, or else text.

    An option that takes text keeps what no other of its types fits, so that a file may be called ``5``.

    Raises:
        TypeError: an option that the factory does not have.

    Example:
        >>> def make(*, size: int = 1, name: str = ""): ...
        >>> parse_options("operator 'made-up'", make, {"size": "3", "name": "3"})
        {'size': 3, 'name': '3'}
    """
    known = _known(subject, factory, texts, skip)
    options: dict[str, Any] = {}
    for name, text in texts.items():
        annotation = known[name].annotation if name in known else Any
        value = _json(text)
        if not _fits(value, annotation) and _fits(text, annotation):
            value = text
        options[name] = value
    return options


def _known(
    subject: str, factory: Callable[..., Any], names: Iterable[str], skip: int
) -> dict[str, inspect.Parameter]:
    """The factory's parameters, if they are all that ``names`` names."""
    known, takes_any = parameters_of(factory, skip)
    unknown = [] if takes_any else sorted(set(names) - set(known))
    if unknown:
        raise InputTypeError(
            f"{subject} has no option {', '.join(map(repr, unknown))}; "
            f"its options: {', '.join(known) or 'none'}"
        )
    return known


def _json(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return tuple(value) if isinstance(value, list) else value


def _checked(value: Any, annotation: Any, name: str) -> Any:
    try:
        return _converted(value, annotation)
    except _Refused:
        raise InputTypeError(
            f"{name} has to be {_words(annotation)}, got {_shown(value)}"
        ) from None


def _fits(value: Any, annotation: Any) -> bool:
    try:
        _converted(value, annotation)
    except _Refused:
        return False
    return True


def _converted(value: Any, annotation: Any) -> Any:
    """``value`` as what ``annotation`` names; raises :class:`_Refused` where it is something else."""
    if isinstance(annotation, TypeAliasType):
        return _converted(value, annotation.__value__)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _converted(value, arguments[0])
    if origin in _UNIONS:
        return _first_that_fits(value, arguments)
    if origin is Literal:
        if any(value == other and type(value) is type(other) for other in arguments):
            return value
        raise _Refused
    kind = origin or annotation
    if kind in _SCALARS:
        return _SCALARS[kind](value.item() if isinstance(value, np.generic) else value)
    if kind in _LISTS:
        return _list(value, kind, arguments)
    if kind is inspect.Parameter.empty or not isinstance(kind, type) or isinstance(value, kind):
        return value  # also what is Any, a type variable, a name that only type checkers know
    raise _Refused


def _first_that_fits(value: Any, annotations: Sequence[Any]) -> Any:
    for annotation in annotations:
        if _fits(value, annotation):
            return _converted(value, annotation)
    raise _Refused


def _list(value: Any, kind: Any, annotations: tuple[Any, ...]) -> Any:
    """A tuple, or a list where that is asked for, of converted members; arrays serve, too."""
    if isinstance(value, np.ndarray | Tensor) and value.ndim:
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise _Refused
    if kind is tuple and annotations and annotations[-1] is not Ellipsis:
        if len(value) != len(annotations):
            raise _Refused
        each = list(annotations)
    else:
        each = [annotations[0] if annotations else Any] * len(value)
    members = [_converted(member, one) for member, one in zip(value, each, strict=True)]
    return members if kind is list else tuple(members)


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _Refused


def _int(value: Any) -> int:
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    raise _Refused


def _float(value: Any) -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or value != value:
        raise _Refused
    try:
        return float(value)
    except OverflowError:
        raise _Refused from None


def _str(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise _Refused


def _path(value: Any) -> Path:
    if isinstance(value, str | Path):
        return Path(value)
    raise _Refused


def _none(value: Any) -> None:
    if value is not None:
        raise _Refused


_SCALARS: dict[Any, Callable[[Any], Any]] = {
    bool: _bool,
    int: _int,
    float: _float,
    str: _str,
    Path: _path,
    type(None): _none,
    None: _none,
}


def _words(annotation: Any) -> str:
    """What messages say that a value has to be."""
    if isinstance(annotation, TypeAliasType):
        return _words(annotation.__value__)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(arguments[0])
    if origin in _UNIONS:
        return " or ".join(dict.fromkeys(map(_words, arguments)))
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    kind = origin or annotation
    if kind in _LISTS and arguments:
        if kind is tuple and arguments[-1] is not Ellipsis:
            return f"[{', '.join(map(_words, arguments))}]"
        return f"[{_words(arguments[0])}, ...]"
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "names with values {name: value}"
    return _WORDS.get(kind, getattr(kind, "__name__", str(kind)))


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({type(value).__name__})"


def made(subject: str, factory: Callable[..., Any], *first: Any, **options: Any) -> Any:
    """``factory(*first, **options)``; what it raises of bad options names them.

    Errors that no option can cause, such as ``AttributeError``, stay what they are.

    Raises:
        ValueError: the factory cannot make anything of these options.
    """
    try:
        return factory(*first, **options)
    except InputError:
        raise
    except (TypeError, ValueError, ArithmeticError, LookupError, RuntimeError) as error:
        given = ", ".join(f"{name}={_shown(value)}" for name, value in options.items())
        lines = str(error).splitlines() or [type(error).__name__]
        raise InputError(
            f"{subject} cannot be made with {given or 'no options'}: {lines[0]}"
        ) from error
