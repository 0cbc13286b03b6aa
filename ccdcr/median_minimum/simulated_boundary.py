# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Boundary of the Median-Minimum diagram from simulated exposures."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage, optimize
from scipy.interpolate import BSpline

from ccdcr.utils import stacks as kernels
from ccdcr.utils.neighbours import cut_bands

__all__ = [
    "N_BINS",
    "Diagram",
    "NoiseModel",
    "PiecewiseBoundary",
    "SplineBoundary",
    "boundary_points",
    "count_cells",
    "drop_isolated_cells",
    "expected_exposures",
    "fit_spline",
    "low_reference",
    "simulate_diagrams",
]

N_BINS = 100


@dataclass(frozen=True)
class NoiseModel:
    """
    Noise of one exposure.

    ``gain`` is in electron per unit of the data, ``readnoise``, one number or a map
    (ny, nx), in the unit of the data; ``shape`` is that of a negative binomial
    distribution of electrons, None: Poisson.
    """

    gain: float
    readnoise: float | np.ndarray
    shape: float | None = None

    def at(self, rows):
        """Return the noise of some rows."""
        if np.ndim(self.readnoise) == 0:
            return self
        return replace(self, readnoise=self.readnoise[rows])

    def draw(self, expected, rng):
        """Return a noisy float32 image of a non-negative expected one."""
        electrons = np.multiply(expected, self.gain, dtype=np.float64)
        if self.shape is None:
            counts = rng.poisson(electrons)
        else:
            counts = rng.negative_binomial(
                self.shape, self.shape / (self.shape + electrons)
            )
        image = (counts / self.gain).astype(np.float32)
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        noise *= np.asarray(self.readnoise, dtype=np.float32)
        image += noise
        return image


@dataclass(frozen=True)
class Diagram:
    """
    Two-dimensional histograms over x = minimum and y = median - minimum.

    ``simulated`` holds all simulations together, ``observed`` the exposures;
    both are (number of x bins, number of y bins).
    """

    x_edges: np.ndarray
    y_edges: np.ndarray
    simulated: np.ndarray
    observed: np.ndarray | None = None
    n_simulations: int = 1

    @property
    def x(self):
        """Centres of the x bins."""
        return (self.x_edges[1:] + self.x_edges[:-1]) / 2


def low_reference(stack, bad, coincidences):
    """Return the mean (ny, nx) of the good exposures but the highest, at least one."""
    n = len(stack)
    if coincidences >= n - 1:
        return kernels.lowest(stack, bad)[0]
    if bad is None or not bad.any():
        low = np.partition(stack, n - coincidences - 1, axis=0)[: n - coincidences]
        return low.mean(axis=0, dtype=np.float64).astype(stack.dtype)
    ordered = np.sort(np.where(bad, stack.dtype.type(np.inf), stack), axis=0)
    used = np.maximum(kernels.count(bad, n) - coincidences, 1)
    outside = np.arange(n)[:, np.newaxis, np.newaxis] >= used
    return kernels.mean(ordered, outside).astype(stack.dtype)


def expected_exposures(reference, factors, offsets):
    """Return the n expected exposures >= 0 of a reference (ny, nx) or (n, ny, nx)."""
    expected = []
    for i, factor in enumerate(factors):
        image = reference if reference.ndim == 2 else reference[i]
        if offsets is not None and any(offsets[i]):
            dx, dy = offsets[i]
            image = ndimage.shift(image, (dy, dx), order=3, mode="nearest")
        image = np.maximum(image, 0)
        expected.append(image if factor == 1 else image * np.float32(factor))
    return expected


def simulate_diagrams(expected, noise, settings, observed, use):
    """Return the `Diagram` of simulations and exposures by number of coincidences."""
    # Each simulation has its own generator: threads do not change the result.
    generators = np.random.default_rng(settings.mm_seed).spawn(settings.mm_nsimulations)
    observed = {k: tuple(plane[use] for plane in pair) for k, pair in observed.items()}
    bands = list(_simulate(expected, noise, generators[0], tuple(observed), use))
    edges = {
        k: _edges([pair, *(band[k] for band in bands)], settings)
        for k, pair in observed.items()
    }
    counts = [_count(bands, edges)]
    del bands

    def count(rng):
        return _count(_simulate(expected, noise, rng, tuple(observed), use), edges)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts += pool.map(count, generators[1:])
    return {
        k: Diagram(
            *edges[k],
            sum(simulation[k] for simulation in counts),
            count_cells(*pair, edges[k]),
            len(counts),
        )
        for k, pair in observed.items()
    }


def _simulate(expected, noise, rng, coincidences, use):
    """Yield x and y of the used pixels, by coincidences, band by band."""
    for rows in cut_bands(use.shape):
        used = use[rows]
        pairs = zip(noise, expected, strict=True)
        stack = np.stack([one.at(rows).draw(image[rows], rng) for one, image in pairs])
        median = kernels.median(stack)
        references = {k: low_reference(stack, None, k) for k in coincidences}
        yield {k: (x[used], (median - x)[used]) for k, x in references.items()}


def _count(bands, edges):
    """Add up the histograms of the bands."""
    total = {k: np.zeros((N_BINS, N_BINS), dtype=np.int64) for k in edges}
    for band in bands:
        for k, pair in band.items():
            total[k] += count_cells(*pair, edges[k])
    return total


def _edges(pairs, settings):
    """Return the edges of the bins of x and y; the first pair is observed."""
    every_x = [x for x, _ in pairs if x.size]
    low, high = (
        (min(x.min() for x in every_x), max(x.max() for x in every_x))
        if every_x
        else (0, 1)
    )
    top = settings.mm_ydiag_max or _top([y for _, y in pairs[1:]], settings)
    return np.linspace(low, high, N_BINS + 1), np.linspace(0, top, N_BINS + 1)


def _top(every_y, settings):
    shifted = settings.mm_xy_offsets or settings.mm_crosscorr_region
    largest = max((float(y.max()) for y in every_y if y.size), default=0.0)
    return (4 if shifted else 2) * largest or 1.0


def count_cells(x, y, edges):
    """Return counts by x and y; x beyond the ends is in the outer cells, y in none."""
    cells = []
    for values, edge in zip((x, y), edges, strict=True):
        width = (edge[-1] - edge[0]) / N_BINS or 1.0
        cells.append(np.floor((values - edge[0]) / width).astype(np.int32))
    np.clip(cells[0], 0, N_BINS - 1, out=cells[0])
    inside = (cells[1] >= 0) & (cells[1] < N_BINS)
    flat = cells[0][inside] * N_BINS + cells[1][inside]
    return np.bincount(flat, minlength=N_BINS**2).reshape(N_BINS, N_BINS)


def drop_isolated_cells(counts, neighbors):
    """Empty the cells of a histogram that have few occupied neighbours."""
    if neighbors == 0:
        return counts
    kernel = np.ones((3, 3), dtype=int)
    kernel[1, 1] = 0
    occupied = ndimage.convolve((counts > 0).astype(int), kernel, mode="constant")
    return np.where(occupied >= neighbors, counts, 0)


def boundary_points(diagram, neighbors=0):
    """Return x, y with one simulated pixel above, and pixels, of each filled bin."""
    counts = drop_isolated_cells(diagram.simulated, neighbors)
    # Pixels above each edge but the last.
    above = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]
    filled = above[:, 0] > 0
    above = np.pad(above[filled], ((0, 0), (0, 1)))
    last = np.argmin(above >= 1, axis=1) - 1
    rows = np.arange(len(last))
    upper, lower = above[rows, last], above[rows, last + 1]
    width = diagram.y_edges[1] - diagram.y_edges[0]
    y = diagram.y_edges[last] + width * (upper - 1) / (upper - lower)
    return diagram.x[filled], y, above[:, 0]


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
    Base of the boundaries.

    ``x`` and ``y`` are the points of the line or of the fit, ``limits`` the range of x
    in which it holds. Below it is constant, above it grows like the noise of ``gain``
    (electron per unit of the data) and ``readnoise`` (electron).
    """

    x: np.ndarray
    y: np.ndarray
    limits: tuple
    gain: float
    readnoise: float

    def __call__(self, x):
        """Return the largest median - minimum that noise explains at x, float32."""
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
    Cubic spline that never decreases, in the noise of x.

    ``fits`` are the splines of all iterations, functions of the noise in electron; the
    last one is used.
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
    Return the spline through points (x, y, weight), lifted to their upper edge.

    A boundary is nearly proportional to the noise. In the noise as a coordinate few
    knots suffice; in x the faint end, where it is steep, would be missed.
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
    """Fit a cubic B-spline that never decreases by weighted least squares."""
    # Coefficients that never decrease suffice: sums of increments >= 0 but the first.
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
