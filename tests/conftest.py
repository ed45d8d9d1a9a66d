"""What all tests share: the options --quick, --slow, --device and --dtype, and where the data lie."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from quick import Quick

from onmanifold import pretrained

ROOT = Path(__file__).resolve().parents[1]
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("onmanifold")
    group.addoption("--slow", action="store_true", help="run tests that take more than a minute")
    group.addoption("--quick", action="store_true", help="the quick tier; see tests/quick.py")
    group.addoption("--record-long", action="store_true", help="write tests/long_tests.txt anew")
    group.addoption(
        "--device", default="cpu", help="device for the tests that can choose: cpu, cuda"
    )
    group.addoption("--dtype", default="float64", choices=sorted(DTYPES), help="their dtype")


def pytest_configure(config: pytest.Config) -> None:
    # torch's own: its forward-mode derivatives are set up with what it deprecates
    config.addinivalue_line("filterwarnings", "ignore:`torch.jit.*` is deprecated:FutureWarning")
    if config.getoption("--quick") or config.getoption("--record-long"):
        config.pluginmanager.register(Quick(config, record=config.getoption("--record-long")))


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


THIRD_PARTY = '''
import torch
from onmanifold import InputError
from onmanifold.operator import Autodiff
from onmanifold.prior import ManifoldPrior, Point


class Segment(ManifoldPrior):
    """A straight line in R^n through the origin, t -> slope * t in every entry."""

    dim, box = 1, 1.0

    def __init__(self, n=4):
        super().__init__()
        self.x_shape = (n,)
        self.slope = torch.nn.Parameter(torch.tensor(2.0))

    def config(self):
        return {"n": self.x_shape[0]}

    def decode_chart(self, z, chart):
        return self.slope * z.expand(-1, *self.x_shape)

    def encode_chart(self, x, chart):
        return x.mean(dim=1, keepdim=True) / self.slope

    def log_prob_chart(self, z, chart):
        return torch.where(z.abs() <= 1, 0.0, -100 * (z.abs() - 1)).sum(1).to(z)

    def sample(self, n, generator=None):
        if not isinstance(generator, torch.Generator):
            generator = torch.Generator().manual_seed(generator or 0)
        z = 2 * torch.rand((n, 1), generator=generator, dtype=torch.float64) - 1
        return Point(torch.zeros(n, dtype=torch.long), z.to(self.slope.dtype))


class Sums(Autodiff):
    linear = True

    def __init__(self, x_shape, times=1.0):
        if times < 0:
            raise InputError(f"times has to be positive, got {times}")
        self.x_shape, self.y_shape, self.times = x_shape, (2,), times

    def A(self, x):
        return self.times * torch.stack([x.sum(1), x[:, 0]], dim=1)


def sums(x_shape, *, times=1.0):
    return Sums(x_shape, times)


def broken(x_shape, *, order: int):
    raise AttributeError("a bug, not bad input")


def hello(name: str = "you") -> None:
    """Greet."""
    print(f"hello {name}")
'''


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module of a made-up installed package that adds an operator, a prior and a command.

    Its pretrained prior ``segment`` is stored in ``<module's folder>/acme_pretrained``.
    """
    site = tmp_path / "site"
    (site / "acme_pretrained").mkdir(parents=True)
    (site / "acme_pretrained" / "__init__.py").touch()
    (site / "acme_manifolds.py").write_text(THIRD_PARTY)
    info = site / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[onmanifold.operators]\nsums = acme_manifolds:sums\nbroken = acme_manifolds:broken\n"
        "[onmanifold.priors]\nsegment = acme_manifolds:Segment\n"
        "[onmanifold.pretrained]\nacme = acme_pretrained\n"
        "[onmanifold.commands]\nhello = acme_manifolds:hello\n"
    )
    monkeypatch.syspath_prepend(site)
    module = importlib.import_module("acme_manifolds")
    pretrained.save_prior(
        module.Segment(),
        site / "acme_pretrained" / "segment",
        {"name": "segment", "value_range": [-2, 2]},
    )
    yield module
    for name in ("acme_manifolds", "acme_pretrained"):
        sys.modules.pop(name, None)
