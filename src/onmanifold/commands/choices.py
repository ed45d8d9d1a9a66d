"""What words on the command line stand for."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from onmanifold import plugins
from onmanifold.entry_points import UnknownName
from onmanifold.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from onmanifold.descent import Method
    from onmanifold.fidelity import Fidelity
    from onmanifold.posterior.base import Posterior
    from onmanifold.prior import ManifoldPrior
    from onmanifold.solution import Solution
    from onmanifold.weights import WeightRule

METHODS = {
    "levenberg-marquardt": "LevenbergMarquardt",
    "gradient": "RiemannianGradientDescent",
    "conjugate-gradient": "ConjugateGradient",
    "lbfgs": "LBFGS",
    "latent-adam": "LatentAdam",
}
ESTIMATE = "estimate"
_RULES = {"discrepancy": "ByDiscrepancy", "l-curve": "ByLCurve"}
_POSTERIORS = {"laplace": "laplace", "explore": "explore", "sample": "sample_posterior"}


def _named(what: str, name: str, known: Iterable[str]) -> str:
    if name not in known:
        raise UnknownName(what, name, known)
    return name


def method(name: str | None) -> Method[Any] | None:
    """``--method``."""
    import onmanifold

    if name is None:
        return None
    made: Method[Any] = getattr(onmanifold, METHODS[_named("method", name, METHODS)])()
    return made


def _number(text: str, option: str, words: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{option} takes a number{words}, got {text!r}") from None


def prior_weight(text: str | None) -> float | WeightRule | None:
    """``--prior-weight``: a number, or a rule that chooses it."""
    import onmanifold

    if text in _RULES:
        rule: WeightRule = getattr(onmanifold, _RULES[text])()
        return rule
    return None if text is None else _number(text, "--prior-weight", ", discrepancy or l-curve")


def noise_level(text: str | None) -> float | str | None:
    """``--noise``: a number, or the word that leaves it open."""
    if text is None or text == ESTIMATE:
        return text
    return _number(text, "--noise", f" or {ESTIMATE}")


def fidelity(noise: float | str | None, df: float | None, mask: Tensor | None) -> Fidelity | None:
    """What ``--noise``, ``--df`` and missing entries make together."""
    from onmanifold import EstimatedGaussian, Gaussian, StudentT

    if noise is None:
        if mask is not None:
            raise InputError("missing entries need the noise level: --noise")
        if df is not None:
            raise InputError("--df needs the noise level: --noise")
        return None
    if isinstance(noise, str):
        if df is not None:
            raise InputError(f"--df needs a number for --noise, got {noise}")
        return EstimatedGaussian(mask=mask)
    return Gaussian(noise, mask) if df is None else StudentT(noise, mask, df)


def posterior(
    name: str | None, noise: object, weight: object, prior: ManifoldPrior
) -> Callable[[Solution], Posterior | None]:
    """``--posterior``: what to make of a solution."""
    from onmanifold.prior import ReachedByJumps

    if name is None:
        return lambda solution: None
    _named("posterior", name, _POSTERIORS)
    if noise is None:
        raise InputError("--posterior needs the noise level: --noise")
    if weight not in (None, 1.0):
        raise InputError("--posterior needs the prior's own weight: leave out --prior-weight")
    if name == "explore" and not isinstance(prior, ReachedByJumps):
        raise InputError(
            "--posterior explore: this prior has no jumps between charts; take laplace"
        )

    def describe(solution: Solution) -> Posterior:
        from onmanifold import InconsistentWarning
        from onmanifold import posterior as ways

        with warnings.catch_warnings():  # the table that is printed says both
            warnings.simplefilter("ignore", InconsistentWarning)
            warnings.simplefilter("ignore", ways.NotMixed)
            found: Posterior = getattr(ways, _POSTERIORS[name])(solution)
        return found

    return describe


def std_of(found: Any) -> Tensor:
    """The standard deviation of each entry, which samples know and Laplace computes."""
    std: Tensor = found.std() if callable(found.std) else found.std
    return std


def operator_options(name: str, texts: Mapping[str, str]) -> dict[str, Any]:
    """``--operator`` and ``--option``; an operator of one's own may lie in the current folder."""
    if ":" in name and "" not in sys.path:
        sys.path.insert(0, "")
    return plugins.operator_options(name, texts)
