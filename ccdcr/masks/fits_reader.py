# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Format of mask files: names, tables of boundaries, and checked reading."""

import re
from dataclasses import replace

import numpy as np
from astropy import log
from astropy import units as u
from astropy.io import fits
from astropy.io.fits import VerifyError
from astropy.table import Table

from ccdcr.exceptions import CRMasksFileError, MissingUUIDWarning, short_repr, warn_user
from ccdcr.exposures.ccd_values import KNOWN_UNITS
from ccdcr.masks.expected_table import EXPECTED_COLUMNS
from ccdcr.masks.mask_checks import pixel_boxes
from ccdcr.matching.equivalence import COLUMNS, Equivalence
from ccdcr.median_minimum.exact_boundary import LEVELS, ExactBoundary
from ccdcr.median_minimum.noise_distribution import PhotonNoise

__all__ = [
    "BOUNDARY",
    "BRIGHT",
    "CLEANED",
    "CRMASK",
    "DETECTOR",
    "EDITED",
    "EQUIVALENCE",
    "EXPECTED",
    "EXTENSIONS",
    "FORMAT",
    "IMAGES",
    "LOW",
    "MAPS",
    "NOISE",
    "PIXEL_COLUMNS",
    "POINT",
    "REASON",
    "REQUIRED",
    "TABLE",
    "TABLE_COLUMNS",
    "VERSIONS",
    "Source",
    "boundaries_to_hdus",
    "hdus_to_boundaries",
]

CRMASK = re.compile(r"CRMASK([1-9]\d*)$")
REQUIRED = ("MEDIANCR", "MEANCRT")
CLEANED = ("LAMEDIAN", "AUXCLEAN")  # the same image under two names
TABLE = "RPMEDIAN"
EXPECTED = "EXPECTED"
# Pixels that are low in an exposure, and of new point sources.
LOW, POINT, PIXEL_COLUMNS = "LOW", "POINT", ("EXPOSURE", "X", "Y")
BOUNDARY = "MMBOUND"  # one for each exact boundary
# Small tables: terms, levels and tiles of the equivalence; bright and faint.
EQUIVALENCE = {"terms": "EQTERMS", "levels": "EQLEVELS", "tiles": "EQTILES"}
REASON = "REASON"  # and a number: cards of the levels
BRIGHT = "BRIGHT"
# Gain and read noise that are not one number: cards of each exposure, or a map.
MAPS = {"gain": ("CRGAIN", "GAINMAP"), "readnoise": ("CRRN", "RNMAP")}
IMAGES = {*REQUIRED, *CLEANED, "MEANCR", "GAINMAP", "RNMAP"}  # and CRMASKi
FORMAT = {*IMAGES, TABLE, LOW, POINT, EXPECTED, *EQUIVALENCE.values(), BRIGHT}
TABLE_COLUMNS = ("X_pixel", "Y_pixel", "X_width", "Y_width")

# Other cards of the primary header than UUID, FLUXFi and requirements.
DETECTOR = {
    "gain": ("CRGAIN", "[electron/adu] gain"),
    "readnoise": ("CRRDNOIS", "[electron] read noise"),
    "bias": ("CRBIAS", "[unit of the exposures] bias"),
}
VERSIONS = {
    "ccdcr": "VCCDCR",
    "ccdproc": "VCCDPROC",
    "astroscrappy": "VASCRAPP",
    "numpy": "VNUMPY",
}
NOISE = "CRNOISE"
EXTENSIONS = "NEXTEND"  # how many there are, so that a cut file is noticed
EDITED = "ccdcr edit: "  # begins the lines of HISTORY that record edits


_NUMBERS = ("P_VALUE", "SCALE", "READNOISE", "SHAPE")


def boundaries_to_hdus(boundaries):
    """Return exact boundaries, by name of the mask, as tables."""
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
    # In columns, unlike cards, numbers keep all digits.
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
    """Return the exact boundaries in tables, by name of the mask, or ValueError."""
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


class Source:
    """Extensions of one file of masks, checked when they are read."""

    def __init__(self, hdulist, name):
        self.name = name
        self.hdus = {}
        self.tables = []
        self.others = []
        self.shape = None
        if len(hdulist) == 0:
            self.fail("PRIMARY", "missing", "it")
        self.header = self._standard(hdulist[0]).header
        for hdu in hdulist[1:]:
            if hdu.name == BOUNDARY:
                self.tables.append(hdu)
            elif hdu.name not in FORMAT and not CRMASK.match(hdu.name):
                self.others.append(hdu)
            elif hdu.name in self.hdus:
                self.fail(hdu.name, "found twice", "one")
            else:
                self.hdus[hdu.name] = hdu
        if not any(name in REQUIRED or CRMASK.match(name) for name in self.hdus):
            found = ", ".join(hdu.name or "(no name)" for hdu in hdulist)
            msg = (
                f"{name} is not a file of masks, which has the extensions MEDIANCR, "
                f"MEANCRT, CRMASK1 and so on; it has {found}"
            )
            raise CRMasksFileError(msg)

    def fail(self, extension, found, expected):
        msg = f"{self.name}[{extension}]: {found}, expected {expected}"
        raise CRMasksFileError(msg)

    def mask(self, extension, *, optional=False):
        """Return a mask (ny, nx) after checking its shape and values."""
        if extension not in self.hdus:
            if optional:
                return None
            found = ", ".join(filter(None, [*self.hdus, self.other_names()]))
            self.fail(extension, f"missing; found {found or 'none'}", "it")
        data = self.image(extension)
        if data.dtype.kind not in "ui":
            self.fail(extension, f"values of type {data.dtype}", "uint8 0 and 1")
        if data.size and (data.min() < 0 or data.max() > 1):
            found = f"values from {data.min()} to {data.max()}"
            self.fail(extension, found, "only 0 and 1")
        return data

    def image(self, extension, ndims=(2,)):
        """Return an image (ny, nx) after checking that all have the same shape."""
        data = self.hdus[extension].data
        if not self.hdus[extension].is_image or getattr(data, "ndim", 0) not in ndims:
            found = "no image" if data is None else f"data of shape {data.shape}"
            self.fail(extension, found, "an image (ny, nx)")
        self.shape = self.shape or data.shape[-2:]
        if data.shape[-2:] != self.shape:
            self.fail(extension, f"shape {data.shape}", f"{self.shape}, as before it")
        return data

    def crmasks(self):
        """Return the masks of the exposures."""
        numbers = sorted(int(m[1]) for name in self.hdus if (m := CRMASK.match(name)))
        if not numbers:
            self.fail("CRMASK1", "missing", "one for each exposure, from 1 on")
        for expected, number in enumerate(numbers, start=1):
            if number != expected:
                self.fail(f"CRMASK{expected}", "missing", f"up to CRMASK{numbers[-1]}")
        return [self.mask(f"CRMASK{number}") for number in numbers]

    def cleaned(self):
        """Return the cleaned median image (ny, nx), under either name, or None."""
        found = [name for name in CLEANED if name in self.hdus]
        if not found:
            return None
        if len(found) > 1:
            self.fail(found[1], "found beside LAMEDIAN", "one of the two")
        data = self.image(found[0])
        unit = self.hdus[found[0]].header.get("BUNIT", "")
        if unit in {None, ""}:
            return data
        try:
            # As CCDData.read does it: many files say ADU.
            unit = "adu" if unit.lower() == "adu" else unit
            return u.Quantity(data, u.Unit(unit))
        except (ValueError, TypeError, AttributeError):
            self.fail(found[0], f"BUNIT = {unit!r}", "a unit")

    def boxes(self):
        """Return the table of local medians (m, 4), or None."""
        data = self._columns(TABLE, TABLE_COLUMNS)
        if data is None:
            return None
        rows = np.column_stack([data[name] for name in TABLE_COLUMNS])
        try:
            return pixel_boxes(rows, self.shape)
        except (TypeError, ValueError) as err:
            self.fail(TABLE, str(err), "boxes of the image")

    def pixels(self, extension):
        """Return the rows of a table of pixels of exposures, or None."""
        table = self.table(extension, PIXEL_COLUMNS)
        if table is None:
            return None
        columns = [np.asarray(table[name]) for name in PIXEL_COLUMNS]
        if any(column.dtype.kind not in "ui" for column in columns):
            self.fail(extension, "other columns than of integers", "EXPOSURE, X and Y")
        return np.column_stack([column.astype(int) for column in columns])

    def expected(self):
        """Return the table of expected values, or None."""
        table = self.table(EXPECTED, EXPECTED_COLUMNS)
        if table is None:
            return None
        for name in ("VALUE", "SIGMA"):
            unit = str(self.hdus[EXPECTED].columns[name].unit).lower()
            known = {str(each).lower(): each for each in KNOWN_UNITS}
            table[name].unit = known.get(unit)
        return table

    def boundaries(self):
        """Return the exact boundaries by name of the mask."""
        try:
            return hdus_to_boundaries(self.tables)
        except ValueError as err:
            self.fail(BOUNDARY, str(err), "an exact boundary")

    def table(self, extension, columns):
        """Return some columns of a table, or None if the table is missing."""
        data = self._columns(extension, columns)
        if data is None:
            return None
        table = Table(data)[list(columns)]
        table.meta.clear()
        return table

    def _columns(self, extension, columns):
        """Return the data of a table that has some columns, or None without it."""
        if extension not in self.hdus:
            return None
        hdu = self.hdus[extension]
        names = getattr(hdu, "columns", None)
        if names is None or not set(columns) <= set(names.names):
            self.fail(extension, "other columns", ", ".join(columns))
        return hdu.data

    def bright(self):
        """Return the table of flagged fractions on bright and faint pixels, or None."""
        return self.table(BRIGHT, ("mask", "bright", "faint"))

    def equivalence(self):
        """Return the report on equivalence, or None if all its tables are missing."""
        tables = {
            name: self.table(extension, COLUMNS[name])
            for name, extension in EQUIVALENCE.items()
        }
        missing = [EQUIVALENCE[name] for name, x in tables.items() if x is None]
        if len(missing) == len(tables):
            return None
        if missing:
            self.fail(missing[0], "missing", "it beside the others of the report")
        header = self.hdus[EQUIVALENCE["levels"]].header
        reasons = [str(text) for text in header[f"{REASON}*"].values()]
        return Equivalence(**tables, number=header.get("NUSABLE", 0), reasons=reasons)

    def ccd_values(self, n):
        """Return gain and read noise, by name, that are not one number."""
        found = {}
        for name, (keyword, extension) in MAPS.items():
            if extension in self.hdus:
                found[name] = self.image(extension, (2, 3))
            elif f"{keyword}1" in self.header:
                found[name] = [self.number(f"{keyword}{i}") for i in range(1, n + 1)]
        return found

    def flux_factors(self, n):
        """Return the n flux factors of the primary header."""
        if f"FLUXF{n + 1}" in self.header:
            self.fail("PRIMARY", f"FLUXF{n + 1} found", f"none without CRMASK{n + 1}")
        return [self.number(f"FLUXF{i}") for i in range(1, n + 1)]

    def number(self, keyword):
        """Return the number of a keyword of the primary header."""
        value = self.header.get(keyword)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            found = "missing" if value is None else short_repr(value)
            self.fail("PRIMARY", f"{keyword} {found}", "a number")
        return value

    def uuid(self):
        """Return the UUID, or None with a warning."""
        uuid = self.header.get("UUID")
        if uuid:
            return str(uuid)
        msg = f"{self.name} has no UUID in its primary header; a new one is made"
        warn_user(msg, MissingUUIDWarning)
        return None

    def check_number(self):
        """Refuse a file that was cut between two extensions."""
        found = len(self.hdus) + len(self.tables) + len(self.others)
        if EXTENSIONS in self.header and found < self.number(EXTENSIONS):
            expected = f"{self.header[EXTENSIONS]} ({EXTENSIONS})"
            self.fail("PRIMARY", f"{found} extensions follow", expected)

    def extras(self):
        """Return copies of the extensions that are not of the format."""
        if names := self.other_names():
            log.debug(f"{self.name}: extensions kept but not used: {names}")
        return tuple(map(self._standard, self.others))

    def _standard(self, hdu):
        """Return a copy of an extension that can be written again."""
        hdu = hdu.copy()
        try:
            hdu.verify("silentfix+exception")
        except VerifyError as err:
            found = " ".join(str(err).split())
            self.fail(hdu.name, found, "an extension by the FITS standard")
        return hdu

    def other_names(self):
        """Return the names of extensions that are not of the format, as text."""
        return ", ".join(hdu.name or "(no name)" for hdu in self.others)
