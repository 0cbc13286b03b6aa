# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The combined images before they become a CCDData."""

import copy
from dataclasses import dataclass

import numpy as np
from astropy.nddata import CCDData, StdDevUncertainty

from ccdcr.combination.local_median import replace_by_local_median
from ccdcr.exceptions import LocalMedianWarning, warn_user

__all__ = ["Images", "allocate"]


@dataclass
class Images:
    """
    A combined image with all that belongs to it, each (ny, nx).

    ``sigma`` is the standard deviation, ``number`` that of the exposures used;
    either may be None. ``mask`` is True where every exposure is bad.
    ``replaced`` is the number of replaced pixels.
    """

    value: np.ndarray
    mask: np.ndarray
    sigma: np.ndarray | None = None
    number: np.ndarray | None = None
    replaced: int = 0

    @property
    def planes(self):
        """The images that there are, by name."""
        names = ("value", "mask", "sigma", "number")
        found = {name: getattr(self, name) for name in names}
        return {name: plane for name, plane in found.items() if plane is not None}

    def put(self, rows, part):
        """Take over the images of some rows."""
        for name, plane in part.planes.items():
            getattr(self, name)[rows] = plane
        self.replaced += part.replaced

    def whole(self):
        """Return the images as arrays, also where their planes are in files."""
        arrays = {
            name: plane if isinstance(plane, np.ndarray) else plane.whole()
            for name, plane in self.planes.items()
        }
        return Images(**arrays, replaced=self.replaced)

    def replace_by_local_median(self, boxes):
        """Replace pixels by the median of their box, where boxes are given."""
        if boxes is None:
            return
        failed = replace_by_local_median(self.value, self.mask, boxes, self.sigma)
        if failed:
            msg = f"no usable neighbour, left as they are: pixels [X, Y] {failed}"
            warn_user(msg, LocalMedianWarning)

    def to_ccd(self, first, unit, keywords):
        """Return a CCDData with header and WCS of the first exposure."""
        result = CCDData(
            self.value,
            unit=unit,
            mask=self.mask,
            meta=copy.deepcopy(first.meta),
            wcs=copy.deepcopy(first.wcs),
        )
        if self.sigma is not None:
            result.uncertainty = StdDevUncertainty(self.sigma, copy=False)
        result.meta.update(keywords)
        return result


def allocate(make, shape, dtype, *, sigma, number):
    """Return images that ``make(shape, dtype)`` provides."""
    return Images(
        make(shape, dtype),
        make(shape, bool),
        make(shape, dtype) if sigma else None,
        make(shape, np.int16) if number else None,
    )
