# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures of flux factors, offsets and equivalence."""

import numpy as np

from ccdcr.inspection.inspected import Inspection
from ccdcr.masks.mask_set import CRMaskSet
from ccdcr.matching.equivalence import TERMS, Equivalence
from ccdcr.plotting.figure_style import get_extent, get_figure, legend_below, line_style

__all__ = [
    "equivalence_size",
    "offsets_size",
    "plot_equivalence",
    "plot_flux_factors",
    "plot_offsets",
]

_BINS = (20, 80)
_COLUMNS = 4
_LEAST_SIGNAL = 10.0  # sigma
_BRIGHTEST = 0.9  # quantile, where the noise is not known
_SAMPLE = 10000  # pixels
_SIDE = 200  # pixels of the residual images


def plot_flux_factors(ccds, masks, *, ax=None):
    """
    Draw the ratios of each exposure to the mean of all, and the flux factors.

    Parameters
    ----------
    ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        The exposures or their files, in the order of the masks.
    masks : `~ccdcr.CRMaskSet`, str or `~pathlib.Path`
        The masks or their file.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw on. Default is those of a new figure without a window.

    Returns
    -------
    figure : `~matplotlib.figure.Figure`
        The new figure; on given ``ax``, the artists instead.
    artists : list of tuple
        A histogram and a vertical line at the flux factor, or at the flux measured by
        matching, for each exposure.

    Raises
    ------
    TypeError
        If ``ccds`` or ``masks`` are something else, or swapped.
    ValueError
        If masks and exposures do not fit.

    Notes
    -----
    The mean is scaled to flux factor 1. The histograms contain pixels that are masked
    in no exposure and have a mean of 10 sigma or more, or the brightest tenth of all
    pixels if the noise is not known. Integers are spread over their step, so that all
    bins have equal shares. If a histogram does not peak at its line, the flux factor is
    wrong, and the exposures are not equivalent for Median-Minimum. Matched exposures
    have lines at the measured fluxes.

    Examples
    --------
    >>> from ccdcr import detect_cosmic_rays
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures((100, 120), seed=1)
    >>> masks = detect_cosmic_rays(
    ...     sim.exposures, gain="GAIN", readnoise="RDNOISE"
    ... )
    >>> from ccdcr.plotting import plot_flux_factors
    >>> figure = plot_flux_factors(sim.exposures, masks)
    >>> figure.axes[0].get_ylabel()
    'pixels per bin'
    """
    inspection = Inspection.from_ccds(ccds, masks)
    figure = None if ax is not None else get_figure(None, (8, 4.8))
    ax = ax if figure is None else figure.subplots()
    level = inspection.planes.mean / np.float32(np.mean(inspection.factors))
    use = _bright(inspection, level)
    ratios = [_spread(plane[use]) / level[use] for plane in inspection.stack]
    edges = _choose_edges(ratios)
    fluxes, what = _measure_fluxes(inspection)
    artists = []
    for i, (ratio, factor) in enumerate(zip(ratios, fluxes, strict=True)):
        color, dashes, _ = line_style(i)
        style = {"color": color, "ls": dashes}
        counts = np.histogram(ratio, edges)[0]
        label = f"exposure {i + 1}: {factor:.4f}"
        histogram = ax.stairs(counts, edges, lw=1.6, label=label, **style)
        artists.append((histogram, ax.axvline(factor, lw=1, **style)))
    ax.set(
        xlabel="exposure / mean of the exposures at flux factor 1",
        ylabel="pixels per bin",
        title=f"flux of the exposures; vertical lines: {what}",
    )
    ax.legend(fontsize="small", title=f"{np.count_nonzero(use)} pixels")
    return artists if figure is None else figure


def _spread(values):
    """Return values with whole numbers spread over their step, for even bins."""
    known = np.unique(values[:_SAMPLE])
    if len(known) < 2:
        return values
    step = np.diff(known).min()
    return values + step * np.random.default_rng(0).uniform(-0.5, 0.5, len(values))


def _measure_fluxes(inspection):
    """Return where the histograms should peak, and what that is."""
    masks, factors = inspection.masks, inspection.factors
    matching = masks.diagnostics.matching
    if matching is None or masks.equivalence is None:
        return factors, "flux factors"
    flux = matching.scale * np.asarray(masks.equivalence.terms["flux"])
    if not np.isfinite(flux).all():
        return factors, "flux factors"
    return flux / flux.mean() * np.mean(factors), "measured by matching"


def _bright(inspection, level):
    """Return the mask (ny, nx) of pixels with enough signal and no hit."""
    use = ~inspection.masks.meancrt
    if inspection.bad is not None:
        use &= ~inspection.bad.any(axis=0)
    if inspection.detector is not None:
        enough = use & (level > _LEAST_SIGNAL * inspection.compute_noise(level))
        if enough.any():
            return enough
    brightest = np.quantile(level[use], _BRIGHTEST) if use.any() else np.inf
    return use & (level >= brightest) & (level > 0)


def _choose_edges(ratios):
    every = np.concatenate(ratios)
    bins = int(np.clip(np.sqrt(len(ratios[0])), *_BINS))
    if not every.size:
        return np.linspace(0.9, 1.1, bins + 1)
    low, high = np.quantile(every, [0.002, 0.998])
    margin = max(0.1 * (high - low), 1e-3)
    return np.linspace(low - margin, high + margin, bins + 1)


def plot_offsets(ccds, masks, *, offsets=None, fig=None):
    """
    Draw the offsets of the exposures, and the residuals from their median.

    Parameters
    ----------
    ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        The exposures or their files, in the order of the masks.
    masks : `~ccdcr.CRMaskSet`, str or `~pathlib.Path`
        The masks or their file.
    offsets : sequence of [dx, dy], optional
        Offset of each exposure in pixels. Default is the offsets measured by or given
        to the detection, or measured by matching.
    fig : `~matplotlib.figure.Figure`, optional
        Figure to draw on. Default is a new one, without a window.

    Returns
    -------
    figure : `~matplotlib.figure.Figure`
        The new figure; on a given ``fig``, the artists instead.
    artists : dict
        ``offsets`` is a list of one line for each exposure, empty where offsets
        are not known; ``residuals`` are the images of exposure - median.

    Raises
    ------
    TypeError
        If ``ccds`` or ``masks`` are something else, or swapped.
    ValueError
        If masks and exposures do not fit.

    Notes
    -----
    The residual images show up to 200 x 200 pixels at the centre of
    ``mm_crosscorr_region`` or of the image, in units of the noise of an exposure, or of
    their own scatter if the noise is not known. A star or a line that is bright on one
    side and dark on the other has moved.

    Examples
    --------
    >>> from ccdcr import detect_cosmic_rays
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures((100, 120), seed=1)
    >>> masks = detect_cosmic_rays(
    ...     sim.exposures, gain="GAIN", readnoise="RDNOISE"
    ... )
    >>> from ccdcr.plotting import plot_offsets
    >>> figure = plot_offsets(
    ...     sim.exposures, masks, offsets=[[-0.1, 0], [0, 0], [0.1, 0]]
    ... )
    >>> figure.axes[0].get_title()
    'offsets'
    """
    inspection = Inspection.from_ccds(ccds, masks)
    offsets = _find_offsets(inspection) if offsets is None else offsets
    n = len(inspection.stack)
    figure = get_figure(fig, offsets_size(n))
    rows, columns = _choose_grid(n)
    first, *others = figure.subplots(rows, columns, squeeze=False).flat
    for ax in others[n:]:
        ax.set_axis_off()
    others = others[:n]
    bounds = _centre(inspection)
    fluxes, _ = _measure_fluxes(inspection)
    residuals = [
        _draw_residual(ax, inspection, i, bounds, flux / np.median(fluxes))
        for i, (ax, flux) in enumerate(zip(others, fluxes, strict=True))
    ]
    figure.colorbar(
        residuals[-1],
        ax=figure.axes[: rows * columns],
        label="exposure \N{MINUS SIGN} median (sigma)",
    )
    lines = _draw_offsets(first, offsets)
    if lines:
        legend_below(figure, lines, columns=min(n, _COLUMNS))
    return figure if fig is None else {"offsets": lines, "residuals": residuals}


def _choose_grid(n):
    """Return rows and columns for n exposures and their offsets."""
    rows = -(-(n + 1) // _COLUMNS)
    return rows, -(-(n + 1) // rows)


def offsets_size(n):
    """Return the size in inches of the figure of the offsets of n exposures."""
    rows, columns = _choose_grid(n)
    return 3.1 * columns + 0.8, 3.1 * rows + 0.8


def _find_offsets(inspection):
    """Return offsets measured or given, or the shifts of matching; or None."""
    masks = inspection.masks
    known = masks.diagnostics.offsets or inspection.requirements.mm_xy_offsets
    if known or masks.equivalence is None:
        return known or None
    shifts = [masks.equivalence.terms[name] for name in ("shift_x", "shift_y")]
    shifts = np.transpose(shifts)
    return shifts if np.isfinite(shifts).all() else None


def _draw_offsets(ax, offsets):
    ax.set(xlabel="dx (pixel)", ylabel="dy (pixel)", title="offsets", box_aspect=1)
    ax.axhline(0, color="#999999", lw=0.8)
    ax.axvline(0, color="#999999", lw=0.8)
    if offsets is None:
        ax.set(xlim=(-1, 1), ylim=(-1, 1))
        ax.text(0, 0.5, "not measured,\nnot given", ha="center", va="center")
        return []
    lines = []
    for i, (dx, dy) in enumerate(offsets):
        color, _, marker = line_style(i)
        label = f"exposure {i + 1}: {dx:+.3f}, {dy:+.3f}"
        lines += ax.plot(dx, dy, marker, color=color, ms=8, ls="none", label=label)
    reach = max(1.3 * np.abs(offsets).max(), 0.1)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach))
    return lines


def _centre(inspection):
    """Return slices (y, x) of the middle of the region or image."""
    ny, nx = inspection.masks.shape
    region = inspection.requirements.mm_crosscorr_region or (1, nx, 1, ny)
    xmin, xmax, ymin, ymax = region
    bounds = []
    for low, high in ((ymin - 1, min(ymax, ny)), (xmin - 1, min(xmax, nx))):
        start = max(low, (low + high - _SIDE) // 2)
        bounds.append(slice(start, min(high, start + _SIDE)))
    return tuple(bounds)


def _draw_residual(ax, inspection, index, bounds, factor):
    median, factor = inspection.planes.median[bounds], np.float32(factor)
    residual = inspection.stack[index][bounds] - median * factor
    if inspection.detector is None:
        finite = residual[np.isfinite(residual)]
        noise = 1.4826 * np.median(np.abs(finite)) if finite.size else 1.0
        noise = noise or 1.0
    else:
        noise = inspection.compute_noise(median * factor)
    image = ax.imshow(
        residual / noise,
        origin="lower",
        extent=get_extent(bounds),
        cmap="PuOr_r",
        vmin=-5,
        vmax=5,
        interpolation="none",
    )
    ax.set(xlabel="x (pixel)", ylabel="y (pixel)", title=f"exposure {index + 1}")
    return image


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
    figure : `~matplotlib.figure.Figure`
        The new figure; on a given ``fig``, the artists instead.
    artists : dict of list
        ``levels`` are the lines before and after matching, the other ones the
        maps of each term (`~matplotlib.image.AxesImage`), one per exposure.

    Raises
    ------
    TypeError
        If ``equivalence`` is of another type, such as a mask set.

    Examples
    --------
    >>> from ccdcr import check_equivalence
    >>> from ccdcr.plotting import plot_equivalence
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures((100, 120), seed=1)
    >>> report = check_equivalence(
    ...     sim.exposures, gain="GAIN", readnoise="RDNOISE"
    ... )
    >>> figure = plot_equivalence(report)
    >>> figure.axes[0].get_ylabel()
    'Q / Q0'
    """
    _check(equivalence)
    number = len(equivalence.terms)
    figure = get_figure(fig, equivalence_size(number))
    top, bottom = figure.subfigures(2, 1, height_ratios=(_LEVELS, _MAPS * number + 0.8))
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
    return figure if fig is None else artists


def _check(equivalence):
    if not isinstance(equivalence, Equivalence):
        is_mask_set = isinstance(equivalence, CRMaskSet)
        remedy = "; pass masks.equivalence" if is_mask_set else ""
        msg = (
            "equivalence must be an Equivalence, "
            f"got {type(equivalence).__name__}{remedy}"
        )
        raise TypeError(msg)


def equivalence_size(number):
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
