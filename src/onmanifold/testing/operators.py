"""The checks of a forward operator, a function for each property; ``check_operator`` calls them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from onmanifold.checks import as_generator
from onmanifold.operator import ForwardOperator, linearize
from onmanifold.testing.report import (
    SLOPE,
    CheckReport,
    distance,
    fits,
    inner,
    norms,
    randn,
    remainder_slope,
    tolerance,
)


def default_points(operator: ForwardOperator, seed: int) -> Tensor:
    """Three points in the operator's dtype, entries between 0.5 and 1.5."""
    like = torch.empty(0, dtype=torch.float64)
    if isinstance(operator, nn.Module):
        tensors = [*operator.parameters(), *operator.buffers()]
        like = next((t for t in tensors if t.is_floating_point()), like)
    u = torch.rand((3, *operator.x_shape), generator=as_generator(seed + 1), dtype=torch.float64)
    return (0.5 + u).to(like)


def run_checks(checks: CheckReport, op: ForwardOperator, x: Tensor, seed: int) -> None:
    """Do every check at the points ``x``; raise at once if the shapes are wrong."""
    generator = as_generator(seed)
    y = op.A(x)
    _shapes(checks, op, x, y, generator)
    checks.verdict()  # nothing below makes sense if the shapes are wrong
    _dot_test(checks, op, x, generator)
    _batch(checks, op, x, y, generator)
    if x.dtype == torch.float64:
        _taylor(checks, op, x, y, generator)
    if op.linear:
        _linear(checks, op, x, y, generator)
    _linearization(checks, op, x, y, generator)


def _shapes(
    checks: CheckReport, op: ForwardOperator, x: Tensor, y: Tensor, generator: torch.Generator
) -> None:
    x_shape, y_shape = (len(x), *op.x_shape), (len(x), *op.y_shape)
    checks.true("shape and dtype of A(x), finite", fits(y, y_shape, x))
    checks.true("linear is a bool", isinstance(op.linear, bool))
    checks.verdict()
    before = x.clone()
    v = randn(x, x.shape, generator)
    u = randn(x, y_shape, generator)
    v_before, u_before = v.clone(), u.clone()
    checks.true("shape and dtype of A_jvp(x, v), finite", fits(op.A_jvp(x, v), y_shape, x))
    checks.true("shape and dtype of A_vjp(x, u), finite", fits(op.A_vjp(x, u), x_shape, x))
    same = torch.equal(x, before) and torch.equal(v, v_before) and torch.equal(u, u_before)
    checks.true("arguments are not changed", same)


def _dot_test(
    checks: CheckReport, op: ForwardOperator, x: Tensor, generator: torch.Generator
) -> None:
    v = randn(x, x.shape, generator)
    forward = op.A_jvp(x, v)
    for name, u in (("random", randn(x, forward.shape, generator)), ("aligned", forward)):
        back = op.A_vjp(x, u)
        scale = math.sqrt(inner(forward, forward) * inner(u, u))
        scale = max(scale, math.sqrt(inner(v, v) * inner(back, back)))
        error = abs(inner(forward, u) - inner(v, back))
        relative = error / scale if scale > 0 else error
        checks.at_most(f"dot test, {name} directions", relative, tolerance(x.dtype))


def _batch(
    checks: CheckReport, op: ForwardOperator, x: Tensor, y: Tensor, generator: torch.Generator
) -> None:
    v, u = randn(x, x.shape, generator), randn(x, y.shape, generator)
    jvp, vjp = op.A_jvp(x, v), op.A_vjp(x, u)
    errors = [0.0]
    for b in range(len(x)):
        one = slice(b, b + 1)
        errors.append(distance(op.A(x[one]), y[one]))
        errors.append(distance(op.A_jvp(x[one], v[one]), jvp[one]))
        errors.append(distance(op.A_vjp(x[one], u[one]), vjp[one]))
    checks.at_most("a batch equals its members one by one", max(errors), tolerance(x.dtype))


def _taylor(
    checks: CheckReport, op: ForwardOperator, x: Tensor, y: Tensor, generator: torch.Generator
) -> None:
    size = x.abs().mean().clamp(min=1e-30) if bool((x != 0).any()) else x.new_ones(())
    v = size * (2 * torch.rand(x.shape, generator=generator, dtype=x.dtype).to(x) - 1)
    first = op.A_jvp(x, v)
    eps = torch.finfo(x.dtype).eps
    shaken = op.A(x * (1 + 4 * eps * randn(x, x.shape, generator).sign()))
    noise = norms(shaken - y) + 8 * eps * norms(y)
    slope = remainder_slope(lambda t: norms(op.A(x + t * v) - y - t * first), norms(first), noise)
    checks.at_least("Taylor remainder of A_jvp, slope", slope, SLOPE)


def _linear(
    checks: CheckReport, op: ForwardOperator, x: Tensor, y: Tensor, generator: torch.Generator
) -> None:
    tol = tolerance(x.dtype)
    other = randn(x, x.shape, generator)
    image = op.A(other)
    checks.at_most(
        "A(2 x - 3 w) = 2 A(x) - 3 A(w)", distance(op.A(2 * x - 3 * other), 2 * y - 3 * image), tol
    )
    checks.at_most("A_jvp(x, w) = A(w)", distance(op.A_jvp(x, other), image), tol)
    adjoint = getattr(op, "A_adjoint", None)
    if adjoint is not None:
        u = randn(x, y.shape, generator)
        checks.at_most("A_adjoint(u) = A_vjp(x, u)", distance(adjoint(u), op.A_vjp(x, u)), tol)


def _linearization(
    checks: CheckReport, op: ForwardOperator, x: Tensor, y: Tensor, generator: torch.Generator
) -> None:
    tol = tolerance(x.dtype)
    tangents = 2
    v = randn(x, (len(x), tangents, *op.x_shape), generator)
    u = randn(x, (len(x), tangents, *op.y_shape), generator)
    jvp = torch.stack([op.A_jvp(x, v[:, t]) for t in range(tangents)], dim=1)
    vjp = torch.stack([op.A_vjp(x, u[:, t]) for t in range(tangents)], dim=1)
    lin = linearize(op, x)
    checks.at_most("linearize(x).y = A(x)", distance(lin.y, y), tol)
    checks.at_most("linearize(x).jvp, several tangents", distance(lin.jvp(v), jvp), tol)
    checks.at_most("linearize(x).vjp, several tangents", distance(lin.vjp(u), vjp), tol)
    index = torch.arange(len(x) - 1, -1, -2, device=x.device)
    mask = torch.arange(len(x), device=x.device) % 2 == 0
    for name, rows in (("index", index), ("mask", mask)):
        part = lin.select(rows)
        error = max(
            distance(part.y, y[rows]),
            distance(part.jvp(v[rows]), jvp[rows]),
            distance(part.vjp(u[rows]), vjp[rows]),
        )
        checks.at_most(f"linearize(x).select(rows), {name}", error, tol)
