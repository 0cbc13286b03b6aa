# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The detection in exposures that are matched to each other."""

import numpy as np

from ccdcr._statistics import flagged_fractions
from ccdcr.detection.matched.masks import options_of, planes_of, second_opinion
from ccdcr.detection.matched.matched import find_hits
from ccdcr.detection.matched.report import report_of
from ccdcr.detection.noise_warning import likeliest_cause, warn_of_noise
from ccdcr.detection.scaling import scale_factors, scaled_frames
from ccdcr.detection.steps import (
    find_detector,
    find_flux_factors,
    lamedian_of,
    log_counts,
    mask_set,
    timed,
)
from ccdcr.diagnostics import Diagnostics, MatchingDiagnostics
from ccdcr.equivalence import warn_of

__all__ = ["detect_matched"]


def detect_matched(exposures, requirements, lists, progress_bar):
    """Compare exposures that are matched to each other first."""
    timing = {}
    with timed(timing, "flux factors"):
        factors = find_flux_factors(requirements, exposures)
        given = None if requirements.flux_factor is None else factors
        scale = scale_factors(exposures, given)
        frames = scaled_frames(exposures, scale, requirements.ma_satlevel)
    with timed(timing, "matching"):
        hits = find_hits(frames, options_of(requirements))
        report = report_of(hits.matched)
    with timed(timing, "single image"):
        found, everywhere = second_opinion(
            find_detector(requirements), frames, exposures.detector, progress_bar
        )
        log_counts(found, requirements)
    with timed(timing, "masks"):
        masks, flags = planes_of(
            hits, everywhere, frames, lists, requirements.ma_dilation
        )
    bright = flagged_fractions(
        masks, hits.matched.reference, exposures.detector.noise_of
    )
    result = mask_set(
        masks,
        exposures,
        requirements,
        lamedian=lamedian_of(found, exposures, requirements),
        flux_factor=factors,
        equivalence=report,
        bright=bright,
        diagnostics=Diagnostics(
            flags=flags,
            timing=timing,
            matching=MatchingDiagnostics(
                deviations=hits.deviations,
                scale=scale,
                noise=hits.noise,
                gain_ratio=exposures.gain_ratio,
                known=hits.matched.known,
            ),
        ),
    )
    warn_of(report)
    if not report.failures:
        _warn_of_noise(hits.noise, frames.noise)
    return result


def _warn_of_noise(levels, noise):
    gain = 1 / noise.slope.mean()
    readnoise = gain * np.sqrt(noise.floor.mean())
    warn_of_noise(levels, likeliest_cause(levels, gain, readnoise, equivalent=True))
