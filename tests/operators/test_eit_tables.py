"""Tables in text files, frames of a time series, nested structs of Matlab and its files of version 7.3."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csc_matrix

from onmanifold.errors import InputError, MissingPackage
from onmanifold.operators.eit import Measurement, Protocol, read_measurement, save_measurement
from onmanifold.operators.eit.measurements.frames import frame_axis
from onmanifold.operators.eit.measurements.tables import read_table

DROPPED = Protocol.adjacent(8, drop_driven=True)  # 40 voltages
VALUES = np.random.default_rng(0).normal(size=(8, 5))


def comma(value):
    return repr(float(value)).replace(".", ",")


def table(values, separator, number=repr):
    return "\n".join(separator.join(number(float(v)) for v in row) for row in values)


def write(tmp_path, text, name="a.csv", encoding="utf-8"):
    (tmp_path / name).write_text(text, encoding=encoding)
    return tmp_path / name


# Decimal commas -----------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [";", "\t", " ", "  ", "; ", " ;\t"])
@pytest.mark.parametrize("number", [repr, comma], ids=["point", "comma"])
@pytest.mark.parametrize("heading", ["", "Kanal 1;Kanal 2\n", "sep=;\n", "# 1,5;x\n", "[V];[V]\n"])
def test_decimal_signs(tmp_path, heading, number, separator):
    path = write(tmp_path, heading + table(VALUES, separator, number))
    np.testing.assert_array_equal(read_table(path), VALUES)


@pytest.mark.parametrize("quote", [True, False])
def test_commas_between_quotes_are_decimal(tmp_path, quote):
    text = table(VALUES, ",", lambda v: f'"{comma(v)}"') if quote else table(VALUES, ", ")
    np.testing.assert_array_equal(read_table(write(tmp_path, text)), VALUES)


def test_one_column_needs_a_word(tmp_path):
    path = write(tmp_path, table(VALUES.reshape(-1, 1), "", comma))
    for options in ({}, {"frame": 0}, {"frame": 1}):
        with pytest.raises(InputError, match="decimal commas or separate numbers"):
            read_measurement(path, protocol=DROPPED, **options)
    found = read_measurement(path, protocol=DROPPED, decimal=",")
    np.testing.assert_array_equal(found.voltages, VALUES.ravel())


def test_pairs_of_whole_numbers_are_told_by_decimal(tmp_path):
    path = write(tmp_path, "3,125\n-4,25\n")
    np.testing.assert_array_equal(read_table(path, "."), [[3, 125], [-4, 25]])
    np.testing.assert_array_equal(read_table(path, ","), [[3.125], [-4.25]])
    with pytest.raises(InputError, match="decimal="):
        read_table(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,0\n0,1", [[1, 0], [0, 1]]),  # what is measured
        ("1,-1\n-1,1", [[1, -1], [-1, 1]]),
        ("1.0,2\n3,4", [[1, 2], [3, 4]]),
        ("1, 2\n3, 4", [[1, 2], [3, 4]]),
        ("1,2,3\n4,5,6", [[1, 2, 3], [4, 5, 6]]),
        ("1,2,3,4\n5,6,7,8", [[1, 2, 3, 4], [5, 6, 7, 8]]),
        ("1.0,\t2.0\n3.0,\t4.0", [[1, 2], [3, 4]]),
        ("nan,1.5\nnan,2.5", [[np.nan, 1.5], [np.nan, 2.5]]),
        (";1,5\n2;", [[np.nan, 1.5], [2, np.nan]]),
        ("1,5e-3;2,5E+2", [[1.5e-3, 250]]),
        ("-,5;+0,5", [[-0.5, 0.5]]),
    ],
)
def test_what_commas_mean(tmp_path, text, expected):
    np.testing.assert_array_equal(read_table(write(tmp_path, text)), expected)


@pytest.mark.parametrize(
    ("text", "decimal", "message"),
    [
        ("0,5,1,25\n-1,05,0,75", None, "decimal commas or separate"),
        ("1.234,5;2,5", None, "line 1"),
        ("1,5;2.5", None, "one decimal sign"),
        ("1,5\t2,5", ".", "one decimal sign"),
        ("1.5;2.5", ",", "one decimal sign"),
        ("1;2", "comma", "decimal has to be"),
        ("1;2\n1,5,2", None, "line 2"),
        ("1_000;2", None, "line 1"),
        ("0x10;2", None, "line 1"),
        ("\u2212" + "0,5;1", None, "line 1"),
        ("1,5 V;2,5 V\n3;4", None, "line 1.*neither numbers nor words"),
        ("O.5;0.7\n0.1;0.2", None, "line 1"),
        ("2024-01-05 10:30\n1;2", None, "line 1"),
        ("kanal;1\nx;2\ny;3", None, "no numbers"),
        ("1;2\nend of file", None, "line 2"),
        ("1;2\n\n3;4;5", None, "line 3 has 3 numbers"),
        ("words only", None, "no numbers"),
        ("", None, "no numbers"),
    ],
)
def test_what_is_not_understood_is_an_error(tmp_path, text, decimal, message):
    with pytest.raises(InputError, match=message):
        read_table(write(tmp_path, text), decimal)


def test_decimal_is_for_text(tmp_path):
    save_measurement(tmp_path / "a.npz", Measurement.from_values(DROPPED, VALUES))
    with pytest.raises(InputError, match="decimal= is for text files"):
        read_measurement(tmp_path / "a.npz", decimal=",")


# Frames -------------------------------------------------------------------------------------------


def stack(layout):
    """Four frames, the k-th larger by k, and the protocol that they are measured with."""
    full = np.random.default_rng(1).normal(size=(8, 8))
    protocol = Protocol.adjacent(8) if layout in ("matrices", "last") else DROPPED
    flat = full.ravel() if layout == "all patterns" else protocol.pick(_tensor(full)).numpy()
    frames = np.stack([flat + k for k in range(4)])
    if layout == "columns":
        return frames.T, protocol
    return (np.moveaxis(frames, 0, -1) if layout == "last" else frames), protocol


def _tensor(array):
    return importlib.import_module("torch").from_numpy(array)


@pytest.mark.parametrize("ending", ["csv", "mat", "npy", "npz"])
@pytest.mark.parametrize("layout", ["rows", "columns", "all patterns", "matrices", "last"])
def test_frames(tmp_path, layout, ending):
    values, protocol = stack(layout)
    path = tmp_path / f"a.{ending}"
    if ending == "csv":
        if values.ndim == 3:
            pytest.skip("text has two axes")
        path.write_text(table(values, ","))
    elif ending == "mat":
        savemat(path, {"data": values})
    elif ending == "npy":
        np.save(path, values)
    else:
        np.savez(path, voltages=values)
    first, third = (
        read_measurement(path, protocol=protocol, frame=k).voltages for k in (0, np.int64(3))
    )
    np.testing.assert_allclose(third, first + 3, rtol=1e-12)
    axis = frame_axis(values.shape, protocol)
    expected = Measurement.from_values(protocol, np.take(values, 0, axis)).voltages
    np.testing.assert_array_equal(first, expected)
    with pytest.raises(InputError, match="say which one with frame="):
        read_measurement(path, protocol=protocol)
    with pytest.raises(InputError, match="no frame 4"):
        read_measurement(path, protocol=protocol, frame=4)
    for frame in (-1, True, 1.0, "1"):
        with pytest.raises(InputError, match="frame"):
            read_measurement(path, protocol=protocol, frame=frame)


def test_as_many_frames_as_voltages_are_ambiguous(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((40, 40)))
    with pytest.raises(InputError, match="in each row or in each column"):
        read_measurement(tmp_path / "a.npy", protocol=DROPPED, frame=1)


def test_frames_keep_their_own_mask(tmp_path):
    values, mask = np.arange(80.0).reshape(2, 40), np.ones((2, 40), bool)
    mask[1, 3] = False
    arrays = {"injections": DROPPED.injections, "patterns": DROPPED.patterns}
    np.savez(tmp_path / "a.npz", voltages=values, mask=mask, measured=DROPPED.measured, **arrays)
    assert read_measurement(tmp_path / "a.npz", frame=0).mask.all()
    second = read_measurement(tmp_path / "a.npz", frame=1)
    assert (~second.mask).nonzero().flatten().tolist() == [3] and second.voltages[4] == 44


def test_an_empty_frame_is_no_measurement(tmp_path):
    path = write(tmp_path, "\n".join(f"{v!r};" for v in VALUES.ravel().tolist()))
    with pytest.raises(InputError, match="frame 1 holds no voltages"):
        read_measurement(path, protocol=DROPPED, frame=1)


# Matlab's structs ---------------------------------------------------------------------------------


def stimulation(count=8, shift=0):
    """EIDORS' struct array of adjacent injections, patterns that touch the driven electrodes left out."""
    result = np.zeros((1, count), dtype=[(n, object) for n in ("stim_pattern", "meas_pattern")])
    for i in range(count):
        current = np.zeros((count, 1))
        current[i], current[(i + 1) % count] = -1, 1
        rows = []
        for k in range(count):
            a = (k + shift) % count
            if not {a, (a + 1) % count} & {i, (i + 1) % count}:
                rows.append(np.eye(count)[a] - np.eye(count)[(a + 1) % count])
        result[0, i] = (csc_matrix(current), csc_matrix(np.array(rows)))
    return result


PLACES = {
    "top": lambda s: {"stimulation": s},
    "fmdl": lambda s: {"fmdl": {"stimulation": s, "name": "tank"}},
    "img": lambda s: {"img": {"fwd_model": {"stimulation": s}, "elem_data": np.ones((90, 1))}},
    "both": lambda s: {"fmdl": {"stimulation": s}, "img": {"fwd_model": {"stimulation": s}}},
    "another name": lambda s: {"model": {"patterns": s}},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("nested", [True, False])
def test_nested_structs(tmp_path, place, nested):
    values = VALUES.reshape(-1, 1)
    voltages = {"vh": {"meas": values, "type": "data"} if nested else values}
    savemat(tmp_path / "a.mat", PLACES[place](stimulation()) | voltages)
    found = read_measurement(tmp_path / "a.mat")
    np.testing.assert_array_equal(found.voltages, VALUES.ravel())
    assert found.protocol.full_shape == (8, 8)
    named = read_measurement(tmp_path / "a.mat", variable="vh.meas" if nested else "vh")
    np.testing.assert_array_equal(named.voltages, found.voltages)


def test_two_that_fit_are_named(tmp_path):
    content = {"vh": {"meas": VALUES.reshape(-1, 1)}, "vi": {"meas": 2 * VALUES.reshape(-1, 1)}}
    savemat(tmp_path / "a.mat", content | {"fmdl": {"stimulation": stimulation()}})
    with pytest.raises(InputError, match=r"2 fit.*vh\.meas \(40, 1\), vi\.meas"):
        read_measurement(tmp_path / "a.mat")
    found = read_measurement(tmp_path / "a.mat", variable="vi.meas")
    np.testing.assert_array_equal(found.voltages, 2 * VALUES.ravel())
    with pytest.raises(InputError, match=r"holds fmdl\.stimulation, vh\.meas, vi\.meas, not 'vj'"):
        read_measurement(tmp_path / "a.mat", variable="vj")


def test_struct_arrays_have_numbers(tmp_path):
    data = np.zeros((1, 2), dtype=[("meas", object)])
    data[0, 0], data[0, 1] = (VALUES.reshape(-1, 1),), (3 * VALUES.reshape(-1, 1),)
    savemat(tmp_path / "a.mat", {"v": data, "stimulation": stimulation()})
    found = read_measurement(tmp_path / "a.mat", variable="v(2).meas")
    np.testing.assert_array_equal(found.voltages, 3 * VALUES.ravel())


def test_protocols_that_differ_are_refused(tmp_path):
    content = {"a": {"stimulation": stimulation()}, "b": {"stimulation": stimulation(shift=2)}}
    savemat(tmp_path / "a.mat", content | {"v": VALUES.reshape(-1, 1)})
    with pytest.raises(InputError, match=r"a\.stimulation and b\.stimulation"):
        read_measurement(tmp_path / "a.mat")


def test_rotated_patterns_find_their_places(tmp_path):
    """Where injections list patterns in other orders, each voltage still goes to its own."""
    savemat(tmp_path / "a.mat", {"stimulation": stimulation(shift=3), "v": VALUES.reshape(-1, 1)})
    found = read_measurement(tmp_path / "a.mat")
    values = iter(VALUES.ravel())
    for i, one in enumerate(stimulation(shift=3)[0]):
        for row in one["meas_pattern"].toarray():
            m = np.flatnonzero((found.protocol.patterns.T == row).all(axis=1))[0]
            place = np.flatnonzero((found.protocol.rows() == (i, m)).all(axis=1))[0]
            assert found.voltages[place] == next(values)


def test_complex_voltages_in_structs_are_refused(tmp_path):
    content = {"vh": {"meas": VALUES.reshape(-1, 1) * (1 + 1j)}, "stimulation": stimulation()}
    savemat(tmp_path / "a.mat", content)
    with pytest.raises(InputError, match=r"vh\.meas.*complex"):
        read_measurement(tmp_path / "a.mat")


# Matlab 7.3 ---------------------------------------------------------------------------------------


def write73(path, content):
    """What Matlab writes with -v7.3: data sets transposed, groups as structs, references in arrays."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in content.items():
            _put(h5py, file, file, name, value)
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    with path.open("r+b") as file:
        file.write(header)


def _put(h5py, file, group, name, value):
    if isinstance(value, dict):
        inside = group.create_group(name)
        inside.attrs["MATLAB_class"] = np.bytes_("struct")
        for field, part in value.items():
            _put(h5py, file, inside, field, part)
    elif isinstance(value, str):
        codes = np.array([[ord(c)] for c in value], np.uint16)
        group.create_dataset(name, data=codes).attrs["MATLAB_class"] = np.bytes_("char")
    elif isinstance(value, csc_matrix):
        inside = group.create_group(name)
        inside.attrs["MATLAB_class"] = np.bytes_("double")
        inside.attrs["MATLAB_sparse"] = np.uint64(value.shape[0])
        inside["jc"] = value.indptr.astype(np.uint64)
        if value.nnz:
            inside["ir"], inside["data"] = value.indices.astype(np.uint64), value.data
    elif value.dtype.names:
        inside, hidden = group.create_group(name), file.require_group("#refs#")
        inside.attrs["MATLAB_class"] = np.bytes_("struct")
        for field in value.dtype.names:
            table = inside.create_dataset(field, value.T.shape, h5py.ref_dtype)
            for place, item in np.ndenumerate(value):
                key = f"{name}{field}{len(hidden)}"
                _put(h5py, file, hidden, key, item[field])
                table[place[::-1]] = hidden[key].ref
    else:
        group.create_dataset(name, data=value.T).attrs["MATLAB_class"] = np.bytes_("double")


@pytest.mark.parametrize("place", PLACES)
def test_matlab_73(tmp_path, place):
    voltages = {"vh": {"meas": VALUES.reshape(-1, 1), "type": "data"}}
    write73(tmp_path / "a.mat", PLACES[place](stimulation()) | voltages)
    found = read_measurement(tmp_path / "a.mat")
    savemat(tmp_path / "b.mat", PLACES[place](stimulation()) | voltages)
    other = read_measurement(tmp_path / "b.mat")
    assert found.protocol == other.protocol
    np.testing.assert_array_equal(found.voltages, other.voltages)
    np.testing.assert_array_equal(found.voltages, VALUES.ravel())


def test_matlab_73_matrices_are_not_transposed(tmp_path):
    injections, patterns = (np.eye(4)[:, :3] - np.eye(4)[:, 1:] for _ in range(2))
    values = np.arange(9.0).reshape(3, 3)
    write73(tmp_path / "a.mat", {"injections": injections, "patterns": patterns, "u": values})
    found = read_measurement(tmp_path / "a.mat")
    np.testing.assert_array_equal(found.protocol.injections, injections)
    np.testing.assert_array_equal(found.voltages, values)


def test_matlab_73_says_what_to_install(tmp_path, monkeypatch):
    write73(tmp_path / "a.mat", {"v": VALUES})
    monkeypatch.setitem(importlib.import_module("sys").modules, "h5py", None)
    with pytest.raises(MissingPackage, match=r"a\.mat.*pip install h5py"):
        read_measurement(tmp_path / "a.mat", protocol=DROPPED)


def test_damaged_matlab_73_is_named(tmp_path):
    write73(tmp_path / "a.mat", {"v": VALUES})
    whole = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(InputError, match=r"a\.mat is not a readable Matlab"):
        read_measurement(tmp_path / "a.mat", protocol=DROPPED)
