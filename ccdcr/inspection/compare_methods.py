# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Comparison of all combination methods."""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from scipy import ndimage

from ccdcr.combination.combination_settings import is_applied
from ccdcr.combination.combiner import CRCombiner
from ccdcr.exceptions import FluxScaleWarning, NoUncertaintyWarning, ignored_warnings
from ccdcr.exposures.ccd_parameters import bias_in_unit
from ccdcr.inspection.inspected import Inspection
from ccdcr.utils import stacks as kernels
from ccdcr.utils.neighbours import dilate, label_groups
from ccdcr.utils.notebook import html_table, html_text
from ccdcr.utils.planes import scaled

__all__ = ["MethodComparison", "compare_methods"]

_NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6.0
_TO_SIGMA = 1.4826
_BRIGHT = 0.99  # quantile of the minimum
_LEAST_SIGNAL = 10.0  # sigma
_TILE = 16  # pixels: extended sources are cut into tiles
_LOW = 0.05  # quantile of the sources
_DESCRIPTIONS = {
    "method": "combination",
    "replaced": "pixels that are replaced by the minimum or by mediancr",
    "fewer": "pixels that are the mean of fewer exposures",
    "noise": "scatter of the pixels that no mask touches, measured in the image",
    "expected": "noise expected from gain and read noise",
    "positive": "pixels at or beside hits above clean exposures: cosmic rays remain",
    "negative": "pixels below an exposure that is not masked: too much was removed",
    "flux": "flux of bright sources relative to the median, typical source",
    "flux_low": "the same, exceeded by all but 5 % of the sources",
}


@dataclass(frozen=True, repr=False)
class MethodComparison:
    """
    The combinations of `compare_methods`.

    Attributes
    ----------
    table : `~astropy.table.Table`
        One row for each method.

    images : dict of `~astropy.nddata.CCDData`
        The combined images by method.

    position : tuple of int
        FITS pixel (x, y) of the largest correction of the median.

    nsigma : float
        Threshold of outliers in sigma.
    """

    table: Table
    images: dict
    position: tuple
    nsigma: float

    def __repr__(self):
        return f"<{type(self).__name__}({', '.join(self.images)})>"

    def _repr_html_(self):
        title = f"Combinations compared; the largest correction is at {self.position}"
        return html_text(title, html_table(self.table))

    def __str__(self):
        return "\n".join(self.table.pformat(max_lines=-1, max_width=-1))


def compare_methods(
    ccds, masks, *, nsigma=5.0, use_lamedian=False, apply_flux_factor=None
):
    """
    Combine the exposures by all methods and compare the results.

    Parameters
    ----------
    ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        The exposures or their files, in the order of the masks.
    masks : `~ccdcr.CRMaskSet`, str or `~pathlib.Path`
        The masks or their file.
    nsigma : float, optional
        Threshold of outliers in units of the noise of one exposure. Default is 5.
    use_lamedian, apply_flux_factor : bool, optional
        As for `CRCombiner.meancr_combine`; the plain median and mean are scaled
        as well. Default is False.

    Returns
    -------
    comparison : `MethodComparison`
        ``table`` with a row for each of median, average, mediancr, meancrt,
        meancr and (if the masks have MEANCR) meancr2;
        `~ccdcr.plotting.plot_comparison` draws them. The columns are

        - ``replaced``: pixels that are replaced by the minimum or, in meancrt, by
          the value of mediancr, and ``fewer``: those of meancr and meancr2 that are
          the mean of fewer exposures;
        - ``noise``: scatter of the pixels that no mask touches, in the unit of
          the exposures, and ``expected``, what gain and read noise explain;
        - ``positive``: pixels with or beside hits that are above the clean exposures
          by more than ``nsigma``, where cosmic rays are left, and ``negative``: those
          below the highest exposure that is not masked, where too much was taken off;
        - ``flux``: flux of bright sources relative to the median, the middle one
          of all sources, and ``flux_low``, which all but 5 % of them exceed.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not allowed, or if masks and exposures do not fit.

    Notes
    -----
    The truth is not known, so that the images are compared with the exposures. The
    noise is the median absolute deviation after a filter that removes everything linear
    in x and y [1]_. The pixels that no mask touches show by how much noise alone raises
    a pixel above the lowest exposure or lowers it below the highest. Sources are the
    brightest hundredth of the minimum over the exposures, in tiles of 16 pixels. If
    ``flux_low`` is low, cores of sources are flagged.

    References
    ----------
    .. [1] J. Immerkaer 1996, Computer Vision and Image Understanding 64, 300,
       doi:10.1006/cviu.1996.0060

    Examples
    --------
    >>> from ccdcr import compare_methods, detect_cosmic_rays
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures((100, 120), seed=1)
    >>> masks = detect_cosmic_rays(
    ...     sim.exposures,
    ...     gain="GAIN",
    ...     readnoise="RDNOISE",
    ...     crmethod="mm_lacosmic",
    ...     la_verbose=False,
    ... )
    >>> comparison = compare_methods(sim.exposures, masks)
    >>> comparison.table["method"].tolist()
    ['median', 'average', 'mediancr', 'meancrt', 'meancr', 'meancr2']
    >>> bool(comparison.table["positive"][1] > comparison.table["positive"][4])
    True
    """
    if not nsigma > 0:
        msg = f"nsigma must be a number > 0, got {nsigma!r}"
        raise ValueError(msg)
    inspection = Inspection.from_ccds(ccds, masks)
    # Flagged pixels are masked already.
    combiner = CRCombiner(inspection.ccds, inspection.masks, ignore_flags=-1)
    applied = is_applied(apply_flux_factor, inspection.masks)
    options = {"use_lamedian": use_lamedian, "apply_flux_factor": applied}
    images = _combine(combiner, options)
    judge = _Judge(inspection, nsigma, apply_flux_factor=applied)
    table = judge.table(images)
    return MethodComparison(table, images, _position(images), nsigma)


def _combine(combiner, options):
    masks = combiner.crmasks
    factors = masks.flux_factor if options["apply_flux_factor"] else None
    scale = None if factors is None else 1 / factors[:, np.newaxis, np.newaxis]
    same = scale is None or not masks.bias or np.all(factors == 1)
    other = combiner if same else CRCombiner(_without_bias(combiner))
    with ignored_warnings(RuntimeWarning):  # of pixels masked in all exposures
        plain = {
            "median": other.median_combine(scale_to=scale),
            "average": other.average_combine(scale_to=scale),
        }
    names = ["mediancr", "meancrt", "meancr"]
    names += [] if masks.meancr is None else ["meancr2"]
    # The table has NaN instead.
    with (
        ignored_warnings(NoUncertaintyWarning),
        ignored_warnings(FluxScaleWarning),  # what they mix is what is compared
    ):
        return plain | {
            name: getattr(combiner, f"{name}_combine")(**options) for name in names
        }


def _without_bias(combiner):
    """Return copies of the exposures of a combiner without the recorded bias."""
    ccds = combiner.ccd_list
    bias = bias_in_unit(combiner.crmasks, ccds[0].unit)
    copies = []
    for ccd in ccds:
        copy = ccd.copy()
        copy.data = ccd.data - bias
        copies.append(copy)
    return copies


def _clean_mean(stack, inspection, low):
    """Return the mean (ny, nx) of clean values of a stack; the lowest without any."""
    unused = inspection.masks.crmasks
    if inspection.bad is not None:
        unused = unused | inspection.bad
    with np.errstate(invalid="ignore"):
        mean = kernels.mean(stack, unused)
    return np.where(np.isfinite(mean), mean, low)


def _touched(masks):
    touched = masks.meancrt | masks.mediancr | masks.crmasks.any(axis=0)
    return touched if masks.meancr is None else touched | masks.meancr


class _Judge:
    """Statistics of combined images by which all methods are compared."""

    def __init__(self, inspection, nsigma, *, apply_flux_factor):
        self._nsigma, self._bias = nsigma, inspection.masks.bias or 0.0
        factors = inspection.factors
        level = np.float32(1 if apply_flux_factor else np.mean(factors))
        stack = scaled(inspection.stack, factors) * level
        if apply_flux_factor and np.any(inspection.masks.flux_factor != 1):
            self._bias = 0.0  # is subtracted
        self._low = kernels.lowest(stack, inspection.bad)[0]
        touched = _touched(inspection.masks)
        # Beside hits others may be missed, which are in the mean.
        self._near = dilate(touched, 1)
        mean = _clean_mean(stack, inspection, self._low)
        self._reference = np.where(touched, mean, self._low)
        self._high = _highest(stack, inspection)
        self._noise = inspection.compute_noise(self._low)
        self._fewer = _fewer(inspection)
        self._clean = ~touched & np.isfinite(self._low)
        # The filter of the noise reaches one pixel beyond.
        self._calm = ndimage.binary_erosion(self._clean, np.ones((3, 3)))

    def table(self, images):
        """Return the table of images by method."""
        rows = [self._row(method, image) for method, image in images.items()]
        table = Table(rows=rows, names=list(_DESCRIPTIONS))
        # The same in clean pixels, with our uncertainties.
        for row, same in (("median", "mediancr"), ("average", "meancr")):
            index = list(table["method"]).index(row)
            table["expected"][index] = self._expected(images[same])
        self._add_flux(table, images)
        for name, text in _DESCRIPTIONS.items():
            table[name].info.description = text
        for name in ("noise", "expected"):
            table[name].unit = images["median"].unit
            table[name].info.format = ".4g"
        for name in ("flux", "flux_low"):
            table[name].info.format = ".4f"
        return table

    def _row(self, method, image):
        """Return the row of one method; fluxes come later."""
        data = np.asarray(image.data, dtype=np.float64)
        filtered = ndimage.convolve(data, _NOISE_KERNEL)[self._calm]
        noise = _TO_SIGMA * np.median(np.abs(filtered)) if filtered.size else np.nan
        data = data - self._bias
        above = self._score(data - self._reference) > self._nsigma
        positive = np.count_nonzero(above & self._near)
        negative = np.count_nonzero(self._score(data - self._high) < -self._nsigma)
        replaced = int(image.header.get("CRNREPL", 0))
        expected = self._expected(image)
        fewer = self._fewer.get(method, 0)
        return method, replaced, fewer, noise, expected, positive, negative, 1.0, 1.0

    def _expected(self, image):
        if image.uncertainty is None or not self._clean.any():
            return np.nan
        return float(np.median(image.uncertainty.array[self._clean]))

    def _score(self, difference):
        """Return a difference (ny, nx) in sigma; the median of clean pixels is 0."""
        noise = self._noise
        clean = difference[self._clean]
        if np.isnan(noise).all():
            middle = np.median(clean) if clean.size else 0.0
            noise = _TO_SIGMA * np.median(np.abs(clean - middle)) if clean.size else 1.0
        with np.errstate(invalid="ignore"):
            score = difference / noise
        usual = np.median(score[self._clean]) if clean.size else 0.0
        return score - usual

    def _add_flux(self, table, images):
        labels, index = self._sources()
        if not len(index):
            return

        def sums(image):
            data = np.nan_to_num(np.asarray(image.data, dtype=np.float64) - self._bias)
            return ndimage.sum_labels(data, labels, index)

        reference = sums(images["median"])
        for row, image in zip(table, images.values(), strict=True):
            ratios = sums(image) / reference
            row["flux"], row["flux_low"] = np.quantile(ratios, [0.5, _LOW])

    def _sources(self):
        """Return labels (ny, nx) of the sources by tile, and the labels there are."""
        level = np.where(np.isfinite(self._low), self._low, 0)
        floor = np.quantile(level, _BRIGHT)
        # ``~faint`` also where the noise is NaN.
        faint = level < _LEAST_SIGNAL * self._noise
        bright = (level >= floor) & ~faint & (level > 0)
        labels, _ = label_groups(bright)
        y, x = np.indices(level.shape, sparse=True)
        tiles = (y // _TILE) * (level.shape[1] // _TILE + 1) + x // _TILE
        labels = np.where(bright, labels * (int(tiles.max()) + 1) + tiles + 1, 0)
        return labels, np.unique(labels[bright])


def _fewer(inspection):
    """Return how many pixels are the mean of fewer exposures, by method."""
    hits, residual = inspection.masks.crmasks, inspection.masks.meancr
    if inspection.bad is None:
        some = hits.any(axis=0) & ~hits.all(axis=0)
    else:
        some = (hits & ~inspection.bad).any(axis=0) & ~(hits | inspection.bad).all(
            axis=0
        )
    kept = some if residual is None else some & ~residual
    return {"meancr": np.count_nonzero(some), "meancr2": np.count_nonzero(kept)}


def _highest(stack, inspection):
    """Return the highest exposure (ny, nx) that is not masked, -inf if none is."""
    unused = inspection.masks.crmasks
    if inspection.bad is not None:
        unused = unused | inspection.bad
    return -kernels.lowest(-stack, unused)[0]


def _position(images):
    """Return the FITS pixel (x, y) at which the median is corrected most."""
    data = images["median"]
    change = np.nan_to_num(np.abs(data.data - images["mediancr"].data))
    if not change.any():
        change = np.nan_to_num(np.abs(data.data - images["average"].data))
    y, x = np.unravel_index(int(np.argmax(change)), change.shape)
    return int(x) + 1, int(y) + 1
