"""Methods that find holes in a disk: scenes, binary images, total variation, filtered back-projection."""

import warnings
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from skimage.transform import iradon

from onmanifold import InconsistentWarning
from onmanifold.applications import disks
from onmanifold.operators.ct import CalibratedScanner, Sinogram
from onmanifold.priors.scene import Scene

SHARE = 0.5  # of the largest density above which a pixel of the filtered back-projection is a hole
FINE = 256  # pixels along each side of it
VARIATION = 64.0  # weight of the total variation; 21 and 190 were tried on phantoms 1000 to 1007


class Found(NamedTuple):
    """An image, and what is known of it."""

    material: NDArray[np.bool_]
    probabilities: NDArray[np.float64] | None = None
    holes: int = -1
    consistent: bool = True


def scene(scanner: CalibratedScanner, data: Sinogram) -> Found:
    """Scenes of learned outlines, refined by the data: ``onmanifold disk``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentWarning)
        found = disks.reconstruct(scanner, data, _prior())
    holes = next(iter(found.counts))
    return Found(found.material, found.probabilities, holes, found.consistent)


def binary(scanner: CalibratedScanner, data: Sinogram) -> Found:
    """Binary images of least total variation: no learned shape."""
    image, ready = disks.binary_image(disks.prepare(scanner, data))
    share = disks.picture(image[0, 0], ready.disk)
    return Found(share > 0.5)


def tv(scanner: CalibratedScanner, data: Sinogram) -> Found:
    """Least total variation between bounds, cut in the middle."""
    _, ready = disks.binary_image(disks.prepare(scanner, data))  # for the attenuation
    image = disks.variation_image(ready, VARIATION)
    return Found(disks.picture(image[0, 0], ready.disk) > 0.5)


def fbp(scanner: CalibratedScanner, data: Sinogram) -> Found:
    """Filtered back-projection of the holes' lengths, on parallel rays between the measured ones."""
    ready = disks.prepare(scanner, data)
    lengths = ready.lengths[0].double().numpy()
    beam, disk = ready.data.beam, ready.disk
    angles = np.asarray(beam.angles)
    t = 2 * (np.arange(FINE) + 0.5) / FINE - 1  # radii from the disk's centre
    phi = np.deg2rad(np.arange(angles.min(), angles.max() + 0.1, 1.0))
    shift = disk.centre[0] * np.cos(phi) + disk.centre[1] * np.sin(phi)
    offset = t * disk.radius + shift[:, None]
    fan = np.arcsin(offset / beam.source_origin)
    theta = np.rad2deg(phi[:, None] + fan)
    rows = np.interp(theta, angles, np.arange(len(angles)))
    column = beam.source_detector * np.tan(fan) / beam.spacing + 0.5 * (beam.detectors - 1)
    parallel = map_coordinates(lengths, [rows, column], order=1)
    image = iradon(parallel.T, theta=np.rad2deg(phi), filter_name="hann", circle=True)
    import torch

    holes = torch.from_numpy(image > SHARE * np.quantile(image, 0.995))
    return Found(disks.picture(holes.double(), disk) > 0.5)


@cache  # it takes a second, once in each process
def _prior() -> Scene:
    return disks.disk_prior()


METHODS: dict[str, Callable[[CalibratedScanner, Sinogram], Found]] = {
    "scene": scene,
    "binary": binary,
    "tv": tv,
    "fbp": fbp,
}
