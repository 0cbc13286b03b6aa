# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How far matched exposures are from each other: numbers of pixels."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Deviations"]

_CELLS = 100, 115
_LOWEST, _HIGHEST = -8.0, 15.0  # sigma
_PART = 0.0005  # of the pixels beyond either end of the levels
_ENOUGH = 2_000_000  # pixels of all exposures
_SAMPLE = 4  # columns


@dataclass(frozen=True)
class Deviations:
    """
    Numbers of pixels by clean signal and deviation, of all exposures.

    ``counts`` is (levels, deviations), with the edges ``x`` and ``y`` of its cells;
    ``number`` are all pixels of a level, also those beyond the edges. Every
    ``step``-th row was counted.
    """

    counts: np.ndarray
    x: np.ndarray
    y: np.ndarray
    number: np.ndarray
    step: int

    @classmethod
    def of(cls, level, z):
        """
        Count the pixels, in large images those of some rows.

        Parameters
        ----------
        level : 2D `~numpy.ndarray`
            Clean signal.
        z : 3D `~numpy.ndarray`
            Deviations in sigmas, minus infinity where nothing may be flagged.

        Returns
        -------
        deviations : `Deviations`
            The numbers.
        """
        step = max(round(z.size / _ENOUGH), 1)
        level = level[::step]
        low, high = np.quantile(level[:, ::_SAMPLE], [_PART, 1 - _PART])
        nx, ny = _CELLS
        x = np.linspace(low, max(high, low + 1), nx + 1)
        y = np.linspace(_LOWEST, _HIGHEST, ny + 1)
        column = _cells(level, x)
        inside = (column >= 0) & (column < nx)
        shape = nx, ny + 2  # and what is beyond
        counts = np.zeros(shape, dtype=np.intp)
        for plane in z[:, ::step]:
            known = inside & np.isfinite(plane)
            row = np.clip(_cells(plane[known], y), -1, ny) + 1
            cells = column[known] * shape[1] + row
            counts += np.bincount(cells, minlength=counts.size).reshape(shape)
        return cls(counts[:, 1:-1], x, y, counts.sum(axis=1), step)


def _cells(values, edges):
    """Return the cell of each value between evenly spaced edges."""
    scale = (len(edges) - 1) / (edges[-1] - edges[0])
    places = (values - values.dtype.type(edges[0])) * values.dtype.type(scale)
    # Whatever is far beyond must fit into an integer.
    return np.floor(np.clip(places, -1, len(edges))).astype(np.int32)
