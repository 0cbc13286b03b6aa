# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Exact boundaries as FITS tables of a file of masks."""

from dataclasses import replace

import numpy as np
from astropy.io import fits
from astropy.table import Table

from ccdcr.detection.exact.boundary import LEVELS, ExactBoundary
from ccdcr.detection.exact.noise import PhotonNoise
from ccdcr.maskfile.format import BOUNDARY

__all__ = ["boundaries_to_hdus", "hdus_to_boundaries"]

_NUMBERS = ("P_VALUE", "SCALE", "READNOISE", "SHAPE")


def boundaries_to_hdus(boundaries):
    """
    Return exact boundaries as tables.

    Parameters
    ----------
    boundaries : dict of `~ccdcr.detection.exact.boundary.ExactBoundary`
        The boundaries by name of the mask. Masks may share one.

    Returns
    -------
    hdus : list of `~astropy.io.fits.BinTableHDU`
        One table for each boundary, and for each of its ``fewer``.
    """
    masks = {}
    for name, boundary in boundaries.items():
        masks.setdefault(id(boundary), (boundary, []))[1].append(name)
    tables = [
        _to_table(part, names)
        for boundary, names in masks.values()
        for part in (boundary, *boundary.fewer)
    ]
    return [
        fits.BinTableHDU(table, name=BOUNDARY, ver=i)
        for i, table in enumerate(tables, start=1)
    ]


def _to_table(boundary, names):
    n = len(boundary.excess)
    noise = boundary.noise
    shape = 0.0 if np.isinf(noise.shape) else noise.shape
    values = (boundary.p_value, boundary.scale, noise.readnoise, shape)
    columns = {"X": boundary.x, "Y": boundary.y, "EXCESS": boundary.excess}
    columns["SURFACE"] = np.asarray(boundary.surface, dtype=np.float32)
    # As columns, numbers keep all of their digits.
    columns |= {
        name: np.full(n, value) for name, value in zip(_NUMBERS, values, strict=True)
    }
    table = Table(columns)
    table.meta = {
        "MASKS": ",".join(names),
        "STATIST": boundary.statistic,
        "NEXP": boundary.n_exposures,
        "FIRST": boundary.first,
    }
    return table


def hdus_to_boundaries(hdus):
    """
    Return the boundaries that tables hold.

    Parameters
    ----------
    hdus : list of `~astropy.io.fits.BinTableHDU`
        The tables.

    Returns
    -------
    boundaries : dict of `~ccdcr.detection.exact.boundary.ExactBoundary`
        The boundaries by name of the mask.

    Raises
    ------
    ValueError
        If a table does not hold a boundary.
    """
    parts = {}
    for hdu in hdus:
        boundary = _from_hdu(hdu)
        for name in str(hdu.header.get("MASKS", "")).split(","):
            parts.setdefault(name, []).append(boundary)
    boundaries, known = {}, {}
    for name, found in parts.items():
        key = tuple(map(id, found))
        if key not in known:
            first, *fewer = sorted(found, key=lambda b: -b.n_exposures)
            known[key] = replace(first, fewer=tuple(fewer))
        boundaries[name] = known[key]
    return boundaries


def _from_hdu(hdu):
    wanted = {"EXCESS", "SURFACE", *_NUMBERS}
    names = set(getattr(getattr(hdu, "columns", None), "names", ()))
    if not wanted <= names:
        msg = f"columns {sorted(names)} found, {sorted(wanted)} expected"
        raise ValueError(msg)
    values = [np.asarray(hdu.data[name], dtype=float) for name in _NUMBERS]
    excess = np.asarray(hdu.data["EXCESS"], dtype=float)
    surface = np.asarray(hdu.data["SURFACE"], dtype=np.float32)
    first, n = hdu.header.get("FIRST"), hdu.header.get("NEXP")
    _check(excess, surface, values, first, n)
    p_value, scale, readnoise, shape = (float(value[0]) for value in values)
    noise = PhotonNoise(readnoise, shape or np.inf)
    statistic = str(hdu.header.get("STATIST", ""))
    return ExactBoundary(statistic, n, p_value, scale, noise, first, excess, surface)


def _check(excess, surface, values, first, n):
    if surface.shape != (len(excess), len(LEVELS)) or len(excess) == 0:
        shape = (len(excess), len(LEVELS))
        msg = f"SURFACE has shape {surface.shape}, {shape} expected"
        raise ValueError(msg)
    if not all(isinstance(number, int) for number in (first, n)) or n < 2:
        msg = f"FIRST = {first!r} and NEXP = {n!r} found, whole numbers expected"
        raise ValueError(msg)
    if not all(np.isfinite(array).all() for array in (excess, surface, *values)):
        msg = "values that are not finite found"
        raise ValueError(msg)
    p_value, scale, readnoise, shape = (value[0] for value in values)
    if not (0 < p_value < 1 and scale > 0 and readnoise > 0 and shape >= 0):
        found = {name: value[0] for name, value in zip(_NUMBERS, values, strict=True)}
        msg = f"{found} found, numbers above 0 expected"
        raise ValueError(msg)
