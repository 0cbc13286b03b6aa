# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The one table of requirements; everything else reads it."""

from dataclasses import dataclass
from typing import Any

from ccdcr import _requirement_kinds as kind

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


def _stage(stage, *rows):
    for name, default, kind_, unit, keyword, meaning in rows:
        yield Requirement(name, default, kind_, unit, stage, keyword, meaning)


_REGIONS = kind.optional(kind.regions)
_PIXELS = kind.optional(kind.pixels)
_COUNT = kind.integer(1)
_POSITIVE = kind.number(0, above=True)

_ROWS = (
    *_stage(
        "general",
        (
            "crmethod",
            "matched",
            kind.choice(*CRMETHODS),
            "",
            "CRMETHOD",
            "single-image detector, Median-Minimum, either of the two, or matched",
        ),
        (
            "use_lamedian",
            False,
            kind.boolean,
            "",
            "CRLAMED",
            "recorded default of the combination: LAMEDIAN instead of the minimum",
        ),
    ),
    *_stage(
        "display",
        (
            "interactive",
            False,
            kind.boolean,
            "",
            "CRINTER",
            "show the diagnostic plots and pause (command line only)",
        ),
    ),
    *_stage(
        "general",
        (
            "flux_factor",
            None,
            kind.flux_factor,
            "",
            "CRFLUX",
            "relative flux of each exposure",
        ),
        (
            "flux_factor_regions",
            None,
            _REGIONS,
            "pixel",
            "CRFLUXRG",
            "where 'auto' measures it; none = whole image",
        ),
    ),
    *_stage(
        "unmatched",
        (
            "apply_flux_factor_to",
            "simulated",
            kind.choice("original", "simulated"),
            "",
            "CRFLUXTO",
            "scale the exposures, or the expected (simulated) ones",
        ),
        (
            "dilation",
            1,
            kind.integer(0),
            "pixel",
            "CRDILAT",
            "8-connected dilation of every mask, times",
        ),
    ),
    *_stage(
        "general",
        (
            "regions_to_be_skipped",
            None,
            _REGIONS,
            "pixel",
            "CRSKIP",
            "nothing is flagged there, dilation included",
        ),
        (
            "pixels_to_be_flagged_as_cr",
            None,
            _PIXELS,
            "pixel",
            "CRFLAG",
            "always flagged",
        ),
        (
            "pixels_to_be_ignored_as_cr",
            None,
            _PIXELS,
            "pixel",
            "CRIGNORE",
            "never flagged, dilation included",
        ),
        (
            "pixels_to_be_replaced_by_local_median",
            None,
            kind.optional(kind.boxes),
            "pixel",
            "CRLOCMED",
            "replaced by the median of their box, not flagged",
        ),
    ),
    *_stage(
        "display",
        (
            "verify_cr",
            False,
            kind.boolean,
            "",
            "CRVERIFY",
            "confirm each detection; needs interactive",
        ),
        (
            "semiwindow",
            15,
            _COUNT,
            "pixel",
            "CRSEMIW",
            "half size of the stamps in the plots",
        ),
        (
            "color_scale",
            "zscale",
            kind.choice("minmax", "zscale"),
            "",
            "CRSCALE",
            "grey scale of the stamps",
        ),
        (
            "maxplots",
            -1,
            kind.integer(-1),
            "",
            "CRMAXPLT",
            "number of detections plotted; -1 = all",
        ),
    ),
    *_stage(
        "lacosmic",
        (
            "la_gain_apply",
            True,
            kind.boolean,
            "",
            "LAGAINAP",
            "LAMEDIAN in electron (True) or in the unit of the exposures",
        ),
        (
            "la_sigclip",
            5.0,
            kind.number_or_pair(0),
            "",
            "LASIGCLP",
            "Laplacian-to-noise limit; a pair = two passes",
        ),
        (
            "la_sigfrac",
            0.3,
            kind.number_or_pair(0),
            "",
            "LASIGFRC",
            "fraction of that limit for neighbours; a pair = two passes",
        ),
        (
            "la_objlim",
            5.0,
            kind.number_or_pair(0),
            "",
            "LAOBJLIM",
            "contrast to the fine structure; a pair = two passes",
        ),
        ("la_satlevel", 65535.0, _POSITIVE, "adu", "LASATLEV", "saturation level"),
        ("la_niter", 4, _COUNT, "", "LANITER", "iterations"),
        (
            "la_sepmed",
            True,
            kind.boolean,
            "",
            "LASEPMED",
            "separable median filter instead of the full one",
        ),
        (
            "la_cleantype",
            "meanmask",
            kind.choice("median", "medmask", "meanmask", "idw"),
            "",
            "LACLEAN",
            "how flagged pixels are interpolated",
        ),
        (
            "la_fsmode",
            "convolve",
            kind.choice("median", "convolve"),
            "",
            "LAFSMODE",
            "how the fine structure is built",
        ),
        (
            "la_psfmodel",
            "gaussxy",
            kind.choice("gauss", "moffat", "gaussx", "gaussy", "gaussxy"),
            "",
            "LAPSFMOD",
            "kernel of the fine structure; gaussxy = elliptical Gaussian",
        ),
        ("la_psffwhm_x", 2.5, _POSITIVE, "pixel", "LAFWHMX", "FWHM along x"),
        ("la_psffwhm_y", 2.5, _POSITIVE, "pixel", "LAFWHMY", "FWHM along y"),
        (
            "la_psfsize",
            11,
            kind.integer(3, odd=True),
            "pixel",
            "LAPSFSIZ",
            "size of the kernel",
        ),
        ("la_psfbeta", 4.765, _POSITIVE, "", "LAPSFBET", "beta of the Moffat kernel"),
    ),
    *_stage(
        "general",
        ("la_verbose", True, kind.boolean, "", "LAVERB", "log this stage"),
    ),
    *_stage(
        "lacosmic",
        (
            "la_padwidth",
            0,
            kind.integer(0),
            "pixel",
            "LAPADWID",
            "reflected margin, so that outer rows can be flagged; 10 is sensible",
        ),
    ),
    *_stage(
        "mm",
        (
            "mm_crosscorr_region",
            None,
            kind.optional(kind.region(100)),
            "pixel",
            "MMXCORR",
            "where offsets between the exposures are measured",
        ),
        (
            "mm_xy_offsets",
            None,
            kind.optional(kind.offsets),
            "pixel",
            "MMOFFSET",
            "offsets of the exposures; excludes mm_crosscorr_region",
        ),
        (
            "mm_boundary_fit",
            "exact",
            kind.choice("exact", "piecewise", "spline"),
            "",
            "MMFIT",
            "boundary: computed, or simulated and fitted",
        ),
        (
            "mm_false_positives",
            1.0,
            _POSITIVE,
            "pixel",
            "MMFALSE",
            "exact boundary: pixels of an image that noise may flag",
        ),
        (
            "mm_knots_splfit",
            3,
            kind.integer(2),
            "",
            "MMKNOTS",
            "total knots of the spline",
        ),
        (
            "mm_fixed_points_in_boundary",
            None,
            kind.optional(kind.points),
            "adu",
            "MMFIXED",
            "points that pin the boundary; piecewise needs two or more",
        ),
        ("mm_nsimulations", 5, _COUNT, "", "MMNSIM", "simulated sets of exposures"),
        (
            "mm_niter_boundary_extension",
            3,
            kind.integer(0),
            "",
            "MMNITER",
            "fits that extend the boundary upwards",
        ),
        (
            "mm_weight_boundary_extension",
            10.0,
            kind.number(1),
            "",
            "MMWEIGHT",
            "factor of the weight of points above the last fit",
        ),
        (
            "mm_threshold",
            0.0,
            kind.number(0),
            "adu",
            "MMTHRESH",
            "least median - minimum of a hit",
        ),
        (
            "mm_threshold_rnoise",
            0.0,
            kind.number(0),
            "read noise",
            "MMTHRRN",
            "mm_threshold in units of the read noise",
        ),
        (
            "mm_minimum_max2d_rnoise",
            5.0,
            kind.number(0),
            "read noise",
            "MMMINMAX",
            "least maximum over the exposures",
        ),
        (
            "mm_cr_coincidences",
            2,
            kind.integer(2),
            "",
            "MMCOINC",
            "number of hits in one pixel that is sought",
        ),
        (
            "mm_photon_distribution",
            "poisson",
            kind.choice("poisson", "nbinom"),
            "",
            "MMPHOTON",
            "distribution of the photons",
        ),
        (
            "mm_nbinom_shape",
            1000,
            _POSITIVE,
            "",
            "MMNBSHAP",
            "shape of the negative binomial distribution",
        ),
        (
            "mm_synthetic",
            "median",
            kind.choice("median", "single"),
            "",
            "MMSYNTH",
            "what the simulated exposures are made from",
        ),
        (
            "mm_hist2d_min_neighbors",
            0,
            kind.integer(0, 8),
            "",
            "MMMINNEI",
            "occupied neighbours that a cell of the diagram needs",
        ),
        (
            "mm_ydiag_max",
            0,
            kind.number(0),
            "adu",
            "MMYMAX",
            "upper end of the diagram; 0 = automatic",
        ),
        (
            "mm_dilation",
            0,
            kind.integer(0),
            "pixel",
            "MMDILAT",
            "dilation of the Median-Minimum detections alone, times",
        ),
        (
            "mm_seed",
            123456,
            kind.optional(kind.integer(0)),
            "",
            "MMSEED",
            "seed of everything random",
        ),
    ),
    *_stage(
        "matched",
        (
            "ma_passes",
            2,
            _COUNT,
            "",
            "MAPASSES",
            "times that the exposures are matched, each with a better reference",
        ),
        ("ma_tile", 64, kind.integer(16), "pixel", "MATILE", "size of the tiles"),
        (
            "ma_strips",
            True,
            kind.boolean,
            "",
            "MASTRIPS",
            "match along rows and columns, too: sky lines, traces, fibres",
        ),
        (
            "ma_high",
            5.0,
            _POSITIVE,
            "sigma",
            "MAHIGH",
            "deviation that a group of hit pixels must reach",
        ),
        (
            "ma_low",
            4.0,
            _POSITIVE,
            "sigma",
            "MALOW",
            "deviation of the pixels that are connected to it",
        ),
        (
            "ma_leak",
            None,
            kind.optional(kind.number(0)),
            "",
            "MALEAK",
            "part of a hit that each neighbour gets; none = measured",
        ),
        (
            "ma_tail",
            2.5,
            kind.number(0),
            "sigma",
            "MATAIL",
            "what a neighbour must reach together with this charge",
        ),
        (
            "ma_satlevel",
            None,
            kind.optional(_POSITIVE),
            "unit of data",
            "MASATLEV",
            "saturation, bias included; none = 65535 adu, or none in electron",
        ),
        (
            "ma_dilation",
            0,
            kind.integer(0),
            "pixel",
            "MADILAT",
            "8-connected dilation of every mask, times",
        ),
    ),
)

REQUIREMENTS = {row.name: row for row in _ROWS}
