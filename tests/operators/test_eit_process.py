"""The process stays the user's: signals, torch's number of threads, gmsh's session; and EIT in threads."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from onmanifold.operators.eit import EIT, Continuum, Protocol, Tank, generate_mesh, polar_mesh
from onmanifold.operators.eit.fem.threads import each, one_thread

TANK = Tank(electrodes=8, width=20)

_MAKE = """
from onmanifold.operators.eit import EIT, Protocol, Tank
EIT(Tank.unit(), Protocol.adjacent(32), (1, 8, 8), mesh="coarse", solver="mumps").A(torch.ones(1, 1, 8, 8))
"""
_HANDLED = """
import os, signal, torch
hit = []
numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP, signal.SIGABRT, signal.SIGSEGV]
for number in numbers:
    signal.signal(number, lambda number, _: hit.append(number))
{before}
{make}
for number in numbers:
    os.kill(os.getpid(), number)
print(hit == numbers)
"""


def run(code):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )


@pytest.mark.usefixtures("dolfinx")
@pytest.mark.parametrize(
    "before",
    ["", "import dolfinx_solver, dolfinx", "import dolfinx_solver\nfrom petsc4py import PETSc"],
    ids=["first", "after dolfinx", "after petsc4py"],
)
def test_handlers_of_the_user_stay(before):
    if "dolfinx_solver" in before:
        pytest.importorskip("dolfinx_solver")
    done = run(_HANDLED.format(before=before, make=_MAKE))
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "True", "")


@pytest.mark.usefixtures("dolfinx")
@pytest.mark.parametrize("signal", ["SIGTERM", "SIGABRT", "SIGUSR1"])
def test_who_is_ended_prints_nothing(signal):
    done = run(
        f"import os, signal, torch\n{_MAKE}\nos.kill(os.getpid(), signal.{signal})\nprint('alive')"
    )
    number = getattr(__import__("signal"), signal)
    assert (done.returncode, done.stdout, done.stderr) == (-number, "", "")


@pytest.mark.usefixtures("dolfinx")
def test_handlers_stay_where_a_thread_makes_the_first_operator():
    code = f"""
import signal, threading, torch
def make():
    exec({_MAKE!r}, globals())
signal.signal(signal.SIGTERM, lambda *_: print("hit"))
thread = threading.Thread(target=make)
thread.start()
thread.join()
signal.raise_signal(signal.SIGTERM)
"""
    done = run(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hit\n", "")


@pytest.mark.usefixtures("gmsh")
def test_a_session_of_gmsh_stays(gmsh):
    gmsh.initialize(interruptible=False)
    try:
        gmsh.model.add("mine")
        gmsh.model.occ.addPoint(1, 2, 3)
        gmsh.model.occ.synchronize()
        gmsh.option.setNumber("Mesh.Algorithm", 5)
        generate_mesh(TANK, edge=0.2, interior=0.4)
        assert gmsh.model.getCurrent() == "mine" and len(gmsh.model.getEntities(0)) == 1
        assert "onmanifold" not in gmsh.model.list()
        assert gmsh.option.getNumber("Mesh.Algorithm") == 5
    finally:
        gmsh.finalize()


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("protocol", [Protocol.adjacent(8), Continuum.walsh(4)])
@pytest.mark.parametrize("solver", ["mumps", "superlu", "torch"])
def test_threads_find_what_one_finds(solver, protocol):
    mesh = polar_mesh(TANK)
    generator = torch.Generator().manual_seed(0)
    x = 0.5 + torch.rand(12, 1, 8, 8, dtype=torch.float64, generator=generator)
    shared = EIT(TANK, protocol, (1, 8, 8), mesh=mesh, solver=solver)

    def job(k):
        eit = shared if k % 3 else EIT(TANK, protocol, (1, 8, 8), mesh=mesh, solver=solver)
        at = x[k : k + 1].requires_grad_()
        y = eit.A(at)
        (slope,) = torch.autograd.grad(y.square().sum(), at)
        return y.detach(), slope, eit.jacobian(x[k : k + 1])

    expected = [job(k) for k in range(len(x))]
    before = torch.get_num_threads()
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(job, range(len(x))))
    for theirs, own in zip(found, expected, strict=True):
        for a, b in zip(theirs, own, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    assert torch.get_num_threads() == before


@pytest.mark.usefixtures("gmsh")
def test_meshes_are_made_in_threads():
    def job(k):
        return generate_mesh(Tank(radius=1 + k, electrodes=8, width=20), edge=0.2, interior=0.4)

    with ThreadPoolExecutor(4) as pool:
        meshes = list(pool.map(job, range(6)))
    for k, mesh in enumerate(meshes):
        np.testing.assert_allclose(mesh.points, job(k).points, rtol=1e-9, atol=1e-12)


def test_the_number_of_threads_stays():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        inside, started = threading.Event(), threading.Event()
        seen = {}

        def early():
            with one_thread() as number:
                seen["early"] = number
                started.set()
                inside.wait(10)

        def born_inside():
            seen["limited"] = torch.get_num_threads()
            with one_thread() as number:
                seen["late"] = number
                each(lambda k: torch.ones(4).sum() + k, 4)
            seen["after"] = torch.get_num_threads()

        threads = [threading.Thread(target=f) for f in (early, born_inside)]
        threads[0].start()
        started.wait(10)
        threads[1].start()
        threads[1].join()
        inside.set()
        threads[0].join()
        fresh = []
        last = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
        last.start()
        last.join()
        assert seen == {"early": 3, "limited": 1, "late": 3, "after": 3}
        assert fresh == [3] and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
