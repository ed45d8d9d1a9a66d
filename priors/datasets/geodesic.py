"""Data sets whose distances and geodesics are known, and the geometry of spheres that they share."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from onmanifold.checks import check_number
from onmanifold.errors import InputError
from onmanifold.priors.datasets.base import Examples


@runtime_checkable
class GeodesicDataset(Protocol):
    """Data that are rendered from points of a Riemannian manifold; points are coordinates ``(n, ...)``."""

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        ...

    @property
    def injectivity_radius(self) -> float:
        """Points closer than that have one shortest geodesic between them."""
        ...

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Examples:
        """Draw ``n`` examples ``(n, *x_shape)`` and their coordinates ``(n, ...)``."""
        ...

    def render(self, coordinates: Tensor) -> Tensor:
        """The examples at some coordinates."""
        ...

    def distance_between(self, a: Tensor, b: Tensor) -> Tensor:
        """Length of the shortest geodesic, ``(n,)``."""
        ...

    def geodesic(self, a: Tensor, b: Tensor, t: float | Tensor) -> Tensor:
        """The point at share ``t``, a number or ``(n, 1)``, of the way from ``a`` to ``b`` on it."""
        ...

    def average(self, a: Tensor, b: Tensor) -> Tensor:
        """Its midpoint."""
        return self.geodesic(a, b, 0.5)

    def pairs(self, n: int, eps: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """``n`` points and to each another one, uniform in the ball of radius ``eps`` around it.

        Raises:
            ValueError: ``eps`` is not positive, or above the injectivity radius.
        """
        ...


def nearest_rendering(
    data: GeodesicDataset, x: Tensor, candidates: int = 5000, steps: int = 200
) -> Tensor:
    """Of which coordinates each image is, or nearly is: those of the rendering nearest to it.

    The best of many renderings, moved by a local search (Adam) on the sphere of coordinates.

    Args:
        data: rendered from unit vectors, such as :class:`Sundial` and :class:`RotatingObject`.
        x: images, ``(n, *x_shape)``.
        candidates: renderings, drawn at random, that the search may start from.
        steps: of the local search.

    Returns:
        Unit vectors, ``(n, m)``.

    Example:
        >>> from onmanifold.priors.datasets import Sundial
        >>> sundial = Sundial(size=16)
        >>> x, light = sundial.sample(2, torch.Generator().manual_seed(1))
        >>> found = nearest_rendering(sundial, x, candidates=500, steps=50)
        >>> bool((sundial.distance_between(found, light) < 0.02).all())
        True
    """
    renderings, coordinates = data.sample(candidates, torch.Generator().manual_seed(0))
    nearest = torch.cdist(x.flatten(1), renderings.to(x).flatten(1)).argmin(dim=1)
    found = coordinates.to(x)[nearest].requires_grad_()
    search = torch.optim.Adam([found], lr=0.01)
    with torch.enable_grad():
        for _ in range(steps):
            search.zero_grad()
            (data.render(unit(found)) - x).square().sum().backward()
            search.step()
    return unit(found.detach())


def check_eps(eps: float, injectivity_radius: float) -> None:
    """Raise unless ``0 < eps <= injectivity_radius``."""
    check_number(eps, "eps")
    if eps > injectivity_radius:
        raise InputError(
            f"eps {eps:g} is above the injectivity radius {injectivity_radius:.4g}: "
            "points so far apart may have several shortest geodesics; take a smaller one"
        )


def ball(n: int, dim: int, radius: float, generator: torch.Generator) -> Tensor:
    """``n`` points of the ball in R^dim, uniform: ``(n, dim)``."""
    direction = torch.randn((n, dim), generator=generator)
    length = radius * torch.rand((n, 1), generator=generator) ** (1 / dim)
    return length * unit(direction)


def sphere_angle(a: Tensor, b: Tensor) -> Tensor:
    """Angle between unit vectors ``(n, m)``, exact to rounding for small ones too: ``(n,)``."""
    return 2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1))


def sphere_geodesic(a: Tensor, b: Tensor, t: float | Tensor) -> Tensor:
    """The unit vector at share ``t`` of the great arc from ``a`` to ``b``, both ``(n, m)``."""
    angle = sphere_angle(a, b)[:, None]
    small = angle < 1e-4  # there an arc is a chord
    sine = torch.where(small, 1.0, angle.sin())
    arc = ((1 - t) * angle).sin() / sine * a + (t * angle).sin() / sine * b
    return unit(torch.where(small, (1 - t) * a + t * b, arc))


def sphere_step(a: Tensor, v: Tensor) -> Tensor:
    """The exponential map of the unit sphere in R^m.

    Args:
        a: unit vectors, ``(n, m)``.
        v: tangent vectors, in coordinates of an orthonormal basis of the tangent space, ``(n, m - 1)``.

    Returns:
        The ends ``(n, m)`` of the arcs that start at ``a`` along ``v`` and are ``|v|`` long.
    """
    # The reflection that takes the last axis to a takes the others to a basis of a's tangent space.
    last = torch.zeros_like(a)
    last[:, -1] = torch.where(a[:, -1] > 0, -1.0, 1.0)  # the sign that is farther from a
    normal = unit(last - a)
    flat = torch.cat([v, torch.zeros_like(v[:, :1])], dim=1)
    tangent = flat - 2 * (flat * normal).sum(dim=1, keepdim=True) * normal
    length = v.norm(dim=1, keepdim=True)
    return unit(length.cos() * a + torch.sinc(length / torch.pi) * tangent)


def unit(vector: Tensor) -> Tensor:
    """Vectors ``(n, m)``, made one long."""
    scaled: Tensor = vector / vector.norm(dim=1, keepdim=True)
    return scaled
