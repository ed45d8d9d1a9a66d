"""Options of plugins by the types that a factory's annotations name."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch

from onmanifold import InputError, load_dataset, load_operator
from onmanifold.options import check_options, made, parse_options

type Pair = tuple[int, int]


def factory(
    x_shape,
    *,
    count: int = 1,
    number: float = 1.0,
    flag: bool = False,
    text: str = "",
    path: Path = Path(),
    size: int | tuple[int, int] | None = None,
    pair: Pair = (1, 1),
    kind: Literal["a", "b", 3] = "a",
    rows: Sequence[Sequence[float]] | None = None,
    labels: list[int] | None = None,
    choice: str | Mapping[str, Any] = "",
    noted: Annotated[float, "of something"] = 0.0,
    file: str | Path | None = None,
    anything: Any = None,
    untyped=None,
    unknown: "NoSuchName" = None,  # noqa: F821
):
    return locals()


def checked(**options):
    return check_options("operator 'x'", factory, options, skip=1)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("count", np.int64(3), 3),
        ("number", 3, 3.0),
        ("number", np.float32(0.5), 0.5),
        ("flag", np.bool_(True), True),
        ("path", "a/b", Path("a/b")),
        ("size", [3, 4], (3, 4)),
        ("size", np.array([3, 4]), (3, 4)),
        ("size", None, None),
        ("pair", [1, 2], (1, 2)),
        ("kind", 3, 3),
        ("rows", torch.tensor([[1.0, 2.0]]), ((1.0, 2.0),)),
        ("rows", [[1, 2]], ((1.0, 2.0),)),
        ("labels", (1, 2), [1, 2]),
        ("choice", {"map": "affine"}, {"map": "affine"}),
        ("noted", 2, 2.0),
        ("file", Path("x"), Path("x")),
        ("anything", {1}, {1}),
        ("untyped", "1,5", "1,5"),
        ("unknown", 1j, 1j),
    ],
)
def test_what_fits_is_converted(name, given, expected):
    found = checked(**{name: given})[name]
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("count", 40.7, "count has to be an int, got 40.7"),
        ("count", 40.0, "count has to be an int, got 40.0"),
        ("count", True, "count has to be an int, got true"),
        ("count", "3", "count has to be an int, got '3'"),
        ("number", "abc", "number has to be a number, got 'abc'"),
        ("number", "1,5", "number has to be a number, got '1,5'"),
        ("number", None, "number has to be a number, got null"),
        ("number", True, "number has to be a number, got true"),
        ("number", float("nan"), "number has to be a number, got nan"),
        ("number", 10**400, "number has to be a number, got 1000"),
        ("number", 1j, "number has to be a number, got 1j"),
        ("number", np.array([1.0]), "number has to be a number"),
        ("flag", 1, "flag has to be true or false, got 1"),
        ("text", 5, "text has to be text, got 5"),
        ("path", 5, "path has to be a path, got 5"),
        ("size", 2.5, r"size has to be an int or \[an int, an int\] or null, got 2.5"),
        ("size", (1, 2, 3), r"size has to be an int or \[an int, an int\] or null"),
        ("pair", (1, 2.5), r"pair has to be \[an int, an int\]"),
        ("kind", "c", "kind has to be one of 'a', 'b', 3, got 'c'"),
        ("rows", [["a"]], r"rows has to be \[\[a number, ...\], ...\] or null"),
        ("rows", "12", "rows has to be"),
        ("labels", [1, True], r"labels has to be \[an int, ...\] or null"),
        ("choice", 5, "choice has to be text or names with values"),
        ("noted", "x", "noted has to be a number"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(name, given, says):
    with pytest.raises(TypeError, match=f"operator 'x': {says}"):
        checked(**{name: given})


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("count", "3", 3),
        ("number", "1e-3", 1e-3),
        ("flag", "true", True),
        ("text", "5", "5"),
        ("text", '"5"', "5"),
        ("text", "null", "null"),
        ("file", "null", None),
        ("file", "2024", "2024"),
        ("size", "[3, 4]", (3, 4)),
        ("choice", '{"map": "affine"}', {"map": "affine"}),
        ("choice", "5", "5"),
        ("anything", "[1, 2]", (1, 2)),
        ("anything", "[" * 3000, "[" * 3000),
        ("count", "9" * 5000, "9" * 5000),
    ],
)
def test_texts_are_json_or_else_text(name, text, expected):
    assert parse_options("operator 'x'", factory, {name: text}, skip=1)[name] == expected


def test_one_annotation_that_cannot_be_evaluated_does_not_hide_the_others():
    def makes(x_shape, *, size: "int", other: "Missing" = None):  # noqa: F821
        return size

    for factory_ in (makes, partial(makes, None)):
        with pytest.raises(TypeError, match="size has to be an int"):
            check_options("x", factory_, {"size": 2.5, "other": 3}, skip=int(factory_ is makes))


def test_a_factory_may_take_any_name():
    def makes(x_shape, **rest):
        return rest

    assert check_options("x", makes, {"a": 1}, skip=1) == {"a": 1}


@pytest.mark.parametrize(
    "error", [ValueError, TypeError, ZeroDivisionError, KeyError, RuntimeError]
)
def test_what_a_factory_raises_names_its_options(error):
    def fails(**options):
        raise error("no idea")

    with pytest.raises(InputError, match="operator 'x' cannot be made with a=1, b='c': .*no idea"):
        made("operator 'x'", fails, a=1, b="c")


def test_bugs_and_checks_of_input_stay_what_they_are():
    def fails(error):
        raise error

    for error in (AttributeError("a bug"), FileNotFoundError("no file"), InputError("too small")):
        with pytest.raises(type(error), match=str(error)):
            made("operator 'x'", fails, error)


def test_loaders_check_types():
    with pytest.raises(TypeError, match=r"operator 'blur': std has to be a number or \["):
        load_operator("blur", (8, 8), std="3")
    with pytest.raises(TypeError, match="data set 'bar': size has to be an int, got 32.5"):
        load_dataset("bar", size=32.5)
    with pytest.raises(InputError, match="size has to be at least 1"):
        load_dataset("bar", size=0)
    with pytest.raises(TypeError, match="the name of the operator has to be text, got int"):
        load_operator(5, (8, 8))
    assert load_operator(
        "blur", (8, 8), std=np.float32(1.5), size=np.array([3, 5])
    ).kernel.shape == (3, 5)
