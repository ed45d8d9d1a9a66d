"""Pictures of solutions: panels, course of the descents, path in the charts, and a film."""

from onmanifold.plot.convergence import plot_convergence
from onmanifold.plot.drawing import draw
from onmanifold.plot.film import animate
from onmanifold.plot.panels import plot_solution
from onmanifold.plot.path import plot_path

__all__ = ["animate", "draw", "plot_convergence", "plot_path", "plot_solution"]
