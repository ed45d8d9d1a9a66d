"""Tasks shared among processes: the same results, errors that come back, nothing left behind."""

import sys
from pathlib import Path

import pytest
import torch

from onmanifold.errors import InputError
from onmanifold.processes import Processes


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


def test_several_processes_need_joblib(monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib", None)
    monkeypatch.setitem(sys.modules, "joblib.externals.loky", None)
    assert Processes(1).map(pow, 2, [(3,)]) == [8]
    with pytest.raises(ImportError, match=r"install onmanifold\[eit\]"):
        Processes(2)


@pytest.mark.parametrize("jobs", [0, 1.5, "two"])
def test_the_number_is_checked(jobs):
    with pytest.raises(InputError, match="jobs"):
        Processes(jobs)
