"""Figures of solutions: panels, convergence, the path through the charts, and an animation."""

from onmanifold.plot.convergence import plot_convergence
from onmanifold.plot.drawing import draw
from onmanifold.plot.film import animate
from onmanifold.plot.panels import plot_solution
from onmanifold.plot.path import plot_path

__all__ = ["animate", "draw", "plot_convergence", "plot_path", "plot_solution"]
