"""solve(): reconstruct x on the learned manifold from measurements."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onmanifold.checks import check_callable
from onmanifold.descent import LevenbergMarquardt, MaxSteps, Method, SmallDecrease, StoppingRule
from onmanifold.descent.build import build_problem
from onmanifold.descent.loop import descend
from onmanifold.descent.method import State
from onmanifold.descent.normalized import Normalized
from onmanifold.descent.observers import Callback, SuccessiveHalving
from onmanifold.descent.problem import Counts, Problem
from onmanifold.descent.run import Descent
from onmanifold.errors import InputError, InputTypeError
from onmanifold.evaluation_mode import computing
from onmanifold.fidelity import EstimatedGaussian, Fidelity, p_value
from onmanifold.fidelity.estimated import noise_of
from onmanifold.in_kind import as_arrays
from onmanifold.initial_points import InitialPoints, as_initial_points, choose_initial_points
from onmanifold.noise import estimate
from onmanifold.operator import OperatorLike
from onmanifold.prior import ManifoldPrior, Point, require_prior
from onmanifold.retraction import Retraction
from onmanifold.solution import UNLIKELY, FinalPoints, InconsistentWarning, Solution
from onmanifold.status import History, Status
from onmanifold.weights import WeightRule

_NOISE_ROUNDS, _NOISE_SETTLED = 20, 0.01
_unfinished = ContextVar("unfinished", default=False)
_STATUS = {int(status): status for status in Status}


@torch.no_grad()
def solve(
    operator: OperatorLike,
    measurement: Tensor | NDArray[Any],
    prior: ManifoldPrior,
    *,
    fidelity: Fidelity | Callable[[Tensor, Tensor], Tensor] | None = None,
    prior_weight: float | Tensor | WeightRule | None = None,
    method: Method[Any] | None = None,
    starts: InitialPoints | int | Point | None = None,
    stop: StoppingRule | None = None,
    retraction: Retraction | None = None,
    seed: int | torch.Generator = 0,
    callback: Callback | None = None,
    trajectory: bool = False,
    progress: bool = False,
    decoder_error: bool = True,
) -> Solution:
    """Reconstruct ``x`` on a learned manifold from measurements ``y = A(x) + noise``.

    Minimizes ``fidelity(A(x), y) - prior_weight * log q(x)`` over the points x of the manifold, by
    descent along it from several initial points; the best final point is the result. All measurements
    and starts descend as one batch, each as if it were alone.

    Args:
        operator: A, a :class:`ForwardOperator`, a callable made of torch operations, or what else
            :func:`as_operator` takes.
        measurement: y, shape ``(B, *y_shape)``, a tensor in the prior's dtype and on its device, or a numpy
            array of any dtype; then all numbers of the result are arrays, too. A single measurement,
            ``y_shape``, is a batch of one. Missing entries hold any finite number and are marked by the
            fidelity's mask.
        prior: the learned manifold.
        fidelity: what a residual costs. ``Gaussian(std)`` with the noise's standard deviation makes
            the result a maximum a posteriori estimate; :class:`EstimatedGaussian` finds it with the
            solution. Without a fidelity the result is the
            least-squares fit on the manifold: the prior's density does not count, since no noise level
            says how to weigh it against the data, and ``solution.summary()`` says so. A
            function made of torch operations, of predictions and measurements ``(B, *y_shape)`` to
            ``(B,)``, serves too (:class:`FunctionFidelity`).
        prior_weight: weight of the prior's log-density, a number, or ``(B,)``, one a measurement, or a
            rule that chooses it: :class:`ByDiscrepancy`, :class:`ByLCurve`. By default 1 with a
            fidelity, and 0 without.
        method: ``LevenbergMarquardt()``, ``RiemannianGradientDescent()``, ``ConjugateGradient()``,
            ``LBFGS()``, or a user's; as controls ``Latent(method)`` and ``LatentAdam()``.
        starts: the initial points: their number, a way to choose them (:class:`InitialPoints`), or a
            :class:`Point` with S members for each measurement in turn.
        stop: stopping rule, ``MaxSteps(100) | SmallDecrease(1e-6)`` by default.
        retraction: ``ChartRetraction()``, ``ProjectionRetraction()`` or ``AveragedRetraction()``.
        seed: for the starts; same seed, same result.
        callback: called with the :class:`~onmanifold.descent.State` of all starts after each step;
            anything true stops them. An error that it raises carries the solution so far as its
            attribute ``solution``.
        trajectory: whether to keep every ``x`` on the way, and its latent coordinates.
        progress: whether to show a bar once it takes more than 2 s.
        decoder_error: whether normal noise is widened by how far genuine unknowns lie off the manifold,
            where the prior knows it (:class:`DecoderError`). Without, a misfit larger than noise alone
            allows counts as inconsistent.

    Returns:
        The :class:`Solution`, with a status for each measurement. An interrupt from the keyboard returns
        the best so far.

    Warns:
        InconsistentWarning: a measurement is inconsistent with the noise at every point that was found.

    Raises:
        TypeError: an argument of the wrong kind, or a measurement of another dtype than the
            prior's.
        ValueError: a wrong shape, an empty batch, a NaN or infinity, a number out of range.

    Example:
        >>> import torch
        >>> from onmanifold import Gaussian, ManifoldPrior, Point, solve
        >>> class Circle(ManifoldPrior):
        ...     x_shape, dim, box = (2,), 1, torch.pi
        ...     def decode_chart(self, z, chart):
        ...         return torch.cat([z.cos(), z.sin()], dim=1)
        ...     def encode_chart(self, x, chart):
        ...         return torch.atan2(x[:, 1:], x[:, :1])
        ...     def log_prob_chart(self, z, chart):
        ...         return torch.zeros(len(z))
        ...     def sample(self, n, generator=None):
        ...         z = torch.linspace(-3, 3, n).unsqueeze(1)
        ...         return Point(torch.zeros(n, dtype=torch.long), z)
        >>> y = torch.tensor([[2.0, 2.0]])
        >>> solve(lambda x: 3 * x, y, Circle(), fidelity=Gaussian(0.1)).x
        tensor([[0.7071, 0.7071]])
    """
    began = time.perf_counter()
    require_prior(prior)
    _check_options(method, stop, callback)
    rule = _rule(prior_weight, fidelity)
    weight = prior_weight.first if isinstance(prior_weight, WeightRule) else prior_weight
    starts = as_initial_points(starts)
    with computing(prior):
        problem = build_problem(
            operator, measurement, prior, fidelity, weight, retraction, decoder_error
        )
        start, _ = choose_initial_points(problem, starts, seed)
        halve_after = starts.halve_after if isinstance(starts, InitialPoints) else None

        def run(weighted: Problem, point: Point) -> Solution:
            each = len(point) // len(weighted)
            members = weighted.repeat(each)
            halve = None if each == 1 else halve_after
            with computing(prior, len(members)):
                descent = descend(
                    members,
                    Normalized(LevenbergMarquardt() if method is None else method),
                    MaxSteps(100) | SmallDecrease(1e-6) if stop is None else stop,
                    point,
                    callback=callback,
                    halving=None if halve is None else SuccessiveHalving(each, halve),
                    keep_path=trajectory,
                    progress=progress,
                    catch_interrupt=True,
                )
            solution = _best(weighted, members, descent, time.perf_counter() - began)
            if descent.error is not None:
                descent.error.solution = solution  # type: ignore[attr-defined]
                raise descent.error
            return solution

        solution = run(problem, start)
        if noise_of(problem.fidelity) is not None:
            solution = _with_noise(solution, run)
        if rule is not None:
            solution = _by_rule(rule, problem, solution, run)
        if not _unfinished.get():
            _warn(solution)
        return as_arrays(solution) if isinstance(measurement, np.ndarray) else solution


@contextmanager
def unfinished() -> Iterator[None]:
    """Solve without a word on consistency, since a search goes on from there and tests its result.

    A filter of warnings would be one of the whole process, and of all its threads.
    """
    token = _unfinished.set(True)
    try:
        yield
    finally:
        _unfinished.reset(token)


def _warn(solution: Solution) -> None:
    """Warn of measurements that are inconsistent with the noise."""
    rows = (~solution.consistent).nonzero().flatten().tolist()
    if rows:
        some = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        warnings.warn(
            f"{len(rows)} of {len(solution)} measurements ({some}) are inconsistent with the noise at "
            f"every point that was found (p < {UNLIKELY}): the truth lies off the manifold, the noise is "
            "larger than stated, the operator is wrong, or more starts are needed",
            InconsistentWarning,
            stacklevel=4,  # one is that of no_grad
        )


def _by_rule(
    rule: WeightRule,
    problem: Problem,
    solution: Solution,
    run: Callable[[Problem, Point], Solution],
) -> Solution:
    """The solution with the weights that the rule chooses; each run starts at the last one's result.

    An interrupt from the keyboard ends the search for weights, too.
    """
    last = solution

    def attempt(weight: Tensor) -> Solution:
        nonlocal last
        if Status.INTERRUPTED in last.status:
            raise _Interrupted
        last = _joined(last, run(replace(problem, prior_weight=weight), last.point), problem.counts)
        return last

    try:
        return attempt(rule.choose(solution, attempt))
    except _Interrupted:
        return last


class _Interrupted(Exception):
    pass


def _with_noise(solution: Solution, run: Callable[[Problem, Point], Solution]) -> Solution:
    """The solution and the noise level that fit each other; all starts go on from where they ended."""
    for _ in range(_NOISE_ROUNDS):
        problem = solution.problem
        assert problem is not None
        noise = noise_of(problem.fidelity)
        assert noise is not None
        pool = problem.counts.copy()
        with computing(problem.prior):
            new = estimate(problem, noise, solution.point)
        solution = _joined(solution, run(problem.with_noise(new), _ends(solution)), pool)
        change = (new.entries / noise.entries - 1).abs()
        if Status.INTERRUPTED in solution.status or bool((change < _NOISE_SETTLED).all()):
            break
    return solution


def _ends(solution: Solution) -> Point:
    final = solution.final_points
    return Point(final.chart.flatten(), final.z.flatten(0, 1))


def _joined(last: Solution, found: Solution, pool: Counts) -> Solution:
    """What was found, with the steps and calls of the operator that it took until then.

    Each run counts the pool, which was evaluated once.
    """
    return replace(
        found,
        steps=last.steps + found.steps,
        operator_calls=last.operator_calls + found.operator_calls - pool.evaluations,
        linearizations=last.linearizations + found.linearizations - pool.linearizations,
    )


def _rule(prior_weight: object, fidelity: object) -> WeightRule | None:
    """The rule that chooses the prior's weight, if there is one."""
    if not isinstance(prior_weight, WeightRule):
        return None
    if isinstance(fidelity, EstimatedGaussian):
        raise InputError(
            f"{type(prior_weight).__name__} weighs the prior against the noise, and "
            f"{type(fidelity).__name__} estimates the noise with the prior's own weight: leave out one of "
            "them"
        )
    return prior_weight


def _check_options(method: object, stop: object, callback: object) -> None:
    check_callable(stop, "stop", "MaxSteps(100)")
    check_callable(callback, "callback", "lambda state: False")
    if method is not None and (isinstance(method, type) or not hasattr(method, "step")):
        got = repr(method) if isinstance(method, type) else type(method).__name__
        raise InputTypeError(f"method has to be one such as LevenbergMarquardt(), got {got}")


def _best(problem: Problem, members: Problem, descent: Descent[State], seconds: float) -> Solution:
    """Choose the best of each measurement's S members, which are consecutive."""
    noise = noise_of(problem.fidelity)
    level = None if noise is None else noise.level
    state, prior, batch = descent.state, problem.prior, len(problem)
    objective = torch.nan_to_num(state.objective, nan=torch.inf).view(batch, -1)
    order = objective.argsort(dim=1, stable=True)
    first = torch.arange(batch, device=order.device).unsqueeze(1) * order.shape[1]
    order = order + first  # the members of each measurement, best first: (B, S)
    won = order[:, 0]
    x = prior.decode(state.point)
    z = None if descent.path is None else torch.stack([p.z[won] for p in descent.path])
    history = _of(descent.history, won, z)
    return Solution(
        measurement=problem.measurement,
        x=x[won],
        chart=state.point.chart[won],
        z=state.point.z[won],
        objective=state.objective[won],
        misfit=state.misfit[won],
        expected_misfit=problem.fidelity.expected(problem.measurement),
        p_value=_p_value(problem, state.misfit[won]),
        status=tuple(_STATUS[code] for code in descent.status[won].tolist()),
        steps=state.steps[won],
        operator_calls=_total(problem.counts.evaluations, members.counts.evaluations),
        linearizations=_total(problem.counts.linearizations, members.counts.linearizations),
        seconds=seconds,
        history=history,
        least_squares=not (problem.noise_known or problem.weighted),
        final_points=FinalPoints(
            x=x[order],
            chart=state.point.chart[order],
            z=state.point.z[order],
            objective=state.objective[order],
            status=descent.status[order],
        ),
        trajectory=None if z is None else _decoded(prior, z, history.chart),
        noise_std=None if level is None else level[:, 0].sqrt(),
        noise_gain=None if level is None or level.shape[1] < 2 else level[:, 1],
        problem=problem,
    )


def _p_value(problem: Problem, misfit: Tensor) -> Tensor:
    if not problem.noise_known:
        return torch.full_like(misfit, torch.nan)
    return p_value(problem.fidelity, misfit, problem.measurement)


def _total(pool: Tensor, starts: Tensor) -> Tensor:
    return pool + starts.view(len(pool), -1).sum(1)


def _of(history: History, won: Tensor, z: Tensor | None) -> History:
    return History(
        history.objective[:, won],
        history.gradient_norm[:, won],
        history.step_length[:, won],
        history.chart[:, won],
        z,
    )


def _decoded(prior: ManifoldPrior, z: Tensor, chart: Tensor) -> Tensor:
    return torch.stack([prior.decode(Point(*step)) for step in zip(chart, z, strict=True)])
