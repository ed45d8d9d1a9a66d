"""EIT under torch.func: vmap, jacrev, jacfwd and their compositions; second derivatives are refused."""

from __future__ import annotations

import pytest
import torch
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

from onmanifold.operators.eit import EIT, Continuum, Exponential, Protocol, Tank, polar_mesh

TANK = Tank(electrodes=8, width=20)
PROTOCOLS = {
    "vector": Protocol.adjacent(8, drop_driven=True),
    "matrix": Protocol.adjacent(8),
    "continuum": Continuum.walsh(4),
}

pytestmark = pytest.mark.usefixtures("compiler")


@pytest.fixture(scope="module", params=PROTOCOLS.values(), ids=PROTOCOLS)
def eit(request):
    return EIT(TANK, request.param, (1, 4, 4), conductivity=Exponential(0.8), mesh=polar_mesh(TANK))


def images(*batch):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*batch, 1, 4, 4, dtype=torch.float64, generator=generator)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def single(eit):
    return lambda x: eit.A(x[None])[0]


@pytest.mark.parametrize("transform", [jacrev, jacfwd])
def test_jacobians(eit, transform):
    x = images(3)
    expected = eit.jacobian(x)
    close(transform(single(eit))(x[0]), expected[0])
    close(vmap(transform(single(eit)))(x), expected)
    whole = transform(eit.A)(x)  # every member by every member
    members = torch.arange(3)
    whole = whole.movedim(eit.A(x).ndim, 1)
    close(whole[members, members], expected)
    assert not whole[0, 1].any()


@pytest.mark.parametrize("options", [{}, {"vectorize": True}])
def test_jacobians_of_torch_autograd(eit, options):
    x = images(2)
    whole = torch.autograd.functional.jacobian(eit.A, x, **options)
    close(whole.movedim(eit.A(x).ndim, 1)[0, 0], eit.jacobian(x)[0])
    if options:
        forward = torch.autograd.functional.jacobian(eit.A, x, strategy="forward-mode", **options)
        close(forward, whole)


@pytest.mark.parametrize("in_dims", [0, 1, -1])
def test_vmap_of_images(eit, in_dims):
    x = images(3)
    close(vmap(single(eit), in_dims=in_dims)(x.movedim(0, in_dims)), eit.A(x))


def test_vmap_within_vmap(eit):
    x = images(2, 3)
    close(vmap(vmap(single(eit)))(x), torch.stack([eit.A(part) for part in x]))


def test_vmap_of_directions(eit):
    x, v = images(2), images(5, 2)
    u = torch.randn(5, *eit.A(x).shape, dtype=torch.float64)
    close(vmap(lambda t: jvp(eit.A, (x,), (t,))[1])(v), torch.stack([eit.A_jvp(x, t) for t in v]))
    close(vmap(lambda c: vjp(eit.A, x)[1](c)[0])(u), torch.stack([eit.A_vjp(x, c) for c in u]))


def test_vmap_of_gradients(eit):
    x = images(3)

    def cost(x):
        return single(eit)(x).square().sum()

    close(vmap(grad(cost))(x), eit.A_vjp(x, 2 * eit.A(x)))


def test_gradients_by_differences(eit):
    x = images(1).requires_grad_()
    assert torch.autograd.gradcheck(
        eit.A,
        x,
        check_undefined_grad=False,
        check_batched_grad=True,
        check_forward_ad=True,
        check_batched_forward_grad=True,
    )


def test_second_derivatives_are_refused(eit):
    def cost(x):
        return single(eit)(x).square().sum()

    x = images(1)[0]
    for second in (hessian, lambda f: jacrev(jacrev(f)), lambda f: jacfwd(jacfwd(f))):
        with pytest.raises((NotImplementedError, RuntimeError), match="second derivatives"):
            second(cost)(x)


def test_what_is_refused_is_refused_under_vmap(eit):
    x = images(3)
    x[1, 0, 2, 2] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        vmap(single(eit))(x)
