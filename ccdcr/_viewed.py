# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Masks together with their exposures, as figures and reports look at them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from astropy import units as u

from ccdcr._requirements_table import STAGES
from ccdcr.combination.methods import METHODS, Stack
from ccdcr.detection.diagram import low_reference
from ccdcr.detection.exact.statistics import compared_planes
from ccdcr.detection.planes import Observed, clean_mean, make_planes, scaled
from ccdcr.exposures import CCDParameters, load_ccds
from ccdcr.maskset import CRMaskSet
from ccdcr.requirements import Requirements

__all__ = ["EVERY", "UNKNOWN", "Viewed", "view"]

UNKNOWN = 6  # what found a pixel, where the masks do not say it
EVERY = "EVERY"  # pixels that are masked in every exposure


def view(masks, ccds):
    """
    Put masks and exposures together.

    Parameters
    ----------
    masks : `~ccdcr.CRMaskSet`
        The masks.
    ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`, or `Viewed`
        The exposures or their files, in the order of the masks. What is already
        put together is returned, with these masks.

    Returns
    -------
    viewed : `Viewed`
        Both.

    Raises
    ------
    TypeError
        If ``masks`` is no mask set.
    ValueError
        If the exposures do not fit the masks.
    """
    if not isinstance(masks, CRMaskSet):
        msg = f"masks must be a CRMaskSet, got {type(masks).__name__}"
        raise TypeError(msg)
    if isinstance(ccds, Viewed):
        return ccds if ccds.masks is masks else ccds.with_masks(masks)
    ccds, _ = load_ccds(ccds, name="ccds")
    if len(ccds) != len(masks) or ccds[0].shape != masks.shape:
        msg = (
            f"ccds must be {len(masks)} exposures of shape {masks.shape}, as the "
            f"masks, got {len(ccds)} of shape {ccds[0].shape}"
        )
        raise ValueError(msg)
    return _load(masks, ccds)


def _load(masks, ccds):
    unit = ccds[0].unit
    in_electrons = unit == u.electron and masks.gain is not None
    bias = (masks.bias or 0.0) * (masks.gain if in_electrons else 1.0)
    stack = np.empty((len(ccds), *masks.shape), dtype=np.float32)
    bad = np.empty(stack.shape, dtype=bool)
    for i, ccd in enumerate(ccds):
        with np.errstate(over="ignore"):  # beyond float32 is not finite either
            np.subtract(ccd.data, bias, out=stack[i], casting="unsafe")
        np.logical_not(np.isfinite(stack[i]), out=bad[i])
        if ccd.mask is not None:
            bad[i] |= np.asarray(ccd.mask, dtype=bool)
    gain = 1.0 if unit == u.electron else masks.gain
    known = gain is not None and masks.readnoise is not None
    detector = CCDParameters(gain, masks.readnoise, bias) if known else None
    factors = masks.flux_factor
    if _divides(_requirements(masks)):
        stack, factors = scaled(stack, factors), np.ones(len(ccds))
    return Viewed(masks, stack, bad if bad.any() else None, unit, detector, factors)


def _divides(requirements):
    """Return whether the detection has divided the exposures by their factors."""
    unmatched = requirements.crmethod in STAGES["unmatched"]
    return unmatched and requirements.apply_flux_factor_to == "original"


def _requirements(masks):
    return masks.requirements or Requirements()


@dataclass(frozen=True)
class Viewed:
    """
    Masks and exposures.

    ``stack`` is (n, ny, nx) float32 without bias, ``bad`` of the same shape (True
    = takes no part) or None. ``detector`` has gain and read noise; it is None
    where the masks do not record them. ``factors`` are the flux factors that the
    stack still contains.
    """

    masks: CRMaskSet
    stack: np.ndarray
    bad: np.ndarray | None
    unit: u.UnitBase
    detector: CCDParameters | None
    factors: np.ndarray

    def with_masks(self, masks):
        """Return the same exposures with other masks."""
        return Viewed(
            masks, self.stack, self.bad, self.unit, self.detector, self.factors
        )

    @property
    def requirements(self):
        """The requirements of the masks, or their defaults."""
        return _requirements(self.masks)

    @cached_property
    def observed(self):
        """The exposures as the stages of the detection see them."""
        planes = make_planes(self.stack, self.bad)
        return Observed(self.stack, self.bad, planes, self.factors, self.detector)

    @property
    def planes(self):
        """Minimum, median and mean over the exposures."""
        return self.observed.planes

    def cut(self, bounds):
        """Return a part of the images; slices along y and x."""
        bad = None if self.bad is None else self.bad[:, *bounds]
        cut = self.masks[bounds]
        flags = self.masks.diagnostics.get("flags", {})
        cut.diagnostics.update(self.masks.diagnostics)
        cut.diagnostics["flags"] = {name: flag[bounds] for name, flag in flags.items()}
        stack = self.stack[:, *bounds]
        return Viewed(cut, stack, bad, self.unit, self.detector, self.factors)

    def mask(self, name):
        """Return a mask by name; ``EVERY`` are pixels masked in every exposure."""
        if name == EVERY:
            return self.masks.crmasks.all(axis=0)
        if name not in self.masks.planes:
            known = ", ".join([*self.masks.planes, EVERY])
            msg = f"the name of a mask must be one of {known}, got {name!r}"
            raise ValueError(msg)
        return self.masks.planes[name]

    def flags(self, name):
        """
        Return what found each pixel of a mask, (ny, nx).

        As in ``masks.diagnostics["flags"]``; `UNKNOWN` where they are missing.
        """
        mask = self.mask(name)
        flags = self.masks.diagnostics.get("flags", {})
        known = flags.get("MEANCRT" if name == EVERY else name)
        if known is None:
            return mask * np.uint8(UNKNOWN)
        return np.where(mask & (known == 0), np.uint8(UNKNOWN), known * mask)

    def noise_of(self, level):
        """Return the noise of an exposure at a level; NaN where it is not known."""
        if self.detector is None:
            return np.full_like(np.asarray(level, dtype=np.float32), np.nan)
        return self.detector.noise_of(level)

    def boundary(self, name):
        """Return the Median-Minimum boundary of a mask, or None."""
        boundaries = self.masks.diagnostics.get("boundaries", {})
        return boundaries.get("MEANCRT" if name == EVERY else name)

    @property
    def exact(self):
        """Whether the boundary is the one computed from the noise."""
        return self.requirements.mm_boundary_fit == "exact"

    def statistic(self, name):
        """
        Return what Median-Minimum compares for a mask.

        Parameters
        ----------
        name : str
            Name of the mask.

        Returns
        -------
        reference, statistic : 2D `~numpy.ndarray`
            The low reference, and what is compared with it.
        """
        if self.exact:
            return self._exact_statistic(name)
        sought = len(self.stack) - 1
        if name == "MEDIANCR":
            sought = min(self.requirements.mm_cr_coincidences, sought)
        reference = low_reference(self.stack, self.bad, sought)
        nogood = self.planes.nogood
        if nogood is not None:
            reference = np.where(nogood, self.planes.minimum, reference)
        if name == "MEANCR":
            return reference, clean_mean(self.observed, self.masks.crmasks)
        name = "MEANCRT" if name == EVERY else name
        return reference, self.observed.images[name][0]

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
        planes = self.planes if stack is self.stack else make_planes(stack, self.bad)
        known = self.boundary("CRMASK1")
        if known is not None:
            equal = not known.statistic[-1].isdigit()
        else:
            equal = np.ptp(self.masks.flux_factor) < 1e-3
        k = self.requirements.mm_cr_coincidences
        return compared_planes(stack, self.bad, planes, k, equal=equal)

    def sigma(self, name):
        """Return the excess over the low reference in sigma of one exposure."""
        reference, statistic = self.statistic(name)
        return (statistic - reference) / self.noise_of(reference)

    def combined(self, method):
        """Return an image combined by one of the methods, without bias."""
        function, names = METHODS[method]
        available = {"CRMASKS": self.masks.crmasks, **self.masks.planes}
        n, *shape = self.stack.shape
        bad = None if self.bad is None else self.bad.reshape(n, -1)
        # The methods see pixels, not rows.
        masks = {
            name: plane.reshape((n, -1) if plane.ndim == 3 else -1)
            for name, plane in available.items()
            if name in names
        }
        stack = Stack(self.stack.reshape(n, -1), bad)
        return function(stack, masks).value.reshape(shape)
