"""The EIT forward operator: from pixels over conductivity to electrode voltages."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from onmanifold.checks import check_batch, check_callable, check_number, check_shape
from onmanifold.errors import InputError, InputTypeError
from onmanifold.external import external
from onmanifold.fidelity import Gaussian
from onmanifold.operator import OutsideDomain
from onmanifold.operators.eit.arguments import doubles
from onmanifold.operators.eit.conductivity import (
    Affine,
    ConductivityMap,
    channels_of,
    masks_of,
)
from onmanifold.operators.eit.fem.assembly import MeshLike, discretize
from onmanifold.operators.eit.fem.distributed import discretize_on_ranks
from onmanifold.operators.eit.fem.engine import Engine
from onmanifold.operators.eit.geometry.base import Geometry
from onmanifold.operators.eit.linearization import EITLinearization
from onmanifold.operators.eit.mesh.pixels import cell_average
from onmanifold.operators.eit.models.continuum import Continuum, boundary_loop
from onmanifold.operators.eit.models.electrodes import CompleteElectrodes
from onmanifold.operators.eit.models.protocol import Protocol
from onmanifold.operators.eit.models.system import ForwardModel
from onmanifold.operators.eit.plot import draw_image, draw_voltages
from onmanifold.operators.sparse import SparseMatrix
from onmanifold.tensors import as_mask

_BATCH = 16  # images whose potentials are held at a time where only voltages are wanted


class EIT:
    """Electrical impedance tomography: from an image of the conductivity to electrode voltages.

    ``A(x) = F(s(x))``, where s maps pixel values to conductivity, cells take the average over their
    pixels, and F is the complete electrode model or the continuum model, in float64 whatever the dtype and
    device of ``x``. With electrodes one factorization and L - 1 solves an image give the voltages, the
    derivative in any number of directions and its adjoint. It is an autograd function:
    ``loss(A(x)).backward()`` works.

    With a measured ``reference`` of the tank that holds background only, the operator models the
    difference: ``A(x) = reference + F(s(x)) - F(background)``. What the model gets wrong in both
    measurements alike cancels, and the measured voltages are compared as they are.

    Args:
        tank: geometry and contact impedances: :class:`Tank`, :class:`BoundaryCurve`, :class:`Cylinder` or
            :class:`MeshGeometry`.
        protocol: injections and measurement patterns at the electrodes, or :class:`Continuum` patterns.
        x_shape: shape of an image, ``(1, H, W)`` or ``(H, W)``; in three dimensions ``(1, D, H, W)`` or
            ``(D, H, W)``. It covers the tank's ``extent``, row 0 on top (largest y), slice 0 at the
            bottom; pixels outside the tank have no effect. A map with ``channels`` takes ``(channels,
            ...)``.
        conductivity: map from pixel values to conductivity, S/m; by default the value itself.
        mesh: a shipped one (``"coarse"``, ``"medium"``, ``"fine"``), a :class:`Mesh` of this tank in m,
            or what :func:`assemble` made of one; ``None``: the medium one where it fits, else gmsh's.
        degree: of the potential's elements, 1 or 2; a :class:`Discretization` has its own.
        reference: voltages measured without objects, V, ``y_shape`` or flat.
        background: conductivity of the tank in the reference measurement, S/m; that of ``x = 0`` if ``None``.
        solver: ``"auto"``, ``"mumps"``, ``"superlu"`` or ``"torch"``; with ``comm`` ``"gamg"``,
            ``"hypre"`` or ``"mumps"``.
        device: where to compute; on a GPU the solver is ``"torch"``. ``x`` may be on any device.
        comm: mpi4py's communicator, to share the mesh out among its ranks, which all get the same voltages;
            calls are collective. Only rank 0 looks at ``mesh``.

    Attributes:
        tank, protocol, conductivity: as given.
        x_shape: shape of an image.
        y_shape: shape of the voltages: ``(I, M)``, or ``(K,)`` where only K of them are measured.
        background: conductivity in the reference measurement, S/m.
        engine: the finite element model.

    Raises:
        ImportError: dolfinx or gmsh is missing and needed; shipped meshes need neither.
        ValueError: tank, protocol, mesh or reference do not fit together, or an unknown mesh.

    Example:
        >>> import torch
        >>> from onmanifold.operators.eit import EIT, Protocol, Tank
        >>> eit = EIT(Tank.unit(), Protocol.adjacent(32), x_shape=(1, 16, 16), mesh="coarse")
        >>> voltages = eit.A(torch.ones(1, 1, 16, 16))
        >>> voltages.shape
        torch.Size([1, 32, 32])
    """

    linear = False

    def __init__(
        self,
        tank: Geometry,
        protocol: Protocol | Continuum,
        x_shape: Sequence[int] = (1, 64, 64),
        *,
        conductivity: ConductivityMap | None = None,
        mesh: MeshLike = None,
        degree: int = 1,
        reference: ArrayLike | Tensor | None = None,
        background: float | None = None,
        solver: str | None = None,
        device: torch.device | str = "cpu",
        comm: Any = None,
    ) -> None:
        _check_parts(tank, protocol, conductivity)
        device = _device(device)
        self.tank = tank
        self.protocol = protocol
        self.conductivity: ConductivityMap = Affine() if conductivity is None else conductivity
        self.background = None if background is None else check_number(background, "background")
        self._scale = 1.0  # of the conductivity
        self.x_shape = self._check_shape(x_shape, len(tank.extent[0]))
        model = _model(tank, protocol)
        if comm is not None and comm.size > 1 and isinstance(protocol, Continuum):
            raise InputError("the continuum model runs on one rank; leave out comm")
        if comm is None:
            self.engine = Engine(discretize(mesh, tank, degree), model, solver or "auto", device)
        else:
            share = discretize_on_ranks(mesh, tank, degree, comm)
            self.engine = Engine(share, model, share.solver(solver or "gamg"))
        d = self.engine.discretization
        self.y_shape: tuple[int, ...] = self.engine.y_shape
        average = cell_average(d.points, d.cells, tank.extent, self._image_shape)
        self._average = SparseMatrix(average, self.engine.device)
        self._measured = None if reference is None else self._check_reference(reference)
        self._offset = self._reference_offset()

    # The protocol -----------------------------------------------------------------------------

    def A(self, x: Tensor) -> Tensor:
        """Voltages, V: ``(B, *x_shape)`` to ``(B, *y_shape)``."""
        check_batch(
            x, self.x_shape, "x"
        )  # whether it is finite, below all transforms of torch.func
        return external(x, self._value, self.linearize)

    def A_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Derivative at ``x`` applied to tangents ``v`` of ``(B, *x_shape)``."""
        check_batch(v, self.x_shape, "v")
        return self.linearize(x).jvp(v[:, None])[:, 0]

    def A_vjp(self, x: Tensor, u: Tensor) -> Tensor:
        """Adjoint of the derivative at ``x`` applied to ``u`` of ``(B, *y_shape)``."""
        check_batch(u, self.y_shape, "u")
        return self.linearize(x).vjp(u[:, None])[:, 0]

    @torch.no_grad()
    def linearize(self, x: Tensor) -> EITLinearization:
        """Voltages and derivative at ``x``: one factorization and L - 1 solves for each of its members."""
        self._check_images(x)
        pixels = self._pixels(x)
        with torch.enable_grad():
            s = self.conductivity(pixels.requires_grad_())
            slope = torch.zeros_like(pixels)
            if s.requires_grad:  # maps act entry by entry: the gradient of the sum holds each one's
                (slope,) = torch.autograd.grad(s.sum(), pixels)
        fields = self.engine.fields(self._cells(x, s.detach()))
        y = self.engine.voltages(fields) + self._offset
        slope = self._scale * slope
        return EITLinearization(self.engine, self._average, self.x_shape, y.to(x), slope, fields)

    # Around it --------------------------------------------------------------------------------

    def cell_conductivity(self, x: Tensor) -> Tensor:
        """Conductivity of each cell, S/m: ``(B, *x_shape)`` to ``(B, C)``, float64."""
        self._check_images(x)
        return self._cells(x, self.conductivity(self._pixels(x)))

    def jacobian(self, x: Tensor) -> Tensor:
        """The whole derivative, ``(B, *y_shape, *x_shape)``, from one factorization a member."""
        return self.linearize(x).jacobian()

    def cell_jacobian(self, x: Tensor) -> Tensor:
        """Derivative of the voltages by the conductivity of each cell, ``(B, *y_shape, C)``, float64."""
        fields = self.engine.fields(self.cell_conductivity(x))
        return torch.stack([self.engine.jacobian(field) for field in fields.members()])

    def scaled(self, factor: float) -> Self:
        """The same operator where everything conducts ``factor`` times as well, the reference excepted."""
        other = copy.copy(self)
        other._scale = check_number(factor, "EIT.scaled: factor") * self._scale
        return other

    def fit_scale(self, x: Tensor, y: Tensor, mask: ArrayLike | Tensor | None = None) -> Tensor:
        """The factor ``c`` of :meth:`scaled` with which ``x`` fits the voltages ``y`` best.

        Up to the contact impedances ``F(c s) = F(s) / c``, so ``1 / c`` follows from linear least squares.

        Args:
            x: images, ``(B, *x_shape)``.
            y: measured voltages, V, ``(B, *y_shape)``.
            mask: which voltages were measured, bool, broadcasts to ``y_shape``; all if ``None``.

        Returns:
            ``c``, ``(B,)``.
        """
        check_batch(y, self.y_shape, "y", finite=True)
        with torch.no_grad():
            model = self.A(x) - self._offset.to(x)
        if mask is not None:
            model = model * self._expanded(mask).to(model)
        wanted = y - self._offset.to(y)
        return (model**2).flatten(1).sum(1) / (model * wanted).flatten(1).sum(1)

    def _expanded(self, mask: ArrayLike | Tensor) -> Tensor:
        given = as_mask(mask, "mask")
        try:
            return given.expand(self.y_shape)
        except RuntimeError:
            raise InputError(
                f"mask has shape {tuple(given.shape)}, expected one that broadcasts to {self.y_shape}"
            ) from None

    def l2_fidelity(self, std: float = 1.0) -> Gaussian:
        """The continuum model's data term: the squared L2 norm over the boundary over ``2 std^2``.

        Args:
            std: V m^(1/2).

        Raises:
            ValueError: the operator measures at electrodes.
        """
        if not isinstance(self.protocol, Continuum):
            raise InputError(
                "l2_fidelity is for the continuum model; at electrodes take Gaussian(std)"
            )
        length = boundary_loop(self.engine.discretization).length
        return Gaussian(check_number(std, "std") / math.sqrt(length / self.protocol.points))

    # How it is drawn: see onmanifold.plot ------------------------------------------------------

    @property
    def label_x(self) -> str:
        """Unit of an image, where its values are the conductivity."""
        return "S/m" if self.conductivity == Affine() else ""

    @property
    def label_y(self) -> str:
        """Unit of what :meth:`draw_y` draws."""
        return "V" if self._measured is None else "V above the reference"

    def draw_x(self, ax: Any, x: Tensor, **scale: Any) -> Any:
        """Draw an image in the tank; further channels as numbers beneath. In 3D, slices.

        The masks of :class:`Inclusions` make one image, resistive blue and conductive red. With a colour
        map given, as for standard deviations, it is the larger of the two.
        """
        image, *channels = x.detach().cpu().reshape(-1, *self._image_shape)
        if masks_of(self.conductivity) == 2:
            resistive, (conductive, *channels) = image, channels
            if "cmap" in scale:
                image = torch.maximum(resistive, conductive)
            else:
                image = conductive - resistive
                scale = {"min": -1.0, "max": 1.0, "cmap": "coolwarm"}
        if image.ndim == 3:
            from onmanifold.plot import draw

            return draw(ax, image, **scale)
        ones = torch.ones(self.engine.cells, 1, dtype=torch.float64, device=self.engine.device)
        inside = (self._average.adjoint(ones) > 0).view(self._image_shape).cpu()
        drawn = draw_image(ax, self.tank, image.numpy(), inside.numpy(), **scale)
        free = ", ".join(f"{float(channel.mean()):.3g}" for channel in channels)
        if free:
            ax.text(0.5, -0.04, free, transform=ax.transAxes, ha="center", va="top")
        return drawn

    def draw_y(self, ax: Any, y: Tensor, **scale: Any) -> Any:
        """Draw voltages as a matrix, V; above the reference where there is one."""
        above = y.cpu().double() - (0.0 if self._measured is None else self._measured.cpu())
        if not isinstance(self.protocol, Continuum):
            measured = torch.tensor(self.protocol.mask)
            above = self.protocol.spread(above).where(measured, torch.nan)
        return draw_voltages(ax, above.numpy())

    # Inside -----------------------------------------------------------------------------------

    @torch.no_grad()
    def _value(self, x: Tensor) -> Tensor:
        self._check_images(x)
        engine, cells = self.engine, self._cells(x, self.conductivity(self._pixels(x)))
        parts = [engine.voltages(engine.fields(s)) for s in cells.split(_BATCH)]
        return (torch.cat(parts) + self._offset).to(x)

    @property
    def _image_shape(self) -> tuple[int, ...]:
        return self.x_shape[-len(self.tank.extent[0]) :]

    def _pixels(self, x: Tensor) -> Tensor:
        """What the conductivity follows from, ``(B, channels, P)``, float64 on the engine's device."""
        count = math.prod(self._image_shape)
        return x.detach().to(self.engine.device, torch.float64).reshape(len(x), -1, count)

    def _cells(self, x: Tensor, pixels: Tensor) -> Tensor:
        """The conductivity of the cells ``(B, C)``, S/m, by that of the pixels of ``x``.

        Raises:
            OutsideDomain: a conductivity is not positive and finite.
        """
        s = self._scale * pixels.reshape(len(x), -1)
        cells = (self._average @ s.T.contiguous()).T.contiguous()
        bad = ~(torch.isfinite(cells) & (cells > 0))
        # on all ranks of an MPI run alike, also on those whose cells are good
        number = self.engine.sum(bad.sum(dim=1).double())
        if not bool(number.any()):
            return cells
        worst = "a cell of another rank"
        if bool(bad.any()):
            b, c = bad.nonzero()[0].tolist()
            worst = f"{float(cells[b, c]):.6g} S/m in cell {c} of member {b}"
        raise OutsideDomain(
            f"conductivity has to be positive and finite, got {worst} ({int(number.sum())} such cells); "
            f"pixel values run from {float(x.min()):.6g} to {float(x.max()):.6g} under {self.conductivity}",
            (number > 0).to(x.device),
        )

    def _reference_offset(self) -> Tensor:
        """What is added to the model's voltages: ``reference - F(background)``, or zero."""
        if self._measured is None:
            return torch.zeros(self.y_shape, dtype=torch.float64, device=self.engine.device)
        if self.background is None:
            blank = torch.zeros(channels_of(self.conductivity), 1, dtype=torch.float64)
            self.background = float(self.conductivity(blank))
        if not (math.isfinite(self.background) and self.background > 0):
            raise InputError(
                f"the background's conductivity has to be positive, got {self.background} S/m; "
                "pass background="
            )
        uniform = self._measured.new_full((1, self.engine.cells), self.background)
        return self._measured - self.engine.voltages(self.engine.fields(uniform))[0]

    def _check_images(self, x: Tensor, finite: bool = True) -> None:
        check_batch(x, self.x_shape, "x", finite=finite)
        if x.dtype not in (torch.float32, torch.float64):
            raise InputTypeError(
                f"EIT takes images of float32 or float64, got {x.dtype}: voltages leave its range"
            )

    def _check_shape(self, x_shape: Sequence[int], dim: int) -> tuple[int, ...]:
        shape = check_shape(x_shape, "x_shape")
        channels = channels_of(self.conductivity)
        leading = ((), (1,)) if channels == 1 else ((channels,),)
        if len(shape) < dim or shape[:-dim] not in leading:
            axes = ("H", "W") if dim == 2 else ("D", "H", "W")
            known = [f"({', '.join([*map(str, first), *axes])})" for first in reversed(leading)]
            raise InputError(f"x_shape has to be {' or '.join(known)}, got {shape}")
        return shape

    def _check_reference(self, reference: ArrayLike | Tensor) -> Tensor:
        value = torch.from_numpy(doubles(reference, "reference")).to(self.engine.device)
        count = math.prod(self.y_shape)
        if tuple(value.shape) not in (self.y_shape, (count,), (count, 1)):
            raise InputError(
                f"reference has shape {tuple(value.shape)}, expected {self.y_shape} or ({count},)"
            )
        if not bool(torch.isfinite(value).all()):
            raise InputError("reference holds NaN or infinite voltages; it has to be complete")
        return value.reshape(self.y_shape)


def _check_parts(tank: object, protocol: object, conductivity: object) -> None:
    for name, value, kinds in (
        ("tank", tank, Geometry),
        ("protocol", protocol, Protocol | Continuum),
    ):
        if not isinstance(value, kinds):
            known = "a Tank, BoundaryCurve, Cylinder or MeshGeometry"
            expected = known if name == "tank" else "a Protocol or Continuum"
            raise InputTypeError(f"{name} has to be {expected}, got {type(value).__name__}")
    check_callable(conductivity, "conductivity", "Affine(offset, slope)")


def _device(device: torch.device | str) -> torch.device:
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, TypeError, ValueError, AssertionError, NotImplementedError) as error:
        why = str(error).partition("\n")[0]
        raise InputError(
            f"device {device!r} cannot be used, 'cpu' or 'cuda' might ({why})"
        ) from error
    return place


def _model(tank: Geometry, protocol: Protocol | Continuum) -> ForwardModel:
    if isinstance(protocol, Continuum):
        return protocol
    if protocol.electrodes != tank.electrodes:
        raise InputError(
            f"the protocol is for {protocol.electrodes} electrodes, the tank has {tank.electrodes}"
        )
    return CompleteElectrodes(tank.impedances, protocol, tank.shunted)
