"""Forward operators that come with the package.

:class:`EIT` and :class:`PDE` are imported when they are first asked for.
"""

from typing import TYPE_CHECKING, Any

from onmanifold.operators.blur import Blur, gaussian_kernel
from onmanifold.operators.combine import Compose, Stack
from onmanifold.operators.ct import FanBeam, ParallelBeam, Tomography
from onmanifold.operators.downsampling import Downsampling
from onmanifold.operators.fourier import Fourier, coil_maps, line_mask
from onmanifold.operators.mask import Mask

if TYPE_CHECKING:
    from onmanifold.operators.eit import EIT
    from onmanifold.operators.pde import PDE

__all__ = [
    "EIT",
    "PDE",
    "Blur",
    "Compose",
    "Downsampling",
    "FanBeam",
    "Fourier",
    "Mask",
    "ParallelBeam",
    "Stack",
    "Tomography",
    "coil_maps",
    "gaussian_kernel",
    "line_mask",
]


def __getattr__(name: str) -> Any:
    if name == "EIT":
        from onmanifold.operators.eit import EIT

        return EIT
    if name == "PDE":
        from onmanifold.operators.pde import PDE

        return PDE
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
