"""The quick tier of tests: the first case of each test, without those that take long.

``pytest --quick`` leaves out the tests that ``tests/long_tests.txt`` names, and says at the end which others
belong there. ``pytest --record-long`` runs the first case of every test and writes that file anew.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
LIST = TESTS / "long_tests.txt"
LONG = 0.5  # seconds from which on a test is recorded as long
TOO_LONG = 2.0  # seconds from which on a quick run says so; other programs may have slowed it
# Not even imported: `import deepinv` alone takes 7 s.
HEAVY = {TESTS / "core" / "test_interfaces_deepinv.py"}


class Quick:
    """The pytest plugin behind ``--quick`` and, with ``record``, behind ``--record-long``."""

    def __init__(self, config: pytest.Config, record: bool) -> None:
        self.config, self.record = config, record
        self.seconds: dict[str, float] = defaultdict(float)

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        return True if collection_path in HEAVY else None

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        seen = set() if self.record else set(LIST.read_text().split())
        kept, left_out = [], []
        for item in items:
            (left_out if _name(item.nodeid) in seen else kept).append(item)
            seen.add(_name(item.nodeid))
        self.config.hook.pytest_deselected(items=left_out)
        items[:] = kept

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[_name(report.nodeid)] += report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.record:
            long = sorted(name for name, seconds in self.seconds.items() if seconds > LONG)
            LIST.write_text("".join(f"{name}\n" for name in long))
            terminalreporter.write_line(f"{len(long)} tests of more than {LONG} s: see {LIST}")
            return
        for name, seconds in self.seconds.items():
            if seconds > TOO_LONG:
                terminalreporter.write_line(
                    f"{name} took {seconds:.1f} s: if it always does, write it into {LIST}"
                )


def _name(nodeid: str) -> str:
    """A test without its parameters."""
    return nodeid.split("[")[0]
