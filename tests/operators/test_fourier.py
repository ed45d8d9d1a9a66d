"""Fourier against numpy, its properties, sampling patterns, and bad input."""

import numpy as np
import pytest
import torch

from onmanifold import Gaussian, load_operator, load_prior, simulate, solve
from onmanifold.cli import main
from onmanifold.operators import Fourier, coil_maps, line_mask
from onmanifold.plugins import operator_options
from onmanifold.testing import check_operator


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def centred(z, axes):
    moved = np.fft.ifftshift(z, axes=axes)
    return np.fft.fftshift(np.fft.fftn(moved, axes=axes, norm="ortho"), axes=axes)


@pytest.mark.parametrize("coils", [0, 3])
@pytest.mark.parametrize("x_shape", [(6, 9), (1, 7, 8), (2, 7, 8), (2, 3, 4, 5)])
def test_it_is_a_linear_operator_and_numpys_transform(x_shape, coils, device, dtype):
    plane = x_shape if len(x_shape) == 2 else x_shape[1:]
    mask = random(*plane, seed=1) > 0
    maps = torch.complex(random(3, *plane), random(3, *plane, seed=2)) if coils else None
    operator = Fourier(mask, x_shape, maps).to(dtype).to(device)
    check_operator(operator)
    check_operator(operator.float(), torch.rand(2, *x_shape, device=device))
    x = random(2, *x_shape)
    image = torch.complex(x[:, 0], x[:, 1]) if x_shape[0] == 2 else x.reshape(2, *plane)
    operator = Fourier(mask, x_shape, maps)
    seen = image.numpy() if maps is None else image[:, None].numpy() * maps.numpy()
    whole = centred(seen, tuple(range(-len(plane), 0)))
    torch.testing.assert_close(operator.A(x), operator.as_measurement(whole))
    measured = operator.as_measurement(whole[..., mask.numpy()])
    torch.testing.assert_close(operator.A(x), measured)
    kept = torch.from_numpy(whole * mask.numpy())
    torch.testing.assert_close(operator.k_space(measured), kept)


def test_gradients_and_half_precision():
    operator = Fourier(line_mask((6, 8), 2), (2, 6, 8), coil_maps((6, 8), 2))
    assert torch.autograd.gradcheck(operator.A, random(1, 2, 6, 8).requires_grad_())
    assert operator.A(torch.ones(1, 2, 6, 8).half()).dtype == torch.float16


def test_a_full_mask_keeps_all_that_there_is():
    operator = Fourier(np.ones((5, 6), bool), coils=coil_maps((5, 6), 4))
    x = random(2, 5, 6)
    torch.testing.assert_close(operator.A_adjoint(operator.A(x)), x)  # unitary, squares sum to 1


@pytest.mark.parametrize("pattern", ["random", "equispaced"])
@pytest.mark.parametrize(("n", "acceleration"), [(32, 4), (320, 8), (28, 4), (30, 1)])
def test_lines(pattern, n, acceleration):
    mask = line_mask((20, n), acceleration, 0.08, pattern)
    assert mask.shape == (20, n) and (mask == mask[:1]).all()
    assert mask[0].sum() == round(n / acceleration)
    middle = round(0.08 * n)
    assert mask[0, n // 2 - middle // 2 :][:middle].all()


def test_solve_takes_complex_k_space():
    prior = load_prior("bar")
    truth = prior.decode(prior.sample(1, 3)).detach()
    operator = load_operator("fourier", prior.x_shape, acceleration=4, coils=2)
    k_space = operator.k_space(simulate(operator, truth, 0.02, 0))
    found = solve(operator, k_space, prior, fidelity=Gaussian(0.02), starts=4)
    assert (found.x - truth).norm() < 0.1 * truth.norm()
    assert bool(found.consistent.all())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Fourier(np.zeros((4, 4), bool)), "keeps nothing"),
        (lambda: Fourier(np.ones((4, 4))), "boolean"),
        (lambda: Fourier(np.ones(4, bool)), r"\(H, W\) or \(D, H, W\)"),
        (lambda: Fourier(np.ones((4, 4), bool), (3, 4, 4)), r"x_shape is \(3, 4, 4\).*\(2, 4, 4\)"),
        (lambda: Fourier(np.ones((4, 4), bool), (4, 5)), r"x_shape is \(4, 5\) and the mask"),
        (lambda: Fourier(np.ones((4, 4), bool), coils=np.ones((4, 4))), r"expected \(N, 4, 4\)"),
        (lambda: Fourier(np.ones((4, 4), bool), coils=np.full((2, 4, 4), np.nan)), "NaN"),
        (lambda: Fourier(np.ones((4, 4), bool), coils=[["a"]]), "real or complex numbers"),
        (lambda: line_mask((8, 8), 0.5), "acceleration has to be from 1 to 8"),
        (lambda: line_mask((8, 8), 4, 0.5), "more than the 2 that acceleration 4 leaves"),
        (lambda: line_mask((8, 8), 4, 2.0), "centre has to be"),
        (lambda: line_mask((8, 8), pattern="spiral"), "unknown pattern 'spiral'"),
        (lambda: load_operator("fourier"), "needs the shape"),
        (lambda: load_operator("fourier", (9,)), "x_shape"),
        (
            lambda: Fourier(np.ones((4, 4), bool)).as_measurement(np.ones((4, 5), complex)),
            r"shape \(4, 5\), expected \(B, 4, 4\), frequency zero in the middle, or its 16",
        ),
    ],
)
def test_bad_input(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_mask_and_sensitivities_from_files(tmp_path):
    mask, maps = random(6, 8) > 0, coil_maps((6, 8), 3)
    np.save(tmp_path / "mask.npy", mask.numpy())
    np.save(tmp_path / "maps.npy", maps.numpy())
    files = {"mask": str(tmp_path / "mask.npy"), "coils": str(tmp_path / "maps.npy")}
    operator = load_operator("fourier", (1, 6, 8), **operator_options("fourier", files))
    x = random(1, 1, 6, 8)
    torch.testing.assert_close(operator.A(x), Fourier(mask, (1, 6, 8), maps).A(x))
    with pytest.raises(ValueError, match=r"x_shape is \(1, 7, 8\) and the mask \(6, 8\)"):
        load_operator("fourier", (1, 7, 8), mask=tmp_path / "mask.npy")


def test_complex_k_space_from_a_file_on_the_command_line(tmp_path, capsys):
    prior = load_prior("torus-disk")
    operator = load_operator("fourier", prior.x_shape, acceleration=2)
    truth = prior.decode(prior.sample(1, 3)).detach()
    file = tmp_path / "k.npy"
    np.save(file, operator.k_space(operator.A(truth))[0].numpy())
    call = ["solve", "--operator", "fourier", "--option", "acceleration=2", "--prior", "torus-disk"]
    call += ["--noise", "0.01", "--starts", "4", "--measurement", str(file)]
    with pytest.raises(SystemExit) as ended:
        main([*call, "--output", str(tmp_path / "out")])
    assert ended.value.code == 0, capsys.readouterr().err
    with np.load(tmp_path / "out" / "arrays.npz") as arrays:
        assert np.linalg.norm(arrays["x"] - truth.numpy()) < 0.05 * truth.norm()
    np.save(file, np.ones((5, 5), complex))
    with pytest.raises(SystemExit) as ended:
        main([*call, "--output", str(tmp_path / "other")])
    assert ended.value.code == 2
    assert "complex k-space has shape (5, 5), expected" in capsys.readouterr().err
