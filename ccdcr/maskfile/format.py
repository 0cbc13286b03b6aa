# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Names of extensions and keywords of crmasks.fits."""

import re

__all__ = [
    "BOUNDARY",
    "BRIGHT",
    "CLEANED",
    "CRMASK",
    "DETECTOR",
    "EDITED",
    "EQUIVALENCE",
    "EXTENSIONS",
    "FORMAT",
    "IMAGES",
    "REQUIRED",
    "TABLE",
    "TABLE_COLUMNS",
    "VERSIONS",
]

CRMASK = re.compile(r"CRMASK([1-9]\d*)$")
REQUIRED = ("MEDIANCR", "MEANCRT")
CLEANED = ("LAMEDIAN", "AUXCLEAN")  # the same image under two names
TABLE = "RPMEDIAN"
BOUNDARY = "MMBOUND"  # one for each exact boundary
# Small tables: terms, levels and tiles of the equivalence; bright and faint.
EQUIVALENCE = {"terms": "EQTERMS", "levels": "EQLEVELS", "tiles": "EQTILES"}
BRIGHT = "BRIGHT"
IMAGES = {*REQUIRED, *CLEANED, "MEANCR"}  # and CRMASKi
FORMAT = {*IMAGES, TABLE, *EQUIVALENCE.values(), BRIGHT}
TABLE_COLUMNS = ("X_pixel", "Y_pixel", "X_width", "Y_width")

# Everything else in the primary header, beside UUID, FLUXFi and requirements.
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
EXTENSIONS = "NEXTEND"  # how many there are, so that a cut file is noticed
EDITED = "ccdcr edit: "  # begins the lines of HISTORY that record edits
