# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Statistics over the exposures of a stack, and chances of coincidence."""

from functools import lru_cache

import numpy as np
from scipy import stats

__all__ = [
    "above_others",
    "chance_of_all",
    "chance_of_half",
    "count",
    "has_smooth_noise",
    "is_off",
    "lowest",
    "mean",
    "median",
    "median_factor",
    "multiply",
    "thinned",
    "without",
]

try:
    import bottleneck
except ImportError:
    bottleneck = None


_TOLERATED = 0.2  # of the noise
_SMOOTH, _MANY = 0.5, 50.0  # electrons of read noise, and of signal
_OF_ONE_THREAD = 200_000  # multiplications that libraries leave to one thread
_MOST = 64  # exposures up to which networks are faster than sorting


def is_off(noise):
    """Return where the noise, observed over expected, is off by more than 20 %."""
    return np.abs(np.asarray(noise, dtype=float) - 1) > _TOLERATED


def has_smooth_noise(signal, readnoise):
    """Return where quantiles do not fall on single electrons; both are in electron."""
    return (readnoise >= _SMOOTH) | (signal > _MANY)


def count(bad, n):
    """Return the number of good exposures of n: int16 (ny, nx), or n if bad is None."""
    return n if bad is None else n - bad.sum(axis=0, dtype=np.int16)


def without(plane, bad, fill):
    """Return a plane (ny, nx) whose bad values are replaced by a number."""
    if bad is None or not bad.any():
        return plane
    return np.where(bad, plane.dtype.type(fill), plane)


def thinned(arrays, use, parts, step):
    """Return every step-th value of arrays where ``use(part)`` is True, in parts."""
    start, found = 0, [[] for _ in arrays]
    for part in parts:
        places = np.flatnonzero(use(part))
        for values, array in zip(found, arrays, strict=True):
            values.append(array[part].ravel()[places[-start % step :: step]])
        start += len(places)
    return [np.concatenate(values) for values in found]


def _planes(stack, bad, fill):
    return [
        without(plane, None if bad is None else bad[i], fill)
        for i, plane in enumerate(stack)
    ]


def lowest(stack, bad=None):
    """Return the minimum over the first axis (inf where all are bad) and its index."""
    first, *others = _planes(stack, bad, np.inf)
    value = first.copy()
    index = np.zeros(value.shape, dtype=np.int16)
    for i, plane in enumerate(others, start=1):
        lower = plane < value
        np.copyto(value, plane, where=lower)
        np.copyto(index, i, where=lower)
    return value, index


def mean(stack, bad=None, weights=None):
    """Return the weighted mean of good exposures (n, ...), NaN where all are bad."""
    total, norm = None, 0.0
    for i, plane in enumerate(_planes(stack, bad, 0)):
        weight = 1.0 if weights is None else weights[i]
        if weights is not None:
            plane = np.multiply(plane, weight, dtype=np.float64)  # noqa: PLW2901
        if total is None:
            total = plane.astype(np.float64)
        else:
            total += plane
        norm = norm + (weight if bad is None else weight * ~bad[i])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.divide(total, norm, out=total)


def median(stack, bad=None):
    """Return the median of good exposures (n, ...); NaN where all are bad."""
    some = None if bad is None else bad.any(axis=0)
    if some is not None and some.all():
        return _counted_median(stack, bad)
    with np.errstate(invalid="ignore", over="ignore"):  # bad values may be anything
        value = _dense_median(stack)
    if some is not None and some.any():
        # Few pixels have a bad exposure: only these need counting.
        value[some] = _counted_median(stack[:, some], bad[:, some])
    return value


def above_others(values):
    """Return values (n, ...) above the median of others; NaN are ignored."""
    order = np.argsort(values, axis=0)  # NaN are last
    ordered, rank = np.take_along_axis(values, order, 0), np.argsort(order, axis=0)
    others = (~np.isnan(values)).sum(axis=0) - 1
    low, high = (
        np.take_along_axis(ordered, np.minimum(k + (k >= rank), len(values) - 1), 0)
        for k in (np.maximum(others - 1, 0) // 2, others // 2)
    )
    return values - (low + high) / 2


def _dense_median(planes):
    n = len(planes)
    low, high = (n - 1) // 2, n // 2
    if n > _MOST:
        return _general_median(np.asarray(planes), low, high)
    ordered = _apply(_network(n, (low, high)), planes)
    # Adding 0 makes the sign of a zero independent of the order.
    return ordered[low] + 0 if low == high else _middle(ordered[low], ordered[high])


def _general_median(stack, low, high):
    if bottleneck is not None:
        return bottleneck.median(stack, axis=0) + stack.dtype.type(0)
    ordered = np.partition(stack, (low, high), axis=0)
    return ordered[low] + 0 if low == high else _middle(ordered[low], ordered[high])


def _counted_median(columns, bad):
    n = len(columns)
    filled = np.where(bad, columns.dtype.type(np.inf), columns)
    if n > _MOST:
        ordered = np.sort(filled, axis=0)
    else:
        ordered = np.stack(_apply(_network(n, tuple(range(n))), filled))
    good = count(bad, n)
    middle = [
        np.take_along_axis(ordered, rank[np.newaxis].astype(np.intp), axis=0)[0]
        for rank in (np.maximum(good - 1, 0) // 2, np.minimum(good // 2, n - 1))
    ]
    value = np.where(middle[0] == middle[1], middle[0] + 0, _middle(*middle))
    return np.where(good == 0, np.nan, value).astype(columns.dtype)


def _middle(low, high):
    return (low + high) * low.dtype.type(0.5) + 0


def _apply(network, planes):
    """Return the planes in order, as far as the network sorts them."""
    planes = list(planes)
    for i, j, lower, upper in network:
        first, second = planes[i], planes[j]
        planes[i] = np.minimum(first, second) if lower else None
        planes[j] = np.maximum(first, second) if upper else None
    return planes


@lru_cache(maxsize=128)
def _network(n, ranks):
    """
    Return the steps (i, j, minimum is needed, maximum is needed) that sort n planes.

    Steps that the wanted ranks do not need are left out.
    References: D. E. Knuth, TAOCP 3, 5.2.2 M (merge exchange).
    """
    needed, network = set(ranks), []
    for i, j in reversed(list(_exchanges(n))):
        if needed & {i, j}:
            network.append((i, j, i in needed, j in needed))
            needed |= {i, j}
    return network[::-1]


def _exchanges(n):
    top = 1 << max((n - 1).bit_length() - 1, 0)
    p = top
    while p:
        q, r, d = top, 0, p
        while d > 0:
            yield from ((i, i + d) for i in range(n - d) if i & p == r)
            d, q, r = q - p, q >> 1, p
        p >>= 1


def multiply(first, second):
    """
    Return the product of matrices (..., k, m) and (m, n), in parts.

    Of a large one the threads would wait for a processor that ours are using.
    """
    k, m = first.shape[-2:]
    step = max(_OF_ONE_THREAD // (k * m), 1)
    shape, kind = (*first.shape[:-1], second.shape[1]), np.result_type(first, second)
    result = np.empty(shape, dtype=kind)
    for start in range(0, second.shape[1], step):
        part = np.s_[..., start : start + step]
        np.matmul(first, second[part], out=result[part])
    return result


def chance_of_all(chances):
    """Return the probability that all of some independent events happen."""
    return float(np.prod(chances))


def chance_of_half(chances):
    """Return the probability that half of some independent events or more happen."""
    counts = np.ones(1)
    for chance in chances:
        counts = np.convolve(counts, [1 - chance, chance])
    return float(counts[(len(chances) + 1) // 2 :].sum())


@lru_cache(maxsize=128)
def median_factor(n):
    """
    Return sd(median) / sd(mean) of n independent equal Gaussian values.

    The densities of the middle order statistics are integrated on a grid; above
    n = 100 an expansion in 1 / n up to the second term is right to 1e-4.
    References: H. A. David, H. N. Nagaraja, Order Statistics, 3rd ed., chapter 2.
    """
    if n < 3:
        return 1.0
    even = n % 2 == 0
    if n > 100:
        return float(np.sqrt(np.pi / 2 / (1 + (2 + even - np.pi / 2) / n)))
    return float(np.sqrt(n * _variance_of_median(n, even)))


def _variance_of_median(n, even):
    x, step = np.linspace(-9, 9, 3601, retstep=True)
    # Densities up to a factor: the last step divides by their integral.
    power = (2 * stats.norm.cdf(x)) ** ((n - 1) // 2)
    lower, upper = power * stats.norm.pdf(x), power[::-1] * stats.norm.pdf(x)
    if not even:
        weight = power[::-1] * lower
        return np.sum(weight * x**2) / np.sum(weight)
    zeroth, first, second = (_integral_above(x**k * upper, step) for k in range(3))
    square = x**2 * zeroth + 2 * x * first + second
    return np.sum(lower * square) / np.sum(lower * zeroth) / 4


def _integral_above(values, step):
    """Return the integral from each grid point to the end."""
    return (np.cumsum(values[::-1])[::-1] - values / 2) * step
