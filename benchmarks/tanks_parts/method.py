"""What a method of reconstruction is to the benchmark, and what data term they all share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.tanks_parts.data_terms import DATA_TERMS
from onmanifold.operators.eit import Measurement


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What a method says of a tank.

    Attributes:
        labels: classes ``(256, 256)``: 0 water, 1 resistive, 2 conductive, row 0 on top.
        probabilities: of the three classes, ``(3, 256, 256)``, if the method knows.
        objects: how many there are, or how many resistive and conductive ones, if the method says so.
        seconds: how long it took, the data term included.
        variants: what the same search gives where a part of the method is switched off, by name.
    """

    labels: NDArray[np.uint8]
    probabilities: NDArray[np.floating] | None = None
    objects: int | tuple[int, int] | None = None
    seconds: float = float("nan")
    variants: Mapping[str, Reconstruction] = field(default_factory=dict)


class Method(Protocol):
    """A method of reconstruction."""

    def __call__(self, reference: Measurement, measurement: Measurement) -> Reconstruction:
        """Reconstruct a tank from a complete reference and a measurement, of which some may be missing."""
        ...


# name -> module:class; a class takes the data term and makes a Method
METHODS = {
    "linear": "benchmarks.tanks_parts.linear:Linear",
    "picture": "benchmarks.tanks_parts.picture:Picture",
    "scene": "benchmarks.tanks_parts.scene:LearnedOutlines",
    "fourier": "benchmarks.tanks_parts.scene:FourierOutlines",
}


def make_method(name: str, data_term: str) -> Method:
    """A method by its name, or as ``module:class``, with a data term of :data:`DATA_TERMS`.

    Raises:
        ValueError: an unknown name.
    """
    module, _, attribute = METHODS.get(name, name).partition(":")
    if not attribute:
        raise ValueError(f"methods are {', '.join(METHODS)} or MODULE:CLASS, got {name}")
    method: Method = getattr(import_module(module), attribute)(DATA_TERMS[data_term])
    return method
