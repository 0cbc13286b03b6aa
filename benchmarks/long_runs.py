# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Detect and combine many times in one process; memory must not grow.

    python benchmarks/long_runs.py --detections 500
"""

import argparse
import gc
from pathlib import Path

from astropy import log

from ccdcr import combine, detect_cosmic_rays
from ccdcr.simulation import simulate_exposures

_METHODS = ("matched", "mm_lacosmic", "mmcosmic", "lacosmic")
_PAGE = 4096


def _memory():
    """Return the resident memory in MB."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE / 1e6


def main():
    """Print the memory now and then."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--detections", type=int, default=500)
    parser.add_argument("--size", type=int, default=128)
    options = parser.parse_args()
    log.setLevel("ERROR")
    known = {"gain": 1.0, "readnoise": 3.0, "la_verbose": False}
    for number in range(1, options.detections + 1):
        shape = (options.size, options.size)
        exposures = simulate_exposures(shape, seed=number % 20).exposures
        method = _METHODS[number % len(_METHODS)]
        masks = detect_cosmic_rays(exposures, **known, crmethod=method)
        combine(exposures, crmasks=masks)
        if number % (options.detections // 10 or 1) == 0:
            print(f"{number:5d} detections, {_memory():6.1f} MB", flush=True)


if __name__ == "__main__":
    main()
