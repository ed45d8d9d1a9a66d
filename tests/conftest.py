"""What all tests share: the options --slow, --device and --dtype, and where the data lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("onmanifold")
    group.addoption("--slow", action="store_true", help="run tests that take more than a minute")
    group.addoption(
        "--device", default="cpu", help="device for the tests that can choose: cpu, cuda"
    )
    group.addoption("--dtype", default="float64", choices=sorted(DTYPES), help="their dtype")


def pytest_configure(config: pytest.Config) -> None:
    # torch's own: its forward-mode derivatives are set up with what it deprecates
    config.addinivalue_line("filterwarnings", "ignore:`torch.jit.*` is deprecated:FutureWarning")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device of --device; skips where torch does not see it."""
    name = torch.device(request.config.getoption("--device"))
    if name.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("--device cuda, but torch sees no GPU")
    return name


@pytest.fixture(scope="session")
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """The dtype of --dtype."""
    return DTYPES[request.config.getoption("--dtype")]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: $ONMANIFOLD_DATA, or ../shared/data beside the repository."""
    named = os.environ.get("ONMANIFOLD_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        where = "ONMANIFOLD_DATA names" if named else "set ONMANIFOLD_DATA; looked for"
        pytest.skip(f"no real data: {where} {folder}, which is no folder")
    return folder
