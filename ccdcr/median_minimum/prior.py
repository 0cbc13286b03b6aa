# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Deconvolution of the histogram of the minimum into the distribution of signals."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage, sparse
from scipy.stats import norm

from ccdcr.median_minimum.exact_boundary import LEVELS, ExactBoundary, invert
from ccdcr.median_minimum.noise_distribution import STEP
from ccdcr.utils.neighbours import cut_bands

__all__ = [
    "Histogram",
    "Prior",
    "Surfaces",
    "deconvolve",
    "find_prior",
    "make_histogram",
    "make_surfaces",
]

_REACH = 12  # standard deviations of nodes beyond the largest minimum
_CROWDED = 0.01  # fraction of the pixels in a cell that needs finer nodes
_FINER = 4
_CYCLES = 150
_FLAT = 0.2  # pixels per step of the grid that are added everywhere


@dataclass(frozen=True)
class Histogram:
    """Numbers of pixels by cell of the coordinate: ``counts[i]`` at ``first + i``."""

    counts: np.ndarray
    first: int

    @property
    def total(self):
        """Number of pixels."""
        return self.counts.sum()


@dataclass(frozen=True)
class Prior:
    """
    Numbers of pixels, ``weights``, by expected signal.

    ``nodes`` are coordinates of the signals, ``tables`` their `Tables` by exposure.
    ``chi2`` is Pearson's, per cell of the histogram that expects more than 5 pixels.
    """

    nodes: np.ndarray
    tables: tuple
    weights: np.ndarray
    chi2: float

    def with_flat(self):
        """Return the prior with a few pixels at all nodes, for where no data are."""
        spacing = np.gradient(self.nodes) if len(self.nodes) > 1 else STEP
        return replace(self, weights=self.weights + _FLAT * spacing / STEP)

    def thinned(self):
        """Return the prior with half as many nodes where few pixels are."""
        step = np.rint(self.nodes / STEP)
        on_grid = np.isclose(self.nodes, step * STEP)
        few = self.weights < 0.005 * self.weights.sum()
        dropped = on_grid & (step % 2 == 1) & few
        dropped[[0, -1]] = False
        dropped[1:] &= ~dropped[:-1]
        weights = self.weights.copy()
        i = np.flatnonzero(dropped)
        np.add.at(weights, i - 1, weights[i] / 2)
        np.add.at(weights, i + 1, weights[i] / 2)
        tables = tuple(table.select(~dropped) for table in self.tables)
        return replace(
            self, nodes=self.nodes[~dropped], tables=tables, weights=weights[~dropped]
        )


def deconvolve(histogram, exposures):
    """
    Return the `Prior` that explains the `Histogram` of the minimum over exposures.

    Expectation maximisation (L. B. Lucy 1974, AJ 79, 745), accelerated by squared
    extrapolation (R. Varadhan and C. Roland 2008, Scand. J. Stat. 35, 335) of square
    roots. Only pixels hit in every exposure are wrong in the minimum.
    """
    counts, first = histogram.counts.astype(float), histogram.first
    top = max(first + len(counts), 0) + round(_REACH / STEP)
    grid = STEP * np.arange(top + 1)
    nodes = _refined(grid, histogram)
    tables = exposures.tabulate(nodes)
    start, density = exposures.kernel(tables)
    weights = _start(histogram, len(grid), exposures.n)
    coarse = np.searchsorted(nodes, grid)
    matrix, observed = _cells(start[coarse], density[coarse], counts, first)
    weights, chi2 = _maximise(weights, matrix, observed)
    if len(nodes) > len(grid):
        weights = _interpolated(grid, weights, nodes)
        matrix, observed = _cells(start, density, counts, first)
        weights, chi2 = _maximise(weights, matrix, observed)
    return Prior(nodes, tables, weights, chi2)


def _start(histogram, n_nodes, n_exposures):
    """Return the histogram, shifted by the bias of the minimum and smoothed."""
    bias = -norm.ppf(0.625 / (n_exposures + 0.25))
    cells = histogram.first + np.arange(len(histogram.counts)) + round(bias / STEP)
    cells = np.clip(cells, 0, n_nodes - 1)
    weights = np.bincount(cells, histogram.counts, minlength=n_nodes)
    weights = ndimage.gaussian_filter1d(weights, 2, mode="nearest")
    return weights + 0.001 * histogram.total / n_nodes + 1e-12


def _refined(nodes, histogram):
    """Return finer nodes where many pixels share a signal."""
    crowded = histogram.counts > _CROWDED * histogram.total
    crowded = histogram.first + np.flatnonzero(crowded)
    near = np.zeros(len(nodes), dtype=bool)
    for shift in range(-3, 4):
        near[np.clip(crowded + shift, 0, len(nodes) - 1)] = True
    extra = nodes[near][:, np.newaxis] + STEP * np.arange(1, _FINER) / _FINER
    return np.sort(np.concatenate([nodes, extra.ravel()]))


def _interpolated(nodes, weights, fine):
    density = np.interp(fine, nodes, weights)
    return density * np.gradient(fine) / STEP


def _cells(start, density, counts, first):
    """Return the chances (node, cell) of nodes to be in cells, and the counts."""
    curvature = np.zeros_like(density)
    curvature[:, 1:-1] = density[:, 2:] - 2 * density[:, 1:-1] + density[:, :-2]
    chances = np.maximum(density + curvature / 24, 0)
    columns = start[:, np.newaxis] - start[0] + np.arange(density.shape[1])
    n_cells = columns.max() + 1
    rows = np.arange(len(start) + 1) * density.shape[1]
    matrix = sparse.csr_array(
        (chances.ravel(), columns.ravel(), rows), shape=(len(start), n_cells)
    )
    observed = np.zeros(n_cells)
    cells = first + np.arange(len(counts)) - start[0]
    inside = (cells >= 0) & (cells < n_cells)
    observed[cells[inside]] = counts[inside]
    return matrix, observed


def _maximise(weights, matrix, observed):
    transposed = matrix.T.tocsr()
    total = np.asarray(matrix.sum(axis=1)).ravel()

    def expected(weights):
        return np.maximum(transposed @ weights, 1e-300)

    def step(root):
        ratio = observed / expected(root**2)
        return root * np.sqrt(matrix @ ratio / total)

    def likelihood(root):
        model = expected(root**2)
        return np.sum(observed * np.log(model) - model)

    root = np.sqrt(weights)
    for _ in range(_CYCLES):
        root = _extrapolated(root, step, likelihood)
        chi2 = _pearson(observed, expected(root**2))
        if chi2 < 1:
            break
    return root**2, chi2


def _extrapolated(root, step, likelihood):
    """Make two steps, and extrapolate as far as the likelihood does not fall."""
    first = step(root)
    second = step(first)
    change = first - root
    bend = second - first - change
    length = -max(1, np.sqrt(np.sum(change**2) / max(np.sum(bend**2), 1e-300)))
    least = likelihood(second)
    while length < -1.01:
        trial = step(np.abs(root - 2 * length * change + length**2 * bend))
        if likelihood(trial) >= least:
            return trial
        length = (length - 1) / 2
    return second


def _pearson(observed, expected):
    used = expected > 5
    if not used.any():
        return 0.0
    return float(np.mean((observed[used] - expected[used]) ** 2 / expected[used]))


_BRIGHTEST = 1e6  # electrons; the boundary grows like the noise above
_FAINTEST = -8  # standard deviations


def make_histogram(image, use, exposures):
    """Return the `Histogram` of the pixels ``use`` of an image (ny, nx); None = all."""
    noise = exposures.noise
    low = round(_FAINTEST / STEP)
    high = round(float(noise.coordinate(_BRIGHTEST)) / STEP)
    counts = np.zeros(high - low + 1, dtype=np.int64)
    for rows in cut_bands(image.shape):
        values = image[rows] if use is None else image[rows][use[rows]]
        signal = np.clip(values * np.float32(exposures.scale), -1e9, _BRIGHTEST)
        cells = np.rint(noise.coordinate(signal) / STEP).astype(np.int64)
        cells = np.clip(cells, low, high) - low
        counts += np.bincount(cells.ravel(), minlength=len(counts))
    filled = np.flatnonzero(counts)
    if not filled.size:
        return Histogram(np.zeros(1), 0)
    begin, end = filled[0], filled[-1] + 1
    return Histogram(counts[begin:end], low + begin)


def find_prior(histogram, exposures):
    """Return the deconvolved `Prior`, with flat additions and thinned."""
    prior = deconvolve(histogram, exposures)
    return prior.with_flat().thinned()


@dataclass(frozen=True)
class Surfaces:
    """
    Densities of pixels whose low reference is a and whose statistics exceed b.

    ``first`` is the first grid point of a, ``kernel`` (a,) the density of a,
    ``exceeding`` that (a, b) of each statistic by name.
    """

    exposures: object
    first: int
    kernel: np.ndarray
    exceeding: dict

    def boundary(self, name, p_value):
        """Return the `ExactBoundary` of a statistic for a p-value."""
        noise = self.exposures.noise
        levels = np.concatenate([[np.sqrt(-np.log(p_value))], LEVELS])
        excess = invert(self.kernel, self.exceeding[name], noise, self.first, levels)
        return ExactBoundary(
            name,
            self.exposures.n,
            float(p_value),
            self.exposures.scale,
            noise,
            self.first,
            excess[:, 0],
            excess[:, 1:].astype(np.float32),
        )


def make_surfaces(prior, exposures, lowest, statistics):
    """Return `Surfaces` of statistics by name; 1 or 2 ``lowest`` make the reference."""
    first = round(_FAINTEST / STEP)
    n_rows = round(prior.nodes[-1] / STEP) - first
    kernel, exceeding = exposures.densities(
        prior, (first, n_rows), lowest, list(statistics.values())
    )
    used = np.flatnonzero(kernel > 0)
    begin, end = int(used[0]), int(used[-1]) + 1
    return Surfaces(
        exposures,
        first + begin,
        kernel[begin:end],
        {
            name: density[begin:end]
            for name, density in zip(statistics, exceeding, strict=True)
        },
    )
