# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Reader of exposures, and parameters of the CCD."""

from ccdcr.exposures.ccd_parameters import CCDParameters, find_ccd_parameters
from ccdcr.exposures.load_exposures import Exposures, load_exposures
from ccdcr.exposures.open_exposures import Exposure, load_ccds, open_exposures

__all__ = [
    "CCDParameters",
    "Exposure",
    "Exposures",
    "find_ccd_parameters",
    "load_ccds",
    "load_exposures",
    "open_exposures",
]
