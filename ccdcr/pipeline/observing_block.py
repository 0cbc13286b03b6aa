# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Observing blocks of the documented YAML files."""

import re
from dataclasses import dataclass, field
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from astropy import log
from astropy import units as u

from ccdcr.exceptions import short_repr
from ccdcr.exposures.ccd_parameters import check_noise_source
from ccdcr.requirements.requirement_table import ALIASES, REQUIREMENTS, number
from ccdcr.requirements.requirements import Requirements
from ccdcr.utils.files import load_mappings, none_if_named
from ccdcr.utils.scratch import to_bytes

__all__ = ["ObservingBlock"]

_COMBINATION = ("method", "method_kwargs", "crmasks")
_NAME = (str, int, float, date)  # as YAML reads a name that looks like one
_KINDS = {
    "id": (_NAME, "a name"),
    "mode": (_NAME, "a name"),
    "instrument": (_NAME, "a name"),
    "frames": ((list, tuple), "a list of file names"),
    "extnum": ((int, str), "the number or the name of an extension"),
    "align": ((str, list, tuple), "measure, wcs, wcs+measure or a list of [dx, dy]"),
    "method": (str, "the name of a method"),
    "method_kwargs": (dict, "a mapping"),
    "crmasks": (str, "a file name"),
}
_WORD = "[A-Z0-9_-]"
_KEYWORD = re.compile(rf"[A-Z]{_WORD}{{0,7}}|[A-Z]{_WORD}*( {_WORD}+)+")
_TOP_LEVEL = ("id", "mode", "instrument", "extnum", "frames", "images", "requirements")
_TOP_LEVEL += ("gain", "readnoise", "rnoise", "bias", "noise", "align", "mem_limit")
_OTHER_DETECTORS = ("pc_", "dc_", "nn_")  # of numina: PyCosmic, deepCR, Cosmic-CoNN
_PIPELINE = {
    "save_preprocessed",
    "diffuse_light_image",
    "extraction_offset",
    "ignored_sky_bundles",
    "master_apertures",
    "master_bias",
    "master_bpm",
    "master_dark",
    "master_fiberflat",
    "master_sensitivity",
    "master_slitflat",
    "master_traces",
    "master_twilight",
    "master_weights",
    "master_wlcalib",
    "reference_extinction",
    "relative_threshold",
    "sky_rss",
}


@dataclass(frozen=True)
class ObservingBlock:
    """
    Observing block: frames and their detection or combination.

    Parameters
    ----------
    id : str or None
        Name of the block.
    mode : str or None
        Name of the recipe, such as ``MegaraCrDetection``.
    instrument : str or None
        Name of the instrument.
    frames : tuple of str
        File names of the exposures, as written in the file.
    extnum : int or str or None
        FITS extension of the image.
    align : str, list or None
        Offsets by which dithered frames are aligned, as for `~ccdcr.align_exposures`.
        None: no alignment. A combination aligns its frames like those of its masks.
    requirements : `Requirements` or None
        Requirements of a detection; None in a combination block.
    method : str or None
        Combination method; None in a detection block.
    method_kwargs : dict
        Options of the combination method.
    crmasks : str or None
        File of the masks of a combination.
    gain : `~astropy.units.Quantity`, str, dict or None
        Gain in electron / adu: a number, one for each exposure, the name of a header
        keyword (such as ``ESO DET OUT1 CONAD``), or these by FITS section as for
        `~ccdcr.ccd_map`.
    readnoise : `~astropy.units.Quantity`, str, dict or None
        Read noise in adu (``rnoise``) or electron (``readnoise``), likewise.
    bias : `~astropy.units.Quantity`, str or None
        Bias in adu, or the name of a header keyword.
    noise : {'auto', 'uncertainty', 'detector'} or None
        Source of the noise, as for `~ccdcr.detect_cosmic_rays`.
    mem_limit : float, str or None
        Memory limit, as for `~ccdcr.detect_cosmic_rays` and `~ccdcr.combine`.
    other : dict
        All other keys, such as requirements of an instrument's pipeline.
    path : `~pathlib.Path` or None
        The YAML file of the block; names of files are relative to its folder.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from ccdcr import ObservingBlock
    >>> text = '''
    ... id: night1
    ... mode: MegaraCrDetection
    ... frames: [a.fits, b.fits, c.fits]
    ... requirements: {crmethod: lacosmic}
    ... '''
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "detect.yaml"
    ...     _ = path.write_text(text)
    ...     block = ObservingBlock.from_yaml(path)
    >>> block.frames
    ('a.fits', 'b.fits', 'c.fits')
    >>> block.requirements
    <Requirements(crmethod='lacosmic')>
    """

    id: str | None = None
    mode: str | None = None
    instrument: str | None = None
    frames: tuple = ()
    extnum: Any = None
    align: Any = None
    requirements: Requirements | None = None
    method: str | None = None
    method_kwargs: dict = field(default_factory=dict)
    crmasks: str | None = None
    gain: u.Quantity | str | None = None
    readnoise: u.Quantity | str | None = None
    bias: u.Quantity | str | None = None
    noise: str | None = None
    mem_limit: float | str | None = None
    other: dict = field(default_factory=dict)
    path: Path | None = None

    def __post_init__(self):
        for name, (kinds, allowed) in _KINDS.items():
            value = getattr(self, name)
            if value is not None and not isinstance(value, kinds):
                msg = f"{name} must be {allowed}, got {short_repr(value)}"
                raise TypeError(msg)
        check_noise_source(self.noise or "auto")
        if self.mem_limit is not None:
            to_bytes(self.mem_limit)

    @classmethod
    def from_yaml(cls, path):
        """
        Read an observing block, or a file of the standalone detection script.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            The YAML file: ``id``, ``mode``, ``instrument``, ``frames`` and
            ``requirements``, or ``images``, ``extnum`` and ``requirements``;
            in both ``gain``, ``rnoise`` and ``bias`` (per adu and in adu) or
            ``readnoise`` (in electron), and ``noise``. Upper-case names in place
            of numbers (but not of ``rnoise``) are header keywords.

        Returns
        -------
        block : `ObservingBlock`
            The block; unknown keys are kept in ``other``.

        Raises
        ------
        TypeError, ValueError
            If the file is not a YAML mapping, or contains several blocks, no list of
            frames, or a value that is not allowed.
        """
        blocks = cls.list_from_yaml(path)
        if len(blocks) > 1:
            msg = (
                f"{path} holds {len(blocks)} observing blocks; "
                "use ObservingBlock.list_from_yaml"
            )
            raise ValueError(msg)
        return blocks[0]

    @classmethod
    def list_from_yaml(cls, path):
        """
        Read a file of one or more observing blocks, separated by ``---``.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            The YAML file, as for `from_yaml`.

        Returns
        -------
        blocks : list of `ObservingBlock`
            The blocks, in the order of the file.
        """
        return [cls._from_mapping(content, path) for content in load_mappings(path)]

    @classmethod
    def _from_mapping(cls, content, path):
        frames = _frames(content, path)
        requirements = content.pop("requirements", None)
        requirements = {} if requirements is None else requirements
        if not isinstance(requirements, dict):
            msg = (
                f"requirements in {path} must be a mapping of names to values, "
                f"got {short_repr(requirements)}"
            )
            raise TypeError(msg)
        names = ("id", "mode", "instrument", "extnum", "align", "noise", "mem_limit")
        known = {name: _pop(content, name) for name in names}
        known |= {"frames": frames, "path": Path(path), **_detector(content)}
        _warn_of_misplaced(content, path)
        parts = _split(requirements, content)
        if parts["other"]:
            names = ", ".join(parts["other"])
            log.info(f"{path}: not used: {names}")
        return cls(**known, **parts)


def _pop(mapping, key):
    return none_if_named(mapping.pop(key, None))


def _frames(content, path):
    frames = content.pop("frames", None)
    images = content.pop("images", None)
    if frames is not None and images is not None:
        msg = f"{path} must give frames or images, not both"
        raise ValueError(msg)
    frames = images if frames is None else frames
    if not isinstance(frames, list) or not all(isinstance(f, str) for f in frames):
        msg = f"frames in {path} must be a list of file names, got {short_repr(frames)}"
        raise ValueError(msg)
    return tuple(frames)


def _detector(content):
    if content.get("rnoise") is not None and content.get("readnoise") is not None:
        msg = "rnoise (adu) and readnoise (electron) exclude each other; give one"
        raise ValueError(msg)
    readnoise = _quantity(content, "readnoise", u.electron, number(0))
    rnoise = _quantity(content, "rnoise", u.adu, number(0), keyword=False)
    return {
        "gain": _quantity(content, "gain", u.electron / u.adu, number(0, above=True)),
        "readnoise": readnoise if rnoise is None else rnoise,
        "bias": _quantity(content, "bias", u.adu, number()),
    }


def _quantity(content, key, unit, kind, *, keyword=True):
    value = _pop(content, key)
    if value is None:
        return None
    if isinstance(value, dict) and keyword:
        return {str(k): _one(v, key, unit, kind) for k, v in value.items()}
    if isinstance(value, list) and keyword:
        return [kind(each, key) for each in value] * unit
    return _one(value, key, unit, kind, keyword=keyword)


def _one(value, key, unit, kind, *, keyword=True):
    """Return a header keyword, or a Quantity: adu and electron must not be mixed up."""
    if keyword and isinstance(value, str) and _KEYWORD.fullmatch(value):
        return value
    return kind(value, key) * unit


def _is_of_pipeline(name):
    """Return whether a requirement is one of numina's that has no meaning here."""
    return name in _PIPELINE or str(name).startswith(_OTHER_DETECTORS)


def _warn_of_misplaced(names, path):
    """Warn of top-level keys that are misspelt or belong below ``requirements``."""
    below = {*REQUIREMENTS, *ALIASES, *_COMBINATION}
    top = {*_TOP_LEVEL, *below}
    for name in map(str, names):
        if name in below:
            log.warning(
                f"{path}: {name} is not used: it must be indented below requirements"
            )
        elif found := get_close_matches(name, top, 1, cutoff=0.8):
            log.warning(f"{path}: {name} is not used; did you mean {found[0]}?")


def _split(requirements, other):
    """Return the requirements of a combination or of a detection, and all others."""
    given = {name: _pop(requirements, name) for name in _COMBINATION}
    if given["method"] is None and given["crmasks"] is None:
        for name in [name for name in requirements if _is_of_pipeline(name)]:
            other[name] = requirements.pop(name)
        return {"requirements": Requirements.from_mapping(requirements), "other": other}
    if stray := [name for name in requirements if name in {*REQUIREMENTS, *ALIASES}]:
        msg = (
            f"requirements must not mix a combination (method, crmasks) with "
            f"those of a detection: {', '.join(stray)}"
        )
        raise ValueError(msg)
    given["method_kwargs"] = given["method_kwargs"] or {}
    return {**given, "other": other | requirements}
