# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The report on equivalence from what matching has measured."""

import numpy as np
from astropy.table import Table

from ccdcr.equivalence import NEEDED, TERMS, UNITS, Equivalence

__all__ = ["report_of"]

_LEAST_FLUX = 0.1  # of the mean exposure, relative to the reference


def report_of(matched):
    """
    Return the report of matched exposures.

    Parameters
    ----------
    matched : `~ccdcr.detection.matched.matched.Matched`
        What was measured.

    Returns
    -------
    equivalence : `~ccdcr.Equivalence`
        The report.
    """
    before, after = matched.before, matched.after
    columns = {
        "level": after.level,
        "values": after.number,
        "before": before.ratio,
        "after": after.ratio,
    }
    noise = matched.frames.noise.mean_variance(np.median(matched.reference))
    return Equivalence(
        Table(columns),
        _summarize(matched.fits, float(np.sqrt(noise))),
        _tile_table(matched.fits),
        _usable_values(matched.frames),
    )


def _usable_values(frames):
    unused = 0 if frames.unused is None else np.count_nonzero(frames.unused)
    return frames.data.size - unused


def _relative(terms):
    """
    Return terms relative to the mean exposure, by name.

    Those relative to the reference have part of its noise, all exposures alike.
    """
    flux = 1 + terms[..., 0]
    flux = flux / np.maximum(flux.mean(axis=0), _LEAST_FLUX)
    values = terms - terms.mean(axis=0)
    _, shift_x, shift_y, seeing, background = np.moveaxis(values, -1, 0)
    # A source at x + shift is seen as the derivative times -shift; a Laplacian
    # adds twice its factor to the variance of a profile.
    named = (flux, -shift_x, -shift_y, 2 * seeing, background)
    return dict(zip(TERMS, named, strict=True))


def _summarize(fits, noise):
    terms, errors = fits.whole_image()
    columns = {"exposure": np.arange(1, len(terms) + 1)} | _relative(terms)
    for name, error in zip(TERMS, errors.T, strict=True):
        size = np.abs(columns[name] - (name == "flux"))
        known = error < np.maximum(NEEDED.get(name, np.inf) / 4, size / 5)
        if not known.any():
            columns[name] = np.full(len(terms), np.nan)
    # The structure alone tells little of the background.
    columns["background"] = np.median(
        _relative(fits.coefficients)["background"], axis=(1, 2)
    )
    columns["noise"] = columns["background"] / noise
    return Table(columns)


def _tile_table(fits):
    maps, tiling = _relative(fits.coefficients), fits.tiling
    number = len(fits.coefficients)
    centres = [
        (np.arange(k) + 0.5) * size + 0.5
        for k, size in zip(tiling.number, tiling.size, strict=True)
    ]
    places = np.meshgrid(np.arange(1, number + 1), *centres, indexing="ij")
    columns = dict(zip(("exposure", "y", "x"), places, strict=True)) | maps
    table = Table({name: np.ravel(plane) for name, plane in columns.items()})
    table["exposure"] = table["exposure"].astype(int)
    for name in table.colnames[1:]:
        table[name] = table[name].astype(np.float32)
        table[name].unit = UNITS.get(name)
    return table
