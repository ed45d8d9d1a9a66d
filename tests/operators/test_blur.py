"""Blur against scipy, its properties, its three ways to compute, and bad input."""

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onmanifold.operator import ForwardOperator
from onmanifold.operators import Blur, gaussian_kernel
from onmanifold.operators import blur as blur_module
from onmanifold.operators.blur import BOUNDARIES, from_options
from onmanifold.testing import check_operator

NDIMAGE = {"zero": "constant", "reflect": "mirror", "symmetric": "reflect", "circular": "wrap"}


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def product(kernel_shape, seed=1):
    """A random kernel of rank one."""
    h, w = kernel_shape
    return torch.outer(random(h, seed=seed), random(w, seed=seed + 1))


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.sampled_from(BOUNDARIES),
    st.booleans(),
)
def test_every_way_is_scipy_and_has_its_adjoint(shape, kernel_shape, boundary, separable):
    kernel = product(kernel_shape) if separable else random(*kernel_shape, seed=1)
    x, u = random(2, *shape, seed=3), random(2, *shape, seed=4)
    truth = torch.stack(
        [
            torch.from_numpy(
                scipy.ndimage.convolve(xi.numpy(), kernel.numpy(), mode=NDIMAGE[boundary])
            )
            for xi in x
        ]
    )
    for method in ("auto", "fft", "spatial", *(["separable"] if separable else [])):
        blur = Blur(kernel, shape, boundary, method)
        torch.testing.assert_close(blur.A(x), truth, rtol=0, atol=1e-12 * kernel.numel())
        left, right = (blur.A(x) * u).sum(), (x * blur.A_adjoint(u)).sum()
        assert abs(left - right) <= 1e-12 * kernel.numel() * x.norm() * u.norm()


def test_zero_boundary_is_a_crop_of_the_full_convolution():
    kernel, x = random(6, 5, seed=1), random(1, 20, 17)
    full = scipy.signal.fftconvolve(x[0].numpy(), kernel.numpy())
    blur = Blur(kernel, (20, 17)).A(x)[0].numpy()
    np.testing.assert_allclose(blur, full[3 : 3 + 20, 2 : 2 + 17], atol=1e-12)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("method", ["fft", "spatial", "separable"])
@pytest.mark.parametrize("x_shape", [(16, 13), (3, 8, 9)])
def test_it_is_a_linear_operator(boundary, method, x_shape, device, dtype):
    blur = Blur(product((5, 4)).to(dtype), x_shape, boundary, method).to(device)
    assert isinstance(blur, ForwardOperator)
    check_operator(blur)
    check_operator(blur.float(), torch.rand(2, *x_shape, device=device))


def test_the_published_kernel():
    blur = Blur(gaussian_kernel(40, std=15), (128, 128))
    check_operator(blur)
    assert blur.kernel.shape == (40, 40)
    assert blur.method == "separable"


def test_channels_are_blurred_one_by_one():
    kernel, x = random(3, 5, seed=1), random(2, 3, 10, 11)
    colour, grey = Blur(kernel, (3, 10, 11)), Blur(kernel, (10, 11))
    for c in range(3):
        torch.testing.assert_close(colour.A(x)[:, c], grey.A(x[:, c]))


@settings(deadline=None, max_examples=20)
@given(
    st.tuples(*[st.integers(1, 5)] * 3),
    st.tuples(*[st.integers(1, 7)] * 3),
    st.sampled_from(BOUNDARIES),
    st.booleans(),
)
def test_volumes_are_scipy_too(shape, kernel_shape, boundary, separable):
    kernel = random(*kernel_shape, seed=1)
    if separable:
        vectors = [random(n, seed=n) for n in kernel_shape]
        kernel = torch.einsum("i,j,k->ijk", *vectors)
    x, u = random(2, *shape, seed=3), random(2, *shape, seed=4)
    truth = np.stack([scipy.ndimage.convolve(v, kernel, mode=NDIMAGE[boundary]) for v in x.numpy()])
    for method in ("auto", "fft", "spatial", *(["separable"] if separable else [])):
        blur = Blur(kernel, shape, boundary, method, dims=3)
        np.testing.assert_allclose(blur.A(x), truth, rtol=0, atol=1e-12 * kernel.numel())
        left, right = (blur.A(x) * u).sum(), (x * blur.A_adjoint(u)).sum()
        assert abs(left - right) <= 1e-12 * kernel.numel() * x.norm() * u.norm()


@pytest.mark.parametrize("method", ["fft", "spatial", "separable"])
@pytest.mark.parametrize(
    ("kernels", "x_shape", "y_shape"),
    [
        (3, (3, 8, 9), (3, 8, 9)),  # each channel has its own
        (4, (8, 9), (4, 8, 9)),  # each blurs the image
        (4, (1, 8, 9), (4, 8, 9)),
        (1, (3, 8, 9), (3, 8, 9)),
    ],
)
def test_several_kernels_are_each_a_blur(method, kernels, x_shape, y_shape, dtype):
    several = torch.stack([product((5, 4), seed=k) for k in range(kernels)])
    blur = Blur(several.to(dtype), x_shape, "symmetric", method)
    assert blur.y_shape == y_shape
    check_operator(blur)
    x = random(2, *x_shape).to(dtype)
    images = x.reshape(2, -1, 8, 9)
    for k in range(y_shape[0]):
        one = Blur(several[min(k, kernels - 1)].to(dtype), (8, 9), "symmetric", method)
        image = images[:, min(k, images.shape[1] - 1)]
        torch.testing.assert_close(blur.A(x)[:, k], one.A(image))


def test_a_volume_with_channels_and_kernels_that_do_not_fit():
    check_operator(Blur(gaussian_kernel((3, 5, 4), 1.0), (2, 6, 7, 8), dims=3))
    assert gaussian_kernel((3, 5, 4), (1.0, 2.0, 3.0)).shape == (3, 5, 4)
    assert from_options((6, 7, 8), std=1.0, dims=3).kernel.shape == (7, 7, 7)
    with pytest.raises(ValueError, match="3 kernels do not fit to 2 channels"):
        Blur(torch.ones(3, 5, 5), (2, 8, 8))
    with pytest.raises(ValueError, match="dims has to be 2 for images or 3"):
        Blur(torch.ones(5, 5), (8, 8), dims=4)
    with pytest.raises(ValueError, match=r"size has to be a number or a pair"):
        gaussian_kernel((3, 3), (1.0, 1.0, 1.0))


def test_computes_in_the_dtype_of_its_images():
    blur = Blur(gaussian_kernel(5, 1.0), (9, 9))
    assert blur.A(torch.ones(1, 9, 9)).dtype == torch.float32
    assert blur.A(torch.ones(1, 9, 9).double()).dtype == torch.float64
    for method in ("fft", "spatial", "separable"):  # conversion keeps the operator what it was
        blur = Blur(gaussian_kernel(5, 1.0), (9, 9), method=method)
        x = random(1, 9, 9)
        exact = blur.A(x)
        torch.testing.assert_close(blur.to(torch.float32).A(x), exact, atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", ["fft", "spatial", "separable"])
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_autograd(method, boundary):
    blur = Blur(product((3, 4)), (5, 4), boundary, method)
    x, u = random(2, 5, 4).requires_grad_(), random(2, 5, 4, seed=5)
    assert torch.autograd.gradcheck(blur.A, x)
    (gradient,) = torch.autograd.grad((blur.A(x) * u).sum(), x)
    torch.testing.assert_close(gradient, blur.A_vjp(x, u))
    columns = torch.func.vmap(lambda v: blur.A(v))(random(3, 2, 5, 4, seed=6))
    assert columns.shape == (3, 2, 5, 4)


def test_constants_stay_constant_where_nothing_is_lost():
    ones = torch.ones(1, 12, 15, dtype=torch.float64)
    for boundary in ("reflect", "symmetric", "circular"):
        blur = Blur(gaussian_kernel((9, 30), std=(2.0, 5.0)), (12, 15), boundary)
        torch.testing.assert_close(blur.A(ones), ones)


@given(st.tuples(st.integers(1, 50), st.integers(1, 50)), st.floats(1e-3, 1e3))
@settings(deadline=None, max_examples=30)
def test_gaussian_kernel_is_symmetric_with_sum_one(size, std):
    kernel = gaussian_kernel(size, std)
    assert kernel.shape == size
    assert float(kernel.sum()) == pytest.approx(1)
    torch.testing.assert_close(kernel, kernel.flip(0, 1))


def test_cheap_way_is_taken():
    noise = random(40, 40)
    assert Blur(noise[:3, :3], (64, 64)).method == "spatial"
    assert Blur(noise, (128, 128)).method == "fft"
    assert Blur(gaussian_kernel(40, 15), (128, 128), "reflect").method == "separable"


def test_no_way_is_tried_before_it_can_pay(monkeypatch):
    def fail(kernel):
        raise AssertionError("looked for a column and a row")

    monkeypatch.setattr(blur_module, "rank_one", fail)
    assert Blur(random(600, 600), (600, 600), "circular").method == "fft"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_kernel_of_nearly_rank_one_is_not_separable(dtype):
    kernel = product((31, 17)).to(dtype)
    assert Blur(kernel, (32, 32)).method == "separable"
    other = kernel + 100 * torch.finfo(dtype).eps * random(31, 17, seed=5).to(dtype)
    assert Blur(other, (32, 32)).method != "separable"
    assert Blur(torch.zeros(31, 17, dtype=dtype), (32, 32)).method != "separable"


def test_from_options():
    blur = from_options((32, 32), std=2.0, size=(40, 8), boundary="circular")
    assert blur.kernel.shape == (40, 8)
    assert blur.boundary == "circular"
    with pytest.raises(ValueError, match="x_shape"):
        from_options(None, std=2.0)
    with pytest.raises(ValueError, match="std"):
        from_options((8, 8), std=float("nan"))


@pytest.mark.parametrize("std", [-1.0, 0.0, float("nan"), float("inf"), (1.0, -1.0)])
def test_bad_std(std):
    with pytest.raises(ValueError, match="std has to be (above 0|a number or a pair)"):
        gaussian_kernel(5, std)


@pytest.mark.parametrize(
    ("kernel", "error", "says"),
    [
        (torch.empty(0, 3), ValueError, "not empty"),
        (torch.ones(3), ValueError, r"\(h, w\)"),
        (torch.ones(1, 1, 3, 3), ValueError, r"\(h, w\).*dims=3 for volumes"),
        (torch.tensor([[1.0, float("nan")]]), ValueError, "NaN"),
        (np.ones((3, 3)) + 1j, TypeError, "complex"),
        (torch.ones(3, 3, dtype=torch.complex64), TypeError, "complex"),
        (np.ones((3, 3), bool), TypeError, "boolean"),
        ([[1.0, 2.0], [3.0]], ValueError, "no array of numbers"),
        ("gaussian", TypeError, "text"),
    ],
)
def test_bad_kernels(kernel, error, says):
    with pytest.raises(error, match=says):
        Blur(kernel, (8, 8))


def test_bad_arguments():
    kernel = gaussian_kernel(3, 1.0)
    with pytest.raises(ValueError, match="unknown boundary 'mirror'.*zero, reflect"):
        Blur(kernel, (8, 8), boundary="mirror")
    with pytest.raises(ValueError, match="unknown method 'dct'.*fft"):
        Blur(kernel, (8, 8), method="dct")
    with pytest.raises(ValueError, match="rank one"):
        Blur(random(3, 3), (8, 8), method="separable")
    with pytest.raises(ValueError, match="H, W"):
        Blur(kernel, (8,))
    with pytest.raises(ValueError, match="positive sizes"):
        Blur(kernel, (8, 0))
    with pytest.raises(ValueError, match="size"):
        gaussian_kernel(0, 1.0)
    blur = Blur(kernel, (8, 8))
    with pytest.raises(ValueError, match=r"x has shape \(1, 8, 9\), expected \(B, 8, 8\)"):
        blur.A(torch.ones(1, 8, 9))
    with pytest.raises(ValueError, match="expected"):
        blur.A_adjoint(torch.ones(8, 8))
