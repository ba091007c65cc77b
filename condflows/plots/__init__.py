"""Small pictures of flows, drawn with matplotlib; imported by themselves, with ``from condflows import plots``.

Every function takes the axes to draw on, or makes a figure with ``matplotlib.pyplot`` if it is given none, and returns
the figure. None of them shows it, or changes matplotlib's settings. Flows are called without gradients and in
evaluation mode, and are left in the mode that they were in; they and their contexts may be on any one device.
"""

from condflows.plots.calibration import calibration
from condflows.plots.corner import corner
from condflows.plots.density import density
from condflows.plots.history import history
from condflows.plots.images import images
from condflows.plots.interpolation import interpolation
from condflows.plots.invertibility import invertibility
from condflows.plots.temperatures import temperatures

__all__ = ["calibration", "corner", "density", "history", "images", "interpolation", "invertibility", "temperatures"]
