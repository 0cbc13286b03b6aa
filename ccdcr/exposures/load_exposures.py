# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Exposures as plain arrays for the detection."""

from dataclasses import dataclass

import numpy as np
from astropy import units as u

from ccdcr.exposures.ccd_parameters import (
    MOST_SIGNAL,
    CCDParameters,
    find_ccd_parameters,
    find_keywords,
    split_gain_map,
)
from ccdcr.exposures.input_checks import list_exposures
from ccdcr.exposures.open_exposures import open_exposures
from ccdcr.utils.row_bands import bands_of

__all__ = ["Exposures", "load_exposures"]


@dataclass(frozen=True)
class Exposures:
    """
    Exposures as plain arrays.

    ``data`` is (n, ny, nx) float32 without bias; ``bad`` is (n, ny, nx), True =
    masked or not finite, or None where nothing is. Where the gain is a map the
    data are scaled to its median, by ``gain_ratio``.
    ``headers`` are as they came.
    """

    data: np.ndarray
    bad: np.ndarray | None
    unit: u.UnitBase
    detector: CCDParameters
    names: tuple
    headers: tuple = ()
    gain_ratio: np.ndarray | None = None

    def __len__(self):
        return len(self.data)

    @property
    def shape(self):
        """Shape of each exposure, (ny, nx)."""
        return self.data.shape[1:]


def load_exposures(
    ccds,
    *,
    gain,
    readnoise,
    bias,
    minimum,
    extension=None,
    unit=None,
    usual_keywords=False,
):
    """
    Return exposures as plain arrays, with gain, read noise and bias.

    Parameters
    ----------
    ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        The exposures, in adu or electron.
    gain, readnoise, bias : float, `~astropy.units.Quantity`, str or None
        Numbers, quantities or names of header keywords.
    minimum : int
        Least number of exposures.
    extension, unit : optional
        As for `~ccdcr.exposures.open_exposures`.
    usual_keywords : bool, optional
        Whether gain and read noise are looked up in the headers under their usual
        names if they are None.

    Returns
    -------
    exposures : `Exposures`
        The exposures.
    """
    items, names = list_exposures(ccds, minimum=minimum)
    options = {"extension": extension, "unit": unit, "allowed": ("numpy",)}
    with open_exposures(items, **options) as opened:
        given = {"gain": gain, "readnoise": readnoise}
        if usual_keywords:
            given = find_keywords(opened, **given)
        shape = opened[0].shape
        given["gain"], ratio = split_gain_map(given["gain"], shape)
        detector = find_ccd_parameters(opened, **given, bias=bias)
        data = np.empty((len(opened), *shape), dtype=np.float32)
        bad = np.empty(data.shape, dtype=bool)
        for i, exposure in enumerate(opened):
            _fill(data[i], bad[i], exposure, detector, ratio)
        unit, headers = opened[0].unit, tuple(exposure.meta for exposure in opened)
    bad = bad if bad.any() else None
    return Exposures(data, bad, unit, detector, names, headers, ratio)


def _fill(data, bad, exposure, detector, ratio):
    """Fill in data (ny, nx) without bias, and what of them is bad."""
    for rows in bands_of(exposure.shape):
        values, mask, _ = exposure.cut(rows)
        with np.errstate(over="ignore"):  # beyond float32 is not finite either
            np.subtract(values, detector.bias, out=data[rows], casting="unsafe")
        if ratio is not None:
            data[rows] *= ratio[rows]
        _drop_impossible(data[rows], bad[rows], MOST_SIGNAL / detector.gain)
        if mask is not None:
            bad[rows] |= np.asarray(mask, dtype=bool)


def _drop_impossible(image, bad, limit):
    """Mark what is not finite; what is beyond the limit is not, either."""
    with np.errstate(invalid="ignore"):
        np.less_equal(np.abs(image), np.float32(limit), out=bad)
    np.logical_not(bad, out=bad)
    image[bad] = np.nan
