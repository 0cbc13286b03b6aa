# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the requirements: the specification is typed in here as the truth."""

import copy
import inspect
import pickle
import re
import tempfile
from fractions import Fraction
from pathlib import Path

import astroscrappy
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from ccdcr import Requirements, UnknownRequirementError
from ccdcr.requirements.requirement_table import ALIASES, REQUIREMENTS, STAGES

# Keep the files of hypothesis out of the source tree.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis")

# The documented file, then what later versions of the original software added:
# name, default, some values that are allowed, some of the wrong value, some of
# the wrong kind.
POSITIVE = ([0.1, 1, 7.5], [0, -1.0, np.nan, np.inf], ["5", True, [1]])
PAIR = (
    [0.1, 3, (6.0, 3.0), (5, 1)],
    [0, -1, (1, 0), (1.0, 2.0, 3.0), (1,), np.inf],
    ["5", True, (1, "2"), (True, 1)],
)
NOT_NEGATIVE = ([0, 0.5, 12], [-0.1, np.nan, np.inf], ["1", False, [1], None])
BOOLEAN = ([True, False], [], [0, 1, "True", None])
REGION_LIST = (
    [None, ((1, 1, 1, 1),), ((1, 4, 2, 9), (3, 3, 3, 3))],
    [[[0, 3, 1, 3]], [[3, 2, 1, 1]], [[1, 1, 3, 2]], [[1, 2, 3]], [[1, 2, 0, 3]]],
    [5, "auto", [1, 2, 3, 4], [[1.5, 2, 3, 4]], [["1", 2, 3, 4]], [[True, 2, 3, 4]]],
)
PIXEL_LIST = (
    [None, ((1, 1),), ((5, 2), (7, 7))],
    [[[0, 1]], [[1, 0]], [[1]], [[1, 2, 3]]],
    [3, "all", [1, 2], [[1.5, 2]], [[True, 2]]],
)
SPECIFICATION = [
    (
        "crmethod",
        "matched",
        [
            "lacosmic",
            "mmcosmic",
            "mm_lacosmic",
            "pycosmic",
            "deepcr",
            "conn",
            "mm_pycosmic",
            "mm_deepcr",
            "mm_conn",
            "matched",
            "matched_lacosmic",
        ],
        ["median", "", "LACOSMIC"],
        [None, 1, True],
    ),
    ("use_lamedian", False, *BOOLEAN),
    ("interactive", False, *BOOLEAN),
    (
        "flux_factor",
        None,
        [None, "auto", 0.5, 2, (0.9, 1, 1.1)],
        ["automatic", 0, -1.0, [1.0, 0.0], np.nan, [np.inf]],
        [True, ["1"], {"a": 1}, [None]],
    ),
    ("flux_factor_regions", None, *REGION_LIST),
    (
        "apply_flux_factor_to",
        "simulated",
        ["original", "simulated"],
        ["both", "none"],
        [None, 0],
    ),
    ("dilation", 1, [0, 1, 5], [-1], [1.0, "1", True, None]),
    ("regions_to_be_skipped", None, *REGION_LIST),
    ("pixels_to_be_flagged_as_cr", None, *PIXEL_LIST),
    ("pixels_to_be_ignored_as_cr", None, *PIXEL_LIST),
    (
        "pixels_to_be_replaced_by_local_median",
        None,
        [None, ((1, 1, 3, 1),), ((40, 50, 5, 3), (1, 1, 1, 3))],
        [
            [[1, 1, 2, 3]],
            [[1, 1, 3, 4]],
            [[1, 1, 1, 1]],
            [[0, 1, 3, 3]],
            [[1, 1, 3]],
            [[1, 1, -3, -3]],
        ],
        [7, [1, 1, 3, 3], [[1.0, 1, 3, 3]]],
    ),
    ("verify_cr", False, [False], [], [0, "no", None]),
    ("semiwindow", 15, [1, 40], [0, -3], [2.0, "15", True, None]),
    ("color_scale", "zscale", ["minmax", "zscale"], ["log"], [None, 1]),
    ("maxplots", -1, [-1, 0, 12], [-2], [1.5, "all", None]),
    ("la_gain_apply", True, *BOOLEAN),
    ("la_sigclip", 5.0, *PAIR),
    ("la_sigfrac", 0.3, *PAIR),
    ("la_objlim", 5.0, *PAIR),
    ("la_satlevel", 65535.0, *POSITIVE),
    ("la_niter", 4, [1, 9], [0, -1], [4.0, "4", True]),
    ("la_sepmed", True, *BOOLEAN),
    (
        "la_cleantype",
        "meanmask",
        ["median", "medmask", "meanmask", "idw"],
        ["mean"],
        [None, 3],
    ),
    ("la_fsmode", "convolve", ["median", "convolve"], ["mean"], [None]),
    (
        "la_psfmodel",
        "gaussxy",
        ["gauss", "moffat", "gaussx", "gaussy", "gaussxy"],
        ["gaussian"],
        [None],
    ),
    ("la_psffwhm_x", 2.5, *POSITIVE),
    ("la_psffwhm_y", 2.5, *POSITIVE),
    ("la_psfsize", 11, [3, 5, 21], [1, 4, 10, -3], [5.0, "5", True]),
    ("la_psfbeta", 4.765, *POSITIVE),
    ("la_verbose", True, *BOOLEAN),
    ("la_padwidth", 0, [0, 10], [-1], [1.0, "0", False]),
    (
        "mm_crosscorr_region",
        None,
        [None, (1, 10, 1, 10), (5, 104, 7, 7)],
        [[1, 9, 1, 11], [0, 20, 1, 20], [20, 1, 1, 20], [1, 20, 1]],
        [3, "all", [1.0, 20, 1, 20]],
    ),
    (
        "mm_xy_offsets",
        None,
        [None, ((0, 0), (1.5, -2), (0.25, 3))],
        [[[1]], [[1, 2, 3]], [[np.nan, 1]]],
        [5, "auto", [1, 2], [["1", 2]]],
    ),
    ("mm_boundary_fit", "exact", ["exact", "spline"], ["linear"], [None, 2]),
    ("mm_false_positives", 1.0, *POSITIVE),
    ("mm_knots_splfit", 3, [2, 8], [1, 0], [3.0, "3", True]),
    (
        "mm_fixed_points_in_boundary",
        None,
        [None, ((10, 5.5),), ((10, 5.5, 100), (20.0, 8))],
        [[[1]], [[1, 2, 0]], [[1, 2, -1]], [[1, 2, 3, 4]], [[np.inf, 2]]],
        [5, "none of these", [1, 2], [["1", 2]]],
    ),
    ("mm_nsimulations", 5, [1, 20], [0], [5.0, "5", True]),
    ("mm_niter_boundary_extension", 3, [0, 7], [-1], [3.0, "3", True]),
    (
        "mm_weight_boundary_extension",
        10.0,
        [1, 2.5, 100],
        [0.99, 0, -10, np.inf],
        ["10", True, None],
    ),
    ("mm_threshold", 0.0, *NOT_NEGATIVE),
    ("mm_threshold_rnoise", 0.0, *NOT_NEGATIVE),
    ("mm_minimum_max2d_rnoise", 5.0, *NOT_NEGATIVE),
    ("mm_cr_coincidences", 2, [2, 3], [1, 0], [2.0, "2", True]),
    (
        "mm_photon_distribution",
        "poisson",
        ["poisson", "nbinom"],
        ["normal"],
        [None],
    ),
    ("mm_nbinom_shape", 1000, *POSITIVE),
    ("mm_synthetic", "median", ["median", "single"], ["mean"], [None]),
    ("mm_hist2d_min_neighbors", 0, [0, 8], [-1, 9], [1.0, "0", False]),
    ("mm_ydiag_max", 0, *NOT_NEGATIVE),
    ("mm_dilation", 0, [0, 3], [-1], [1.0, "0", False]),
    ("mm_seed", 123456, [None, 0, 42], [-1], [1.5, "1", True]),
    ("ma_passes", 2, [1, 5], [0, -1], [1.0, "2", True]),
    ("ma_tile", 64, [16, 300], [15, 0], [64.0, "64", True]),
    ("ma_strips", True, *BOOLEAN),
    ("ma_high", 5.0, [4, 6.5], [0, -1.0, np.nan], ["5", True, [1]]),
    ("ma_low", 4.0, [0.5, 3], [0, -1.0, np.inf], ["5", True, [1]]),
    ("ma_leak", None, [None, 0, 0.03], [-0.1, np.nan], ["0.02", True, [1]]),
    ("ma_tail", 2.5, *NOT_NEGATIVE),
    ("ma_satlevel", None, [None, 30000, 1.5], [0, -1.0, np.inf], ["5", True, [1]]),
    ("ma_dilation", 0, [0, 3], [-1], [1.0, "0", False]),
]
DEFAULTS = {name: default for name, default, *_ in SPECIFICATION}
ALLOWED = [(row[0], value) for row in SPECIFICATION for value in row[2]]
WRONG_VALUE = [(row[0], value) for row in SPECIFICATION for value in row[3]]
WRONG_KIND = [(row[0], value) for row in SPECIFICATION for value in row[4]]

# Those that the Median-Minimum method, or L.A. Cosmic, alone uses.
STAGE_OF_PREFIX = {"la_": "lacosmic", "mm_": "mm", "ma_": "matched"}
# What matched does in its own way.
UNMATCHED = {"apply_flux_factor_to", "dilation"}


def write(folder, text, name="requirements.yaml"):
    """Write a YAML file and return its path."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def documented():
    """Return name, type and description of the parameters in the docstring."""
    text = inspect.cleandoc(Requirements.__doc__)
    section = text.split("Parameters\n----------\n")[1].split("\nRaises\n")[0]
    found = re.findall(r"^(\w+) : (.+)\n((?:    .+\n)+)", section, re.MULTILINE)
    return {name: (kind, " ".join(body.split())) for name, kind, body in found}


def alias_bomb(depth):
    """Return a YAML list that stands for 10**depth items."""
    lines = ["bomb0: &b0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [
        f"bomb{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 10)}]" for i in range(1, depth)
    ]
    return "\n".join(lines)


def needed_by(name):
    """Return what must be set together with a requirement."""
    offsets = name in {"mm_crosscorr_region", "mm_xy_offsets"}
    return {"mm_boundary_fit": "spline"} if offsets else {}


class TestTable:
    """The table of requirements and what is written of it elsewhere."""

    def test_names_and_order(self):
        """Exactly the names of the specification."""
        assert set(REQUIREMENTS) == set(DEFAULTS)
        assert list(Requirements().to_dict()) == list(REQUIREMENTS)
        assert list(REQUIREMENTS)[:4] == [
            "crmethod",
            "use_lamedian",
            "interactive",
            "flux_factor",
        ]

    @pytest.mark.parametrize(("name", "default"), DEFAULTS.items())
    def test_defaults(self, name, default):
        """Values and their types are those of the specification."""
        value = getattr(Requirements(), name)
        assert value == default
        assert type(value) is type(default)
        row = REQUIREMENTS[name]
        # a default is itself allowed
        assert row.kind(row.default, name) == default

    @pytest.mark.parametrize("name", DEFAULTS)
    def test_stages(self, name):
        """The stage says which methods use a requirement."""
        methods = STAGES[REQUIREMENTS[name].stage]
        # la_verbose is about all single-image detectors.
        expected = None if name == "la_verbose" else STAGE_OF_PREFIX.get(name[:3])
        assert ("lacosmic" in methods) == (expected in {None, "lacosmic"})
        assert ("mmcosmic" in methods) == (expected in {None, "mm"})
        assert ("mm_lacosmic" in methods) == (expected != "matched")
        everywhere = expected is None and name not in UNMATCHED
        assert ("matched" in methods) == (expected == "matched" or everywhere)
        expected_too = expected in {"matched", "lacosmic"}
        assert ("matched_lacosmic" in methods) == (expected_too or everywhere)

    def test_keywords(self):
        """FITS keywords are standard ones, and each is used once."""
        keywords = [row.keyword for row in REQUIREMENTS.values()]
        assert all(re.fullmatch(r"[A-Z0-9]{1,8}", keyword) for keyword in keywords)
        assert len(set(keywords)) == len(keywords)
        others = {"UUID", "CRGAIN", "CRRDNOIS", "CRBIAS", "DATE", "CHECKSUM"}
        assert not others & set(keywords)
        assert not any(re.match(r"FLUXF\d|CRMASK\d", keyword) for keyword in keywords)

    def test_meaning(self):
        """Each row has one line of meaning."""
        for row in REQUIREMENTS.values():
            assert row.meaning
            assert "\n" not in row.meaning
            assert row.kind.allowed

    def test_docstring_names(self):
        """The docstring describes the names of the table and no others."""
        assert set(documented()) == set(DEFAULTS)

    @pytest.mark.parametrize("name", DEFAULTS)
    def test_docstring_defaults(self, name):
        """Documented defaults are the real ones."""
        kind, body = documented()[name]
        default = DEFAULTS[name]
        assert kind.endswith("optional") or name == "mm_seed"
        if kind.startswith("{"):
            first = kind[1 : kind.index("}")].split(",")[0]
            assert first == repr(default)
            # a long list ends with dots and goes on in the text
            text = kind + body if "..." in kind else kind
            choices = set(re.findall(r"'(\w+)'", text))
            assert choices >= {v for n, v in ALLOWED if n == name}
            return
        stated = re.findall(
            r"Default is ([\w.-]+?)[.;]?(?: |$)|(?:\((\w+), the default\))|"
            r"(-?\w+), the default",
            body,
        )
        values = [next(filter(None, groups)) for groups in stated]
        if default is None:
            assert set(values) <= {"None", "the"}
        else:
            assert values == [repr(default)]

    def test_docstring_choices_rejected(self):
        """A choice that the docstring does not list is refused."""
        for name, (kind, _) in documented().items():
            if kind.startswith("{"):
                with pytest.raises(ValueError, match=name):
                    Requirements(**{name: "undocumented"})

    def test_table(self):
        """The public table has a row for each requirement."""
        table = Requirements.table()
        assert table.colnames == [
            "name",
            "default",
            "allowed",
            "unit",
            "stage",
            "meaning",
        ]
        assert list(table["name"]) == list(REQUIREMENTS)
        for row in table:
            assert row["default"] == str(DEFAULTS[row["name"]])
        (threshold,) = table[table["name"] == "mm_threshold"]
        assert threshold["unit"] == "adu"
        assert threshold["allowed"] == "a finite number >= 0"
        assert threshold["stage"] == "mm"

    @pytest.mark.parametrize(
        ("name", "parameter"),
        [
            ("la_sigfrac", "sigfrac"),
            ("la_objlim", "objlim"),
            ("la_niter", "niter"),
            ("la_sepmed", "sepmed"),
            ("la_cleantype", "cleantype"),
            ("la_psfbeta", "psfbeta"),
        ],
    )
    def test_same_as_astroscrappy(self, name, parameter):
        """
        Defaults agree with the wrapped function where they should.

        sigclip, satlevel, fsmode, psfmodel, psffwhm and psfsize are those of the
        documented file, which differ.
        """
        signature = inspect.signature(astroscrappy.detect_cosmics)
        assert DEFAULTS[name] == signature.parameters[parameter].default

    @pytest.mark.parametrize(
        ("name", "parameter"),
        [
            ("la_sigclip", "sigclip"),
            ("la_satlevel", "satlevel"),
            ("la_fsmode", "fsmode"),
            ("la_psfmodel", "psfmodel"),
            ("la_psfsize", "psfsize"),
        ],
    )
    def test_differs_from_astroscrappy(self, name, parameter):
        """Where the documented file differs on purpose, it still differs."""
        signature = inspect.signature(astroscrappy.detect_cosmics)
        assert DEFAULTS[name] != signature.parameters[parameter].default


class TestValues:
    """Checks of the values."""

    @pytest.mark.parametrize(("name", "value"), ALLOWED)
    def test_allowed(self, name, value):
        """Allowed values come out as they went in."""
        result = getattr(Requirements(**{name: value} | needed_by(name)), name)
        assert result == value
        assert type(result) is type(value)

    @pytest.mark.parametrize(("name", "value"), WRONG_VALUE)
    def test_wrong_value(self, name, value):
        """A wrong value is a ValueError that names it."""
        message = f"^{name} must be .+, got {re.escape(repr(value))}"
        with pytest.raises(ValueError, match=message):
            Requirements(**{name: value})

    @pytest.mark.parametrize(("name", "value"), WRONG_KIND)
    def test_wrong_kind(self, name, value):
        """A value of the wrong kind is a TypeError that names it."""
        message = f"^{name} must be .+, got {re.escape(repr(value))}"
        with pytest.raises(TypeError, match=message):
            Requirements(**{name: value})

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("color_scale", "x", "one of 'minmax', 'zscale', got 'x'"),
            ("la_psfsize", 4, "an odd integer >= 3, got 4"),
            ("dilation", -1, "an integer >= 0, got -1"),
            ("mm_hist2d_min_neighbors", 9, "an integer from 0 to 8, got 9"),
            ("la_satlevel", 0, "a finite number > 0, got 0"),
            ("mm_threshold", -1, "a finite number >= 0, got -1"),
            ("la_sepmed", 1, "True or False, got 1"),
            ("mm_seed", -1, "none or an integer >= 0, got -1"),
            ("la_sigclip", (1, 2, 3), "a number > 0 or a pair of them"),
            (
                "flux_factor",
                "x",
                "'none', 'auto', a number > 0 or a list of them, one per exposure",
            ),
            ("flux_factor_regions", [[1, 2]], r"\(four limits are needed\)"),
            (
                "flux_factor_regions",
                [[2, 1, 1, 1]],
                r"\(1 <= xmin <= xmax and 1 <= ymin <= ymax must hold\)",
            ),
            (
                "mm_crosscorr_region",
                [1, 9, 1, 11],
                r"of at least 100 pixels, .+\(the region has less than 100 pixels\)",
            ),
            (
                "pixels_to_be_ignored_as_cr",
                [[0, 1]],
                r"\(pixels are \[X, Y\], the first one is \[1, 1\]\)",
            ),
            (
                "pixels_to_be_replaced_by_local_median",
                [[1, 1, 3]],
                r"\(four positive integers are needed\)",
            ),
            (
                "pixels_to_be_replaced_by_local_median",
                [[1, 1, 3, 2]],
                r"\(widths must be odd, got 3 x 2\)",
            ),
            (
                "pixels_to_be_replaced_by_local_median",
                [[1, 1, 1, 1]],
                r"\(the box must have at least 3 pixels\)",
            ),
            (
                "mm_fixed_points_in_boundary",
                [[1, 2, 0]],
                r"\(points are \[x, y\] or \[x, y, weight\] with weight > 0\)",
            ),
            ("mm_xy_offsets", [[1]], r"\(offsets are \[dx, dy\]\)"),
        ],
    )
    def test_message(self, name, value, message):
        """The message states the rule, and for lists what is wrong with them."""
        with pytest.raises((TypeError, ValueError), match=message):
            Requirements(**{name: value})

    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("la_niter", np.int16(3), 3),
            ("la_sigclip", np.float64(4.5), 4.5),
            ("la_sepmed", np.bool_(0), False),
            ("la_sigclip", np.array([6.0, 3.0]), (6.0, 3.0)),
            ("flux_factor", np.array([0.5, 1.0]), (0.5, 1.0)),
            ("pixels_to_be_flagged_as_cr", np.array([[1, 2]]), ((1, 2),)),
            ("mm_crosscorr_region", np.array([1, 20, 1, 20]), (1, 20, 1, 20)),
        ],
    )
    def test_numpy(self, name, value, expected):
        """Values of numpy become plain ones, arrays become tuples."""
        result = getattr(Requirements(**{name: value} | needed_by(name)), name)
        assert result == expected
        assert type(result) is type(expected)

    @pytest.mark.parametrize(
        "name",
        [
            "flux_factor",
            "flux_factor_regions",
            "regions_to_be_skipped",
            "pixels_to_be_flagged_as_cr",
            "pixels_to_be_ignored_as_cr",
            "pixels_to_be_replaced_by_local_median",
            "mm_xy_offsets",
            "mm_fixed_points_in_boundary",
        ],
    )
    def test_empty_list(self, name):
        """An empty list is none."""
        assert getattr(Requirements(**{name: []}), name) is None

    def test_number_beyond_float(self):
        """An integer too large for a float is a wrong value like any other."""
        with pytest.raises(ValueError, match="mm_threshold must be a finite number"):
            Requirements(mm_threshold=10**400)

    def test_fraction(self):
        """Whatever number is accepted can be written."""
        requirements = Requirements(la_sigclip=Fraction(9, 2))
        assert "la_sigclip: 4.5 " in requirements.to_yaml()


class TestNames:
    """Unknown and other names."""

    @pytest.mark.parametrize(
        ("name", "nearest"),
        [
            ("la_sigclp", "la_sigclip"),
            ("dilatation", "dilation"),
            ("cr_method", "crmethod"),
            ("use_auxmedia", "use_auxmedian"),
            ("mm_seeds", "mm_seed"),
        ],
    )
    def test_suggestion(self, name, nearest):
        """The nearest known name is suggested."""
        message = f"unknown requirement '{name}'; did you mean '{nearest}'?"
        with pytest.raises(UnknownRequirementError, match=re.escape(message)):
            Requirements(**{name: 1})

    def test_all_offenders(self):
        """Every unknown name is listed."""
        with pytest.raises(UnknownRequirementError, match=r"'foo'.+; .*'bar'"):
            Requirements(foo=1, dilation=2, bar=3)

    @pytest.mark.parametrize("base", [TypeError, ValueError])
    def test_class(self, base):
        """It is both what a wrong keyword and what a wrong key of a file raise."""
        with pytest.raises(base, match="unknown requirement 'x'"):
            Requirements(x=1)

    def test_positional(self):
        """Everything is keyword-only."""
        with pytest.raises(TypeError, match="positional"):
            Requirements("lacosmic")

    def test_alias(self):
        """The newer name of use_lamedian means the same."""
        assert ALIASES == {"use_auxmedian": "use_lamedian"}
        requirements = Requirements(use_auxmedian=True)
        assert requirements.use_lamedian is True
        assert requirements == Requirements(use_lamedian=True)
        assert Requirements().replace(use_auxmedian=True).use_lamedian is True

    def test_alias_twice(self):
        """Both names may be given when they agree."""
        both = Requirements(use_auxmedian=True, use_lamedian=True)
        assert both.use_lamedian is True
        message = "use_auxmedian is another name of use_lamedian: both are given"
        with pytest.raises(ValueError, match=message):
            Requirements(use_auxmedian=True, use_lamedian=False)


class TestTogether:
    """Requirements that depend on each other."""

    def test_verify_cr(self):
        """Detections cannot be confirmed without interaction."""
        with pytest.raises(ValueError, match="verify_cr needs interactive: set"):
            Requirements(verify_cr=True)
        assert Requirements(verify_cr=True, interactive=True).verify_cr

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            (
                {"mm_crosscorr_region": (1, 20, 1, 20), "mm_boundary_fit": "spline"},
                {"mm_xy_offsets": [(0, 0), (1, 1), (0, 1)]},
            ),
            ({"mm_threshold": 5}, {"mm_threshold_rnoise": 2}),
        ],
    )
    def test_excluded(self, first, second):
        """Two ways to say the same thing exclude each other."""
        message = f"{next(iter(first))} and {next(iter(second))} exclude each other"
        with pytest.raises(ValueError, match=message):
            Requirements(**first, **second)
        with pytest.raises(ValueError, match=message):
            Requirements(**first).replace(**second)
        name, *others = first
        second |= {name: first[name] for name in others}
        default = Requirements(**second, **{name: DEFAULTS[name]})
        assert default == Requirements(**second)

    @pytest.mark.parametrize(
        "offsets",
        [
            {"mm_crosscorr_region": (1, 20, 1, 20)},
            {"mm_xy_offsets": [(0, 0), (1, 1), (0, 1)]},
        ],
    )
    def test_offsets(self, offsets):
        """The computed boundary is for exposures that are not shifted."""
        message = "'exact' does not allow offsets .+; use mm_boundary_fit='spline'"
        for crmethod in ("mmcosmic", "mm_lacosmic"):
            with pytest.raises(ValueError, match=message):
                Requirements(crmethod=crmethod, **offsets)
            with pytest.raises(ValueError, match=message):
                Requirements(crmethod=crmethod).replace(**offsets)
            Requirements(crmethod=crmethod, mm_boundary_fit="spline", **offsets)
        assert Requirements(crmethod="lacosmic", **offsets).crmethod == "lacosmic"

    @pytest.mark.parametrize("points", [None, [], [(1, 2)]])
    def test_piecewise(self, points):
        """A piecewise boundary needs two points, if there is a boundary."""
        names = {"mm_boundary_fit": "piecewise", "mm_fixed_points_in_boundary": points}
        number = len(points or [])
        message = f"must hold at least two points when .+'piecewise', got {number}"
        for crmethod in ("mm_lacosmic", "mmcosmic"):
            with pytest.raises(ValueError, match=message):
                Requirements(crmethod=crmethod, **names)
        assert Requirements(crmethod="lacosmic", **names).crmethod == "lacosmic"

    def test_synthetic_single(self):
        """Masks of single exposures need a detector of single exposures."""
        message = "mm_synthetic='single' needs a single-image detector, not 'mmcosmic'"
        with pytest.raises(ValueError, match=message):
            Requirements(mm_synthetic="single", crmethod="mmcosmic")
        for crmethod in ("mm_lacosmic", "mm_conn"):
            requirements = Requirements(mm_synthetic="single", crmethod=crmethod)
            assert requirements.mm_synthetic == "single"

    @pytest.mark.parametrize(
        ("names", "found"),
        [
            ({"ma_low": 5.5}, "ma_high must not be below ma_low, got 5.0 and 5.5"),
            ({"ma_high": 3}, "ma_high must not be below ma_low, got 3 and 4.0"),
        ],
    )
    def test_matched_limits(self, names, found):
        """A hit reaches at least what the pixels connected to it reach."""
        with pytest.raises(ValueError, match=re.escape(found)):
            Requirements(**names)

    def test_piecewise_two_points(self):
        """Two points are enough."""
        requirements = Requirements(
            mm_boundary_fit="piecewise", mm_fixed_points_in_boundary=[(0, 1), (9, 3)]
        )
        assert requirements.mm_fixed_points_in_boundary == ((0, 1), (9, 3))

    @pytest.mark.parametrize(
        ("crmethod", "expected"),
        [
            ("lacosmic", ["mm_threshold"]),
            ("mmcosmic", ["la_niter"]),
            ("mm_lacosmic", []),
            ("pycosmic", ["la_niter", "mm_threshold"]),
            ("mm_conn", ["la_niter"]),
            ("matched", ["dilation", "la_niter", "mm_threshold"]),
            ("matched_lacosmic", ["dilation", "mm_threshold"]),
        ],
    )
    def test_without_effect(self, crmethod, expected):
        """Those that were set, and that the method does not use."""
        requirements = Requirements(
            crmethod=crmethod,
            la_niter=2,
            mm_threshold=3,
            dilation=2,
            semiwindow=9,
            mm_seed=DEFAULTS["mm_seed"],
            la_sigclip=DEFAULTS["la_sigclip"],
        )
        assert requirements.without_effect() == expected

    def test_without_effect_replace(self):
        """A copy remembers what was set."""
        requirements = Requirements(mm_threshold=3).replace(crmethod="lacosmic")
        assert requirements.without_effect() == ["mm_threshold"]
        assert Requirements(crmethod="lacosmic").without_effect() == []


class TestObject:
    """The object behaves as a frozen value."""

    @pytest.mark.parametrize("name", ["dilation", "something_else"])
    def test_frozen(self, name):
        """Nothing can be set or deleted; the message says what to do."""
        requirements = Requirements(dilation=3)
        message = rf"requirements are frozen; use replace\({name}=\.\.\.\)"
        with pytest.raises(AttributeError, match=message):
            setattr(requirements, name, 2)
        with pytest.raises(AttributeError, match=message):
            delattr(requirements, name)
        assert requirements.dilation == 3
        assert not hasattr(requirements, "something_else")

    def test_replace(self):
        """A changed copy; the original stays."""
        first = Requirements(dilation=3, crmethod="lacosmic")
        second = first.replace(dilation=4, la_niter=2)
        assert (first.dilation, first.la_niter) == (3, 4)
        assert (second.dilation, second.la_niter) == (4, 2)
        assert second.crmethod == "lacosmic"
        assert first.replace() == first

    def test_replace_checks(self):
        """The copy is checked as well."""
        with pytest.raises(ValueError, match="dilation must be an integer >= 0"):
            Requirements().replace(dilation=-1)
        with pytest.raises(UnknownRequirementError, match="did you mean 'dilation'"):
            Requirements().replace(dilatio=1)

    def test_equality(self):
        """Values matter, not whether they were given."""
        assert Requirements() == Requirements(dilation=1)
        assert Requirements() != Requirements(dilation=2)
        assert Requirements(la_sigclip=[6, 3]) == Requirements(la_sigclip=(6.0, 3.0))
        assert Requirements() != Requirements().to_dict()
        assert Requirements().__eq__(1) is NotImplemented

    def test_hash(self):
        """Equal ones have equal hashes."""
        same = {Requirements(), Requirements(dilation=1), Requirements(la_sigclip=5)}
        assert len(same) == 1
        lists = Requirements(flux_factor=[1, 2], regions_to_be_skipped=[[1, 2, 3, 4]])
        assert len({*same, lists}) == 2

    @pytest.mark.parametrize(
        "duplicate",
        [
            copy.copy,
            copy.deepcopy,
            lambda value: pickle.loads(pickle.dumps(value)),  # noqa: S301
        ],
    )
    def test_copies(self, duplicate):
        """Copies are equal, frozen and complete."""
        requirements = Requirements(mm_threshold=3, la_sigclip=(6, 3))
        other = duplicate(requirements)
        assert other == requirements
        assert hash(other) == hash(requirements)
        assert other.replace(crmethod="lacosmic").without_effect() == ["mm_threshold"]
        with pytest.raises(AttributeError, match="frozen"):
            other.dilation = 2

    def test_repr(self):
        """What differs from the defaults, on one line."""
        assert repr(Requirements()) == "<Requirements()>"
        requirements = Requirements(dilation=1, la_sigclip=(6, 3), crmethod="lacosmic")
        expected = "<Requirements(crmethod='lacosmic', la_sigclip=(6, 3))>"
        assert repr(requirements) == expected

    def test_str(self):
        """Name, then one line for each requirement."""
        lines = str(Requirements(dilation=7)).splitlines()
        assert lines[0] == "Requirements"
        assert len(lines) == 1 + len(DEFAULTS)
        assert "dilation: 7" in lines
        assert "crmethod: matched" in lines

    def test_input_not_shared(self):
        """A later change of the caller's list has no effect."""
        pixels = [[1, 2], [3, 4]]
        requirements = Requirements(pixels_to_be_flagged_as_cr=pixels)
        pixels[0][0] = 99
        pixels.append([5, 6])
        assert requirements.pixels_to_be_flagged_as_cr == ((1, 2), (3, 4))

    def test_to_dict_is_a_copy(self):
        """Changing the dictionary does not change the requirements."""
        requirements = Requirements()
        requirements.to_dict()["dilation"] = 9
        assert requirements.dilation == 1


class TestMapping:
    """Mappings as a YAML file gives them."""

    @pytest.mark.parametrize("none", [None, "none", "None"])
    @pytest.mark.parametrize(
        "name", [name for name, default in DEFAULTS.items() if default is None]
    )
    def test_none(self, name, none):
        """All spellings of none."""
        assert getattr(Requirements.from_mapping({name: none}), name) is None
        assert getattr(Requirements(**{name: none}), name) is None

    def test_no_seed(self):
        """None is a value where the default is another."""
        assert Requirements.from_mapping({"mm_seed": "none"}).mm_seed is None

    @pytest.mark.parametrize("mapping", [None, {}])
    def test_empty(self, mapping):
        """Nothing given: the defaults."""
        assert Requirements.from_mapping(mapping) == Requirements()

    @pytest.mark.parametrize(
        ("mapping", "kind"), [(5, "int"), (["dilation"], "list"), ("none", "str")]
    )
    def test_no_mapping(self, mapping, kind):
        """Anything else is refused."""
        message = f"requirements must be a mapping of names to values, got {kind}"
        with pytest.raises(TypeError, match=message):
            Requirements.from_mapping(mapping)

    def test_none_where_not_allowed(self):
        """None is refused where a value is needed."""
        with pytest.raises(TypeError, match="must be an integer >= 0, got 'none'"):
            Requirements.from_mapping({"dilation": "none"})


def numbers(low, high=1e9, **kwargs):
    """Return a strategy for numbers, integers among them."""
    return st.floats(low, high, **kwargs) | st.integers(int(np.ceil(low + 1e-9)), 10**9)


def lists(*strategies):
    """Return a strategy for lists of rows."""
    return st.none() | st.lists(st.tuples(*strategies), min_size=1, max_size=3).map(
        tuple
    )


def limits(xmin, ymin, width, height):
    """Return a region of a given size."""
    return (xmin, xmin + width, ymin, ymin + height)


ABOVE_0 = numbers(0, exclude_min=True)
INDEX = st.integers(1, 5000)
REGION = st.builds(limits, INDEX, INDEX, INDEX, INDEX)
REGIONS = st.none() | st.lists(REGION, min_size=1, max_size=3).map(tuple)
ANY = numbers(-1e9)
ODD = st.integers(1, 9).map(lambda half: 2 * half + 1)
RANDOM = st.fixed_dictionaries(
    {},
    optional={
        "crmethod": st.sampled_from(["lacosmic", "mmcosmic", "mm_lacosmic", "conn"]),
        "use_lamedian": st.booleans(),
        "interactive": st.booleans(),
        "flux_factor": st.none()
        | st.just("auto")
        | ABOVE_0
        | st.lists(ABOVE_0, min_size=1, max_size=4).map(tuple),
        "flux_factor_regions": REGIONS,
        "dilation": st.integers(0, 9),
        "regions_to_be_skipped": REGIONS,
        "pixels_to_be_flagged_as_cr": lists(INDEX, INDEX),
        "pixels_to_be_replaced_by_local_median": lists(INDEX, INDEX, ODD, ODD),
        "maxplots": st.integers(-1, 99),
        "la_sigclip": ABOVE_0 | st.tuples(ABOVE_0, ABOVE_0),
        "la_cleantype": st.sampled_from(["median", "medmask", "meanmask", "idw"]),
        "la_psfsize": ODD,
        "la_verbose": st.booleans(),
        "mm_boundary_fit": st.sampled_from(["exact", "spline"]),
        "mm_false_positives": ABOVE_0,
        "mm_xy_offsets": lists(ANY, ANY),
        "mm_fixed_points_in_boundary": lists(ANY, ANY, ABOVE_0) | lists(ANY, ANY),
        "mm_threshold": numbers(0),
        "mm_seed": st.none() | st.integers(0, 2**64),
    },
)


class TestYAML:
    """Reading and writing YAML files."""

    @given(names=RANDOM)
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_round_trip(self, names, tmp_path_factory):
        """What is written is read, whatever the values."""
        if names.get("mm_xy_offsets"):
            names["mm_boundary_fit"] = "spline"
        requirements = Requirements(**names)
        path = tmp_path_factory.getbasetemp() / "round_trip.yaml"
        text = requirements.to_yaml(path, overwrite=True)
        assert path.read_text(encoding="utf-8") == text
        read = Requirements.from_yaml(path)
        assert read == requirements
        for name, value in requirements.to_dict().items():
            assert type(getattr(read, name)) is type(value)

    def test_independent_reader(self):
        """The text is plain YAML with every name, none for None."""
        text = Requirements(la_sigclip=(6, 3), mm_seed=None).to_yaml()
        content = yaml.safe_load(text)
        assert list(content) == ["requirements"]
        expected = DEFAULTS | {"la_sigclip": [6, 3], "mm_seed": None}
        assert content["requirements"] == {
            name: "none" if value is None else value for name, value in expected.items()
        }
        for line in text.splitlines()[1:]:
            assert "  # " in line

    def test_overwrite(self, tmp_path):
        """An existing file is replaced only on request."""
        path = write(tmp_path, "old")
        with pytest.raises(FileExistsError, match="exists; use overwrite=True"):
            Requirements().to_yaml(path)
        assert path.read_text() == "old"
        text = Requirements().to_yaml(path, overwrite=True)
        assert path.read_text() == text
        assert [item.name for item in tmp_path.iterdir()] == [path.name]

    def test_no_path(self, tmp_path, monkeypatch):
        """Without a path nothing is written."""
        monkeypatch.chdir(tmp_path)
        assert Requirements().to_yaml().startswith("requirements:\n  crmethod: ")
        assert not list(tmp_path.iterdir())

    def test_only_requirements(self, tmp_path):
        """A file may hold nothing but requirements; the path may be a str."""
        path = write(tmp_path, "dilation: 3\nla_sigclip: [6, 3]\nmm_seed:\n")
        requirements = Requirements.from_yaml(str(path))
        assert requirements.to_dict() == DEFAULTS | {
            "dilation": 3,
            "la_sigclip": (6, 3),
            "mm_seed": None,
        }

    @pytest.mark.parametrize("none", ["", "null", "~", "none", "None", "[]"])
    def test_none(self, tmp_path, none):
        """Every way to write none."""
        path = write(tmp_path, f"requirements:\n  flux_factor: {none}\n")
        assert Requirements.from_yaml(path).flux_factor is None

    @pytest.mark.parametrize("text", ["requirements:\n", "requirements: {}\n"])
    def test_empty_requirements(self, tmp_path, text):
        """A block without requirements has the defaults."""
        assert Requirements.from_yaml(write(tmp_path, text)) == Requirements()

    @pytest.mark.parametrize(
        ("text", "kind"),
        [("", "NoneType"), ("- 1\n", "list"), ("abc", "str"), ("5", "int")],
    )
    def test_no_mapping(self, tmp_path, text, kind):
        """The top of the file is a mapping."""
        path = write(tmp_path, text)
        message = f"{path.name} must hold a mapping of names to values, found {kind}"
        with pytest.raises(ValueError, match=message):
            Requirements.from_yaml(path)

    @pytest.mark.parametrize(
        "text",
        [
            "dilation: [1, 2",
            "dilation: 1\n  la_niter: 2",
            "dilation: 1\n--- \ndilation: 2\n",
            "\t- x",
            "<<: {dilation: 3}\n",
        ],
    )
    def test_invalid(self, tmp_path, text):
        """Text that is no YAML is refused with the name of the file."""
        path = write(tmp_path, text)
        with pytest.raises(ValueError, match=f"{path.name} is not a valid YAML file: "):
            Requirements.from_yaml(path)

    @pytest.mark.parametrize(
        "text",
        [
            "dilation: !!timestamp x",
            "dilation: !!bool maybe",
            "dilation: !!int x",
            "dilation: 2023-99-99",
            f"dilation: {'9' * 5000}",
            f"dilation: {'[' * 3000}",
        ],
        ids=["timestamp", "bool", "int", "date", "digits", "depth"],
    )
    def test_impossible_values(self, tmp_path, text):
        """Whatever the YAML package stumbles over has the name of the file."""
        path = write(tmp_path, text)
        with pytest.raises(ValueError, match=f"{path.name} is not a valid YAML file: "):
            Requirements.from_yaml(path)

    def test_not_utf8(self, tmp_path):
        """A binary file is refused with its name."""
        path = tmp_path / "binary.yaml"
        path.write_bytes(b"dilation: \xff\xfe\x00")
        with pytest.raises(ValueError, match=r"binary\.yaml"):
            Requirements.from_yaml(path)

    @pytest.mark.parametrize(
        "value",
        [
            "!!python/object/apply:os.mkdir [{}]",
            "!!python/object/new:os.mkdir [{}]",
            "!!python/name:os.mkdir",
            "!!python/tuple [1, 2]",
            "!own 3",
        ],
    )
    def test_tags(self, tmp_path, value):
        """Tags are refused and nothing is evaluated."""
        victim = tmp_path / "evaluated"
        path = write(tmp_path, f"dilation: {value.format(victim)}\n")
        with pytest.raises(ValueError, match="is not a valid YAML file: could not det"):
            Requirements.from_yaml(path)
        assert not victim.exists()

    @pytest.mark.parametrize("text", ["__import__('os').getcwd()", "1 + 1", "5 * 2"])
    def test_not_evaluated(self, tmp_path, text):
        """Expressions are text."""
        path = write(tmp_path, f'dilation: "{text}"\n')
        message = re.escape(f"dilation must be an integer >= 0, got {text!r}")
        with pytest.raises(TypeError, match=message):
            Requirements.from_yaml(path)

    @pytest.mark.parametrize(
        "text",
        [
            "dilation: 1\ndilation: 2\n",
            "requirements:\n  dilation: 1\n  dilation: 1\n",
            "requirements: {dilation: 1, 'dilation': 1}\n",
        ],
    )
    def test_duplicate(self, tmp_path, text):
        """A name that is given twice is refused."""
        with pytest.raises(ValueError, match="'dilation' is given twice"):
            Requirements.from_yaml(write(tmp_path, text))

    @pytest.mark.parametrize("key", ["5", "yes", "null", "[1, 2]", "{a: 1}", "1.5"])
    def test_keys(self, tmp_path, key):
        """Keys are names."""
        path = write(tmp_path, f"? {key}\n: 3\n")
        with pytest.raises(ValueError, match="keys must be names, got "):
            Requirements.from_yaml(path)

    def test_alias(self, tmp_path):
        """Anchors and aliases of YAML work."""
        text = (
            "pixels_to_be_flagged_as_cr: &list [[1, 2]]\n"
            "pixels_to_be_ignored_as_cr: *list\n"
        )
        requirements = Requirements.from_yaml(write(tmp_path, text))
        assert requirements.pixels_to_be_flagged_as_cr == ((1, 2),)
        assert requirements.pixels_to_be_ignored_as_cr == ((1, 2),)

    def test_recursive_alias(self, tmp_path):
        """A list that contains itself is a wrong value."""
        path = write(tmp_path, "pixels_to_be_flagged_as_cr: &list [*list]\n")
        with pytest.raises(
            (TypeError, ValueError), match="aliases stand for more than"
        ):
            Requirements.from_yaml(path)

    def test_alias_bomb(self, tmp_path):
        """A short file cannot make a message of a million items."""
        text = f"{alias_bomb(6)}\nrequirements: {{dilation: *b5}}\n"
        path = write(tmp_path, text)
        with pytest.raises(TypeError, match="dilation must be an integer") as error:
            Requirements.from_yaml(path)
        assert len(str(error.value)) < 10_000

    def test_alias_bomb_key(self, tmp_path):
        """Nor can a key."""
        path = write(tmp_path, f"{alias_bomb(6)}\n? *b5\n: 1\n")
        with pytest.raises(ValueError, match="keys must be names") as error:
            Requirements.from_yaml(path)
        assert len(str(error.value)) < 10_000

    def test_unknown(self, tmp_path):
        """A typing error in a file is found."""
        path = write(tmp_path, "requirements: {la_sigclipp: 4}\n")
        with pytest.raises(UnknownRequirementError, match="did you mean 'la_sigclip'"):
            Requirements.from_yaml(path)

    def test_missing_file(self, tmp_path):
        """A file that does not exist."""
        with pytest.raises(FileNotFoundError, match=r"absent\.yaml does not exist"):
            Requirements.from_yaml(tmp_path / "absent.yaml")
