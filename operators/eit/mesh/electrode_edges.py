"""Meshes of a disk with other electrode edges: nodes near the wall are turned, cells stay as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onmanifold.errors import InputError
from onmanifold.operators.eit.geometry.tank import Tank
from onmanifold.operators.eit.mesh.mesh import Mesh

Array = NDArray[np.float64]


def electrode_edges(tank: Tank) -> Array:
    """Angles between which each electrode of a tank lies, degrees, counterclockwise: ``(L, 2)``."""
    half = tank.width / 2
    return np.stack([tank.angles - half, tank.angles + half], axis=1)


def with_electrode_edges(mesh: Mesh, tank: Tank, edges: ArrayLike, depth: float = 0.3) -> Mesh:
    """The mesh with each electrode between other angles.

    Nodes on the wall turn with the electrode edges next to them, those further in by less, those
    deeper than ``depth`` not at all.

    Args:
        mesh: of the tank with evenly spaced electrodes of one width.
        tank: that tank.
        edges: angles at which each electrode starts and ends, degrees, counterclockwise, ``(L, 2)``.
        depth: in radii.

    Raises:
        ValueError: not two angles for each electrode, or electrodes that overlap or are turned inside out.

    Example:
        >>> from onmanifold.operators.eit import polar_mesh
        >>> tank = Tank(electrodes=4, width=30)
        >>> moved = with_electrode_edges(polar_mesh(tank), tank, electrode_edges(tank) + 2)
        >>> tip = moved.points[moved.facets[0, 0]]
        >>> round(float(np.rad2deg(np.arctan2(tip[1], tip[0]))), 6)
        -13.0
    """
    edges, nominal = np.asarray(edges, np.float64), electrode_edges(tank)
    if edges.shape != nominal.shape:
        raise InputError(f"edges has shape {edges.shape}, expected {nominal.shape}")
    order = np.argsort(nominal.ravel() % 360)
    shift = ((edges - nominal + 180) % 360 - 180).ravel()[order]
    at = (nominal.ravel() % 360)[order]
    gaps = np.diff(np.append(at + shift, at[0] + shift[0] + 360))
    if not (gaps > 0).all():
        number = order[int(gaps.argmin())] // 2 + 1
        raise InputError(f"electrode {number} overlaps another one, or ends before it starts")
    radius = np.linalg.norm(mesh.points, axis=1) / tank.radius
    angle = np.rad2deg(np.arctan2(mesh.points[:, 1], mesh.points[:, 0])) % 360
    near = np.clip(1 - (1 - radius) / depth, 0, 1)
    share = near**2 * (3 - 2 * near)
    around = np.concatenate([at - 360, at, at + 360])
    turned = np.deg2rad(angle + share * np.interp(angle, around, np.tile(shift, 3)))
    points = (radius * tank.radius)[:, None] * np.stack([np.cos(turned), np.sin(turned)], axis=1)
    return replace(mesh, points=points)
