# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How far matched exposures are from each other, and the limits."""

import numpy as np
from scipy.special import ndtr

from ccdcr.plotting._style import (
    counts_norm,
    draw_counts,
    figure_of,
    legend_below,
    line_style,
)

__all__ = ["plot_deviations"]

_LIMITS = {
    "high": "ma_high: hit",
    "low": "ma_low: hit, if joined to one",
}


def plot_deviations(masks, *, unit="adu", fig=None):
    """
    Draw how far each matched exposure is from the mean of the others.

    Parameters
    ----------
    masks : `~ccdcr.CRMaskSet`
        Masks of matched exposures as `~ccdcr.detect_cosmic_rays` returns them.
    unit : str or `~astropy.units.UnitBase`, optional
        Unit of the exposures, for the labels. Default is adu.
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
        If the masks hold no deviations: diagnostics are not in their file.

    Notes
    -----
    On the left is the normal distribution, in the numbers of pixels that there are at
    each signal. On the right are the exposures; of large ones some of the rows. The
    body should be the same: a wider one says that gain or read noise are too low,
    or that more mismatch is left than was measured. What is above the limits is hit;
    the lower half shows what is no cosmic ray.

    Examples
    --------
    >>> from ccdcr import detect_cosmic_rays
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures((100, 120), seed=1)
    >>> masks = detect_cosmic_rays(
    ...     sim.exposures, gain="GAIN", readnoise="RDNOISE"
    ... )
    >>> from ccdcr.plotting import plot_deviations
    >>> artists = plot_deviations(masks)
    >>> sorted(artists)
    ['expected', 'limits', 'observed']
    """
    found = _deviations_of(masks)
    expected = found.number[:, np.newaxis] * np.diff(ndtr(found.y))
    fig = figure_of(fig, (11, 5.6))
    axes = fig.subplots(1, 2, sharex=True, sharey=True)
    norm = counts_norm(expected, found.counts)
    pairs = {"expected": expected, "observed": found.counts}
    artists = {"limits": []}
    for ax, (name, counts) in zip(axes, pairs.items(), strict=True):
        artists[name] = draw_counts(ax, found.x, found.y, counts, norm)
        artists["limits"] += _draw_limits(ax, masks.requirements)
        ax.set_xlabel(f"clean signal ({unit})")
    axes[0].set_title("expected from the noise")
    axes[1].set_title("observed")
    axes[0].set_ylabel("exposure \N{MINUS SIGN} mean of the others (sigma)")
    fig.colorbar(artists["observed"], ax=axes, label="pixels per cell", pad=0.02)
    part = "" if found.step == 1 else f", one row of {found.step}"
    fig.suptitle(f"deviations of the matched exposures{part}")
    legend_below(fig, artists["limits"][: len(_LIMITS)])
    return artists


def _deviations_of(masks):
    matching = masks.diagnostics.matching
    if matching is None:
        msg = (
            "the masks hold no deviations of matched exposures: diagnostics are not in "
            "the file, and only crmethods with matched have them: detect again"
        )
        raise ValueError(msg)
    return matching.deviations


def _draw_limits(ax, requirements):
    lines = []
    for i, (name, meaning) in enumerate(_LIMITS.items()):
        value = getattr(requirements, f"ma_{name}")
        color, dashes, _ = line_style(i + 1)
        label = f"{value:g} sigma, {meaning}"
        lines.append(ax.axhline(value, color=color, ls=dashes, lw=1.5, label=label))
    return lines
