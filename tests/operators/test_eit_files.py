"""Measurements from files: what is read, what comes back, and what bad files get."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.io import savemat
from scipy.sparse import csc_matrix

from onmanifold.operators.eit.measurements.files import (
    read_measurement,
    read_table,
    save_measurement,
)
from onmanifold.operators.eit.measurements.measurement import Measurement
from onmanifold.operators.eit.models.protocol import Protocol

ADJACENT = Protocol.adjacent(6)
DROPPED = Protocol.adjacent(6, drop_driven=True)


def same(a, b):
    return (
        a.protocol == b.protocol
        and torch.equal(a.voltages, b.voltages)
        and torch.equal(a.mask, b.mask)
    )


def measured(protocol, missing=()):
    """Voltages with many digits, some missing."""
    source = np.random.default_rng(0)
    values = source.standard_normal(protocol.shape)
    values.ravel()[list(missing)] = math.nan
    return Measurement.from_values(protocol, values)


# Values ------------------------------------------------------------------------------------------


def test_voltages_come_in_many_shapes():
    full = np.arange(36.0).reshape(6, 6)
    whole = Measurement.from_values(ADJACENT, full)
    for values in (full.ravel(), full.reshape(-1, 1), full.reshape(1, -1)):
        assert same(Measurement.from_values(ADJACENT, values), whole)
    some = Measurement.from_values(DROPPED, full)
    assert some.voltages.shape == (18,)
    rows = DROPPED.rows()
    assert some.voltages.tolist() == full[rows[:, 0], rows[:, 1]].tolist()
    kept = full[DROPPED.mask]
    for values in (kept, kept[:, None], kept.reshape(6, 3), full.ravel()):
        assert same(Measurement.from_values(DROPPED, values), some)


@pytest.mark.parametrize(
    ("protocol", "values", "message"),
    [
        (ADJACENT, np.zeros(35), "have 35 entries; 6 injections with 6 patterns make 36"),
        (DROPPED, np.zeros(17), "17 entries; 6 .* make 36, of which 18 are measured"),
        (DROPPED, np.zeros((3, 6)), r"shape \(3, 6\); 6 injections"),
        (ADJACENT, np.full((6, 6), np.inf), "injection 1, pattern 1 is infinite"),
        (DROPPED, [*range(17), -np.inf], "injection 6, pattern 4 is infinite"),
    ],
)
def test_wrong_numbers_of_voltages(protocol, values, message):
    with pytest.raises(ValueError, match=message):
        Measurement.from_values(protocol, values)


def test_a_measurement_is_checked():
    voltages, mask = torch.zeros(6, 6, dtype=torch.float64), torch.ones(6, 6, dtype=torch.bool)
    with pytest.raises(TypeError, match="voltages has to be a tensor of torch.float64"):
        Measurement(ADJACENT, voltages.float(), mask)
    with pytest.raises(TypeError, match="mask has to be a tensor of torch.bool, got ndarray"):
        Measurement(ADJACENT, voltages, np.ones((6, 6), bool))
    with pytest.raises(
        ValueError, match=r"mask has shape \(6,\), expected the protocol's \(6, 6\)"
    ):
        Measurement(ADJACENT, voltages, mask[0])
    with pytest.raises(ValueError, match="NaN"):
        Measurement(ADJACENT, voltages / 0, mask)


# There and back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".npz", ".csv"])
@pytest.mark.parametrize("missing", [(), (2, 11)])
@pytest.mark.parametrize("protocol", [ADJACENT, DROPPED, Protocol.trigonometric(5)])
def test_saved_measurements_come_back(tmp_path, ending, missing, protocol):
    path = tmp_path / f"tank{ending}"
    save_measurement(path, measured(DROPPED))  # another one, overwritten
    measurement = measured(protocol, missing)
    save_measurement(path, measurement)
    again = read_measurement(path)
    assert same(again, measurement)
    assert int((~again.mask).sum()) == len(missing)


# Text --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "1,2,3\n4,,6\n",
        "1;2;3\n4;nan;6",
        "# made today\r\n1\t2\t3\r\n4\tNaN\t6\r\n",
        "plus, minus, both\n% from the lab\n\n1, 2, 3\n4, , 6  # drifting\n",
        "  1   2   3\n  4  nan  6.0e0\n",
        "\ufeff1,2,3\n4,NAN,6\n",
    ],
)
def test_tables_come_in_many_dialects(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    np.testing.assert_array_equal(read_table(path), [[1, 2, 3], [4, np.nan, 6]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n3,x\n", r"table.csv, line 2, column 2: 'x' is not a number"),
        ("U, V\n1,2\n\n3,4,5\n", r"table.csv, line 4 has 3 numbers, the lines above have 2"),
        ("# nothing\nU, V\n", "table.csv holds no numbers"),
        ("", "table.csv holds no numbers"),
    ],
)
def test_bad_tables_name_line_and_column(tmp_path, text, message):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_table(path)


def test_text_takes_its_protocol_from_tables_or_an_object(tmp_path):
    np.savetxt(tmp_path / "drive.txt", ADJACENT.injections)
    np.savetxt(tmp_path / "sense.txt", ADJACENT.patterns)
    values = np.arange(36.0).reshape(6, 6)
    np.savetxt(tmp_path / "v.csv", values, delimiter=",", header="voltages")
    tables = {"injections": tmp_path / "drive.txt", "patterns": tmp_path / "sense.txt"}
    expected = Measurement.from_values(ADJACENT, values)
    assert same(read_measurement(tmp_path / "v.csv", **tables), expected)
    assert same(read_measurement(tmp_path / "v.csv", protocol=ADJACENT), expected)
    some = read_measurement(tmp_path / "v.csv", protocol=DROPPED)
    assert same(some, Measurement.from_values(DROPPED, values))
    with pytest.raises(ValueError, match=r"v.csv: the voltages have .*; 3 injections"):
        read_measurement(tmp_path / "v.csv", protocol=Protocol.opposite(6))
    with pytest.raises(ValueError, match="v.csv holds voltages only: .*v.injections.csv"):
        read_measurement(tmp_path / "v.csv")
    np.savetxt(tmp_path / "drive.txt", np.eye(6))
    with pytest.raises(ValueError, match="drive.txt and .*sense.txt: the currents of injection 1"):
        read_measurement(tmp_path / "v.csv", **tables)


# Matlab ------------------------------------------------------------------------------------------


def eidors(protocol, reverse=()):
    """A struct array like EIDORS': each injection with its own patterns, in some in another order."""
    entries = []
    for i, mask in enumerate(protocol.mask):
        patterns = protocol.patterns[:, mask].T
        entries.append(
            (
                "Amp",
                csc_matrix(protocol.injections[:, [i]]),
                csc_matrix(patterns[::-1] if i in reverse else patterns),
            )
        )
    names = [("stimulation", object), ("stim_pattern", object), ("meas_pattern", object)]
    return np.array(entries, dtype=names).reshape(1, -1)


def by_value(measurement):
    """Voltages by the values of their injection and pattern."""
    p = measurement.protocol
    return {
        (tuple(p.injections[:, i]), tuple(p.patterns[:, m])): float(v)
        for (i, m), v in zip(p.rows(), measurement.voltages.flatten(), strict=True)
    }


@pytest.mark.parametrize("name", ["stimulation", "stim"])
@pytest.mark.parametrize("reverse", [(), (1, 4)])
def test_eidors_structures(tmp_path, name, reverse):
    expected = measured(DROPPED)
    values = expected.voltages.numpy().reshape(6, 3).copy()
    values[list(reverse)] = values[list(reverse)][:, ::-1]
    path = tmp_path / "tank.mat"
    savemat(path, {name: eidors(DROPPED, reverse), "vh": values.reshape(-1, 1), "fs": 10.0})
    got = read_measurement(path)
    assert got.protocol.shape == (18,) and got.protocol.full_shape == (6, 6)
    assert by_value(got) == by_value(expected)


def test_eidors_frames(tmp_path):
    path = tmp_path / "tank.mat"
    frames = np.arange(54.0).reshape(18, 3)
    savemat(path, {"stimulation": eidors(DROPPED), "vi": frames})
    with pytest.raises(ValueError, match="tank.mat: vi: 3 measurements of 18 voltages; .*frame="):
        read_measurement(path)
    with pytest.raises(ValueError, match="no frame 3"):
        read_measurement(path, frame=3)
    one = read_measurement(path, frame=1)
    savemat(path, {"stimulation": eidors(DROPPED), "vi": frames[:, 1]})
    assert same(one, read_measurement(path)) and one.voltages.sum() == frames[:, 1].sum()


def test_plain_matrices(tmp_path):
    path = tmp_path / "tank.mat"
    p = Protocol.opposite(6)
    values = np.arange(18.0)
    values[4] = np.nan
    expected = Measurement.from_values(p, values)
    savemat(
        path, {"stim_pattern": p.injections, "meas_pattern": csc_matrix(p.patterns.T), "v": values}
    )
    assert same(read_measurement(path), expected)
    savemat(path, {"injections": p.injections, "patterns": p.patterns, "v": values, "w": values})
    with pytest.raises(ValueError, match=r"18 voltages were expected in one variable, 2 fit \(v "):
        read_measurement(path)
    assert same(read_measurement(path, variable="w"), expected)
    assert same(read_measurement(path, variable="v", protocol=p), expected)
    with pytest.raises(ValueError, match="holds injections, patterns, v, w, not 'u'"):
        read_measurement(path, variable="u")


def test_challenge_files(tmp_path):
    p = Protocol.opposite(4)
    content = {"Inj": p.injections, "Mpat": p.patterns, "Uel": np.arange(8.0)}
    savemat(tmp_path / "data1.mat", content)
    got = read_measurement(tmp_path / "data1.mat")
    assert same(got, Measurement.from_values(p, np.arange(8.0)))


def altered(**fields):
    """EIDORS' structures with a field of the third injection replaced."""
    structures = eidors(DROPPED)
    for name, value in fields.items():
        structures[0, 2][name] = value
    return structures


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"vh": np.zeros(18)}, "tank.mat holds vh; a protocol is a struct array stimulation"),
        ({"stim": eidors(DROPPED), "vh": np.zeros(17)}, r"18 voltages .* 0 fit \(vh \(1, 17\)\)"),
        (
            {"stim": np.zeros((1, 6), [("stim_pattern", object)]), "vh": np.zeros(18)},
            "tank.mat: stim lacks the field meas_pattern",
        ),
        (
            {"stim": altered(meas_pattern=np.eye(5)), "vh": np.zeros(18)},
            r"stim\(3\).meas_pattern has shape \(5, 5\); .* 6 electrodes, so \(M, 6\)",
        ),
        (
            {"stim": altered(stim_pattern=np.ones(5)), "vh": np.zeros(18)},
            r"stim\(3\).stim_pattern has 5 entries, the first 6",
        ),
        (
            {"stim": altered(stim_pattern=np.ones(6)), "vh": np.zeros(18)},
            "tank.mat: stim: the currents of injection 3",
        ),
        (
            {"stim": altered(meas_pattern=np.ones((2, 6))), "vh": np.zeros(18)},
            r"stim\(3\).meas_pattern holds a row twice",
        ),
        (
            {"stim": altered(meas_pattern="abc"), "vh": np.zeros(18)},
            r"stim\(3\).meas_pattern does not hold real numbers",
        ),
    ],
)
def test_bad_matlab_files_name_what_is_wrong(tmp_path, content, message):
    savemat(tmp_path / "tank.mat", content)
    with pytest.raises(ValueError, match=message):
        read_measurement(tmp_path / "tank.mat")


# npz ---------------------------------------------------------------------------------------------


def test_npz_with_a_mask(tmp_path):
    path = tmp_path / "tank.npz"
    mask = np.ones((6, 6), bool)
    mask[2, 3] = False
    np.savez(
        path,
        voltages=np.ones((6, 6)),
        injections=ADJACENT.injections,
        patterns=ADJACENT.patterns,
        mask=mask,
    )
    got = read_measurement(path)
    assert torch.equal(got.mask, torch.from_numpy(mask)) and got.voltages.sum() == 35


def test_bad_npz(tmp_path):
    path = tmp_path / "tank.npz"
    np.savez(path, voltages=np.zeros(36), patterns=ADJACENT.patterns)
    with pytest.raises(ValueError, match="tank.npz lacks injections; it holds voltages, patterns"):
        read_measurement(path)
    assert read_measurement(path, protocol=ADJACENT).voltages.shape == (6, 6)
    with pytest.raises(ValueError, match="tank.npz: voltages: the voltages have 36 entries; 3 inj"):
        read_measurement(path, protocol=Protocol.opposite(6))


@pytest.mark.parametrize("name", ["tank.mat", "tank.npz", "tank.csv"])
def test_unreadable_files_are_named(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(FileNotFoundError, match=name):
        read_measurement(path, protocol=ADJACENT)
    for content in (b"", b"PK\x03\x04" + bytes(30), bytes(range(256)) * 4):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=name):
            read_measurement(path, protocol=ADJACENT)


def test_other_files(tmp_path):
    with pytest.raises(ValueError, match="tank.xlsx: measurements are files of type .mat, .npz"):
        read_measurement(tmp_path / "tank.xlsx")
    with pytest.raises(ValueError, match="written as .npz or .csv"):
        save_measurement(tmp_path / "tank.mat", measured(ADJACENT))
    with pytest.raises(ValueError, match="are for text files, not for .npz"):
        read_measurement(tmp_path / "tank.npz", injections=tmp_path / "a.csv")
