# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Boundaries in the Median-Minimum diagram; above them are cosmic rays."""

from dataclasses import dataclass

import numpy as np
from scipy import optimize
from scipy.interpolate import BSpline

__all__ = ["PiecewiseBoundary", "SplineBoundary", "fit_spline"]

_NO_POINTS = (
    "mm_boundary_fit must be 'exact' where no pixel is good in all exposures, "
    "got 'spline'"
)
_FIXED_WEIGHT = 10000.0  # relative to the largest of the others


def _variance(x, gain, readnoise):
    """Return the variance of a signal in squared electrons, never 0."""
    return np.maximum(np.multiply(x, gain, dtype=float), 0) + max(readnoise**2, 1e-6)


@dataclass(frozen=True)
class _Boundary:
    """
    What both kinds have in common.

    ``x`` and ``y`` are the points that it goes through or was fitted to,
    ``limits`` the range of x in which it holds. Below it is constant, above
    it grows like the noise, whose law are ``gain`` (electron per unit of the
    data) and ``readnoise`` (electron).
    """

    x: np.ndarray
    y: np.ndarray
    limits: tuple
    gain: float
    readnoise: float

    def __call__(self, x):
        """
        Return the boundary.

        Parameters
        ----------
        x : `~numpy.ndarray`
            The minimum over the exposures, in the unit of the data.

        Returns
        -------
        y : `~numpy.ndarray` of float32
            The largest median - minimum that noise explains.
        """
        low, high = self.limits
        x = np.asarray(x)
        y = self._inside(np.clip(x, low, high))
        beyond = self._variance(x) / self._variance(high)
        return (y * np.sqrt(np.where(x > high, beyond, 1))).astype(np.float32)

    def _variance(self, x):
        return _variance(x, self.gain, self.readnoise)


@dataclass(frozen=True)
class PiecewiseBoundary(_Boundary):
    """Straight lines through points."""

    def _inside(self, x):
        return np.interp(x, self.x, self.y)

    def __repr__(self):
        return f"<PiecewiseBoundary({len(self.x)} points)>"


@dataclass(frozen=True)
class SplineBoundary(_Boundary):
    """
    A cubic spline that never decreases, in the noise of x.

    ``fits`` are the splines of all iterations, functions of the noise in
    electron; the last one is used.
    """

    fits: tuple

    def _inside(self, x):
        # Linear interpolation on a fine grid is much faster than the spline.
        grid = np.linspace(*np.sqrt(self._variance(np.array(self.limits))), 4001)
        return np.interp(np.sqrt(self._variance(x)), grid, self.fits[-1](grid))

    def __repr__(self):
        low, high = self.limits
        return f"<SplineBoundary({len(self.x)} points, x = {low:g} to {high:g})>"


def fit_spline(points, settings, gain, readnoise):
    """
    Fit a spline to the points of a boundary, and lift it to their upper edge.

    Parameters
    ----------
    points : tuple of 1D `~numpy.ndarray`
        The x, y and weight of each point.
    settings : `~ccdcr.Requirements`
        ``mm_knots_splfit``, ``mm_niter_boundary_extension``,
        ``mm_weight_boundary_extension`` and ``mm_fixed_points_in_boundary``.
    gain, readnoise : float
        Gain (electron per unit of the data) and read noise (electron).

    Returns
    -------
    boundary : `SplineBoundary`
        The boundary.

    Notes
    -----
    A boundary is nearly proportional to the noise. In the noise as a coordinate
    few knots suffice; in x the faint end, where it is steep, would be missed.
    """
    x, y, counts = points
    fixed = settings.mm_fixed_points_in_boundary or ()
    if len(x) + len(fixed) == 0:
        raise ValueError(_NO_POINTS)
    pins = np.array([(*p, _FIXED_WEIGHT)[:3] for p in fixed]).reshape(-1, 3)
    every_x, every_y = np.concatenate([x, pins[:, 0]]), np.concatenate([y, pins[:, 1]])
    noise = np.sqrt(_variance(every_x, gain, readnoise))
    low, high = noise.min(), noise.max()
    knots = np.linspace(low, max(high, low * (1 + 1e-6)), settings.mm_knots_splfit)
    fits = []
    for iteration in range(settings.mm_niter_boundary_extension + 1):
        weights = np.array(counts, dtype=float)
        if iteration:
            above = y > fits[-1](noise[: len(y)])
            weights[above] *= settings.mm_weight_boundary_extension**iteration
        weights = np.concatenate([weights, pins[:, 2] * weights.max()])
        fits.append(_monotone_fit(noise, every_y, weights, knots))
    limits = float(every_x.min()), float(every_x.max())
    return SplineBoundary(x, y, limits, gain, readnoise, tuple(fits))


def _monotone_fit(x, y, weights, knots):
    """
    Fit a cubic B-spline that never decreases by weighted least squares.

    Coefficients that never decrease suffice, so that they are sums of
    increments of which all but the first are not negative.
    """
    full = np.concatenate([[knots[0]] * 3, knots, [knots[-1]] * 3])
    basis = BSpline.design_matrix(x, full, 3).toarray()
    increments = np.cumsum(basis[:, ::-1], axis=1)[:, ::-1]
    root = np.sqrt(weights / weights.max())
    bounds = np.zeros(basis.shape[1])
    bounds[0] = -np.inf
    with np.errstate(invalid="ignore"):  # steps along bounds that are infinite
        solution = optimize.lsq_linear(
            increments * root[:, np.newaxis], y * root, bounds=(bounds, np.inf)
        )
    return BSpline(full, np.cumsum(solution.x), 3)
