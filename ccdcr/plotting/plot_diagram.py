# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figure of the Median-Minimum diagram with its boundary."""

import numpy as np

from ccdcr.median_minimum.exact_boundary import ExactBoundary
from ccdcr.median_minimum.simulated_boundary import SplineBoundary
from ccdcr.plotting.figure_style import (
    counts_norm,
    draw_counts,
    get_figure,
    legend_below,
)

__all__ = ["plot_boundary", "plot_diagram"]

_SUBJECTS = {"MEDIANCR": "median", "MEANCRT": "mean", "MEANCR": "mean without hits"}
_STEPS = 400


def plot_diagram(masks, name="MEDIANCR", *, unit="adu", fig=None):
    """
    Draw the Median-Minimum diagram of a mask, with its boundary.

    Parameters
    ----------
    masks : `~ccdcr.CRMaskSet`
        Masks as `~ccdcr.detect_cosmic_rays` returns them.
    name : str, optional
        Name of the mask. Default is ``'MEDIANCR'``.
    unit : str or `~astropy.units.UnitBase`, optional
        Unit of the exposures, for the labels. Default is adu.
    fig : `~matplotlib.figure.Figure`, optional
        Figure to draw on. Default is a new one, without a window.

    Returns
    -------
    figure : `~matplotlib.figure.Figure`
        The new figure; on a given ``fig``, the artists instead.
    artists : dict
        ``simulated`` and ``observed`` are the 2D histograms (a
        `~matplotlib.collections.QuadMesh` each), the others are lists of lines in
        the two panels: ``boundary``, and for a spline ``points`` (where one
        simulated pixel is left above), ``fits`` (all iterations but the last) and
        ``fixed`` (the points that pin it).

    Raises
    ------
    ValueError
        If the masks have no diagram, such as masks from a file.

    Notes
    -----
    The left panel shows the numbers of pixels that noise alone would cause, computed
    (for the exact boundary) or simulated. The right panel shows the exposures. Points
    above the boundary are cosmic rays.

    Examples
    --------
    >>> from ccdcr import detect_cosmic_rays
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures((100, 120), seed=1)
    >>> masks = detect_cosmic_rays(
    ...     sim.exposures,
    ...     gain="GAIN",
    ...     readnoise="RDNOISE",
    ...     crmethod="mmcosmic",
    ... )
    >>> from ccdcr.plotting import plot_diagram
    >>> figure = plot_diagram(masks, "MEANCRT")
    >>> [ax.get_title() for ax in figure.axes[:2]]
    ['expected from the noise', 'observed']
    """
    diagram, boundary = _find_diagram(masks, name)
    figure = get_figure(fig, (11, 5.2))
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    left = diagram.simulated / diagram.n_simulations
    norm = counts_norm(left, diagram.observed)
    exact = isinstance(boundary, ExactBoundary)
    titles = ("expected from the noise" if exact else "simulated", "observed")
    meshes = [
        draw_counts(ax, diagram.x_edges, diagram.y_edges, counts, norm)
        for ax, counts in zip(axes, (left, diagram.observed), strict=True)
    ]
    lines = {}
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title)
        ax.set_xlabel(_x_label(masks, name, unit))
        for kind, drawn in _draw_boundary(ax, boundary, masks, diagram).items():
            lines.setdefault(kind, []).extend(drawn)
        ax.set_xlim(diagram.x_edges[[0, -1]])
        ax.set_ylim(diagram.y_edges[[0, -1]])
    axes[0].set_ylabel(_y_label(masks, name, unit))
    figure.colorbar(meshes[0], ax=axes, label="pixels per cell", pad=0.02)
    figure.suptitle(f"Median-Minimum diagram of {name}")
    handles = [ax_lines[0] for ax_lines in lines.values() if ax_lines]
    legend_below(figure, handles)
    artists = {"simulated": meshes[0], "observed": meshes[1], **lines}
    return figure if fig is None else artists


def plot_boundary(boundary, *, limits=None, ax, **kwargs):
    """
    Draw a boundary of the Median-Minimum diagram.

    Parameters
    ----------
    boundary : callable
        One of ``masks.diagnostics.boundaries``.
    limits : tuple of float, optional
        Range of x. Default is the range in which the boundary is valid.
    ax : `~matplotlib.axes.Axes`
        Axes to draw on.
    **kwargs
        Arguments of `~matplotlib.axes.Axes.plot`.

    Returns
    -------
    line : `~matplotlib.lines.Line2D`
        The line.

    Examples
    --------
    >>> import numpy as np
    >>> from ccdcr.plotting import plot_boundary
    >>> from matplotlib.figure import Figure
    >>> line = plot_boundary(np.sqrt, limits=(0, 100), ax=Figure().subplots())
    >>> float(line.get_ydata()[-1])
    10.0
    """
    if limits is None:
        inside = getattr(boundary, "limits", None)
        limits = inside or (float(boundary.x[0]), float(boundary.x[-1]))
    x = np.linspace(*limits, _STEPS)
    (line,) = ax.plot(x, boundary(x), **({"label": "boundary"} | kwargs))
    return line


def _find_diagram(masks, name):
    diagrams = masks.diagnostics.diagrams
    diagram = diagrams.get(name)
    boundary = masks.diagnostics.boundaries.get(name)
    if diagram is None or boundary is None:
        have = ", ".join(diagrams) or "none"
        msg = (
            f"the masks hold no Median-Minimum diagram of {name} (of: {have}); "
            "diagnostics are not in the file, and only crmethods with mm have a "
            "diagram: detect again"
        )
        raise ValueError(msg)
    return diagram, boundary


def _is_mean(masks, name):
    """Return whether the low reference is the mean of the lowest exposures."""
    requirements = masks.requirements
    sought = len(masks) - 1 if requirements is None else requirements.mm_cr_coincidences
    return name == "MEDIANCR" and sought < len(masks) - 1


def _x_label(masks, name, unit):
    what = "mean of the lowest" if _is_mean(masks, name) else "minimum over the"
    return f"{what} exposures ({unit})"


def _y_label(masks, name, unit):
    exact = masks.requirements is None or masks.requirements.mm_boundary_fit == "exact"
    subject = _SUBJECTS.get(name, "exposure")
    if exact and name == "MEANCRT":
        subject = "highest exposure"
    low = "mean of the lowest" if _is_mean(masks, name) else "minimum"
    return f"{subject} \N{MINUS SIGN} {low} ({unit})"


def _draw_boundary(ax, boundary, masks, diagram):
    """Draw the boundary with its points and iterations; return lines by kind."""
    limits = diagram.x_edges[[0, -1]]
    lines = {}
    if isinstance(boundary, SplineBoundary):
        lines["points"] = ax.plot(
            boundary.x,
            boundary.y,
            "o",
            mfc="white",
            mec="black",
            ms=3.5,
            mew=0.7,
            label="one simulated pixel above",
        )
        lines["fits"] = _draw_iterations(ax, boundary)
    kwargs = {"color": "#D55E00", "lw": 2, "label": "boundary"}
    if isinstance(boundary, ExactBoundary):
        kwargs["label"] = f"boundary, chance {boundary.p_value:.1e} per pixel"
    lines["boundary"] = [plot_boundary(boundary, limits=limits, ax=ax, **kwargs)]
    fixed = _fixed_points(boundary, masks)
    if len(fixed):
        x, y = fixed.T
        style = {"mfc": "#CC79A7", "mec": "black", "ms": 8, "clip_on": False}
        lines["fixed"] = ax.plot(x, y, "D", label="fixed points", **style)
    return lines


def _draw_iterations(ax, boundary):
    x = np.linspace(*boundary.limits, _STEPS)
    noise = np.sqrt(np.maximum(x * boundary.gain, 0) + max(boundary.readnoise**2, 1e-6))
    n = len(boundary.fits) - 1
    return [
        ax.plot(
            x,
            fit(noise),
            color="#56B4E9",
            lw=1.2,
            ls=(0, (4, 1 + i)),
            label="earlier iterations",
        )[0]
        for i, fit in zip(range(n), boundary.fits, strict=False)
    ]


def _fixed_points(boundary, masks):
    requirements = masks.requirements
    if isinstance(boundary, ExactBoundary) or requirements is None:
        return np.empty((0, 2))
    points = requirements.mm_fixed_points_in_boundary or ()
    return np.array([point[:2] for point in points]).reshape(-1, 2)
