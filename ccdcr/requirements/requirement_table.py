# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Table of requirements, and the kinds of their values."""

import math
import operator
from contextlib import suppress
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from ccdcr.exceptions import short_repr
from ccdcr.utils.files import none_if_named

__all__ = [
    "ALIASES",
    "BOUNDARY_FITS",
    "CRMETHODS",
    "DOCUMENTED",
    "REQUIREMENTS",
    "STAGES",
    "Kind",
    "Requirement",
    "boolean",
    "boxes",
    "choice",
    "flux_factor",
    "integer",
    "number",
    "number_or_pair",
    "offsets",
    "optional",
    "pixels",
    "points",
    "region",
    "regions",
    "sequence",
]


@dataclass(frozen=True)
class Kind:
    """A kind of value: a phrase for messages and a check."""

    allowed: str
    check: Any

    def __call__(self, value, name):
        """Return the checked value; messages call it ``name``."""
        try:
            return self.check(value)
        except (TypeError, ValueError) as err:
            if value is not None and none_if_named(value) is None:
                with suppress(TypeError, ValueError):
                    return self.check(None)
            msg = f"{name} must be {self.allowed}, got {short_repr(value)}"
            detail = str(err)
            raise type(err)(f"{msg} ({detail})" if detail else msg) from None


def _real(value):
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise TypeError
    value = value.item() if isinstance(value, np.generic) else value
    try:
        number = float(value)
    except OverflowError:
        raise ValueError from None
    if not math.isfinite(number):
        raise ValueError
    return value if isinstance(value, int) else number


def _whole(value):
    if isinstance(value, (bool, np.bool_)):
        raise TypeError
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError from None


def sequence(value):
    """Return a list, tuple or plain array as a list or tuple."""
    if isinstance(value, np.ndarray) and not hasattr(value, "unit"):
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        raise TypeError
    return value


def _rows(value, check):
    rows = sequence(value)
    return tuple(check(row) for row in rows) or None


def _within(value, minimum, above):
    if minimum is not None and (value < minimum or (above and value == minimum)):
        raise ValueError
    return value


def optional(kind):
    """Return the same kind, or None."""
    return Kind(
        f"none or {kind.allowed}",
        lambda value: None if value is None else kind.check(value),
    )


def choice(*names):
    """Return a kind for one of some names."""

    def check(value):
        if not isinstance(value, str):
            raise TypeError
        if value not in names:
            raise ValueError
        return value

    return Kind("one of " + ", ".join(map(repr, names)), check)


def _boolean(value):
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError
    return bool(value)


boolean = Kind("True or False", _boolean)


def integer(minimum=None, maximum=None, *, odd=False):
    """Return a kind for an integer within limits."""

    def check(value):
        value = _within(_whole(value), minimum, above=False)
        if (maximum is not None and value > maximum) or (odd and value % 2 == 0):
            raise ValueError
        return value

    allowed = "an odd integer" if odd else "an integer"
    if maximum is not None:
        allowed += f" from {minimum} to {maximum}"
    elif minimum is not None:
        allowed += f" >= {minimum}"
    return Kind(allowed, check)


def number(minimum=None, *, above=False):
    """Return a kind for a finite number, >= ``minimum`` or, if ``above``, > it."""
    limit = "" if minimum is None else f" {'>' if above else '>='} {minimum:g}"
    return Kind(
        f"a finite number{limit}", lambda value: _within(_real(value), minimum, above)
    )


def number_or_pair(minimum):
    """Return a kind for one number above a minimum, or a pair of them."""
    single = number(minimum, above=True)

    def check(value):
        if isinstance(value, Real):
            return single.check(value)
        pair = tuple(single.check(item) for item in sequence(value))
        if len(pair) != 2:
            raise ValueError
        return pair

    return Kind(f"a number > {minimum:g} or a pair of them", check)


def _one_region(value, area=1):
    limits = tuple(_whole(item) for item in sequence(value))
    if len(limits) != 4:
        msg = "four limits are needed"
        raise ValueError(msg)
    xmin, xmax, ymin, ymax = limits
    if not (1 <= xmin <= xmax and 1 <= ymin <= ymax):
        msg = "1 <= xmin <= xmax and 1 <= ymin <= ymax must hold"
        raise ValueError(msg)
    if (xmax - xmin + 1) * (ymax - ymin + 1) < area:
        msg = f"the region has less than {area} pixels"
        raise ValueError(msg)
    return limits


def region(area):
    """Return a kind for one region of at least ``area`` pixels."""
    return Kind(
        f"[xmin, xmax, ymin, ymax] of at least {area} pixels",
        lambda value: _one_region(value, area),
    )


regions = Kind(
    "a list of [xmin, xmax, ymin, ymax]", lambda value: _rows(value, _one_region)
)


def _one_pixel(value):
    pixel = tuple(_whole(item) for item in sequence(value))
    if len(pixel) != 2 or min(pixel) < 1:
        msg = "pixels are [X, Y], the first one is [1, 1]"
        raise ValueError(msg)
    return pixel


pixels = Kind("a list of [X, Y]", lambda value: _rows(value, _one_pixel))


def _one_box(value):
    box = tuple(_whole(item) for item in sequence(value))
    if len(box) != 4 or min(box) < 1:
        msg = "four positive integers are needed"
        raise ValueError(msg)
    xwidth, ywidth = box[2:]
    if xwidth % 2 == 0 or ywidth % 2 == 0:
        msg = f"widths must be odd, got {xwidth} x {ywidth}"
        raise ValueError(msg)
    if xwidth * ywidth < 3:
        msg = "the box must have at least 3 pixels"
        raise ValueError(msg)
    return box


boxes = Kind(
    "a list of [X, Y, X_width, Y_width] with odd widths",
    lambda value: _rows(value, _one_box),
)


def _one_point(value):
    point = tuple(_real(item) for item in sequence(value))
    if len(point) not in {2, 3} or (len(point) == 3 and point[2] <= 0):
        msg = "points are [x, y] or [x, y, weight] with weight > 0"
        raise ValueError(msg)
    return point


points = Kind(
    "a list of [x, y] or [x, y, weight]", lambda value: _rows(value, _one_point)
)


def _one_offset(value):
    offset = tuple(_real(item) for item in sequence(value))
    if len(offset) != 2:
        msg = "offsets are [dx, dy]"
        raise ValueError(msg)
    return offset


offsets = Kind("a list of [dx, dy]", lambda value: _rows(value, _one_offset))


def _flux_factor(value):
    positive = number(0, above=True).check
    if isinstance(value, str):
        if value != "auto":
            raise ValueError
        return value
    if isinstance(value, Real):
        return positive(value)
    return tuple(positive(item) for item in sequence(value)) or None


flux_factor = Kind(
    "'none', 'auto', a number > 0 or a list of them, one per exposure",
    lambda value: None if value is None else _flux_factor(value),
)


# In the order of the documented file. The stage says which crmethod uses it.
_SINGLE = ("lacosmic", "pycosmic", "deepcr", "conn")
_WITH_MM = tuple(f"mm_{name}" for name in _SINGLE)
_MATCHED = ("matched", "matched_lacosmic")
_UNMATCHED = ("lacosmic", "mmcosmic", "mm_lacosmic", *_SINGLE[1:], *_WITH_MM[1:])
CRMETHODS = (*_UNMATCHED, *_MATCHED)
STAGES = {
    "general": CRMETHODS,
    "unmatched": _UNMATCHED,
    "display": CRMETHODS,
    "lacosmic": ("lacosmic", "mm_lacosmic", "matched_lacosmic"),
    "mm": ("mmcosmic", *_WITH_MM),
    "matched": _MATCHED,
}

# Values of mm_boundary_fit that use a requirement; all if it is not listed.
_SIMULATED = ("spline", "piecewise")
BOUNDARY_FITS = {
    "mm_crosscorr_region": _SIMULATED,
    "mm_xy_offsets": _SIMULATED,
    "mm_false_positives": ("exact",),
    "mm_knots_splfit": ("spline",),
    "mm_fixed_points_in_boundary": _SIMULATED,
    "mm_nsimulations": _SIMULATED,
    "mm_niter_boundary_extension": ("spline",),
    "mm_weight_boundary_extension": ("spline",),
    "mm_synthetic": _SIMULATED,
    "mm_hist2d_min_neighbors": ("spline",),
    "mm_seed": _SIMULATED,
}

# Values of the documented files, which are not reported as unused.
DOCUMENTED = {"mm_boundary_fit": "spline"}

ALIASES = {"use_auxmedian": "use_lamedian"}


@dataclass(frozen=True)
class Requirement:
    """One row of the table."""

    name: str
    default: Any
    kind: Kind
    unit: str
    stage: str
    keyword: str  # FITS keyword of the mask set's primary header
    meaning: str


_BOOL = boolean
_COUNT = integer(1)
_WHOLE = integer(0)
_AT_LEAST_0 = number(0)
_POSITIVE = number(0, above=True)
_LEVEL = optional(_POSITIVE)
_PAIR = number_or_pair(0)
_REGION = optional(region(100))
_REGIONS = optional(regions)
_PIXELS = optional(pixels)
_BOXES = optional(boxes)
_POINTS = optional(points)
_OFFSETS = optional(offsets)
_FLUX_FACTOR = flux_factor
_FLUX_TO = choice("original", "simulated")
_METHOD = choice(*CRMETHODS)
_CLEANTYPE = choice("median", "medmask", "meanmask", "idw")
_PSFMODEL = choice("gauss", "moffat", "gaussx", "gaussy", "gaussxy")
_FIT = choice("exact", "piecewise", "spline")

# name, default, kind, unit, stage, FITS keyword, meaning
# fmt: off
_ROWS = (
    ("crmethod", "matched", _METHOD, "", "general", "CRMETHOD", "method of detection"),
    ("use_lamedian", False, _BOOL, "", "general", "CRLAMED", "default of the combination: LAMEDIAN instead of the minimum"),
    ("interactive", False, _BOOL, "", "display", "CRINTER", "show the diagnostic plots and pause (command line only)"),
    ("flux_factor", None, _FLUX_FACTOR, "", "general", "CRFLUX", "relative flux of each exposure"),
    ("flux_factor_regions", None, _REGIONS, "pixel", "general", "CRFLUXRG", "where 'auto' measures it; none = whole image"),
    ("apply_flux_factor_to", "simulated", _FLUX_TO, "", "unmatched", "CRFLUXTO", "scale the exposures, or the expected (simulated) ones"),
    ("dilation", 1, _WHOLE, "pixel", "unmatched", "CRDILAT", "number of 8-connected dilations of every mask"),
    ("regions_to_be_skipped", None, _REGIONS, "pixel", "general", "CRSKIP", "nothing is flagged there, dilation included"),
    ("pixels_to_be_flagged_as_cr", None, _PIXELS, "pixel", "general", "CRFLAG", "always flagged"),
    ("pixels_to_be_ignored_as_cr", None, _PIXELS, "pixel", "general", "CRIGNORE", "never flagged, dilation included"),
    ("pixels_to_be_replaced_by_local_median", None, _BOXES, "pixel", "general", "CRLOCMED", "replaced by the median of their box, not flagged"),
    ("verify_cr", False, _BOOL, "", "display", "CRVERIFY", "confirm each detection; needs interactive"),
    ("semiwindow", 15, _COUNT, "pixel", "display", "CRSEMIW", "half size of the plotted stamps"),
    ("color_scale", "zscale", choice("minmax", "zscale"), "", "display", "CRSCALE", "grey scale of the stamps"),
    ("maxplots", -1, integer(-1), "", "display", "CRMAXPLT", "number of detections plotted; -1 = all"),

    ("la_gain_apply", True, _BOOL, "", "lacosmic", "LAGAINAP", "LAMEDIAN in electron (True) or in the unit of the exposures"),
    ("la_sigclip", 5.0, _PAIR, "", "lacosmic", "LASIGCLP", "Laplacian-to-noise limit; a pair = two passes"),
    ("la_sigfrac", 0.3, _PAIR, "", "lacosmic", "LASIGFRC", "fraction of that limit for neighbours; a pair = two passes"),
    ("la_objlim", 5.0, _PAIR, "", "lacosmic", "LAOBJLIM", "contrast to the fine structure; a pair = two passes"),
    ("la_satlevel", 65535.0, _POSITIVE, "adu", "lacosmic", "LASATLEV", "saturation level"),
    ("la_niter", 4, _COUNT, "", "lacosmic", "LANITER", "iterations"),
    ("la_sepmed", True, _BOOL, "", "lacosmic", "LASEPMED", "separable median filter instead of the full one"),
    ("la_cleantype", "meanmask", _CLEANTYPE, "", "lacosmic", "LACLEAN", "how flagged pixels are interpolated"),
    ("la_fsmode", "convolve", choice("median", "convolve"), "", "lacosmic", "LAFSMODE", "how the fine structure is built"),
    ("la_psfmodel", "gaussxy", _PSFMODEL, "", "lacosmic", "LAPSFMOD", "kernel of the fine structure; gaussxy = elliptical Gaussian"),
    ("la_psffwhm_x", 2.5, _POSITIVE, "pixel", "lacosmic", "LAFWHMX", "FWHM along x"),
    ("la_psffwhm_y", 2.5, _POSITIVE, "pixel", "lacosmic", "LAFWHMY", "FWHM along y"),
    ("la_psfsize", 11, integer(3, odd=True), "pixel", "lacosmic", "LAPSFSIZ", "size of the kernel"),
    ("la_psfbeta", 4.765, _POSITIVE, "", "lacosmic", "LAPSFBET", "beta of the Moffat kernel"),
    ("la_verbose", True, _BOOL, "", "general", "LAVERB", "log this stage"),
    ("la_padwidth", 0, _WHOLE, "pixel", "lacosmic", "LAPADWID", "reflected margin, so that outer rows are searched; 10 is recommended"),

    ("mm_crosscorr_region", None, _REGION, "pixel", "mm", "MMXCORR", "where offsets between the exposures are measured"),
    ("mm_xy_offsets", None, _OFFSETS, "pixel", "mm", "MMOFFSET", "offsets of the exposures; excludes mm_crosscorr_region"),
    ("mm_boundary_fit", "exact", _FIT, "", "mm", "MMFIT", "boundary: computed (exact), or simulated and fitted"),
    ("mm_false_positives", 1.0, _POSITIVE, "pixel", "mm", "MMFALSE", "exact boundary: number of pixels of an image that noise may flag"),
    ("mm_knots_splfit", 3, integer(2), "", "mm", "MMKNOTS", "number of knots of the spline"),
    ("mm_fixed_points_in_boundary", None, _POINTS, "adu", "mm", "MMFIXED", "points of the boundary; piecewise needs two or more"),
    ("mm_nsimulations", 5, _COUNT, "", "mm", "MMNSIM", "number of simulated sets of exposures"),
    ("mm_niter_boundary_extension", 3, _WHOLE, "", "mm", "MMNITER", "number of fits that extend the boundary upwards"),
    ("mm_weight_boundary_extension", 10.0, number(1), "", "mm", "MMWEIGHT", "factor of the weight of points above the last fit"),
    ("mm_threshold", 0.0, _AT_LEAST_0, "adu", "mm", "MMTHRESH", "smallest median - minimum of a hit"),
    ("mm_threshold_rnoise", 0.0, _AT_LEAST_0, "read noise", "mm", "MMTHRRN", "mm_threshold in units of the read noise"),
    ("mm_minimum_max2d_rnoise", 5.0, _AT_LEAST_0, "read noise", "mm", "MMMINMAX", "smallest maximum over the exposures of a hit"),
    ("mm_cr_coincidences", 2, integer(2), "", "mm", "MMCOINC", "number of hits of a pixel to be found"),
    ("mm_photon_distribution", "poisson", choice("poisson", "nbinom"), "", "mm", "MMPHOTON", "distribution of the photons"),
    ("mm_nbinom_shape", 1000, _POSITIVE, "", "mm", "MMNBSHAP", "shape of the negative binomial distribution"),
    ("mm_synthetic", "median", choice("median", "single"), "", "mm", "MMSYNTH", "image from which exposures are simulated"),
    ("mm_hist2d_min_neighbors", 0, integer(0, 8), "", "mm", "MMMINNEI", "smallest number of occupied neighbours of a cell of the diagram"),
    ("mm_ydiag_max", 0, _AT_LEAST_0, "adu", "mm", "MMYMAX", "upper limit of the diagram; 0 = automatic"),
    ("mm_dilation", 0, _WHOLE, "pixel", "mm", "MMDILAT", "number of dilations of the Median-Minimum detections alone"),
    ("mm_seed", 123456, optional(integer(0)), "", "mm", "MMSEED", "random seed"),

    ("ma_passes", 2, _COUNT, "", "matched", "MAPASSES", "number of matching passes, each with a better reference"),
    ("ma_tile", 64, integer(16), "pixel", "matched", "MATILE", "size of the tiles"),
    ("ma_strips", True, _BOOL, "", "matched", "MASTRIPS", "also match along rows and columns: sky lines, traces, fibres"),
    ("ma_high", 5.0, _POSITIVE, "sigma", "matched", "MAHIGH", "deviation that one pixel of a hit must reach"),
    ("ma_low", 4.0, _POSITIVE, "sigma", "matched", "MALOW", "deviation that pixels connected to it must reach"),
    ("ma_leak", None, optional(number(0)), "", "matched", "MALEAK", "fraction of its charge that a hit loses to each neighbour; none = measured"),
    ("ma_tail", 2.5, _AT_LEAST_0, "sigma", "matched", "MATAIL", "deviation that a neighbour must reach, charge included, if that is below 1 sigma"),
    ("ma_satlevel", None, _LEVEL, "unit of data", "matched", "MASATLEV", "saturation, bias included; none = 65535 adu, or none in electron"),
    ("ma_dilation", 0, _WHOLE, "pixel", "matched", "MADILAT", "number of 8-connected dilations of every mask"),
)
# fmt: on

REQUIREMENTS = {row[0]: Requirement(*row) for row in _ROWS}
