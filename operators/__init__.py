"""Forward operators that come with the package."""

from onmanifold.operators.blur import Blur, gaussian_kernel

__all__ = ["Blur", "gaussian_kernel"]
