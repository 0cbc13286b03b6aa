# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How far matched exposures are from each other, and the limits."""

import numpy as np
from scipy.special import ndtr

from ccdcr._viewed import view
from ccdcr.detection.matched.explain import deviations
from ccdcr.plotting._style import (
    counts_norm,
    draw_counts,
    figure_of,
    legend_below,
    line_style,
)

__all__ = ["plot_deviations"]

_CELLS = 100, 115
_LOWEST, _HIGHEST = -8.0, 15.0  # sigma
_PART = 0.0005  # of the pixels beyond either end of x
_LIMITS = {
    "high": "ma_high: hit",
    "again": "ma_again: hit, if another exposure is",
    "low": "ma_low: hit, if joined to one",
}


def plot_deviations(masks, ccds, *, fig=None):
    """
    Draw how far each matched exposure is from the mean of the others.

    Parameters
    ----------
    masks : `~ccdcr.CRMaskSet`
        Masks of matched exposures as `~ccdcr.detect_cosmic_rays` returns them.
    ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        The exposures, in the order of the masks.
    fig : `~matplotlib.figure.Figure`, optional
        Figure to draw on. Default is a new one, without a window.

    Returns
    -------
    artists : dict
        ``expected`` and ``observed`` are the 2D histograms (a
        `~matplotlib.collections.QuadMesh` each), ``limits`` the lines in the two
        panels.

    Raises
    ------
    ValueError
        If the masks do not say how exposures were matched: diagnostics are not in
        their file; or if masks and exposures do not fit.

    Notes
    -----
    The exposures are matched again, which takes as long as the detection. On the left
    is the normal distribution, in the numbers of pixels that there are at each
    signal. On the right the body should be the same: a wider one says that gain or
    read noise are too low, or that more mismatch is left than was measured. What is
    above the limits is hit; the lower half shows what is no cosmic ray.

    Examples
    --------
    >>> from ccdcr import detect_cosmic_rays
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures((100, 120), seed=1)
    >>> masks = detect_cosmic_rays(
    ...     sim.exposures, gain="GAIN", readnoise="RDNOISE"
    ... )
    >>> from ccdcr.plotting import plot_deviations
    >>> artists = plot_deviations(masks, sim.exposures)
    >>> sorted(artists)
    ['expected', 'limits', 'observed']
    """
    viewed = view(masks, ccds)
    level, z = deviations(viewed)
    observed, x_edges, y_edges = _histogram(level, z)
    shares = np.diff(ndtr(y_edges))
    expected = _numbers(level, z, x_edges)[:, np.newaxis] * shares
    fig = figure_of(fig, (11, 5.6))
    axes = fig.subplots(1, 2, sharex=True, sharey=True)
    norm = counts_norm(expected, observed)
    pairs = {"expected": expected, "observed": observed}
    artists = {"limits": []}
    for ax, (name, counts) in zip(axes, pairs.items(), strict=True):
        artists[name] = draw_counts(ax, x_edges, y_edges, counts, norm)
        artists["limits"] += _draw_limits(ax, viewed.requirements)
        ax.set_xlabel(f"clean signal ({viewed.unit})")
    axes[0].set_title("expected from the noise")
    axes[1].set_title("observed")
    axes[0].set_ylabel("exposure \N{MINUS SIGN} mean of the others (sigma)")
    fig.colorbar(artists["observed"], ax=axes, label="pixels per cell", pad=0.02)
    fig.suptitle("deviations of the matched exposures, all of them")
    legend_below(fig, artists["limits"][: len(_LIMITS)])
    return artists


def _histogram(level, z):
    """Return the numbers of pixels by level and deviation, and the edges."""
    low, high = np.quantile(level, [_PART, 1 - _PART])
    x_edges = np.linspace(low, max(high, low + 1), _CELLS[0] + 1)
    y_edges = np.linspace(_LOWEST, _HIGHEST, _CELLS[1] + 1)
    edges = [x_edges, y_edges]
    counts = [
        np.histogram2d(level[known], plane[known], edges)[0]
        for plane in z
        for known in [np.isfinite(plane)]
    ]
    return np.sum(counts, axis=0), x_edges, y_edges


def _numbers(level, z, x_edges):
    """Return how many deviations are known at each level."""
    return sum(np.histogram(level[np.isfinite(plane)], x_edges)[0] for plane in z)


def _draw_limits(ax, requirements):
    lines = []
    for i, (name, meaning) in enumerate(_LIMITS.items()):
        value = getattr(requirements, f"ma_{name}")
        color, dashes, _ = line_style(i + 1)
        label = f"{value:g} sigma, {meaning}"
        lines.append(ax.axhline(value, color=color, ls=dashes, lw=1.5, label=label))
    return lines
