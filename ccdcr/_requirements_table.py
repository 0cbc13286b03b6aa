# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The one table of requirements; everything else reads it."""

from dataclasses import dataclass
from typing import Any

from ccdcr import _requirement_kinds as kind
from ccdcr._requirement_kinds import choice, integer, number, optional

__all__ = [
    "ALIASES",
    "BOUNDARY_FITS",
    "CRMETHODS",
    "DOCUMENTED",
    "REQUIREMENTS",
    "STAGES",
    "Requirement",
]

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

# Which mm_boundary_fit uses a requirement; others are used by all.
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

# What the documented files say without meaning it.
DOCUMENTED = {"mm_boundary_fit": "spline"}

ALIASES = {"use_auxmedian": "use_lamedian"}


@dataclass(frozen=True)
class Requirement:
    """One row of the table."""

    name: str
    default: Any
    kind: kind.Kind
    unit: str
    stage: str
    keyword: str  # FITS keyword of the mask set's primary header
    meaning: str


_BOOL = kind.boolean
_COUNT = integer(1)
_WHOLE = integer(0)
_AT_LEAST_0 = number(0)
_POSITIVE = number(0, above=True)
_LEVEL = optional(_POSITIVE)
_PAIR = kind.number_or_pair(0)
_REGION = optional(kind.region(100))
_REGIONS = optional(kind.regions)
_PIXELS = optional(kind.pixels)
_BOXES = optional(kind.boxes)
_POINTS = optional(kind.points)
_OFFSETS = optional(kind.offsets)
_FLUX_FACTOR = kind.flux_factor
_FLUX_TO = choice("original", "simulated")
_METHOD = choice(*CRMETHODS)
_CLEANTYPE = choice("median", "medmask", "meanmask", "idw")
_PSFMODEL = choice("gauss", "moffat", "gaussx", "gaussy", "gaussxy")
_FIT = choice("exact", "piecewise", "spline")

# name, default, kind, unit, stage, FITS keyword, meaning
# fmt: off
_ROWS = (
    ("crmethod", "matched", _METHOD, "", "general", "CRMETHOD", "single-image detector, Median-Minimum, either of the two, or matched"),
    ("use_lamedian", False, _BOOL, "", "general", "CRLAMED", "recorded default of the combination: LAMEDIAN instead of the minimum"),
    ("interactive", False, _BOOL, "", "display", "CRINTER", "show the diagnostic plots and pause (command line only)"),
    ("flux_factor", None, _FLUX_FACTOR, "", "general", "CRFLUX", "relative flux of each exposure"),
    ("flux_factor_regions", None, _REGIONS, "pixel", "general", "CRFLUXRG", "where 'auto' measures it; none = whole image"),
    ("apply_flux_factor_to", "simulated", _FLUX_TO, "", "unmatched", "CRFLUXTO", "scale the exposures, or the expected (simulated) ones"),
    ("dilation", 1, _WHOLE, "pixel", "unmatched", "CRDILAT", "8-connected dilation of every mask, times"),
    ("regions_to_be_skipped", None, _REGIONS, "pixel", "general", "CRSKIP", "nothing is flagged there, dilation included"),
    ("pixels_to_be_flagged_as_cr", None, _PIXELS, "pixel", "general", "CRFLAG", "always flagged"),
    ("pixels_to_be_ignored_as_cr", None, _PIXELS, "pixel", "general", "CRIGNORE", "never flagged, dilation included"),
    ("pixels_to_be_replaced_by_local_median", None, _BOXES, "pixel", "general", "CRLOCMED", "replaced by the median of their box, not flagged"),
    ("verify_cr", False, _BOOL, "", "display", "CRVERIFY", "confirm each detection; needs interactive"),
    ("semiwindow", 15, _COUNT, "pixel", "display", "CRSEMIW", "half size of the stamps in the plots"),
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
    ("la_padwidth", 0, _WHOLE, "pixel", "lacosmic", "LAPADWID", "reflected margin, so that outer rows can be flagged; 10 is sensible"),

    ("mm_crosscorr_region", None, _REGION, "pixel", "mm", "MMXCORR", "where offsets between the exposures are measured"),
    ("mm_xy_offsets", None, _OFFSETS, "pixel", "mm", "MMOFFSET", "offsets of the exposures; excludes mm_crosscorr_region"),
    ("mm_boundary_fit", "exact", _FIT, "", "mm", "MMFIT", "boundary: computed, or simulated and fitted"),
    ("mm_false_positives", 1.0, _POSITIVE, "pixel", "mm", "MMFALSE", "exact boundary: pixels of an image that noise may flag"),
    ("mm_knots_splfit", 3, integer(2), "", "mm", "MMKNOTS", "total knots of the spline"),
    ("mm_fixed_points_in_boundary", None, _POINTS, "adu", "mm", "MMFIXED", "points that pin the boundary; piecewise needs two or more"),
    ("mm_nsimulations", 5, _COUNT, "", "mm", "MMNSIM", "simulated sets of exposures"),
    ("mm_niter_boundary_extension", 3, _WHOLE, "", "mm", "MMNITER", "fits that extend the boundary upwards"),
    ("mm_weight_boundary_extension", 10.0, number(1), "", "mm", "MMWEIGHT", "factor of the weight of points above the last fit"),
    ("mm_threshold", 0.0, _AT_LEAST_0, "adu", "mm", "MMTHRESH", "least median - minimum of a hit"),
    ("mm_threshold_rnoise", 0.0, _AT_LEAST_0, "read noise", "mm", "MMTHRRN", "mm_threshold in units of the read noise"),
    ("mm_minimum_max2d_rnoise", 5.0, _AT_LEAST_0, "read noise", "mm", "MMMINMAX", "least maximum over the exposures"),
    ("mm_cr_coincidences", 2, integer(2), "", "mm", "MMCOINC", "number of hits in one pixel that is sought"),
    ("mm_photon_distribution", "poisson", choice("poisson", "nbinom"), "", "mm", "MMPHOTON", "distribution of the photons"),
    ("mm_nbinom_shape", 1000, _POSITIVE, "", "mm", "MMNBSHAP", "shape of the negative binomial distribution"),
    ("mm_synthetic", "median", choice("median", "single"), "", "mm", "MMSYNTH", "what the simulated exposures are made from"),
    ("mm_hist2d_min_neighbors", 0, integer(0, 8), "", "mm", "MMMINNEI", "occupied neighbours that a cell of the diagram needs"),
    ("mm_ydiag_max", 0, _AT_LEAST_0, "adu", "mm", "MMYMAX", "upper end of the diagram; 0 = automatic"),
    ("mm_dilation", 0, _WHOLE, "pixel", "mm", "MMDILAT", "dilation of the Median-Minimum detections alone, times"),
    ("mm_seed", 123456, optional(integer(0)), "", "mm", "MMSEED", "seed of everything random"),

    ("ma_passes", 2, _COUNT, "", "matched", "MAPASSES", "times that the exposures are matched, each with a better reference"),
    ("ma_tile", 64, integer(16), "pixel", "matched", "MATILE", "size of the tiles"),
    ("ma_strips", True, _BOOL, "", "matched", "MASTRIPS", "match along rows and columns, too: sky lines, traces, fibres"),
    ("ma_high", 5.0, _POSITIVE, "sigma", "matched", "MAHIGH", "deviation that a group of hit pixels must reach"),
    ("ma_low", 4.0, _POSITIVE, "sigma", "matched", "MALOW", "deviation of the pixels that are connected to it"),
    ("ma_leak", None, optional(number(0)), "", "matched", "MALEAK", "part of a hit that each neighbour gets; none = measured"),
    ("ma_tail", 2.5, _AT_LEAST_0, "sigma", "matched", "MATAIL", "what a neighbour must reach together with this charge"),
    ("ma_satlevel", None, _LEVEL, "unit of data", "matched", "MASATLEV", "saturation, bias included; none = 65535 adu, or none in electron"),
    ("ma_dilation", 0, _WHOLE, "pixel", "matched", "MADILAT", "8-connected dilation of every mask, times"),
)
# fmt: on

REQUIREMENTS = {row[0]: Requirement(*row) for row in _ROWS}
