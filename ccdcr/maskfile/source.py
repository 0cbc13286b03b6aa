# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The extensions of a file of masks, checked one by one."""

import numpy as np
from astropy import log
from astropy import units as u
from astropy.io.fits import VerifyError
from astropy.table import Table

from ccdcr._requirement_kinds import short_repr
from ccdcr.equivalence import COLUMNS, Equivalence
from ccdcr.exceptions import CRMasksFileError, MissingUUIDWarning, warn_user
from ccdcr.maskfile.boundaries import hdus_to_boundaries
from ccdcr.maskfile.checks import pixel_boxes
from ccdcr.maskfile.format import (
    BOUNDARY,
    BRIGHT,
    CLEANED,
    CRMASK,
    EQUIVALENCE,
    EXTENSIONS,
    FORMAT,
    TABLE,
    TABLE_COLUMNS,
)

__all__ = ["Source"]


class Source:
    """The extensions of one file, checked one by one."""

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

    def fail(self, extension, found, expected):
        msg = f"{self.name}[{extension}]: {found}, expected {expected}"
        raise CRMasksFileError(msg)

    def mask(self, extension, *, optional=False):
        """Return a mask after checking its shape and values."""
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

    def image(self, extension):
        """Return an image after checking that its shape is that of the others."""
        data = self.hdus[extension].data
        if not self.hdus[extension].is_image or data is None or data.ndim != 2:
            found = "no image" if data is None else f"data of shape {data.shape}"
            self.fail(extension, found, "an image (ny, nx)")
        self.shape = self.shape or data.shape
        if data.shape != self.shape:
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
        """Return the cleaned median image under either of its names."""
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
        """Return the rows of the table of local medians."""
        if TABLE not in self.hdus:
            return None
        hdu = self.hdus[TABLE]
        names = getattr(hdu, "columns", None)
        if names is None or not set(TABLE_COLUMNS) <= set(names.names):
            self.fail(TABLE, "other columns", ", ".join(TABLE_COLUMNS))
        rows = np.column_stack([hdu.data[name] for name in TABLE_COLUMNS])
        try:
            return pixel_boxes(rows, self.shape)
        except (TypeError, ValueError) as err:
            self.fail(TABLE, str(err), "boxes of the image")

    def boundaries(self):
        """Return the exact boundaries by name of the mask."""
        try:
            return hdus_to_boundaries(self.tables)
        except ValueError as err:
            self.fail(BOUNDARY, str(err), "an exact boundary")

    def table(self, extension, columns):
        """Return a table after checking its columns; None if there is none."""
        if extension not in self.hdus:
            return None
        hdu = self.hdus[extension]
        names = getattr(hdu, "columns", None)
        if names is None or not set(columns) <= set(names.names):
            self.fail(extension, "other columns", ", ".join(columns))
        table = Table(hdu.data)[list(columns)]
        table.meta.clear()
        return table

    def bright(self):
        """Return the flagged fractions on bright and faint pixels."""
        return self.table(BRIGHT, ("mask", "bright", "faint"))

    def equivalence(self):
        """Return the report on equivalence, if all of its tables are there."""
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
        return Equivalence(**tables, number=header.get("NUSABLE", 0))

    def flux_factors(self, n):
        """Return the flux factors of the primary header."""
        if f"FLUXF{n + 1}" in self.header:
            self.fail("PRIMARY", f"FLUXF{n + 1} found", f"none without CRMASK{n + 1}")
        return [self.number(f"FLUXF{i}") for i in range(1, n + 1)]

    def number(self, keyword):
        """Return the number that the primary header holds."""
        value = self.header.get(keyword)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            found = "missing" if value is None else short_repr(value)
            self.fail("PRIMARY", f"{keyword} {found}", "a number")
        return value

    def uuid(self):
        """Return the identity; a file without one gets a new one."""
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
        """Return extensions that are not of the format."""
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
        """Return the names of these for a message."""
        return ", ".join(hdu.name or "(no name)" for hdu in self.others)
