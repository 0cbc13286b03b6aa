# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Calibrate the computed Median-Minimum boundary by brute-force simulation.

    python benchmarks/boundary.py --images 10

The boundary comes from one noisy set of exposures and is applied to fresh ones.
Printed is the number of pixels found above it over that requested. Then time and
memory of the computation are measured.
"""

import argparse
import time
import tracemalloc
from dataclasses import dataclass, replace

import numpy as np

from ccdcr.exposures import CCDParameters
from ccdcr.median_minimum.exact_criteria import find_rank
from ccdcr.median_minimum.exact_statistics import (
    compared_planes,
    describe_exposures,
    hit_fraction,
    lowest_used,
)
from ccdcr.median_minimum.order_statistics import Given, Ordered
from ccdcr.median_minimum.prior import find_prior, make_histogram, make_surfaces
from ccdcr.simulation import simulate_exposures
from ccdcr.utils.planes import make_planes

REQUESTED = (1, 10, 100)  # pixels of an image
SOUGHT = 2  # hits in a pixel
CHARGE = 1000.0  # electrons of a hit, at least


@dataclass(frozen=True)
class Case:
    """One row: a scene, its brightest pixel in electrons, and the exposures."""

    scene: str
    brightest: float
    n: int
    gain: float = 1.0
    readnoise: float = 3.0
    shape: float = np.inf  # of a negative binomial distribution
    hits: float = 0.0  # fraction of the pixels of an exposure

    def __str__(self):
        photons = "Poisson" if np.isinf(self.shape) else f"nbinom {self.shape:g}"
        return (
            f"{self.scene:9}{self.brightest:8.0f}{self.n:3}{self.gain:6.1f}"
            f"{self.readnoise:6.1f}  {photons:11}{1000 * self.hits:5.1f}"
        )


CASES = (
    Case("fibres", 13000, 3),
    Case("stars", 50000, 3, 2.0, 1.5),
    Case("longslit", 1600, 3, 1.0, 0.5),
    Case("longslit", 1600, 3, 2.0, 12.0),
    Case("fibres", 13000, 3, 1.0, 12.0),
    Case("flat", 100, 3, 2.0, 1.5),
    Case("dark", 0, 3),
    Case("fibres", 13000, 3, shape=20.0),
    Case("fibres", 13000, 3, hits=1e-3),
    Case("stars", 50000, 3, 2.0, 1.5, hits=1e-3),
    Case("fibres", 13000, 4),
    Case("stars", 50000, 4, 2.0, 1.5),
    Case("longslit", 1600, 4, 1.0, 0.5),
    Case("fibres", 13000, 4, hits=1e-3),
    Case("fibres", 13000, 5),
    Case("stars", 50000, 5, 2.0, 1.5),
    Case("longslit", 1600, 5, 1.0, 0.5),
    Case("flat", 100, 5),
    Case("fibres", 13000, 5, shape=20.0),
    Case("fibres", 13000, 5, hits=1e-3),
    Case("fibres", 13000, 7),
    Case("stars", 50000, 7, 2.0, 1.5),
    Case("longslit", 1600, 7, 1.0, 12.0),
    Case("fibres", 13000, 7, hits=1e-3),
)


def main(args=None):
    """Run the calibration and the timing, and print them."""
    options = _parser().parse_args(args)
    if not options.no_calibration:
        _calibrate(options)
    if not options.no_timing:
        for size in options.time_sizes:
            _time(size, options.seed)
    return 0


def _parser():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--images", type=int, default=10, help="fresh sets of a case")
    parser.add_argument("--scenes", nargs="+", help="such as fibres stars; all")
    parser.add_argument("--exposures", nargs="+", type=int, help="such as 3 5; all")
    parser.add_argument("--size", type=int, default=1024, help="pixels of a side")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-calibration", action="store_true")
    parser.add_argument("--no-timing", action="store_true")
    parser.add_argument("--time-sizes", nargs="+", type=int, default=[1024, 4096])
    return parser


def _calibrate(options):
    print(
        "scene        max  N  gain    RN  photons      hits  statistic"
        + "".join(f"{wanted:>16}" for wanted in REQUESTED)
    )
    pooled = {}
    for case in CASES:
        if options.scenes and case.scene not in options.scenes:
            continue
        if options.exposures and case.n not in options.exposures:
            continue
        rng = np.random.default_rng([options.seed, CASES.index(case)])
        truth = _truth(case, options)
        for name, found in _false_pixels(case, truth, options.images, rng).items():
            pooled[name] = pooled.get(name, 0) + np.append(found, options.images)
            print(f"{case}  {name:9}" + _ratios(found, options.images), flush=True)
    for name, (*found, images) in pooled.items():
        print(f"{'pooled':50}  {name:9}" + _ratios(found, images))


def _ratios(found, images):
    """Print found / requested with its error from Poisson's law."""
    cells = []
    for number, wanted in zip(found, REQUESTED, strict=True):
        expected = wanted * images
        cells.append(f"{number / expected:8.3f} +- {expected**-0.5:.3f}")
    return "".join(f"{cell:>16}" for cell in cells)


def _truth(case, options):
    """Return the expected image in electrons."""
    shape = (options.size, options.size)
    if case.scene == "dark":
        return np.zeros(shape)
    if case.scene == "flat":
        return np.full(shape, float(case.brightest))
    sim = simulate_exposures(shape, scene=case.scene, seed=options.seed, gain=1.0)
    truth = np.maximum(sim.truth, 0).astype(float)
    return truth * (case.brightest / truth.max())


def _draw(case, truth, rng):
    """Return exposures in adu, and which pixels are hit."""
    shape = (case.n, *truth.shape)
    if np.isinf(case.shape):
        photons = rng.poisson(truth, shape)
    else:
        photons = rng.negative_binomial(
            case.shape, case.shape / (case.shape + truth), shape
        )
    stack = photons + rng.normal(0, case.readnoise, shape)
    hit = rng.random(shape, dtype=np.float32) < case.hits
    noise = np.sqrt(truth + case.readnoise**2)
    stack += hit * (CHARGE + 20 * noise)
    return (stack / case.gain).astype(np.float32), hit


def _describe(case):
    detector = CCDParameters(case.gain, case.readnoise, 0.0)
    return describe_exposures(detector, np.ones(case.n), case.shape)


def _statistics(n):
    """Return what the masks compare, by name."""
    return {
        "median": Ordered(find_rank(n, SOUGHT)),
        "any": Ordered(n),
        "given": Given(n),
    }


def _surfaces(compared, exposures):
    """Return what exposures say about the densities."""
    hit = float(hit_fraction(compared, exposures, None))
    exposures = replace(exposures, hit=hit)
    prior = find_prior(make_histogram(compared.minimum, None, exposures), exposures)
    lowest = lowest_used(exposures.n, SOUGHT)
    return make_surfaces(prior, exposures, lowest, _statistics(exposures.n))


def _false_pixels(case, truth, images, rng):
    """Return the numbers above the boundaries that fewer hits do not explain."""
    stack, _ = _draw(case, truth, rng)
    compared = compared_planes(stack, None, make_planes(stack), SOUGHT)
    surfaces = _surfaces(compared, _describe(case))
    names = list(_statistics(case.n))
    boundaries = {
        name: [surfaces.boundary(name, wanted / truth.size) for wanted in REQUESTED]
        for name in names
    }
    found = {name: np.zeros(len(REQUESTED)) for name in names}
    for _ in range(images):
        stack, hit = _draw(case, truth, rng)
        number = hit.sum(axis=0)
        compared = compared_planes(stack, None, make_planes(stack), SOUGHT)
        x = compared.reference
        needed = case.n + 1 - find_rank(case.n, SOUGHT)
        for name, values, clean in (
            ("median", compared.ordered, number < needed),
            ("any", compared.highest, number == 0),
            ("given", stack[0], ~hit[0]),
        ):
            for i, boundary in enumerate(boundaries[name]):
                above = values - x > boundary(x)
                found[name][i] += np.count_nonzero(above & clean)
    return found


def _time(size, seed):
    """Time the three boundaries of one set of exposures, and watch the memory."""
    for scene, n in (("fibres", 3), ("stars", 3), ("fibres", 4), ("stars", 5)):
        case = Case(scene, 50000.0, n)
        sim = simulate_exposures((1024, 1024), scene=scene, seed=seed, gain=1.0)
        truth = np.tile(sim.truth, (size // 1024, size // 1024))
        truth *= case.brightest / truth.max()
        rng = np.random.default_rng(seed)
        one = replace(case, n=1)
        stack = np.concatenate([_draw(one, truth, rng)[0] for _ in range(n)])
        compared = compared_planes(stack, None, make_planes(stack), SOUGHT)
        del stack, truth
        seconds, peak = _measure(compared, case)
        print(
            f"{size**2 / 1e6:5.1f} Mpixel, {scene} to 50000 e, N = {n}: "
            f"{seconds:.2f} s CPU, {peak:.0f} MB",
            flush=True,
        )


def _measure(compared, case):
    """Return seconds of the CPU, and the largest memory in MB above the input."""

    def boundaries():
        surfaces = _surfaces(compared, _describe(case))
        return [surfaces.boundary(name, 1e-6) for name in surfaces.exceeding]

    start = time.process_time()
    boundaries()
    seconds = time.process_time() - start
    tracemalloc.start()
    boundaries()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return seconds, peak


if __name__ == "__main__":
    raise SystemExit(main())
