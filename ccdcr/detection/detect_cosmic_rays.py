# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Detection of cosmic rays, and the check of equivalence."""

import inspect
import os
from collections.abc import Mapping
from functools import partial

from ccdcr.detection.common import (
    begin_limited,
    check_requirements,
    find_flux_factors,
    least_exposures,
)
from ccdcr.detection.detect_matched import (
    detect_matched,
    expected_in_unit,
    make_options,
    report_equivalence,
    scaled_frames,
)
from ccdcr.detection.detect_unmatched import detect_unmatched
from ccdcr.detection.mask_warnings import (
    warn_of_dead,
    warn_of_implausible,
    warn_of_mismatch,
    warn_of_registration,
)
from ccdcr.detection.noise_warnings import warn_of_check
from ccdcr.exceptions import UnusedRequirementWarning, warn_user
from ccdcr.exposures.align_exposures import find_places
from ccdcr.exposures.ccd_parameters import bias_in_unit, bias_unit
from ccdcr.exposures.ccd_values import is_electrons
from ccdcr.exposures.load_exposures import load_exposures, scale_factors
from ccdcr.exposures.open_exposures import list_exposures, open_exposures
from ccdcr.exposures.registration import measure_registration
from ccdcr.masks.expected_table import expected_table
from ccdcr.masks.mask_flags import only_hits
from ccdcr.masks.mask_order import check_exposures
from ccdcr.masks.mask_rows import check_not_swapped, read_masks
from ccdcr.matching.expected_values import find_expected
from ccdcr.matching.match import Options, match_exposures, match_masked
from ccdcr.matching.noise_check import check_noise
from ccdcr.matching.sky_levels import measure_sky_levels, with_level_skies
from ccdcr.requirements.requirement_table import STAGES
from ccdcr.requirements.requirements import Requirements, refuse_unknown
from ccdcr.utils.scratch import scratch_space

__all__ = ["add_expected", "check_equivalence", "detect_cosmic_rays"]


def detect_cosmic_rays(
    ccds,
    requirements=None,
    *,
    gain=None,
    readnoise=None,
    bias=None,
    noise="auto",
    extension=None,
    unit=None,
    ignore_flags=None,
    flag_name_map=None,
    mem_limit=None,
    progress_bar=None,
    **overrides,
):
    """
    Detect the cosmic rays in a few exposures of the same field.

    Parameters
    ----------
    ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        Three or more exposures or their files, or two with ``crmethod="matched"``. All
        have one shape (ny, nx) and are in adu, electron, count, DN or photon, or one of
        these per second (the headers must then have EXPTIME). Pixels that are masked
        (True = bad), not finite or beyond 1e12 electron are ignored and never flagged,
        as are columns and rows of one value in all exposures (padding).
    requirements : `~ccdcr.Requirements`, mapping, str or `~pathlib.Path`, optional
        The requirements, or a YAML file that contains them.
    gain : float, `~numpy.ndarray`, `~astropy.units.Quantity`, str or mapping, optional
        Gain in electron / adu: a number, one for each exposure, a map (ny, nx), a
        Quantity of these, the name of a header keyword (such as ``"ESO DET OUT1
        CONAD"``), or numbers or keywords by amplifier, such as ``{"[1:1024, :]": 3.1,
        "[1025:2048, :]": 3.3}`` (see `~ccdcr.ccd_map`). Required for exposures in adu,
        count or DN, and not accepted for those in electron or photon. From 1e-6 to 1e6.
        Flux factors bring exposures of different gain to one level. Maps and sections
        of aligned exposures are those of the exposures before the alignment.
    readnoise : float, `~numpy.ndarray`, `~astropy.units.Quantity`, str or mapping
        Read noise in electron, likewise. A Quantity may also be in adu. PyCosmic uses a
        single number: the root mean square over the exposures or the median of the map.
    bias : float, `~astropy.units.Quantity` or str, optional
        Bias level of the exposures, in their unit, if it was not subtracted. Default is
        0.
    noise : {'auto', 'uncertainty', 'detector'}, optional
        Source of the noise: the uncertainties of the exposures (of any class), or gain
        and read noise. ``'auto'``, the default, uses the former if each exposure has
        one. Only the methods with Median-Minimum then need gain and read noise. Pixels
        whose uncertainty means that nothing is known (a standard deviation or variance
        of 0, infinity or NaN, or an inverse variance of 0) are ignored. NaN of a
        negative value is that of the other exposures.
    extension : int, str or tuple, optional
        Number or name of the image extension in files. Default is the primary image, or
        the only image that is not named like a mask or an uncertainty.
    unit : str or `~astropy.units.Unit`, optional
        Unit of the files. Default is BUNIT, or adu without it, with a
        `~ccdcr.MissingUnitWarning`.
    ignore_flags : int, str, list of int or None, optional
        Flags of the exposures (``ccd.flags``, or the extension FLAGS or DQ of files)
        that do not mean bad, as for
        `astropy.nddata.bitmask.bitfield_to_boolean_mask`: pixels with any other flag
        are masked. ``"~4,8"`` ignores all but 4 and 8, ``0`` none. Default is None:
        flags mask nothing.
    flag_name_map : str or `~astropy.nddata.bitmask.BitFlagNameMap`, optional
        Names of flags that ``ignore_flags`` may hold: those of ``'hst'`` (ACS),
        ``'jwst'``, ``'gemini'``, ``'pypeit'`` or ``'ccdcr'``, or others.
    mem_limit : float, str or `~astropy.units.Quantity`, optional
        Memory limit in bytes, or such as ``"1 GB"``, as for `~ccdcr.combine`: in
        addition to the interpreter with its packages, to arrays of the caller and to
        the masks. Files are read in bands, and what does not fit is kept in temporary
        files; the result does not depend on the limit. Only ``crmethod="matched"``
        works in bands, from about 11 bytes per pixel of one exposure, and 5 MB for each
        exposure, on. Default is no limit.
    progress_bar : callable, optional
        Function that wraps an iterable, such as ``tqdm`` or
        `~astropy.utils.console.ProgressBar`: the names of the stages, or of the images
        that L.A. Cosmic cleans.
    **overrides
        Requirements by name; they override ``requirements``.

    Returns
    -------
    masks : `~ccdcr.CRMaskSet`
        The masks. ``masks.diagnostics`` (`~ccdcr.masks.diagnostics.Diagnostics`)
        contains the detector of each pixel (``flags``: 1 dilation, 2 comparison of the
        exposures, 3 single-image detector, 4 both, 5 the user's list, 6 low value), the
        Median-Minimum ``diagrams`` and ``boundaries``, by name of the mask, the
        ``offsets`` of the exposures, and the seconds spent by stage (``timing``). With
        ``crmethod="matched"``, ``masks.equivalence`` reports how much the exposures
        differ.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not allowed, if the exposures differ in shape or unit, or if
        ``mem_limit`` is too small for them.
    ImportError
        If ``crmethod`` needs a package that is not installed.

    Warns
    -----
    UnusedRequirementWarning
        If requirements are set that have no effect with ``crmethod``.
    NotEquivalentWarning
        If exposures still differ after matching. A `~ccdcr.MatchingFailedWarning` is
        given, with any ``crmethod``, if they are offset by more than half a pixel from
        their mean position, if they differ by more than matching can correct, if the
        target is displaced in an exposure (a nod or a drift of the field), or if
        flagged patches are too large for cosmic rays.
    NoiseModelWarning
        If the noise differs by more than 20 % from that of gain and read noise, or of
        the uncertainties, or if two exposures are identical.
    NoUncertaintyWarning
        If only some of the exposures have an uncertainty, so that it is not used.
    ImplausibleMaskWarning
        If more than 20 % of the pixels are flagged in MEDIANCR or an exposure, or if
        all pixels of an exposure are masked.
    CoincidenceWarning
        If more pixels are flagged in MEDIANCR than chance explains.

    Notes
    -----
    Real exposures are never quite equivalent. ``crmethod="matched"`` matches them to
    each other in flux, shift, seeing and background, measures the remaining mismatch
    where cosmic rays cannot be its cause, and flags values that exceed the mean of the
    clean exposures by more than noise and mismatch. MEDIANCR marks pixels flagged in
    half of the exposures or more, MEANCRT pixels flagged in any, MEANCR pixels flagged
    in all.

    The other methods require equivalent exposures. Two detectors search the median, the
    mean and each exposure. L.A. Cosmic [1]_ finds sharp edges in one image.
    Median-Minimum [2]_ compares an image with the minimum over the exposures and flags
    pixels that exceed the boundary of the noise. A pixel that either detector finds is
    masked, in an exposure only if it is also masked in the mean. Masks are dilated, and
    the user's lists override all detections.

    References
    ----------
    .. [1] van Dokkum, P. G. 2001, PASP 113, 1420, doi:10.1086/323894
    .. [2] Cardiel, N. et al. 2025, as implemented in numina;
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
    refuse_unknown(overrides, inspect.signature(detect_cosmic_rays).parameters)
    requirements = _find_requirements(requirements, overrides)
    _warn_of_unused(requirements)
    _check_progress_bar(progress_bar)
    with scratch_space(mem_limit) as space:
        begin = space and partial(begin_limited, space, requirements.crmethod)
        return _detect(
            ccds,
            requirements,
            progress_bar,
            begin=begin,
            gain=gain,
            readnoise=readnoise,
            bias=bias,
            extension=extension,
            unit=unit,
            noise=noise,
            ignore_flags=ignore_flags,
            flag_name_map=flag_name_map,
        )


def _detect(ccds, requirements, progress_bar, **options):
    """Return the masks of exposures that are read with options."""
    exposures = load_exposures(
        ccds,
        minimum=least_exposures(requirements),
        needs_detector=requirements.crmethod in STAGES["mm"],
        **options,
    )
    lists = check_requirements(requirements, len(exposures), exposures.shape)
    matched = requirements.crmethod in STAGES["matched"]
    detect = detect_matched if matched else detect_unmatched
    masks = detect(exposures, requirements, lists, progress_bar)
    if exposures.alike:
        return masks
    if not matched and not _has_offsets(requirements):
        registration = measure_registration(exposures.data, exposures.bad)
        warn_of_registration(registration, find_places(exposures.headers))
    hits = only_hits(masks)
    warn_of_dead(exposures.data, hits, exposures.bad)
    if masks.equivalence is None or not masks.equivalence.failures:
        warn_of_implausible(masks, hits, exposures.bad)
    return masks


def _has_offsets(requirements):
    given = requirements.mm_xy_offsets, requirements.mm_crosscorr_region
    return given != (None, None)


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


def add_expected(
    ccds,
    masks,
    *,
    gain=None,
    readnoise=None,
    bias=None,
    noise=None,
    extension=None,
    unit=None,
    ignore_flags=None,
    flag_name_map=None,
):
    """
    Return a mask set with expected values of its masked pixels.

    The exposures are matched to each other with the masks of the set, as by
    ``crmethod="matched"``, whose masks already have expected values. Use it for masks
    of other methods or of numina, and for edited masks. The values differ from those of
    a detection by fractions of SIGMA, because a detection does not know all masks while
    it matches, unless cores of stars differ; both are equally close to the truth.

    Parameters
    ----------
    ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        The exposures or their files, in the order of the masks.
    masks : `~ccdcr.CRMaskSet`, str or `~pathlib.Path`
        The masks or their file.
    gain, readnoise, bias, noise : optional
        As for `~ccdcr.detect_cosmic_rays`. Default is the values recorded in the masks.
    extension, unit, ignore_flags, flag_name_map : optional
        As for `~ccdcr.detect_cosmic_rays`.

    Returns
    -------
    masks : `~ccdcr.CRMaskSet`
        The same masks with `~ccdcr.CRMaskSet.expected`, and with gain, read noise and
        bias if they had none.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not allowed, or if the exposures do not fit the masks.

    Warns
    -----
    NoiseModelWarning
        If given gain, read noise and bias do not explain the noise.

    Examples
    --------
    >>> from ccdcr import add_expected, detect_cosmic_rays
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures((100, 120), seed=1)
    >>> masks = detect_cosmic_rays(
    ...     sim.exposures,
    ...     gain="GAIN",
    ...     readnoise="RDNOISE",
    ...     crmethod="lacosmic",
    ...     la_verbose=False,
    ... )
    >>> masks.expected is None
    True
    >>> add_expected(sim.exposures, masks).expected.colnames
    ['EXPOSURE', 'X', 'Y', 'VALUE', 'SIGMA']
    """
    check_not_swapped(ccds, masks)
    masks = read_masks(masks, "masks")
    items, _ = list_exposures(ccds)
    given = {"gain": gain, "readnoise": readnoise, "bias": bias}
    is_new = any(value is not None for value in given.values())
    options = {"extension": extension, "unit": unit}
    options |= {"ignore_flags": ignore_flags, "flag_name_map": flag_name_map}
    given = _recorded(items, masks, given, options)
    source = {"noise": noise or masks.noise or "auto", "needs_detector": False}
    options["recorded"] = masks.meta
    exposures = load_exposures(items, minimum=2, **given, **options, **source)
    expected = _match_expected(exposures, masks, is_new=is_new)
    return masks._with(expected=expected, **_learned(exposures, masks))  # noqa: SLF001


def _learned(exposures, masks):
    """Return gain, read noise and bias by name, those that masks do not know."""
    detector = exposures.detector
    names = () if exposures.measured else ("gain", "readnoise")
    unknown = [name for name in names if getattr(masks, name) is None]
    learned = {name: getattr(detector, f"every_{name}") for name in unknown}
    # LAMEDIAN is without the bias that is recorded, even if it is 0.
    if masks.bias is None or (masks.bias == 0 and masks.lamedian is None):
        learned["bias"] = detector.bias / bias_unit(masks, exposures.unit)
    return learned


def _recorded(items, masks, given, options):
    """Return gain, read noise and bias, those that are None as the masks record."""
    with open_exposures(items, **options) as opened:
        unit = opened[0].unit
        check_exposures(masks, opened, list_exposures(items)[1])
    known = {"readnoise": masks.readnoise, "bias": bias_in_unit(masks, unit)}
    if not is_electrons(unit):
        known["gain"] = masks.gain
    return {n: known.get(n) if v is None else v for n, v in given.items()}


def _match_expected(exposures, masks, *, is_new):
    """Return the table of expected values of exposures that fit masks, or None."""
    given = None if (masks.flux_factor == 1).all() else masks.flux_factor
    requirements = masks.requirements or Requirements()
    factors, _ = scale_factors(exposures, given)
    frames = scaled_frames(exposures, factors, requirements.ma_satlevel)
    frames = frames.without(masks.low)
    if is_new and not (exposures.alike or exposures.variance is not None):
        check = check_noise(frames)
        warn_of_check(check, check.levels, None, exposures)
    frames = with_level_skies(frames, measure_sky_levels(frames))
    options = make_options(requirements)
    matched = match_masked(frames, masks.crmasks, options)
    expected = find_expected(frames, matched, masks.crmasks)
    table = expected_in_unit(expected, exposures, factors)
    return expected_table(table, masks.crmasks)


def check_equivalence(
    ccds,
    *,
    gain=None,
    readnoise=None,
    bias=None,
    noise="auto",
    flux_factor=None,
    extension=None,
    unit=None,
    ignore_flags=None,
    flag_name_map=None,
):
    """
    Report how much the exposures differ.

    Parameters
    ----------
    ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        Two or more exposures or their files, of one shape (ny, nx). Pixels that
        are masked (True = bad) or not finite are ignored.
    gain, readnoise, bias, noise : optional
        As for `~ccdcr.detect_cosmic_rays`.
    flux_factor : sequence of float or 'auto', optional
        Relative flux of each exposure; 'auto' measures it. Default is the exposure
        times (``EXPTIME``) if all headers have them, unless the pixels contradict them.
    extension, unit, ignore_flags, flag_name_map : optional
        As for `~ccdcr.detect_cosmic_rays`.

    Returns
    -------
    equivalence : `~ccdcr.Equivalence`
        The report. `~ccdcr.plotting.plot_equivalence` draws it.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not allowed, or if the exposures differ in shape or unit.

    Warns
    -----
    MatchingFailedWarning
        If the exposures are not registered, if they differ by more than matching can
        correct, or if the target is displaced in one of them.

    Examples
    --------
    >>> from ccdcr import check_equivalence
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures(
    ...     (128, 128), scene="stars", flux=(0.9, 1.0, 1.1), cr_rate=0.1, seed=1
    ... )
    >>> report = check_equivalence(sim.exposures, gain=1.0, readnoise=3.0)
    >>> report
    <Equivalence(3 exposures, matching needed)>
    >>> [f"{flux:.1f}" for flux in report.terms["flux"]]
    ['0.9', '1.0', '1.1']
    """
    exposures = load_exposures(
        ccds,
        gain=gain,
        readnoise=readnoise,
        bias=bias,
        minimum=2,
        extension=extension,
        unit=unit,
        noise=noise,
        needs_detector=False,
        ignore_flags=ignore_flags,
        flag_name_map=flag_name_map,
    )
    if isinstance(flux_factor, str):
        wanted = Requirements.from_mapping({"flux_factor": flux_factor})
        factors, _ = find_flux_factors(wanted, exposures)
    else:
        factors, _ = scale_factors(exposures, flux_factor)
    frames = scaled_frames(exposures, factors)
    sky = measure_sky_levels(frames)
    frames = with_level_skies(frames, sky)
    matched = match_exposures(frames, Options(passes=1))
    registration = measure_registration(exposures.data, exposures.bad)
    places = find_places(exposures.headers)
    report = report_equivalence(
        frames, matched, matched.masks, sky, registration, places=places
    )
    if report.failures and not exposures.alike:
        warn_of_mismatch(report, uncertain=exposures.variance is not None)
    return report
