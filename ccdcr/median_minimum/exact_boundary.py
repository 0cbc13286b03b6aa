# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Median-Minimum boundary computed from the noise, and a check of the noise model."""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from ccdcr.median_minimum.noise_distribution import STEP, PhotonNoise
from ccdcr.utils.stacks import has_smooth_noise, is_off

__all__ = [
    "ExactBoundary",
    "NoiseReport",
    "invert",
    "judge_noise_model",
    "likeliest_cause",
]

# Levels of sqrt(-ln p) at which the p-value surface is kept.
LEVELS = 0.2 * np.arange(1, 36)


@dataclass(frozen=True)
class ExactBoundary:
    """
    Boundary that noise exceeds with a given probability.

    Called with the low reference of pixels, (ny, nx) in the unit of the data, it
    returns the excess that a fraction ``p_value`` of clean pixels exceeds.

    Parameters
    ----------
    statistic : str
        Statistic that is compared with the low reference, such as ``median``.
    n_exposures : int
        Number of exposures.
    p_value : float
        Probability that a clean pixel lies above the boundary.
    scale : float
        Electrons per unit of the data.
    noise : `~ccdcr.median_minimum.noise_distribution.PhotonNoise`
        The noise.
    first : int
        First point of the grid of x.
    excess : 1D `~numpy.ndarray`
        The boundary on the grid, in standard deviations of a signal x.
    surface : 2D `~numpy.ndarray`
        Excess at the levels of sqrt(-ln p), (grid, levels), in the same unit.
    fewer : tuple of `ExactBoundary`, optional
        Boundaries for fewer good exposures.

    Notes
    -----
    Linear in the coordinate of `PhotonNoise`. Below the grid x + y is constant,
    above it y grows like the noise.
    """

    statistic: str
    n_exposures: int
    p_value: float
    scale: float
    noise: PhotonNoise
    first: int
    excess: np.ndarray
    surface: np.ndarray
    fewer: tuple = ()

    def __call__(self, x):
        """Return the boundary at x as float32."""
        place, deviation, below = self._places(x)
        y = _at(place, self.excess) * deviation / self.scale
        return (y + below).astype(np.float32)

    def survival(self, x, y):
        """
        Return the probability that a clean pixel lies above points of the diagram.

        Parameters
        ----------
        x, y : `~numpy.ndarray` or float
            Low reference, and excess of the statistic over it, in the unit of
            the data.

        Returns
        -------
        p : `~numpy.ndarray`
            The p-values; smaller ones are 5e-22.
        """
        place, deviation, below = self._places(x)
        wanted = (np.asarray(y) - below) * self.scale / deviation
        level = np.zeros(np.broadcast(place, wanted).shape)
        lower = np.zeros_like(level)
        for column in self.surface.T:
            upper = _at(place, column)
            step = (wanted - lower) / np.maximum(upper - lower, 1e-12)
            level += np.clip(step, 0, 1) * LEVELS[0]
            lower = upper
        return np.exp(-(level**2))

    def at_level(self, x, index):
        """
        Return the excess at x for one level of the surface.

        Parameters
        ----------
        x : array_like
            Low reference, in the unit of the data.
        index : int
            Index of the level.

        Returns
        -------
        y : `~numpy.ndarray`
            The excess over x, of its shape.
        """
        place, deviation, below = self._places(x)
        y = _at(place, self.surface[:, index])
        return y * deviation / self.scale + below

    @property
    def x(self):
        """Low reference at the support points, in the unit of the data."""
        grid = STEP * (self.first + np.arange(len(self.excess)))
        return self.noise.signal(grid) / self.scale

    @property
    def y(self):
        """The boundary at the support points, in the unit of the data."""
        signal = self.x * self.scale
        return self.excess * self.noise.deviation(signal) / self.scale

    @property
    def table(self):
        """The support points as a `~astropy.table.Table`."""
        return Table({"x": self.x, "y": self.y})

    def plot(self, ax=None, **kwargs):
        """
        Draw the boundary.

        Parameters
        ----------
        ax : `~matplotlib.axes.Axes`, optional
            Where it is drawn. Default is the current axes.
        **kwargs
            Arguments of `~matplotlib.axes.Axes.plot`.

        Returns
        -------
        line : `~matplotlib.lines.Line2D`
            The line.
        """
        if ax is None:
            import matplotlib.pyplot as plt  # noqa: PLC0415

            ax = plt.gca()
        kwargs = {"label": f"{self.statistic}, p = {self.p_value:.1e}", **kwargs}
        (line,) = ax.plot(self.x, self.y, **kwargs)
        return line

    def __repr__(self):
        return (
            f"<ExactBoundary({self.statistic} of {self.n_exposures}, "
            f"p = {self.p_value:.2e}, x = {self.x[0]:.4g} to {self.x[-1]:.4g})>"
        )

    def _places(self, x):
        """Return grid positions, deviations (electron) and gain of y below the grid."""
        signal = np.multiply(x, self.scale, dtype=float)
        lowest = self.noise.signal(STEP * self.first)
        inside = np.maximum(signal, lowest)
        place = self.noise.coordinate(inside) / STEP - self.first
        below = (inside - signal) / self.scale
        return place, self.noise.deviation(inside), below


def _at(place, values):
    """Interpolate linearly on the even grid, which is faster than `numpy.interp`."""
    last = len(values) - 1
    place = np.clip(place, 0, last)
    below = np.minimum(place.astype(np.intp), max(last - 1, 0))
    slope = np.diff(values, append=values[-1])
    return values[below] + (place - below) * slope[below]


def invert(kernel, exceeding, noise, first, levels):
    """Return the excess in sigma, (grid, levels), where sqrt(-ln p) is each level."""
    p = exceeding / kernel[:, np.newaxis]
    depth = np.sqrt(-np.log(np.clip(p, 1e-300, 1)))
    depth = np.maximum.accumulate(depth, axis=1)
    rows, columns = depth.shape
    signal = noise.signal(STEP * (first + np.arange(rows + columns)))
    ahead = np.arange(rows)[:, np.newaxis] + np.arange(columns)
    y = (signal[ahead] - signal[:rows, np.newaxis]) / noise.deviation(
        signal[:rows, np.newaxis]
    )
    excess = np.empty((rows, len(levels)))
    i = np.arange(rows)
    for k, level in enumerate(levels):
        upper = np.clip(np.sum(depth < level, axis=1), 1, columns - 1)
        d0, d1 = depth[i, upper - 1], depth[i, upper]
        part = np.clip((level - d0) / np.maximum(d1 - d0, 1e-12), 0, 1)
        excess[:, k] = y[i, upper - 1] + part * (y[i, upper] - y[i, upper - 1])
    return excess


def likeliest_cause(levels, gain, readnoise, *, equivalent=False):
    """
    Return the error that explains the noise best: readnoise, gain or equivalence.

    None if the noise is off by less than 20 %. ``levels`` holds, by signal ``x``, the
    observed ``noise`` in units of the model's.
    """
    noise = np.asarray(levels["noise"], dtype=float)
    signal = np.maximum(np.asarray(levels["x"], dtype=float) * gain, 0)
    variance = signal + readnoise**2
    if not (is_off(noise) & has_smooth_noise(signal, readnoise)).any():
        return None
    causes = {"readnoise": readnoise**2 / variance, "gain": signal / variance}
    if not equivalent:
        causes["equivalence"] = signal**2 / variance
    excess, left = noise**2 - 1, {}
    for cause, shape in causes.items():
        size = (shape @ excess) / max(shape @ shape, 1e-300)
        if cause == "equivalence":
            size = max(size, 0)
        left[cause] = np.sum((excess - size * shape) ** 2)
    return min(left, key=left.get)


_SAMPLE = 1 << 17
_LEAST = 1000  # pixels of a bin
_BINS = 12
_LEVEL = 3  # of the surface, p = 0.53
_IRRATIONAL = (0.7548776662466927, 0.5698402909980532)  # spread points evenly


@dataclass(frozen=True)
class NoiseReport:
    """
    Report on the agreement of the exposures with the noise model.

    Parameters
    ----------
    chi2 : float
        Pearson's chi-squared of the deconvolution, per cell of the histogram of the
        minimum.
    expected, observed : float, int
        Pixels above the boundary of MEDIANCR: explained by noise, and counted.
    hit_fraction : float
        Fraction of the pixels that is hit in each exposure.
    levels : `~astropy.table.Table`
        By signal ``x``: number of ``pixels``, and observed ``noise`` in units of
        the model's.
    likeliest : {'readnoise', 'gain', 'equivalence'} or None
        The most likely cause if the noise is off by more than 20 %.
    """

    chi2: float
    expected: float
    observed: int
    hit_fraction: float
    levels: Table
    likeliest: str | None


def judge_noise_model(scene, median):
    """Return the `NoiseReport` of a scene; ``median`` is the criterion of MEDIANCR."""
    boundary = median.boundary
    x, y = _sample(median.reference, median.statistic, scene.use, scene.step)
    levels = _noise_levels(x, y, boundary)
    above = median.statistic > median.limit
    return NoiseReport(
        scene.prior.chi2,
        boundary.p_value * scene.n_pixels,
        int(np.count_nonzero(above if scene.use is None else above & scene.use)),
        scene.exposures.hit,
        levels,
        likeliest_cause(levels, boundary.scale, boundary.noise.readnoise),
    )


def _sample(reference, statistic, use, step):
    """Return x and y of a sample of pixels; rounded values are spread evenly."""
    if use is not None:
        reference, statistic = reference[use], statistic[use]
    stride = -(-reference.size // _SAMPLE)
    x, top = reference.ravel()[::stride], statistic.ravel()[::stride]
    if step:
        i = np.arange(len(x))
        x = x + step * (i * _IRRATIONAL[0] % 1 - 0.5)
        top = top + step * (i * _IRRATIONAL[1] % 1 - 0.5)
    return x, top - x


def _noise_levels(x, y, boundary):
    """Return observed over expected noise by signal, from a quantile robust to hits."""
    p = np.exp(-(LEVELS[_LEVEL] ** 2))
    expected = np.maximum(boundary.at_level(x, _LEVEL), 1e-30)
    order = np.argsort(x, kind="stable")
    n_bins = min(_BINS, len(x) // _LEAST)
    rows = []
    for part in np.array_split(order, n_bins) if n_bins else []:
        ratio = np.quantile(y[part] / expected[part], 1 - p)
        rows.append((np.median(x[part]), len(part), ratio))
    columns = zip(*rows, strict=True) if rows else ([], [], [])
    return Table(dict(zip(("x", "pixels", "noise"), columns, strict=True)))
