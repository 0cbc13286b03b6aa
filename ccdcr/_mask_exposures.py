# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The exposures of a mask set, as its detection compared them."""

from dataclasses import dataclass

import numpy as np
from astropy import units as u

from ccdcr._requirements_table import STAGES
from ccdcr.exposures import load_ccds
from ccdcr.requirements import Requirements

__all__ = ["MaskExposures", "load_mask_exposures"]


@dataclass(frozen=True, eq=False)
class MaskExposures:
    """
    Exposures that fit a mask set.

    ``ccds`` are as they came. ``stack`` is (n, ny, nx) float32 without ``bias``,
    ``bad`` of the same shape (True = ignored) or None. ``factors`` are the flux
    factors that the stack still contains.
    """

    ccds: list
    stack: np.ndarray
    bad: np.ndarray | None
    bias: float
    factors: np.ndarray


def load_mask_exposures(ccds, masks):
    """Return the `MaskExposures` of CCDData or files and a `~ccdcr.CRMaskSet`."""
    ccds, _ = load_ccds(ccds, name="ccds")
    if len(ccds) != len(masks) or ccds[0].shape != masks.shape:
        msg = (
            f"ccds must be {len(masks)} exposures of shape {masks.shape}, as the "
            f"masks, got {len(ccds)} of shape {ccds[0].shape}"
        )
        raise ValueError(msg)
    in_electrons = ccds[0].unit == u.electron and masks.gain is not None
    bias = (masks.bias or 0.0) * (masks.gain if in_electrons else 1.0)
    stack, bad = _stack(ccds, bias)
    factors = masks.flux_factor
    if _was_divided(masks) and not np.all(factors == 1):
        stack /= np.float32(factors)[:, np.newaxis, np.newaxis]
        factors = np.ones(len(ccds))
    return MaskExposures(ccds, stack, bad, bias, factors)


def _stack(ccds, bias):
    """Return CCDData without bias as float32 (n, ny, nx), and bad pixels or None."""
    stack = np.empty((len(ccds), *ccds[0].shape), dtype=np.float32)
    bad = np.empty(stack.shape, dtype=bool)
    for i, ccd in enumerate(ccds):
        with np.errstate(over="ignore"):  # beyond float32 is not finite either
            np.subtract(ccd.data, bias, out=stack[i], casting="unsafe")
        np.logical_not(np.isfinite(stack[i]), out=bad[i])
        if ccd.mask is not None:
            bad[i] |= np.asarray(ccd.mask, dtype=bool)
    return stack, bad if bad.any() else None


def _was_divided(masks):
    """Return whether the detection divided the exposures by their flux factors."""
    requirements = masks.requirements or Requirements()
    unmatched = requirements.crmethod in STAGES["unmatched"]
    return unmatched and requirements.apply_flux_factor_to == "original"
