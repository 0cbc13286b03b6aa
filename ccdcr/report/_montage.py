# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""All stamps of one detection side by side, as one coloured image."""

from dataclasses import dataclass

import numpy as np

from ccdcr.plotting._style import class_image, image_norm

__all__ = ["Montage", "Montages"]

_GAP = 1  # pixels between stamps and around them
_OUTSIDE = 225  # grey of what lies outside of the image
_FRAME = 130  # grey between stamps


@dataclass(frozen=True)
class Montage:
    """
    Stamps side by side.

    ``rgb`` is (height, width, 3) of uint8 with the lowest row first and a frame
    around each stamp, ``starts`` are the columns at which the stamps begin, ``size``
    is their side in pixels, ``x`` and ``y`` are the FITS pixels of the centre.
    """

    rgb: np.ndarray
    starts: tuple
    size: int
    x: int
    y: int


class Montages:
    """
    The montages of the detections of a mask.

    Parameters
    ----------
    inspection : `~ccdcr.inspection.Inspection`
        Masks and exposures.
    name : str
        Name of the mask.
    semiwindow : int
        Half size of the stamps in pixels.
    color_scale : {'zscale', 'minmax'}
        Limits of the grey scale, the same for all stamps of a detection.
    """

    def __init__(self, inspection, name, *, semiwindow, color_scale):
        self._images = [
            *inspection.stack,
            inspection.planes.median,
            inspection.corrected(name),
        ]
        self._flags = inspection.flags(name)
        self._made = {}  # by number: it is shown on two pages
        self._semiwindow, self._color_scale = semiwindow, color_scale
        exposures = [f"exposure {i}" for i in range(1, len(inspection.stack) + 1)]
        self.titles = (*exposures, "median", "mask", "corrected")

    def __call__(self, row):
        """Return the montage of a row of the table of detections."""
        number = int(row["number"])
        if number not in self._made:
            self._made[number] = self._make(row)
        return self._made[number]

    def _make(self, row):
        x = int(row["xmin"] + row["xmax"]) // 2
        y = int(row["ymin"] + row["ymax"]) // 2
        size = 2 * self._semiwindow + 1
        stamps = [self._cut(image, x, y, np.nan) for image in self._images]
        norm = image_norm(stamps, self._color_scale)
        tiles = [_grey(stamp, norm) for stamp in stamps]
        tiles.insert(-1, class_image(self._cut(self._flags, x, y, 0)))
        step = size + _GAP
        shape = (size + 2 * _GAP, step * len(tiles) + _GAP, 3)
        rgb = np.full(shape, _FRAME, dtype=np.uint8)
        starts = tuple(range(_GAP, step * len(tiles), step))
        for start, tile in zip(starts, tiles, strict=True):
            rgb[_GAP:-_GAP, start : start + size] = tile
        return Montage(rgb, starts, size, x, y)

    def _cut(self, image, x, y, fill):
        """Return a stamp of full size; what lies outside is filled."""
        half, (ny, nx) = self._semiwindow, image.shape
        stamp = np.full((2 * half + 1,) * 2, fill, dtype=image.dtype)
        x0, y0 = x - 1 - half, y - 1 - half
        rows = slice(max(y0, 0), min(y0 + len(stamp), ny))
        columns = slice(max(x0, 0), min(x0 + len(stamp), nx))
        inside = (
            slice(rows.start - y0, rows.stop - y0),
            slice(columns.start - x0, columns.stop - x0),
        )
        stamp[inside] = image[rows, columns]
        return stamp


def _grey(stamp, norm):
    known = np.isfinite(stamp)
    scaled = np.clip((stamp - norm.vmin) / (norm.vmax - norm.vmin), 0, 1)
    levels = np.where(known, np.round(np.where(known, scaled, 0) * 255), _OUTSIDE)
    return np.repeat(levels.astype(np.uint8)[..., np.newaxis], 3, axis=2)
