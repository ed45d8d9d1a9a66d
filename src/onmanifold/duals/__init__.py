"""Dual numbers: forward differentiation of torch functions, along several directions in one pass."""

from onmanifold.duals import rules as rules  # which registers them
from onmanifold.duals.dual import Dual, NoRule, derivatives

__all__ = ["Dual", "NoRule", "derivatives"]
