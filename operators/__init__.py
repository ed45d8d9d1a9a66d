"""Forward operators that come with the package."""

from onmanifold.operators.blur import Blur, gaussian_kernel
from onmanifold.operators.mask import Mask

__all__ = ["Blur", "Mask", "gaussian_kernel"]
