# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Masks together with their exposures."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from astropy import units as u

from ccdcr.combination.combination_settings import CombinationSettings, masks_for
from ccdcr.combination.combine_rows import ImagePlanes, combine_planes
from ccdcr.detection.detect_cosmic_rays import detect_cosmic_rays
from ccdcr.exposures import CCDParameters
from ccdcr.exposures.ccd_values import exposure_times, is_counts, is_electrons, is_rate
from ccdcr.exposures.exposure_flags import BAD_FLAGS
from ccdcr.masks.diagnostics import LOW, POINT_LIKE, UNKNOWN
from ccdcr.masks.edit_masks import load_mask_exposures
from ccdcr.masks.expected_table import ExpectedRows, expected_power
from ccdcr.masks.mask_rows import check_not_swapped, read_masks
from ccdcr.masks.mask_set import CRMaskSet
from ccdcr.median_minimum.exact_statistics import compared_planes
from ccdcr.median_minimum.simulated_boundary import low_reference
from ccdcr.requirements.requirement_table import STAGES
from ccdcr.requirements.requirements import Requirements
from ccdcr.utils.padding import find_padding
from ccdcr.utils.planes import Observed, clean_mean, make_planes, scaled

__all__ = ["EVERY", "Inspection", "stamp_bounds"]

EVERY = "EVERY"  # pixels that are masked in every exposure


@dataclass(frozen=True, eq=False, repr=False)
class Inspection:
    """
    Masks and their exposures, read once by `from_ccds`.

    ``ccds`` are the exposures, flagged pixels masked as in the detection, [] for a part
    of the images; ``stack`` is the same without bias, float32 (n, ny, nx), ``bad``
    (n, ny, nx) is True for ignored pixels, or None. ``detector`` is None if masks do
    not record gain and read noise. ``factors`` (n,) are the flux factors that the stack
    still contains.
    """

    masks: CRMaskSet
    ccds: list
    stack: np.ndarray
    bad: np.ndarray | None
    unit: u.UnitBase
    detector: CCDParameters | None
    factors: np.ndarray

    @classmethod
    def from_ccds(cls, ccds, masks):
        """Return an Inspection of exposures or their Inspection, and masks."""
        check_not_swapped(ccds, masks)
        if isinstance(ccds, Inspection):
            if ccds.masks is masks:
                return ccds
            ccds = ccds.ccds
        masks = read_masks(masks, "masks")
        exposures = load_mask_exposures(ccds, masks)
        unit = exposures.ccds[0].unit
        gain = 1.0 if is_electrons(unit) else masks.gain
        known = gain is not None and masks.readnoise is not None
        bad, padding = exposures.bad, find_padding(exposures.stack, exposures.bad)
        if padding.any():
            bad = padding | (
                np.zeros_like(exposures.stack, bool) if bad is None else bad
            )
        return cls(
            masks,
            exposures.ccds,
            exposures.stack,
            bad,
            unit,
            _parameters(gain, masks, exposures) if known else None,
            exposures.factors,
        )

    def __repr__(self):
        n, *shape = self.stack.shape
        return f"<{type(self).__name__}({n} exposures, shape={tuple(shape)})>"

    @property
    def requirements(self):
        """The requirements of the masks, or their defaults."""
        return self.masks.requirements or Requirements()

    def uses(self, stage):
        """Return whether the crmethod has a stage: lacosmic, mm, matched, unmatched."""
        return self.requirements.crmethod in STAGES[stage]

    @property
    def has_single_image(self):
        """Whether the crmethod has a single-image detector."""
        return self.requirements.crmethod not in {"mmcosmic", "matched"}

    @property
    def exact(self):
        """Whether the boundary is the one computed from the noise."""
        return self.requirements.mm_boundary_fit == "exact"

    @cached_property
    def unused(self):
        """What is ignored, (n, ny, nx): bad pixels and low values; or None."""
        low = self.masks.low
        if self.bad is None or low is None:
            return low if self.bad is None else self.bad
        return self.bad | low

    @cached_property
    def observed(self):
        """The exposures as the stages of the detection use them."""
        planes = make_planes(self.stack, self.unused)
        detector = self.detector and self.detector.common()
        return Observed(self.stack, self.unused, planes, self.factors, detector)

    @property
    def planes(self):
        """Minimum, median and mean over the exposures."""
        return self.observed.planes

    def cut(self, bounds):
        """Return a part of the images, without CCDData; bounds are slices (y, x)."""
        return replace(
            self,
            masks=self.masks[bounds],
            ccds=[],
            stack=self.stack[:, *bounds],
            bad=None if self.bad is None else self.bad[:, *bounds],
            detector=self.detector and self.detector.at(bounds),
        )

    def detect_again(self, requirements):
        """Return the masks of a new detection in the exposures."""
        masks = detect_cosmic_rays(
            self.ccds,
            requirements,
            gain=self.masks.gain if is_counts(self.unit) else None,
            readnoise=self.masks.readnoise,
            bias=self.detector.bias if self.detector else self.masks.bias,
            noise=self.masks.noise or "auto",
        )
        if (bits := self.masks.meta.get(BAD_FLAGS)) is not None:
            masks.meta[BAD_FLAGS] = bits
        return masks

    def mask(self, name):
        """Return a mask (ny, nx) by name; EVERY are pixels masked in every exposure."""
        if name == EVERY:
            return self.masks.crmasks.all(axis=0)
        if name not in self.masks.planes:
            known = ", ".join([*self.masks.planes, EVERY])
            msg = f"the name of a mask must be one of {known}, got {name!r}"
            raise ValueError(msg)
        return self.masks.planes[name]

    def flags(self, name):
        """
        Return the classes (ny, nx) of masked pixels.

        Without diagnostics they are UNKNOWN, but for low values and point sources.
        """
        mask = self.mask(name)
        known = self.masks.diagnostics.flags.get(_searched(name))
        if known is None:
            known = self._flags_of_file(name)
        return np.where(mask & (known == 0), np.uint8(UNKNOWN), known * mask)

    def _flags_of_file(self, name):
        """Return the classes (ny, nx) of a mask that its file keeps, else 0."""
        known = np.zeros(self.masks.shape, dtype=np.uint8)
        for flag, planes in (
            (LOW, self.masks.low),
            (POINT_LIKE, self.masks.point_like),
        ):
            if planes is not None and _searched(name) == "MEANCRT":
                known[planes.any(axis=0)] = flag
            elif planes is not None and name.startswith("CRMASK"):
                known[planes[int(name.removeprefix("CRMASK")) - 1]] = flag
        return known

    def boundary(self, name):
        """Return the Median-Minimum boundary of a mask, or None."""
        return self.masks.diagnostics.boundaries.get(_searched(name))

    def compute_noise(self, level):
        """Return the noise of an exposure at a level; NaN if it is not known."""
        if self.detector is None:
            return np.full_like(np.asarray(level, dtype=np.float32), np.nan)
        return self.detector.compute_noise(level)

    def statistic(self, name):
        """Return low reference and statistic of Median-Minimum, (ny, nx) each."""
        if self.exact:
            return self._exact_statistic(name)
        sought = len(self.stack) - 1
        if name == "MEDIANCR":
            sought = min(self.requirements.mm_cr_coincidences, sought)
        reference = low_reference(self.stack, self.unused, sought)
        nogood = self.planes.nogood
        if nogood is not None:
            reference = np.where(nogood, self.planes.minimum, reference)
        if name == "MEANCR":
            return reference, clean_mean(self.observed, self.masks.crmasks)
        return reference, self.observed.images[_searched(name)][0]

    def _exact_statistic(self, name):
        compared = self._compared
        if name == "MEDIANCR":
            return compared.reference, compared.ordered
        if name in {"MEANCRT", EVERY}:
            return compared.reference, compared.highest
        if name == "MEANCR":
            return compared.reference, clean_mean(self.observed, self.masks.crmasks)
        index = self.observed.names.index(name)
        return compared.reference, scaled(self.stack, self.factors)[index]

    @cached_property
    def _compared(self):
        stack = scaled(self.stack, self.factors)
        planes = self.planes if stack is self.stack else make_planes(stack, self.unused)
        known = self.boundary("CRMASK1")
        if known is not None:
            equal = not known.statistic[-1].isdigit()
        else:
            equal = np.ptp(self.masks.flux_factor) < 1e-3
        k = self.requirements.mm_cr_coincidences
        return compared_planes(stack, self.unused, planes, k, equal=equal)

    @cached_property
    def expected(self):
        """The `ExpectedRows` as values of the stack, or None."""
        masks = self.masks
        if masks.expected is None:
            return None
        given = masks.gain, expected_power(masks, self.unit)
        rows = ExpectedRows.from_table(masks.expected, masks.crmasks.shape, *given)
        bias = (masks.bias or 0.0) if self.detector is None else self.detector.bias
        scale = (self.factors / masks.flux_factor)[rows.exposure]
        value, sigma = (rows.value - bias) * scale, rows.sigma * scale
        return replace(rows, value=value, sigma=sigma)

    def combined(self, method):
        """Return the image (ny, nx) of a combination method, without bias."""
        masks = masks_for(self.masks, method)
        if self.expected is not None:
            masks |= {"FLAGGED": self.masks.crmasks, "EXPECTED": self.expected}
        bad = [None] * len(self.stack) if self.bad is None else self.bad
        exposures = [(plane, b, None) for plane, b in zip(self.stack, bad, strict=True)]
        settings = CombinationSettings(method, self.unit)
        return combine_planes(ImagePlanes(exposures, masks), None, settings).value

    def corrected(self, name):
        """Return the image that a mask is made for: mediancr or meancr."""
        return self.combined("mediancr" if name in {"MEDIANCR", EVERY} else "meancr")


def _parameters(gain, masks, exposures):
    """Return the `CCDParameters` of masks for their exposures; None without times."""
    ccd = CCDParameters.from_values(gain, masks.readnoise, exposures.bias)
    if not is_rate(exposures.ccds[0].unit):
        return ccd
    times = exposure_times([each.meta for each in exposures.ccds])
    return None if times is None else ccd.with_times(times)


def _searched(name):
    """Return the mask that diagnostics are kept for."""
    return "MEANCRT" if name == EVERY else name


def stamp_bounds(x, y, semiwindow, shape):
    """Return the slices (y, x) of a stamp around a FITS pixel, cut at the edges."""
    ny, nx = shape
    if not (1 <= x <= nx and 1 <= y <= ny):
        msg = f"x and y must lie in the images of {nx} x {ny} pixels, got {x}, {y}"
        raise ValueError(msg)
    x, y = round(x), round(y)
    return (
        slice(max(y - 1 - semiwindow, 0), min(y + semiwindow, ny)),
        slice(max(x - 1 - semiwindow, 0), min(x + semiwindow, nx)),
    )
