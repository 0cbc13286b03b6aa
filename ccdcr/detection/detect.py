# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The detection of cosmic rays in a few exposures, step by step."""

import os
import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from astropy import log
from astropy import units as u

from ccdcr._requirements_table import STAGES
from ccdcr._statistics import flagged_fractions
from ccdcr.detection.detectors import DETECTORS, run_detector
from ccdcr.detection.flux import measure_flux_factors
from ccdcr.detection.masks import (
    assemble,
    check_regions,
    drop_flat_features,
    flag_origins,
    region_mask,
    residual_mask,
    user_lists,
)
from ccdcr.detection.matched.masks import options_of, planes_of, second_opinion
from ccdcr.detection.matched.matched import find_hits
from ccdcr.detection.matched.report import report_of
from ccdcr.detection.median_minimum import make_criteria
from ccdcr.detection.offsets import measure_offsets
from ccdcr.detection.planes import Observed, clean_mean, make_planes, scaled
from ccdcr.detection.plausible import warn_of_implausible
from ccdcr.detection.scaling import scale_factors, scaled_frames
from ccdcr.equivalence import warn_of
from ccdcr.exceptions import UnusedRequirementWarning, warn_user
from ccdcr.exposures import load_exposures
from ccdcr.maskset import CRMaskSet
from ccdcr.requirements import Requirements

__all__ = ["detect_cosmic_rays"]

_MOST_FLUX = 100.0


def detect_cosmic_rays(
    ccd_iter,
    requirements=None,
    *,
    gain=None,
    readnoise=None,
    bias=None,
    progress_bar=None,
    **overrides,
):
    """
    Detect the cosmic rays in a few exposures of the same field.

    Parameters
    ----------
    ccd_iter : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        The exposures or their files, in adu or electron, all of one shape
        (ny, nx). Pixels that are masked (True = bad), not finite or beyond
        1e12 electron take no part and are never flagged. Three or more; two are
        enough with ``crmethod="matched"``.
    requirements : `~ccdcr.Requirements`, mapping, str or `~pathlib.Path`, optional
        The requirements, or the YAML file that holds them.
    gain : float, `~numpy.ndarray`, `~astropy.units.Quantity` or str, optional
        Gain in electron / adu, a map (ny, nx) of it, or the name of a header
        keyword. Must be given for exposures in adu, and not for those in
        electron. Of a map, the mask set records the median. From 1e-6 to 1e6.
    readnoise : float, `~numpy.ndarray`, `~astropy.units.Quantity` or str
        Read noise: a number in electron, one for each exposure, a map (ny, nx), a
        Quantity in electron or adu of these, or the name of a header keyword.
        Detectors that know one number only, and the mask set, take the root mean
        square of the exposures or the median of a map.
    bias : float, `~astropy.units.Quantity` or str, optional
        Bias level that the exposures still contain, in their unit. Default
        is 0.
    progress_bar : callable, optional
        Wraps an iterable of the images that are worked on, such as ``tqdm``.
    **overrides
        Requirements by name; they win over ``requirements``.

    Returns
    -------
    masks : `~ccdcr.CRMaskSet`
        The masks. ``masks.diagnostics`` is a dict of what found each pixel
        (``flags``: 1 dilation, 2 comparison of the exposures, 3 single-image
        detector, 4 both, 5 the user's list), the Median-Minimum ``diagrams``
        and ``boundaries``, all by name of the mask, the ``offsets`` of the
        exposures, and the seconds spent by stage (``timing``). With
        ``crmethod="matched"``, ``masks.equivalence`` says how far the exposures
        are from being equivalent.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not allowed, or if the exposures are not alike.
    ImportError
        If ``crmethod`` needs a package that is not installed.

    Warns
    -----
    UnusedRequirementWarning
        If requirements were set that ``crmethod`` does not use.
    NotEquivalentWarning
        If exposures had to be matched; `~ccdcr.MatchingFailedWarning` if they
        differ by more than that can mend.
    ImplausibleMaskWarning
        If more than 20 % of the pixels are flagged in MEDIANCR or an exposure.
    CoincidenceWarning
        If many more pixels are flagged in MEDIANCR than chance explains.

    Notes
    -----
    Real exposures are never quite equivalent. ``crmethod="matched"`` matches
    them to each other in flux, shift, seeing and background, measures what
    mismatch is left where no cosmic ray can be its cause, and flags what
    deviates by more from the mean of the exposures that are clean. MEDIANCR is
    where that happens in a majority of the exposures, MEANCRT where it does in
    any, MEANCR where it does in all.

    With the other methods, the exposures must be equivalent.
    Two detectors look at the median, at the mean and at each exposure. L.A.
    Cosmic [1]_ sees sharp edges in one image. Median-Minimum [2]_ compares an
    image with the minimum over the exposures: a pixel is hit if it exceeds the
    boundary below which simulated equivalent exposures stay. A pixel that
    either of them finds is masked, in an exposure only if it is also masked in
    the mean. Masks are dilated, and the user's lists win over all.

    References
    ----------
    .. [1] P. G. van Dokkum 2001, PASP 113, 1420, doi:10.1086/323894
    .. [2] N. Cardiel et al. 2025, as implemented in numina;
       https://numina.readthedocs.io

    Examples
    --------
    >>> from ccdcr import detect_cosmic_rays
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures((100, 120), seed=1)
    >>> masks = detect_cosmic_rays(
    ...     sim.exposures, gain="GAIN", readnoise="RDNOISE", la_verbose=False
    ... )
    >>> len(masks), masks.shape
    (3, (100, 120))
    """
    requirements = _find_requirements(requirements, overrides)
    _warn_of_unused(requirements)
    _check_progress_bar(progress_bar)
    matched = requirements.crmethod in STAGES["matched"]
    exposures = load_exposures(
        ccd_iter,
        gain=gain,
        readnoise=readnoise,
        bias=bias,
        minimum=2 if matched else 3,
    )
    _check_counts(requirements, exposures)
    lists = user_lists(requirements, exposures.shape)
    detect = _detect_matched if matched else _detect
    masks = detect(exposures, requirements, lists, progress_bar)
    if masks.equivalence is None or not masks.equivalence.failures:
        warn_of_implausible(masks)
    return masks


def _find_requirements(requirements, overrides):
    if requirements is None:
        requirements = Requirements()
    elif isinstance(requirements, (str, os.PathLike)):
        requirements = Requirements.from_yaml(requirements)
    elif isinstance(requirements, Mapping):
        requirements = Requirements.from_mapping(requirements)
    elif not isinstance(requirements, Requirements):
        msg = (
            "requirements must be a Requirements object, a mapping or a YAML file, "
            f"got {type(requirements).__name__}"
        )
        raise TypeError(msg)
    return requirements.replace(**overrides) if overrides else requirements


def _warn_of_unused(requirements):
    if unused := requirements.without_effect():
        method = f"crmethod={requirements.crmethod!r}"
        if requirements.crmethod in STAGES["mm"]:
            method += f" and mm_boundary_fit={requirements.mm_boundary_fit!r}"
        msg = f"no effect with {method}: {', '.join(unused)}"
        warn_user(msg, UnusedRequirementWarning)


def _check_progress_bar(progress_bar):
    if progress_bar is not None and not callable(progress_bar):
        msg = (
            "progress_bar must be a callable that wraps an iterable, "
            f"got {type(progress_bar).__name__}"
        )
        raise TypeError(msg)


def _check_counts(requirements, exposures):
    """Check what depends on number and shape of the exposures."""
    n = len(exposures)
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
    shape, region = exposures.shape, requirements.mm_crosscorr_region
    check_regions("flux_factor_regions", requirements.flux_factor_regions, shape)
    check_regions("mm_crosscorr_region", region and [region], shape)


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


def _flux_factors(requirements, exposures):
    """Return the flux factors, given or measured, one per exposure."""
    given = requirements.flux_factor
    if given != "auto":
        return np.broadcast_to(1.0 if given is None else given, len(exposures))
    regions = region_mask(requirements, "flux_factor_regions", exposures.shape)
    return measure_flux_factors(
        exposures.data, exposures.bad, exposures.detector.noise_of, regions
    )


def _detect(exposures, requirements, lists, progress_bar):
    """Go through the stages; what comes in has been checked."""
    timing = {}
    with _timed(timing, "flux factors"):
        factors = _flux_factors(requirements, exposures)
    with _timed(timing, "planes"):
        observed = _observe(exposures, requirements, factors)
        images = observed.images
    detector = _find_detector(requirements)
    with _timed(timing, "single image"):
        needed = observed.names if requirements.mm_synthetic == "single" else []
        found = run_detector(
            detector,
            images,
            exposures.detector,
            keep=("MEDIANCR", *needed),
            progress_bar=progress_bar,
        )
        _log_counts(found, requirements)
    with _timed(timing, "offsets"):
        offsets = _offsets(requirements, observed, images)
    with _timed(timing, "boundary"):
        criteria, noise_model = {}, None
        if requirements.crmethod in STAGES["mm"]:
            criteria, noise_model = make_criteria(
                observed, requirements, offsets, found
            )
    with _timed(timing, "masks"):
        single, mm = _hits(images, found, observed, criteria)
        either = {name: single[name] | mm[name] for name in images}
        masks = assemble(either, observed, lists, requirements.dilation)
    with _timed(timing, "residual"):
        levelled = _levelled(observed, requirements)
        image = clean_mean(levelled, [masks[name] for name in observed.names])
        residual = {"MEANCR": (image, observed.planes.nogood)}
        # Median-Minimum is the more sensitive one, and costs nothing.
        again = run_detector(
            None if criteria else detector, residual, exposures.detector
        )
        more = _hits(residual, again, observed, criteria)
        single, mm = single | more[0], mm | more[1]
        seeds = single["MEANCR"] | mm["MEANCR"]
        masks["MEANCR"] = residual_mask(
            seeds, observed.planes.nogood, lists, requirements.dilation
        )
    planes = observed.planes
    clean = np.where(masks["MEDIANCR"], planes.minimum, planes.median)
    result = _mask_set(
        masks,
        exposures,
        requirements,
        lamedian=_lamedian(found, exposures, requirements),
        flux_factor=factors,
        boundaries=_exact_boundaries(criteria, requirements),
        bright=flagged_fractions(masks, clean, exposures.detector.noise_of),
    )
    result.diagnostics.update(
        flags=flag_origins(masks, single, mm, lists),
        timing=timing,
        offsets=offsets,
        boundaries={name: c.boundary for name, c in criteria.items()},
        diagrams={name: c.diagram for name, c in criteria.items()},
        noise_model=noise_model,
    )
    return result


def _detect_matched(exposures, requirements, lists, progress_bar):
    """Compare exposures that are matched to each other first."""
    timing = {}
    with _timed(timing, "flux factors"):
        factors = _flux_factors(requirements, exposures)
        given = None if requirements.flux_factor is None else factors
        scale = scale_factors(exposures, given)
        frames = scaled_frames(exposures, scale, requirements.ma_satlevel)
    with _timed(timing, "matching"):
        hits = find_hits(frames, options_of(requirements))
        report = report_of(hits.matched)
    with _timed(timing, "single image"):
        found, everywhere = second_opinion(
            _find_detector(requirements), frames, exposures.detector, progress_bar
        )
        _log_counts(found, requirements)
    with _timed(timing, "masks"):
        masks, flags = planes_of(
            hits, everywhere, frames, lists, requirements.ma_dilation
        )
    bright = flagged_fractions(
        masks, hits.matched.reference, exposures.detector.noise_of
    )
    result = _mask_set(
        masks,
        exposures,
        requirements,
        lamedian=_lamedian(found, exposures, requirements),
        flux_factor=factors,
        equivalence=report,
        bright=bright,
    )
    result.diagnostics.update(flags=flags, timing=timing, equivalence=report)
    warn_of(report)
    return result


def _levelled(observed, requirements):
    """Return the exposures at the level that the boundary of MEANCR is for."""
    uses_mm = requirements.crmethod in STAGES["mm"]
    if not uses_mm or requirements.mm_boundary_fit != "exact":
        return observed
    stack = scaled(observed.stack, observed.factors)
    if stack is observed.stack:
        return observed
    return replace(observed, stack=stack, planes=make_planes(stack, observed.bad))


@contextmanager
def _timed(timing, stage):
    start = time.perf_counter()
    yield
    timing[stage] = timing.get(stage, 0) + time.perf_counter() - start


def _observe(exposures, requirements, factors):
    """Divide by the flux factors if that is wanted, and make the planes."""
    stack, left = exposures.data, factors
    if requirements.apply_flux_factor_to == "original":
        stack, left = scaled(stack, factors), np.ones(len(exposures))
    planes = make_planes(stack, exposures.bad)
    return Observed(stack, exposures.bad, planes, left, exposures.detector, factors)


def _find_detector(requirements):
    name = requirements.crmethod.removeprefix("mm_").removeprefix("matched_")
    if name in {"mmcosmic", "matched"}:
        return None
    return DETECTORS[name].from_requirements(requirements)


def _log_counts(found, requirements):
    log_ = log.info if requirements.la_verbose else log.debug
    for name, mask in found.masks.items():
        log_(f"{name}: {np.count_nonzero(mask)} pixels by the single-image detector")


def _offsets(requirements, observed, images):
    """Return the offsets of the exposures, given or measured, or None."""
    if requirements.crmethod not in STAGES["mm"]:
        return None
    if requirements.mm_crosscorr_region is None:
        return requirements.mm_xy_offsets
    return measure_offsets(
        [images[name][0] for name in observed.names],
        observed.planes.median,
        observed.detector.noise_of,
        requirements.mm_crosscorr_region,
    )


def _hits(images, found, observed, criteria):
    """Return what each of the two detectors says of some images, by name."""
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


def _mask_set(masks, exposures, requirements, **parts):
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
        meta={f"FILE{i}": n for i, n in enumerate(exposures.names, start=1) if n},
        **parts,
    )


def _exact_boundaries(criteria, requirements):
    if requirements.mm_boundary_fit != "exact":
        return None
    return {name: criterion.boundary for name, criterion in criteria.items()}


def _lamedian(found, exposures, requirements):
    """Return the clean median in the unit that was asked for."""
    cleaned = found.cleaned.get("MEDIANCR")
    if cleaned is None:
        return None
    if exposures.gain_ratio is not None and not requirements.la_gain_apply:
        cleaned = cleaned / exposures.gain_ratio
    if not requirements.la_gain_apply:
        return u.Quantity(cleaned, exposures.unit)
    return u.Quantity(cleaned * np.float32(exposures.detector.gain), u.electron)
