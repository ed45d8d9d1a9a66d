"""EIT from plain options: every name there is, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onmanifold.operators.eit import ktc
from onmanifold.operators.eit.conductivity import Labels
from onmanifold.operators.eit.fem.discretization import load_discretization
from onmanifold.operators.eit.measurements.files import save_measurement
from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.models.presets import named_protocol
from onmanifold.operators.eit.models.protocol import Protocol
from onmanifold.operators.eit.options import from_options


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"protocol": "skip-4"}, Protocol.skip(32, 4)),
        ({"protocol": "skip-4", "drop_driven": True}, Protocol.skip(32, 4, drop_driven=True)),
        (
            {"protocol": {"protocol": "skip", "skip": 2, "skip_measured": 2, "current": 0.5}},
            Protocol.skip(32, 2, 0.5, skip_measured=2),
        ),
        ({"protocol": "trigonometric"}, Protocol.trigonometric(32)),
        ({"drop_driven": True}, Protocol.adjacent(32, drop_driven=True)),
        ({"tank": "ktc"}, ktc.protocol()),
        (
            {"tank": "ktc", "drop_driven": True},
            Protocol(ktc.protocol().injections, ktc.protocol().patterns, drop_driven=True),
        ),
    ],
)
def test_protocols(given, expected):
    assert from_options(mesh="coarse", **given).protocol == expected


def test_the_continuum_model():
    assert from_options(mesh="coarse", protocol="walsh").y_shape == (15, 128)
    small = from_options(mesh="coarse", protocol={"protocol": "walsh", "arcs": 8, "points": 32})
    assert small.y_shape == (7, 32)


def test_labels_bring_their_channels():
    options = {"map": "labels", "background": 0.8, "free": ["background", "conductive"]}
    made = from_options(conductivity=options, mesh="coarse")
    assert made.conductivity == Labels(background=0.8, free=("background", "conductive"))
    assert made.x_shape == (3, 64, 64)
    assert made.A(torch.zeros(1, 3, 64, 64)).shape == (1, 32, 32)


@pytest.fixture
def measured(tmp_path):
    """A reference measurement in a file, whose ending is asked for."""

    def write(ending, protocol, missing=False):
        values = np.random.default_rng(0).standard_normal(protocol.shape)
        values.ravel()[0] = np.nan if missing else 1.0
        path = tmp_path / f"water{ending}"
        save_measurement(path, Measurement.from_values(protocol, values))
        return str(path), torch.from_numpy(values)

    return write


@pytest.mark.parametrize("ending", [".npz", ".csv"])
@pytest.mark.parametrize(
    "protocol", [Protocol.skip(32, 3), Protocol.opposite(32, drop_driven=True)]
)
def test_reference_and_protocol_from_a_measurement_file(measured, ending, protocol):
    path, values = measured(ending, protocol)
    made = from_options((1, 8, 8), reference=path, mesh="coarse", background=2.0)
    assert made.protocol == protocol
    water = torch.full((1, 1, 8, 8), 2.0, dtype=torch.float64)
    torch.testing.assert_close(made.A(water)[0], values)
    assert from_options(protocol=path, mesh="coarse").protocol == protocol


def test_a_named_protocol_goes_before_the_file_s(measured):
    path, values = measured(".npz", Protocol.adjacent(32))
    made = from_options((1, 8, 8), protocol="skip-5", reference=path, mesh="coarse", background=1.0)
    assert made.protocol == Protocol.skip(32, 5)


def test_mesh_files(tmp_path):
    load_discretization("coarse", ktc.tank()).save(tmp_path / "ktc.npz")
    made = from_options((1, 8, 8), tank="ktc", mesh=str(tmp_path / "ktc.npz"))
    x = torch.full((1, 1, 8, 8), 0.8, dtype=torch.float64)
    expected = from_options((1, 8, 8), tank="ktc", mesh="coarse").A(x)
    torch.testing.assert_close(made.A(x), expected, rtol=1e-5, atol=1e-6)


def test_meshes_made_of_the_tank(compiler):
    round_tank = {"radius": 0.5, "electrodes": 8, "width": 20}
    made = from_options((1, 8, 8), tank=round_tank, mesh={"mesh": "polar", "edges": 2})
    assert made.y_shape == (8, 8)
    second = from_options((1, 8, 8), tank=round_tank, mesh="polar", degree=2)
    assert second.A(torch.ones(1, 1, 8, 8)).shape == (1, 8, 8)
    square = {"shape": "curve", "points": [[0, 0], [1, 0], [1, 1], [0, 1]], "electrodes": 8}
    pytest.importorskip("gmsh", exc_type=ImportError)
    curve = from_options(
        tank=square | {"width": 0.1}, mesh={"mesh": "gmsh", "interior": 0.2, "edge": 0.05}
    )
    assert curve.x_shape == (1, 64, 64) and curve.y_shape == (8, 8)


def test_names_of_pyeit_and_eidors_place_the_electrodes_too(compiler):
    operators = [
        from_options((1, 8, 8), protocol=name, drop_driven=True, mesh="polar")
        for name in ("pyeit16", "eidors16", "adjacent16")
    ]
    for name, operator in zip(("pyeit16", "eidors16", "adjacent16"), operators, strict=True):
        meant = named_protocol(name, (208,))
        body = operator.tank
        assert (body.electrodes, body.first_angle) == (16, meant.first_angle)
        assert body.clockwise == meant.clockwise and operator.y_shape == (208,)
        assert np.array_equal(operator.protocol.injections, meant.protocol.injections)
    x = torch.ones(1, 1, 8, 8)
    x[..., :3, 2] = 2.0
    voltages = [operator.A(x) for operator in operators]
    assert not torch.allclose(voltages[0], voltages[1], rtol=1e-2)
    # a tank that is described stays as it is
    own = from_options(
        (1, 8, 8), tank={"electrodes": 16, "width": 10}, protocol="pyeit", mesh="polar"
    )
    assert own.tank.first_angle == 0 and own.y_shape == (16, 16)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"protocol": "pyeit16", "tank": "ktc"}, ValueError, "of 16 electrodes, .* tank has 32"),
        ({"protocol": "pyeit-rotated"}, ValueError, "'pyeit-rotated' has another order"),
        (
            {"tank": {"shape": "ball"}},
            ValueError,
            "unknown shape 'ball'; known: tank, curve, cyl",
        ),
        ({"tank": {"shape": "cylinder", "depth": 1}}, TypeError, "Cylinder does not take depth"),
        ({"tank": "mesh"}, ValueError, "needs a mesh file, .msh or .xdmf; got mesh None"),
        ({"tank": "mesh", "mesh": "polar"}, ValueError, "needs a mesh file"),
        (
            {"protocol": "skip-x"},
            ValueError,
            "unknown protocol 'skip-x'; known: adjacent, opposite",
        ),
        ({"protocol": "skip"}, TypeError, "skip needs skip"),
        ({"protocol": "skip-31"}, ValueError, "skip has to be 0 to 30, got 31"),
        (
            {"protocol": {"protocol": "opposite", "skip": 1}},
            TypeError,
            "opposite does not take skip",
        ),
        ({"protocol": {"protocol": "adjacent", "electrodes": 8}}, TypeError, "not take electrodes"),
        ({"protocol": "nowhere.mat"}, FileNotFoundError, "nowhere.mat"),
        ({"protocol": "walsh", "drop_driven": True}, ValueError, "no electrodes to drop"),
        ({"protocol": "walsh", "reference": "water.npz"}, ValueError, "reference as voltages"),
        ({"conductivity": {"map": "labels", "free": ["water"]}}, ValueError, "some of resistive"),
        ({"conductivity": {"background": 1}}, ValueError, "unknown conductivity map None"),
        ({"mesh": "huge"}, ValueError, "unknown mesh 'huge'; known: coarse, .*, gmsh, polar, or a"),
        ({"mesh": "nowhere.msh"}, FileNotFoundError, "nowhere.msh"),
        ({"mesh": "nowhere.npz"}, FileNotFoundError, "nowhere.npz"),
        (
            {"mesh": {"mesh": "polar", "fine": 1}},
            TypeError,
            "polar_mesh does not take fine; it takes e",
        ),
        ({"reference": "nowhere.csv"}, FileNotFoundError, "nowhere"),
        ({"reference": "water.xlsx"}, ValueError, "measurements are files of type .mat"),
    ],
)
def test_options_refuse(options, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        from_options(**options)


def test_references_have_to_be_complete(measured):
    path, _ = measured(".npz", Protocol.adjacent(32), missing=True)
    with pytest.raises(ValueError, match="water.npz has missing voltages"):
        from_options(reference=path, mesh="coarse")
    with pytest.raises(
        ValueError, match="drop_driven does not apply to the protocol in .*water.npz"
    ):
        from_options(reference=path, mesh="coarse", drop_driven=True)


def test_drop_driven_is_true_or_false():
    with pytest.raises(TypeError, match="drop_driven has to be true or false, got 'False'"):
        from_options(mesh="coarse", drop_driven="False")
