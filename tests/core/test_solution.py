"""Solutions: the trajectory, and the way to disk and back."""

import json
import math
import os
from dataclasses import fields, is_dataclass, replace

import pytest
import torch
from analytic_priors import Affine, Circle, Sphere
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onmanifold import Gaussian, InitialPoints, MaxSteps, Solution, solve
from onmanifold.descent import build_problem
from onmanifold.prior import Point
from onmanifold.storage import DamagedFile


def square(x):
    return x.flatten(1).square()


def solved(prior, batch=2, **options):
    source = torch.Generator().manual_seed(batch)
    y = torch.rand(batch, math.prod(prior.x_shape), generator=source, dtype=prior.dtype)
    return solve(square, y, prior, **options)


def assert_same(a, b, name="solution"):
    """Bitwise, NaN included, dtypes and types included."""
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and a.shape == b.shape, name
        assert a.contiguous().numpy().tobytes() == b.numpy().tobytes(), name
    elif is_dataclass(a):
        assert type(a) is type(b), name
        for field in fields(a):
            if field.name != "problem":
                assert_same(getattr(a, field.name), getattr(b, field.name), field.name)
    else:
        assert a == b and type(a) is type(b), name


def edit(folder, **changes):
    record = json.loads((folder / "solution.json").read_text())
    (folder / "solution.json").write_text(json.dumps(record | changes))


@pytest.fixture
def folder(tmp_path):
    solved(Circle(), trajectory=True).save(tmp_path / "stored")
    return tmp_path / "stored"


# Trajectory ---------------------------------------------------------------------------------------


def test_the_trajectory_has_its_latent_coordinates():
    prior = Circle()
    s = solved(prior, 4, trajectory=True)
    assert s.history.z.shape == (*s.history.chart.shape, prior.dim)
    for x, z, chart in zip(s.trajectory, s.history.z, s.history.chart, strict=True):
        assert torch.equal(x, prior.decode(Point(chart, z)))
    assert torch.equal(s.history.z[-1], s.z)
    assert solved(prior).history.z is None


# To disk and back ---------------------------------------------------------------------------------


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    prior=st.sampled_from([Circle, Sphere, Affine]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    batch=st.integers(1, 3),
    starts=st.integers(1, 3),
    steps=st.integers(1, 5),
    trajectory=st.booleans(),
    broken=st.booleans(),
)
def test_everything_but_the_problem_comes_back(
    tmp_path_factory, prior, dtype, batch, starts, steps, trajectory, broken
):
    s = solved(
        prior(dtype=dtype),
        batch,
        starts=InitialPoints(8, starts),
        stop=MaxSteps(steps),
        trajectory=trajectory,
    )
    if broken:
        s = replace(s, x=torch.full_like(s.x, torch.nan), seconds=float("inf"))
    folder = tmp_path_factory.mktemp("solutions") / "stored"
    s.save(folder)
    again = Solution.load(folder)
    assert_same(s, again)
    assert again.problem is None and again.summary() == s.summary()


def test_what_lies_in_the_folder(folder):
    assert sorted(os.listdir(folder)) == ["solution.json", "tensors.safetensors"]
    record = json.loads((folder / "solution.json").read_text())
    assert set(record["versions"]) == {"onmanifold", "torch"}
    assert record["solution"]["status"] == [s.name for s in Solution.load(folder).status]
    assert [result["status"] for result in record["results"]] == record["solution"]["status"]
    assert {result["consistent"] for result in record["results"]} == {"unknown"}
    assert record["solution"]["x"] == "float64 (2, 2)"


def test_a_solution_replaces_another(folder):
    s = solved(Sphere(), 3)
    s.save(str(folder))
    assert_same(s, Solution.load(str(folder)))


def test_an_earlier_version_lacked_a_field_with_a_default(folder):
    record = json.loads((folder / "solution.json").read_text())
    del record["solution"]["trajectory"]
    edit(folder, solution=record["solution"])
    assert Solution.load(folder).trajectory is None


def test_with_its_problem_again(folder):
    s = Solution.load(folder)
    problem = build_problem(square, s.measurement, Circle())
    again = Solution.load(folder, problem=problem)
    assert again.problem is problem
    assert [ax.get_title() for ax in again.plot_path().axes]
    other = build_problem(square, s.measurement + 1, Circle(), Gaussian(0.1))
    with pytest.raises(ValueError, match="other measurements"):
        Solution.load(folder, problem=other)


# Refused ------------------------------------------------------------------------------------------


def test_other_folders_are_left_alone(tmp_path):
    s = solved(Circle())
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="something else"):
        s.save(tmp_path)
    with pytest.raises(FileExistsError, match="is a file"):
        s.save(tmp_path / "notes.txt")
    assert os.listdir(tmp_path) == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    s.save(tmp_path / "empty")
    assert_same(s, Solution.load(tmp_path / "empty"))


def test_missing_files(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        Solution.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="not a stored solution"):
        Solution.load(tmp_path)
    (folder / "tensors.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no tensors\.safetensors"):
        Solution.load(folder)


def test_altered_tensors(folder):
    data = bytearray((folder / "tensors.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "tensors.safetensors").write_bytes(data)
    with pytest.raises(DamagedFile, match="truncated or altered"):
        Solution.load(folder)


def test_foreign_formats(folder):
    edit(folder, format="somebody.Else")
    with pytest.raises(DamagedFile, match="somebody"):
        Solution.load(folder)
    (folder / "solution.json").write_text("{}")
    with pytest.raises(DamagedFile, match="lacks format"):
        Solution.load(folder)
    (folder / "solution.json").write_bytes(b"\x80\x04not json")
    with pytest.raises(DamagedFile, match="not JSON"):
        Solution.load(folder)


def test_a_later_version(folder):
    edit(folder, schema=2)
    with pytest.raises(ValueError, match="newer onmanifold"):
        Solution.load(folder)


@pytest.mark.parametrize("solution", [[], {}, {"status": ["DONE"]}, None])
def test_records_that_are_no_solution(folder, solution):
    if isinstance(solution, dict) and solution:
        whole = json.loads((folder / "solution.json").read_text())["solution"]
        solution = whole | solution
    edit(folder, solution=solution)
    with pytest.raises(DamagedFile, match="do not make a solution"):
        Solution.load(folder)


def test_a_field_that_cannot_be_stored(tmp_path):
    s = replace(solved(Circle()), seconds=object())
    with pytest.raises(TypeError, match="seconds is a object"):
        s.save(tmp_path / "s")
    assert not list(tmp_path.iterdir())
