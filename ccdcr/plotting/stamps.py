# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The stamps of one detection."""

from ccdcr.inspection.inspected import Inspection, stamp_bounds
from ccdcr.plotting._style import (
    CLASSES,
    class_image,
    extent_of,
    figure_of,
    frame_stamps,
    image_norm,
    legend_below,
)

__all__ = ["plot_stamps"]


def plot_stamps(
    ccds,
    masks,
    *,
    x,
    y,
    name="MEDIANCR",
    semiwindow=None,
    color_scale=None,
    fig=None,
):
    """
    Draw the surroundings of a pixel in each exposure and in what is made of them.

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
    >>> artists = plot_stamps(sim.exposures, masks, x=60, y=50)
    >>> "median" in artists, "corrected" in artists
    (True, True)
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
    fig = figure_of(fig, (3.0 * columns + 0.8, 3.0 * rows + 0.9))
    grid = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    artists = _draw(grid.flat, images, (name, flags), bounds, norm)
    for ax in grid.flat[len(artists) :]:
        ax.set_axis_off()
    first = artists["median"]
    fig.colorbar(first, ax=grid, label=f"signal without bias ({inspection.unit})")
    frame_stamps(grid, x, y, semiwindow)
    _add_legend(fig, flags)
    return artists


def _cut_stamps(inspection, bounds, name):
    """Return the images of a part by title, and the classes of a mask's pixels."""
    cut = inspection.cut(bounds)
    images = {f"exposure {i}": plane for i, plane in enumerate(cut.stack, start=1)}
    images["median"] = cut.planes.median
    images["corrected"] = cut.corrected(name)
    return images, cut.flags(name)


def _draw(axes, images, classes, bounds, norm):
    """Draw the images; the mask comes before the corrected one."""
    name, flags = classes
    kwargs = {"origin": "lower", "extent": extent_of(bounds), "interpolation": "none"}
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
