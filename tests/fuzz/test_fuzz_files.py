"""Readers of measurements, arrays and meshes on changed files: refused, or nothing that the file does not hold."""

import io
import math
import re

import numpy as np
import pytest
import scipy.io
from hypothesis import strategies as st
from judge import Refused, outcome
from matplotlib.image import imsave

from onmanifold.arrays import read_array
from onmanifold.operators.eit import Measurement, Protocol, read_measurement, read_mesh
from onmanifold.operators.eit.measurements.files import read_table, save_measurement

PROTOCOL = Protocol.opposite(6)
VALUES = np.random.default_rng(0).normal(size=PROTOCOL.full_shape).round(4)
CHANGES = st.lists(
    st.tuples(st.sampled_from(["flip", "drop", "insert", "cut", "double"]), st.floats(0, 1), st.integers(0, 255)),
    min_size=1, max_size=4,
)  # fmt: skip


def changed(data, changes):
    """Bytes with some replaced, taken out, put in, cut off or repeated."""
    data = bytearray(data)
    for kind, where, byte in changes:
        place = min(int(where * len(data)), len(data) - 1) if data else 0
        if kind == "flip" and data:
            data[place] = byte
        elif kind == "drop":
            del data[place : place + 1 + byte // 32]
        elif kind == "insert":
            data[place:place] = bytes([byte])
        elif kind == "cut":
            del data[place:]
        elif kind == "double":
            data[place:place] = data[place : place + byte]
    return bytes(data)


def stored(write):
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


@st.composite
def tables(draw):
    """A table as people write it, and the values that a reader has to find."""
    values = np.array(VALUES[: draw(st.integers(1, 3)), : draw(st.integers(2, 4))])
    decimal = draw(st.sampled_from([".", ".", ","]))
    separator = draw(st.sampled_from([",", ";", "\t", " ", "  ", ", ", "; "]))
    form = draw(st.sampled_from(["{!r}", "{:.6e}", "{:+.4f}", "{:.4f}"]))
    rows = [
        separator.join(form.format(float(v)).replace(".", decimal) for v in row) for row in values
    ]
    if draw(st.booleans()):
        rows.insert(
            0, draw(st.sampled_from(["# volts", "voltage" + separator + "V", "% 1 2 3", ""]))
        )
    if draw(st.integers(0, 3)) == 0:
        rows.append(draw(st.sampled_from(["", "#end", "abc", "\x1a", "1.0 V"])))
    end = draw(st.sampled_from(["\n", "\r\n", "\n\n"]))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "latin-1", "utf-16"]))
    return end.join(rows).encode(encoding), values, decimal == "," and "," in separator


def check_table(folder, one):
    data, values, ambiguous = one
    file = folder / "v.csv"
    file.write_bytes(data)
    found = outcome(lambda: read_table(file))
    if isinstance(found, Refused):
        return
    if ambiguous:  # whoever knows how many there have to be refuses it
        assert found.shape != values.shape, "decimal commas between commas"
        return
    assert found.shape == values.shape, f"{found} is not {values}"
    np.testing.assert_allclose(found, values, rtol=1e-6, atol=1e-6)


def check_changed_table(folder, changes):
    """No number that is not in the text, and no text between numbers that is passed over."""
    data = changed("\n".join(",".join(map(repr, row.tolist())) for row in VALUES).encode(), changes)
    file = folder / "v.csv"
    file.write_bytes(data)
    found = outcome(lambda: read_table(file))
    if isinstance(found, Refused):
        return
    tokens = re.split(r"[,;\s]+", re.sub(r"[#%].*", "", data.decode("utf-8-sig")))
    known = set()
    for token in tokens:
        try:
            known.add(float(token))
        except ValueError:
            continue
    for value in found.ravel():
        assert math.isnan(value) or value in known, f"{value} is not in the file"


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Valid files by ending."""
    folder = tmp_path_factory.mktemp("originals")
    measurement = Measurement.from_values(PROTOCOL, VALUES)
    save_measurement(folder / "m.npz", measurement)
    save_measurement(folder / "m.csv", measurement)
    content = {
        "v": VALUES.T,
        "stim_pattern": PROTOCOL.injections,
        "meas_pattern": PROTOCOL.patterns.T,
    }
    scipy.io.savemat(folder / "m.mat", content, do_compression=True)
    imsave(folder / "m.png", np.abs(VALUES) / np.abs(VALUES).max())
    np.save(folder / "m.npy", VALUES)
    return {file.suffix: file.read_bytes() for file in sorted(folder.iterdir()) if file.stem == "m"}


def check_measurement(folder, originals, one):
    ending, changes = one
    (folder / f"x{ending}").write_bytes(changed(originals[ending], changes))
    found = outcome(lambda: read_measurement(folder / f"x{ending}", protocol=PROTOCOL))
    if isinstance(found, Refused):
        return
    assert np.isfinite(found.voltages.numpy()).all()
    kept = found.voltages.numpy()[found.mask.numpy()]
    right = VALUES[found.mask.numpy()]
    assert ending == ".csv" or np.array_equal(kept, right), "other voltages than were written"


def check_array(folder, originals, one):
    ending, changes, key = one
    file = folder / f"a{ending}"
    data = changed(originals[ending], changes)
    file.write_bytes(data)
    found = outcome(lambda: read_array(file, key))
    if isinstance(found, Refused):
        return
    assert found.dtype.kind in "fiub"
    if ending == ".npz":  # has checksums
        known = [VALUES, PROTOCOL.injections, PROTOCOL.patterns]
        assert any(np.array_equal(found, k) for k in known), "another array than was written"


MESH = """$MeshFormat
2.2 0 8
$EndMeshFormat
$PhysicalNames
3
1 1 "electrode 1"
1 2 "electrode 2"
2 3 "water"
$EndPhysicalNames
$Nodes
5
1 0 0 0
2 1 0 0
3 1 1 0
4 0 1 0
5 0.5 0.5 0
$EndNodes
$Elements
6
1 1 2 1 1 1 2
2 1 2 2 2 3 4
3 2 2 3 3 1 2 5
4 2 2 3 3 2 3 5
5 2 2 3 3 3 4 5
6 2 2 3 3 4 1 5
$EndElements
"""


def check_mesh(folder, changes):
    file = folder / "x.msh"
    file.write_bytes(changed(MESH.encode(), changes))
    found = outcome(lambda: read_mesh(file))
    if isinstance(found, Refused):
        return
    assert np.isfinite(found.points).all() and found.cells.max() < len(found.points)
    assert found.cells.min() >= 0


def test_tables_as_people_write_them(fuzz, tmp_path):
    fuzz(lambda one: check_table(tmp_path, one), tables(), 600)


def test_changed_tables(fuzz, tmp_path):
    fuzz(lambda one: check_changed_table(tmp_path, one), CHANGES, 400)


def test_changed_measurements(fuzz, tmp_path, originals):
    strategy = st.tuples(st.sampled_from([".npz", ".csv", ".mat"]), CHANGES)
    fuzz(lambda one: check_measurement(tmp_path, originals, one), strategy, 600)


def test_changed_arrays(fuzz, tmp_path, originals):
    strategy = st.tuples(
        st.sampled_from([".npz", ".npy", ".mat", ".png"]),
        CHANGES,
        st.sampled_from([None, "voltages", "v", "w"]),
    )
    fuzz(lambda one: check_array(tmp_path, originals, one), strategy, 800)


def test_changed_meshes(fuzz, tmp_path):
    pytest.importorskip("gmsh")
    fuzz(lambda one: check_mesh(tmp_path, one), CHANGES, 300)
