# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Detection in equivalent exposures, without matching."""

from dataclasses import replace

import numpy as np

from ccdcr.detection.common import (
    Stages,
    assemble,
    drop_flat_features,
    find_flux_factors,
    flag_origins,
    log_counts,
    make_lamedian,
    mask_set,
    residual_mask,
    single_image_detector,
)
from ccdcr.detection.detect_matched import effective_parameters, scaled_frames
from ccdcr.detection.mask_warnings import flagged_fractions
from ccdcr.detection.noise_warnings import warn_of_check, warn_of_noise
from ccdcr.masks.diagnostics import Diagnostics
from ccdcr.matching.noise_check import check_noise
from ccdcr.median_minimum.criteria import make_simulated_criteria, measure_offsets
from ccdcr.median_minimum.exact_criteria import make_exact_criteria
from ccdcr.requirements.requirement_table import STAGES
from ccdcr.single_image.detectors import run_detector
from ccdcr.utils.planes import Observed, clean_mean, make_planes, scaled

__all__ = ["detect_unmatched"]


def detect_unmatched(exposures, requirements, lists, progress_bar):
    """Return the `CRMaskSet` of L.A. Cosmic and the like, Median-Minimum, or both."""
    stages = Stages()
    with stages("flux factors"):
        factors, source = find_flux_factors(requirements, exposures)
    with stages("planes"):
        observed = _observe(exposures, requirements, factors)
        images = observed.images
    detector = single_image_detector(requirements)
    with stages("single image"):
        found = _search(detector, observed, images, requirements, progress_bar)
    with stages("offsets"):
        offsets = _offsets(requirements, observed, images)
    with stages("boundary"):
        criteria, noise_model = {}, None
        if requirements.crmethod in STAGES["mm"]:
            criteria, noise_model = make_criteria(
                observed, requirements, offsets, found
            )
    if noise_model is not None and not exposures.alike:
        _warn_of_noise(noise_model, exposures, factors)
    with stages("masks"):
        hits = _hits(images, found, observed, criteria)
        either = {name: hits[0][name] | hits[1][name] for name in images}
        masks = assemble(either, observed, lists, requirements.dilation)
    with stages("residual"):
        image = _residual_image(observed, masks, requirements)
        # Median-Minimum is more sensitive and costs nothing.
        again = run_detector(None if criteria else detector, image, observed.detector)
        more = _hits(image, again, observed, criteria)
        seeds = more[0]["MEANCR"] | more[1]["MEANCR"]
        masks["MEANCR"] = residual_mask(
            seeds, observed.planes.nogood, lists, requirements.dilation
        )
    single, mm = hits[0] | more[0], hits[1] | more[1]
    return mask_set(
        masks,
        exposures,
        requirements,
        (factors, source),
        lamedian=make_lamedian(found, exposures, requirements),
        boundaries=_exact_boundaries(criteria, requirements),
        bright=_bright(masks, observed),
        diagnostics=Diagnostics(
            flags=flag_origins(masks, single, mm, lists),
            timing=stages.timing,
            offsets=offsets,
            boundaries={name: c.boundary for name, c in criteria.items()},
            diagrams={name: c.diagram for name, c in criteria.items()},
            noise_model=noise_model,
        ),
    )


def _warn_of_noise(report, exposures, factors):
    """Warn if the noise is not that of the noise model."""
    if exposures.variance is not None:
        if report.likeliest is not None:
            warn_of_noise(report.levels, "uncertainty")
        return
    check = check_noise(scaled_frames(exposures, factors))
    warn_of_check(check, report.levels, report.likeliest, exposures)


def make_criteria(observed, requirements, offsets, found):
    """Return the criteria by name of the mask, and a `NoiseReport` or None."""
    if requirements.mm_boundary_fit == "exact":
        return make_exact_criteria(observed, requirements, found)
    return make_simulated_criteria(observed, requirements, offsets, found), None


def _observe(exposures, requirements, factors):
    """Return `Observed` exposures, divided by the flux factors if that is wanted."""
    stack, left = exposures.data, factors
    exposed = factors * exposures.depths
    if requirements.apply_flux_factor_to == "original":
        stack, left = scaled(stack, factors), np.ones(len(exposures))
    planes = make_planes(stack, exposures.bad)
    detector = effective_parameters(exposures, factors)
    return Observed(stack, exposures.bad, planes, left, detector, exposed)


def _search(detector, observed, images, requirements, progress_bar):
    needed = observed.names if requirements.mm_synthetic == "single" else []
    found = run_detector(
        detector,
        images,
        observed.detector,
        keep=("MEDIANCR", *needed),
        progress_bar=progress_bar,
    )
    log_counts(found, requirements)
    return found


def _offsets(requirements, observed, images):
    """Return the offsets of the exposures, given or measured, or None."""
    if requirements.crmethod not in STAGES["mm"]:
        return None
    if requirements.mm_crosscorr_region is None:
        return requirements.mm_xy_offsets
    return measure_offsets(
        [images[name][0] for name in observed.names],
        observed.planes.median,
        observed.detector.compute_noise,
        requirements.mm_crosscorr_region,
    )


def _hits(images, found, observed, criteria):
    """Return the hits of the single-image detector and of Median-Minimum, by name."""
    single, mm = {}, {}
    for name, (image, _) in images.items():
        criterion = criteria.get(name)
        nothing = np.zeros(image.shape, dtype=bool)
        if criterion is None:
            mm[name] = nothing
            threshold, excess = 0, image - observed.planes.minimum
        else:
            mm[name] = criterion(image)
            threshold, excess = criterion.threshold, criterion.excess(image)
        single[name] = drop_flat_features(
            found.masks.get(name, nothing), excess, threshold
        )
    return single, mm


def _residual_image(observed, masks, requirements):
    """Return the mean without masked pixels, where hits may be left, by mask name."""
    levelled = _levelled(observed, requirements)
    image = clean_mean(levelled, [masks[name] for name in observed.names])
    return {"MEANCR": (image, observed.planes.nogood)}


def _levelled(observed, requirements):
    """Return the exposures at the level that the boundary of MEANCR is for."""
    uses_mm = requirements.crmethod in STAGES["mm"]
    if not uses_mm or requirements.mm_boundary_fit != "exact":
        return observed
    stack = scaled(observed.stack, observed.factors)
    if stack is observed.stack:
        return observed
    return replace(observed, stack=stack, planes=make_planes(stack, observed.bad))


def _bright(masks, observed):
    planes = observed.planes
    clean = np.where(masks["MEDIANCR"], planes.minimum, planes.median)
    return flagged_fractions(masks, clean, observed.detector.compute_noise)


def _exact_boundaries(criteria, requirements):
    if requirements.mm_boundary_fit != "exact":
        return None
    return {name: criterion.boundary for name, criterion in criteria.items()}
