# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures of combined images and of stamps."""

import numpy as np

from ccdcr.inspection.compare_methods import MethodComparison
from ccdcr.inspection.inspected import Inspection, stamp_bounds
from ccdcr.plotting.figure_style import (
    CLASSES,
    class_image,
    frame_stamps,
    get_extent,
    get_figure,
    image_norm,
    legend_below,
)

__all__ = ["comparison_size", "plot_combinations", "plot_comparison", "plot_stamps"]


def plot_stamps(
    ccds, masks, *, x, y, name="MEDIANCR", semiwindow=None, color_scale=None, fig=None
):
    """
    Draw a stamp of each exposure, of their median, the mask and the corrected image.

    Parameters
    ----------
    ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        The exposures or their files, in the order of the masks.
    masks : `~ccdcr.CRMaskSet`, str or `~pathlib.Path`
        The masks or their file.
    x, y : int
        Centre of the stamps; the first pixel is (1, 1).
    name : str, optional
        Name of the mask that is drawn; ``'EVERY'`` are the pixels that are masked
        in every exposure. Default is ``'MEDIANCR'``.
    semiwindow : int, optional
        Half size of the stamps in pixels. Default is that of the requirements.
    color_scale : {'zscale', 'minmax'}, optional
        Limits of the grey scale, the same for all stamps. Default is that of the
        requirements.
    fig : `~matplotlib.figure.Figure`, optional
        Figure to draw on. Default is a new one, without a window.

    Returns
    -------
    figure : `~matplotlib.figure.Figure`
        The new figure; on a given ``fig``, the artists instead.
    artists : dict of `~matplotlib.image.AxesImage`
        By title: each exposure, ``median``, the mask, and ``corrected``, the
        median with the minimum where it is masked (for MEDIANCR), or the mean
        over the exposures that are not masked.

    Raises
    ------
    TypeError
        If ``ccds`` or ``masks`` are something else, or swapped.
    ValueError
        If the pixel is outside, or if masks and exposures do not fit.

    Examples
    --------
    >>> from ccdcr import detect_cosmic_rays
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures((100, 120), seed=1)
    >>> masks = detect_cosmic_rays(
    ...     sim.exposures, gain="GAIN", readnoise="RDNOISE"
    ... )
    >>> from ccdcr.plotting import plot_stamps
    >>> figure = plot_stamps(sim.exposures, masks, x=60, y=50)
    >>> [ax.get_title() for ax in figure.axes[3:6]]
    ['median', 'mask MEDIANCR', 'corrected']
    """
    inspection = Inspection.from_ccds(ccds, masks)
    requirements = inspection.requirements
    semiwindow = requirements.semiwindow if semiwindow is None else semiwindow
    color_scale = requirements.color_scale if color_scale is None else color_scale
    bounds = stamp_bounds(x, y, semiwindow, inspection.masks.shape)
    images, flags = _cut_stamps(inspection, bounds, name)
    norm = image_norm(images.values(), color_scale)
    columns = 3 if len(images) < 6 else 4
    rows = -(-(len(images) + 1) // columns)
    figure = get_figure(fig, (3.0 * columns + 0.8, 3.0 * rows + 0.9))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    artists = _draw(grid.flat, images, (name, flags), bounds, norm)
    for ax in grid.flat[len(artists) :]:
        ax.set_axis_off()
    first = artists["median"]
    figure.colorbar(first, ax=grid, label=f"signal without bias ({inspection.unit})")
    frame_stamps(grid, x, y, semiwindow)
    _add_legend(figure, flags)
    return figure if fig is None else artists


def _cut_stamps(inspection, bounds, name):
    """Return the stamps by title, and the classes of a mask's pixels."""
    cut = inspection.cut(bounds)
    images = {f"exposure {i}": plane for i, plane in enumerate(cut.stack, start=1)}
    images["median"] = cut.planes.median
    images["corrected"] = cut.corrected(name)
    return images, cut.flags(name)


def _draw(axes, images, classes, bounds, norm):
    """Draw the images, the mask before the corrected one; return artists by title."""
    name, flags = classes
    kwargs = {"origin": "lower", "extent": get_extent(bounds), "interpolation": "none"}
    axes = iter(axes)
    artists = {}
    for title, image in images.items():
        if title == "corrected":
            ax = next(axes)
            artists[name] = ax.imshow(class_image(flags), **kwargs)
            ax.set_title(f"mask {name}", fontsize="medium")
        ax = next(axes)
        artists[title] = ax.imshow(image, cmap="gray", norm=norm, **kwargs)
        ax.set_title(title, fontsize="medium")
    return artists


def _add_legend(fig, flags):
    from matplotlib.patches import Patch

    present = [flag for flag in CLASSES if (flags == flag).any()]
    handles = [
        Patch(fc=CLASSES[flag][1], ec="black", lw=0.5, label=CLASSES[flag][0])
        for flag in present
    ]
    if handles:
        legend_below(fig, handles, columns=6)


_MIDDLE = {"ha": "center", "va": "center", "fontsize": "medium"}


def plot_combinations(images, *, x, y, semiwindow=20, fig=None):
    """
    Draw the same stamp of several images.

    Parameters
    ----------
    images : mapping of str to `~astropy.nddata.CCDData` or 2D `~numpy.ndarray`
        Images of one shape (ny, nx), by title. All have the same grey scale, that
        of the last one.
    x, y : int
        Centre of the stamp; the first pixel is (1, 1).
    semiwindow : int, optional
        Half size of the stamp in pixels. Default is 20.
    fig : `~matplotlib.figure.Figure`, optional
        Figure to draw on. Default is a new one.

    Returns
    -------
    figure : `~matplotlib.figure.Figure`
        The new figure; on a given ``fig``, the artists instead.
    artists : list of `~matplotlib.image.AxesImage`
        The images, in the order in which they were given.

    Raises
    ------
    ValueError
        If there is no image, if the shapes differ, or if the centre is outside.

    Examples
    --------
    >>> import numpy as np
    >>> from ccdcr.plotting import plot_combinations
    >>> image = np.arange(10000.0).reshape(100, 100)
    >>> figure = plot_combinations({"a": image, "b": image}, x=50, y=40)
    >>> [ax.get_title() for ax in figure.axes]
    ['a', 'b']
    """
    from astropy.visualization import AsinhStretch, ImageNormalize, ZScaleInterval

    stamps, extent = _stamps(images, x, y, semiwindow)
    columns = -(-len(images) // 2) if len(images) > 3 else len(images)
    rows = -(-len(images) // columns)
    figure = get_figure(fig, (2.7 * columns, 2.9 * rows))
    norm = ImageNormalize(
        list(stamps.values())[-1], interval=ZScaleInterval(), stretch=AsinhStretch(0.3)
    )
    artists = []
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax in grid.flat[len(images) :]:
        ax.set_axis_off()
    for ax, (title, stamp) in zip(grid.flat, stamps.items(), strict=False):
        artist = ax.imshow(stamp, origin="lower", extent=extent, cmap="gray", norm=norm)
        ax.set_title(title, fontsize="medium")
        artists.append(artist)
    figure.supxlabel("x (pixel)", fontsize="medium")
    figure.supylabel("y (pixel)", fontsize="medium")
    return figure if fig is None else artists


def _stamps(images, x, y, semiwindow):
    """Return stamps as arrays by title, and their extent in FITS pixels."""
    data = {title: np.asarray(image) for title, image in images.items()}
    shapes = {image.shape for image in data.values()}
    if len(shapes) != 1:
        found = ", ".join(map(str, shapes)) or "none"
        msg = f"images must be one or more of one shape, got {found}"
        raise ValueError(msg)
    bounds = stamp_bounds(x, y, semiwindow, shapes.pop())
    return {title: image[bounds] for title, image in data.items()}, get_extent(bounds)


def plot_comparison(
    images,
    *,
    x=None,
    y=None,
    reference="median",
    semiwindow=20,
    color_scale="zscale",
    unit=None,
    fig=None,
):
    """
    Draw the same stamp of several combinations, and their differences below.

    Parameters
    ----------
    images : `~ccdcr.MethodComparison` or mapping of str to 2D array or CCDData
        The result of `~ccdcr.compare_methods`, or images of one shape (ny, nx) by
        title.
    x, y : int, optional
        Centre of the stamp; the first pixel is (1, 1). Default is the ``position`` of
        the comparison. Required for other images.
    reference : str, optional
        Title of the image that is subtracted. Default is ``'median'``.
    semiwindow : int, optional
        Half size of the stamp in pixels. Default is 20.
    color_scale : {'zscale', 'minmax'}, optional
        Limits of the grey scale, the same for all. Default is ``'zscale'``.
    unit : str or `~astropy.units.UnitBase`, optional
        Unit of the images, for the labels. Default is that of the comparison, adu
        for other images.
    fig : `~matplotlib.figure.Figure`, optional
        Figure to draw on. Default is a new one, without a window.

    Returns
    -------
    figure : `~matplotlib.figure.Figure`
        The new figure; on a given ``fig``, the artists instead.
    artists : dict of tuple of `~matplotlib.image.AxesImage`
        The image and its difference by title; that of the reference is None.

    Raises
    ------
    TypeError
        If the centre of images is missing.
    ValueError
        If there is no image, if the shapes differ, if the centre is outside, or if the
        reference is not one of the images.

    Examples
    --------
    >>> import numpy as np
    >>> from ccdcr.plotting import plot_comparison
    >>> images = {name: np.ones((100, 100)) for name in ("median", "meancr")}
    >>> figure = plot_comparison(images, x=50, y=40)
    >>> [ax.get_title() for ax in figure.axes[:2]]
    ['median', 'meancr']
    """
    images, (x, y), unit = _arrays(images, x, y, unit)
    stamps, extent = _stamps(images, x, y, semiwindow)
    if reference not in images:
        known = ", ".join(images)
        msg = f"reference must be one of the images ({known}), got {reference!r}"
        raise ValueError(msg)
    n = len(images)
    figure = get_figure(fig, comparison_size(n))
    grid = figure.subplots(2, n, sharex=True, sharey=True, squeeze=False)
    kwargs = {"origin": "lower", "extent": extent, "interpolation": "none"}
    grey = {"cmap": "gray", "norm": image_norm(stamps.values(), color_scale)}
    differences = {t: stamp - stamps[reference] for t, stamp in stamps.items()}
    top = _largest(differences)
    colored = {"cmap": "PuOr_r", "vmin": -top, "vmax": top}
    artists = {}
    for (title, stamp), (upper, lower) in zip(stamps.items(), grid.T, strict=True):
        upper.set_title(title, fontsize="medium")
        image, difference = upper.imshow(stamp, **kwargs, **grey), None
        if title == reference:
            # A square frame keeps columns of one width.
            lower.text(0.5, 0.5, "reference", **_MIDDLE, transform=lower.transAxes)
            lower.set_aspect("equal")
        else:
            difference = lower.imshow(differences[title], **kwargs, **colored)
            lower.set_title(f"\N{MINUS SIGN} {reference}", fontsize="medium")
        artists[title] = image, difference
    frame_stamps(grid, x, y, semiwindow)
    grid[1, list(images).index(reference)].set_facecolor("white")
    _add_bars(figure, grid, artists, unit)
    return figure if fig is None else artists


def _arrays(images, x, y, unit):
    """Return images as arrays by title, the centre (x, y) and the unit."""
    if isinstance(images, MethodComparison):
        position, first = images.position, next(iter(images.images.values()))
        unit = first.unit if unit is None else unit
        images = {title: image.data for title, image in images.images.items()}
    elif x is None or y is None:
        msg = "x and y, the centre of the stamp, must be given for images"
        raise TypeError(msg)
    else:
        position = x, y
    x, y = (p if c is None else c for p, c in zip(position, (x, y), strict=True))
    return images, (x, y), "adu" if unit is None else unit


def comparison_size(n):
    """Return the size in inches of the figure of n combinations."""
    return 2.05 * n + 1.7, 5.2


def _largest(differences):
    """Return the 0.98 quantile of absolute differences > 0; 1 if there are none."""
    size = np.abs(np.concatenate([np.ravel(d) for d in differences.values()]))
    size = size[np.isfinite(size) & (size > 0)]
    return float(np.quantile(size, 0.98)) if size.size else 1.0


def _add_bars(fig, grid, artists, unit):
    drawn = list(artists.values())
    fig.colorbar(drawn[0][0], ax=grid[0], label=f"signal ({unit})")
    lower = [difference for _, difference in drawn if difference is not None]
    if lower:
        fig.colorbar(lower[0], ax=grid[1], label=f"difference ({unit})")
