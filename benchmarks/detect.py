# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Time and memory of the detection after matching, beside astroscrappy and numina.

    python benchmarks/detect.py --sizes 1024 2048 --exposures 3 5 --mem-limits 1e8
    python benchmarks/detect.py --numina /path/to/python-with-numina

The programs take turns on the same simulated exposures, and the least wall time of
each is printed: astroscrappy is called once for each exposure, with its defaults.
numina runs in its own Python, once, with the defaults of its recipe; its time is that
of the detection, without the start of Python.
Memory is the largest that Python allocates during a detection beside the exposures,
in float32 stacks of them. With limits, detections from files are run in processes of
their own, and the resident memory beside packages and returned masks is printed.
"""

import argparse
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
from accuracy import NUMINA
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


_START = "import time; start = time.perf_counter()\nmasks = "


def numina_seconds(exposures, python):
    """Return the wall time of numina."""
    with tempfile.TemporaryDirectory() as folder:
        given, output = Path(folder, "data.npz"), Path(folder, "masks.fits")
        np.savez(given, data=np.stack([ccd.data for ccd in exposures]))
        code = NUMINA.replace("masks = ", _START)
        code += "\nprint(time.perf_counter() - start, file=sys.__stdout__)"
        command = map(str, [python, "-c", code, given, output, GAIN, READNOISE])
        told = subprocess.run(list(command), check=True, capture_output=True, text=True)
    return float(told.stdout.split()[-1])


def peak_in_stacks(exposures):
    """Return the largest memory of a detection in stacks of the exposures."""
    tracemalloc.start()
    detect(exposures)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / sum(ccd.data.nbytes for ccd in exposures)


def resident(name):
    """Return a figure of the memory of this process, in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) * 1024 for x in lines if x.startswith(f"{name}:"))


def measure_limited(limit, files):
    """Print the memory and the CPU time of a detection from files, under a limit."""
    small = [CCDData(np.eye(100, dtype=np.float32), unit="electron")] * 2
    detect(small)  # imports all
    before, start = resident("VmRSS"), time.process_time()
    given = {"gain": GAIN, "readnoise": READNOISE, "mem_limit": limit}
    masks = detect_cosmic_rays(files, **given)
    seconds = time.process_time() - start
    planes = [masks.mediancr, masks.meancrt, masks.meancr, masks.crmasks]
    arrays = planes + [np.asarray(c) for c in masks.expected.columns.values()]
    peak = resident("VmHWM") - before - sum(array.nbytes for array in arrays)
    print(f"   limit {limit / 1e6:.0f} MB: {peak / 1e6:.0f} MB, {seconds:.1f} s CPU")


def compare_limits(exposures, limits):
    """Measure detections under limits, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder, f"{i}.fits")) for i in range(len(exposures))]
        for file, ccd in zip(files, exposures, strict=True):
            ccd.write(file)
        for limit in limits:
            command = [sys.executable, __file__, "--measure", str(limit), *files]
            subprocess.run(command, check=True)


def main():
    """Print a table of time and memory, and the stages of the last detection."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--scenes", nargs="+", default=["fibres", "stars"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[1024])
    parser.add_argument("--exposures", nargs="+", type=int, default=[3])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--mem-limits", nargs="+", type=float, default=[])
    parser.add_argument("--numina", metavar="PYTHON")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    log.setLevel("ERROR")
    warnings.simplefilter("ignore")
    if options.measure:
        measure_limited(float(options.measure[0]), options.measure[1:])
        return
    print("scene     n  size  matched  astroscrappy  ratio  stacks   numina")
    for scene in options.scenes:
        for size in options.sizes:
            for n in options.exposures:
                compare(scene, n, size, options)


def compare(scene, n, size, options):
    """Print time and memory for one set of exposures, and the time of each stage."""
    exposures = simulate(scene, n, size)
    times = []
    for _ in range(options.repeat):
        ours, masks = seconds(detect, exposures)
        times.append((ours, seconds(detect_each, exposures)[0]))
    ours, theirs = np.min(times, axis=0)
    stacks, other = peak_in_stacks(exposures), "-"
    if options.numina and n > 2:
        other = f"{numina_seconds(exposures, options.numina):.1f}s"
    print(
        f"{scene:8} {n:2} {size:5} {ours:7.2f}s {theirs:12.2f}s "
        f"{ours / theirs:6.2f} {stacks:7.1f} {other:>8}",
        flush=True,
    )
    stages = masks.diagnostics.timing.items()
    print("  ", ", ".join(f"{name} {value:.2f}" for name, value in stages), flush=True)
    compare_limits(exposures, options.mem_limits)


if __name__ == "__main__":
    main()
