# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Time the combinations of ccdcr, ccdproc and numina on the same exposures.

    python benchmarks/combine.py --numina /path/to/python-with-numina

The programs take turns and medians are printed, for float32 exposures with
masks. The floor is a plain copy of the stack into new memory. numina runs in a
Python of its own and applies the same masks.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

METHODS = ("mediancr", "meancrt", "meancr")
UNCERTAINTIES = {"": "propagate", " without uncertainty": None}

_NUMINA = """
import inspect, json, logging, os, sys, tempfile, time, warnings
warnings.simplefilter("ignore")
import numpy as np
from astropy.io import fits
from numina.array.crmasks.apply_crmasks import apply_crmasks
folder, methods = sys.argv[1], sys.argv[2].split(",")
data = list(np.load(os.path.join(folder, "data.npy")))
masks = fits.open(os.path.join(folder, "crmasks.fits"), memmap=False)
for hdu in masks:
    hdu.data  # read before the time is taken
known = inspect.signature(apply_crmasks).parameters
name = "use_lamedian" if "use_lamedian" in known else "use_auxmedian"
os.chdir(tempfile.mkdtemp())
real, sys.stdout = sys.stdout, open(os.devnull, "w")
result = {}
for method in methods:
    start = time.perf_counter()
    apply_crmasks(data, masks, combination=method, apply_flux_factor=False,
                  bias=0.0, **{name: False})
    result[method] = time.perf_counter() - start
print(json.dumps(result), file=real)
"""

_PEAK = """
import sys
import numpy as np
from astropy.nddata import CCDData
from ccdcr import CRCombiner, CRMaskSet
def status(name):
    with open("/proc/self/status") as file:
        return next(int(l.split()[1]) for l in file if l.startswith(name)) * 1024
folder, method = sys.argv[1:]
start = status("VmRSS")
data, bad = (np.load(f"{folder}/{name}.npy") for name in ("data", "bad"))
ccds = [CCDData(d, unit="adu", mask=b) for d, b in zip(data, bad)]
masks = np.load(f"{folder}/masks.npz")
masks = CRMaskSet(**masks, gain=1.0, readnoise=3.0)
inputs = status("VmRSS") - start
result = getattr(CRCombiner(ccds, masks, dtype="float32"), method + "_combine")()
print((status("VmHWM") - start) / 1e6, inputs / 1e6)
"""


def main(args=None):
    """Run the comparison and print it."""
    options = _parser().parse_args(args)
    data, bad, crmasks = _simulate(options)
    inputs = _inputs(data, bad, crmasks)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        _save(Path(folder), data, bad, inputs["masks"])
        programs = _programs(options, data, folder, **inputs)
        runs = {name: [] for name in programs}
        for _ in range(options.repeat):
            for name, program in programs.items():
                runs[name].append(program())
        _print_times(options, runs)
        _print_peaks(data, bad, folder)
    return 0


def _parser():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--numina", action="append", default=[], metavar="PYTHON")
    parser.add_argument("--number", type=int, default=3)
    parser.add_argument("--shape", type=int, nargs=2, default=(4112, 4096))
    parser.add_argument("--hit", type=float, default=0.005, help="fraction per mask")
    parser.add_argument("--bad", type=float, default=0.001, help="fraction per mask")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--folder", help="for temporary files")
    return parser


def _simulate(options):
    """Return exposures, bad pixels, and pixels that are hit."""
    rng = np.random.default_rng(options.seed)
    shape = (options.number, *options.shape)
    data = rng.standard_normal(shape, dtype=np.float32)
    data *= 11
    data += 110
    masks = []
    for fraction in (options.bad, options.hit):
        mask = np.zeros(shape, dtype=bool)
        mask.ravel()[rng.integers(0, mask.size, int(fraction * mask.size))] = True
        masks.append(mask)
    data[masks[1]] += 500
    return data, *masks


def _inputs(data, bad, crmasks):
    from astropy.nddata import CCDData

    from ccdcr import CRMaskSet

    return {
        "ccds": [
            CCDData(plane, unit="adu", mask=mask)
            for plane, mask in zip(data, bad, strict=True)
        ],
        "masks": CRMaskSet(
            crmasks.sum(axis=0) > len(data) / 2,
            crmasks.any(axis=0),
            crmasks,
            gain=1.0,
            readnoise=3.0,
        ),
    }


def _save(folder, data, bad, masks):
    np.save(folder / "data.npy", data)
    np.save(folder / "bad.npy", bad)
    np.savez(
        folder / "masks.npz",
        mediancr=masks.mediancr,
        meancrt=masks.meancrt,
        crmasks=masks.crmasks,
    )
    masks.write(folder / "crmasks.fits")


def _programs(options, data, folder, *, ccds, masks):
    """Return functions that return the times of what they do, by name."""
    from ccdproc import Combiner

    from ccdcr import CRCombiner

    def ours(uncertainty):
        combiner = CRCombiner(ccds, masks, dtype="float32")
        return {
            method: _time(
                getattr(combiner, f"{method}_combine"), uncertainty=uncertainty
            )
            for method in METHODS
        }

    def theirs():
        combiner = Combiner(ccds, dtype="float32")
        names = ("median_combine", "average_combine")
        return {name: _time(getattr(combiner, name)) for name in names}

    programs = {"floor": lambda: {"copy": _time(data.copy)}}
    for text, uncertainty in UNCERTAINTIES.items():
        programs[f"ccdcr{text}"] = lambda u=uncertainty: ours(u)
    programs["ccdproc"] = theirs
    for python in options.numina:
        programs[f"numina {_version(python)}"] = lambda p=python: _numina(p, folder)
    return programs


def _time(function, **kwargs):
    start = time.perf_counter()
    function(**kwargs)
    return time.perf_counter() - start


def _version(python):
    code = "from importlib.metadata import version; print(version('numina'))"
    result = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return result.stdout.strip()


def _numina(python, folder):
    command = [python, "-c", _NUMINA, folder, ",".join(METHODS)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def _print_times(options, runs):
    print(f"{options.number} x {options.shape[0]} x {options.shape[1]}, seconds:")
    medians = {
        program: {
            name: statistics.median(r[name] for r in results) for name in results[0]
        }
        for program, results in runs.items()
    }
    for program, times in medians.items():
        text = "  ".join(f"{name} {value:.3f}" for name, value in times.items())
        print(f"{program:28} {text}")
    floor = medians.pop("floor")["copy"]
    ours = medians.pop("ccdcr")
    without = medians.pop("ccdcr without uncertainty")
    median = medians.pop("ccdproc")["median_combine"]
    for method in METHODS:
        ratios = [f"ccdproc's median / ccdcr {median / ours[method]:.1f}"]
        ratios += [
            f"{program} / ccdcr {times[method] / ours[method]:.1f}"
            for program, times in medians.items()
        ]
        ratios.append(f"without uncertainty / floor {without[method] / floor:.1f}")
        print(f"{method:10} " + ", ".join(ratios))


def _print_peaks(data, bad, folder):
    stack = (data.nbytes + bad.nbytes) / 1e6
    print(f"float32 stack with masks: {stack:.0f} MB")
    for method in METHODS:
        command = [sys.executable, "-c", _PEAK, folder, method]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        peak, inputs = map(float, result.stdout.split())
        print(
            f"{method:10} peak {peak:.0f} MB with the inputs, {peak / stack:.2f} times "
            f"the stack; {peak - inputs:.0f} MB without, {(peak - inputs) / stack:.2f}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
