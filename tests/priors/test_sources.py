"""Examples of a user: folders of images, arrays, tensors, data sets of torch; and what is refused."""

import builtins
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.io import imsave
from torch.utils.data import TensorDataset

from onmanifold import InputError
from onmanifold.errors import MissingPackage
from onmanifold.priors.datasets.own import OwnExamples, RepeatedExamples
from onmanifold.priors.datasets.sources import read_source


def save(file, image):
    file.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        imsave(file, image, check_contrast=False)


def noise(shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


@pytest.fixture
def folder(tmp_path):
    """Six gray images of 8 x 6 pixels, in two folders."""
    for i in range(6):
        save(tmp_path / "images" / "ab"[i % 2] / f"{i}.png", noise((8, 6), seed=i))
    return tmp_path / "images"


def test_images_of_a_folder_and_of_those_within_in_the_order_of_their_names(folder):
    found = read_source(folder)
    order = [0, 2, 4, 1, 3, 5]  # a/0, a/2, ..., b/1, ...
    expected = np.stack([noise((8, 6), seed=i) for i in order])[:, None] / 255
    np.testing.assert_allclose(found.x.numpy(), expected, rtol=1e-6)
    assert found.kind == "6 png files of 8 bits"


@pytest.mark.parametrize("suffix", ["png", "tif", "TIFF", "jpg", "jpeg"])
def test_formats(tmp_path, suffix):
    image = np.tile(np.linspace(0, 255, 16).astype(np.uint8), (16, 1))
    save(tmp_path / "x" / f"a.{suffix}", image)
    save(tmp_path / "x" / f"b.{suffix}", image.T)
    x = read_source(str(tmp_path / "x")).x
    assert x.shape == (2, 1, 16, 16)
    np.testing.assert_allclose(x[0, 0].numpy(), image / 255, atol=0.03)


def test_colour_bits_and_opaque_alpha(tmp_path):
    colour = noise((5, 4, 3))
    save(tmp_path / "x" / "a.png", colour)
    save(tmp_path / "x" / "b.png", np.dstack([colour, np.full((5, 4), 255, np.uint8)]))
    x = read_source(tmp_path / "x").x
    assert x.shape == (2, 3, 5, 4) and torch.equal(x[0], x[1])
    save(tmp_path / "y" / "a.png", noise((5, 4), np.uint16))
    deep = read_source(tmp_path / "y")
    np.testing.assert_allclose(deep.x[0, 0], noise((5, 4), np.uint16) / 65535, rtol=1e-6)
    assert deep.kind == "1 png files of 16 bits"
    save(tmp_path / "z" / "a.tif", noise((5, 4)).astype(np.float32) - 300)
    assert float(read_source(tmp_path / "z").x.min()) < -45  # as they are


def test_gray_images_that_were_saved_in_colour_are_gray(tmp_path):
    save(tmp_path / "x" / "a.png", np.repeat(noise((5, 4))[:, :, None], 3, axis=2))
    assert read_source(tmp_path / "x").x.shape == (1, 1, 5, 4)


def mixed_sizes(folder):
    save(folder / "c.png", noise((9, 6)))


def mixed_channels(folder):
    save(folder / "c.png", noise((8, 6, 3)))


def mixed_bits(folder):
    save(folder / "c.png", noise((8, 6), np.uint16))


def transparent(folder):
    save(folder / "c.png", noise((8, 6, 4)))


def corrupt(folder):
    (folder / "c.png").write_bytes((folder / "a" / "0.png").read_bytes()[:40])


def text(folder):
    (folder / "c.jpg").write_text("no image")


def broken_tiff(folder):
    (folder / "c.tif").write_bytes(b"II*\0" + bytes(50))


def pages(folder):
    save(folder / "c.tif", noise((7, 8, 6)))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            mixed_sizes,
            r"different sizes: 6 of 8 x 6 pixels \(such as a/0.png\), 1 of 9 x 6 .*--resize",
        ),
        (mixed_channels, r"different numbers of channels: .*c\.png.*--gray"),
        (mixed_bits, r"different numbers: 6 of 8 bits .*16 bits \(such as c\.png\)"),
        (transparent, r"c\.png has transparent pixels"),
        (corrupt, r"1 of 7 image files cannot be read: .*c\.png"),
        (text, r"1 of 7 image files cannot be read: .*c\.jpg"),
        (broken_tiff, r"1 of 7 image files cannot be read: .*c\.tif"),
        (pages, r"c\.tif holds an array \(7, 8, 6\), expected one image"),
    ],
)
def test_images_that_do_not_fit_are_named(folder, spoil, message):
    spoil(folder)
    with pytest.raises(InputError, match=message) as refused:
        read_source(folder)
    assert len(str(refused.value).splitlines()) == 1


def test_sizes_and_colours_are_changed_if_asked(folder):
    mixed_sizes(folder)
    mixed_channels(folder.parent / "images" / "b")
    x = read_source(folder, resize=(4, 3), gray=True).x
    assert x.shape == (8, 1, 4, 3) and 0 <= x.min() and x.max() <= 1


def test_resizing_keeps_the_middle_and_smooths():
    stripes = np.zeros((1, 32, 64), dtype=np.float32)
    stripes[:, :, ::2] = 1
    stripes[:, :, :16] = stripes[:, :, 48:] = 5  # cut off
    x = read_source(stripes[None], resize=(8, 8)).x
    assert ((x - 0.5).abs()[..., 1:-1] < 0.1).all()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "it is empty"),
        (("a.bmp", "b.txt", "c.bmp"), r"2 \.bmp, 1 \.txt"),
        ((".a.png",), "empty"),
    ],
)
def test_a_folder_without_images_says_what_is_in_it(tmp_path, names, message):
    for name in names:
        (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match=rf"holds no images \(.*{message}.*expected .png"):
        read_source(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file or folder .*expected a .npy"):
        read_source(tmp_path / "none")
    (tmp_path / "x.txt").write_text("1 2 3")
    with pytest.raises(InputError, match=r"x\.txt: not a .npy or .npz file"):
        read_source(tmp_path / "x.txt")


class Pictures:
    """Such as torchvision's data sets: pairs of image and label."""

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return Image.fromarray(noise((8, 6, 3), seed=i)), i


def test_what_is_in_memory():
    x = np.random.default_rng(0).random((5, 8, 6))
    expected = torch.from_numpy(x).float()[:, None]
    for data in (
        x,
        torch.from_numpy(x),
        torch.from_numpy(x)[:, None].requires_grad_(),
        list(x),
        TensorDataset(expected, torch.arange(5)),
    ):
        assert torch.equal(read_source(data).x, expected)
    assert read_source(x.reshape(5, 48)).x.shape == (5, 48)
    pictures = read_source(Pictures())
    assert pictures.x.shape == (3, 3, 8, 6) and pictures.x.max() <= 1
    assert pictures.kind == "Pictures of examples"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.arange(50) % 10, "50 integers from 0 to 9 look like labels"),
        (torch.arange(50), "look like labels"),
        (list(range(9)), "look like labels"),
        (np.random.rand(5, 8, 6, 3), "channels last"),
        (np.full((5, 8, 6), np.nan), "5 of 5 examples hold NaN .* leave these examples out"),
        ([np.zeros((8, 6)), np.zeros((8, 7))], "different sizes: .*data\\[0\\]"),
        ([np.zeros(3), np.zeros(4)], r"different shapes, such as \(3,\), \(4,\)"),
        ([], "no examples"),
        (3, "data is int, expected an array"),
        (iter([1]), "expected an array, a tensor, a data set of torch with a length"),
        ({"x": np.zeros((5, 8, 6))}, "data is dict, expected an array"),
        (np.array(["a", "b"]), "expected numbers"),
    ],
)
def test_what_cannot_be_learned_from(data, message):
    with pytest.raises(InputError, match=message):
        read_source(data)


def test_vectors_are_not_resized():
    with pytest.raises(InputError, match="resize is for images"):
        read_source(np.random.rand(5, 7), resize=(4, 4))
    for size in (4, "44", (1, 2, 3), (0, 4)):
        with pytest.raises(InputError, match="resize has to be"):
            read_source(np.random.rand(5, 7, 7), resize=size)


def test_zarr_stores(tmp_path):
    zarr = pytest.importorskip("zarr")
    x = np.random.default_rng(0).random((5, 8, 6))
    zarr.save(str(tmp_path / "x.zarr"), x)
    assert read_source(tmp_path / "x.zarr").x.shape == (5, 1, 8, 6)


def test_a_missing_package_is_said_in_one_line(folder, monkeypatch):
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] in ("skimage", "zarr"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackage, match=r"scikit-image.*pip install 'onmanifold\[train\]'"):
        read_source(folder)
    (folder / "zarr.json").write_text("{}")
    with pytest.raises(MissingPackage, match=r"zarr.*pip install 'onmanifold\[zarr\]'"):
        read_source(folder)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(8, 60),
    held_out=st.floats(0.05, 0.5),
    validation=st.floats(0.01, 0.3),
    copies=st.integers(1, 2),
)
def test_parts_are_disjoint_and_make_up_the_whole(n, held_out, validation, copies):
    x = np.repeat(np.arange(2.0 * n).reshape(n, 2), copies, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RepeatedExamples)
        data = OwnExamples.of(x, held_out=held_out, validation=validation)
    numbers = [set(part.x[:, 0].tolist()) for part in data.parts.values()]
    assert sum(len(part) for part in data.parts.values()) == len(x)
    assert sum(map(len, numbers)) == len(set.union(*numbers)) == n
    assert all(numbers) and abs(len(data.part("held-out")) - held_out * len(x)) <= copies
