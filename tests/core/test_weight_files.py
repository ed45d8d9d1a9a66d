"""A hundred weight files and cards that somebody damaged, or made to do harm: none is accepted."""

import hashlib
import json
import os
import pickle
import random
import shutil
import struct
import tracemalloc

import pytest
import torch

from onmanifold import load_prior
from onmanifold.errors import InputError
from onmanifold.pretrained import CARD, WEIGHTS, save_prior
from onmanifold.priors import Atlas, AtlasConfig

NETWORK = {"network": "dense", "options": {"hidden": 64}}
HUGE = 10**12


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    torch.manual_seed(0)
    atlas = Atlas(AtlasConfig(x_shape=(3,), dim=2, charts=2, sigma_x=0.1, chart=NETWORK))
    folder = tmp_path_factory.mktemp("stored") / "prior"
    save_prior(atlas, folder, {"name": "tested"})
    return folder


def rewrite(folder, data, fits=True):
    """Weights, and a card that belongs to them if ``fits``: an attacker writes both."""
    (folder / WEIGHTS).write_bytes(data)
    if fits:
        edit(folder, sha256=hashlib.sha256(data).hexdigest())


def edit(folder, **fields):
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | fields))


def configure(folder, **fields):
    card = json.loads((folder / CARD).read_text())
    edit(folder, config=card["config"] | fields)


def parts(folder):
    data = (folder / WEIGHTS).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header, body):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


class Bomb:
    def __reduce__(self):
        return (os.abort, ())


def altered_bytes(folder, source):
    """A byte changed anywhere in the weights."""
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[source.randrange(len(data))] ^= source.randrange(1, 256)
    rewrite(folder, bytes(data), fits=False)


def truncated(folder, source):
    data = (folder / WEIGHTS).read_bytes()
    rewrite(folder, data[: source.randrange(len(data))], fits=source.random() < 0.5)


def longer(folder, source):
    data = (folder / WEIGHTS).read_bytes()
    rewrite(folder, data + bytes(source.randrange(1, 10_000)))


def pickled(folder, source):
    content = source.choice([Bomb(), {"weights": [1.0]}, torch.ones(3)])
    if source.random() < 0.5:
        rewrite(folder, pickle.dumps(content, protocol=source.randrange(6)))
    else:
        torch.save(content, folder / WEIGHTS)
        rewrite(folder, (folder / WEIGHTS).read_bytes())


def header_of_harm(folder, source):
    """A header whose numbers or names are not what a reader expects."""
    header, body = parts(folder)
    name = source.choice(sorted(k for k in header if k != "__metadata__"))
    tensor = header[name]
    change = source.randrange(8)
    if change == 0:
        tensor["shape"] = [HUGE, HUGE]
    elif change == 1:
        tensor["data_offsets"] = [0, HUGE]
    elif change == 2:
        tensor["data_offsets"] = [-8, tensor["data_offsets"][1]]
    elif change == 3:
        tensor["dtype"] = source.choice(["F128", "object", "", None, 3])
    elif change == 4:
        header[f"../../{name}"] = header.pop(name)
    elif change == 5:
        header["/etc/passwd"] = {"dtype": "F32", "shape": [0], "data_offsets": [len(body)] * 2}
    elif change == 6:
        tensor["shape"] = source.choice([[1.5], ["a"], None, [-1], [True]])
    else:
        del header[name]
    rewrite(folder, joined(header, body))


def no_header(folder, source):
    _, body = parts(folder)
    text = source.choice([b"[]", b"null", b"{" * 5000, b'{"a": 1}', b"\xff\xfe{}", b"[" * 100_000])
    data = source.choice([joined(text, body), struct.pack("<Q", 2**63) + body, b"", b"\0" * 64])
    rewrite(folder, data)


def oversized(folder, source):
    """A file of a tebibyte, most of which is a hole: the header does not announce it."""
    with open(folder / (WEIGHTS if source.random() < 0.7 else CARD), "r+b") as stream:
        stream.truncate(2**40)


def no_ordinary_file(folder, source):
    name = source.choice([WEIGHTS, CARD])
    (folder / name).unlink()
    kind = source.randrange(3)
    if kind == 0:
        os.mkfifo(folder / name)
    elif kind == 1:
        (folder / name).symlink_to("/dev/zero")
    else:
        (folder / name).mkdir()


def traversing(folder, source):
    """Names that lead out of the folder, where a card has names."""
    name = source.choice(["../../../etc/passwd", "/etc/passwd", "os:system", "..", "\0"])
    if source.random() < 0.5:
        edit(folder, kind=name)
    else:
        configure(folder, chart=NETWORK | {"network": name})


def broken_card(folder, source):
    text = (folder / CARD).read_bytes()
    broken = [
        text[: source.randrange(len(text) - 2)],
        b"\xff" + text,
        b"[" * 200_000,
        pickle.dumps(1),
    ]
    (folder / CARD).write_bytes(source.choice(broken))


def fields_of_harm(folder, source):
    field, value = source.choice(
        [
            ("num_charts", HUGE), ("num_charts", -1), ("num_charts", "2"), ("dim", HUGE),
            ("dim", None), ("x_shape", [HUGE]), ("x_shape", [2**14, 2**14]), ("x_shape", "3"),
            ("x_shape", [[3]]), ("kind", ["atlas"]), ("kind", "autoencoder"), ("config", []),
            ("config", {}), ("sha256", None), ("sha256", "0" * 64), ("dtype", "float16"),
            ("dtype", {}), ("schema", 2), ("schema", "1"), ("chart_dims", [HUGE]),
        ]
    )  # fmt: skip
    edit(folder, **{field: value})


def configuration_of_harm(folder, source):
    """Numbers in the configuration that would take all memory, or all time."""
    change = source.choice(
        [
            {"charts": HUGE}, {"charts": 10**6}, {"dim": HUGE}, {"x_shape": [10**6, 10**6]},
            {"x_shape": [3, 4]}, {"sigma_x": "0.1"}, {"sigma_x": -1.0}, {"steepness": None},
            {"chart": NETWORK | {"options": {"hidden": 10**6}}},
            {"chart": NETWORK | {"options": {"hidden": HUGE}}},
            {"chart": NETWORK | {"options": {"hidden": 64, "depth": 10**9}}},
            {"chart": NETWORK | {"couplings": 10**9}}, {"flow": {"layers": 10**9}},
            {"flow": {"hidden": 10**6}}, {"chart": {"network": ["dense"]}}, {"chart": 1},
            {"chart": NETWORK | {"amplitude": 0.0}}, {"speed": 1}, {"x_shape": None},
        ]
    )  # fmt: skip
    configure(folder, **change)


def not_a_number(folder, source):
    header, body = parts(folder)
    data = bytearray(body)
    offset = header["logits"]["data_offsets"][0]
    data[offset : offset + 4] = struct.pack("<f", float("nan"))
    rewrite(folder, joined(header, bytes(data)))


KINDS = (
    *(altered_bytes, truncated, longer, pickled, header_of_harm, no_header, oversized),
    *(no_ordinary_file, traversing, broken_card, fields_of_harm, configuration_of_harm),
    not_a_number,
)


def refusal(folder):
    """The error that loading raises, and the most memory that Python's objects took, in bytes."""
    tracemalloc.start()
    try:
        load_prior(folder)
    except (InputError, OSError) as error:
        return error, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return None, 0


def refuse(change, stored, tmp_path, seed):
    folder = tmp_path / f"{change.__name__}-{seed}"
    shutil.copytree(stored, folder)
    change(folder, random.Random(seed))
    error, memory = refusal(folder)
    assert error is not None, f"{change.__name__} {seed} was accepted"
    assert len(str(error).splitlines()) == 1, f"{change.__name__} {seed}: {error}"
    assert memory < 2**26, f"{change.__name__} {seed} took {memory / 2**20:.0f} MiB"
    shutil.rmtree(folder)


def test_what_was_stored_is_accepted(stored):
    assert load_prior(stored).num_charts == 2


@pytest.mark.parametrize("change", KINDS, ids=lambda change: change.__name__)
def test_a_harmful_file_is_refused(change, stored, tmp_path):
    refuse(change, stored, tmp_path, seed=0)


@pytest.mark.slow
def test_a_hundred_and_more_are_refused(stored, tmp_path):
    count = 0
    for seed in range(1, 21):
        for change in KINDS:
            refuse(change, stored, tmp_path, seed)
            count += 1
    assert count == 260
