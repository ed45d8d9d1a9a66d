"""Checks of operators and priors, to call in your own tests.

The solver relies on exact derivatives, on adjoints that match them, and on encoders that invert their
decoders. Where one is slightly wrong, the solver does not crash: it stops early or ends somewhere else. So
run these checks on every operator and every prior that you write:

    >>> from onmanifold import as_operator
    >>> from onmanifold.testing import check_operator
    >>> print(check_operator(as_operator(lambda x: x**2, x_shape=(3,))))  # doctest: +ELLIPSIS
    CallableOperator in float64
      ok    shape and dtype of A(x), finite ...
"""

from __future__ import annotations

import torch
from torch import Tensor

from onmanifold.checks import check_batch, check_count
from onmanifold.errors import InputTypeError
from onmanifold.operator import ForwardOperator, as_operator
from onmanifold.prior import ManifoldPrior
from onmanifold.testing import operators, priors
from onmanifold.testing.report import Check, CheckFailed, CheckReport

__all__ = ["Check", "CheckFailed", "CheckReport", "check_operator", "check_prior"]


def check_operator(
    operator: ForwardOperator, x: Tensor | None = None, seed: int = 0
) -> CheckReport:
    """Check that ``operator`` has the properties that the solver relies on.

    - ``A``, ``A_jvp``, ``A_vjp`` return tensors of ``y_shape`` or ``x_shape`` in the dtype of their
      arguments, which they do not change; a batch equals its members one by one;
    - dot test: ``<A_jvp(x, v), u> = <v, A_vjp(x, u)>``, to 1e-10 in float64 and 1e-5 in float32;
    - Taylor (float64 only): ``|A(x + t v) - A(x) - t A_jvp(x, v)|`` falls like ``t**2``;
    - ``linear = True``: ``A(a x + b w) = a A(x) + b A(w)``, ``A_jvp(x, v) = A(v)``, and
      ``A_adjoint``, where there is one, is ``A_vjp``;
    - ``linearize(x)`` agrees with the three, for several tangents at once and after ``select``.

    Args:
        operator: the operator.
        x: points to check at, ``(B, *x_shape)``, with B >= 2 for the batch check to say something.
            Pass them where ``A`` is not defined everywhere; the default is three points with
            entries between 0.5 and 1.5, in the dtype of the operator's buffers (float64 if it has
            none).
        seed: of the random points and directions.

    Returns:
        Every check with its measured error; ``print`` it.

    Raises:
        CheckFailed: naming each check that does not hold, and by how much.

    Example:
        >>> from onmanifold import Autodiff
        >>> class Cubes(Autodiff):
        ...     x_shape, y_shape, linear = (4,), (4,), False
        ...     def A(self, x):
        ...         return x**3
        ...     def A_vjp(self, x, u):
        ...         return 3 * x * u  # should be 3 x**2
        >>> try:
        ...     check_operator(Cubes())
        ... except CheckFailed as error:
        ...     print(error.report.failed[0].name)
        dot test, random directions
    """
    operator = as_operator(operator)
    if x is None:
        x = operators.default_points(operator, seed)
    check_batch(x, operator.x_shape, "x", finite=True)
    checks = CheckReport.of(operator, x.dtype)
    with torch.no_grad():
        operators.run_checks(checks, operator, x, seed)
    return checks.verdict()


def check_prior(prior: ManifoldPrior, n: int = 8, seed: int = 0) -> CheckReport:
    """Check that ``prior`` has the properties that the solver relies on, in every chart.

    - shapes, dtypes and finiteness of what it returns; a batch equals its members one by one;
    - ``E_k(D_k(z)) = z``, to 1e-10 in float64 and 1e-4 in float32, and ``D_k(E_k(x))`` is
      idempotent, also for ``x`` off the manifold. If the prior has ``inverse_error > 0``, instead: the
      median of ``|E_k(D_k(z)) - z|`` is what it claims, and ``locate`` is idempotent, on all points but the
      share ``locate_misses``;
    - both retractions, in float64: ``R_x(0) = x``, and ``|R_x(t h) - (x + t h)|`` falls like
      ``t**2``;
    - responsibilities: non-negative, rows sum to one; ``log_prob``: finite in the box;
    - ``sample`` depends on its seed, and on nothing else;
    - ``locate`` finds the points of the manifold again, all but the share ``locate_misses``;
    - configuration and weights, written and read, give the same prior. A class that no entry point
      names is built again by its ``from_config``.

    Args:
        prior: the prior, in evaluation mode.
        n: how many points a chart is checked at.
        seed: of the random points.

    Returns:
        Every check with its measured error; ``print`` it.

    Raises:
        CheckFailed: naming each check that does not hold, and by how much.
    """
    if not isinstance(prior, ManifoldPrior):
        raise InputTypeError(f"expected a ManifoldPrior, got {type(prior).__name__}")
    check_count(n, "n", at_least=2)
    checks = CheckReport.of(prior, prior.dtype)
    with torch.no_grad():
        priors.run_checks(checks, prior, n, seed)
    return checks.verdict()
