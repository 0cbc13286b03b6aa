# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Time and memory of the detection after matching, beside astroscrappy.

    python benchmarks/detect.py --sizes 1024 2048 --exposures 3 5

The programs take turns on the same simulated exposures, and the least wall time of
each is printed: astroscrappy is called once for each exposure, with its defaults.
Memory is the largest that Python allocates during a detection beside the exposures,
in float32 stacks of them.
"""

import argparse
import time
import tracemalloc
import warnings

import numpy as np
from astropy import log
from astropy.nddata import CCDData
from astroscrappy import detect_cosmics

from ccdcr import detect_cosmic_rays
from ccdcr.simulation import simulate_exposures

GAIN, READNOISE = 1.0, 3.0


def simulate(scene, n, size):
    """Return simulated exposures (float32, electron)."""
    sim = simulate_exposures((size, size), n_exposures=n, scene=scene, seed=1)
    return [CCDData(c.data.astype(np.float32), unit="electron") for c in sim.exposures]


def seconds(function, *args):
    """Return the wall time of a call, and its result."""
    start = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - start, result


def detect(exposures):
    """Return the masks of exposures after matching."""
    return detect_cosmic_rays(exposures, gain=GAIN, readnoise=READNOISE)


def detect_each(exposures):
    """Return the masks of astroscrappy, one exposure after the other."""
    return [
        detect_cosmics(ccd.data, gain=GAIN, readnoise=READNOISE)[0] for ccd in exposures
    ]


def peak_in_stacks(exposures):
    """Return the largest memory of a detection in stacks of the exposures."""
    tracemalloc.start()
    detect(exposures)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / sum(ccd.data.nbytes for ccd in exposures)


def main():
    """Print a table of time and memory, and the stages of the last detection."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--scenes", nargs="+", default=["fibres", "stars"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[1024])
    parser.add_argument("--exposures", nargs="+", type=int, default=[3])
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    log.setLevel("ERROR")
    warnings.simplefilter("ignore")
    print("scene     n  size  matched  astroscrappy  ratio  stacks")
    for scene in options.scenes:
        for size in options.sizes:
            for n in options.exposures:
                compare(scene, n, size, options.repeat)


def compare(scene, n, size, repeat):
    """Print time and memory for one set of exposures, and the time of each stage."""
    exposures = simulate(scene, n, size)
    times = []
    for _ in range(repeat):
        ours, masks = seconds(detect, exposures)
        times.append((ours, seconds(detect_each, exposures)[0]))
    ours, theirs = np.min(times, axis=0)
    stacks = peak_in_stacks(exposures)
    print(
        f"{scene:8} {n:2} {size:5} {ours:7.2f}s {theirs:12.2f}s "
        f"{ours / theirs:6.2f} {stacks:7.1f}",
        flush=True,
    )
    stages = masks.diagnostics.timing.items()
    print("  ", ", ".join(f"{name} {value:.2f}" for name, value in stages), flush=True)


if __name__ == "__main__":
    main()
