"""The checks of plugins pass correct ones and catch wrong ones."""

import pytest
import torch
from torch import nn

from onmanifold.operator import Autodiff, PointwiseLinearization, as_operator, linearize
from onmanifold.prior import ManifoldPrior, Point
from onmanifold.testing import CheckFailed, check_operator, check_prior

# Operators ----------------------------------------------------------------------------------------


class Smooth(Autodiff):
    """A nonlinear operator, R^5 -> R^(2, 3)."""

    x_shape, y_shape, linear = (5,), (2, 3), False

    def __init__(self):
        self.matrix = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).double()

    def A(self, x):
        return (x @ self.matrix.to(x).T).tanh().unflatten(1, (2, 3)) + x.sum(1)[:, None, None] ** 3


class Matrix(nn.Module):
    """A linear operator with a buffer, R^4 -> R^6."""

    x_shape, y_shape, linear = (4,), (6,), True

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("matrix", torch.randn(6, 4, generator=generator))

    def A(self, x):
        return x @ self.matrix.T

    def A_adjoint(self, u):
        return u @ self.matrix

    def A_jvp(self, x, v):
        return self.A(v)

    def A_vjp(self, x, u):
        return self.A_adjoint(u)


class LinearByAutodiff(Autodiff):
    x_shape, y_shape, linear = (5,), (5,), True

    def A(self, x):
        return 3 * x.cumsum(1)


def test_good_operators_pass():
    square = as_operator(lambda x: x**2, (2, 2))
    for operator in (Smooth(), Matrix(), Matrix().double(), square, LinearByAutodiff()):
        report = check_operator(operator)
        assert not report.failed
        assert "dot test" in str(report)
        assert repr(report).endswith("checks hold (print it to see them)")


def test_points_of_the_user_and_float32():
    x = torch.rand(2, 5, generator=torch.Generator().manual_seed(3))
    report = check_operator(Smooth(), x)
    assert report.subject == "Smooth in float32"
    assert not any("Taylor" in check.name for check in report.checks)  # says nothing in float32
    with pytest.raises(ValueError, match="expected"):
        check_operator(Smooth(), torch.rand(2, 4))


class WrongAdjoint(Smooth):
    def A_vjp(self, x, u):
        return super().A_vjp(x, u) * 1.001


class WrongAdjointInOneEntry(Smooth):
    def A_vjp(self, x, u):
        out = super().A_vjp(x, u)
        return torch.cat([out[:, :1] * (1 + 1e-6), out[:, 1:]], dim=1)


class HalfDerivative(Smooth):
    def A_jvp(self, x, v):
        return super().A_jvp(x, v) / 2

    def A_vjp(self, x, u):
        return super().A_vjp(x, u) / 2


class DoubleDerivative(Smooth):
    def A_jvp(self, x, v):
        return super().A_jvp(x, v) * 2

    def A_vjp(self, x, u):
        return super().A_vjp(x, u) * 2


class SlightlyWrongDerivative(Smooth):
    def A_jvp(self, x, v):
        return super().A_jvp(x, v) * 1.0001

    def A_vjp(self, x, u):
        return super().A_vjp(x, u) * 1.0001


class NoDerivative(Smooth):
    def A_jvp(self, x, v):
        return torch.zeros(len(x), 2, 3, dtype=x.dtype)

    def A_vjp(self, x, u):
        return torch.zeros_like(x)


class NotLinear(Matrix):
    def A(self, x):
        return super().A(x) + 1


class QuadraticCalledLinear(Matrix):
    def A(self, x):
        return super().A(x) + (x**2).sum(1, keepdim=True)

    def A_jvp(self, x, v):
        return v @ self.matrix.T + 2 * (x * v).sum(1, keepdim=True)

    def A_vjp(self, x, u):
        return u @ self.matrix + 2 * x * u.sum(1, keepdim=True)


class WrongAdjointMethod(Matrix):
    def A_adjoint(self, u):
        return -(u @ self.matrix)

    def A_vjp(self, x, u):
        return u @ self.matrix


class WrongShape(Smooth):
    y_shape = (3, 2)


class WrongDtype(Matrix):
    def A(self, x):
        return super().A(x).double()


class NotANumber(Smooth):
    def A_vjp(self, x, u):
        return super().A_vjp(x, u) * torch.nan


class Mixes(Smooth):
    """Members of a batch disturb each other."""

    def A(self, x):
        return super().A(x) + 1e-6 * x.mean()


class WritesIntoItsArgument(Smooth):
    def A_jvp(self, x, v):
        out = super().A_jvp(x, v)
        v *= 2
        return out


class WrongTangentOrder(Smooth):
    def linearize(self, x):
        class Flipped(PointwiseLinearization):
            def jvp(self, v):
                return super().jvp(v).flip(1)

        return Flipped(self, x, self.A(x))


class SelectsNothing(Smooth):
    def linearize(self, x):
        class Lazy(PointwiseLinearization):
            def select(self, rows):
                return Lazy(self.operator, self.x[: len(self.x[rows])], self.y[rows])

        return Lazy(self, x, self.A(x))


@pytest.mark.parametrize(
    ("operator", "check"),
    [
        (WrongAdjoint(), "dot test, random"),
        (WrongAdjointInOneEntry(), "dot test"),
        (HalfDerivative(), "Taylor"),
        (DoubleDerivative(), "Taylor"),
        (SlightlyWrongDerivative(), "Taylor"),
        (NoDerivative(), "Taylor"),
        (NotLinear().double(), "A(2 x - 3 w)"),
        (QuadraticCalledLinear(), "A(2 x - 3 w)"),
        (WrongAdjointMethod(), "A_adjoint"),
        (WrongShape(), "shape and dtype of A(x)"),
        (WrongDtype(), "shape and dtype of A(x)"),
        (NotANumber(), "shape and dtype of A_vjp"),
        (Mixes(), "one by one"),
        (WritesIntoItsArgument(), "not changed"),
        (WrongTangentOrder(), "several tangents"),
        (SelectsNothing(), "select(rows)"),
    ],
    ids=lambda v: type(v).__name__ if not isinstance(v, str) else "",
)
def test_broken_operators_are_caught(operator, check):
    with pytest.raises(CheckFailed) as caught:
        check_operator(operator)
    failed = caught.value.report.failed
    assert any(check in f.name for f in failed), [str(f) for f in failed]
    assert check in str(caught.value)  # the message names it, and by how much
    assert "at most" in str(caught.value) or "at least" in str(caught.value)


def test_derivative_wrong_by_two_has_slope_one():
    with pytest.raises(CheckFailed) as caught:
        check_operator(HalfDerivative())
    (check,) = [f for f in caught.value.report.failed if "Taylor" in f.name]
    head, *lines = repr(caught.value.report).splitlines()
    assert "checks fail" in head and str(check) in [line.strip() for line in lines]
    assert check.value == pytest.approx(1, abs=0.05)


def test_reports_are_reproducible():
    assert str(check_operator(Smooth(), seed=4)) == str(check_operator(Smooth(), seed=4))


def test_linearize_default_is_consistent():
    x = torch.rand(3, 4)
    lin = linearize(Matrix(), x)
    assert lin.select(torch.tensor([2])).y.shape == (1, 6)


# Priors -------------------------------------------------------------------------------------------


class Arcs(ManifoldPrior):
    """Two charts of a helix, t -> (cos t, sin t, t), with exact left inverses."""

    x_shape, dim, num_charts, box = (3,), 1, 2, 1.0

    def __init__(self, speed=1.0):
        super().__init__()
        self.speed = speed
        self.register_buffer("start", torch.tensor([0.0, 1.0]))

    def config(self):
        return {"speed": self.speed}

    def decode_chart(self, z, chart):
        t = self.speed * z[:, 0] + self.start[chart]
        return torch.stack([t.cos(), t.sin(), t], dim=1)

    def encode_chart(self, x, chart):
        return ((x[:, 2:] - self.start[chart]) / self.speed).to(x)

    def log_prob_chart(self, z, chart):
        return -(z**2).sum(1)

    def responsibilities(self, x):
        return torch.softmax(torch.stack([x[:, 2], -x[:, 2]], dim=1), dim=1)

    def sample(self, n, generator=None):
        seed = generator if isinstance(generator, torch.Generator) else None
        seed = seed or torch.Generator().manual_seed(generator or 0)
        chart = torch.randint(2, (n,), generator=seed)
        z = 2 * torch.rand((n, 1), generator=seed, dtype=torch.float64) - 1
        return Point(chart, z.to(self.start))


def test_good_prior_passes():
    for prior in (Arcs(), Arcs(0.5).double()):
        report = check_prior(prior)
        assert not report.failed
        names = [check.name for check in report.checks]
        assert sum("retraction" in name for name in names) == 4


class EncoderNotInverse(Arcs):
    def encode_chart(self, x, chart):
        return super().encode_chart(x, chart) * 1.01


class EncoderOfOneChartNotInverse(Arcs):
    def encode_chart(self, x, chart):
        return super().encode_chart(x, chart) + 1e-3 * chart


class Kinked(Arcs):
    """A decoder that is not differentiable: an edge in every point of a fine grid."""

    def decode_chart(self, z, chart):
        x = super().decode_chart(z, chart)
        frozen = (z[:, 0] * 1e9).round() % 2 * 1e-3
        return torch.cat([x[:, :1] + frozen[:, None], x[:, 1:]], dim=1)


class NotRigid(Arcs):
    """A derivative that is not the decoder's: its graph is cut and put together wrongly."""

    def decode_chart(self, z, chart):
        return super().decode_chart(z.detach() + 0.5 * (z - z.detach()), chart)


class RoughEncoder(Arcs):
    """A left inverse that is not differentiable: what is beside the curve enters by its root."""

    def encode_chart(self, x, chart):
        beside = (x[:, :1] - x[:, 2:].cos()).abs() + (x[:, 1:2] - x[:, 2:].sin()).abs()
        return super().encode_chart(x, chart) + torch.where(beside > 1e-15, beside, 0).sqrt()


class RowsSumToTwo(Arcs):
    def responsibilities(self, x):
        return 2 * super().responsibilities(x)


class NegativeRows(Arcs):
    def responsibilities(self, x):
        return torch.tensor([[2.0, -1.0]]).to(x).expand(len(x), 2)


class InfiniteDensity(Arcs):
    def log_prob_chart(self, z, chart):
        return super().log_prob_chart(z, chart) * torch.inf


class Forgetful(Arcs):
    def sample(self, n, generator=None):
        return super().sample(n, torch.Generator().manual_seed(torch.randint(9**9, ()).item()))


class IgnoresItsSeed(Arcs):
    def sample(self, n, generator=None):
        return super().sample(n, 7)


class ChartOutOfRange(Arcs):
    def sample(self, n, generator=None):
        point = super().sample(n, generator)
        return Point(point.chart + 1, point.z)


class WrongImageShape(Arcs):
    x_shape = (4,)


class BatchStatistics(Arcs):
    def decode_chart(self, z, chart):
        return super().decode_chart(z, chart) + 1e-3 * z.mean()


class ForgetsItsSpeed(Arcs):
    def __init__(self, speed=0.7):
        super().__init__(speed)

    def config(self):
        return {"speed": 1.0}


class NearestFails(Arcs):
    def recognize(self, x):
        return Point(torch.zeros(len(x), dtype=torch.long), torch.zeros(len(x), 1).to(x))


class MissesMoreThanItSays(NearestFails):
    locate_misses = 0.2


@pytest.mark.parametrize(
    ("prior", "check"),
    [
        (EncoderNotInverse(), "E(D(z)) = z"),
        (EncoderNotInverse(), "idempotent"),
        (EncoderOfOneChartNotInverse(), "E(D(z)) = z, chart 1"),
        (Kinked().double(), "chart retraction: rigid"),
        (NotRigid(), "chart retraction: rigid"),
        (RoughEncoder().double(), "projection retraction: rigid"),
        (RowsSumToTwo(), "sum to one"),
        (NegativeRows(), "not negative"),
        (InfiniteDensity(), "log_prob"),
        (Forgetful(), "same seed"),
        (IgnoresItsSeed(), "another seed"),
        (ChartOutOfRange(), "charts are numbers"),
        (WrongImageShape(), "decode: (B, *x_shape)"),
        (BatchStatistics(), "one by one"),
        (ForgetsItsSpeed(), "built again"),
        (NearestFails(), "locate"),
        (MissesMoreThanItSays(), "locate"),
    ],
    ids=lambda v: type(v).__name__ if not isinstance(v, str) else "",
)
def test_broken_priors_are_caught(prior, check):
    with pytest.raises(CheckFailed) as caught:
        check_prior(prior)
    failed = caught.value.report.failed
    assert any(check in f.name for f in failed), [str(f) for f in failed]


class MissesATenth(Arcs):
    locate_misses = 0.2

    def recognize(self, x):
        found = super().recognize(x)
        z = found.z.clone()
        z[::10] *= 0.5
        return Point(found.chart, z)


def test_a_prior_may_miss_as_many_points_as_it_says():
    check_prior(MissesATenth())


def test_bad_arguments():
    with pytest.raises(TypeError, match="ManifoldPrior"):
        check_prior(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="at least 2"):
        check_prior(Arcs(), n=1)
