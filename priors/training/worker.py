"""One of several processes that train together, as ``processes.launch`` starts them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from onmanifold.priors.training.recipe import Recipe
from onmanifold.priors.training.run import train


def work(file: Path) -> None:
    """Train as a file says."""
    order = json.loads(file.read_text("utf-8"))
    train(
        Recipe(**order["recipe"]),
        order["folder"],
        resume=order["resume"],
        progress=order["progress"],
        devices=order["devices"],
    )


if __name__ == "__main__":
    work(Path(sys.argv[1]))
