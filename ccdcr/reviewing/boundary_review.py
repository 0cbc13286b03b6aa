# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Review of the boundary: its knots, weights, fixed points and chance."""

from dataclasses import replace

import numpy as np

from ccdcr.median_minimum.exact_boundary import LEVELS, ExactBoundary
from ccdcr.median_minimum.simulated_boundary import (
    PiecewiseBoundary,
    boundary_points,
    fit_spline,
)
from ccdcr.plotting import plot_diagram
from ccdcr.plotting.figure_style import nearest_point

__all__ = ["BoundaryReview", "with_chance"]

_FACTOR = 2.0
_REACH = 20  # screen pixels within which a click finds a fixed point


class BoundaryReview:
    """The diagram of a mask, and keys and clicks that change its boundary."""

    def __init__(self, masks, unit, name="MEDIANCR"):
        self._masks, self._unit, self._name = masks, unit, name
        self.requirements = masks.requirements
        self._boundary = masks.diagnostics.boundaries[name]
        self._diagram = masks.diagnostics.diagrams[name]

    @property
    def changed(self):
        """Whether the requirements differ from those of the masks."""
        return self.requirements != self._masks.requirements

    @property
    def keys(self):
        """Functions and words of help by key, as for a Window."""
        if isinstance(self._boundary, ExactBoundary):
            return {
                "+": (
                    self._times("mm_false_positives", _FACTOR),
                    "more false positives",
                ),
                "-": (self._times("mm_false_positives", 1 / _FACTOR), "fewer"),
            }
        keys = {"d": (self._clear_points, "delete fixed points")}
        if isinstance(self._boundary, PiecewiseBoundary):
            return keys
        weight = "mm_weight_boundary_extension"
        return keys | {
            "+": (self._more_knots(1), "more knots"),
            "-": (self._more_knots(-1), "fewer"),
            "w": (self._times(weight, _FACTOR), "more weight"),
            "v": (self._times(weight, 1 / _FACTOR), "less"),
        }

    def draw(self, fig):
        """Draw the diagram with the boundary of the requirements."""
        fitted = {self._name: self._fit()}
        shown = self._masks._with(  # noqa: SLF001
            requirements=self.requirements,
            diagnostics=replace(self._masks.diagnostics, boundaries=fitted),
        )
        plot_diagram(shown, self._name, unit=self._unit, fig=fig)
        fig.suptitle(self._title())

    def click(self, event):
        """Add a fixed point (left button) or remove the nearest; return if changed."""
        if isinstance(self._boundary, ExactBoundary):
            return False
        points = list(self.requirements.mm_fixed_points_in_boundary or ())
        if event.button == 1:
            points.append((float(event.xdata), max(float(event.ydata), 0.0)))
        elif not self._take_nearest(points, event):
            return False
        return self._set_points(points)

    def _fit(self):
        """Return the boundary of the requirements."""
        if isinstance(self._boundary, ExactBoundary):
            p_value = self._boundary.p_value
            if self.changed:
                wanted = self.requirements.mm_false_positives
                before = self._masks.requirements.mm_false_positives
                p_value = min(p_value * wanted / before, 0.5)
            return with_chance(self._boundary, p_value)
        gain, readnoise = self._boundary.gain, self._boundary.readnoise
        if isinstance(self._boundary, PiecewiseBoundary):
            points = sorted(self.requirements.mm_fixed_points_in_boundary)
            x, y = np.array([point[:2] for point in points]).T
            return PiecewiseBoundary(x, y, (x[0], x[-1]), gain, readnoise)
        neighbors = self.requirements.mm_hist2d_min_neighbors
        points = boundary_points(self._diagram, neighbors)
        return fit_spline(points, self.requirements, gain, readnoise)

    def _title(self):
        requirements = self.requirements
        if isinstance(self._boundary, ExactBoundary):
            what = f"{requirements.mm_false_positives:g} false positives expected"
        else:
            what = (
                f"{requirements.mm_knots_splfit} knots, weight "
                f"{requirements.mm_weight_boundary_extension:g}; click: add a fixed "
                "point, right click: take it away"
            )
            if isinstance(self._boundary, PiecewiseBoundary):
                what = "click: add a point, right click: take it away"
        return f"Median-Minimum diagram of {self._name}; {what}"

    def _times(self, name, factor):
        def change(_):
            value = getattr(self.requirements, name) * factor
            self.requirements = self.requirements.replace(**{name: value})

        return change

    def _more_knots(self, step):
        def change(_):
            knots = max(self.requirements.mm_knots_splfit + step, 2)
            self.requirements = self.requirements.replace(mm_knots_splfit=knots)

        return change

    def _clear_points(self, _):
        self._set_points([])

    def _set_points(self, points):
        """Set the fixed points, of which straight lines need two; return if set."""
        if isinstance(self._boundary, PiecewiseBoundary) and len(points) < 2:
            return False
        self.requirements = self.requirements.replace(
            mm_fixed_points_in_boundary=points or None
        )
        return True

    def _take_nearest(self, points, event):
        nearest = nearest_point(event, [point[:2] for point in points], _REACH)
        if nearest is None:
            return False
        del points[nearest]
        return True


def with_chance(boundary, p_value):
    """Return an exact boundary of another p_value, linear in levels of its surface."""
    if p_value == boundary.p_value:
        return boundary
    level = np.sqrt(-np.log(p_value))
    upper = int(np.clip(np.searchsorted(LEVELS, level), 1, len(LEVELS) - 1))
    part = (level - LEVELS[upper - 1]) / (LEVELS[upper] - LEVELS[upper - 1])
    surface = boundary.surface
    excess = surface[:, upper - 1] * (1 - part) + surface[:, upper] * part
    return replace(boundary, p_value=p_value, excess=excess)
