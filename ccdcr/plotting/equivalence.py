# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The figure of the report on equivalence."""

import numpy as np

from ccdcr.equivalence import TERMS

__all__ = ["plot_equivalence"]

_LABELS = {
    "flux": "flux",
    "shift_x": "shift in x (pixel)",
    "shift_y": "shift in y (pixel)",
    "seeing": "seeing (pixel$^2$)",
    "background": "background",
}


def plot_equivalence(report, *, fig=None):
    """
    Draw Q / Q0 by level of structure, and maps of the terms of each exposure.

    Parameters
    ----------
    report : `~ccdcr.Equivalence`
        The report.
    fig : `~matplotlib.figure.Figure`, optional
        Figure to draw on. Default is a new one.

    Returns
    -------
    fig : `~matplotlib.figure.Figure`
        The figure.
    """
    from matplotlib.figure import Figure

    number = len(report.terms)
    if fig is None:
        fig = Figure(figsize=(11, 3 + 1.9 * number), layout="constrained")
    top, bottom = fig.subfigures(2, 1, height_ratios=(3, 1.9 * number))
    _draw_levels(report, top.subplots())
    axes = bottom.subplots(number, len(TERMS), sharex=True, sharey=True, squeeze=False)
    for name, column in zip(TERMS, axes.T, strict=True):
        _draw_maps(report, name, column, bottom)
    for number_, ax in enumerate(axes[:, 0], start=1):
        ax.set_ylabel(f"exposure {number_}")
    return fig


def _draw_levels(report, ax):
    levels = report.levels
    for column, marker in (("before", "o"), ("after", "s")):
        ax.plot(levels["level"], levels[column], marker, ls="-", label=column)
    ax.axhline(1, color="gray", lw=0.8)
    ax.set(
        xscale="log",
        xlabel="level of structure (units of the noise)",
        ylabel="Q / Q0",
        title="1 = equivalent",
    )
    ax.legend(title="matching")


def _draw_maps(report, name, axes, fig):
    maps = report.maps[name]
    centre = 1.0 if name == "flux" else 0.0
    size = max(np.abs(maps - centre).max(), 1e-6)
    x, y = (np.unique(report.tiles[axis]) for axis in ("x", "y"))
    extent = (0.5, x[0] + x[-1] - 0.5, 0.5, y[0] + y[-1] - 0.5)
    for ax, plane in zip(axes, maps, strict=True):
        artist = ax.imshow(
            plane,
            origin="lower",
            extent=extent,
            cmap="RdBu_r",
            vmin=centre - size,
            vmax=centre + size,
            aspect="auto",
        )
    axes[0].set_title(_LABELS[name], fontsize="medium")
    fig.colorbar(artist, ax=list(axes), location="bottom", shrink=0.9)
