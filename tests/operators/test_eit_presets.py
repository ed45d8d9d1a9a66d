"""Protocols by name: electrodes, signs and order as pyEIT and EIDORS have them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onmanifold.errors import InputError
from onmanifold.operators.eit import Protocol, frames_of, named_protocol, read_frames
from onmanifold.operators.eit.models.presets import convention, rivals


def voltages_of(named, potentials):
    """What a file of this protocol would hold, potentials ``(L, L)`` for unit currents."""
    plan = named.protocol
    values = (plan.injections.T @ potentials @ plan.patterns)[plan.mask]
    if named.order is None:
        return values
    file = np.empty_like(values)
    file[named.order] = values
    return file


def by_pyeit(electrodes, distance, rotated, driven, potentials):
    """The same as pyEIT documents it: ``build_exc_pattern_std`` and ``build_meas_pattern_std``."""
    values = []
    for a in range(electrodes):
        b = (a + distance) % electrodes
        u = potentials[a] - potentials[b]
        for step in range(electrodes):
            m = (step + (a if rotated else 0)) % electrodes
            n = (m + 1) % electrodes
            if driven or not {m, n} & {a, b}:
                values.append(u[n] - u[m])
    return np.array(values)


@pytest.mark.parametrize("electrodes", [8, 16, 32])
@pytest.mark.parametrize("drive, distance", [("", 1), ("-opposite", None), ("-skip-2", 3)])
@pytest.mark.parametrize("rotated", ["", "-rotated"])
@pytest.mark.parametrize("driven", [False, True])
def test_voltages_are_those_of_pyeit_and_eidors(electrodes, drive, distance, rotated, driven):
    potentials = np.random.default_rng(0).normal(size=(electrodes, electrodes))
    wanted = by_pyeit(electrodes, distance or electrodes // 2, bool(rotated), driven, potentials)
    for software in ("pyeit", "eidors"):
        found = named_protocol(software + drive + rotated, (1, len(wanted)))
        assert found.protocol.electrodes == electrodes
        np.testing.assert_allclose(voltages_of(found, potentials), wanted)


def test_mk_stim_patterns_of_eidors():
    """The numbers of its own unit tests: adjacent patterns of 16 electrodes, rotated and not."""
    plain = named_protocol("{ad},{ad}", (208,))
    assert plain.protocol.injections[:, 0].tolist() == [-1, 1, *[0] * 14]
    assert plain.protocol.injections[:, 9].tolist() == [*[0] * 9, -1, 1, *[0] * 5]
    rows = plain.protocol.rows()
    first = plain.protocol.patterns[:, rows[0, 1]]
    assert first.tolist() == [0, 0, 1, -1, *[0] * 12]
    turned = named_protocol("[0 1],[0 1],rotate_meas", (208,))
    in_file = rows[np.argsort(turned.order)]
    tenth = turned.protocol.patterns[:, in_file[in_file[:, 0] == 9][0, 1]]
    assert tenth.tolist() == [*[0] * 11, 1, -1, *[0] * 3]


def test_own_names_are_those_of_protocol():
    assert named_protocol("adjacent16", (208,)).protocol == Protocol.adjacent(16, drop_driven=True)
    assert named_protocol("adjacent", (32, 32)).protocol == Protocol.adjacent(32)
    assert named_protocol("opposite16", (128, 3)).protocol == Protocol.opposite(16)
    assert named_protocol("skip-2-16", (192,)).protocol == Protocol.skip(16, 2, drop_driven=True)


@given(st.sampled_from([208, 928, 40, 192, 896, 256]), st.integers(1, 5))
def test_names_are_read_again(count, frames):
    for name in ("pyeit", "eidors-opposite", "skip-3", "[0 1],[0 1]", "{op},{ad}"):
        for found in convention(name).fitting((frames, count)):
            again = named_protocol(found.name, (frames, count))
            assert again.name == found.name and again.protocol == found.protocol


def test_a_frame_in_each_row_or_column():
    values = np.arange(3 * 208.0).reshape(3, 208)
    rotated = named_protocol("pyeit-rotated", (208,))
    for array in (values, values.T):
        frames = frames_of(array, "pyeit-rotated16")
        assert [one.voltages.tolist() for one in frames] == values[:, rotated.order].tolist()


def test_matlab_and_csv_by_name(tmp_path):
    from scipy.io import savemat

    values = np.linspace(1, 2, 416).reshape(208, 2)
    savemat(tmp_path / "a.mat", {"vv": values, "time": np.arange(5)})
    np.savetxt(tmp_path / "a.csv", values, delimiter=";")
    for name in ("a.mat", "a.csv"):
        frames = read_frames(tmp_path / name, protocol="eidors16")
        assert [float(one.voltages[0]) for one in frames] == pytest.approx(values[0].tolist())


@pytest.mark.parametrize(
    "name, shape, message",
    [
        ("other", (208,), "unknown protocol 'other'; names are such as adjacent16"),
        ("pyeit16", (200,), r"208 \(16 electrodes\), 256 \(16 electrodes, driven"),
        ("pyeit-opposite", (208,), "it has as many as pyeit16"),
        ("[0 1],[0 1],flip", (208,), "unknown flip; known: rotate_meas"),
        ("adjacent", (208, 928), "with 16, 32 electrodes; say how many, as in pyeit16"),
        ("16", (208,), "unknown protocol '16'"),
    ],
)
def test_what_is_refused(name, shape, message):
    with pytest.raises(InputError, match=message):
        named_protocol(name, shape)


def test_rivals_have_as_many_voltages():
    names = [p.name for p in rivals((192,), 16)]
    assert "pyeit-opposite16" in names and "skip-3-16-rotated" in names
    assert all(p.protocol.mask.sum() == 192 for p in rivals((192,), 16))
