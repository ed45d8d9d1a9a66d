"""Flat autoencoders: embeddings of low distortion and low bending."""

from onmanifold.priors.flat.embedding import FlatTraining
from onmanifold.priors.flat.graph import GraphPairs
from onmanifold.priors.flat.pairs import GeodesicPairs, Pairs
from onmanifold.priors.flat.scaling import Scaling

__all__ = ["FlatTraining", "GeodesicPairs", "GraphPairs", "Pairs", "Scaling"]
