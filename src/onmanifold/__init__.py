"""Inverse problems, solved on learned manifolds."""
