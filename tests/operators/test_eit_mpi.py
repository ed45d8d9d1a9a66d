"""One mesh on several ranks of an MPI run gives what one process gives."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from onmanifold.operators.eit import EIT, Exponential
from onmanifold.operators.eit.fem.discretization import Discretization, load_discretization
from onmanifold.operators.eit.fem.engine import Engine
from onmanifold.operators.eit.geometry.tank import Tank
from onmanifold.operators.eit.models.electrodes import CompleteElectrodes
from onmanifold.operators.eit.models.protocol import Protocol

pytestmark = pytest.mark.usefixtures("dolfinx")

SCRIPT = """
import sys
import numpy as np, torch
from onmanifold.operators.native import require_dolfinx
require_dolfinx()
from mpi4py import MPI
from onmanifold.operators.eit import EIT, Exponential
from onmanifold.operators.eit.fem.discretization import Discretization
from onmanifold.operators.eit.fem.distributed import distribute
from onmanifold.operators.eit.fem.engine import Engine
from onmanifold.operators.eit.models.electrodes import CompleteElectrodes
from onmanifold.operators.eit.models.protocol import Protocol

comm = MPI.COMM_WORLD
mesh, given, method, what, out = sys.argv[1:]
whole = None
if comm.rank == 0:
    arrays = dict(np.load(mesh))
    whole = Discretization(**arrays)
share = distribute(whole, comm)
data = np.load(given)
model = CompleteElectrodes(data["impedances"], Protocol.adjacent(len(data["impedances"])))
engine = Engine(share, model, share.solver(method))
s = torch.from_numpy(data["s"][:, share.cell_numbering])
if what == "nan" and comm.rank == comm.size - 1:
    s[1, 3] = float("nan")
if what == "negative":
    s[1] = -1.0
try:
    fields = engine.fields(s)
except ValueError as error:
    print(f"refused: {error}", flush=True)
    sys.exit()
field = fields[1]
ds = torch.from_numpy(data["ds"][share.cell_numbering])
gradient = np.zeros((len(data["ds"]), 1))
du = torch.from_numpy(data["du"])[None].expand(len(s), -1, -1, -1)
gradient[share.cell_numbering] = engine.vjp(fields, du)[1].numpy()
results = {
    "voltages": engine.voltages(fields).numpy(),
    "transfer": engine.transfer(field.w).numpy(),
    "jvp": engine.sum(engine.jvp(field, ds.T.contiguous())).numpy(),
    "vjp": engine.sum(torch.from_numpy(gradient)).numpy(),
}
np.savez(f"{out}_{comm.rank}.npz", **results)
"""


def _box(n: int = 8) -> Discretization:
    """Linear tetrahedra in the box [0, 2] x [0, 1] x [0, 1], electrodes on both small ends and two on top."""
    shape = (2 * n + 1, n + 1, n + 1)
    points = np.stack(np.indices(shape), axis=-1).reshape(-1, 3) / n
    first = np.arange(np.prod(shape)).reshape(shape)[:-1, :-1, :-1].ravel()
    step = np.array([shape[1] * shape[2], shape[2], 1])
    paths = [np.cumsum([0, *step[list(p)]]) for p in permutations(range(3))]
    cells = np.concatenate([first[:, None] + path for path in paths])
    edges = points[cells[:, 1:]] - points[cells[:, :1]]
    gradient = np.linalg.inv(edges).transpose(0, 2, 1)
    gradient = np.concatenate([-gradient.sum(axis=1, keepdims=True), gradient], axis=1)
    volume = np.abs(np.linalg.det(edges)) / 6
    stiffness = volume[:, None, None] * (gradient @ gradient.transpose(0, 2, 1))
    x, _, z = np.moveaxis(points[cells], 2, 0)
    contacts = (x == 0, x == 2, (z == 1) & (x <= 0.75), (z == 1) & (x >= 1.25))
    rows, columns, mass, electrode = [], [], [], []
    for number, on in enumerate(contacts):
        facets = np.sort(cells[on.sum(axis=1) == 3])  # the fourth vertex is inside
        touching = on[on.sum(axis=1) == 3]
        order = np.argsort(cells[on.sum(axis=1) == 3], axis=1)
        facets = facets[np.take_along_axis(touching, order, axis=1)].reshape(-1, 3)
        a, b, c = np.moveaxis(points[facets], 1, 0)
        area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
        rows.append(np.repeat(facets, 3, axis=1).ravel())
        columns.append(np.tile(facets, (1, 3)).ravel())
        mass.append((area[:, None, None] * (np.ones((3, 3)) + np.eye(3)) / 12).ravel())
        electrode.append(np.full(len(mass[-1]), number))
    joined = [np.concatenate(part) for part in (rows, columns, mass, electrode)]
    return Discretization(points, cells, points, cells, stiffness, *joined)


OPERATOR = """
import sys
import numpy as np, torch
from onmanifold.operators.native import require_dolfinx
require_dolfinx()
from mpi4py import MPI
from onmanifold.operators.eit import EIT, Continuum, Exponential, Protocol, Tank

comm = MPI.COMM_WORLD
mesh = "coarse" if comm.rank == 0 else "what the others say is not looked at"
eit = EIT(
    Tank.unit(), Protocol.adjacent(32), (1, 8, 8), conductivity=Exponential(), mesh=mesh, comm=comm
)
data = {name: torch.from_numpy(array) for name, array in np.load(sys.argv[1]).items()}
x, v, u = data["x"], data["v"], data["u"]
results = {"A": eit.A(x), "jvp": eit.A_jvp(x, v), "vjp": eit.A_vjp(x, u), "jacobian": eit.jacobian(x)}
np.savez(f"{sys.argv[2]}_{comm.rank}.npz", **{n: r.numpy() for n, r in results.items()})
nowhere = x.clone()
nowhere[0, 0, 0:4] = -1e5  # the upper half conducts nothing
try:
    eit.A(nowhere)
except ValueError as error:
    print(f"refused: {error}", flush=True)
try:
    EIT(Tank.unit(), Continuum.walsh(4), (8, 8), mesh="coarse", comm=comm)
except ValueError as error:
    print(f"refused: {error}", flush=True)
try:
    EIT(Tank.unit(), Protocol.adjacent(32), (8, 8), mesh="finest", comm=comm)
except RuntimeError as error:
    print(f"failed: {error}", flush=True)
"""


@pytest.fixture(scope="module")
def launcher():
    """The command that starts MPI programs; skips where there is none."""
    found = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or shutil.which("mpirun")
    if not found:
        pytest.skip("no mpirun beside this Python nor in PATH")
    return found


@pytest.fixture(scope="module", params=["disk", "box"])
def case(request, tmp_path_factory):
    """A mesh, the files that describe the problem, and what one process makes of it."""
    tank = Tank.unit(contact_impedance=1e-6)
    d = load_discretization("coarse", tank) if request.param == "disk" else _box()
    count = d.electrodes
    rng = np.random.default_rng(0)
    protocol = Protocol.adjacent(count)
    data = {
        "impedances": 10.0 ** rng.uniform(-6, -1, count),
        "s": np.exp(rng.normal(size=(2, len(d.cells)))),
        "ds": rng.normal(size=(len(d.cells), 2)),
        "du": rng.normal(size=(1, *protocol.shape)),
    }
    folder = tmp_path_factory.mktemp(request.param)
    np.savez(folder / "mesh.npz", **{n: getattr(d, n) for n in d.__dataclass_fields__})
    np.savez(folder / "given.npz", **data)
    engine = Engine(d, CompleteElectrodes(data["impedances"], protocol))
    fields = engine.fields(torch.from_numpy(data["s"]))
    expected = {
        "voltages": engine.voltages(fields),
        "transfer": engine.transfer(fields[1].w),
        "jvp": engine.jvp(fields[1], torch.from_numpy(data["ds"]).T.contiguous()),
        "vjp": engine.vjp(fields, torch.from_numpy(data["du"])[None].expand(2, -1, -1, -1))[1],
    }
    return folder, {name: value.numpy() for name, value in expected.items()}


def _start(launcher, ranks, script, *arguments):
    """What the program prints; it has to end well."""
    # what the launcher of an outer MPI run, or this process, has set is not for the inner one
    foreign = ("PMI", "MPI", "HYDRA", "OMPI", "PMIX")
    env = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    done = subprocess.run(
        [launcher, "-n", str(ranks), sys.executable, str(script), *map(str, arguments)],
        env=env | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def _run(launcher, folder, ranks, method, what="good"):
    script = folder / "script.py"
    script.write_text(SCRIPT)
    out = folder / f"out_{method}_{ranks}"
    files = folder / "mesh.npz", folder / "given.npz"
    printed = _start(launcher, ranks, script, *files, method, what, out)
    if what != "good":
        return printed
    return [dict(np.load(f"{out}_{rank}.npz")) for rank in range(ranks)]


def test_the_operator_on_two_ranks(launcher, tmp_path):
    eit = EIT(
        Tank.unit(), Protocol.adjacent(32), (1, 8, 8), conductivity=Exponential(), mesh="coarse"
    )
    g = torch.Generator().manual_seed(0)
    x, v = (torch.randn(2, 1, 8, 8, generator=g, dtype=torch.float64) for _ in range(2))
    u = torch.randn(2, 32, 32, generator=g, dtype=torch.float64)
    np.savez(tmp_path / "data.npz", x=x, v=v, u=u)
    (tmp_path / "script.py").write_text(OPERATOR)
    printed = _start(launcher, 2, tmp_path / "script.py", tmp_path / "data.npz", tmp_path / "out")
    expected = {
        "A": eit.A(x),
        "jvp": eit.A_jvp(x, v),
        "vjp": eit.A_vjp(x, u),
        "jacobian": eit.jacobian(x),
    }
    for rank in range(2):
        results = np.load(tmp_path / f"out_{rank}.npz")
        for name, value in expected.items():
            error = np.abs(results[name] - value.numpy()).max() / float(value.abs().max())
            assert error < 1e-8, (name, error)
    assert printed.count("refused: conductivity has to be positive") == 2
    assert printed.count("the continuum model runs on one rank") == 2
    assert printed.count("unknown mesh 'finest'") == 2


@pytest.mark.parametrize(("ranks", "method"), [(1, "gamg"), (2, "gamg"), (3, "gamg"), (2, "mumps")])
def test_ranks_give_what_one_process_gives(launcher, case, ranks, method):
    folder, expected = case
    for results in _run(launcher, folder, ranks, method):
        for name, value in expected.items():
            error = np.abs(results[name] - value).max() / np.abs(value).max()
            assert error < 1e-8, (name, error)


@pytest.mark.parametrize("method", ["gamg", "mumps"])
def test_all_ranks_refuse_what_one_cannot_use(launcher, case, method):
    folder, _ = case
    assert (
        _run(launcher, folder, 2, method, "nan").count("refused: rank 1: the matrix holds NaN") == 2
    )
    refused = _run(launcher, folder, 2, method, "negative")
    assert refused.count("refused: the matrix of member 1 is not positive definite") == 2


def test_every_cell_and_every_entry_goes_to_one_rank():
    from onmanifold.operators.eit.fem.distributed import _split

    d = _box(4)
    shares = _split(d, 3)
    cells = np.concatenate([share["cell_numbering"] for share in shares])
    np.testing.assert_array_equal(np.sort(cells), np.arange(len(d.cells)))
    total = np.zeros((d.size, d.size))
    for share in shares:
        number = share["numbering"]
        np.testing.assert_array_equal(number[share["dofs"]], d.dofs[share["cell_numbering"]])
        np.testing.assert_array_equal(
            share["points"][share["cells"]], d.points[d.cells[share["cell_numbering"]]]
        )
        np.add.at(total, (number[share["rows"]], number[share["columns"]]), share["mass"])
    whole = np.zeros_like(total)
    np.add.at(whole, (d.rows, d.columns), d.mass)
    np.testing.assert_allclose(total, whole, rtol=1e-14)


def test_what_cannot_be_distributed_is_refused():
    from mpi4py import MPI

    from onmanifold.operators.eit.fem.distributed import distribute
    from onmanifold.operators.eit.solvers.petsc import PetscSolver

    with pytest.raises(ValueError, match="rank 0 has to have the discretization"):
        distribute(None, MPI.COMM_SELF)
    pattern = np.array([0, 1]), np.array([0])
    with pytest.raises(ValueError, match="unknown method 'cg'; known: gamg, hypre, mumps"):
        PetscSolver(*pattern, 2, np.array([0]), np.ones(1), MPI.COMM_SELF, "cg")
    with pytest.raises(ValueError, match="no rank has unknown 0 of 2"):
        PetscSolver(*pattern, 2, np.array([1]), np.ones(1), MPI.COMM_SELF)
