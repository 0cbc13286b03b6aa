# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Report on the equivalence of exposures."""

from dataclasses import replace

import numpy as np
from astropy.table import Table

from ccdcr.utils.neighbours import cut_bands
from ccdcr.utils.notebook import html_facts, html_table, html_text
from ccdcr.utils.stacks import count

__all__ = [
    "COLUMNS",
    "MENDED",
    "NEEDED",
    "NOT_REGISTERED",
    "TERMS",
    "UNITS",
    "Equivalence",
    "describe_motions",
    "make_report",
    "share_of_steps",
]

TERMS = ("flux", "shift_x", "shift_y", "seeing", "background")
COLUMNS = {
    "terms": ("exposure", *TERMS, "noise"),
    "levels": ("level", "values", "before", "after"),
    "tiles": ("exposure", "y", "x", *TERMS, "error_x", "error_y"),
}
UNITS = {
    "shift_x": "pixel",
    "shift_y": "pixel",
    "seeing": "pixel2",
    "error_x": "pixel",
    "error_y": "pixel",
}

# Limits of matching; alignment by whole pixels leaves up to 0.71.
_MAX_SHIFT, _MAX_FLUX, _MAX_RATIO = 0.75, 2.0, 3.0
_LEAST_MEASURED = 0.5
_SURE, _LEAST_TILES = 3.0, 2  # errors, and tiles that tell a local shift
_SHIFTS = ("shift_x", "shift_y")
# Pixels that features move apart, errors of tiles that tell it, and their number.
_APART, _KNOWN_SHIFT, _LEAST_KNOWN = 0.5, 0.15, 6
# Differences that need matching.
NEEDED = {"flux": 0.02, "shift_x": 0.05, "shift_y": 0.05, "seeing": 0.1}
_NEEDED_BACKGROUND = 0.25  # in units of the noise
_NEEDED_RATIO = 1.25
NOT_REGISTERED = "the exposures are not registered"
MENDED = 1.3  # Q / Q0 that is small enough after matching
_NEEDED_VALUES = 2000  # ten of them above the quantile


class Equivalence:
    """
    Report on how much exposures differ, before and after matching.

    Returned by `~ccdcr.check_equivalence`, and by `~ccdcr.detect_cosmic_rays` with
    ``crmethod="matched"``.

    Parameters
    ----------
    levels : `~astropy.table.Table`
        One row for each level of structure. Columns: level (in units of the noise),
        values (number of values), before and after: Q / Q0, the deviation of pixels
        below all other exposures relative to that of pixels without structure, before
        and after matching. 1 = equivalent, NaN = too few values.
    terms : `~astropy.table.Table`
        One row for each exposure. Columns: exposure (from 1), flux (factor), shift_x,
        shift_y (pixel), seeing (what it adds to the variance of the profile of a star,
        squared pixels) and background (unit of the exposures, and in ``noise`` in units
        of the noise); all relative to the mean of the exposures. NaN = too little
        structure.
    tiles : `~astropy.table.Table`
        The same terms for each tile of each exposure, with its centre x, y;
        the first pixel is (1, 1), and the errors of its shifts, ``error_x`` and
        ``error_y`` (pixel).
    number : int
        Number of values that were available.
    reasons : sequence of str, optional
        Why matching fails, according to the exposures and the flagged pixels: exposures
        that are not registered, a target that is displaced in an exposure, or patches
        too large for cosmic rays.

    See Also
    --------
    ccdcr.check_equivalence
    ccdcr.plotting.plot_equivalence
    """

    def __init__(self, levels, terms, tiles, number, reasons=()):
        self.number = int(number)
        self.reasons = tuple(reasons)
        self.levels = levels
        self.terms = terms
        self.tiles = tiles
        for column in ("before", "after"):
            levels[column].info.format = ".2f"
        for name in terms.colnames[1:]:
            terms[name].info.format = ".3f"
        levels["level"].info.format = ".1f"

    def with_reasons(self, reasons):
        """
        Return a copy with other ``reasons``.

        Parameters
        ----------
        reasons : sequence of str
            Reasons why matching fails.

        Returns
        -------
        equivalence : `Equivalence`
            The new report.
        """
        return type(self)(self.levels, self.terms, self.tiles, self.number, reasons)

    @property
    def maps(self):
        """The terms by name, each as images (n, tiles along y, tiles along x)."""
        shape = [len(np.unique(self.tiles[name])) for name in ("exposure", "y", "x")]
        return {name: np.reshape(self.tiles[name], shape) for name in TERMS}

    @property
    def ratio(self):
        """The largest Q / Q0 before and after matching."""
        return tuple(_largest(self.levels[name]) for name in ("before", "after"))

    @property
    def left(self):
        """The largest significant Q / Q0 after matching, 1 = equivalent."""
        after = np.fmin(self.levels["before"], self.levels["after"])
        return max(_largest(after[self._sure]), 1.0)

    @property
    def needed(self):
        """Whether the exposures differ by more than their noise."""
        large = any(
            _largest(np.abs(_deviation(self.terms, name))) > limit
            for name, limit in NEEDED.items()
        )
        large |= _largest(np.abs(self.terms["noise"])) > _NEEDED_BACKGROUND
        large |= _largest(self.levels["before"][self._sure]) > _NEEDED_RATIO
        return bool(large or self.failures)

    @property
    def _sure(self):
        """Which levels have enough values not to depend on a few hits."""
        return np.asarray(self.levels["values"]) >= _NEEDED_VALUES

    @property
    def failures(self):
        """List of reasons why matching fails, with remedies; may be empty."""
        found = list(self.reasons)
        if any(reason.startswith(NOT_REGISTERED) for reason in found):
            return found  # which explains all else
        shift = _largest(np.hypot(*(np.nan_to_num(self.terms[k]) for k in _SHIFTS)))
        if shift > _MAX_SHIFT:
            found.append(
                f"shifts of {shift:.2f} pixel are above {_MAX_SHIFT}: "
                "register the exposures first"
            )
        elif local := self._local_shifts():
            found.append(local)
        flux = self._flux_ratio()
        if flux > _MAX_FLUX:
            found.append(
                f"flux ratios of {flux:.2f} are above {_MAX_FLUX:g}: scale the "
                "exposures first, or give flux_factor"
            )
        values, number = self.levels["values"].sum(), self.number
        if values < _LEAST_MEASURED * number:
            found.append(
                f"{1 - values / number:.0%} of the pixels look hit in a majority of "
                "the exposures: scale the exposures or subtract their sky first"
            )
        # Larger values only after matching are hits on a few bright pixels. Where none
        # is known after it, matching has moved the pixels to other levels.
        before, after = (np.asarray(self.levels[k]) for k in ("before", "after"))
        left = np.where(np.isnan(after), np.nan, np.fmin(before, after))
        # Of two exposures a hit makes one much lower than the other.
        left = _largest(left[self._sure] if len(self.terms) == 2 else left)
        if left > _MAX_RATIO:
            found.append(
                f"Q / Q0 = {left:.1f} is left on structure, above "
                f"{_MAX_RATIO:g}: check gain, read noise, registration and "
                "focus, and leave out exposures that differ"
            )
        return found

    def _local_shifts(self):
        """Return a text if some tiles tell shifts above the limit, or ''."""
        n = len(self.terms)
        names = (*_SHIFTS, "error_x", "error_y", "x", "y")
        x, y, error_x, error_y, *centre = (
            np.asarray(self.tiles[name], dtype=float).reshape(n, -1) for name in names
        )
        sure = np.abs(x) - _SURE * error_x > _MAX_SHIFT
        sure |= np.abs(y) - _SURE * error_y > _MAX_SHIFT
        tiles = sure.any(axis=0)
        if np.count_nonzero(tiles) < _LEAST_TILES:
            return ""
        text = []
        for name, values in zip(_SHIFTS, (x, y), strict=True):
            shifts = np.median(values[:, tiles], axis=1)
            if np.abs(shifts).max() > _MAX_SHIFT:
                text.append(f"{name} {', '.join(f'{v:+.2f}' for v in shifts)} pixel")
        place = ", ".join(f"{np.median(c[0, tiles]):.0f}" for c in centre)
        return (
            f"shifts above {_MAX_SHIFT} pixel in {np.count_nonzero(tiles)} tiles "
            f"around x, y = {place} ({'; '.join(text)}): register the exposures on "
            "the features there"
        )

    def _flux_ratio(self):
        flux = np.asarray(self.terms["flux"])
        flux = flux[np.isfinite(flux)]
        if len(flux) == 0:
            return 1.0
        return flux.max() / max(flux.min(), 1e-3)

    def __repr__(self):
        state = "failed" if self.failures else "needed" if self.needed else "not needed"
        return f"<{type(self).__name__}({len(self.terms)} exposures, matching {state})>"

    def __str__(self):
        tables = ("\n".join(t.pformat(max_lines=-1)) for t in (self.terms, self.levels))
        return "\n\n".join(["\n".join([self._verdict, *self.failures]), *tables])

    @property
    def _verdict(self):
        return "matching was needed" if self.needed else "matching was not needed"

    def _repr_html_(self):
        failures = html_facts(dict.fromkeys(self.failures, ""))
        tables = map(html_table, (self.terms, self.levels))
        return html_text(f"Equivalence: {self._verdict}", failures, *tables)

    def describe(self):
        """
        Return one line on how much the exposures differ.

        Returns
        -------
        text : str
            Ranges of the known terms, and Q / Q0.
        """
        parts = []
        for name, unit in (
            ("flux", ""),
            ("shift_x", " pixel"),
            ("shift_y", " pixel"),
            ("seeing", " pixel^2"),
            ("background", ""),
        ):
            values = np.asarray(self.terms[name])
            values = values[np.isfinite(values)]
            if len(values):
                sign = "" if name == "flux" else "+"
                low, high = (f"{v:{sign}.3g}" for v in (values.min(), values.max()))
                parts.append(f"{name} {low} to {high}{unit}")
        before, after = self.ratio
        return f"{', '.join(parts)}; Q / Q0 {before:.2f}, {after:.2f} after matching"


def share_of_steps(report, *, filled):
    """Return the share of values where median - mean is above the noise of a median."""
    n, rows = len(report.terms), report.levels
    flux, skies = (np.asarray(report.terms[name]) for name in ("flux", "noise"))
    flux = np.where(np.isnan(flux), 1.0, flux)
    values = skies + np.outer(rows["level"], flux - flux.mean())
    others = values[:, np.newaxis]
    if not filled:  # with a hit in each of the exposures in turn
        others = np.where(np.eye(n, dtype=bool), np.inf, others)
    middle = np.min if n == 2 and not filled else np.median
    steps = np.abs(middle(others, axis=-1) - values.mean(axis=1, keepdims=True))
    large = steps.mean(axis=1) > np.sqrt(np.pi / 2 / n)
    return np.sum(rows["values"][large]) / max(np.sum(rows["values"]), 1)


def describe_motions(equivalence):
    """
    Return two motions of an exposure as text, if features surely move apart; or ''.

    Neither a shift nor a rotation or change of scale explains them.
    """
    n, tiles = len(equivalence.terms), equivalence.tiles
    places = np.stack([np.asarray(tiles[k], dtype=float) for k in "xy"])
    for name, error in zip(_SHIFTS, ("error_x", "error_y"), strict=True):
        shifts, errors = (np.reshape(tiles[k], (n, -1)) for k in (name, error))
        here = places[:, : shifts.shape[1]]
        found = [_apart(*pair, here) for pair in zip(shifts, errors, strict=True)]
        i = int(np.argmax([apart for apart, _ in found]))
        apart, pair = found[i]
        if apart > _APART:
            text = " and ".join(
                f"{shifts[i, k]:+.2f} pixel around x, y = "
                f"{places[0, k]:.0f}, {places[1, k]:.0f}"
                for k in pair
            )
            return f"exposure {i + 1} along {name[-1]} by {text}"
    return ""


def _apart(shifts, errors, places):
    """
    Return by how much some of the tiles (m,) surely move apart, and two of them.

    ``places`` are x and y (2, m). What is linear in them is left out.
    """
    known = np.flatnonzero(errors < _KNOWN_SHIFT)
    if len(known) < _LEAST_KNOWN:
        return 0.0, ()
    errors = errors[known]
    terms = np.stack([np.ones(len(known)), *places[:, known]])
    terms[1:] -= terms[1:].mean(axis=1, keepdims=True)
    terms /= errors
    linear = np.linalg.lstsq(terms.T, shifts[known] / errors, rcond=None)[0]
    left = shifts[known] - linear @ (terms * errors)
    low, high = np.argmin(left + _SURE * errors), np.argmax(left - _SURE * errors)
    apart = (left - _SURE * errors)[high] - (left + _SURE * errors)[low]
    return apart, (known[high], known[low])


def _largest(values):
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    return float(values.max()) if len(values) else 0.0


def _deviation(terms, name):
    return np.asarray(terms[name]) - (name == "flux")


def make_report(matched, sky=None):
    """Return the `Equivalence` of `Matched` exposures and removed `SkyLevels`."""
    before, after, found = matched.before, matched.after, matched.terms
    background = found.background
    if sky is not None:
        background = background + sky.at_tiles(found.tiling)
    found = replace(found, background=background - background.mean(axis=0))
    columns = {
        "level": after.level,
        "values": after.number,
        "before": before.ratio,
        "after": after.ratio,
    }
    noise = matched.frames.noise.typical.mean_variance(np.median(matched.reference))
    return Equivalence(
        Table(columns),
        _summarize(found, float(np.sqrt(noise))),
        _tile_table(found),
        _usable_values(matched.frames),
    )


def _usable_values(frames):
    """Return the number of good values where enough exposures are good to measure."""
    if frames.unused is None:
        return frames.data.size
    number = 0
    for rows in cut_bands(frames.shape):
        good = count(frames.unused[:, rows], len(frames))
        number += int(good[good >= min(len(frames), 3)].sum(dtype=int))
    return number


def _summarize(found, noise):
    columns = {"exposure": np.arange(1, len(found.image) + 1)}
    parts = zip(TERMS, found.image.T, found.image_errors.T, strict=False)
    for name, values, error in parts:
        size = np.abs(values - (name == "flux"))
        known = error < np.maximum(NEEDED[name] / 4, size / 5)
        columns[name] = values if known.any() else np.full(len(values), np.nan)
    # The fit to structure hardly determines the background.
    columns["background"] = np.median(found.background, axis=(1, 2))
    columns["noise"] = columns["background"] / noise
    return Table(columns)


def _tile_table(found):
    tiling, number = found.tiling, len(found.tiles)
    maps = dict(zip(TERMS, np.moveaxis(found.tiles, -1, 0), strict=False))
    maps["background"] = found.background
    maps["error_x"], maps["error_y"] = np.moveaxis(found.tile_errors[..., 1:3], -1, 0)
    centres = [
        (np.arange(k) + 0.5) * size + 0.5
        for k, size in zip(tiling.number, tiling.size, strict=True)
    ]
    places = np.meshgrid(np.arange(1, number + 1), *centres, indexing="ij")
    columns = dict(zip(("exposure", "y", "x"), places, strict=True)) | maps
    table = Table({name: np.ravel(plane) for name, plane in columns.items()})
    table["exposure"] = table["exposure"].astype(int)
    for name in table.colnames[1:]:
        table[name] = table[name].astype(np.float32)
        table[name].unit = UNITS.get(name)
    return table
