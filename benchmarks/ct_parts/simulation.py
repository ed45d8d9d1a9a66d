"""Simulated measurements of phantoms: exact lengths, a detector's pixels, hardening, correlated noise."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ct_parts.phantoms import Phantom
from onmanifold.operators.ct import FanBeam
from onmanifold.operators.ct.disk import Attenuation, Disk
from onmanifold.operators.ct.sinogram import Sinogram
from tanks_parts.shapes import Ring

Array = NDArray[np.float64]
STEP = 0.5  # degrees between views
ACRYLIC = Attenuation(0.043, 1.7e-4)  # about that of the measured solid disk
RADIUS = 34.85  # mm
FINER = 3  # rays a detector pixel
DARK, FIXED = 0.0045, 0.003  # standard deviation of the noise in air, and of the detector's pattern
LAG = 0.25  # correlation of neighbouring pixels


class Simulated(NamedTuple):
    """A measurement, and where the disk was."""

    data: Sinogram
    disk: Disk


def beam(angles: Array, finer: int = 1) -> FanBeam:
    """The challenge's, each detector pixel seen by several rays."""
    return FanBeam(angles, 560 * finer, 0.2 / finer, source_origin=410.66, source_detector=553.74)


def simulate(phantom: Phantom, arc: float, seed: int = 0) -> Simulated:
    """A measurement over an arc; the material differs a little from phantom to phantom."""
    source = np.random.default_rng([2026, phantom.number, round(arc), seed])
    angles = source.integers(720) * STEP + np.arange(0, arc + STEP / 2, STEP)
    x, y = source.normal(0, 0.7, 2)
    disk = Disk((float(x), float(y)), RADIUS * (1 + float(source.normal(0, 0.001))))
    material = Attenuation(
        ACRYLIC.mu * (1 + source.normal(0, 0.005)), ACRYLIC.hardening * (1 + source.normal(0, 0.03))
    )
    rays = beam(angles, FINER)
    lengths = disk.chords(rays)
    for hole in phantom.holes:
        lengths = lengths - chords(rays, disk.radius * hole + complex(*disk.centre))
    seen = np.exp(-material(lengths)).reshape(len(angles), 560, FINER).mean(2)
    clean = -np.log(seen)
    noise = DARK * np.exp(clean / 2) * correlated(clean.shape, source)
    noise += FIXED * source.standard_normal(560) + 0.002 * source.standard_normal((len(angles), 1))
    return Simulated(
        Sinogram.of(clean + noise + 0.015, beam(angles), f"phantom {phantom.number}"), disk
    )


def correlated(shape: tuple[int, ...], source: np.random.Generator) -> Array:
    """Standard normal numbers, neighbours along the last axis correlated."""
    white = source.standard_normal((shape[0], shape[1] + 1))
    share = (1 - np.sqrt(1 - 4 * LAG**2)) / (2 * LAG)  # of the neighbour, by a moving average
    mixed: Array = (white[:, 1:] + share * white[:, :-1]) / np.sqrt(1 + share**2)
    return mixed


def chords(rays: FanBeam, ring: Ring) -> Array:
    """The exact length of each ray within a closed polygon."""
    points, directions = (part.reshape(-1, 2) for part in rays.rays())
    p, d = points @ [1, 1j], directions @ [1, 1j]
    middle, reach = ring.mean(), np.abs(ring - ring.mean()).max()
    near = np.flatnonzero(np.abs(((middle - p) * d.conj()).imag) <= reach)
    total = np.zeros(len(p))
    for some in np.array_split(near, max(1, len(near) * len(ring) // 4_000_000)):
        turned = (ring[:, None] - p[some]) * d[some].conj()  # along the ray, and off it
        along, off = turned.real, turned.imag
        after, beyond = np.roll(along, -1, 0), np.roll(off, -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            place = along + off / (off - beyond) * (after - along)
        crossed = (off > 0) != (beyond > 0)
        signed = np.where(crossed, place * np.sign(beyond - off), 0.0)
        total[some] = np.abs(signed.sum(0))
    return total.reshape(rays.shape)
