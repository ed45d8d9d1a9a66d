"""Autoencoders that reconstruct neighbourhoods instead of points."""

from onmanifold.priors.neighborhood.nrae import NRAEL, NRAEQ, NeighborhoodOptions, taylor

__all__ = ["NRAEL", "NRAEQ", "NeighborhoodOptions", "taylor"]
