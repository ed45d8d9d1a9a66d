"""Tasks shared among processes: the same results, errors that come back, nothing left behind."""

import os
import signal
import sys
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path

import joblib
import pytest
import torch

from onmanifold.errors import InputError
from onmanifold.processes import Processes, executor


@pytest.mark.parametrize("jobs", [1, 3])
def test_results_come_in_order(jobs):
    tasks = [(torch.tensor(k),) for k in range(9)]
    with Processes(jobs) as processes:
        for common in (torch.tensor(10), torch.tensor(20)):
            found = processes.map(torch.add, common, tasks)
            assert [int(t) for t in found] == [int(common) + k for k in range(9)]


def test_an_error_comes_back_and_the_files_go():
    with pytest.raises(ZeroDivisionError), Processes(2) as processes:
        folder = Path(processes._folder.name)
        assert folder.is_dir()
        processes.map(divmod, 1, [(0,), (0,), (1,)])
    assert not folder.exists()


def test_a_process_that_was_killed_is_replaced():
    tasks = [(signal.SIGKILL,), (0,)]  # the other process takes the first
    with pytest.raises(BrokenExecutor), Processes(2) as processes:
        processes.map(_signal_a_child, os.getpid(), tasks)
    with Processes(2) as processes:
        assert processes.map(pow, 2, [(3,), (4,)]) == [8, 16]


def _signal_a_child(parent, number):
    if os.getpid() != parent:
        os.kill(os.getpid(), number)
    else:
        time.sleep(2)


def test_processes_of_joblib_are_left_alone():
    with Processes(2) as processes:
        processes.map(pow, 2, [(3,), (4,)])
    assert joblib.Parallel(2)(joblib.delayed(pow)(2, k) for k in (3, 4)) == [8, 16]


def test_several_processes_need_joblib(monkeypatch):
    executor.cache_clear()
    monkeypatch.setitem(sys.modules, "joblib", None)
    monkeypatch.setitem(sys.modules, "joblib.externals.loky", None)
    assert Processes(1).map(pow, 2, [(3,)]) == [8]
    with pytest.raises(ImportError, match=r"install onmanifold\[eit\]"):
        Processes(2)


@pytest.mark.parametrize("jobs", [0, 1.5, "two"])
def test_the_number_is_checked(jobs):
    with pytest.raises(InputError, match="jobs"):
        Processes(jobs)
