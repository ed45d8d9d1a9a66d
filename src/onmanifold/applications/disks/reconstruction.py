"""The holes in a disk: scenes of learned outlines, found by descent and jumps, weighed by their evidence."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import zoom
from torch import Tensor
from torch.nn.functional import interpolate

from onmanifold import MaxSteps, Point, SmallDecrease, load_prior
from onmanifold.applications.disks.images import (
    Measured,
    binary_image,
    objective,
    picture,
    prepare,
    refined_image,
    variation_image,
)
from onmanifold.fidelity import CorrelatedGaussian
from onmanifold.operators.ct import Attenuation, CalibratedScanner, Disk, HolesInDisk, Sinogram
from onmanifold.posterior import Laplace, find_posterior
from onmanifold.priors.scene import Arrangement, Scene, count_probabilities
from onmanifold.priors.scene.recognition import connected, split_at_necks
from onmanifold.solution import UNLIKELY, InconsistentWarning

PATIENCE = 1  # modes in a row whose jumps lead to nothing better before the search ends
MOST = 16  # holes
_SIZE = 128  # pixels along each side of scenes
_RADIUS, _SPREAD = (
    0.13,
    0.45,
)  # of holes: median in radii of the disk, standard deviation of the logarithm
_MODEL = 0.5  # mm that outlines of the prior and pixels may be wrong along a ray
_MATERIAL, _HARDENING = 0.003, 0.03  # standard deviations from disk to disk, relative
_MERGED = 2  # detector pixels, of those that images take
_THRESHOLDS = (0.35, 0.5, 0.65)
_SLACK = 4.0  # how much less evidence modes may have that jumps are tried from, nats
_BETTER = 0.96  # share of the first image's objective that another has to fall below
_SAMPLES = 40  # of the posterior, behind probabilities
_STEPS = 10  # of the first descents
_FINER = 4  # so many times as many pixels, on which regions are cut


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The holes in a disk, and how certain they are.

    Attributes:
        material: where the disk's material is, ``(512, 512)``, boolean, row 0 on top.
        probabilities: of material in each pixel, ``(512, 512)``.
        counts: probability of each number of holes, largest first.
        p_value: probability that the data term's errors alone make a misfit at least as large as that of the
            most probable scene.
        disk: its centre and radius, mm.
        attenuation: of its material.
        seconds: how long it took.
        linearizations: of the operator.
        evaluations: of the operator, those of linearizations among them.
    """

    material: NDArray[np.bool_]
    probabilities: NDArray[np.float64]
    counts: Mapping[int, float]
    p_value: float
    disk: Disk
    attenuation: Attenuation
    seconds: float
    linearizations: int = 0
    evaluations: int = 0

    @property
    def uncertainty(self) -> NDArray[np.float64]:
        """Probability of the less probable class, ``(512, 512)``."""
        return np.minimum(self.probabilities, 1 - self.probabilities)

    @property
    def consistent(self) -> bool:
        """Whether a scene of learned outlines explains the data; if not, rely less on the image."""
        return not self.p_value < UNLIKELY


def disk_prior(size: int = _SIZE) -> Scene:
    """Scenes of up to sixteen holes of learned outlines in a disk.

    Args:
        size: pixels along each side of the square around the disk.
    """
    counts = (0.02, *[1.0 / MOST] * MOST)
    arrangement = Arrangement(radius=_RADIUS, spread=_SPREAD, counts=counts)
    return Scene(load_prior("outline"), 1, size, arrangement).eval()


def reconstruct(
    scanner: CalibratedScanner,
    measured: Sinogram,
    prior: Scene | None = None,
    *,
    patience: int = PATIENCE,
    seed: int = 0,
    jobs: int = 1,
) -> Reconstruction:
    """Find the holes in a disk: about half a minute on one core.

    Args:
        scanner: calibrated by a disk without holes (:func:`~onmanifold.operators.ct.calibrate_disk`).
        measured: single views of a disk with holes, on the same scanner.
        prior: by default :func:`disk_prior`.
        patience: modes in a row whose jumps may lead to nothing better.
        seed: of the samples.
        jobs: processes that share the search; the result is the same.

    Raises:
        ValueError: another geometry, or no disk in the field of view; the file is named.

    Warns:
        InconsistentWarning: no scene that was found explains the data.
    """
    began = time.perf_counter()
    prior = disk_prior() if prior is None else prior
    first, ready = binary_image(prepare(scanner, measured))
    posterior = disk_posterior(ready, first, prior, patience=patience, seed=seed, jobs=jobs)
    return describe(ready, posterior, first, seed, began)


def disk_posterior(
    measured: Measured,
    first: Tensor,
    prior: Scene,
    *,
    patience: int = PATIENCE,
    seed: int = 0,
    jobs: int = 1,
) -> Laplace:
    """The posterior over scenes of holes.

    Args:
        measured: with the attenuation that the first image says.
        first: the binary image, ``(1, 1, S, S)``, whose regions are the first objects.
        prior: of :func:`disk_prior`.
        patience: modes in a row whose jumps may lead to nothing better.
        seed: of the samples.
        jobs: processes that share the search.
    """
    few = measured.data.binned(1, _MERGED)
    operator = HolesInDisk(few.beam, measured.disk, measured.attenuation, prior.size)
    y = torch.from_numpy(few.values).to(prior.dtype)[None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentWarning)  # the result says it
        return find_posterior(
            operator,
            y,
            prior,
            fidelity=fidelity_of(measured, few),
            starts=initial_points(measured, first, prior),
            stop=MaxSteps(_STEPS) | SmallDecrease(1e-3),
            seed=seed,
            patience=patience,
            slack=_SLACK,
            jobs=jobs,
        )


def fidelity_of(measured: Measured, few: Sinogram) -> CorrelatedGaussian:
    """The data term of scenes: noise, and what outlines and pixels may be wrong along a ray.

    And the material's attenuation and hardening, which differ from disk to disk: errors that all rays share.
    """
    attenuation = measured.attenuation
    full = measured.disk.chords(few.beam)
    length = np.clip(attenuation.length(few.values), 0.0, full)
    slope = attenuation.mu - 2 * attenuation.hardening * length
    std = np.sqrt(measured.scanner.std(few) ** 2 + (_MODEL * slope) ** 2)
    shared = np.stack(
        [_MATERIAL * attenuation.mu * length, _HARDENING * attenuation.hardening * length**2],
        axis=-1,
    )
    factor = torch.from_numpy(shared.reshape(-1, 2)).float()
    mask = None if few.mask.all() else torch.from_numpy(few.mask)
    return CorrelatedGaussian.low_rank(torch.from_numpy(std).float(), factor, mask)


def initial_points(measured: Measured, first: Tensor, prior: Scene) -> Point:
    """Scenes of the regions of the binary image, and of those above thresholds of the one of least variation.

    Also of the regions cut at their necks: neighbouring holes may be one region.
    """
    grey = variation_image(measured)
    binary, *above = (
        interpolate(image, (prior.size, prior.size), mode="bilinear") > threshold
        for image, threshold in ((first, 0.5), *((grey, t) for t in _THRESHOLDS))
    )
    plain = prior.segment(torch.cat([binary, *above]).to(prior.dtype))
    return Point.cat(
        [plain, prior.points([cut_regions(prior, m[0, 0]) for m in (binary, above[1])])]
    )


def cut_regions(prior: Scene, mask: Tensor) -> list[tuple[int, Tensor]]:
    """The regions of a mask ``(S, S)`` as objects, the largest first, each cut at its narrowest neck."""
    fine = zoom(mask.numpy(), _FINER, order=0)
    parts = [part for region in connected(fine) for part in split_at_necks(region) or [region]]
    parts.sort(key=lambda part: -int(part.sum()))
    return [(0, prior.fit(part)) for part in parts[: prior.most]]


def describe(
    measured: Measured, posterior: Laplace, first: Tensor, seed: int, began: float
) -> Reconstruction:
    """The image, probabilities and numbers of holes of a posterior over scenes.

    The image is the best of three binary ones: the first, and those that start from the scenes, with the
    attenuation of either; these have to be clearly better. Where the data are inconsistent with every
    scene, it is the first.
    """
    calls = posterior.problem.counts
    scenes = interpolate(posterior.x(_SAMPLES, seed)[0], first.shape[-2:], mode="area")
    scene = scenes.mean(0, keepdim=True)
    chosen, best, least = measured, first, _BETTER * objective(measured, first)
    if bool(posterior.consistent[0]):
        for other in (measured, measured.with_attenuation_of(scene)):
            image = refined_image(other, scene)
            if (value := objective(other, image)) < least:
                chosen, best, least = other, image, value
    likely = best if best is first else 0.5 * (scene + best)
    return Reconstruction(
        material=picture(best[0, 0], measured.disk) > 0.5,
        probabilities=picture(likely[0, 0], measured.disk),
        counts={n: p for (n,), p in count_probabilities(posterior)[0].items()},
        p_value=float(posterior.p_value[0]),
        disk=measured.disk,
        attenuation=chosen.attenuation,
        seconds=time.perf_counter() - began,
        linearizations=int(calls.linearizations[0]),
        evaluations=int(calls.evaluations[0]),
    )
