# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The figure of the report on equivalence."""

import numpy as np

from ccdcr.equivalence import TERMS, Equivalence
from ccdcr.maskset import CRMaskSet
from ccdcr.plotting._style import figure_of, line_style

__all__ = ["plot_equivalence", "size_of"]

_LABELS = {
    "flux": "flux",
    "shift_x": "shift in x (pixel)",
    "shift_y": "shift in y (pixel)",
    "seeing": "seeing (pixel$^2$)",
    "background": "background",
}
_WIDTH, _LEVELS, _MAPS = 11, 3.2, 1.9  # inches


def plot_equivalence(equivalence, *, unit=None, fig=None):
    """
    Draw Q / Q0 by level of structure, and maps of the terms of each exposure.

    Parameters
    ----------
    equivalence : `~ccdcr.Equivalence`
        The report of `~ccdcr.check_equivalence`, or ``masks.equivalence``.
    unit : str or `~astropy.units.UnitBase`, optional
        Unit of the exposures, for the label of the background.
    fig : `~matplotlib.figure.Figure`, optional
        Figure to draw on. Default is a new one, without a window.

    Returns
    -------
    artists : dict of list
        ``levels`` are the lines before and after matching, the other ones the
        maps of each term (`~matplotlib.image.AxesImage`), one per exposure.

    Raises
    ------
    TypeError
        If ``equivalence`` is something else, such as a mask set.

    Examples
    --------
    >>> from ccdcr import check_equivalence
    >>> from ccdcr.plotting import plot_equivalence
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures((100, 120), seed=1)
    >>> report = check_equivalence(
    ...     sim.exposures, gain="GAIN", readnoise="RDNOISE"
    ... )
    >>> len(plot_equivalence(report)["flux"])
    3
    """
    _check(equivalence)
    number = len(equivalence.terms)
    fig = figure_of(fig, size_of(number))
    top, bottom = fig.subfigures(2, 1, height_ratios=(_LEVELS, _MAPS * number + 0.8))
    artists = {"levels": _draw_levels(equivalence, top.subplots())}
    axes = bottom.subplots(number, len(TERMS), sharex=True, sharey=True, squeeze=False)
    for name, column in zip(TERMS, axes.T, strict=True):
        artists[name] = _draw_maps(equivalence, name, column, bottom)
    if unit is not None:
        axes[0, -1].set_title(f"background ({unit})", fontsize="medium")
    for number_, ax in enumerate(axes[:, 0], start=1):
        ax.set_ylabel(f"exposure {number_}\ny (pixel)")
    for ax in axes[-1]:
        ax.set_xlabel("x (pixel)")
    return artists


def _check(equivalence):
    if not isinstance(equivalence, Equivalence):
        is_mask_set = isinstance(equivalence, CRMaskSet)
        remedy = "; pass masks.equivalence" if is_mask_set else ""
        msg = (
            "equivalence must be an Equivalence, "
            f"got {type(equivalence).__name__}{remedy}"
        )
        raise TypeError(msg)


def size_of(number):
    """Return the size in inches of the figure of some exposures."""
    return _WIDTH, _LEVELS + _MAPS * number + 0.8


def _draw_levels(equivalence, ax):
    levels = equivalence.levels
    lines = []
    for i, column in enumerate(("before", "after")):
        color, _, marker = line_style(1 - i)
        style = {"marker": marker, "color": color, "label": column}
        lines += ax.plot(levels["level"], levels[column], **style)
    ax.axhline(1, color="gray", lw=0.8)
    ax.set(
        xscale="log",
        xlabel="level of structure (units of the noise)",
        ylabel="Q / Q0",
        title="how far exposures are below the others on structure; 1 = equivalent",
    )
    ax.legend(title="matching")
    return lines


def _draw_maps(equivalence, name, axes, fig):
    from matplotlib.ticker import MaxNLocator

    maps = equivalence.maps[name]
    centre = 1.0 if name == "flux" else 0.0
    size = max(np.abs(maps - centre).max(), 1e-6)
    x, y = (np.unique(equivalence.tiles[axis]) for axis in ("x", "y"))
    extent = (0.5, x[0] + x[-1] - 0.5, 0.5, y[0] + y[-1] - 0.5)
    style = {"origin": "lower", "extent": extent, "aspect": "auto", "cmap": "RdBu_r"}
    limits = {"vmin": centre - size, "vmax": centre + size}
    artists = [
        ax.imshow(plane, **style, **limits)
        for ax, plane in zip(axes, maps, strict=True)
    ]
    axes[0].set_title(_LABELS[name], fontsize="medium")
    bar = fig.colorbar(artists[0], ax=list(axes), location="bottom", shrink=0.9)
    bar.locator = MaxNLocator(3)
    return artists
