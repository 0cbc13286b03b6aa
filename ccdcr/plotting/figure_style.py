# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Colours, scales and axes that figures share."""

import io
from functools import partial

import numpy as np

from ccdcr.masks.diagnostics import (
    BOTH,
    DILATION,
    LOW,
    MM_ONLY,
    ORIGINS,
    POINT_LIKE,
    SINGLE_ONLY,
    UNKNOWN,
    USER,
)

__all__ = [
    "CLASSES",
    "class_colors",
    "class_image",
    "counts_norm",
    "draw_counts",
    "frame_stamps",
    "get_extent",
    "get_figure",
    "image_norm",
    "legend_below",
    "line_style",
    "nearest_point",
]

# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLORS = {
    BOTH: "#D55E00",
    SINGLE_ONLY: "#0072B2",
    MM_ONLY: "#F0A500",
    DILATION: "#999999",
    USER: "#CC79A7",
    LOW: "#009E73",
    UNKNOWN: "#56B4E9",
    POINT_LIKE: "#000000",
}
_MARKERS = {
    BOTH: "o",
    SINGLE_ONLY: "s",
    MM_ONLY: "^",
    DILATION: ".",
    USER: "D",
    LOW: "x",
    UNKNOWN: "v",
    POINT_LIKE: "*",
}
# Label, colour and marker, in the order shown.
CLASSES = {
    flag: (label, _COLORS[flag], _MARKERS[flag]) for flag, label in ORIGINS.items()
}
# One per exposure.
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#F0A500", "#56B4E9", "#000000")
_DASHES, _SYMBOLS = ("-", "--", "-.", ":"), "osD^vP*"
_INTERVALS = {"zscale": "ZScaleInterval", "minmax": "MinMaxInterval"}


def get_figure(fig, size):
    """Return a figure, or a new one that belongs to no window and notebooks show."""
    if fig is not None:
        return fig
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    figure._repr_png_ = partial(_png, figure)
    return figure


def _png(figure):
    with io.BytesIO() as buffer:
        figure.savefig(buffer, format="png")
        return buffer.getvalue()


def line_style(i):
    """Return colour, dashes and symbol of exposure i, from 0; 28 are different."""
    color, again = i % len(_LINES), i // len(_LINES)
    symbol = _SYMBOLS[(color + again) % len(_SYMBOLS)]
    return _LINES[color], _DASHES[(color + again) % len(_DASHES)], symbol


def class_colors():
    """Return red, green, blue (0 to 255) by class, (classes, 3); 0 = not masked."""
    from matplotlib.colors import to_rgb

    colors = np.full((max(_COLORS) + 1, 3), 255, dtype=np.uint8)
    for flag, color in _COLORS.items():
        colors[flag] = np.round(np.multiply(to_rgb(color), 255))
    return colors


def class_image(flags):
    """Return classes (ny, nx) as an image (ny, nx, 3), white = not masked."""
    return class_colors()[flags]


def image_norm(stamps, color_scale):
    """Return one grey scale for several stamps."""
    from astropy import visualization

    if color_scale not in _INTERVALS:
        known = " or ".join(map(repr, _INTERVALS))
        msg = f"color_scale must be {known}, got {color_scale!r}"
        raise ValueError(msg)
    values = np.concatenate([np.ravel(stamp) for stamp in stamps])
    values = values[np.isfinite(values)]
    low, high = 0.0, 1.0
    if values.size:
        interval = getattr(visualization, _INTERVALS[color_scale])
        low, high = interval().get_limits(values)
    high = high if high > low else low + 1
    return visualization.ImageNormalize(
        vmin=low, vmax=high, stretch=visualization.LinearStretch()
    )


def counts_norm(*counts):
    """Return a logarithmic scale for numbers of pixels, expected or observed."""
    from matplotlib.colors import LogNorm

    top = max(float(plane.max()) for plane in counts)
    # Expected numbers may be any fraction: a tenth of a pixel is none.
    return LogNorm(0.1, max(top, 1.0))


def draw_counts(ax, x_edges, y_edges, counts, norm):
    """Draw numbers of pixels by cell, (along x, along y); return the mesh."""
    shown = np.ma.masked_less(counts.T, norm.vmin)
    kwargs = {"norm": norm, "cmap": "viridis", "rasterized": True}
    mesh = ax.pcolormesh(x_edges, y_edges, shown, **kwargs)
    ax.set_facecolor("#f2f2f2")
    return mesh


def get_extent(bounds):
    """Return the extent in FITS pixels of slices (y, x)."""
    y, x = bounds
    return (x.start + 0.5, x.stop + 0.5, y.start + 0.5, y.stop + 0.5)


def frame_stamps(grid, x, y, semiwindow):
    """Give a grid of stamps square frames in FITS pixels, also at an edge."""
    grid[0, 0].set_xlim(round(x) - semiwindow - 0.5, round(x) + semiwindow + 0.5)
    grid[0, 0].set_ylim(round(y) - semiwindow - 0.5, round(y) + semiwindow + 0.5)
    for ax in grid.flat:
        ax.set_facecolor("#d5dde0")  # outside of the image
    for ax in grid[:, 0]:
        ax.set_ylabel("y (pixel)", fontsize="medium")
    for column in grid.T:
        lowest = [ax for ax in column if ax.axison][-1]
        lowest.set_xlabel("x (pixel)", fontsize="medium")
        lowest.tick_params(labelbottom=True)


def nearest_point(event, points, reach):
    """Return the index of the point (x, y) at a click; None beyond screen pixels."""
    if not len(points):
        return None
    places = event.inaxes.transData.transform(points)
    distance = np.hypot(*(places - (event.x, event.y)).T)
    nearest = int(np.argmin(distance))
    return nearest if distance[nearest] <= reach else None


def legend_below(fig, handles, columns=4):
    """Return one legend below all axes."""
    style = {"loc": "outside lower center", "ncols": columns, "fontsize": "small"}
    return fig.legend(handles=handles, **style)
