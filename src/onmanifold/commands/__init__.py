"""The subcommands ``priors``, ``operators`` and ``solve``; what only one of them needs, it imports."""

from onmanifold.commands.listing import operators, priors
from onmanifold.commands.reconstruct import solve

__all__ = ["operators", "priors", "solve"]
