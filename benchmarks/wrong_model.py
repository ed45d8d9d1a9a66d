"""Which pictures are reported as unexplained: those off the manifold, or genuine ones, too?

Run ``python benchmarks/wrong_model.py [bars] [balls]``. ``bars``: blurred (40 x 40 pixels, standard
deviation 15), at several noise levels. ``balls``: pairs of balls from electrode voltages, noise 0.1 %.
Held-out pictures of the manifold and others are measured and solved. *Excess* is the misfit beyond what noise
makes on average, in its standard deviations, the median; *unexplained* counts ``solution.consistent``, and
*score test* its p-values below 0.01. A decoder does not draw genuine pictures exactly either: so there is
also a fidelity that knows its error from 200 examples.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

from torch import Tensor

from onmanifold import (
    CorrelatedGaussian,
    Gaussian,
    InconsistentWarning,
    InitialPoints,
    load_prior,
    score_test,
    simulate,
    solve,
)
from onmanifold.fidelity import Fidelity
from onmanifold.geometry import locate, nearest
from onmanifold.operator import ForwardOperator
from onmanifold.operators import Blur, gaussian_kernel
from onmanifold.prior import ManifoldPrior
from onmanifold.priors.datasets import Bar, TwoBalls, stream
from onmanifold.solution import UNLIKELY

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.balls import NOISE, Balls  # noqa: E402
from benchmarks.wrong_model_parts.pictures import BALLS, BARS  # noqa: E402

NOISES = (0.1, 0.02, 0.002)  # of the bars, whose contrast is 0.25
EXAMPLES = 200  # of the decoder's error


def report(
    name: str,
    operator: ForwardOperator,
    y: Tensor,
    prior: ManifoldPrior,
    fidelity: Fidelity,
    starts: InitialPoints,
) -> None:
    """Solve, print a row."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentWarning)
        solution = solve(operator, y, prior, fidelity=fidelity, starts=starts)
    assert solution.problem is not None
    deviation = solution.problem.fidelity.deviation(y)  # type: ignore[attr-defined]
    excess = float(((solution.misfit - solution.expected_misfit) / deviation).median())
    ratio = float((solution.misfit / solution.expected_misfit).median())
    unexplained = int((~solution.consistent).sum())
    off = int((score_test(solution) < UNLIKELY).sum())
    print(
        f"{name:>24} {ratio:14.3f} {excess:8.1f} {unexplained:12d} {off:11d}   of {len(y)}",
        flush=True,
    )


def head(title: str) -> None:
    """The first lines of a table."""
    print(f"\n{title}")
    print(
        f"{'pictures':>24} {'misfit / noise':>14} {'excess':>8} {'unexplained':>12} {'score test':>11}"
    )


def decoder_errors(
    operator: ForwardOperator, prior: ManifoldPrior, examples: Tensor, exact: Tensor
) -> Tensor:
    """What the nearest points of the manifold measure, less what the examples do: ``(n, m)``."""
    point = nearest(prior, locate(prior, examples), examples, steps=5)
    return (operator.A(prior.decode(point)) - exact).flatten(1)


def with_errors(std: float | Tensor, errors: Tensor) -> CorrelatedGaussian:
    """Noise, and errors of the decoder like ``errors`` ``(n, m)``."""
    return CorrelatedGaussian.low_rank(std, errors.T / len(errors) ** 0.5)


def bars_part(pictures: int, seed: int) -> None:
    """Blurred bars, and what is none."""
    prior, starts = load_prior("bar"), InitialPoints()
    operator = Blur(gaussian_kernel(40, 15.0), prior.x_shape)
    examples, _ = Bar().sample(EXAMPLES, stream(seed, "validation"))
    errors = decoder_errors(operator, prior, examples, operator.A(examples))
    cases = {f"bars, noise {noise}": (noise, Gaussian(noise)) for noise in NOISES}
    least = NOISES[-1]
    cases[f"bars, noise {least}, decoder's error known"] = (least, with_errors(least, errors))
    for title, (noise, fidelity) in cases.items():
        head(title)
        for kind, draw in BARS.items():
            y = simulate(operator, draw(pictures, stream(seed, "held-out")), noise, seed)
            report(kind, operator, y, prior, fidelity, starts)


def balls_part(pictures: int, seed: int) -> None:
    """Pairs of balls from voltages, and what is none."""
    prior, starts = load_prior("two-balls"), InitialPoints(128, 8)
    examples, _ = TwoBalls().sample(EXAMPLES, stream(seed, "validation"))
    exact = Balls.of(examples, seed, noise=0.0)
    errors = decoder_errors(exact.operator, prior, examples, exact.measurement)
    problems = {
        kind: Balls.of(draw(pictures, stream(seed, "held-out")), seed)
        for kind, draw in BALLS.items()
    }
    for known in (False, True):
        head(f"balls, noise {NOISE:.1%}{', errors of decoder and mesh known' if known else ''}")
        for kind, problem in problems.items():
            fidelity = with_errors(problem.noise, errors) if known else Gaussian(problem.noise)
            report(kind, problem.operator, problem.measurement, prior, fidelity, starts)


def main() -> None:
    """Print the tables of the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=["bars", "balls"], default=["bars", "balls"])
    parser.add_argument("--pictures", type=int, help="of each kind; default: 100 bars, 20 balls")
    parser.add_argument("--seed", type=int, default=0, help="of pictures and noise")
    arguments = parser.parse_args()
    if "bars" in arguments.parts:
        bars_part(arguments.pictures or 100, arguments.seed)
    if "balls" in arguments.parts:
        balls_part(arguments.pictures or 20, arguments.seed)


if __name__ == "__main__":
    main()
