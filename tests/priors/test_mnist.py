"""Images from idx files: made-up ones, and the real ones where they are."""

import gzip

import numpy as np
import pytest
import torch

from onmanifold.plugins import load_dataset
from onmanifold.priors.datasets import stream
from onmanifold.priors.datasets.mnist import Mnist, read_idx


def idx(values):
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    return gzip.compress(header + values.tobytes())


@pytest.fixture
def folder(tmp_path):
    numbers = np.random.default_rng(0)
    for prefix, n in (("train", 50), ("t10k", 8)):
        images = numbers.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(idx(images))
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(idx(labels))
    return tmp_path


def test_parts_share_no_image(folder):
    data = Mnist(folder=folder)
    parts = {name: data.part(name).x for name in ("train", "validation", "held-out")}
    assert [len(x) for x in parts.values()] == [45, 5, 8]
    assert len(torch.cat([*parts.values()]).flatten(1).unique(dim=0)) == 58
    x, label = data.sample(20, stream(0, "train"))
    assert x.shape == (20, 1, 28, 28) and 0 <= x.min() and x.max() <= 1
    assert label.shape == (20, 1)


def test_size_and_labels(folder):
    assert len(Mnist(size=7, folder=folder)) == 7
    ones = Mnist(folder=folder, labels=[1, 4])
    assert set(ones.part("train").numbers.tolist()) == {1, 4}
    with pytest.raises(ValueError, match="size 46, but there are 45"):
        Mnist(size=46, folder=folder)
    with pytest.raises(ValueError, match="unknown split"):
        Mnist(folder=folder).part("test")


def test_files_that_are_no_images_are_refused(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="ONMANIFOLD_DATA"):
        Mnist(folder=tmp_path / "nowhere")
    file = folder / "train-images-idx3-ubyte.gz"
    file.write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="not a gzip file"):
        read_idx(file)
    file.write_bytes(gzip.compress(b"\1\2\3\4"))
    with pytest.raises(ValueError, match="not an idx file"):
        read_idx(file)
    file.write_bytes(gzip.compress(gzip.decompress(idx(np.zeros((3, 28, 28), np.uint8)))[:-1]))
    with pytest.raises(ValueError, match="expected"):
        read_idx(file)


@pytest.mark.parametrize(("name", "mean"), [("mnist", 0.1307), ("fashion-mnist", 0.2860)])
def test_the_real_files(shared_data, name, mean):
    data = load_dataset(name, folder=str(shared_data / name))
    parts = [data.part(split).x for split in ("train", "validation", "held-out")]
    assert [len(x) for x in parts] == [55_000, 5_000, 10_000]
    assert abs(float(torch.cat(parts[:2]).mean()) - mean) < 1e-4
