# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the families of detections have in common."""

import time
from contextlib import contextmanager

import numpy as np
from astropy import log
from astropy import units as u

from ccdcr._files import card_text
from ccdcr.detection.detectors import DETECTORS
from ccdcr.detection.flux import measure_flux_factors
from ccdcr.detection.masks import region_mask
from ccdcr.maskset import CRMaskSet

__all__ = [
    "find_detector",
    "find_flux_factors",
    "lamedian_of",
    "log_counts",
    "mask_set",
    "timed",
]


@contextmanager
def timed(timing, stage):
    """Note the seconds that a stage takes."""
    start = time.perf_counter()
    yield
    timing[stage] = timing.get(stage, 0) + time.perf_counter() - start


def find_flux_factors(requirements, exposures):
    """Return the flux factors, given or measured, one per exposure."""
    given = requirements.flux_factor
    if given != "auto":
        return np.broadcast_to(1.0 if given is None else given, len(exposures))
    regions = region_mask(requirements, "flux_factor_regions", exposures.shape)
    return measure_flux_factors(
        exposures.data, exposures.bad, exposures.detector.noise_of, regions
    )


def find_detector(requirements):
    """Return the single-image detector of the method, or None."""
    name = requirements.crmethod.removeprefix("mm_").removeprefix("matched_")
    if name in {"mmcosmic", "matched"}:
        return None
    return DETECTORS[name].from_requirements(requirements)


def log_counts(found, requirements):
    """Say how many pixels the single-image detector found."""
    log_ = log.info if requirements.la_verbose else log.debug
    for name, mask in found.masks.items():
        log_(f"{name}: {np.count_nonzero(mask)} pixels by the single-image detector")


def mask_set(masks, exposures, requirements, **parts):
    """Return the mask set of a detection."""
    names = [f"CRMASK{i}" for i in range(1, len(exposures) + 1)]
    return CRMaskSet(
        masks["MEDIANCR"],
        masks["MEANCRT"],
        np.stack([masks[name] for name in names]),
        meancr=masks["MEANCR"],
        local_median_pixels=requirements.pixels_to_be_replaced_by_local_median,
        requirements=requirements,
        gain=exposures.detector.gain,
        readnoise=exposures.detector.readnoise,
        bias=exposures.detector.bias,
        meta={
            f"FILE{i}": card_text(n)
            for i, n in enumerate(exposures.names, start=1)
            if n
        },
        **parts,
    )


def lamedian_of(found, exposures, requirements):
    """Return the clean median in the unit that was asked for."""
    cleaned = found.cleaned.get("MEDIANCR")
    if cleaned is None:
        return None
    if exposures.gain_ratio is not None and not requirements.la_gain_apply:
        cleaned = cleaned / exposures.gain_ratio
    if not requirements.la_gain_apply:
        return u.Quantity(cleaned, exposures.unit)
    return u.Quantity(cleaned * np.float32(exposures.detector.gain), u.electron)
