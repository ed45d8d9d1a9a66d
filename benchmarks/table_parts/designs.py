"""What the table compares: data, methods, their numbers, and the published errors."""

from typing import Any, NamedTuple

NEIGHBORHOOD = ("nrae-l", "nrae-q")


class Block(NamedTuple):
    """A block of the table."""

    data: str
    examples: int  # images to learn from
    dim: int  # latent dimension
    margin: float  # by how much the paper's better NRAE beats its AE


# Latent dimensions and sizes such that AE comes near its published error; the paper's own are not known here.
# They are small enough for a short training to learn all that is in them.
BLOCKS = {
    "mnist-S": Block("mnist", 2000, 96, 0.049),
    "mnist-L": Block("mnist", 4200, 96, 0.057),
    "fashion-S": Block("fashion-mnist", 1200, 64, 0.140),
    "fashion-L": Block("fashion-mnist", 2600, 64, 0.066),
}

# Test errors of Lee, Kwon, Park (NeurIPS 2021), Table 1, by block; it has not all of the methods.
PUBLISHED = {
    method: dict(zip(BLOCKS, errors, strict=True))
    for method, errors in {
        "ae": (0.01002, 0.00688, 0.01485, 0.01118),
        "vae": (0.01091, 0.00756, 0.01652, 0.01235),
        "wae": (0.01009, 0.00690, 0.01428, 0.01106),
        "dae": (0.00999, 0.00684, 0.01446, 0.01099),
        "cae": (0.00998, 0.00692, 0.01319, 0.01052),
        "grae": (0.01004, 0.00696, 0.01331, 0.01060),
        "spae": (0.00989, 0.00694, 0.01363, 0.01065),
        "nrae-l": (0.00953, 0.00649, 0.01289, 0.01060),
        "nrae-q": (0.00968, 0.00683, 0.01277, 0.01044),
    }.items()
}

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
METHODS = tuple(GRIDS)
FIXED: dict[str, dict[str, Any]] = {
    "nrae-l": {"neighbours": 8, "drawn": 4},
    "nrae-q": {"neighbours": 5, "drawn": 1},
    "witness-ae": {"witnesses": 1000},
}

# The value that `--choose` found, by block.
CHOSEN = {
    method: dict(zip(BLOCKS, values, strict=True))
    for method, values in {
        "ae": (0.006, 0.006, 0.006, 0.006),
        "vae": (0.0003, 0.0003, 0.0003, 0.0003),
        "wae": (0.0001, 0.0001, 0.0001, 0.0001),
        "dae": (0.1, 0.1, 0.1, 0.1),
        "cae": (1e-05, 1e-05, 0.0001, 1e-06),
        "grae": (0.0001, 0.0001, 0.01, 0.001),
        "spae": (0.01, 0.01, 0.01, 0.01),
        "nrae-l": (0.3, 0.3, 0.3, 0.1),
        "nrae-q": (0.1, 0.1, 0.3, 0.3),
        "topo-ae": (0.1, 0.001, 0.1, 0.001),
        "witness-ae": (0.1, 0.01, 0.1, 0.001),
    }.items()
}
