"""solve(): what it returns, what it repeats, what it refuses."""

import math

import pytest
import torch
from analytic_priors import Affine, Circle, Sine, Sphere
from solve_cases import measured, warp

import onmanifold
from onmanifold import (
    Autodiff,
    Discrepancy,
    Gaussian,
    InitialPoints,
    LevenbergMarquardt,
    MaxSteps,
    OutsideDomain,
    Point,
    RiemannianGradientDescent,
    SmallDecrease,
    Status,
    solve,
)
from onmanifold.operator import as_operator

FEW = MaxSteps(60) | SmallDecrease(1e-10)


# What comes out -----------------------------------------------------------------------------------


def test_it_finds_the_global_minimum_of_a_curve():
    prior = Sine()
    _, y = measured(prior, n=30)
    solution = solve(warp, y, prior, fidelity=Gaussian(0.05), stop=FEW)
    grid = torch.linspace(-3, 3, 20001, dtype=torch.float64).unsqueeze(1)
    prediction = warp(prior.decode_chart(grid, 0))
    cost = (y.unsqueeze(1) - prediction).square().sum(2) / (2 * 0.05**2) + 0.5 * grid.square().T
    assert torch.allclose(solution.objective, cost.min(dim=1).values, atol=1e-3)
    assert solution.converged.all()


def test_the_parts_of_a_solution_fit_together():
    prior = Circle()
    _, y = measured(prior)
    options = {"fidelity": Gaussian(0.05), "starts": InitialPoints(16, 3), "trajectory": True}
    s = solve(warp, y, prior, **options)
    assert len(s) == len(s.status) == len(s.reason) == 5
    assert torch.equal(s.x, prior.decode(s))
    assert torch.allclose(s.misfit, 0.5 * (warp(s.x) - y).square().sum(1) / 0.05**2)
    assert torch.equal(s.objective, s.misfit)  # the density is flat
    assert torch.equal(s.expected_misfit, torch.full_like(s.misfit, 1.5))
    assert s.history.objective.shape == s.history.chart.shape
    assert torch.equal(s.history.objective[-1], s.objective)
    assert (s.history.objective.diff(dim=0) <= 0).all()
    assert torch.equal(s.trajectory[-1], s.x)
    assert s.trajectory.shape == (len(s.history.objective), 5, 2)
    assert s.final_points.x.shape == (5, 3, 2)
    assert torch.equal(s.final_points.x[:, 0], s.x)
    assert torch.equal(s.final_points.objective[:, 0], s.objective)
    assert (s.final_points.objective.diff(dim=1) >= 0).all()
    assert s.final_points.status[:, 0].tolist() == [int(status) for status in s.status]
    assert "5 of 5 converged" in s.summary()
    assert s.seconds > 0


def test_operator_calls_are_counted_honestly():
    seen = 0

    def counted(x):
        nonlocal seen
        if isinstance(x, torch.Tensor):  # not while differentiating
            seen += len(x)
        return warp(x)

    prior = Sphere()
    _, y = measured(prior, n=4)
    seen = 0
    s = solve(counted, y, prior, fidelity=Gaussian(0.05), starts=InitialPoints(100, 3))
    # the pool once for all, one call to learn the operator's y_shape, and its examination
    pool, trial, examination = 100, 1, 6 + 2 + 2 + 1
    assert seen == trial + examination + pool + int(s.linearizations.sum())
    assert torch.equal(s.operator_calls, s.linearizations + pool)


def test_spread_shows_where_the_starts_disagree():
    prior = Circle()  # the measurement sees the first coordinate: two ends, mirrored
    y = torch.zeros(1, 1, dtype=torch.float64)
    s = solve(lambda x: x[:, :1], y, prior, fidelity=Gaussian(0.1), starts=8)
    spread = s.spread()[0]
    assert spread[0] < 1e-3
    assert spread[1] > 0.5


def test_prior_weight_follows_the_fidelity():
    prior = Affine()
    y = torch.zeros(1, 6, dtype=torch.float64)
    fit = solve(lambda x: x, y, prior, stop=FEW)
    posterior = solve(lambda x: x, y, prior, fidelity=Gaussian(1.0), stop=FEW)
    weighted = solve(lambda x: x, y, prior, fidelity=Gaussian(1.0), prior_weight=0.0, stop=FEW)
    m, c = prior.matrix, prior.centre
    least = torch.linalg.lstsq(m, -c).solution
    assert torch.allclose(fit.z[0], least, atol=1e-5)
    assert torch.allclose(weighted.z[0], least, atol=1e-5)
    ridge = torch.linalg.solve(m.T @ m + torch.eye(3, dtype=m.dtype), -m.T @ c)
    assert torch.allclose(posterior.z[0], ridge, atol=1e-5)


def test_discrepancy_stops_at_the_noise():
    prior = Sphere()
    _, y = measured(prior, n=8, std=0.02)
    rule = Discrepancy(1.2) | MaxSteps(100)
    s = solve(warp, y, prior, fidelity=Gaussian(0.02), stop=rule, prior_weight=0)
    stopped = torch.tensor([status == Status.DISCREPANCY for status in s.status])
    assert stopped.any()
    assert (s.misfit[stopped] <= 1.44 * s.expected_misfit[stopped]).all()
    before = s.history.objective[s.steps[stopped] - 1, stopped]
    assert (before > 1.44 * s.expected_misfit[stopped]).all()


def test_the_step_budget_is_a_status():
    prior = Sphere()
    _, y = measured(prior)
    s = solve(warp, y, prior, stop=MaxSteps(1), method=RiemannianGradientDescent())
    assert s.status == (Status.MAX_STEPS,) * 5
    assert not s.converged.any()
    assert set(s.reason) == {"the step budget is used up"}


def test_a_pool_that_is_nowhere_finite_is_a_status():
    prior = Sphere()
    s = solve(lambda x: x.flatten(1) * torch.nan, torch.zeros(2, 3).double(), prior)
    assert s.status == (Status.NOT_FINITE,) * 2
    assert (s.steps == 0).all()


# InitialPoints -------------------------------------------------------------------------------------------


def test_every_chart_has_its_start():
    prior = Circle()
    y = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    s = solve(lambda x: x, y, prior, starts=InitialPoints(20, 2), trajectory=True, stop=MaxSteps(1))
    assert s.trajectory.shape[0] == 2
    assert torch.allclose(s.x, y, atol=0.1)


def test_starts_may_be_given():
    prior = Sine()
    z = torch.tensor([[-2.0], [2.0], [0.1], [9.0]], dtype=torch.float64)
    start = Point(torch.zeros(4, dtype=torch.long), z)
    _, y = measured(prior, n=2)
    s = solve(warp, y, prior, starts=start, trajectory=True)
    assert s.final_points.z.shape == (2, 2, 1)
    first = [round(v, 6) for v in s.trajectory[0, :, 0].tolist()]
    assert first[0] in (-2.0, 2.0)
    assert first[1] in (0.1, 3.0)  # 9 lies outside the box, whose border is 3
    assert torch.equal(s.operator_calls, s.linearizations)


@pytest.mark.parametrize(
    ("starts", "error", "message"),
    [
        (0, ValueError, "starts has to be at least 1"),
        (1.5, TypeError, "starts has to be an int"),
        (
            Point(torch.zeros(3, dtype=torch.long), torch.zeros(3, 2).double()),
            ValueError,
            "each of 2",
        ),
        (
            Point(torch.zeros(2, dtype=torch.long), torch.zeros(2, 3).double()),
            ValueError,
            "dimension",
        ),
        (Point(torch.zeros(2, dtype=torch.long), torch.zeros(2, 2)), TypeError, "starts are"),
    ],
)
def test_impossible_starts_are_refused(starts, error, message):
    prior = Sphere()
    with pytest.raises(error, match=message):
        solve(warp, torch.zeros(2, 4).double(), prior, starts=starts)


def test_a_pool_smaller_than_its_share_is_refused():
    with pytest.raises(ValueError, match="cannot keep 5 of a pool of 4"):
        InitialPoints(pool=4, keep=5)


def test_a_good_guess_in_the_pool_is_started_from():
    """Of one start only, the guess is taken where it is better than the samples, and else it is not."""
    prior = Sine()
    _, y = measured(prior, n=4)
    best = solve(warp, y, prior, fidelity=Gaussian(0.05), starts=InitialPoints(200, 8), stop=FEW)
    for b in range(4):
        guess = Point(best.chart[b : b + 1], best.z[b : b + 1])
        starts = InitialPoints(1, 1, also=guess)
        found = solve(warp, y, prior, fidelity=Gaussian(0.05), starts=starts, stop=MaxSteps(1))
        assert torch.allclose(found.z[b], best.z[b], atol=1e-4)
    bad = InitialPoints(200, 8, also=Point(guess.chart, torch.full_like(guess.z, 2.9)))
    again = solve(warp, y, prior, fidelity=Gaussian(0.05), starts=bad, stop=FEW)
    assert torch.allclose(again.objective, best.objective, rtol=1e-6)


@pytest.mark.parametrize(
    ("z", "error"), [(torch.zeros(1, 9).double(), ValueError), (torch.zeros(1, 1), TypeError)]
)
def test_a_guess_that_is_no_point_of_the_prior_is_refused(z, error):
    prior = Sine()
    _, y = measured(prior, n=1)
    with pytest.raises(error, match="starts"):
        solve(
            warp,
            y,
            prior,
            starts=InitialPoints(4, 1, also=Point(torch.zeros(1, dtype=torch.long), z)),
        )


# What it repeats ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [LevenbergMarquardt(), RiemannianGradientDescent()])
@pytest.mark.parametrize("prior", [Circle(), Sphere(), Affine()], ids=lambda p: type(p).__name__)
def test_many_measurements_in_one_call_are_as_many_calls(prior, method):
    _, y = measured(prior, n=6)
    masks = torch.rand(y.shape, generator=torch.Generator().manual_seed(0)) > 0.1
    options = {"method": method, "seed": 4, "stop": FEW}
    together = solve(warp, y, prior, fidelity=Gaussian(0.05, masks), **options)
    for b in range(6):
        one = slice(b, b + 1)
        alone = solve(warp, y[one], prior, fidelity=Gaussian(0.05, masks[one]), **options)
        assert torch.allclose(alone.objective, together.objective[one], rtol=1e-7)
        assert torch.allclose(alone.x, together.x[one], atol=1e-5)
        assert alone.chart == together.chart[b]


def test_same_seed_same_result():
    prior = Sphere()
    _, y = measured(prior)
    first, second, other = (
        solve(warp, y, prior, seed=seed, stop=MaxSteps(2)) for seed in (1, 1, 2)
    )
    assert torch.equal(first.x, second.x)
    assert torch.equal(first.final_points.objective, second.final_points.objective)
    assert not torch.equal(first.final_points.objective, other.final_points.objective)


def test_the_global_generator_is_left_alone():
    prior = Sphere()
    _, y = measured(prior)
    before = torch.get_rng_state()
    solve(warp, y, prior)
    assert torch.equal(before, torch.get_rng_state())


def test_the_prior_is_left_as_it_was():
    prior = Sphere().train()
    _, y = measured(prior)
    modes = []
    solve(warp, y, prior, callback=lambda state: modes.append(prior.training))
    assert prior.training
    assert modes
    assert not any(modes)


def test_no_gradient_is_recorded():
    prior = Sphere()
    prior.scale = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
    decode = prior.decode_chart
    prior.decode_chart = lambda z, chart: prior.scale * decode(z, chart)
    _, y = measured(prior)
    s = solve(warp, y.detach(), prior, fidelity=Gaussian(0.05))
    assert not s.x.requires_grad
    assert not s.history.objective.requires_grad


@pytest.mark.parametrize("method", [LevenbergMarquardt(), RiemannianGradientDescent()])
def test_float32_converges_to_what_float64_finds(method):
    _, y = measured(Sphere(), n=6)
    fidelity = Gaussian(0.05)
    double = solve(warp, y, Sphere(), fidelity=fidelity, method=method)
    single = solve(warp, y.float(), Sphere(torch.float32), fidelity=fidelity, method=method)
    assert single.x.dtype == torch.float32
    assert single.converged.all()
    assert torch.allclose(single.objective.double(), double.objective, rtol=1e-4)


def test_it_stays_on_the_device_in_the_dtype(device, dtype):
    prior = Circle(dtype).to(device)
    y = torch.tensor([[-0.9, 0.3], [0.2, 1.1]], dtype=dtype, device=device)
    mask = torch.tensor([[True, True], [True, False]])
    for method in (LevenbergMarquardt(), RiemannianGradientDescent()):
        s = solve(lambda x: x, y, prior, fidelity=Gaussian(0.1, mask), method=method)
        for value in (s.x, s.objective, s.history.objective, s.final_points.x, s.spread()):
            assert value.device.type == device.type
            assert value.dtype == dtype
        assert s.converged.all()


def test_a_scalar_measurement_is_fine():
    prior = Circle()
    y = torch.tensor([0.5, 0.1], dtype=torch.float64)
    s = solve(lambda x: x[:, 0], y, prior, fidelity=Gaussian(0.1))
    assert torch.allclose(s.x[:, 0], y, atol=1e-3)


# What it refuses ----------------------------------------------------------------------------------


def spoilt(value):
    y = torch.zeros(2, 4, dtype=torch.float64)
    y[0, 1] = value
    return y


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (spoilt(math.nan), ValueError, "1 NaN or infinite of 8 entries.*mask"),
        (spoilt(math.inf), ValueError, "NaN or infinite"),
        (
            torch.zeros(2, 5).double(),
            ValueError,
            r"measurement has shape \(2, 5\), expected \(B, 4\)",
        ),
        (torch.zeros(8).double(), ValueError, r"has shape \(8,\), expected \(B, 4\), or \(4,\)"),
        (torch.zeros(0, 4).double(), ValueError, "measurement is an empty batch"),
        (torch.zeros(2, 4), TypeError, r"measurement is torch.float32, the prior torch.float64"),
        (
            torch.zeros(2, 4, dtype=torch.bool),
            TypeError,
            "measurement cannot be used: it is boolean",
        ),
        (
            torch.zeros(2, 4, dtype=torch.cfloat),
            TypeError,
            "measurement cannot be used: it is complex",
        ),
        ([["0"] * 4], TypeError, "measurement cannot be used: it holds text"),
        (torch.zeros(2, 4, device="meta").double(), ValueError, "on meta, the prior on cpu"),
    ],
)
def test_bad_measurements_are_refused(y, error, message):
    with pytest.raises(error, match=message):
        solve(warp, y, Sphere())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fidelity": 0.1}, TypeError, r"Gaussian\(std\), got float"),
        ({"fidelity": Gaussian(torch.ones(7))}, ValueError, "std has shape"),
        ({"prior_weight": -1.0}, ValueError, "prior_weight has to be above 0"),
        ({"prior_weight": "1"}, TypeError, "prior_weight has to be a number"),
        ({"seed": "1"}, TypeError, "a seed has to be an int"),
        ({"method": LevenbergMarquardt}, TypeError, "method has to be"),
        ({"method": "lm"}, TypeError, "method has to be"),
        ({"stop": 100}, TypeError, "stop has to be"),
        ({"retraction": "chart"}, TypeError, "retraction has to be"),
        ({"callback": 3}, TypeError, "callback has to be"),
        ({"max_iter": 3}, TypeError, "unexpected keyword argument 'max_iter'"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        solve(warp, torch.zeros(2, 4).double(), Sphere(), **options)


def test_operator_and_prior_have_to_fit():
    operator = as_operator(lambda x: x, (4,), dtype=torch.float64)
    y = torch.zeros(1, 4).double()
    with pytest.raises(ValueError, match=r"takes x of shape \(4,\), the prior makes \(1, 3\)"):
        solve(operator, y, Sphere())
    with pytest.raises(TypeError, match="prior has to be a ManifoldPrior, got str"):
        solve(operator, y, "sphere")
    with pytest.raises(TypeError, match="forward operator or a callable, got str"):
        solve("blur", y, Sphere())


def test_public_names_exist():
    for name in onmanifold.__all__:
        assert getattr(onmanifold, name) is not None


class Root(Autodiff):
    """The root of the first coordinate, undefined where it is not positive."""

    x_shape, y_shape, linear = (2,), (1,), False

    def A(self, x):
        outside = x[:, 0] <= 0
        if outside.any():
            raise OutsideDomain("no root", outside)
        return x[:, :1].sqrt()


@pytest.mark.parametrize("method", [LevenbergMarquardt(), RiemannianGradientDescent()])
@pytest.mark.parametrize("root", [0.05, 0.5, 1.0])
def test_steps_and_samples_outside_the_operators_domain(method, root):
    y = torch.tensor([[root]], dtype=torch.float64)
    solution = solve(Root(), y, Circle(), method=method, stop=MaxSteps(300) | SmallDecrease(1e-9))
    assert solution.x[0, 0].sqrt() == pytest.approx(root, abs=1e-3)
    assert torch.isfinite(solution.final_points.objective).all()


def test_starts_outside_the_operators_domain_are_refused():
    start = Point(torch.tensor([0]), torch.tensor([[3.0]], dtype=torch.float64))
    with pytest.raises(OutsideDomain, match="no root"):
        solve(Root(), torch.tensor([[0.5]], dtype=torch.float64), Circle(), starts=start)
