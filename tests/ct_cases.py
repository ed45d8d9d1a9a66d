"""Simulated files of the Helsinki Tomography Challenge: a disk with round holes, exact chords."""

import numpy as np
from scipy.io import savemat

from onmanifold.operators.ct import Attenuation, Disk, FanBeam, Sinogram

ACRYLIC = Attenuation(0.043, 1.7e-4)
DISK = Disk((-0.6, 0.9), 34.8)
HOLES = (Disk((10.0, 6.0), 6.0), Disk((-12.0, -4.0), 5.0))  # x, y and radius, mm
PIXELS, SPACING = 280, 0.4
ANGLES = np.arange(200.0, 230.1, 1.0)


def beam(angles=ANGLES, pixels=PIXELS, spacing=SPACING):
    """The challenge's geometry with pixels of twice the size, in the package's angles."""
    return FanBeam(np.asarray(angles) + 180.0, pixels, spacing, 410.66, 553.74)


def values(holes=HOLES, angles=ANGLES, noise=0.004, disk=DISK, **beams):
    """Line integrals in the package's order, with an offset in air."""
    rays = beam(angles, **beams)
    length = disk.chords(rays) - sum(hole.chords(rays) for hole in holes)
    clean = ACRYLIC(length)
    source = np.random.default_rng(0)
    return clean + noise * np.exp(clean / 2) * source.standard_normal(clean.shape) + 0.015


def sinogram(holes=HOLES, name="measured.mat", **options):
    """The same, as it is read."""
    angles = options.get("angles", ANGLES)
    return Sinogram.of(values(holes, **options), beam(angles), name)


def parameters(angles=ANGLES, **changed):
    """The parameters of a file."""
    return {
        "geometryType": "Cone",
        "angles": np.asarray(angles)[None],
        "distanceSourceOrigin": 410.66,
        "distanceSourceDetector": 553.74,
        "pixelSizePost": SPACING,
        "numDetectorsPost": PIXELS,
        **changed,
    }


def write(path, holes=HOLES, sinogram=None, angles=ANGLES, disk=DISK, **changed):
    """A Matlab 5 file."""
    stored = values(holes, angles, disk=disk)[:, ::-1] if sinogram is None else sinogram
    struct = {"type": "2d", "sinogram": stored, "parameters": parameters(angles, **changed)}
    savemat(path, {"CtDataLimited": struct})
    return path
