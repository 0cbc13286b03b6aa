# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Criteria of the Median-Minimum method with the exact boundary."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ccdcr.median_minimum.criteria import (
    Criterion,
    compute_limit,
    find_candidates,
    least_excess,
)
from ccdcr.median_minimum.exact_boundary import judge_noise_model
from ccdcr.median_minimum.exact_statistics import (
    Compared,
    EqualExposures,
    compared_planes,
    describe_exposures,
    find_rank,
    hit_fraction,
    lowest_used,
)
from ccdcr.median_minimum.order_statistics import Given, GivenIndex, Ordered
from ccdcr.median_minimum.prior import find_prior, make_histogram, make_surfaces
from ccdcr.median_minimum.simulated_boundary import N_BINS, Diagram, count_cells
from ccdcr.utils.neighbours import dilate
from ccdcr.utils.planes import make_planes, scaled

__all__ = ["make_exact_criteria", "make_exact_diagram"]

COINCIDENCE, ANY, GIVEN = "coincidence", "any exposure", "given exposure"
_MOST_LENIENT = 1e-3  # p-value of a given exposure next to hits
_CLASSES = 8  # of read noise, at most
_FEW = 1000  # pixels; smaller images get no larger p-value


def make_exact_criteria(observed, settings, found):
    """
    Return the criteria by name of the mask, and a `NoiseReport` or None.

    A map of the read noise is cut into classes with boundaries of their own; those of
    the largest class are kept. CRMASKi counts only next to MEANCRT: its p-value may be
    larger for the same number of false pixels.
    """
    readnoise = observed.detector.readnoise_map
    if readnoise is None:
        return _derive_criteria(observed, settings, found)
    results = []
    for value, inside in readnoise_classes(readnoise):
        detector = replace(observed.detector, readnoise=value, readnoise_map=None)
        part = replace(observed, detector=detector)
        results.append((inside, *_derive_criteria(part, settings, found, inside)))
    return _merged(results)


def readnoise_classes(readnoise):
    """Return RMS read noise and mask (ny, nx) of each class of 5 %, at most 8."""
    safe = np.maximum(readnoise, 0.1)
    low, high = np.log(safe.min()), np.log(safe.max())
    n = int(np.clip(np.ceil((high - low) / np.log(1.05)), 1, _CLASSES))
    edges = np.linspace(low, high, n + 1)[1:-1]
    index = np.digitize(np.log(safe), edges)
    masks = [index == i for i in range(n)]
    return [
        (float(np.sqrt(np.mean(np.square(readnoise[mask], dtype=float)))), mask)
        for mask in masks
        if mask.any()
    ]


def _merged(results):
    """Return the criteria of all classes of pixels, and the report of the largest."""
    results = sorted(results, key=lambda part: -np.count_nonzero(part[0]))
    results = [part for part in results if part[1]]
    if not results:
        return {}, None
    (_, first, report), *others = results
    merged = {}
    for name, criterion in first.items():
        limit, candidates = criterion.limit.copy(), criterion.candidates.copy()
        for inside, criteria, _ in others:
            np.copyto(limit, criteria[name].limit, where=inside)
            np.copyto(candidates, criteria[name].candidates, where=inside)
        merged[name] = replace(criterion, limit=limit, candidates=candidates)
    return merged, report


def _derive_criteria(observed, settings, found, inside=None):
    """Return criteria and report for the pixels ``inside``, or all if that is None."""
    scene = _observe_scene(observed, settings, inside)
    if scene is None:
        return {}, None
    wanted = settings.mm_false_positives
    p_value = min(wanted / max(scene.n_pixels, _FEW), 0.5)
    compared, names = scene.compared, observed.names
    candidates = find_candidates(observed, settings)
    threshold = least_excess(settings, observed.detector)
    make = partial(_criterion, scene, (settings, candidates, threshold))
    median = make(COINCIDENCE, p_value, compared.ordered, diagram=True)
    highest = make(ANY, p_value, compared.highest, diagram=True)
    near = _neighbourhood((median, highest), found, inside)
    near_p = max(p_value, min(p_value * scene.n_inside / max(near, 1), _MOST_LENIENT))
    criteria = {"MEDIANCR": median, "MEANCRT": highest}
    criteria["MEANCR"] = replace(median, statistic=None)
    if scene.equal:
        given = make(GIVEN, near_p, None)
        criteria |= {
            name: replace(given, statistic=plane)
            for name, plane in zip(names, scene.stack, strict=True)
        }
    else:
        for i, name in enumerate(names):
            criteria[name] = make(f"{GIVEN} {i + 1}", near_p, scene.stack[i])
    return criteria, judge_noise_model(scene, median)


def _criterion(scene, common, name, p_value, statistic, *, diagram=False):
    settings, candidates, threshold = common
    reference = scene.compared.reference
    boundary = scene.boundary(name, p_value)
    counted = None
    if diagram:
        excess = statistic - reference
        counted = make_exact_diagram(
            reference, excess, scene.use, boundary, settings.mm_ydiag_max
        )
    return Criterion(
        reference,
        compute_limit(reference, boundary, threshold, scene.compared.number),
        candidates,
        threshold,
        settings.mm_dilation,
        boundary,
        counted,
        statistic,
    )


@dataclass(frozen=True)
class _Scene:
    """
    Exposures at one level, and what their boundaries need.

    ``stack`` is (n, ny, nx), ``use`` (ny, nx) the pixels that the prior describes
    (None = all), ``n_pixels`` the number that can be flagged, ``n_inside`` that of the
    criteria, ``step`` that of rounded values. ``surfaces`` holds the `Surfaces` of most
    pixels, then those of other numbers of good exposures.
    """

    stack: np.ndarray
    compared: Compared
    use: np.ndarray | None
    n_pixels: int
    n_inside: int
    prior: object
    surfaces: tuple
    step: float

    @property
    def exposures(self):
        """The exposures of most pixels."""
        return self.surfaces[0].exposures

    @property
    def equal(self):
        """Whether the exposures are equal."""
        return isinstance(self.exposures, EqualExposures)

    def boundary(self, name, p_value):
        """Return the boundary of a statistic, with those of fewer exposures."""
        first, *fewer = (
            surfaces.boundary(name if name in surfaces.exceeding else GIVEN, p_value)
            for surfaces in self.surfaces
        )
        return replace(first, fewer=tuple(fewer))


def _observe_scene(observed, settings, inside):
    stack, bad = scaled(observed.stack, observed.factors), observed.bad
    step = _find_step(observed.stack, observed.bad)
    exposures = _describe(observed, settings, step)
    k = settings.mm_cr_coincidences
    planes = observed.planes
    if stack is not observed.stack:
        planes = make_planes(stack, bad)
    equal = isinstance(exposures, EqualExposures)
    compared = compared_planes(stack, bad, planes, k, equal=equal)
    use, numbers, n_pixels, n_inside = _usable(compared, inside)
    if numbers and numbers[0] != exposures.n:
        exposures = exposures.as_equal(numbers[0])
    if not numbers:
        return None
    exposures = replace(exposures, hit=hit_fraction(compared, exposures, use))
    prior = find_prior(make_histogram(compared.minimum, use, exposures), exposures)
    parts = [(exposures, prior)]
    parts += [exposures.fewer(n, prior) for n in numbers[1:]]
    surfaces = [_surfaces(*part, k, equal=equal) for part in parts]
    return _Scene(
        stack, compared, use, n_pixels, n_inside, prior, tuple(surfaces), step
    )


def _describe(observed, settings, step):
    factors = np.ones(len(observed.stack))
    if observed.exposed is not None:
        factors = np.asarray(observed.exposed, dtype=float)
    is_poisson = settings.mm_photon_distribution == "poisson"
    return describe_exposures(
        observed.detector,
        factors,
        np.inf if is_poisson else settings.mm_nbinom_shape,
        step,
    )


def _usable(compared, inside):
    """Return pixels of the prior, numbers of good exposures, n_pixels and n_inside."""
    if compared.number is None:
        size = compared.minimum.size
        n_inside = size if inside is None else np.count_nonzero(inside)
        return inside, [compared.n], size, n_inside
    number = compared.number
    some = number[inside] if inside is not None else number.ravel()
    counts = np.bincount(some, minlength=3)[2:]
    order = np.argsort(-counts, kind="stable")
    numbers = [int(n) + 2 for n in order if counts[n]]
    use = number == numbers[0] if numbers else None
    if use is not None and inside is not None:
        use &= inside
    n_pixels = int(np.count_nonzero(number >= 2))
    return use, numbers, n_pixels, int(counts.sum())


def _find_step(stack, bad):
    """Return the step of rounded values: 1 if all are whole numbers, else 0."""
    some = slice(64)
    for i, plane in enumerate(stack):
        values = plane[some] if bad is None else plane[some][~bad[i][some]]
        if np.any(values != np.rint(values)):
            return 0.0
    return 1.0


def _surfaces(exposures, prior, coincidences, *, equal):
    n = exposures.n
    statistics = {COINCIDENCE: Ordered(find_rank(n, coincidences)), ANY: Ordered(n)}
    if isinstance(exposures, EqualExposures):
        statistics[GIVEN] = Given(n)
    else:
        statistics |= {f"{GIVEN} {i + 1}": GivenIndex(i) for i in range(n)}
    lowest = lowest_used(n, coincidences, equal=equal)
    return make_surfaces(prior, exposures, lowest, statistics)


def _neighbourhood(criteria, found, inside):
    """Return about the number of pixels of MEANCRT."""
    # As with one dilation whatever ``dilation`` is: masks must grow with it.
    hit = criteria[0](None) | criteria[1](None)
    for name in ("MEDIANCR", "MEANCRT"):
        hit |= found.mask(name, hit.shape)
    if inside is not None:
        hit &= inside
    return np.count_nonzero(dilate(hit, 2))


def make_exact_diagram(x, y, use, boundary, top=0):
    """Return the `Diagram` of x and y (ny, nx) where ``use``; simulated = expected."""
    if use is not None:
        x, y = x[use], y[use]
    low, high = float(x.min()), float(x.max())
    top = top or 2 * float(boundary(np.array([low, high])).max())
    edges = np.linspace(low, high, N_BINS + 1), np.linspace(0, top, N_BINS + 1)
    observed = count_cells(x.ravel(), y.ravel(), edges)
    centres = (edges[0][1:] + edges[0][:-1]) / 2
    above = boundary.survival(centres[:, np.newaxis], edges[1])
    pixels = np.histogram(x, edges[0])[0]
    expected = pixels[:, np.newaxis] * -np.diff(above, axis=1)
    return Diagram(*edges, expected, observed)
