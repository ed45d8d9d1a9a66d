"""How many objects there are: posterior probabilities of their numbers."""

from __future__ import annotations

from onmanifold.errors import InputTypeError
from onmanifold.posterior import Laplace, PosteriorSamples
from onmanifold.prior import ManifoldPrior
from onmanifold.priors.nuisance import without_nuisance
from onmanifold.priors.scene.scene import Scene


def scene_of(prior: ManifoldPrior) -> Scene:
    """The scene that a prior is, nuisance parameters aside.

    Raises:
        TypeError: it is none.
    """
    scene = without_nuisance(prior)
    if not isinstance(scene, Scene):
        raise InputTypeError(
            f"expected a prior of scenes, got {type(scene).__name__}: take a Scene"
        )
    return scene


def count_probabilities(
    posterior: Laplace | PosteriorSamples,
) -> list[dict[tuple[int, ...], float]]:
    """Posterior probability of each number of objects of each kind.

    Args:
        posterior: of B measurements, on a :class:`Scene` with or without nuisance parameters.

    Returns:
        For each measurement the numbers that have a probability, the most probable first.

    Raises:
        TypeError: the prior is no scene.

    Example:
        >>> import torch
        >>> from onmanifold import Gaussian, as_operator
        >>> from onmanifold.posterior import find_posterior
        >>> from onmanifold.priors.scene import Arrangement, RadialOutlines
        >>> scene = Scene(RadialOutlines(3), size=24, arrangement=Arrangement(counts=(1, 1, 1)))
        >>> y = scene.decode(scene.sample(1, 0))  # of two objects
        >>> identity = as_operator(lambda x: x, scene.x_shape)
        >>> posterior = find_posterior(identity, y, scene, fidelity=Gaussian(0.1), patience=2)
        >>> max(count_probabilities(posterior)[0])
        (2,)
    """
    counts = scene_of(posterior.problem.prior).counts
    found = []
    for row in posterior.chart_probabilities.tolist():
        mass = {c: p for c, p in zip(counts, row, strict=True) if p > 0}
        found.append(dict(sorted(mass.items(), key=lambda item: -item[1])))
    return found
