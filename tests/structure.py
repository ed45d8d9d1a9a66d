"""Print how the package is built, and fail where it breaks its own rules.

Run: ``python tests/structure.py [package]``, or ``make check``. It prints

- the import circles: groups of modules that import each other, counting imports inside functions and those
  for type checkers only. None may be left but the one that ``ALLOWED`` lists;
- the longest functions. None may have more than ``MAX_LINES`` lines, its docstring not counted;
- the longest file and the number of lines.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import grimp
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

MAX_LINES = 60
# A solution draws and saves itself, which users like: ``solution.plot()``.
ALLOWED = {"onmanifold.solution": ("onmanifold.plot", "onmanifold.archive")}


def import_graph(package: str, allowed: dict[str, tuple[str, ...]]) -> grimp.ImportGraph:
    """The imports of a package, without those that are allowed."""
    graph = grimp.build_graph(package, exclude_type_checking_imports=False, cache_dir=None)
    for importer in allowed.keys() & graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            if any(f"{imported}.".startswith(f"{name}.") for name in allowed[importer]):
                graph.remove_import(importer=importer, imported=imported)
    return graph


def circles(graph: grimp.ImportGraph) -> list[list[str]]:
    """The groups of modules that import each other, the largest first."""
    names = sorted(graph.modules)
    number = {name: i for i, name in enumerate(names)}
    edges = np.array(
        [(number[a], number[b]) for a in names for b in graph.find_modules_directly_imported_by(a)],
        dtype=int,
    ).reshape(-1, 2)
    matrix = coo_array((np.ones(len(edges)), edges.T), shape=(len(names), len(names)))
    _, group = connected_components(matrix, connection="strong")
    found = [
        [names[i] for i in np.flatnonzero(group == g)]
        for g in np.flatnonzero(np.bincount(group) > 1)
    ]
    return sorted(found, key=len, reverse=True)


def shortest_circle(graph: grimp.ImportGraph, group: list[str]) -> str:
    """A shortest way round a circle, as ``a -> b -> a``."""
    ways = [
        (importer, *chain)
        for importer in group
        for imported in graph.find_modules_directly_imported_by(importer) & set(group)
        if (chain := graph.find_shortest_chain(importer=imported, imported=importer))
    ]
    return " -> ".join(min(ways, key=len))


def files(package: str) -> Iterator[Path]:
    """The Python files of a package, those behind linked folders too."""
    spec = find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"no package named {package!r}")
    folder = Path(spec.submodule_search_locations[0])
    for root, _, names in folder.walk(follow_symlinks=True):
        yield from (root / name for name in sorted(names) if name.endswith(".py"))


def functions(file: Path) -> Iterator[tuple[int, str]]:
    """Lines, and place and name, of each function of a file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node) is not None:
                lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
            yield lines, f"{file}:{node.lineno} {node.name}"


def check(package: str, allowed: dict[str, tuple[str, ...]]) -> bool:
    """Print the figures of a package; return whether it keeps the rules."""
    graph = import_graph(package, allowed)
    groups = circles(graph)
    listed = ", ".join(f"{a} -> {b}" for a, to in allowed.items() for b in to)
    print(f"Import circles: {len(groups)} (allowed and not counted: {listed or 'none'})")
    for group in groups:
        print(f"  {len(group)} modules, for example {shortest_circle(graph, group)}")
        print(f"    {', '.join(group)}")

    sources = [file.resolve().relative_to(Path.cwd(), walk_up=True) for file in files(package)]
    lengths = sorted((f for file in sources for f in functions(file)), reverse=True)
    long = [(lines, place) for lines, place in lengths if lines > MAX_LINES]
    print(f"Functions of more than {MAX_LINES} lines: {len(long)}")
    for lines, place in long or lengths[:1]:
        print(f"  {lines} lines: {place}{'' if long else ' is the longest'}")

    sizes = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in sources}
    longest = max(sizes, key=lambda file: sizes[file])
    print(f"Files: {len(sizes)}, {sum(sizes.values())} lines; longest {longest}: {sizes[longest]}")
    return not groups and not long


if __name__ == "__main__":
    sys.exit(not check(sys.argv[1] if sys.argv[1:] else "onmanifold", ALLOWED))
