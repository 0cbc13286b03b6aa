# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Detection in exposures after local matching."""

from dataclasses import replace
from functools import partial

import numpy as np
from scipy import ndimage

from ccdcr.detection.common import (
    Stages,
    assemble,
    find_flux_factors,
    flag_origins,
    log_counts,
    make_lamedian,
    mask_set,
    residual_mask,
    single_image_detector,
    stack_crmasks,
)
from ccdcr.detection.mask_warnings import (
    flagged_fractions,
    warn_of_mismatch,
    warn_of_size,
)
from ccdcr.detection.noise_warnings import warn_of_matched
from ccdcr.detection.saturation import frame_level, warn_of_saturation
from ccdcr.exposures.align_exposures import find_places
from ccdcr.exposures.registration import measure_registration
from ccdcr.masks.diagnostics import (
    LOW,
    POINT_LIKE,
    USER,
    Diagnostics,
    MatchingDiagnostics,
)
from ccdcr.masks.expected_table import make_expected_table
from ccdcr.matching.equivalence import (
    NOT_REGISTERED,
    describe_motions,
    make_report,
)
from ccdcr.matching.expected_values import find_expected
from ccdcr.matching.flag_pixels import Limits, first_masks
from ccdcr.matching.frames import Frames, Noise, find_profile, find_structure
from ccdcr.matching.match import Options, find_hits, match_masked
from ccdcr.matching.sky_levels import measure_sky_levels, with_level_skies
from ccdcr.matching.transients import find_point_like
from ccdcr.matching.unmended import excess_on_structure, find_reasons
from ccdcr.single_image.detectors import run_detector
from ccdcr.utils import stacks as kernels
from ccdcr.utils.neighbours import groups_with_seed, label_groups
from ccdcr.utils.planes import Observed, Planes, fill_from_nearest
from ccdcr.utils.scratch import in_turn, release

__all__ = [
    "detect_matched",
    "effective_parameters",
    "expected_in_unit",
    "make_frames",
    "make_masks",
    "make_options",
    "report_equivalence",
    "scaled_frames",
    "second_opinion",
]

_SMOOTH, _LEAST_LEFT = 9, 0.01  # pixels; of the variance
_FAINTER = 3  # times
_SMALL_SHIFT = 1.5  # pixels: terms of tiles tell larger ones wrongly


def scaled_frames(exposures, factors, satlevel=None, *, in_place=False):
    """Return the `Frames` of exposures divided by factors (n,)."""
    ccd = exposures.detector
    return make_frames(
        exposures.data,
        ccd,
        factors,
        bad=exposures.bad,
        level=frame_level(satlevel, exposures.unit, ccd, factors),
        variance=exposures.variance,
        is_measured=exposures.measured,
        in_place=in_place,
    )


def make_frames(
    data,
    detector,
    factors,
    *,
    bad=None,
    level=np.inf,
    variance=None,
    is_measured=False,
    in_place=False,
):
    """
    Return the `Frames` of (n, ny, nx) without bias, divided by factors (n,).

    ``level`` is the saturation level as `frame_level` gives it.
    """
    data = _divided(data, factors, in_place=in_place)
    depths = factors * detector.depths(len(data))
    readnoise = detector.every_readnoise
    noise = Noise.from_detector(len(data), detector.gain, readnoise, depths)
    if variance is not None:
        own = _divided(
            variance, np.square(factors, dtype=np.float32), in_place=in_place
        )
        noise = Noise.from_variances(own, None if is_measured else noise)
    options = {"ratio": detector.gain_ratio, "in_place": in_place}
    frames = Frames.from_arrays(data, noise, bad, level, **options)
    return frames if variance is None else frames.measured(None)[0]


def _divided(stack, factors, *, in_place):
    """Return a stack (n, ny, nx) divided by factors (n,)."""
    if np.all(factors == 1):
        return stack
    result = stack if in_place else np.empty_like(stack)
    planes = zip(result, stack, np.float32(factors), strict=True)
    for target, plane, factor in in_turn(planes):
        np.divide(plane, factor, out=target)
    return result


def effective_parameters(exposures, factors):
    """
    Return `CCDParameters` whose read noise is a map that explains the uncertainties.

    It holds what the photons of the signal, with the gain, do not explain, such as the
    noise of a sky that was subtracted. They are those of the detector without
    uncertainties.
    """
    ccd = exposures.detector
    if exposures.variance is None:
        return ccd.common()
    frames = scaled_frames(exposures, factors)
    masks = first_masks(frames, Limits())
    frames, _ = frames.measured(masks)
    unused = masks if frames.unused is None else masks | frames.unused
    level = np.nan_to_num(kernels.mean(frames.data, unused))
    variance = ccd.gain**2 * frames.noise.floor.mean(axis=0)
    left = variance - ccd.gain * np.maximum(level, 0)
    for size in ((1, _SMOOTH), (_SMOOTH, 1)):
        left = ndimage.median_filter(left, size)
    readnoise = np.sqrt(np.maximum(left, _LEAST_LEFT * variance)).astype(np.float32)
    typical = float(np.median(readnoise))
    return replace(ccd, readnoise=typical, readnoises=None, readnoise_map=readnoise)


# Cores of lines and stars look like hits, but stand out less.
_CLEAR, _SIGMAS = np.float32(2.0), np.float32(5.0)
_EDGE = 0.25  # of the peak
_LIMITS = ("high", "low", "leak", "tail")


def make_options(requirements):
    """Return the `Options` of the requirements that begin with ``ma_``."""
    return Options(
        passes=requirements.ma_passes,
        tile=requirements.ma_tile,
        strips=requirements.ma_strips,
        limits=Limits(
            **{name: getattr(requirements, f"ma_{name}") for name in _LIMITS}
        ),
    )


def second_opinion(detector, frames, parameters):
    """
    Return the `SingleImage` results, and the pixels (ny, nx) hit in every exposure.

    Comparing exposures cannot find the latter: they are groups found in the median and
    in the lowest exposure that stand out clearly and are sharp.
    """
    nothing = np.zeros(frames.shape, dtype=bool)
    if detector is None:
        return run_detector(None, {}, parameters), nothing
    unused = frames.unused
    nowhere = None if unused is None else unused.all(axis=0)
    images = {
        "MEDIANCR": kernels.median(frames.data, unused),
        "LOWEST": kernels.lowest(frames.data, unused)[0],
    }
    if nowhere is not None and nowhere.any():
        images = {k: fill_from_nearest(v, nowhere) for k, v in images.items()}
    found = run_detector(
        detector,
        {name: (image, nowhere) for name, image in images.items()},
        parameters,
        keep=images,
    )
    both = found.masks["MEDIANCR"] & found.masks["LOWEST"]
    if not both.any():
        return found, both
    clear = _stands_out(images["LOWEST"], found.cleaned["LOWEST"], frames.noise)
    both = groups_with_seed(both, clear)
    return found, _sharp(both, images["LOWEST"])


def _stands_out(image, cleaned, noise):
    """Return where an image exceeds its cleaned version by more than structure."""
    structure = find_structure(cleaned, noise)
    limit = _CLEAR * np.maximum(structure.height, structure.contrast)
    limit += _SIGMAS * np.sqrt(noise.mean_variance(cleaned))
    return image - cleaned > limit


def _sharp(mask, image):
    """Return the 8-connected groups (ny, nx) with edges sharper than lines or stars."""
    labels, number = label_groups(mask)
    profile = find_profile(image)
    around = ndimage.maximum_filter(labels, 3) * ~mask
    index = np.arange(1, number + 1)
    edge = ndimage.maximum(profile, around, index)
    sharp = edge < _EDGE * ndimage.maximum(profile, labels, index)
    return np.concatenate([[False], sharp])[labels]


def make_masks(hits, everywhere, frames, lists, dilation):
    """Return masks (ny, nx) by name, and a function that returns their origins."""
    observed = _observed(frames, lists)
    compared = {"MEDIANCR": hits.coincident, "MEANCRT": hits.masks.any(axis=0)}
    compared |= dict(zip(observed.names, hits.masks, strict=True))
    found = compared
    if everywhere.any():
        found = {name: mask | everywhere for name, mask in compared.items()}
    masks = assemble(found, observed, lists, dilation)
    union = masks["MEDIANCR"].copy()
    left = observed.planes.nogood
    left = np.ones(union.shape, dtype=bool) if left is None else ~left
    for i, name in enumerate(observed.names):
        union |= masks[name]
        left &= masks[name] if frames.unused is None else masks[name] | frames.unused[i]
    masks["MEANCRT"] = union
    masks["MEANCR"] = residual_mask(left, observed.planes.nogood, lists, 0)
    low = _low(frames.low, observed.names, lists)
    for name, plane in low.items():
        masks[name] = masks[name] | plane
    compared["MEANCR"] = left & compared["MEANCRT"]
    bits = {name: np.packbits(mask, axis=1) for name, mask in compared.items()}
    return masks, partial(_find_flags, masks, bits, everywhere, lists, low)


def _find_flags(masks, bits, everywhere, lists, low):
    """Return the origins (ny, nx) of masked pixels, by name, from packed masks."""
    single, width = dict.fromkeys(masks, everywhere), everywhere.shape[1]
    compared = {
        name: np.unpackbits(rows, axis=1, count=width).view(bool)
        for name, rows in bits.items()
    }
    return flag_origins(masks, single, compared, lists, low)


def _low(low, names, lists):
    """Return the masks of low values by name, without pixels of the user's lists."""
    if low is None:
        return {}
    for mask in (lists.never, lists.replaced):
        if mask is not None:
            low = low & ~mask
    return {"MEANCRT": low.any(axis=0), **dict(zip(names, low, strict=True))}


def _observed(frames, lists):
    """Return the `Observed` that `assemble` needs."""
    index = None
    if lists.always is not None:
        index = kernels.lowest(frames.data, frames.unused)[1]
    nogood = None if frames.bad is None else frames.bad.all(axis=0)
    planes = Planes(None, index, None, None, nogood)
    return Observed(frames.data, frames.bad, planes, np.ones(len(frames)), None)


def detect_matched(exposures, requirements, lists, progress_bar):
    """Return the mask set of exposures compared after matching."""
    stages = Stages(_name_stages(requirements), progress_bar)
    with stages("registration"):
        registration = measure_registration(exposures.data, exposures.bad)
    factors, sky, frames, parameters = _prepare(exposures, requirements, stages)
    with stages("matching"):
        options = make_options(requirements)
        hits = find_hits(frames, options, stages.advance)
        noise = hits.matched.frames.noise
        frames = replace(frames.without(hits.matched.frames.low), noise=noise)
    with stages("point sources"):
        point_like = find_point_like(frames, hits.matched, hits.masks)
    with stages("equivalence"):
        report = report_equivalence(
            frames,
            hits.matched,
            hits.masks,
            sky,
            registration,
            point_like=point_like,
            places=find_places(exposures.headers),
        )
        excess = _excess(hits, point_like)
        if report.failures:  # sources that have moved are not new ones
            point_like = None
        if point_like is not None:
            np.logical_or(hits.masks, point_like, out=hits.masks)
            point_like = list(map(np.flatnonzero, point_like))
    with stages("single image"):
        found, everywhere = second_opinion(
            single_image_detector(requirements), frames, parameters
        )
        log_counts(found, requirements)
    with stages("masks"):
        masks, find_flags = make_masks(
            hits, everywhere, frames, lists, requirements.ma_dilation
        )
        hits = replace(hits, masks=None, coincident=None)
    with stages("expected values"):
        crmasks = stack_crmasks(masks, len(frames))
        matched, hits = hits.matched, replace(hits, matched=None)
        # Kernels were told by cores of stars with hits that were not known yet.
        if any((known := matched.known).differ):
            current, matched = matched.frames, None  # the fit needs the room
            matched = match_masked(frames, crmasks, options, current)
        else:
            matched.limited.free(matched.frames.data)
        expected = find_expected(frames, matched, crmasks)
        expected = expected_in_unit(expected, exposures, factors[0])
    bright = flagged_fractions(
        masks, matched.reference, exposures.detector.compute_noise
    )
    matching = MatchingDiagnostics(
        deviations=hits.deviations,
        scale=factors[0],
        sky=sky,
        noise=hits.noise,
        gain_ratio=exposures.gain_ratio,
        known=known,
    )
    hits = matched = current = None  # the mask set needs the room
    flags = find_flags()
    _mark_point_like(flags, point_like)
    find_flags = None
    release(trim=True)
    result = mask_set(
        masks,
        exposures,
        requirements,
        factors,
        crmasks=crmasks,
        expected=expected,
        low_values=_list_pixels(flags, len(frames), LOW),
        point_sources=_list_pixels(flags, len(frames), POINT_LIKE),
        lamedian=make_lamedian(found, exposures, requirements),
        equivalence=report,
        bright=bright,
        diagnostics=Diagnostics(flags=flags, timing=stages.timing, matching=matching),
    )
    stages.advance()  # the last one is done
    warn_of_size(frames.shape)
    if not exposures.alike:  # else all that is odd may come of it
        warn_of_mismatch(report, *excess, uncertain=exposures.variance is not None)
        warn_of_saturation(frames, exposures, factors[0])
        warn_of_matched(matching.noise, frames, exposures, report.failures)
    return result


def _name_stages(requirements):
    """Return the names of the stages, as they are timed, for the progress."""
    passes = [f"matching, pass {k + 1}" for k in range(requirements.ma_passes)]
    return [
        *("registration", "flux factors", "skies"),
        *passes,
        *("decision", "point sources", "equivalence", "single image"),
        *("masks", "expected values"),
    ]


def _prepare(exposures, requirements, stages):
    """Return factors with source, skies, frames, parameters; the exposures change."""
    with stages("flux factors"):
        factors = find_flux_factors(requirements, exposures)
        parameters = exposures.detector
        if requirements.crmethod != "matched":
            parameters = effective_parameters(exposures, factors[0])
        level = requirements.ma_satlevel
        frames = scaled_frames(exposures, factors[0], level, in_place=True)
    with stages("skies"):
        sky = measure_sky_levels(frames)
        frames = with_level_skies(frames, sky)
    return factors, sky, frames, parameters


def report_equivalence(frames, matched, masks, sky, registration, **known):
    """Return the `Equivalence`, with reasons why matching is not enough."""
    report = make_report(matched, sky)
    release()
    places = known.get("places")
    if not registration.is_fine(places):
        text = f"{NOT_REGISTERED}: {registration}{_of_parts(registration, report)}"
        return report.with_reasons([text])
    frames = frames.without(None)
    reasons = find_reasons(frames, matched, masks, places, known.get("point_like"))
    return report.with_reasons(reasons)


def _excess(hits, point_like):
    """Return the excess on structure (n,) in sigmas, of all and of faint groups."""
    flagged, structure = map(np.flatnonzero, hits.masks), hits.matched.fits.fitted
    both = list(flagged), hits.faint
    if point_like is not None:
        both = [
            [k[~plane.ravel()[k]] for k, plane in zip(places, point_like, strict=True)]
            for places in both
        ]
    # On structure, where the noise is larger, more of the hits are faint.
    pairs = zip(both, (1, _FAINTER), strict=True)
    return [excess_on_structure(places, structure, times) for places, times in pairs]


def _of_parts(registration, report):
    """Return what helps if features move apart, '' where terms do not tell it."""
    small = np.abs(registration.shifts).max() < _SMALL_SHIFT
    motions = describe_motions(report) if small else ""
    if not motions:
        return ""
    return (
        f". No alignment helps if features move by different amounts ({motions}), as a "
        "trace does whose sky lines stay: leave out exposures in which it moves, or "
        "use crmethod='lacosmic', which does not compare exposures"
    )


def expected_in_unit(expected, exposures, scale):
    """Return the table of `Expected` values in the unit of the exposures, with bias."""
    exposure, y, x = expected.places
    factor = scale[exposure]
    if exposures.gain_ratio is not None:
        ratio = exposures.gain_ratio
        factor = factor / (ratio[exposure, y, x] if ratio.ndim == 3 else ratio[y, x])
    values = expected.values * factor + exposures.detector.bias
    sigmas = expected.sigmas * factor
    return make_expected_table(expected.places, values, sigmas, exposures.unit)


def _mark_point_like(flags, found):
    """Mark flat places of each exposure, or None, in the origins by name, in place."""
    for i, places in enumerate(found or (), start=1):
        for plane in (flags[f"CRMASK{i}"].ravel(), flags["MEANCRT"].ravel()):
            known = ~np.isin(plane[places], [0, LOW, USER])
            plane[places[known]] = POINT_LIKE


def _list_pixels(flags, n, origin):
    """Return pixels of an origin as rows of exposure, x and y, all from 1."""
    rows = []
    for i in range(1, n + 1):
        y, x = np.nonzero(flags[f"CRMASK{i}"] == origin)
        rows.append(np.column_stack([np.full(len(y), i), x + 1, y + 1]))
    return np.concatenate(rows)
