"""The checks of a learned manifold, a function for each property; ``check_prior`` calls them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from onmanifold.autodiff import jvp
from onmanifold.checks import as_generator
from onmanifold.errors import InputError
from onmanifold.geometry import locate
from onmanifold.plugins import kind_of
from onmanifold.pretrained import build, load_prior, save_prior
from onmanifold.prior import ManifoldPrior, Point
from onmanifold.retraction import ChartRetraction, ProjectionRetraction, Retraction
from onmanifold.testing.report import (
    SLOPE,
    CheckReport,
    distance,
    fits,
    norms,
    randn,
    remainder_slope,
    tolerance,
)

_MANY = 200  # points that a median or a share is taken of


def _inverse_tolerance(dtype: torch.dtype) -> float:
    return 1e-10 if dtype == torch.float64 else 1e-4


def run_checks(checks: CheckReport, prior: ManifoldPrior, n: int, seed: int) -> None:
    """Do every check; raise at once if samples cannot be drawn, decoded and encoded."""
    dims = prior.chart_dims
    fit = len(dims) == prior.num_charts and min(dims) >= 0 and max(dims) == prior.dim
    checks.true("chart_dims: K numbers from 0 to d, the largest is d", fit)
    checks.verdict()  # nothing below makes sense otherwise
    points = prior.sample(n, seed)
    _sampling(checks, prior, points, n, seed)
    checks.verdict()  # nothing below makes sense without samples
    for k in range(prior.num_charts):
        _chart(checks, prior, _chart_points(prior, points, k, n, seed), k, seed)
    if prior.inverse_error > 0:
        _learned_inverse(checks, prior, seed)
    _responsibilities(checks, prior, points)
    _batch(checks, prior, points)
    _locate(checks, prior, points, seed)
    _retractions(checks, prior, points, seed)
    _round_trip(checks, prior, points)


def _sampling(checks: CheckReport, prior: ManifoldPrior, points: Point, n: int, seed: int) -> None:
    again, other = prior.sample(n, seed), prior.sample(n, seed + 1)
    numbered = not points.chart.is_floating_point() and points.chart.shape == (n,)
    numbered = numbered and bool(((points.chart >= 0) & (points.chart < prior.num_charts)).all())
    checks.true("sample: charts are numbers from 0 to K-1", numbered)
    checks.true("sample: z of shape (n, d), finite", fits(points.z, (n, prior.dim), prior))
    sound = all(check.holds for check in checks.checks)
    if sound:
        beyond = points.z[~prior.active(points.chart)]
        checks.true("sample: 0 in coordinates that a chart does not have", not bool(beyond.any()))
    same = torch.equal(points.z, again.z) and torch.equal(points.chart, again.chart)
    checks.true("sample: same seed, same points", same)
    checks.true("sample: another seed, other points", not torch.equal(points.z, other.z))
    if not sound:
        return
    x = prior.decode(points)
    checks.true("decode: (B, *x_shape), finite", fits(x, (n, *prior.x_shape), prior))
    for k, d in enumerate(prior.chart_dims):
        z = prior.encode_chart(x, k)
        checks.true(f"encode: (B, {d}), finite, chart {k}", fits(z, (n, d), prior))


def _finite_box(prior: ManifoldPrior, chart: Tensor, like: Tensor) -> Tensor:
    """Half-widths of the charts' latent boxes, 1 where they are infinite: ``(..., d)``."""
    box = prior.box_half_width(chart, like)
    return torch.where(torch.isfinite(box), box, torch.ones_like(box))


def _chart_points(prior: ManifoldPrior, points: Point, k: int, n: int, seed: int) -> Tensor:
    """Samples of chart ``k`` and points spread over its box, ``(>= n, d_k)``."""
    chart = torch.full((n,), k, device=points.z.device)
    u = torch.rand((n, prior.dim), generator=as_generator(seed + k), dtype=torch.float64)
    spread = (2 * u.to(points.z) - 1) * _finite_box(prior, chart, points.z)
    return torch.cat([points.z[points.chart == k], spread])[:, : prior.chart_dims[k]]


def _chart(checks: CheckReport, prior: ManifoldPrior, z: Tensor, k: int, seed: int) -> None:
    if prior.inverse_error == 0:
        _exact_inverse(checks, prior, z, k, seed)
    density = prior.log_prob_chart(z, k)
    checks.true(f"log_prob: (B,), finite in the box, chart {k}", fits(density, (len(z),), prior))


def _exact_inverse(checks: CheckReport, prior: ManifoldPrior, z: Tensor, k: int, seed: int) -> None:
    tol = _inverse_tolerance(prior.dtype)
    x = prior.decode_chart(z, k)
    scale = max(1.0, float(z.abs().max()) if z.numel() else 0.0)
    checks.at_most(f"E(D(z)) = z, chart {k}", distance(prior.encode_chart(x, k), z, scale), tol)
    beside = x + 0.01 * float(x.std()) * randn(x, x.shape, as_generator(seed))
    once = prior.decode_chart(prior.encode_chart(beside, k), k)
    twice = prior.decode_chart(prior.encode_chart(once, k), k)
    checks.at_most(f"D(E(x)) is idempotent, chart {k}", distance(twice, once), 10 * tol)


def _learned_inverse(checks: CheckReport, prior: ManifoldPrior, seed: int) -> None:
    """A learned inverse is as exact as the prior claims, and better than none."""
    points = prior.sample(_MANY, seed)
    x = prior.decode(points)
    off = (prior.encode(x, points.chart).z - points.z).norm(dim=1).median()
    error = float(off / points.z.norm(dim=1).median())
    checks.at_most("|E(D(z)) - z| is what the prior claims", error, 2 * prior.inverse_error)
    checks.at_most("|E(D(z)) - z| is less than half of |z|", error, 0.5)
    located = locate(prior, x + 0.01 * float(x.std()) * randn(x, x.shape, as_generator(seed)))
    once = prior.decode(located)
    again = locate(prior, once)
    twice = prior.decode(again)
    checks.at_most("locate is idempotent", _all_but(_misses(prior), twice, once), 1e-3)


def _responsibilities(checks: CheckReport, prior: ManifoldPrior, points: Point) -> None:
    x = prior.decode(points)
    gamma = prior.responsibilities(x)
    sound = fits(gamma, (len(points), prior.num_charts), prior)
    checks.true("responsibilities: (B, K), finite", sound)
    if sound:
        checks.true("responsibilities are not negative", bool((gamma >= 0).all()))
        error = float((gamma.sum(dim=1) - 1).abs().max())
        checks.at_most("responsibilities sum to one", error, tolerance(prior.dtype))
        error = float((prior.responsibilities_at(points, x) - gamma).abs().max())
        checks.at_most("responsibilities_at knows the points' own charts", error, 0.01)


def _batch(checks: CheckReport, prior: ManifoldPrior, points: Point) -> None:
    x = prior.decode(points)
    z = prior.encode(x, points.chart).z
    errors = []
    for b in range(len(points)):
        row = torch.tensor([b], device=points.z.device)
        one = points.select(row)
        errors.append(distance(prior.decode(one), x[row]))
        errors.append(distance(prior.encode(x[row], one.chart).z, z[row], 1.0))
    tol = _inverse_tolerance(prior.dtype)
    checks.at_most("a batch equals its members one by one", max(errors), tol)


def _misses(prior: ManifoldPrior) -> float:
    """The share of points that ``locate`` may miss, if the prior states one."""
    return float(getattr(prior, "locate_misses", 0.0))


def _all_but(share: float, a: Tensor, b: Tensor) -> float:
    """Largest difference of two batches, relative to their own size; a share of the members not counted."""
    if share == 0 or a.shape != b.shape or a.dtype != b.dtype:
        return distance(a, b)
    off = (a - b).abs().flatten(1).amax(1).quantile(1 - share, interpolation="higher")
    scale = float(torch.maximum(a.abs().max(), b.abs().max()))
    return distance(off, torch.zeros_like(off), scale)


def _locate(checks: CheckReport, prior: ManifoldPrior, points: Point, seed: int) -> None:
    if _misses(prior) > 0:  # a share of few points says nothing
        points = prior.sample(_MANY, seed)
    x = prior.decode(points)
    found = locate(prior, x)
    error = _all_but(_misses(prior), prior.decode(found), x)
    checks.at_most("locate finds D(z) again", error, 10 * _inverse_tolerance(prior.dtype))
    beyond = found.z[~prior.active(found.chart)]
    checks.true("locate: 0 in coordinates that a chart does not have", not bool(beyond.any()))


def _few(points: Point) -> Point:
    """The first two points of each chart present."""
    rows = [(points.chart == k).nonzero().squeeze(1)[:2] for k in points.chart.unique()]
    return points.select(torch.cat(rows))


def _retractions(checks: CheckReport, prior: ManifoldPrior, points: Point, seed: int) -> None:
    """R_x(0) = x and first-order rigidity of both retractions, on a float64 copy of the prior."""
    exact = copy.deepcopy(prior).double()
    points = _few(points)
    box = _finite_box(exact, points.chart, points.z.double())
    inner = torch.clamp(points.z.double(), -0.9 * box, 0.9 * box)
    point = exact.project_code(points.at(inner))
    u = torch.rand(point.z.shape, generator=as_generator(seed + 2), dtype=torch.float64)
    v = (2 * u.to(point.z) - 1) * box
    x, h = jvp(lambda z: exact.decode(point.at(z)), point.z, v)
    eps = torch.finfo(x.dtype).eps

    def rigid(name: str, retraction: Retraction, rounding: Tensor) -> None:
        def retract(t: float) -> Tensor:
            moved = retraction(exact, point, t * v)
            return exact.decode(moved)

        checks.at_most(f"{name} retraction: R(0) = x", distance(retract(0.0), x), 1e-9)
        noise = norms(rounding) + 8 * eps * norms(x)
        slope = remainder_slope(lambda t: norms(retract(t) - (x + t * h)), norms(h), noise, steps=6)
        checks.at_least(f"{name} retraction: rigid to first order, slope", slope, SLOPE)

    rigid("chart", ChartRetraction(), exact.decode(point.at(point.z * (1 + 4 * eps))) - x)
    shaken = x * (1 + 4 * eps * randn(x, x.shape, as_generator(seed)).sign())
    back, there = (exact.decode(exact.encode_near(image, point)) for image in (shaken, x))
    rigid("projection", ProjectionRetraction(), back - there)


def _round_trip(checks: CheckReport, prior: ManifoldPrior, points: Point) -> None:
    try:
        kind_of(type(prior))
    except InputError:  # a class under development: nobody could load it by name yet
        config: dict[str, Any] = json.loads(json.dumps(prior.config()))
        again = build(type(prior), config, copy.deepcopy(prior.state_dict()), prior.dtype)
        name = "built again from config() and weights"
    else:
        with TemporaryDirectory() as folder:
            save_prior(prior, Path(folder) / "prior")
            again = load_prior(Path(folder) / "prior", device=prior.device)
        name = "saved and loaded"
    x = prior.decode(points)
    same = torch.equal(again.decode(points), x)
    same = same and torch.equal(again.encode(x, points.chart).z, prior.encode(x, points.chart).z)
    checks.true(f"{name}: the same prior", same and again.x_shape == prior.x_shape)
