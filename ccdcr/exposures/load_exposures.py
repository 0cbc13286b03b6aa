# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Exposures as arrays for the detection, and their flux factors."""

from dataclasses import dataclass, replace

import numpy as np
from astropy import units as u

from ccdcr.exceptions import (
    FluxScaleWarning,
    ImplausibleMaskWarning,
    NoiseModelWarning,
    warn_user,
)
from ccdcr.exposures.ccd_parameters import (
    MOST_SIGNAL,
    CCDParameters,
    find_ccd_parameters,
    find_noise_source,
    known_variance,
    measure_parameters,
)
from ccdcr.exposures.ccd_values import (
    find_keywords,
    is_electrons,
    is_rate,
    known_times,
)
from ccdcr.exposures.exposure_flags import bad_bits
from ccdcr.exposures.open_exposures import list_exposures, list_labels, open_exposures
from ccdcr.utils import stacks as kernels
from ccdcr.utils.neighbours import bands_in_cache, cut_bands, dilate, in_threads
from ccdcr.utils.padding import find_padding
from ccdcr.utils.scratch import empty, in_turn, release, zeros

__all__ = ["Exposures", "load_exposures", "measure_flux_factors", "scale_factors"]


@dataclass(frozen=True)
class Exposures:
    """
    Exposures as plain arrays.

    ``data`` is (n, ny, nx) float32 without bias; ``bad`` (same shape, True = masked
    or not finite) may be None. If the gain is a map, the data are scaled to its median
    by the ``gain_ratio``. ``headers`` are those of the exposures. ``variance``
    (n, ny, nx; NaN = unknown) is that of their uncertainties, None if these are not
    used; ``measured`` tells that ``detector`` was derived from it. ``alike`` tells that
    exposures are identical. ``bad_flags`` are the bits of flags that mean bad, or None.
    """

    data: np.ndarray
    bad: np.ndarray | None
    unit: u.UnitBase
    detector: CCDParameters
    names: tuple
    headers: tuple = ()
    variance: np.ndarray | None = None
    measured: bool = False
    alike: bool = False
    bad_flags: int | None = None

    def __len__(self):
        return len(self.data)

    @property
    def gain_ratio(self):
        """The gain of each pixel (ny, nx) relative to the median, or None."""
        return self.detector.gain_ratio

    @property
    def depths(self):
        """Electrons per unit of each exposure relative to the median, (n,)."""
        return self.detector.depths(len(self))

    @property
    def shape(self):
        """Shape of each exposure, (ny, nx)."""
        return self.data.shape[1:]


def load_exposures(
    ccds,
    *,
    gain,
    readnoise,
    bias,
    minimum,
    extension=None,
    unit=None,
    usual_keywords=False,
    noise="detector",
    needs_detector=True,
    begin=None,
    **flags,
):
    """
    Return CCDData or files as `Exposures`, at least ``minimum`` of them.

    Options are those of `open_exposures`, `find_ccd_parameters` and
    `find_noise_source`; ``usual_keywords`` looks up gain and read noise that are None
    in the headers. With uncertainties they may be None unless ``needs_detector``.
    ``begin`` is called with the number of exposures and their shape before they are
    read.
    ``flags`` are ``ignore_flags``, ``flag_name_map`` and ``recorded``.
    """
    items, names = list_exposures(ccds, minimum=minimum)
    options = {"extension": extension, "unit": unit, "allowed": ("numpy",)}
    with open_exposures(items, **options, **flags) as opened:
        given = {"gain": gain, "readnoise": readnoise}
        if usual_keywords:
            given = find_keywords(opened, **given)
        shape = opened[0].shape
        uses = find_noise_source(opened, noise) == "uncertainty"
        measured = uses and not needs_detector and _is_unknown(opened, **given)
        if measured:  # the bias remains to be found
            given = {
                "gain": None if is_electrons(opened[0].unit) else 1,
                "readnoise": 1,
            }
        detector = find_ccd_parameters(opened, **given, bias=bias, timed=not measured)
        if begin is not None:
            begin(len(opened), shape)
        data = empty((len(opened), *shape))
        bad = empty(data.shape, bool)
        variance = empty(data.shape) if uses else None
        for i, exposure in enumerate(opened):
            own = None if variance is None else variance[i]
            _fill(data[i], bad[i], own, exposure, detector.of(i))
            if own is not None:
                _check_informed(bad[i], exposure, list_labels(names)[i])
            release()
        unit, headers = opened[0].unit, tuple(exposure.meta for exposure in opened)
    padding = find_padding(data, bad)
    for plane in in_turn(bad if padding.any() else ()):
        np.logical_or(plane, padding, out=plane)
    if detector.gain_map is not None:  # after which padding is no longer constant
        for i, plane in enumerate(in_turn(data)):
            np.multiply(plane, detector.of(i).gain_ratio, out=plane)
    bad = bad if bad.any() else None
    _check_bias(data, detector.bias, bad)
    _warn_of_masked(bad)
    _warn_of_constant(data, bad)
    if measured:
        found = measure_parameters(data, variance, bad)
        detector = replace(found, bias=detector.bias)
    bits = bad_bits(flags.get("ignore_flags"), flags.get("flag_name_map"))
    known = variance, measured, _warn_of_identical(data), bits
    return Exposures(data, bad, unit, detector, names, headers, *known)


def _check_bias(data, bias, bad):
    """Refuse a bias, subtracted from data, that is above nearly all good values."""
    if not np.any(bias):
        return
    above, number = [], []
    for i, plane in enumerate(data):
        good = plane >= 0
        if bad is not None:
            good &= ~bad[i]
        above.append(np.count_nonzero(good))
        number.append(good.size if bad is None else np.count_nonzero(~bad[i]))
    # Hits and a few stars may be above a bias that is wrong.
    if any(number) and np.all(above <= _LEAST_ABOVE * np.array(number)):
        msg = (
            "bias must not exceed nearly all values of the exposures, got "
            f"{np.max(bias):g}"
        )
        raise ValueError(msg)


def _warn_of_masked(bad):
    """Warn of exposures without a good pixel."""
    if bad is not None and (unused := np.flatnonzero([b.all() for b in bad])).size:
        msg = (
            f"all pixels of exposure {', '.join(map(str, unused + 1))} are masked or "
            "not finite, and are ignored; check its mask and ignore_flags"
        )
        warn_user(msg, ImplausibleMaskWarning)


def _warn_of_constant(data, bad):
    """Warn of exposures (n, ny, nx) that have one value here but not in all others."""
    if data[0].size < _TELLING:
        return
    found = [
        _constant_runs(plane, None if bad is None else bad[i])
        for i, plane in enumerate(data)
    ]
    constant, known = map(np.array, zip(*found, strict=True))
    constant |= ~known
    whole = constant.all(axis=1) & known.any(axis=1)
    alone = constant & known & ~constant.all(axis=0)
    part = alone.sum(axis=1) > _UNREAD * known.sum(axis=1)
    nothing = (
        "all pixels of exposure {} have one value, as if it were not exposed or not "
        "read: leave it out"
    )
    some = (
        "many neighbouring pixels of exposure {} have one value, as if an amplifier "
        "were not read or they were filled: mask them"
    )
    for these, text in ((whole & ~whole.all(), nothing), (part & ~whole, some)):
        if these.any():
            numbers = ", ".join(map(str, np.flatnonzero(these) + 1))
            warn_user(text.format(numbers), ImplausibleMaskWarning)


def _constant_runs(plane, bad):
    """Return which runs of pixels in pairs of rows have one value, and are good."""
    step = max(min(_RUN, len(plane)) // 2, 1)
    ny, nx = len(plane) // (2 * step), plane.shape[1] // _RUN

    def runs(image):
        part = image[: ny * 2 * step : step, : nx * _RUN].reshape(ny, 2, nx, _RUN)
        return part.swapaxes(1, 2).reshape(ny * nx, 2 * _RUN)

    values = runs(plane)
    known = np.isfinite(values).all(axis=1)
    if bad is not None:
        known &= ~runs(bad).any(axis=1)
    return (values.min(axis=1) == values.max(axis=1)) & known, known


def _warn_of_identical(data):
    """Warn of exposures (n, ny, nx) that are not constant and the same."""
    seen, alike = {}, {}
    for i, plane in enumerate(data if data[0].size >= _TELLING else ()):
        # Along a diagonal: a column may be constant.
        width = plane.shape[1]
        sample = plane.ravel()[:: plane.size // _TELLING // width * width + 1]
        first = seen.setdefault(sample.tobytes(), i)
        is_image = np.isfinite(sample).any() and np.nanmin(sample) < np.nanmax(sample)
        if (
            first < i
            and is_image
            and np.array_equal(data[first], plane, equal_nan=True)
        ):
            alike.setdefault(first + 1, []).append(f"{i + 1}")
    if alike:
        groups = [" and ".join([f"{k}", *others]) for k, others in alike.items()]
        msg = (
            f"exposures {'; '.join(groups)} are identical: give each exposure once, "
            "since a copy confirms its hits"
        )
        warn_user(msg, NoiseModelWarning)
    return bool(alike)


def _is_unknown(opened, gain, readnoise):
    """Return whether gain or read noise are missing."""
    return readnoise is None or (gain is None and not is_electrons(opened[0].unit))


def _check_informed(bad, exposure, name):
    """Refuse an uncertainty that says nothing about any good pixel."""
    mask = exposure.mask
    if bad.all() and (mask is None or not np.all(mask[:])):
        msg = (
            f"the uncertainty of {name} means no information in all its pixels (0, "
            "NaN or an infinite standard deviation); leave it out, or use "
            "noise='detector'"
        )
        raise ValueError(msg)


def _fill(data, bad, variance, exposure, detector):
    """Fill in data (ny, nx) of an exposure without bias, and its bad pixels."""
    ratio = detector.gain_ratio
    for rows in cut_bands(exposure.shape):
        values, mask, sigma = exposure.cut(rows)
        with np.errstate(over="ignore"):  # beyond float32 is not finite either
            np.subtract(values, detector.bias, out=data[rows], casting="unsafe")
        _drop_impossible(data[rows], bad[rows], MOST_SIGNAL / detector.gain)
        if mask is not None:
            bad[rows] |= np.asarray(mask, dtype=bool)
        if variance is not None:
            kind = exposure.kind, exposure.sigma_unit, exposure.unit
            variance[rows], nothing = known_variance(values, np.asarray(sigma), *kind)
            bad[rows] |= nothing
            if ratio is not None:
                variance[rows] *= np.square(ratio[rows])


def _drop_impossible(image, bad, limit):
    """Mark pixels that are not finite or beyond the limit, and set them to NaN."""
    with np.errstate(invalid="ignore"):
        np.less_equal(np.abs(image), np.float32(limit), out=bad)
    np.logical_not(bad, out=bad)
    image[bad] = np.nan


_TELLING = 1000  # pixels that tell most exposures apart
_RUN, _UNREAD = 16, 0.02  # pixels of one value; the part of an exposure that has one
_LEAST_ABOVE = 0.01  # of the values: above the bias
_ITERATIONS = 4
_CLIP = 4.0  # sigma, on both sides: clipping one side only would be biased
_LEAST_ACCURACY = 0.02


def measure_flux_factors(stack, bad, compute_noise, use=None):
    """Return the flux of each exposure (n, ny, nx) relative to the median one, (n,)."""
    usable = np.ones(stack.shape[1:], bool) if use is None else use.copy()
    if bad is not None:
        usable &= ~bad.any(axis=0)
    factors = _first_guess(stack, usable)
    for _ in range(_ITERATIONS):
        level, hit = _find_hits(stack, factors, compute_noise)
        clean = usable & ~dilate(hit, 1)
        sums = np.array([plane[clean].sum(dtype=np.float64) for plane in stack])
        error = np.sqrt(np.sum(compute_noise(level[clean]).astype(np.float64) ** 2))
        _check(sums, error)
        factors = sums / np.median(sums)
    return factors


def _find_hits(stack, factors, compute_noise):
    """Return the median of scaled exposures (ny, nx), and where one is hit."""
    level, hit = empty(stack.shape[1:]), zeros(stack.shape[1:], bool)
    scale = (1 / factors).astype(stack.dtype)[:, np.newaxis, np.newaxis]

    def work(rows):
        level[rows] = kernels.median(stack[:, rows] * scale)
        for plane, factor in zip(stack, factors, strict=True):
            expected = level[rows] * np.float32(factor)
            noise = compute_noise(expected)
            hit[rows] |= np.abs(plane[rows] - expected) > _CLIP * noise

    in_threads(work, bands_in_cache(level.shape))
    return level, hit


def _first_guess(stack, usable):
    """Return ratios of medians over the brighter pixels, of which few are hit."""
    level = empty(stack.shape[1:])
    for rows in bands_in_cache(level.shape):
        level[rows] = kernels.median(stack[:, rows])
    if not usable.any():
        _check(np.zeros(len(stack)), 1.0)
    bright = usable & (level >= np.median(level[usable]))
    medians = np.array([np.median(plane[bright]) for plane in stack], dtype=float)
    _check(medians, 0.0)
    return medians / np.median(medians)


def _check(sums, error):
    if not np.all(sums > 0) or error > _LEAST_ACCURACY * sums.min():
        msg = (
            "flux_factor='auto' needs signal in flux_factor_regions that is not "
            "cosmic rays; give the factors as a list"
        )
        raise ValueError(msg)


def scale_factors(exposures, given=None):
    """
    Return the factors (n,), median 1, and their source, FLUXFSRC of a file, or None.

    They are the given ones, else those of exposure times that differ by more than 1 %
    and are not contradicted by the pixels, else 1; of other gain alike in electrons.
    """
    n = len(exposures)
    if given is not None:
        factors = np.asarray(given, dtype=float)
        right = factors.shape in {(), (n,)} and np.isfinite(factors).all()
        if not (right and (factors > 0).all()):
            msg = (
                f"flux_factor must be {n} finite numbers > 0, one per exposure, "
                f"got {given!r}"
            )
            raise ValueError(msg)
        return np.broadcast_to(factors, n), "given"
    if is_rate(exposures.unit):
        return np.ones(n), None
    times, flux = known_times(exposures.headers), 1 / exposures.depths
    if (unknown := np.isnan(times)).any() and not unknown.all():
        _warn_of_times(unknown)
    if len(times) != n or unknown.any() or np.ptp(times) <= _SAME * times.min():
        return flux / np.median(flux), None
    if _contradicted(exposures, flux, np.log(times / np.median(times))):
        listed = ", ".join(f"{time:g}" for time in times)
        msg = (
            f"the exposure times differ (EXPTIME {listed}) and the pixels much less, "
            "as if the exposures were scaled already; EXPTIME is not used. "
        )
        if _alike(exposures):
            msg += "Give flux_factor=1 to confirm this, or flux_factor='auto'"
        else:
            msg += "Their structure differs, too: check that they show the same field"
        warn_user(msg, FluxScaleWarning)
        return flux / np.median(flux), None
    return times * flux / np.median(times * flux), "EXPTIME"


def _warn_of_times(unknown):
    numbers = ", ".join(str(i + 1) for i in np.flatnonzero(unknown))
    msg = (
        f"EXPTIME is missing or not a number > 0 in some headers (exposure {numbers}) "
        "and not used: the exposures are taken to be of one flux scale; mend the "
        "headers, or give flux_factor='auto', a list, or 1"
    )
    warn_user(msg, FluxScaleWarning)


_SAME = 0.01  # relative difference of exposure times that is ignored
_BLOCK, _MOST_BLOCKS, _LEAST_BLOCKS = 4, 1 << 16, 20
_SIGMAS, _RELIABLE = 5.0, 4.0  # of structure, of the difference between the ratios
_CORRELATED = 0.5  # structure of exposures of one field


def _contradicted(exposures, flux, expected):
    """Return whether pixels / flux (n,) are nearer to 1 than to expected logs (n,)."""
    blocks = _block_medians(exposures) / flux[:, np.newaxis]
    if blocks.shape[1] < _LEAST_BLOCKS:
        return False
    steps = np.abs(np.diff(blocks, axis=1))
    sigmas = 1.48 / np.sqrt(2) * np.median(steps, axis=1)
    levels = np.median(blocks, axis=1)
    structure = blocks - levels[:, np.newaxis]
    mean = structure.mean(axis=0)
    some = mean > _SIGMAS * np.sqrt((sigmas**2).sum()) / len(sigmas)
    if np.count_nonzero(some) >= _LEAST_BLOCKS:
        ratios = np.median(structure[:, some] / mean[some], axis=1)
        shares = np.sqrt(np.mean((sigmas[:, np.newaxis] / mean[some]) ** 2, axis=1))
        return _nearer_to_one(ratios, shares / np.sqrt(some.sum()), expected)
    mean = max(levels.mean(), np.finfo(float).tiny)
    errors = sigmas / mean / np.sqrt(blocks.shape[1])
    return _nearer_to_one(levels / mean, errors, expected)


def _alike(exposures):
    """Return whether bright structure is the same in all, or there is none."""
    blocks = _block_medians(exposures)
    structure = blocks - np.median(blocks, axis=1)[:, np.newaxis]
    sigmas = 1.48 * np.median(np.abs(structure), axis=1)[:, np.newaxis]
    bright = (structure > _SIGMAS * sigmas).any(axis=0)
    if np.count_nonzero(bright) < _LEAST_BLOCKS:
        return True
    return np.corrcoef(structure[:, bright]).min() > _CORRELATED


def _nearer_to_one(ratios, errors, expected):
    """Return whether ratios (n,) are surely nearer to 1 than to expected logs."""
    if not (ratios > 0).all():
        return False
    if not _RELIABLE * 1.25 * np.max(errors / ratios) < np.ptp(expected):
        return False
    # Moonlight makes them differ from both.
    logs = np.log(ratios / np.median(ratios))
    return bool(np.abs(logs).sum() < np.abs(expected).sum() / 2)


def _block_medians(exposures):
    """Return medians (n, blocks) of 4 x 4 pixels without bad ones, of 65536 at most."""
    ny, nx = (length - length % _BLOCK for length in exposures.shape)
    rows = ny // _BLOCK
    step = max(rows * (nx // _BLOCK) // _MOST_BLOCKS, 1)
    blocks = []
    for y in range(0, ny, step * _BLOCK):
        part = np.s_[:, y : y + _BLOCK, :nx]
        data = exposures.data[part]
        if exposures.bad is not None:
            data = np.where(exposures.bad[part].any(axis=0), np.nan, data)
        data = data.reshape(len(data), _BLOCK, -1, _BLOCK)
        blocks.append(np.median(data, axis=(1, 3)))
    if not blocks:
        return np.empty((len(exposures), 0))
    blocks = np.concatenate(blocks, axis=1).astype(float)
    return blocks[:, np.isfinite(blocks).all(axis=0)]
