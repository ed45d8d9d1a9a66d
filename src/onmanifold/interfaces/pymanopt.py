"""pymanopt: one chart of a learned manifold as a Riemannian manifold, with the pullback metric.

A point is a numpy vector ``z`` of latent coordinates in float64. A tangent vector ``v`` stands for ``J v``,
where ``J`` is the decoder's Jacobian. The metric is ``G = J^T J``.
"""

from __future__ import annotations

import copy
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onmanifold import geometry
from onmanifold.autodiff import gradient, jvp
from onmanifold.checks import as_generator
from onmanifold.descent.build import build_problem
from onmanifold.descent.model import QuadraticModel
from onmanifold.descent.problem import Trial
from onmanifold.errors import InputError, InputTypeError, MissingPackage
from onmanifold.fidelity import Fidelity
from onmanifold.operator import OperatorLike, OutsideDomain
from onmanifold.prior import ManifoldPrior, Point, pad_to
from onmanifold.retraction import ChartRetraction, Retraction

try:
    import pymanopt
    from pymanopt.manifolds.manifold import Manifold
except ImportError as error:
    raise MissingPackage(
        f"this needs pymanopt ({error}): install onmanifold[interfaces]"
    ) from error

type Vector = NDArray[np.float64]

_CACHED = 4  # points whose derivatives are kept: optimizers return to the last ones


class LearnedManifold(Manifold):  # type: ignore[misc]
    """One chart of a learned manifold, for pymanopt's optimizers.

    It works on a float64 copy of the prior. It has no ``exp``, ``log`` and ``dist``: geodesics are unknown.

    Args:
        prior: the manifold.
        chart: number of the chart.
        retraction: ``ChartRetraction()`` or ``ProjectionRetraction()``. Both end inside the latent box;
            pymanopt does not know its border.
        seed: seed of the random points and tangent vectors.

    Attributes:
        prior: the float64 copy, in evaluation mode.
        chart: number of the chart.

    Raises:
        TypeError: ``prior`` is not a ``ManifoldPrior``.
        ValueError: the prior has no such chart, or the chart is a single point.

    Example:
        >>> from onmanifold import load_prior
        >>> manifold = LearnedManifold(load_prior("ring"))
        >>> z = manifold.random_point()
        >>> manifold.dim, z.shape, manifold.decode(z).shape
        (2, (2,), torch.Size([2]))
    """

    def __init__(
        self,
        prior: ManifoldPrior,
        chart: int = 0,
        retraction: Retraction | None = None,
        seed: int | torch.Generator = 0,
    ) -> None:
        if not isinstance(prior, ManifoldPrior):
            raise InputTypeError(f"prior has to be a ManifoldPrior, got {type(prior).__name__}")
        if not 0 <= chart < prior.num_charts:
            raise InputError(f"charts are numbered 0 to {prior.num_charts - 1}, got {chart}")
        dim = prior.chart_dims[chart]
        if dim == 0:
            raise InputError(f"chart {chart} is a single point: nothing to descend along")
        super().__init__(f"chart {chart} of a learned {type(prior).__name__}", dim)
        self.prior = copy.deepcopy(prior).double().eval().requires_grad_(False)
        self.chart = chart
        self._retraction = ChartRetraction() if retraction is None else retraction
        self._generator = as_generator(seed)
        self._frame_at = lru_cache(_CACHED)(self._differentiate)

    def point(self, z: Vector) -> Point:
        """Coordinates ``(d,)`` as a batch of one point, such as ``solve(..., starts=)`` takes."""
        coordinates = torch.tensor(z, dtype=torch.float64, device=self.prior.device).unsqueeze(0)
        chart = torch.tensor([self.chart], device=self.prior.device)
        return Point(chart, pad_to(coordinates, self.prior.dim))

    def decode(self, z: Vector | Tensor) -> Tensor:
        """The unknown ``x_shape`` at ``z`` ``(d,)``; torch differentiates it if ``z`` is a tensor."""
        coordinates = torch.as_tensor(z, dtype=torch.float64, device=self.prior.device)
        return self.prior.decode_chart(coordinates.unsqueeze(0), self.chart).squeeze(0)

    # Methods of every pymanopt manifold -----------------------------------------------------------

    def inner_product(
        self, point: Vector, tangent_vector_a: Vector, tangent_vector_b: Vector
    ) -> float:
        """``v^T G w``."""
        metric = self._frame(point)[1][0].cpu().numpy()
        return float(tangent_vector_a @ metric @ tangent_vector_b)

    def norm(self, point: Vector, tangent_vector: Vector) -> float:
        """The length of ``J v`` in the ambient space."""
        return float(np.sqrt(max(self.inner_product(point, tangent_vector, tangent_vector), 0.0)))

    def projection(self, point: Vector, vector: Vector) -> Vector:
        """``v`` itself: every vector of latent coordinates is a tangent vector."""
        return vector

    to_tangent_space = projection

    def random_point(self) -> Vector:
        """A sample of the prior in this chart."""
        for _ in range(100):
            sample = self.prior.sample(64, self._generator)
            inside = (sample.chart == self.chart).nonzero().squeeze(1)
            if len(inside):
                return _vector(self.prior.clamp(sample.select(inside[:1])).z[:, : self.dim])
        raise RuntimeError(f"6400 samples of the prior, and none lies in chart {self.chart}")

    def random_tangent_vector(self, point: Vector) -> Vector:
        """A random tangent vector of unit length."""
        v = torch.randn(self.dim, generator=self._generator, dtype=torch.float64).numpy()
        return v / self.norm(point, v)

    def zero_vector(self, point: Vector) -> Vector:
        """Zeros."""
        return np.zeros_like(point)

    @cached_property
    def typical_dist(self) -> float:
        """The root mean square distance of two samples of the prior in the ambient space."""
        sample = self.prior.sample(64, 0)
        x = self.prior.decode(sample).flatten(1)
        return float((2 * x.var(dim=0).sum()).sqrt())

    # Methods that optimizers call ------------------------------------------------------------------

    def retraction(self, point: Vector, tangent_vector: Vector) -> Vector:
        """Retract a step; the result lies inside the latent box."""
        v = pad_to(self._row(tangent_vector), self.prior.dim)
        return _vector(self._retraction(self.prior, self.point(point), v).z[:, : self.dim])

    def transport(self, point_a: Vector, point_b: Vector, tangent_vector_a: Vector) -> Vector:
        """``J v``, projected onto the tangent space at the other point."""
        here, _ = self._frame(point_a)
        there, metric = self._frame(point_b)
        pushed = geometry.push_forward(here, self._row(tangent_vector_a))
        return _vector(geometry.solve_spd(metric, geometry.pull_back(there, pushed)))

    def euclidean_to_riemannian_gradient(self, point: Vector, euclidean_gradient: Vector) -> Vector:
        """``G^-1 g`` of the partial derivatives ``g`` in the latent coordinates."""
        _, metric = self._frame(point)
        return _vector(geometry.solve_spd(metric, self._row(euclidean_gradient)))

    def euclidean_to_riemannian_hessian(
        self,
        point: Vector,
        euclidean_gradient: Vector,
        euclidean_hessian: Vector,
        tangent_vector: Vector,
    ) -> Vector:
        """``G^-1 (H v - Gamma(v)^T g)``, with the Christoffel symbols of the pullback metric.

        ``Gamma(v)^T g`` is the derivative of ``<J(z) v, J w>`` in the first ``z``, where ``w = G^-1 g``.
        """
        columns, metric = self._frame(point)
        g, hv, v = map(self._row, (euclidean_gradient, euclidean_hessian, tangent_vector))
        normal = geometry.push_forward(columns, geometry.solve_spd(metric, g))

        def along(z: Tensor) -> Tensor:
            tangent = jvp(lambda t: self.prior.decode_chart(t, self.chart), z, v)[1]
            return (tangent * normal).flatten(1).sum(1)

        correction = gradient(along, self.point(point).z[:, : self.dim])
        return _vector(geometry.solve_spd(metric, hv - correction))

    def _row(self, vector: Vector) -> Tensor:
        return torch.as_tensor(
            np.array(vector), dtype=torch.float64, device=self.prior.device
        ).unsqueeze(0)

    def _frame(self, point: Vector) -> tuple[Tensor, Tensor]:
        """J's columns ``(1, d, *x_shape)`` and G ``(1, d, d)``."""
        return self._frame_at(_key(point))

    @torch.no_grad()
    def _differentiate(self, coordinates: bytes) -> tuple[Tensor, Tensor]:
        point = self.point(np.frombuffer(coordinates))
        columns = geometry.jacobian(self.prior, point)[:, : self.dim]
        return columns, geometry.pullback_metric(columns)


def as_problem(
    manifold: LearnedManifold,
    operator: OperatorLike,
    measurement: Tensor,
    fidelity: Fidelity | None = None,
    prior_weight: float | None = None,
) -> Any:
    """The objective of ``onmanifold.solve`` in one chart, as a ``pymanopt.Problem``.

    The gradient uses the operator's own derivatives, so the operator need not be made of torch operations.
    The Hessian is the Gauss-Newton matrix: exact where the residual vanishes, and never negative.

    Args:
        manifold: the chart.
        operator: anything that ``solve`` takes. It has to work in float64.
        measurement: one measurement, ``(1, *y_shape)``.
        fidelity: as in ``solve``.
        prior_weight: as in ``solve``.

    Raises:
        ValueError: more than one measurement, or an input that ``solve`` refuses.

    Example:
        >>> import torch
        >>> from pymanopt.optimizers import TrustRegions
        >>> from onmanifold import load_prior
        >>> manifold = LearnedManifold(load_prior("ring"))
        >>> truth = manifold.decode(manifold.random_point())
        >>> problem = as_problem(manifold, lambda x: 2 * x, 2 * truth.unsqueeze(0))
        >>> found = TrustRegions(verbosity=0).run(problem)
        >>> bool((manifold.decode(found.point) - truth).norm() < 1e-4)
        True
    """
    built = build_problem(operator, measurement.double(), manifold.prior, fidelity, prior_weight)
    if len(built) != 1:
        raise InputError(
            f"one measurement makes a problem, got {len(built)}: pass y[:1], y[1:2], ..."
        )

    @lru_cache(_CACHED)
    @torch.no_grad()
    def at(coordinates: bytes) -> Trial:
        return built.at(manifold.point(np.frombuffer(coordinates)))

    @lru_cache(_CACHED)
    @torch.no_grad()
    def model(coordinates: bytes) -> QuadraticModel:
        return built.quadratic_model(at(coordinates))

    @pymanopt.function.numpy(manifold)  # type: ignore[untyped-decorator]
    def cost(z: Vector) -> float:
        try:
            return float(at(_key(z)).objective)
        except OutsideDomain:
            return float("inf")

    @pymanopt.function.numpy(manifold)  # type: ignore[untyped-decorator]
    def slope(z: Vector) -> Vector:
        with torch.no_grad():  # no decorator: pymanopt looks at the signature
            here = built.first_order_model(at(_key(z)))
        return _vector(here.gradient[:, : manifold.dim])

    @pymanopt.function.numpy(manifold)  # type: ignore[untyped-decorator]
    def hessian(z: Vector, v: Vector) -> Vector:
        here = model(_key(z))
        matrix = here.hessian[0, : manifold.dim, : manifold.dim].cpu().numpy()
        return manifold.euclidean_to_riemannian_gradient(z, matrix @ v)

    return pymanopt.Problem(manifold, cost, euclidean_gradient=slope, riemannian_hessian=hessian)


def _key(z: Vector) -> bytes:
    """A point as a cache takes it, whatever the precision of the array."""
    return np.asarray(z, dtype=np.float64).tobytes()


def _vector(z: Tensor) -> Vector:
    result: Vector = z.detach().squeeze(0).cpu().numpy()
    return result
