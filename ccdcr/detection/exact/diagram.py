# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The Median-Minimum diagram with what is expected instead of simulated."""

import numpy as np

from ccdcr.detection.diagram import N_BINS, Diagram, count_cells

__all__ = ["diagram_of"]


def diagram_of(x, y, use, boundary, top=0):
    """
    Count the exposures in a diagram, and what is expected there.

    Parameters
    ----------
    x, y : 2D `~numpy.ndarray`
        Low reference, and excess of the statistic over it.
    use : 2D `~numpy.ndarray` of bool or None
        Pixels that are counted; None counts all.
    boundary : `~ccdcr.detection.exact.boundary.ExactBoundary`
        The boundary.
    top : float, optional
        Upper end of y. Default is twice the highest point of the boundary.

    Returns
    -------
    diagram : `~ccdcr.detection.diagram.Diagram`
        ``simulated`` holds the expected numbers.
    """
    if use is not None:
        x, y = x[use], y[use]
    low, high = float(x.min()), float(x.max())
    top = top or 2 * float(boundary(np.array([low, high])).max())
    edges = np.linspace(low, high, N_BINS + 1), np.linspace(0, top, N_BINS + 1)
    observed = count_cells(x.ravel(), y.ravel(), edges)
    centres = (edges[0][1:] + edges[0][:-1]) / 2
    above = boundary.survival(centres[:, np.newaxis], edges[1])
    pixels = np.histogram(x, edges[0])[0]
    expected = pixels[:, np.newaxis] * -np.diff(above, axis=1)
    return Diagram(*edges, expected, observed)
