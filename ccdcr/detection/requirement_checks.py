# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Checks of requirements against number and shape of the exposures."""

import numpy as np

from ccdcr._requirements_table import STAGES
from ccdcr.detection.masks import check_regions, user_lists

__all__ = ["check_requirements", "least_exposures"]

_MOST_FLUX = 100.0


def least_exposures(requirements):
    """Return how many exposures the method needs."""
    return 2 if requirements.crmethod in STAGES["matched"] else 3


def check_requirements(requirements, n, shape):
    """Check requirements against n exposures (ny, nx); return the user's lists."""
    for name in ("flux_factor", "mm_xy_offsets"):
        value = getattr(requirements, name)
        if isinstance(value, tuple) and len(value) != n:
            msg = f"{name} must hold {n} entries, one per exposure, got {len(value)}"
            raise ValueError(msg)
    _check_flux_factor(requirements.flux_factor)
    uses_mm = requirements.crmethod in STAGES["mm"]
    if uses_mm and requirements.mm_cr_coincidences >= n:
        msg = (
            f"mm_cr_coincidences must be less than the {n} exposures, "
            f"got {requirements.mm_cr_coincidences}"
        )
        raise ValueError(msg)
    region = requirements.mm_crosscorr_region
    check_regions("flux_factor_regions", requirements.flux_factor_regions, shape)
    check_regions("mm_crosscorr_region", region and [region], shape)
    return user_lists(requirements, shape)


def _check_flux_factor(value):
    if value in {None, "auto"}:
        return
    low, high = np.min(value), np.max(value)
    if low < 1 / _MOST_FLUX or high > _MOST_FLUX or high > _MOST_FLUX * low:
        limits = f"{1 / _MOST_FLUX:g} to {_MOST_FLUX:g}"
        msg = (
            f"flux_factor must be from {limits}, and the largest up to "
            f"{_MOST_FLUX:g} times the smallest, got {value}"
        )
        raise ValueError(msg)
