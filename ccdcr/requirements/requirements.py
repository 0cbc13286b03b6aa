# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Requirements of a detection, from keywords, mappings and YAML files."""

import difflib
import inspect
from collections.abc import Mapping

import yaml
from astropy.table import Table

from ccdcr.exceptions import UnknownRequirementError
from ccdcr.requirements.requirement_table import (
    ALIASES,
    BOUNDARY_FITS,
    DOCUMENTED,
    REQUIREMENTS,
    STAGES,
)
from ccdcr.utils.files import atomic_path, load_mapping
from ccdcr.utils.notebook import html_facts, html_text

__all__ = ["Requirements", "refuse_unknown", "yaml_value"]


class Requirements:
    """
    Requirements of a cosmic-ray detection, checked and immutable.

    Names, defaults and meaning are the same in YAML files. Pixels and regions are in
    FITS convention: the first pixel is (1, 1), x comes first, limits are inclusive.

    Parameters
    ----------
    crmethod : {'matched', 'mm_lacosmic', 'mmcosmic', 'lacosmic', ...}, optional
        ``'matched'`` matches the exposures to each other before they are compared.
        ``'matched_lacosmic'`` also finds pixels hit in every exposure.
        ``'mm_lacosmic'`` flags what Median-Minimum or L.A. Cosmic finds, ``'mmcosmic'``
        and ``'lacosmic'`` use one of them. ``'pycosmic'``, ``'deepcr'`` and ``'conn'``
        are other single-image detectors, with ``'mm_pycosmic'``, ``'mm_deepcr'`` and
        ``'mm_conn'``; they require the package of that name.
    use_lamedian : bool, optional
        Default of the combination: LAMEDIAN instead of the minimum. Also
        accepted as ``use_auxmedian``. Default is False.
    interactive : bool, optional
        Show the plots and pause; for the command line. Default is False.
    flux_factor : None, 'auto', float or list of float, optional
        Relative flux of each exposure. Default is None: the exposure times
        (``EXPTIME``) if all headers have them and they differ by more than 1 %, unless
        the pixels contradict them. 1 disables this.
    flux_factor_regions : list of [xmin, xmax, ymin, ymax], optional
        Where ``'auto'`` measures it. Default is the whole image.
    apply_flux_factor_to : {'simulated', 'original'}, optional
        Scale the simulated exposures or the real ones.
    dilation : int, optional
        Number of dilations of every mask by one pixel in all eight directions. Raise it
        if wings of hits remain. Default is 1. Not used by ``'matched'``, see
        ``ma_dilation``.
    regions_to_be_skipped : list of [xmin, xmax, ymin, ymax], optional
        Nothing is flagged there.
    pixels_to_be_flagged_as_cr : list of [X, Y], optional
        Always flagged, in every exposure but the lowest at that pixel.
    pixels_to_be_ignored_as_cr : list of [X, Y], optional
        Never flagged.
    pixels_to_be_replaced_by_local_median : list of [X, Y, X_width, Y_width], optional
        Replaced by the median of their box in the combination; odd widths.
    verify_cr : bool, optional
        Confirm each detection; needs ``interactive``. Default is False.
    semiwindow : int, optional
        Half size of the plotted stamps in pixels. Default is 15.
    color_scale : {'zscale', 'minmax'}, optional
        Grey scale of the plotted stamps.
    maxplots : int, optional
        Number of detections plotted; -1, the default, is all.
    la_gain_apply : bool, optional
        LAMEDIAN in electron (True, the default) or in the exposures' unit.
    la_sigclip : float or pair of float, optional
        Laplacian-to-noise limit. Raise it if noise is flagged. A pair makes two passes:
        hits by the first value, extended by pixels of the second that are connected to
        them. Default is 5.0.
    la_sigfrac : float or pair of float, optional
        Fraction of that limit for neighbouring pixels. Default is 0.3.
    la_objlim : float or pair of float, optional
        Contrast between the Laplacian and the fine structure. Raise it if cores of
        stars are flagged. Default is 5.0.
    la_satlevel : float, optional
        Saturation level in adu. Default is 65535.0.
    la_niter : int, optional
        Iterations. Default is 4.
    la_sepmed : bool, optional
        Separable median filter. Default is True.
    la_cleantype : {'meanmask', 'median', 'medmask', 'idw'}, optional
        How flagged pixels are interpolated.
    la_fsmode : {'convolve', 'median'}, optional
        How the fine structure is computed.
    la_psfmodel : {'gaussxy', 'gauss', 'moffat', 'gaussx', 'gaussy'}, optional
        Kernel of the fine structure; ``'gaussxy'`` is an elliptical Gaussian.
    la_psffwhm_x : float, optional
        FWHM of the kernel along x in pixels. Default is 2.5.
    la_psffwhm_y : float, optional
        FWHM of the kernel along y in pixels. Default is 2.5.
    la_psfsize : int, optional
        Size of the kernel in pixels, odd. Default is 11.
    la_psfbeta : float, optional
        Beta of the Moffat kernel. Default is 4.765.
    la_verbose : bool, optional
        Log this stage. Default is True.
    la_padwidth : int, optional
        Reflected margin in pixels, so that outer rows are searched. Default is 0; 10 is
        recommended.
    mm_crosscorr_region : [xmin, xmax, ymin, ymax], optional
        Where offsets between the exposures are measured.
    mm_xy_offsets : list of [dx, dy], optional
        Offsets of the exposures in pixels; excludes ``mm_crosscorr_region``.
    mm_boundary_fit : {'exact', 'spline', 'piecewise'}, optional
        The Median-Minimum boundary: computed from the distribution of the noise
        (the default), a spline through simulations, or straight lines.
    mm_false_positives : float, optional
        For the exact boundary: number of pixels of an image that noise may flag.
        Default is 1.0.
    mm_knots_splfit : int, optional
        Number of knots of the spline. Default is 3.
    mm_fixed_points_in_boundary : list of [x, y] or [x, y, weight], optional
        Points of the boundary, in adu.
    mm_nsimulations : int, optional
        Number of simulated sets of exposures. Default is 5.
    mm_niter_boundary_extension : int, optional
        Number of fits that extend the boundary upwards. Default is 3.
    mm_weight_boundary_extension : float, optional
        Factor of the weight of points above the last fit. Default is 10.0.
    mm_threshold : float, optional
        Smallest median - minimum of a hit in adu. Default is 0.0.
    mm_threshold_rnoise : float, optional
        The same in units of the read noise. Default is 0.0.
    mm_minimum_max2d_rnoise : float, optional
        Smallest maximum over the exposures of a hit, in units of the read noise.
        Default is 5.0.
    mm_cr_coincidences : int, optional
        Number of hits of a pixel to be found. Default is 2.
    mm_photon_distribution : {'poisson', 'nbinom'}, optional
        Distribution of the photons.
    mm_nbinom_shape : float, optional
        Shape of the negative binomial distribution. Default is 1000.
    mm_synthetic : {'median', 'single'}, optional
        Image from which exposures are simulated.
    mm_hist2d_min_neighbors : int, optional
        Occupied neighbours, 0 to 8, that a cell of the diagram needs. Default
        is 0.
    mm_ydiag_max : float, optional
        Upper limit of the diagram in adu; 0, the default, is automatic.
    mm_dilation : int, optional
        Dilation of the Median-Minimum detections alone. Default is 0.
    mm_seed : int or None, optional
        Random seed. Default is 123456.
    ma_passes : int, optional
        Number of matching passes. 1 takes half of the time and is nearly as good.
        Default is 2.
    ma_tile : int, optional
        Size in pixels of the tiles in which flux, shift, seeing and background
        are matched, 16 at least. Default is 64.
    ma_strips : bool, optional
        Also match along rows and columns. False finds faint tracks along a row or a
        column more often, and is suitable for images of the sky. Default is True.
    ma_high : float, optional
        Deviation in sigma that one pixel of a hit must reach. Lower it to find fainter
        hits, raise it if noise is flagged. Default is 5.0.
    ma_low : float, optional
        Deviation in sigma that pixels connected to it must reach. Default is 4.0.
    ma_leak : float or None, optional
        Fraction of its charge that a hit pixel loses to each of its four neighbours.
        Raise it if wings of hits remain. Default is None: measured from bright hits,
        0.01 to 0.1, or 0.02 if there are few.
    ma_tail : float, optional
        Deviation in sigma that a neighbour must reach, including this charge, if it
        received less than 1 sigma of it. Default is 2.5.
    ma_satlevel : float or None, optional
        Saturation level in the unit of the exposures, bias included. Saturated pixels
        are not used as a reference. None, the default, is 65535 for exposures in adu,
        and no limit for those in electron.
    ma_dilation : int, optional
        Number of dilations of the masks of ``'matched'``. Neighbours that received
        charge are masked anyway. Default is 0.

    Raises
    ------
    UnknownRequirementError
        If a name is not known; the most similar one is suggested.
    TypeError
        If a value is of the wrong kind.
    ValueError
        If a value is not allowed, or if two requirements exclude each other.

    Examples
    --------
    >>> from ccdcr import Requirements
    >>> requirements = Requirements(crmethod="lacosmic", dilation=2)
    >>> requirements
    <Requirements(crmethod='lacosmic', dilation=2)>
    >>> requirements.la_sigclip
    5.0
    >>> requirements.replace(la_sigclip=(6.0, 3.0)).la_sigclip
    (6.0, 3.0)
    """

    def __init__(self, **names):
        given = _canonical(names)
        values = {
            name: row.kind(given[name], name) if name in given else row.default
            for name, row in REQUIREMENTS.items()
        }
        _check_together(values)
        self.__dict__.update(values, _given=frozenset(given))

    def __setattr__(self, name, value):
        msg = f"requirements are frozen; use replace({name}=...) for a changed copy"
        raise AttributeError(msg)

    def __delattr__(self, name):
        self.__setattr__(name, None)

    def __eq__(self, other):
        if not isinstance(other, Requirements):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __hash__(self):
        return hash(tuple(self.to_dict().items()))

    def __repr__(self):
        changed = (
            f"{name}={value!r}"
            for name, value in self.to_dict().items()
            if value != REQUIREMENTS[name].default
        )
        return f"<Requirements({', '.join(changed)})>"

    def _repr_html_(self):
        values = self.to_dict()
        changed = {n: v for n, v in values.items() if v != REQUIREMENTS[n].default}
        title = "Requirements" if changed else "Requirements, all as by default"
        return html_text(title, html_facts(changed), html_facts(values, "all"))

    def __str__(self):
        lines = (f"{name}: {value}" for name, value in self.to_dict().items())
        return "\n".join(["Requirements", *lines])

    def to_dict(self):
        """
        Return all names and values.

        Returns
        -------
        values : dict
            In the order of the documented file; lists are tuples.
        """
        return {name: getattr(self, name) for name in REQUIREMENTS}

    def replace(self, **names):
        """
        Return a copy with some values changed.

        Parameters
        ----------
        **names
            Requirements by name.

        Returns
        -------
        requirements : `Requirements`
            The changed copy.
        """
        kept = {name: getattr(self, name) for name in self._given}
        return Requirements(**(kept | _canonical(names)))

    def without_effect(self):
        """
        Return the names that were set but have no effect.

        Returns
        -------
        names : list of str
            Names that differ from their default and have no effect with ``crmethod`` or
            ``mm_boundary_fit``.
        """
        return [
            row.name
            for row in REQUIREMENTS.values()
            if row.name in self._given
            and getattr(self, row.name) != row.default
            and getattr(self, row.name) != DOCUMENTED.get(row.name, row.default)
            and not self._uses(row)
        ]

    def _uses(self, row):
        fits = BOUNDARY_FITS.get(row.name, (self.mm_boundary_fit,))
        return self.crmethod in STAGES[row.stage] and self.mm_boundary_fit in fits

    @classmethod
    def from_yaml(cls, path):
        """
        Read the requirements from a YAML file.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            An observing block, whose ``requirements`` are used, or a file of
            requirements only.

        Returns
        -------
        requirements : `Requirements`
            The requirements; missing names have their default.

        Raises
        ------
        TypeError, ValueError
            As for `Requirements`, and if the file is not a YAML mapping.
        """
        content = load_mapping(path)
        return cls.from_mapping(content.get("requirements", content))

    @classmethod
    def from_mapping(cls, mapping):
        """
        Make requirements from the mapping of a YAML file.

        Parameters
        ----------
        mapping : mapping or None
            Names and values; the strings ``'none'`` and ``'None'`` mean None.

        Returns
        -------
        requirements : `Requirements`
            The requirements.
        """
        if mapping is None:
            mapping = {}
        if not isinstance(mapping, Mapping):
            msg = (
                "requirements must be a mapping of names to values, "
                f"got {type(mapping).__name__}"
            )
            raise TypeError(msg)
        return cls(**mapping)

    def to_yaml(self, path=None, *, overwrite=False):
        """
        Write all requirements with their meaning as YAML.

        Parameters
        ----------
        path : str, `~pathlib.Path` or None, optional
            File to be written; None returns the text only.
        overwrite : bool, optional
            Whether an existing file is replaced. Default is False.

        Returns
        -------
        text : str
            The YAML text, which `from_yaml` reads.
        """
        lines = ["requirements:"]
        for name, row in REQUIREMENTS.items():
            value = yaml_value(getattr(self, name))
            lines.append(f"  {name}: {value}  # {row.meaning}")
        text = "\n".join(lines) + "\n"
        if path is not None:
            with atomic_path(path, overwrite=overwrite) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return text

    @staticmethod
    def table():
        """
        Return a table of all requirements.

        Returns
        -------
        table : `~astropy.table.Table`
            Columns name, default, allowed, unit, stage and meaning.
        """
        rows = [
            (
                row.name,
                str(row.default),
                row.kind.allowed,
                row.unit,
                row.stage,
                row.meaning,
            )
            for row in REQUIREMENTS.values()
        ]
        names = ("name", "default", "allowed", "unit", "stage", "meaning")
        return Table(rows=rows, names=names)


# For help() and completion.
Requirements.__signature__ = inspect.Signature(
    [
        inspect.Parameter(row.name, inspect.Parameter.KEYWORD_ONLY, default=row.default)
        for row in REQUIREMENTS.values()
    ]
)


def _canonical(names):
    """Return the names with aliases resolved; refuse unknown ones with a suggestion."""
    refuse_unknown(names)
    for alias, name in ALIASES.items():
        if alias in names and name in names and names[alias] != names[name]:
            msg = f"{alias} is another name of {name}: both are given and they differ"
            raise ValueError(msg)
    return {ALIASES.get(name, name): value for name, value in names.items()}


def refuse_unknown(names, others=()):
    """Refuse names that are neither requirements nor other parameters."""
    known, messages = [*REQUIREMENTS, *ALIASES, *others], []
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1, 0.0)[0]
            messages.append(f"unknown requirement {name!r}; did you mean {nearest!r}?")
    if messages:
        raise UnknownRequirementError("; ".join(messages))


def _check_together(values):
    if values["verify_cr"] and not values["interactive"]:
        msg = "verify_cr needs interactive: set interactive=True, or verify_cr=False"
        raise ValueError(msg)
    _exclude(values, "mm_crosscorr_region", "mm_xy_offsets")
    _exclude(values, "mm_threshold", "mm_threshold_rnoise")
    if values["mm_synthetic"] == "single" and values["crmethod"] == "mmcosmic":
        msg = "mm_synthetic='single' needs a single-image detector, not 'mmcosmic'"
        raise ValueError(msg)
    _check_limits(values)
    points = values["mm_fixed_points_in_boundary"] or ()
    uses_mm = values["crmethod"] in STAGES["mm"]
    shifted = values["mm_crosscorr_region"] or values["mm_xy_offsets"]
    if uses_mm and values["mm_boundary_fit"] == "exact" and shifted:
        msg = (
            "mm_boundary_fit='exact' does not allow offsets between the exposures "
            "(mm_crosscorr_region, mm_xy_offsets); use mm_boundary_fit='spline'"
        )
        raise ValueError(msg)
    if uses_mm and values["mm_boundary_fit"] == "piecewise" and len(points) < 2:
        msg = (
            "mm_fixed_points_in_boundary must hold at least two points when "
            f"mm_boundary_fit is 'piecewise', got {len(points)}"
        )
        raise ValueError(msg)


def _check_limits(values):
    if values["ma_high"] < values["ma_low"]:
        msg = (
            f"ma_high must not be below ma_low, got {values['ma_high']} and "
            f"{values['ma_low']}"
        )
        raise ValueError(msg)


def _exclude(values, first, second):
    if values[first] and values[second]:
        msg = f"{first} and {second} exclude each other; give one of them"
        raise ValueError(msg)


def yaml_value(value):
    """Return a plain value as one line of YAML."""
    if value is None:
        return "none"
    if isinstance(value, tuple):
        value = [list(item) if isinstance(item, tuple) else item for item in value]
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")
