"""What the table compares: data, methods, their numbers, and the published errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

METHODS = (
    "ae", "vae", "wae", "dae", "cae", "grae", "spae", "nrae-l", "nrae-q", "topo-ae", "witness-ae"
)  # fmt: skip
NEIGHBORHOOD = ("nrae-l", "nrae-q")


@dataclass(frozen=True)
class Case:
    """A block of the table.

    Attributes:
        data: name of the data manifold.
        examples: how many pictures there are to learn from.
        dim: latent dimension.
        published: test errors of Lee, Kwon, Park (NeurIPS 2021), Table 1.
        margin: by how much their better NRAE beats their AE.
    """

    data: str
    examples: int
    dim: int
    published: dict[str, float]
    margin: float


def _published(*errors: float) -> dict[str, float]:
    return dict(zip(METHODS, errors, strict=False))  # the last two methods are not in their table


# Latent dimensions and sizes such that AE comes near its published error; the paper's own are not known here.
# They are small enough for a short training to learn all that is in them.
CASES = {
    "mnist-S": Case(
        "mnist", 2000, 96, _published(
            0.01002, 0.01091, 0.01009, 0.00999, 0.00998, 0.01004, 0.00989, 0.00953, 0.00968
        ), 0.049
    ),
    "mnist-L": Case(
        "mnist", 4200, 96, _published(
            0.00688, 0.00756, 0.00690, 0.00684, 0.00692, 0.00696, 0.00694, 0.00649, 0.00683
        ), 0.057
    ),
    "fashion-S": Case(
        "fashion-mnist", 1200, 64, _published(
            0.01485, 0.01652, 0.01428, 0.01446, 0.01319, 0.01331, 0.01363, 0.01289, 0.01277
        ), 0.140
    ),
    "fashion-L": Case(
        "fashion-mnist", 2600, 64, _published(
            0.01118, 0.01235, 0.01106, 0.01099, 0.01052, 0.01060, 0.01065, 0.01060, 0.01044
        ), 0.066
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Budget:
    """What all trainings share.

    Attributes:
        hidden: width of the hidden layers.
        depth: their number, in the encoder and in the decoder.
        steps: of training.
        batch_size: pictures a step.
        checks: how often the error on the validation pictures is measured; the weights of the best are kept.
    """

    hidden: int
    depth: int
    steps: int
    batch_size: int
    checks: int


RECIPE = Budget(hidden=256, depth=2, steps=4000, batch_size=64, checks=10)
FULL = Budget(hidden=512, depth=3, steps=50_000, batch_size=128, checks=50)

# The number that is chosen, and from what: as many values for each method. AE has none in its loss; it
# chooses the learning rate, which all others take over.
GRIDS: dict[str, tuple[str, tuple[float, float, float]]] = {
    "ae": ("learning_rate", (1e-3, 3e-3, 6e-3)),
    "vae": ("variance", (3e-4, 1e-3, 3e-3)),
    "wae": ("weight", (1e-4, 1e-3, 1e-2)),
    "dae": ("noise", (0.1, 0.2, 0.3)),
    "cae": ("weight", (1e-6, 1e-5, 1e-4)),
    "grae": ("weight", (1e-4, 1e-3, 1e-2)),
    "spae": ("weight", (1e-3, 1e-2, 1e-1)),
    "nrae-l": ("kernel", (0.03, 0.1, 0.3)),
    "nrae-q": ("kernel", (0.03, 0.1, 0.3)),
    "topo-ae": ("weight", (1e-3, 1e-2, 1e-1)),
    "witness-ae": ("weight", (1e-3, 1e-2, 1e-1)),
}
FIXED: dict[str, dict[str, Any]] = {
    "nrae-l": {"neighbours": 5, "drawn": 1},
    "nrae-q": {"neighbours": 5, "drawn": 1},
    "witness-ae": {"witnesses": 1000},
}
