# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How well the noise model describes the exposures."""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from ccdcr.detection.exact.boundary import LEVELS
from ccdcr.detection.noise_warning import likeliest_cause

__all__ = ["NoiseReport", "judge_noise_model"]

_SAMPLE = 1 << 17
_LEAST = 1000  # pixels of a bin
_BINS = 12
_LEVEL = 3  # of the surface, p = 0.53
_IRRATIONAL = (0.7548776662466927, 0.5698402909980532)  # spread points evenly


@dataclass(frozen=True)
class NoiseReport:
    """
    How well the noise model describes the exposures.

    Parameters
    ----------
    chi2 : float
        Pearson's, per cell of the histogram of the minimum, of the deconvolution.
    expected, observed : float, int
        Pixels above the boundary of MEDIANCR that noise explains, and all.
    hit_fraction : float
        Fraction of the pixels that is hit in each exposure.
    levels : `~astropy.table.Table`
        By signal ``x``: number of ``pixels``, and observed ``noise`` in units of
        the model's.
    likeliest : {'readnoise', 'gain', 'equivalence'} or None
        What is likeliest wrong if the noise is off by more than 20 %.
    """

    chi2: float
    expected: float
    observed: int
    hit_fraction: float
    levels: Table
    likeliest: str | None


def judge_noise_model(scene, median):
    """
    Compare the observed noise with the model.

    Parameters
    ----------
    scene : object
        With ``use``, ``exposures``, ``prior``, ``n_pixels`` and ``step``, that of
        rounded values.
    median : `~ccdcr.detection.criterion.Criterion`
        The criterion of MEDIANCR.

    Returns
    -------
    report : `NoiseReport`
        The findings.
    """
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
    """Return x and y of every so many pixels; rounded values are spread evenly."""
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
    """Compare a quantile that hits hardly change with what is expected."""
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
