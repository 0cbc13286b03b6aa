# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures of masked pixels by detector, and of deviations."""

import numpy as np
from scipy.special import ndtr

from ccdcr.inspection.inspected import Inspection
from ccdcr.plotting.figure_style import (
    CLASSES,
    counts_norm,
    draw_counts,
    get_extent,
    get_figure,
    image_norm,
    legend_below,
    line_style,
    nearest_point,
)
from ccdcr.plotting.plot_diagram import plot_boundary
from ccdcr.utils.neighbours import dilate

__all__ = ["plot_detections", "plot_deviations", "plot_masks"]

_REACH = 15  # screen pixels within which a click finds a point
_WIDEST = 1000  # pixels of an image in which single ones are seen


def plot_detections(ccds, masks, name="MEDIANCR", *, color_scale=None, fig=None):
    """
    Draw the masked pixels in the diagram and in the image, by detector.

    In a window, a click on a pixel in either panel marks it in both.

    Parameters
    ----------
    ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        The exposures or their files, in the order of the masks.
    masks : `~ccdcr.CRMaskSet`, str or `~pathlib.Path`
        The masks or their file.
    name : str, optional
        Name of the mask. Default is ``'MEDIANCR'``.
    color_scale : {'zscale', 'minmax'}, optional
        Limits of the grey scale. Default is that of the requirements.
    fig : `~matplotlib.figure.Figure`, optional
        Figure to draw on. Default is a new one, without a window.

    Returns
    -------
    figure : `~matplotlib.figure.Figure`
        The new figure; on a given ``fig``, the artists instead.
    artists : dict
        ``diagram`` and ``image`` are dicts of lines by class: ``both detectors``,
        ``single image only``, ``comparison only``, ``dilation only``, ``your
        list`` and, for masks from a file, ``detector not known``. ``selected``
        are the two marks of the pixel that was clicked.

    Raises
    ------
    TypeError
        If ``ccds`` or ``masks`` are something else, or swapped.
    ValueError
        If masks and exposures do not fit.

    Notes
    -----
    The line is the boundary of Median-Minimum or, for matched exposures, ``ma_high``
    times the noise of one exposure.

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
    >>> from ccdcr.plotting import plot_detections
    >>> figure = plot_detections(sim.exposures, masks)
    >>> [ax.get_title() for ax in figure.axes]
    ['in the diagram', 'in the median of the exposures']
    """
    inspection = Inspection.from_ccds(ccds, masks)
    figure = get_figure(fig, (11, 6.2))
    left, right = figure.subplots(1, 2)
    flags = inspection.flags(name)
    y, x = np.nonzero(flags)
    classes = flags[y, x]
    reference, statistic = (plane[y, x] for plane in inspection.statistic(name))
    artists = {
        "diagram": _scatter(left, reference, statistic - reference, classes),
        "image": _scatter(right, x + 1, y + 1, classes),
    }
    line = _draw_boundary(left, inspection, name, reference)
    _finish_diagram(left, inspection, line)
    _finish_image(right, inspection, color_scale)
    figure.suptitle(f"pixels of {name} by detector")
    handles = [*artists["image"].values(), *([line] if line else [])]
    if handles:
        legend_below(figure, handles, columns=3)
    points = [(left, reference, statistic - reference), (right, x + 1, y + 1)]
    artists["selected"] = _link(figure, points)
    return figure if fig is None else artists


def _scatter(ax, x, y, classes):
    artists = {}
    # Rare classes on top.
    for flag in reversed(CLASSES):
        label, color, marker = CLASSES[flag]
        here = classes == flag
        number = np.count_nonzero(here)
        if number == 0:
            continue
        (artists[label],) = ax.plot(
            x[here],
            y[here],
            ls="none",
            marker=marker,
            ms=5 if marker == "." else 4,
            mfc=color,
            mec="black",
            mew=0.3,
            label=f"{label} ({number})",
            rasterized=True,
        )
    order = [label for label, *_ in CLASSES.values()]
    return {label: artists[label] for label in order if label in artists}


def _draw_boundary(ax, inspection, name, reference):
    """Draw the boundary, or ma_high of matched exposures; return the line or None."""
    boundary = inspection.boundary(name)
    if not len(reference):
        return None
    limits = float(reference.min()), float(reference.max())
    style = {"color": "black", "lw": 1.5, "zorder": 3}
    if boundary is not None:
        return plot_boundary(boundary, limits=limits, ax=ax, **style)
    if not inspection.uses("matched") or inspection.detector is None:
        return None
    high = inspection.requirements.ma_high
    style |= {"ls": "--", "label": f"{high:g} sigma of the noise"}
    return plot_boundary(
        lambda x: high * inspection.compute_noise(x), limits=limits, ax=ax, **style
    )


def _finish_diagram(ax, inspection, line):
    """Let y be linear below the boundary and logarithmic above."""
    from matplotlib.ticker import ScalarFormatter, SymmetricalLogLocator

    linear = 1.0 if line is None else max(float(np.median(line.get_ydata())), 1e-3)
    ax.set_yscale("symlog", linthresh=linear)
    locator = SymmetricalLogLocator(base=10, linthresh=linear, subs=(1, 2, 5))
    locator.numticks = 12
    ax.yaxis.set_major_locator(locator)
    ax.yaxis.set_major_formatter(ScalarFormatter())
    ax.set_xlabel(f"low reference ({inspection.unit})")
    ax.set_ylabel(f"excess over the low reference ({inspection.unit})")
    ax.set_title("in the diagram")


def _finish_image(ax, inspection, color_scale):
    _draw_image(ax, inspection.planes.median, inspection, color_scale, alpha=0.6)
    ax.set(
        xlabel="x (pixel)", ylabel="y (pixel)", title="in the median of the exposures"
    )


def _draw_image(ax, image, inspection, color_scale, **kwargs):
    ny, nx = image.shape
    color_scale = color_scale or inspection.requirements.color_scale
    return ax.imshow(
        image,
        origin="lower",
        extent=get_extent(np.s_[0:ny, 0:nx]),
        cmap="gray",
        norm=image_norm([image], color_scale),
        aspect="equal" if 1 / 3 < ny / nx < 3 else "auto",
        zorder=0,
        **kwargs,
    )


def _link(fig, points):
    """Return marks (one per panel) that a click sets on its nearest pixel."""
    marks = [
        ax.plot([], [], "o", ms=14, mfc="none", mec="#009E73", mew=2.5)[0]
        for ax, *_ in points
    ]

    def select(event):
        if fig.canvas.widgetlock.locked():  # the toolbar zooms or pans
            return
        for ax, x, y in points:
            if event.inaxes is ax:
                nearest = nearest_point(event, np.column_stack([x, y]), _REACH)
                if nearest is None:
                    return
                for mark, (_, xs, ys) in zip(marks, points, strict=True):
                    mark.set_data([xs[nearest]], [ys[nearest]])
                fig.canvas.draw_idle()

    fig.canvas.mpl_connect("button_press_event", select)
    return marks


def plot_masks(ccds, masks, names=None, *, exposure=None, color_scale=None, ax=None):
    """
    Draw masks over the exposures, each in its own colour.

    Parameters
    ----------
    ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        The exposures or their files, in the order of the masks.
    masks : `~ccdcr.CRMaskSet`, str or `~pathlib.Path`
        The masks or their file.
    names : sequence of str, optional
        Names of the masks, later ones on top. Default is the mask of each exposure and
        ``'MEDIANCR'``; with ``exposure``, the mask of this one.
    exposure : int, optional
        Number of the exposure in the background, from 1. Default is the median of all
        exposures.
    color_scale : {'zscale', 'minmax'}, optional
        Limits of the grey scale. Default is that of the requirements.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw on. Default is those of a new figure without a window.

    Returns
    -------
    figure : `~matplotlib.figure.Figure`
        The new figure; on given ``ax``, the artists instead.
    artists : dict of `~matplotlib.image.AxesImage`
        ``image`` and the masks by name.

    Raises
    ------
    TypeError
        If ``ccds`` or ``masks`` are something else, or swapped.
    ValueError
        If masks and exposures do not fit, or if a name or number is unknown.

    Notes
    -----
    In images of more than 1000 pixels, single pixels are enlarged to be visible.

    Examples
    --------
    >>> from ccdcr import detect_cosmic_rays
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures((100, 120), seed=1)
    >>> masks = detect_cosmic_rays(
    ...     sim.exposures, gain="GAIN", readnoise="RDNOISE"
    ... )
    >>> from ccdcr.plotting import plot_masks
    >>> figure = plot_masks(sim.exposures, masks)
    >>> figure.axes[0].get_title()
    'masks over the median of the exposures'
    """
    from matplotlib.patches import Patch

    inspection = Inspection.from_ccds(ccds, masks)
    planes = _choose_planes(inspection.masks, names, exposure)
    median = exposure is None
    what = "the median of the exposures" if median else f"exposure {exposure}"
    image = inspection.planes.median if median else inspection.stack[exposure - 1]
    figure = get_figure(None, (8.5, 7)) if ax is None else None
    ax = ax if figure is None else figure.subplots()
    artists = {"image": _draw_image(ax, image, inspection, color_scale)}
    artists |= {
        name: _draw_mask(ax, name, mask, line_style(i)[0])
        for i, (name, mask) in enumerate(planes.items())
    }
    ax.set(xlabel="x (pixel)", ylabel="y (pixel)", title=f"masks over {what}")
    shown = [artists[name] for name in planes]
    handles = [Patch(color=a.cmap(1.0), label=a.get_label()) for a in shown]
    legend_below(ax.figure, handles)
    return artists if figure is None else figure


def _choose_planes(masks, names, exposure):
    """Return the masks (ny, nx) to be drawn, by name."""
    own = [f"CRMASK{i}" for i in range(1, len(masks) + 1)]
    if exposure is not None and exposure not in range(1, len(masks) + 1):
        msg = f"exposure must be from 1 to {len(masks)}, got {exposure!r}"
        raise ValueError(msg)
    if names is None:
        names = [*own, "MEDIANCR"] if exposure is None else [own[exposure - 1]]
    names = [names] if isinstance(names, str) else list(names)
    if unknown := [name for name in names if name not in masks.planes]:
        known = ", ".join(masks.planes)
        msg = f"names must be among {known}, got {', '.join(map(str, unknown))}"
        raise ValueError(msg)
    return {name: masks.planes[name] for name in names}


def _draw_mask(ax, name, mask, color):
    from matplotlib.colors import ListedColormap

    ny, nx = mask.shape
    shown = dilate(mask, max(ny, nx) // _WIDEST)
    return ax.imshow(
        np.ma.masked_equal(shown.astype(np.uint8), 0),
        origin="lower",
        extent=get_extent(np.s_[0:ny, 0:nx]),
        cmap=ListedColormap([color]),
        vmin=0,
        vmax=1,
        interpolation="nearest",
        aspect="equal" if 1 / 3 < ny / nx < 3 else "auto",
        label=f"{name} ({np.count_nonzero(mask)})",
    )


_LIMITS = {"high": "ma_high: hit", "low": "ma_low: hit, if joined to one"}


def plot_deviations(masks, *, unit="adu", fig=None):
    """
    Draw the deviations of each matched exposure from the mean of the others.

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
    figure : `~matplotlib.figure.Figure`
        The new figure; on a given ``fig``, the artists instead.
    artists : dict
        ``expected`` and ``observed`` are the 2D histograms (a
        `~matplotlib.collections.QuadMesh` each), ``limits`` the lines in the two
        panels.

    Raises
    ------
    ValueError
        If the masks have no deviations, such as masks from a file.

    Notes
    -----
    The left panel shows the normal distribution for the number of pixels at each
    signal, the right panel the exposures (some of the rows of large ones). Both should
    have the same body. If the body on the right is wider, gain or read noise is wrong,
    or more mismatch remains than was measured. Points above the limits are hits; those
    below the lower limit are not cosmic rays.

    Examples
    --------
    >>> from ccdcr import detect_cosmic_rays
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures((100, 120), seed=1)
    >>> masks = detect_cosmic_rays(
    ...     sim.exposures, gain="GAIN", readnoise="RDNOISE"
    ... )
    >>> from ccdcr.plotting import plot_deviations
    >>> figure = plot_deviations(masks)
    >>> [ax.get_title() for ax in figure.axes[:2]]
    ['expected from the noise', 'observed']
    """
    found = _find_deviations(masks)
    expected = found.number[:, np.newaxis] * np.diff(ndtr(found.y))
    figure = get_figure(fig, (11, 5.6))
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
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
    figure.colorbar(artists["observed"], ax=axes, label="pixels per cell", pad=0.02)
    part = "" if found.step == 1 else f", one row of {found.step}"
    figure.suptitle(f"deviations of the matched exposures{part}")
    legend_below(figure, artists["limits"][: len(_LIMITS)])
    return figure if fig is None else artists


def _find_deviations(masks):
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
