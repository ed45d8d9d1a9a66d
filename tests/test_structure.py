"""The check of import circles and of lengths, on a made-up package."""

import sys

import pytest
import structure


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write a package named ``made_up`` from the text of its modules; forget it afterwards."""

    def write(**modules):
        (tmp_path / "made_up").mkdir()
        for name, text in {"__init__": "", **modules}.items():
            (tmp_path / "made_up" / f"{name}.py").write_text(text)
        return "made_up"

    monkeypatch.syspath_prepend(tmp_path)
    yield write
    sys.modules.pop("made_up", None)


IN_FUNCTION = "def f():\n    from made_up import a\n    return a\n"
FOR_TYPES = "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from made_up.c import X\n"


def test_a_tree_has_no_circle(package, capsys):
    assert structure.check(package(a="import made_up.b", b="", c="from made_up import a, b"), {})
    assert "Import circles: 0" in capsys.readouterr().out


@pytest.mark.parametrize("back", [IN_FUNCTION, FOR_TYPES.replace("made_up.c", "made_up.a")])
def test_hidden_imports_close_a_circle(package, capsys, back):
    name = package(a="import made_up.b\nX = 1", b=back)
    assert not structure.check(name, {})
    printed = capsys.readouterr().out
    assert "Import circles: 1" in printed
    assert "2 modules, for example made_up.a -> made_up.b -> made_up.a" in printed


def test_each_circle_is_found_through_all_its_modules(package):
    name = package(
        a="import made_up.b", b=IN_FUNCTION, c="import made_up.d", d="import made_up.e", e=FOR_TYPES
    )
    groups = structure.circles(structure.import_graph(name, {}))
    assert groups == [["made_up.c", "made_up.d", "made_up.e"], ["made_up.a", "made_up.b"]]


def test_an_allowed_import_makes_no_circle(package):
    name = package(a="import made_up.b", b=IN_FUNCTION)
    assert structure.check(name, {"made_up.b": ("made_up.a",)})


def test_a_long_function_fails_and_its_docstring_does_not_count(package, capsys):
    lines = structure.MAX_LINES - 1
    body = "    x = 1\n"
    text = 'def f():\n    """Say\n\n    much.\n    """\n' + body * lines
    name = package(a=text)
    assert structure.check(name, {})
    assert f"{lines + 1} lines: " in capsys.readouterr().out


def test_one_line_more_is_too_long(package, capsys):
    assert not structure.check(package(a="def f():\n" + "    x = 1\n" * structure.MAX_LINES), {})
    assert f"{structure.MAX_LINES + 1} lines: " in capsys.readouterr().out


def test_an_unknown_package_is_refused():
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        list(structure.files("no_such_package"))
