"""deepinv: its physics as our operators, our operators as its physics, our manifolds as its priors."""

import pytest
import torch
from analytic_priors import Affine, Circle, Sine

from onmanifold import (
    Autodiff,
    Gaussian,
    GradientNorm,
    MaxSteps,
    as_operator,
    load_dataset,
    load_prior,
    simulate,
    solve,
)
from onmanifold.operators import Blur, Mask, gaussian_kernel
from onmanifold.priors.datasets import stream
from onmanifold.testing import check_operator

deepinv = pytest.importorskip(
    "deepinv", reason="deepinv is missing: pip install onmanifold[interfaces]"
)
from onmanifold.interfaces.deepinv import as_deepinv_prior, as_physics  # noqa: E402


class Saturation(Autodiff):
    x_shape, y_shape, linear = (4, 5), (4, 5), False

    def A(self, x):
        return torch.tanh(2 * x)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def blur(shape=(24, 20), boundary="reflect"):
    return Blur(gaussian_kernel(7, std=1.5), shape, boundary)


# Their physics here -------------------------------------------------------------------------------


def physics_of(name):
    if name == "blur":
        kernel = torch.rand(1, 1, 3, 3, generator=torch.Generator().manual_seed(0))
        return deepinv.physics.Blur(filter=kernel, padding="circular")
    if name == "inpainting":
        return deepinv.physics.Inpainting(
            (1, 8, 10), mask=(torch.arange(10) % 3 > 0).expand(1, 8, 10)
        )
    if name == "downsampling":
        return deepinv.physics.Downsampling(img_size=(1, 8, 10), factor=2, filter="gaussian")
    return deepinv.physics.Haze()


@pytest.mark.parametrize("shape", [(8, 10), (1, 8, 10)])
@pytest.mark.parametrize("name", ["blur", "inpainting", "downsampling"])
def test_linear_physics_obey_the_laws(name, shape):
    physics = physics_of(name)
    operator = as_operator(physics.double(), shape, dtype=torch.float64)
    assert operator.linear
    x = randn(3, *shape)
    print(check_operator(operator, x))
    assert torch.equal(operator.A(x), physics.A(x.reshape(3, 1, 8, 10)))


def test_nonlinear_physics_obey_the_laws():
    physics = deepinv.physics.Physics(A=lambda x, **_: torch.exp(-x).cumsum(-1))
    operator = as_operator(physics, (3, 4), dtype=torch.float64)
    assert (operator.y_shape, operator.linear) == ((1, 3, 4), False)
    print(check_operator(operator))


class Growth(deepinv.physics.Physics):
    """Grows exponentially; counts how often its own derivative is asked for."""

    asked = 0

    def A(self, x, **_):
        return torch.exp(x)

    def A_jvp(self, x, v):
        self.asked += 1
        return torch.exp(x) * v


def test_a_nonlinear_physics_own_derivative_is_used():
    physics = Growth()
    operator = as_operator(physics, (3, 4), dtype=torch.float64)
    check_operator(operator)
    assert physics.asked > 0
    again = as_operator(as_physics(Saturation()), (4, 5), dtype=torch.float64)
    x, v = randn(2, 4, 5), randn(2, 4, 5, seed=1)
    assert torch.equal(again.A_jvp(x, v).squeeze(1), Saturation().A_jvp(x, v))


def test_a_physics_without_noise_is_what_the_operator_is():
    physics = deepinv.physics.Denoising(deepinv.physics.GaussianNoise(0.5))
    x = randn(2, 4, 4)
    assert torch.equal(as_operator(physics, (4, 4)).A(x).squeeze(1), x)


def test_solve_takes_a_physics_and_its_measurement():
    prior = load_prior("bar")
    truth, _ = load_dataset("bar").sample(2, stream(0, "held-out"))
    kernel = gaussian_kernel(9, std=2.0, dtype=truth.dtype)[None, None]
    physics = deepinv.physics.Blur(filter=kernel, padding="circular")
    physics.set_noise_model(deepinv.physics.GaussianNoise(0.05))
    torch.manual_seed(0)
    solution = solve(physics, physics(truth), prior, fidelity=Gaussian(0.05), starts=2)
    assert bool(solution.converged.all())
    assert bool((solution.misfit < 1.1 * solution.expected_misfit).all())


def test_what_is_wrong_with_a_physics_is_said():
    with pytest.raises(ValueError, match="Denoising says nothing of its input: pass x_shape"):
        as_operator(deepinv.physics.Denoising())
    with pytest.raises(ValueError, match=r"Blur does not take a torch.float64 batch.*physics.to"):
        as_operator(physics_of("blur"), (8, 10), dtype=torch.float64)
    counts = deepinv.physics.Physics(A=lambda x, **_: x.round().long())
    with pytest.raises(TypeError, match="real or complex tensors, got torch.int64"):
        as_operator(counts, (4, 4))


N = 12


def main_physics(name):
    """The physics that users of deepinv try first, and a shape of their unknowns."""
    physics, image = deepinv.physics, (1, N, N)
    source = torch.Generator().manual_seed(0)
    mask = (torch.rand(N, N, generator=source) > 0.5).float()
    maps = torch.randn(1, 3, N, N, dtype=torch.complex64, generator=source)
    made = {
        "tomography": lambda: (physics.Tomography(angles=7, img_width=N), image),
        "mri": lambda: (physics.MRI(mask=mask, img_size=(2, N, N)), (2, N, N)),
        "mri of a real image": lambda: (physics.MRI(mask=mask, img_size=(2, N, N)), image),
        "mri without channels": lambda: (physics.MRI(mask=mask, img_size=(2, N, N)), (N, N)),
        "mri with coils": lambda: (
            physics.MultiCoilMRI(mask=mask, coil_maps=maps, img_size=(2, N, N)),
            (2, N, N),
        ),
        "blur fft": lambda: (
            physics.BlurFFT(image, filter=torch.rand(1, 1, 3, 3, generator=source)),
            image,
        ),
        "inpainting": lambda: (physics.Inpainting(image, mask=0.5), image),
        "compressed sensing": lambda: (physics.CompressedSensing(20, image), image),
        "complex sensing": lambda: (
            physics.CompressedSensing(20, image, dtype=torch.complex64),
            image,
        ),
        "phase retrieval": lambda: (physics.RandomPhaseRetrieval(30, image), image),
        "complex phase retrieval": lambda: (
            physics.RandomPhaseRetrieval(30, image),
            (2, N, N),
        ),
        "stacked": lambda: (
            physics.Inpainting(image, mask=0.5).stack(
                physics.CompressedSensing(20, image, dtype=torch.complex64)
            ),
            image,
        ),
    }
    return made[name]()


MAIN = (
    *("tomography", "mri", "mri of a real image", "mri without channels", "mri with coils"),
    *("blur fft", "inpainting", "compressed sensing", "complex sensing", "phase retrieval"),
    "complex phase retrieval",
)


@pytest.mark.filterwarnings("ignore:.*")  # deepinv's own, of defaults that it will change
@pytest.mark.parametrize("name", [*MAIN, "stacked"])
def test_main_physics_are_operators(name):
    torch.manual_seed(0)
    physics, shape = main_physics(name)
    operator = as_operator(physics, shape)
    x = 0.5 + torch.rand(2, *shape)
    check_operator(operator, x)
    assert operator.linear is ("phase" not in name)
    if name == "stacked":  # it gives complex images to all of its parts
        assert operator.y_shape == (2 * N * N + 2 * 20,)
    raw = physics.A(physics_image(name, x))
    torch.testing.assert_close(operator.as_measurement(raw), operator.A(x))


def physics_image(name, x):
    """An unknown as the physics takes it."""
    if name == "complex phase retrieval":
        return torch.complex(x[:, :1], x[:, 1:])
    x = x.reshape(2, -1, N, N)
    if "phase" in name or "complex" in name or name == "stacked":
        return x.to(torch.complex64)
    missing = "mri" in name and x.shape[1] == 1
    return torch.cat([x, torch.zeros_like(x)], 1) if missing else x


@pytest.mark.filterwarnings("ignore:.*")
@pytest.mark.parametrize("name", ["tomography", "compressed sensing"])
def test_an_adjoint_that_fails_in_double_precision_is_replaced(name):
    physics, shape = main_physics(name)
    operator = as_operator(physics.double(), shape, dtype=torch.float64)
    assert not operator.own_adjoint
    check_operator(operator)


def test_an_adjoint_that_is_none_is_replaced():
    wrong = deepinv.physics.LinearPhysics(A=lambda x, **_: 2 * x, A_adjoint=lambda y, **_: y)
    operator = as_operator(wrong, (4, 4), dtype=torch.float64)
    assert not operator.own_adjoint
    check_operator(operator)


@pytest.mark.filterwarnings("ignore:.*")
def test_solve_takes_complex_measurements_and_lists():
    prior = load_prior("bar")
    truth = prior.decode(prior.sample(1, 4)).detach()
    n = truth.shape[-1]
    fourier = deepinv.physics.LinearPhysics(
        A=lambda x, **_: torch.fft.fft2(x, norm="ortho")[..., : n // 8],
        A_adjoint=lambda y, **_: torch.fft.ifft2(
            torch.nn.functional.pad(y, (0, n - n // 8)), norm="ortho"
        ),
    )
    both = fourier.stack(deepinv.physics.Inpainting((1, n, n), mask=0.1))
    for physics in (fourier, both):
        found = solve(physics, physics(truth), prior, starts=4)
        assert (found.x - truth).norm() < 0.05 * truth.norm()


# Our operators there ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(24, 20), (1, 24, 20), (3, 24, 20)])
@pytest.mark.parametrize(
    "make", [blur, lambda s: Mask(torch.rand(s) > 0.5, s)], ids=["blur", "mask"]
)
def test_deepinvs_own_check_of_the_adjoint(shape, make):
    torch.manual_seed(0)
    physics = as_physics(make(shape))
    assert isinstance(physics, deepinv.physics.LinearPhysics)
    assert float(physics.adjointness_test(num_samples=4, dtype=torch.float64)) < 1e-12


def test_images_get_a_channel_axis_and_lose_it():
    operator, x = blur(), randn(2, 24, 20)
    physics = as_physics(operator)
    assert torch.equal(physics.A(x.unsqueeze(1)), operator.A(x).unsqueeze(1))
    back = as_operator(physics, (24, 20), dtype=torch.float64)
    assert torch.equal(back.A(x), operator.A(x).unsqueeze(1))
    with pytest.raises(ValueError, match=r"x has shape \(2, 24, 20\), expected \(B, 1, 24, 20\)"):
        physics.A(x)


def test_a_nonlinear_operator_is_a_physics_with_our_derivatives():
    operator, x, v = Saturation(), randn(2, 4, 5), randn(2, 4, 5, seed=1)
    physics = as_physics(operator)
    assert not isinstance(physics, deepinv.physics.LinearPhysics)
    assert torch.equal(
        physics.A_vjp(x.unsqueeze(1), v.unsqueeze(1)).squeeze(1), operator.A_vjp(x, v)
    )
    assert torch.equal(
        physics.A_jvp(x.unsqueeze(1), v.unsqueeze(1)).squeeze(1), operator.A_jvp(x, v)
    )
    y = physics(x.unsqueeze(1))
    start = 0.5 * x.unsqueeze(1)
    found = physics.A_dagger(y, x_init=start)
    assert float((physics.A(found) - y).norm()) < 0.3 * float((physics.A(start) - y).norm())


def test_noise_and_foreign_operators():
    physics = as_physics(torch.eye(20), (4, 5), noise_model=deepinv.physics.GaussianNoise(0.1))
    torch.manual_seed(0)
    x = torch.zeros(50, 1, 4, 5)
    assert physics(x).shape == (50, 20)
    assert abs(float(physics(x).std()) - 0.1) < 0.01


def test_least_squares_of_deepinv_inverts_our_blur():
    physics, x = as_physics(blur()), randn(2, 1, 24, 20)
    y = physics.A(x)
    found = physics.A_dagger(y, max_iter=200, tol=1e-8)
    assert float((physics.A(found) - y).norm()) < 0.01 * float(y.norm())


def test_options_of_the_solver_reach_deepinv():
    x = randn(2, 1, 24, 20)
    y = as_physics(blur()).A(x)

    def rest(**options):
        physics = as_physics(blur(), solver="CG", tol=1e-8, **options)
        return float((physics.A(physics.A_dagger(y)) - y).norm())

    assert rest(max_iter=200) < 0.5 * rest(max_iter=20)
    slow = as_physics(Saturation(), max_iter=3, sensor_model=torch.sign)
    assert slow.max_iter == 3
    assert set(slow(randn(1, 1, 4, 5)).unique().tolist()) == {-1.0, 1.0}
    with pytest.raises(TypeError, match="unknown option iterations; known: sensor_model, solver"):
        as_physics(blur(), iterations=3)
    with pytest.raises(TypeError, match="unknown option implicit_backward_solver"):
        as_physics(Saturation(), implicit_backward_solver=False)


def test_total_variation_of_deepinv_runs_on_our_blur():
    truth, _ = load_dataset("bar", size=32).sample(2, stream(0, "held-out"))
    physics = as_physics(Blur(gaussian_kernel(5, std=1.0), (1, 32, 32)))
    y = simulate(physics.operator, truth, std=0.02, generator=0)
    fidelity = deepinv.optim.L2()
    descent = deepinv.optim.PGD(
        data_fidelity=fidelity,
        prior=deepinv.optim.TVPrior(n_it_max=20),
        lambda_reg=0.005,
        stepsize=1.0,
        max_iter=30,
    )
    with torch.no_grad():
        found = descent(y, physics)
    assert bool((fidelity(found, y, physics) < 0.3 * fidelity(y, y, physics)).all())
    assert float((found - truth).norm()) < 0.7 * float((y - truth).norm())


# Our manifolds there ------------------------------------------------------------------------------


def descent_on(prior, steps, **options):
    return deepinv.optim.PGD(
        data_fidelity=deepinv.optim.L2(), prior=as_deepinv_prior(prior), max_iter=steps, **options
    )


def test_iterates_end_on_the_circle_where_solve_ends():
    prior, matrix = Circle(), torch.tensor([[2.0, 0.3], [0.1, 1.0]], dtype=torch.float64)
    y = torch.tensor([[-1.5, 0.7], [0.2, 1.5]], dtype=torch.float64)
    physics = as_physics(matrix)
    start = torch.tensor([[-1.0, 0.2], [0.1, 1.0]], dtype=torch.float64)
    for steps in (1, 200):
        x = descent_on(prior, steps, stepsize=0.2)(y, physics, init=start)
        torch.testing.assert_close(x.norm(dim=1), torch.ones(2, dtype=torch.float64))
    exact = solve(matrix, y, prior, stop=GradientNorm(1e-10) | MaxSteps(100)).x
    torch.testing.assert_close(x, exact, rtol=1e-6, atol=1e-6)


def test_the_projection_stays_inside_the_latent_box():
    segment = Affine(dim=1, box=1.0)
    far = segment.decode_chart(torch.tensor([[5.0]], dtype=torch.float64), 0)
    end = segment.decode_chart(torch.tensor([[1.0]], dtype=torch.float64), 0)
    torch.testing.assert_close(as_deepinv_prior(segment).prox(far), end)


def test_a_shipped_prior_deblurs_in_deepinvs_descent():
    prior = load_prior("bar")
    truth, _ = load_dataset("bar").sample(2, stream(0, "held-out"))
    physics = as_physics(Blur(gaussian_kernel(11, std=3.0), prior.x_shape))
    y = simulate(physics.operator, truth, std=0.1, generator=0)
    x = descent_on(prior, 4, stepsize=1.0)(y, physics)
    again = as_deepinv_prior(prior).prox(x)
    assert float((again - x).norm()) < 1e-3 * float(x.norm())
    assert bool(
        ((x - truth).flatten(1).norm(dim=1) < 0.35 * (y - truth).flatten(1).norm(dim=1)).all()
    )


def test_no_prior_is_refused():
    with pytest.raises(TypeError, match="prior has to be a ManifoldPrior, got str"):
        as_deepinv_prior("bar")


def test_the_projection_is_the_nearest_point_not_what_the_encoder_says():
    prior = Sine()  # its encoder takes the first coordinate, whatever the others are
    z = torch.linspace(-2.5, 2.5, 100_001, dtype=torch.float64).unsqueeze(1)
    curve = prior.decode_chart(z, 0)
    x = curve[20_000:80_001:10_000] + 0.2 * randn(7, 3)
    nearest = torch.cdist(x, curve).amin(dim=1)
    found = as_deepinv_prior(prior).prox(x)
    assert ((found - x).norm(dim=1) < nearest * (1 + 1e-4)).all()
    said = prior.decode_chart(prior.encode_chart(x, 0), 0)
    assert ((said - x).norm(dim=1) > 1.05 * nearest).any()


def test_a_physics_without_an_adjoint_of_its_own_is_differentiated_in_double_precision():
    physics = deepinv.physics.LinearPhysics(
        A=lambda x, **_: x.cumsum(-1)[..., ::2], img_size=(1, 4, 6)
    )
    operator = as_operator(physics, (4, 6), dtype=torch.float64)
    check_operator(operator, randn(3, 4, 6))
