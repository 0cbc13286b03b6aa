# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Search for point sources of one exposure only, among flagged pixels and faint."""

from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
from scipy.stats import chi2, norm

from ccdcr.matching.clean_reference import means_of_others
from ccdcr.utils.neighbours import (
    bands_in_cache,
    box_sums,
    dilate,
    in_threads,
    median_of_nine,
    pixels_of,
    running,
    with_halo,
)
from ccdcr.utils.scratch import in_turn, zeros
from ccdcr.utils.stacks import multiply

__all__ = ["PointSpread", "find_point_like", "measure_psf"]

_BRIGHT, _CLEAR, _ENDED = 3.0, 8.0, 0.15  # sigmas of stars; height at the edge
_NOISE = 3.0  # sigmas that the highest pixel around has by noise
_LEAST_STARS, _ENOUGH_STARS, _MANY_STARS, _MOST_STARS = 3, 8, 15, 200
_SMALLEST, _LARGEST = 4, 9  # pixels: half the side of the stamps of stars
_HALVES, _FAR = 1.8, 1.4  # of the FWHM: this half side; where a star has nearly ended
_MOFFAT, _WIDTHS, _WIDER = 3.0, (1.0, 0.83), 1.1  # power and widths without stars
_ISOLATED = 0.2  # of the peaks: fewer are knots of lines and traces
_LEAST_AREA = 6.0  # pixels: sharper ones look like hits
_LEAST_ERROR, _MOST_ERROR = 0.02, 0.15  # of the peak, and of the profile
_ITERATIONS = 5
_OFFSETS = np.arange(-4, 5) / 4  # pixels
_LEAST_HEIGHT = np.float32(2.0)  # sigmas of the median of nine pixels
_FAINTEST = np.float32(2.5)  # sigmas of a pixel of a source that is not flagged
_OVER = np.float32(0.25)  # of the structure
_LONG, _ENDS = 40, ((5, 15), (9, 40))  # pixels of lines, beside a peak and farther
_ALONG, _CLIP = 0.25, 3.0  # of the peak; sigmas
_WIDE, _SLACK = np.float32(0.25), np.float32(2.0)  # of the peak; sigmas
_HUBER, _BEYOND = 1.3, 3.5  # sigmas: where a pixel counts less, and not at all
_CONVEX, _TRIMMED = 4, 3  # steps of the fit
_LEAST_SIGMAS, _LEAST_PART = 7.0, 0.65  # of the flux; of a source that is not hit
_CORE = 0.2  # of the peak
_ALIKE, _PEAK = 4, np.float32(3.0)  # templates; of the median of a core: hits are more
_COARSE = np.array([9 * i + j for i in (2, 4, 6) for j in (2, 4, 6)])  # templates
_NEAR = np.array([9 * i + j for i in (-1, 0, 1) for j in (-1, 0, 1)])  # and around one
_SHARPEST = 4.0  # pixels that no hit in one place is larger than
_LEAST_GAIN = 20.0  # of a core by a source, in chi square
_SURE, _CLEARER = 16.0, 0.3  # a source over a hit, in chi square; of its gain
_CROSSED, _SURER = 0.3, 1800.0  # part of a crossed source; chi square by its area
_RARE, _DOUBTFUL = 1e-4, 0.01  # chance that a point source differs so much
_SHARP = 0.4  # pixels: sigma of the charge of a hit in one place
_BESIDE = 3  # pixels that tell a peak
_AT_ONCE = 400_000  # values


@dataclass(frozen=True)
class Stamps:
    """Square stamps of ``half`` pixels around a centre: ``y``, ``x``, ``radius``."""

    half: int
    y: np.ndarray
    x: np.ndarray
    radius: np.ndarray

    @classmethod
    def from_half(cls, half):
        """Return the stamps of 2 x ``half`` + 1 pixels along a side."""
        y, x = np.mgrid[-half : half + 1, -half : half + 1].reshape(2, -1)
        return cls(half, y, x, np.hypot(y, x))

    def cut(self, image, places):
        """Return stamps (m, pixels) around places (m, 2) inside an image."""
        return image[places[:, :1] + self.y, places[:, 1:] + self.x]

    def shifted(self, stamps, dy, dx):
        """Return stamps (m, pixels) resampled at (y + dy, x + dx), each (m,)."""
        side, half = 2 * self.half + 1, self.half
        images = stamps.reshape(-1, side, side)
        images = np.pad(images, ((0, 0), (half, half), (half, half)))
        frequency = np.fft.fftfreq(images.shape[1])
        phase = np.multiply.outer(dy, frequency)[:, :, np.newaxis]
        phase = phase + np.multiply.outer(dx, frequency)[:, np.newaxis, :]
        spectra = np.fft.fft2(images) * np.exp(2j * np.pi * phase)
        inner = slice(half, half + side)
        return np.fft.ifft2(spectra).real[:, inner, inner].reshape(-1, side**2)

    def centroids(self, stamps):
        """Return the centroids (m,) along y and x, weighted by a Gaussian."""
        y, x = np.zeros((2, len(stamps), 1))
        for _ in range(_ITERATIONS):
            weight = np.exp(-(np.square(self.y - y) + np.square(self.x - x)) / 4.5)
            weight *= np.maximum(stamps, 0)
            total = np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
            # A weight as wide as the star halves the step.
            y = y + 1.5 * (weight * (self.y - y)).sum(axis=1, keepdims=True) / total
            x = x + 1.5 * (weight * (self.x - x)).sum(axis=1, keepdims=True) / total
            y, x = np.clip(y, -1, 1), np.clip(x, -1, 1)
        return y[:, 0], x[:, 0]


@dataclass(frozen=True)
class PointSpread:
    """
    Point-spread function of an exposure, from its stars.

    ``templates`` (k, pixels) have a sum of 1, at 81 offsets of the centre each;
    ``error`` (pixels,) is how much stars differ from it. ``hits`` (offsets, pixels) are
    those of a hit in one place.
    """

    stamps: Stamps
    templates: np.ndarray
    error: np.ndarray
    hits: np.ndarray

    @property
    def centred(self):
        """The template (pixels,) without an offset."""
        return self.templates[len(_OFFSETS) ** 2 // 2]


def find_point_like(frames, matched, masks):
    """
    Return the pixels (n, ny, nx) of point sources, or None.

    A source is in one exposure only. Of one that has masked pixels these are returned,
    of a wide faint one without any all that stand out. ``frames`` are not matched yet:
    their stars tell the shape. None if there are too few stars.
    """
    spreads = _measure_all(frames, matched, masks)
    if all(psf is None for psf in spreads):
        return None
    found = zeros(masks.shape, bool)
    halo = 2 * max(psf.stamps.half for psf in spreads if psf is not None) + _BESIDE

    def work(rows):
        wide, inside = with_halo(rows, halo, len(matched.profile))
        profile, flagged = matched.profile[wide], masks[:, wide]
        free = ~flagged.any(axis=0)
        for i, image in _excesses(matched, masks, np.s_[wide, :]):
            if spreads[i] is not None:
                # A star, line or trace that has changed is no new source.
                seeds = image.stands_out(_OVER * profile)
                long = partial(_is_long, matched, masks, i, wide.start)
                chosen = _select(image, flagged[i], seeds, (spreads[i], long), inside)
                found[i, rows] = (chosen & (flagged[i] | free))[inside]

    for rows in in_turn(bands_in_cache(masks.shape[1:])):
        work(rows)
    in_threads(partial(_of_one, found), bands_in_cache(masks.shape[1:]))
    return found


def _of_one(found, rows):
    """Drop the pixels (n, ny, nx) found in more than one exposure, in place."""
    found[:, rows] &= found[:, rows].sum(axis=0, dtype=np.uint16) == 1


def _excesses(matched, masks, part):
    """Yield each exposure's number and `_Image` of a part: rows and columns."""
    frames, level, extra = matched.frames, matched.level[part], matched.extra[part]
    noise, stack = frames.noise.at(part), frames.data[:, *part]
    unused = None if frames.unused is None else frames.unused[:, *part]
    others = means_of_others(stack, masks[:, *part], unused, noise.weights(level))
    for i, (value, count, weight) in enumerate(others):
        signal = np.maximum(value, level)
        variance = noise.variance_of_weight(signal, i) / np.where(count > 0, weight, 1)
        variance += noise.variance(signal, i)
        variance += extra * np.maximum(2 / np.maximum(count, 1), 1)
        use = np.isfinite(value) & (count > 0)
        if unused is not None:
            use &= ~unused[i]
        excess = np.subtract(stack[i], value, out=value)
        excess[~use] = signal = 0
        yield i, _Image(excess, variance, use, noise.slope[i])


def _is_long(matched, masks, i, start, place):
    """Return whether the excess at a place (row from ``start``, column) is a line's."""
    place = place[0] + start, place[1]
    for reach in ((_LONG, 1), (1, _LONG)):
        ends = zip(place, reach, strict=True)
        part = tuple(slice(max(k - far, 0), k + far + 1) for k, far in ends)
        image = next(islice(_excesses(matched, masks, part), i, None))[1]
        sigmas = np.clip(image.excess / np.sqrt(image.variance), -_CLIP, _CLIP)
        y, x = pixels_of(image.use & ~masks[:, *part].any(axis=0))
        away = np.abs([y + part[0].start - place[0], x + part[1].start - place[1]])
        sigmas, away = sigmas[y, x], away.max(axis=0)
        core, *lines = (
            sigmas[these].mean() if (these := (away > a) & (away <= b)).any() else 0
            for a, b in ((-1, 1), *_ENDS)
        )
        if max(lines) > _ALONG * core:
            return True
    return False


def _measure_all(frames, matched, masks):
    """Return the `PointSpread` or None of each exposure, of all if it has few stars."""
    n, profile = len(frames), matched.profile
    background = matched.reference, profile
    places = _find_peaks(frames.noise, background, masks)
    if len(places) < _LEAST_STARS:
        return [None] * n
    width = _width(Stamps.from_half(_LARGEST).cut(profile, places))
    if width * _FAR > _LARGEST:  # nothing is as sharp as a point source
        return [None] * n
    stamps = Stamps.from_half(
        int(np.clip(np.ceil(_HALVES * width), _SMALLEST, _LARGEST))
    )
    pixels = tuple(places.T)
    sigma = _sigma(frames.noise, background, pixels)
    stars = _isolated(profile, sigma, places, stamps, width)
    if len(stars) < max(_LEAST_STARS, _ISOLATED * len(places)):
        return [_typical_psf(width, stamps)] * n
    stars = stars[:_MOST_STARS]
    found, pixels = [], (stars[:, :1] + stamps.y, stars[:, 1:] + stamps.x)
    reference = matched.reference[pixels]
    for i, mask in enumerate(in_turn(masks)):
        ignored = mask if frames.unused is None else mask | frames.unused[i]
        # A median of stars hardly notices hits, nor what is in their place.
        data = np.where(ignored[pixels], reference, frames.data[i][pixels])
        variance = frames.noise.at(pixels).variance(reference, i)
        found.append(_centred_stars(data, variance, stamps))
    if len(stars) >= _MANY_STARS:
        return [measure_psf(*part, stamps) for part in found]
    return [measure_psf(*map(np.concatenate, zip(*found, strict=True)), stamps)] * n


def _sigma(noise, background, part):
    """Return the noise of the background, reference minus profile, in a part."""
    reference, profile = background
    return np.sqrt(noise.at(part).mean_variance(reference[part] - profile[part]))


def _find_peaks(noise, background, masks):
    """Return rows and columns (m, 2) of peaks that are not hit, the brightest first."""
    profile = background[1]
    ny, nx = profile.shape

    def work(rows):
        wide, inside = with_halo(rows, _SMALLEST, ny)
        sigma = _sigma(noise, background, wide)
        peak = profile[wide] == running(np.maximum, profile[wide], 2 * _SMALLEST + 1)
        peak &= box_sums(profile[wide], 3) > 9 * _BRIGHT * sigma
        peak &= ~dilate(masks[:, wide].any(axis=0), 1)
        y, x = pixels_of(peak[inside])
        return y + rows.start, x

    y, x = np.concatenate(in_threads(work, bands_in_cache(profile.shape)), axis=1)
    inner = (y >= _LARGEST) & (y < ny - _LARGEST)
    inner &= (x >= _LARGEST) & (x < nx - _LARGEST)
    y, x = y[inner], x[inner]
    order = np.argsort(profile[y, x])[::-1][: 4 * _MOST_STARS]
    return np.column_stack([y, x])[order]


def _isolated(profile, sigma, places, stamps, width):
    """Return the places (m, 2) of isolated stars, faint ones only if there are few."""
    around = stamps.cut(profile, places)[:, stamps.radius >= _FAR * width].max(axis=1)
    height = profile[tuple(places.T)]
    good = around < _ENDED * height + _NOISE * sigma
    places, clear = places[good], (height > _CLEAR * sigma)[good]
    return places[: max(_ENOUGH_STARS, np.count_nonzero(clear))]


def _width(peaks):
    """Return the median FWHM of peaks (m, pixels), each along its narrower axis."""
    side = 2 * _LARGEST + 1
    images = peaks.reshape(-1, side, side)
    lines = np.stack([images[:, _LARGEST], images[:, :, _LARGEST]])
    sides = np.stack([lines[..., _LARGEST:], lines[..., _LARGEST::-1]])
    sides = np.minimum.accumulate(sides / sides[..., :1], axis=-1)
    last = np.minimum((sides >= 0.5).sum(axis=-1, keepdims=True), _LARGEST)
    high, low = (np.take_along_axis(sides, k, -1)[..., 0] for k in (last - 1, last))
    part = np.clip((high - 0.5) / np.maximum(high - low, 1e-6), 0, 1)
    widths = (last[..., 0] - 1 + part).sum(axis=0).min(axis=0)
    return float(np.median(widths))


def _typical_psf(width, stamps):
    """Return the `PointSpread` of lines or traces of an FWHM; None if it is sharp."""
    # A slit or a fibre makes them wider than a point source.
    profiles = [_moffat(factor * width, stamps.radius) for factor in _WIDTHS]
    wider = _moffat(_WIDER * width, stamps.radius)
    error = np.abs(profiles[0] - wider) + _LEAST_ERROR * profiles[0].max()
    return _make_psf(profiles, error, stamps)


def _moffat(width, radius):
    """Return a Moffat profile (pixels,) of an FWHM, of a sum of 1."""
    core = width / 2 / np.sqrt(2 ** (1 / _MOFFAT) - 1)
    psf = (1 + np.square(radius / core)) ** -_MOFFAT
    return psf / psf.sum()


def _centred_stars(stars, variance, stamps):
    """Return stars (m, pixels) centred, of a sum of 1, and the variances then."""
    radius = stamps.radius
    level = np.median(stars[:, radius > stamps.half], axis=1, keepdims=True)
    centred = stamps.shifted(stars - level, *stamps.centroids(stars - level))
    total = centred[:, radius < 0.9 * stamps.half].sum(axis=1, keepdims=True)
    total = np.maximum(total, 1)
    return centred / total, variance / np.square(total)


def measure_psf(stars, variances, stamps):
    """
    Return the `PointSpread` of centred stars (m, pixels), or None.

    It is None where there are less than three, and where they are as sharp as hits or
    have no flux.
    """
    if len(stars) < _LEAST_STARS:
        return None
    middle = np.median(stars, axis=0)
    if not (middle > 0).any():
        return None
    psf = np.maximum(middle, 0) / np.maximum(middle, 0).sum()
    spread = np.median(np.abs(stars - middle), axis=0) / norm.ppf(0.75)
    spread = np.square(spread)
    # Stars differ by their noise, too, which the median has much less of.
    error = np.maximum(spread - np.median(variances, axis=0), 0)
    error += 2 * spread / len(stars) + np.square(_LEAST_ERROR * psf.max())
    most = _MOST_ERROR * psf + 2 * _LEAST_ERROR * psf.max()
    error = np.minimum(np.sqrt(error), most)
    return _make_psf([psf], error, stamps)


def _make_psf(profiles, error, stamps):
    """Return the `PointSpread` of centred profiles (k, pixels); None if sharp."""
    if 1 / np.square(profiles[0]).sum() < _LEAST_AREA:
        return None
    dy, dx = (grid.ravel() for grid in np.meshgrid(_OFFSETS, _OFFSETS, indexing="ij"))
    templates = [
        stamps.shifted(np.tile(profile, (len(dy), 1)), -dy, -dx) for profile in profiles
    ]
    templates = np.maximum(np.concatenate(templates), 0)
    planes = templates, error, _sharp_templates(stamps)
    return PointSpread(stamps, *(plane.astype(np.float32) for plane in planes))


@dataclass(frozen=True)
class _Image:
    """
    Excess of an exposure over the others, each (ny, nx), to search for sources.

    ``variance`` is without photons of the excess, which ``slope`` times it adds.
    ``use`` are known pixels.
    """

    excess: np.ndarray
    variance: np.ndarray
    use: np.ndarray
    slope: np.float32

    def stands_out(self, least):
        """Return pixels (ny, nx) that may belong to a faint source, above a limit."""
        limit = np.maximum(_FAINTEST * np.sqrt(self.variance), least)
        return self.use & (self.excess > limit)

    def cut(self, stamps, places):
        """Return data of stamps (m, pixels) around places, and the pixel numbers."""
        y, x = places[:, :1] + stamps.y, places[:, 1:] + stamps.x
        ny, nx = self.excess.shape
        pixels = np.clip(y, 0, ny - 1) * nx + np.clip(x, 0, nx - 1)
        inside = (y >= 0) & (y < ny) & (x >= 0) & (x < nx)
        planes = (plane.take(pixels) for plane in (self.excess, self.variance))
        return (*planes, self.use.take(pixels) & inside, self.slope), pixels


def _select(image, mask, seeds, known, rows):
    """Return pixels (ny, nx) of point sources in rows, masked ones if there are any."""
    psf, is_long = known
    places, found = _candidates(image, mask | seeds), np.zeros_like(mask)
    near = places[:, 0] >= rows.start - psf.stamps.half
    places = places[near & (places[:, 0] < rows.stop + psf.stamps.half)]
    step = max(_AT_ONCE // (psf.error.size * len(_NEAR)), 1)
    for start in range(0, len(places), step):
        here = places[start : start + step]
        data, pixels = image.cut(psf.stamps, here)
        good, offset = _likely(data, psf)
        data = _those(data, good)
        sure, model, residual = _fit(data, offset[good], psf)
        good[good] = sure
        pixels, (_, variance, use, _) = pixels[good], _those(data, sure)
        high, masked = use & (model > np.sqrt(variance)), mask.take(pixels)
        # A hit on its edge does not tell that a source is masked.
        own = masked & high & (model > model.max(axis=1, keepdims=True) / 2)
        alone = ~own.any(axis=1) & _agree(residual, use & ~masked)
        alone[alone] = [not is_long(place) for place in here[good][alone]]
        found.ravel()[pixels[high & (masked | alone[:, np.newaxis])]] = True
    return found


def _agree(residual, use):
    """Return whether all pixels of stamps (m, pixels) agree with a model in sigmas."""
    limit = chi2.isf(_DOUBTFUL, np.maximum(use.sum(axis=1) - 3, 1))
    return (use * np.square(residual)).sum(axis=1) < limit


def _candidates(image, mask):
    """Return places (m, 2) of peaks beside pixels of a mask that are wide."""
    middle = median_of_nine(image.excess)
    high = dilate(mask, 2) & (middle > _LEAST_HEIGHT * np.sqrt(image.variance))
    middle = np.where(high, middle, np.float32(-np.inf))
    high &= middle == running(np.maximum, middle, 3)
    y, x = pixels_of(high & dilate(mask, 1))
    middle, excess, variance = middle[y, x], image.excess[y, x], image.variance[y, x]
    sigma = np.sqrt(variance + image.slope * np.maximum(excess, 0))
    # Of a hit, the pixels around are much lower.
    wide = middle > _WIDE * excess - _SLACK * sigma
    return np.column_stack([y, x])[wide]


def _likely(data, psf):
    """Return whether stamps (m, pixels) may hold a point source, and its offset."""
    core = psf.centred > _CORE * psf.centred.max()
    part = *(plane[:, core] for plane in data[:-1]), data[-1]
    coarse = np.add.outer(range(0, len(psf.templates), len(psf.hits)), _COARSE).ravel()
    templates = psf.templates[coarse][:, core]
    alike = _most_alike(part, templates)
    loss, _, best = _robust_fit(part, templates[alike], psf.error[core])
    good = _loss(part) - loss > _LEAST_GAIN
    part, sharp = _those(part, good), psf.hits[_COARSE][:, core]
    good[good] = _robust_fit(part, sharp[_most_alike(part, sharp)])[0] > loss[good]
    return good, coarse[alike[np.arange(len(alike)), best]]


def _those(data, chosen):
    """Return the data of the stamps that are chosen (m,)."""
    return *(plane[chosen] for plane in data[:-1]), data[-1]


def _most_alike(data, templates):
    """Return the indices (m, 4) of the templates most like stamps (m, pixels)."""
    excess, variance, use, _ = data
    most = _PEAK * np.maximum(np.median(excess, axis=1, keepdims=True), 0)
    weight = use / variance
    told = weight * np.minimum(excess, most)
    product = np.maximum(multiply(templates, told.T), 0)
    norm = np.maximum(multiply(np.square(templates), weight.T), 1e-30)
    number = min(_ALIKE, len(templates))
    alike = np.argpartition(np.square(product) / norm, -number, axis=0)[-number:]
    return np.ascontiguousarray(alike.T)


def _fit(data, offset, psf):
    """
    Return which stamps (m, pixels) hold a point source, and models and residuals.

    ``offset`` (m,) is the index of a template near the best one.
    """
    near = offset[:, np.newaxis] + _NEAR
    loss, flux, best = _robust_fit(data, psf.templates[near], psf.error)
    best = near[np.arange(len(near)), best]
    excess, variance, use, slope = data
    model = flux[:, np.newaxis] * psf.templates[best]
    shape = np.square(flux[:, np.newaxis] * psf.error)
    residual = (excess - model) / np.sqrt(variance + slope * model + shape)
    agree = use & (residual < _BEYOND)
    weight = np.square(psf.templates[best]) / (variance + slope * model)
    left = (weight * agree).sum(axis=1)
    limit = chi2.isf(_RARE, np.maximum(agree.sum(axis=1) - 3, 1))
    good = (agree * np.square(residual)).sum(axis=1) < limit
    part = left / weight.sum(axis=1)
    good &= (flux * np.sqrt(left) > _LEAST_SIGMAS) & (part > _CROSSED)
    # Crossed by a track, a source must be told from a hit beside it the better.
    least = np.where(part > _LEAST_PART, _SURE, _SURER * np.square(psf.centred).sum())
    given = _those(data, good), loss[good], np.maximum(least, _SURE)[good]
    good[good] = _is_no_hit(*given, psf)
    return good, model[good], residual[good]


def _is_no_hit(data, loss, least, psf):
    """Return whether a source explains stamps better than a hit in one place."""
    inner = psf.stamps.radius < _SHARPEST
    part = *(plane[:, inner] for plane in data[:-1]), data[-1]
    gain = _loss(data) - loss
    sharper = _robust_fit(part, psf.hits[:, inner])[0] + gain - _loss(part)
    return (sharper > least) & (sharper > _CLEARER * gain)


def _robust_fit(data, templates, error=0):
    """
    Return the least loss, its flux and offset, each (m,), of stamps (m, pixels).

    Hits only add charge: pixels far above the model do not count.
    """
    excess, variance, use, slope = (
        plane[:, np.newaxis] if np.ndim(plane) else plane for plane in data
    )
    by_excess, by_itself = templates * excess, np.square(templates)
    square, weight = np.square(error), use / variance
    for k in range(_CONVEX + _TRIMMED + 1):
        flux = _products(weight, by_excess)
        flux /= np.maximum(_products(weight, by_itself), 1e-30)
        np.maximum(flux, 0, out=flux)
        model = flux * templates
        variances = slope * model
        variances += variance
        variances += np.square(flux) * square
        above = np.subtract(excess, model, out=model)
        above /= np.sqrt(variances)
        if k < _CONVEX:
            weight = np.float32(_HUBER) / np.maximum(above, np.float32(_HUBER))
            weight *= use
        else:
            weight = use & (above < _BEYOND)
        weight = weight / variances
    loss = (use * np.square(np.minimum(above, _BEYOND))).sum(axis=-1)
    best = loss.argmin(axis=1)
    each = np.arange(len(best))
    return loss[each, best], flux[each, best, 0], best


def _products(a, b):
    """Return the sums (m, k, 1) of products of (m, k, pixels)."""
    return np.einsum("mkp,mkp->mk", *np.broadcast_arrays(a, b))[..., np.newaxis]


def _loss(data):
    """Return the loss (m,) of stamps (m, pixels) without a source."""
    excess, variance, use, _ = data
    above = np.minimum(excess / np.sqrt(variance), _BEYOND)
    return (use * np.square(above)).sum(axis=-1)


def _sharp_templates(stamps):
    """Return a hit in one place at the offsets (offsets, pixels)."""
    dy, dx = (grid.ravel() for grid in np.meshgrid(_OFFSETS, _OFFSETS))

    def shares(places, offset):
        edges = places - offset[:, np.newaxis]
        return norm.cdf((edges + 0.5) / _SHARP) - norm.cdf((edges - 0.5) / _SHARP)

    return shares(stamps.y, dy) * shares(stamps.x, dx)
