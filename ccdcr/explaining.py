# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Why a pixel is masked, or not, and what it was replaced by."""

import numpy as np
from astropy.table import MaskedColumn, Table

from ccdcr._laplacian import laplacian_statistics
from ccdcr._requirements_table import STAGES
from ccdcr._viewed import UNKNOWN, view
from ccdcr.combination.methods import METHODS
from ccdcr.detection.criterion import least_excess
from ccdcr.detection.exact.boundary import ExactBoundary
from ccdcr.detection.lacosmic import LACosmic
from ccdcr.detection.matched.explain import explained
from ccdcr.plotting._style import CLASSES, window

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


def explain_pixel(masks, ccds, x, y):
    """
    Tabulate all that decided about a pixel.

    Parameters
    ----------
    masks : `~ccdcr.CRMaskSet`
        The masks.
    ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        The exposures, in the order of the masks.
    x, y : int
        The pixel; the first one is (1, 1).

    Returns
    -------
    table : `~astropy.table.Table`
        Columns item, value, noise, limit and verdict, in the unit of the
        exposures without bias, or in sigma where the item says so. Rows are the
        exposures, minimum, median and mean, the statistics of the detectors in
        each image with their limits, and the values by each combination method.
        ``table.meta`` has x, y, unit, and ``missing``, a list of what the masks do
        not say.

    Raises
    ------
    ValueError
        If the pixel is outside, or if masks and exposures do not fit.

    Notes
    -----
    The noise is that expected of one exposure at the level of the minimum. The
    statistics of L.A. Cosmic are those of its first iteration, of a pixel and not
    of its neighbours: a pixel next to a hit is flagged at ``la_sigfrac`` times
    the limit without contrast. Other single-image detectors give no number.

    For matched exposures (``crmethod`` matched) there are the difference of each
    matched exposure to the mean of the others that are not hit, its deviation
    in sigma (the noise of the difference includes the mismatch that is left), the
    limit ``ma_high``, for pixels beside a hit ``ma_low`` and ``ma_tail``, and in how
    many exposures the median must be hit to be wrong. They are found out again from
    the surroundings, in about a second, and need the diagnostics.
    """
    viewed = view(masks, ccds)
    for name, value in (("x", x), ("y", y)):
        if value != int(value):
            msg = f"{name} must be a whole FITS pixel, got {value!r}"
            raise ValueError(msg)
    bounds = window(x, y, _MARGIN, masks.shape)
    here = (int(y) - 1 - bounds[0].start, int(x) - 1 - bounds[1].start)
    pixel = _Pixel(viewed.cut(bounds), here)
    if viewed.requirements.crmethod in STAGES["matched"]:
        pixel.matched = _matched(viewed, (int(y) - 1, int(x) - 1))
    return pixel.table(int(x), int(y))


def _matched(viewed, pixel):
    """Return the rows of the matched exposures; None without diagnostics."""
    if "matching" not in viewed.masks.diagnostics or viewed.detector is None:
        return None
    return explained(viewed, pixel)


class _Pixel:
    """One pixel of a stamp of masks and exposures."""

    def __init__(self, viewed, here):
        self._viewed, self._here = viewed, here
        self._rows, self._missing = [], []
        self.matched = None

    def table(self, x, y):
        """Return the table."""
        self._noise = float(
            self._viewed.noise_of(self._viewed.planes.minimum)[self._here]
        )
        if np.isnan(self._noise):
            self._missing.append(_NO_NOISE)
        self._add_exposures()
        self._add_planes()
        crmethod = self._viewed.requirements.crmethod
        if crmethod in STAGES["mm"]:
            self._add_median_minimum()
        if crmethod in STAGES["matched"]:
            self._add_matched()
        if crmethod not in {"mmcosmic", "matched"}:
            self._add_single_image(crmethod)
        self._add_results()
        return self._as_table(x, y)

    def _add(self, item, value, verdict, *, noise=_NOTHING, limit=_NOTHING):
        self._rows.append((item, float(value), noise, float(limit), verdict))

    def _add_exposures(self):
        viewed, here = self._viewed, self._here
        for i, plane in enumerate(viewed.stack):
            verdict = self._verdict(f"CRMASK{i + 1}")
            if viewed.bad is not None and viewed.bad[i][here]:
                verdict = "bad: takes no part"
            self._add(f"exposure {i + 1}", plane[here], verdict, noise=self._noise)

    def _verdict(self, name):
        """Say whether a mask has the pixel, and what found it."""
        flag = int(self._viewed.flags(name)[self._here])
        if not flag:
            return f"not in {name}"
        if flag == UNKNOWN:
            self._missing.append(_NO_CLASS)
            return f"in {name}"
        return f"in {name}: {CLASSES[flag][0]}"

    def _add_planes(self):
        planes, here = self._viewed.planes, self._here
        lowest = int(planes.lowest_index[here]) + 1
        self._add("minimum", planes.minimum[here], f"exposure {lowest}")
        self._add("median", planes.median[here], self._verdict("MEDIANCR"))
        self._add("mean", planes.mean[here], self._verdict("MEANCRT"))

    def _add_median_minimum(self):
        viewed, here = self._viewed, self._here
        known = viewed.detector is not None
        least = least_excess(viewed.requirements, viewed.detector) if known else 0.0
        for name in ("MEDIANCR", "MEANCRT", *viewed.observed.names):
            reference, statistic = (p[here] for p in viewed.statistic(name))
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
        boundary = self._viewed.boundary(name)
        if boundary is None:
            self._missing.append(_NO_BOUNDARY)
            return np.nan
        bad = self._viewed.bad
        good = len(self._viewed.stack)
        good -= 0 if bad is None else int(bad[(slice(None), *self._here)].sum())
        for other in getattr(boundary, "fewer", ()):
            if other.n_exposures == good:
                boundary = other
        return float(boundary(np.array([reference]))[0])

    def _add_chance(self, name, reference, excess):
        boundary = self._viewed.boundary(name)
        if isinstance(boundary, ExactBoundary):
            chance = float(boundary.survival(reference, excess))
            limit, item = boundary.p_value, f"Median-Minimum {name}: chance"
            verdict = "rarer than allowed" if chance < limit else "not rare enough"
            self._add(item, chance, verdict, limit=limit)

    def _add_highest(self):
        viewed = self._viewed
        values = viewed.stack[(slice(None), *self._here)]
        if viewed.bad is not None:
            values = values[~viewed.bad[(slice(None), *self._here)]]
        highest = values.max(initial=-np.inf)
        limit = viewed.requirements.mm_minimum_max2d_rnoise * viewed.detector.noise
        verdict = _compared(highest, limit)
        self._add("Median-Minimum: highest exposure", highest, verdict, limit=limit)

    def _add_matched(self):
        if self.matched is None:
            self._missing.append(_NO_MATCHING)
            return
        for item, value, noise, limit, verdict in self.matched:
            self._add(item, value, verdict, noise=noise, limit=limit)

    def _add_single_image(self, crmethod):
        if crmethod not in STAGES["lacosmic"]:
            self._missing.append(f"a statistic of {crmethod} (it gives none)")
            return
        if self._viewed.detector is None:
            return
        detector = LACosmic.from_requirements(self._viewed.requirements)
        clip, objlim = (np.min(v) for v in (detector.sigclip, detector.objlim))
        detector_ = self._viewed.detector
        for name, image in self._searched(crmethod).items():
            pair = laplacian_statistics(
                image, detector, detector_.gain, detector_.readnoise
            )
            significance, contrast = (float(plane[self._here]) for plane in pair)
            self._add(
                f"L.A. Cosmic {name}: Laplacian (sigma)",
                significance,
                _compared(significance, clip),
                limit=clip,
            )
            self._add(
                f"L.A. Cosmic {name}: contrast",
                contrast,
                _compared(contrast, objlim),
                limit=objlim,
            )

    def _searched(self, crmethod):
        """Return the images that the single-image detector has seen, by name."""
        planes = self._viewed.planes
        if crmethod in STAGES["matched"]:
            return {"median": planes.median, "lowest exposure": planes.minimum}
        images = self._viewed.observed.images
        return {name: image for name, (image, _) in images.items()}

    def _add_results(self):
        masks = self._viewed.masks
        for method, (_, needed) in METHODS.items():
            if "MEANCR" in needed and masks.meancr is None:
                continue
            value = self._viewed.combined(method)[self._here]
            self._add(f"result of {method}", value, self._replacement(method))

    def _replacement(self, method):
        """Say what a method takes in this pixel."""
        masks, here = self._viewed.masks, self._here
        used = ~masks.crmasks[(slice(None), *here)]
        if self._viewed.bad is not None:
            used &= ~self._viewed.bad[(slice(None), *here)]
        numbers = " ".join(str(i + 1) for i in np.flatnonzero(used))
        minimum = "replaced by the minimum"
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
        table.meta |= {"x": x, "y": y, "unit": str(self._viewed.unit)}
        table.meta["missing"] = missing
        return table


def _compared(value, limit):
    if np.isnan(limit):
        return "limit not known"
    return "above" if value > limit else "below"
