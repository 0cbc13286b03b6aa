# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Explanation of a pixel: why it is masked or not, and what replaces it."""

import numpy as np
from astropy.table import MaskedColumn, Table

from ccdcr.combination.methods import METHODS
from ccdcr.detection.detect_matched import make_frames, make_options
from ccdcr.detection.saturation import frame_level
from ccdcr.exposures.ccd_parameters import CCDParameters, known_variance
from ccdcr.inspection.inspected import Inspection, stamp_bounds
from ccdcr.masks.diagnostics import ORIGINS, UNKNOWN
from ccdcr.matching.flag_pixels import CHARGED, LEAST_OF_MEDIAN, needed_of_median
from ccdcr.matching.match import decision_at, surroundings
from ccdcr.matching.sky_levels import with_level_skies
from ccdcr.median_minimum.criteria import least_excess
from ccdcr.median_minimum.exact_boundary import ExactBoundary
from ccdcr.single_image.detectors import LACosmic, laplacian_statistics

__all__ = ["explain_pixel"]

_MARGIN = 60  # pixels that the filters of L.A. Cosmic may reach
_NOTHING = np.nan
_NO_BOUNDARY = (
    "the Median-Minimum boundary (diagnostics are not in the file of masks; detect "
    "again)"
)
_NO_NOISE = "the noise (the masks record no gain or no read noise)"
_NO_MATCHING = (
    "the statistic of the matched exposures (diagnostics are not in the file of masks; "
    "detect again)"
)
_NO_CLASS = "what found the pixel (diagnostics are not in the file of masks)"


def explain_pixel(ccds, masks, x, y):
    """
    Tabulate why a pixel is masked or not.

    Parameters
    ----------
    ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        The exposures or their files, in the order of the masks.
    masks : `~ccdcr.CRMaskSet`, str or `~pathlib.Path`
        The masks or their file.
    x, y : int
        The pixel; the first one is (1, 1).

    Returns
    -------
    table : `~astropy.table.Table`
        Columns item, value, noise, limit and verdict, in the unit of the exposures
        without bias, or in sigma if the item says so. Rows are the exposures, with the
        expected value of masked ones, minimum, median and mean, the statistics of the
        detectors in each image with their limits, and the values by each combination
        method. ``table.meta`` has x, y, unit, and ``missing``, a list of what the masks
        do not contain.

    Raises
    ------
    TypeError
        If ``ccds`` or ``masks`` are something else, or swapped.
    ValueError
        If the pixel is outside, or if masks and exposures do not fit.

    Notes
    -----
    The noise is that of one exposure at the level of the minimum. The statistics of
    L.A. Cosmic are those of the first iteration for the pixel itself; a neighbour of a
    hit is flagged at ``la_sigfrac`` times the limit, regardless of contrast. Other
    single-image detectors provide no statistic.

    For ``matched``, the table contains the difference between each exposure and the
    mean of the others that are not hit, its deviation in sigma (the noise includes the
    remaining mismatch), the limits ``ma_high`` and, beside a hit, ``ma_low``, 1 sigma
    of charge and ``ma_tail``, and the number of hits that corrupts the median. They are
    computed again from the surroundings in about a second, and require the diagnostics.

    Examples
    --------
    >>> from ccdcr import detect_cosmic_rays, explain_pixel
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures((100, 120), seed=1)
    >>> masks = detect_cosmic_rays(
    ...     sim.exposures, gain="GAIN", readnoise="RDNOISE", crmethod="mmcosmic"
    ... )
    >>> table = explain_pixel(sim.exposures, masks, 60, 50)
    >>> [str(verdict) for verdict in table["verdict"][4:6]]
    ['not in MEDIANCR', 'not in MEANCRT']
    """
    inspection = Inspection.from_ccds(ccds, masks)
    for name, value in (("x", x), ("y", y)):
        if value != int(value):
            msg = f"{name} must be a whole FITS pixel, got {value!r}"
            raise ValueError(msg)
    bounds = stamp_bounds(x, y, _MARGIN, inspection.masks.shape)
    here = (int(y) - 1 - bounds[0].start, int(x) - 1 - bounds[1].start)
    pixel = _Pixel(inspection.cut(bounds), here)
    if inspection.uses("matched"):
        pixel.matched = _explain_matched(inspection, (int(y) - 1, int(x) - 1))
    return pixel.table(int(x), int(y))


class _Pixel:
    """One pixel of a stamp of masks and exposures."""

    def __init__(self, inspection, here):
        self._inspection, self._here = inspection, here
        self._rows, self._missing = [], []
        self.matched = None
        rows, (y, x) = inspection.expected, here
        self._expected = {}
        if rows is not None:
            for k in np.flatnonzero((rows.y == y) & (rows.x == x)):
                self._expected[int(rows.exposure[k])] = rows.value[k], rows.sigma[k]

    def table(self, x, y):
        """Return the table of a FITS pixel."""
        self._noise = float(
            self._inspection.compute_noise(self._inspection.planes.minimum)[self._here]
        )
        if np.isnan(self._noise):
            self._missing.append(_NO_NOISE)
        self._add_exposures()
        self._add_planes()
        if self._inspection.uses("mm"):
            self._add_median_minimum()
        if self._inspection.uses("matched"):
            self._add_matched()
        if self._inspection.has_single_image:
            self._add_single_image()
        self._add_results()
        return self._as_table(x, y)

    def _add(self, item, value, verdict, *, noise=_NOTHING, limit=_NOTHING):
        self._rows.append((item, float(value), noise, float(limit), verdict))

    def _add_exposures(self):
        inspection, here = self._inspection, self._here
        for i, plane in enumerate(inspection.stack):
            verdict = self._verdict(f"CRMASK{i + 1}")
            if inspection.bad is not None and inspection.bad[i][here]:
                verdict = "bad: ignored"
            self._add(f"exposure {i + 1}", plane[here], verdict, noise=self._noise)
            if i in self._expected:
                value, sigma = self._expected[i]
                verdict = "replaces the measured value"
                self._add(f"exposure {i + 1}: expected", value, verdict, noise=sigma)

    def _verdict(self, name):
        """Return whether a mask has the pixel, and what found it, as text."""
        flag = int(self._inspection.flags(name)[self._here])
        if not flag:
            return f"not in {name}"
        if flag == UNKNOWN:
            self._missing.append(_NO_CLASS)
            return f"in {name}"
        return f"in {name}: {ORIGINS[flag]}"

    def _add_planes(self):
        planes, here = self._inspection.planes, self._here
        lowest = int(planes.lowest_index[here]) + 1
        self._add("minimum", planes.minimum[here], f"exposure {lowest}")
        self._add("median", planes.median[here], self._verdict("MEDIANCR"))
        self._add("mean", planes.mean[here], self._verdict("MEANCRT"))

    def _add_median_minimum(self):
        inspection, here = self._inspection, self._here
        known = inspection.detector is not None
        least = (
            least_excess(inspection.requirements, inspection.detector) if known else 0.0
        )
        for name in ("MEDIANCR", "MEANCRT", *inspection.observed.names):
            reference, statistic = (p[here] for p in inspection.statistic(name))
            excess = statistic - reference
            limit = self._boundary(name, reference)
            limit = limit if np.isnan(limit) else max(limit, least)
            item = f"Median-Minimum {name}: excess"
            self._add(item, excess, _compared(excess, limit), limit=limit)
            self._add_chance(name, reference, excess)
        if known:
            self._add_highest()

    def _boundary(self, name, reference):
        """Return the boundary at a low reference; NaN if it is not known."""
        boundary = self._inspection.boundary(name)
        if boundary is None:
            self._missing.append(_NO_BOUNDARY)
            return np.nan
        bad = self._inspection.bad
        good = len(self._inspection.stack)
        good -= 0 if bad is None else int(bad[(slice(None), *self._here)].sum())
        for other in getattr(boundary, "fewer", ()):
            if other.n_exposures == good:
                boundary = other
        return float(boundary(np.array([reference]))[0])

    def _add_chance(self, name, reference, excess):
        boundary = self._inspection.boundary(name)
        if isinstance(boundary, ExactBoundary):
            chance = float(boundary.survival(reference, excess))
            limit, item = boundary.p_value, f"Median-Minimum {name}: chance"
            verdict = "rarer than allowed" if chance < limit else "not rare enough"
            self._add(item, chance, verdict, limit=limit)

    def _add_highest(self):
        inspection = self._inspection
        values = inspection.stack[(slice(None), *self._here)]
        if inspection.bad is not None:
            values = values[~inspection.bad[(slice(None), *self._here)]]
        highest = values.max(initial=-np.inf)
        limit = (
            inspection.requirements.mm_minimum_max2d_rnoise * inspection.detector.noise
        )
        verdict = _compared(highest, limit)
        self._add("Median-Minimum: highest exposure", highest, verdict, limit=limit)

    def _add_matched(self):
        if self.matched is None:
            self._missing.append(_NO_MATCHING)
            return
        for item, value, noise, limit, verdict in self.matched:
            self._add(item, value, verdict, noise=noise, limit=limit)

    def _add_single_image(self):
        requirements, ccd = self._inspection.requirements, self._inspection.detector
        if not self._inspection.uses("lacosmic"):
            what = f"a statistic of {requirements.crmethod} (it gives none)"
            self._missing.append(what)
            return
        if ccd is None:
            return
        single = LACosmic.from_requirements(requirements)
        known = ccd.common().readnoise_map
        readnoise = ccd.readnoise if known is None else known
        limits = {
            "Laplacian (sigma)": np.min(single.sigclip),
            "contrast": np.min(single.objlim),
        }
        for name, image in self._searched().items():
            planes = laplacian_statistics(image, single, ccd.gain, readnoise)
            for (what, limit), plane in zip(limits.items(), planes, strict=True):
                value, item = float(plane[self._here]), f"L.A. Cosmic {name}: {what}"
                self._add(item, value, _compared(value, limit), limit=limit)

    def _searched(self):
        """Return the images (ny, nx) of the single-image detector, by name."""
        planes = self._inspection.planes
        if self._inspection.uses("matched"):
            return {"median": planes.median, "lowest exposure": planes.minimum}
        images = self._inspection.observed.images
        return {name: image for name, (image, _) in images.items()}

    def _add_results(self):
        masks = self._inspection.masks
        for method, (_, needed) in METHODS.items():
            if "MEANCR" in needed and masks.meancr is None:
                continue
            value = self._inspection.combined(method)[self._here]
            self._add(f"result of {method}", value, self._replacement(method))

    def _replacement(self, method):
        """Return what a method takes in this pixel, as text."""
        masks, here = self._inspection.masks, self._here
        used = ~masks.crmasks[(slice(None), *here)]
        if self._inspection.unused is not None:
            used &= ~self._inspection.unused[(slice(None), *here)]
        numbers = " ".join(str(i + 1) for i in np.flatnonzero(used))
        minimum = "replaced by the minimum"
        if self._expected and not (method == "meancr2" and masks.meancr[here]):
            median = method == "mediancr" or (
                method == "meancrt" and masks.meancrt[here]
            )
            name = "median" if median else "mean"
            return f"the {name} of measured and expected values"
        if method == "mediancr":
            return minimum if masks.mediancr[here] else "the median"
        if method == "meancrt":
            if not masks.meancrt[here]:
                return "the mean"
            inner = "minimum" if masks.mediancr[here] else "median"
            return f"replaced by the {inner}"
        if not numbers or (method == "meancr2" and masks.meancr[here]):
            return minimum
        return "the mean" if used.all() else f"the mean of exposure {numbers}"

    def _as_table(self, x, y):
        names = ("item", "value", "noise", "limit", "verdict")
        columns = dict(zip(names, zip(*self._rows, strict=True), strict=True))
        for name in ("noise", "limit"):
            values = np.array(columns[name], dtype=float)
            columns[name] = MaskedColumn(values, mask=np.isnan(values), format=".5g")
        table = Table(columns, names=names)
        table["value"].info.format = ".5g"
        missing = list(dict.fromkeys(self._missing))
        table.meta |= {"x": x, "y": y, "unit": str(self._inspection.unit)}
        table.meta["missing"] = missing
        return table


def _compared(value, limit):
    if np.isnan(limit):
        return "limit not known"
    return "above" if value > limit else "below"


def _explain_matched(inspection, pixel):
    """Return the table rows of a pixel (row, column); None without diagnostics."""
    matching = inspection.masks.diagnostics.matching
    if matching is None or matching.known is None:
        return None
    if inspection.detector is None and inspection.masks.noise != "uncertainty":
        return None
    bounds = surroundings(pixel, inspection.masks.shape, matching.known.tile)
    frames = _matched_frames(inspection, matching, bounds)
    rows, columns = bounds
    here = pixel[0] - rows.start, pixel[1] - columns.start
    options = make_options(inspection.requirements)
    decision = decision_at(here, frames, options, matching.known)
    found = []
    for i in range(len(frames)):
        found += _exposure_rows(i, decision, options.limits)
    unused = np.zeros(len(frames), dtype=bool)
    if frames.unused is not None:
        unused = frames.unused[(slice(None), *here)]
    return [*found, *_median_row(decision, unused | decision.low)]


def _matched_frames(inspection, matching, bounds):
    """Return a part of the exposures as they were matched."""
    data, ratio = inspection.stack[:, *bounds], matching.gain_ratio
    ccd = inspection.detector or CCDParameters(1.0, 1.0, 0.0)
    satlevel = inspection.requirements.ma_satlevel
    bad = None if inspection.bad is None else inspection.bad[:, *bounds]
    variance = None
    if inspection.masks.noise == "uncertainty":
        variance, nothing = _variances(inspection.ccds, bounds)
        bad = nothing if bad is None else bad | nothing
        variance = variance if ratio is None else variance * np.square(ratio[bounds])
    frames = make_frames(
        data if ratio is None else data * ratio[bounds],
        ccd.at(bounds),
        matching.scale,
        bad=bad,
        level=frame_level(satlevel, inspection.unit, ccd, matching.scale),
        variance=variance,
        is_measured=inspection.detector is None,
    )
    sky = matching.sky
    return with_level_skies(frames, None if sky is None else sky.cut(bounds))


def _variances(ccds, bounds):
    """Return variances, and where there is no information, (n, ny, nx) of a part."""
    pairs = [
        known_variance(c.data[bounds], s.array[bounds], type(s), s.unit, c.unit)
        for c, s in ((ccd, ccd.uncertainty) for ccd in ccds)
    ]
    variance, nothing = map(np.array, zip(*pairs, strict=True))
    return variance.astype(np.float32), nothing


def _exposure_rows(i, decision, limits):
    """Return the table rows of one exposure, as far as they decide."""
    name, z = f"matched exposure {i + 1}", decision.z[i]
    if decision.low[i]:
        difference = decision.value[i] - decision.reference[i]
        verdict = "low, and not all others hit"
        return [(f"{name}: minus the others", difference, np.nan, np.nan, verdict)]
    if not np.isfinite(z):
        return []
    numbers = [str(k + 1) for k in np.flatnonzero(decision.used) if k != i]
    others = f"others: the mean of exposure {' '.join(numbers)}"
    if not numbers:
        others = "others: all hit, the lowest of them"
    if decision.around[i]:
        others += " and of pixels around"
    difference = decision.value[i] - decision.reference[i]
    noise = decision.noise[i]
    rows = [
        (f"{name}: minus the others", difference, noise, np.nan, others),
        _row(f"{name}: deviation (sigma)", z, limits.high),
    ]
    if z > limits.high:
        return rows
    if z > limits.low:
        why = " and joined to a hit" if decision.joined[i] else ", joined to no hit"
        rows.append(_row(f"{name}: as part of a hit (sigma)", z, limits.low, why))
    if not decision.joined[i] and np.isfinite(charge := decision.charge[i]):
        why = "" if decision.hit[i] else ", but all others are hit"
        rows.append(_charge_row(name, z, charge, limits.tail, why))
    return rows


def _charge_row(name, z, charge, tail, why):
    """Return the row that decides about a neighbour of hits, and why it does not."""
    item, value, limit = "charge of hit neighbours", charge, CHARGED
    if charge <= CHARGED:
        item, value, limit = f"deviation and {item}", z + charge, tail
    return _row(f"{name}: {item} (sigma)", value, limit, why if value > limit else "")


def _row(item, value, limit, why=""):
    return item, value, np.nan, limit, _compared(value, limit) + why


def _median_row(decision, unused):
    """Return the row of the median."""
    number = np.count_nonzero(decision.hit & (decision.z > LEAST_OF_MEDIAN))
    needed = int(needed_of_median(len(decision.z) - np.count_nonzero(unused)))
    verdict = "the median is wrong" if number >= needed else "too few"
    item = f"matched MEDIANCR: exposures hit by more than {LEAST_OF_MEDIAN} sigma"
    return [(item, number, np.nan, needed, verdict)]
