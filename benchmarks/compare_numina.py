# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Time detection and combination by numina and by ccdcr on the same exposures.

    python benchmarks/compare_numina.py --numina /path/to/python-with-numina

numina runs in its own Python, with its plots switched off, so that only
computing is compared. The programs take turns; medians are printed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

METHODS = ("mediancr", "meancrt", "meancr")
READNOISE = 3.0

_COMMON = """
import json, resource, sys, time
import numpy as np
data = np.load(sys.argv[1])["data"]
output, result = sys.argv[2], {}
def timed(name, function):
    start = time.perf_counter()
    value = function()
    result[name] = time.perf_counter() - start
    return value
"""

_REPORT = """
result["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps(result))
"""

_NUMINA = """
import inspect, logging, os, tempfile, warnings
warnings.simplefilter("ignore")
import matplotlib
matplotlib.use("Agg")
import matplotlib.figure
matplotlib.figure.Figure.savefig = lambda *args, **kwargs: None
from numina.array.crmasks.apply_crmasks import apply_crmasks
from numina.array.crmasks.compute_crmasks import compute_crmasks
output = os.path.abspath(output)
os.chdir(tempfile.mkdtemp())
options = dict(
    gain=1.0, rnoise=READNOISE, bias=0.0, crmethod="mm_lacosmic",
    flux_factor="none", apply_flux_factor_to="simulated", interactive=False,
    dilation=1, maxplots=0, la_gain_apply=True, la_sigclip=5.0, la_sigfrac=0.3,
    la_objlim=5.0, la_satlevel=65535.0, la_niter=4, la_sepmed=True,
    la_cleantype="meanmask", la_fsmode="convolve", la_psfmodel="gaussxy",
    la_psffwhm_x=2.5, la_psffwhm_y=2.5, la_psfsize=11, la_psfbeta=4.765,
    la_padwidth=0, mm_cr_coincidences=2, mm_photon_distribution="poisson",
    mm_nbinom_shape=1000, mm_synthetic="median", mm_boundary_fit="spline",
    mm_knots_splfit=3, mm_nsimulations=5, mm_niter_boundary_extension=3,
    mm_weight_boundary_extension=10.0, mm_minimum_max2d_rnoise=5.0, mm_seed=123456,
)
known = inspect.signature(compute_crmasks).parameters
options = {k: v for k, v in options.items() if k in known}
real, sys.stdout = sys.stdout, open(os.devnull, "w")
masks = timed("detect", lambda: compute_crmasks(list(data), **options))
masks.writeto(output, overwrite=True)
name = "use_lamedian" if "use_lamedian" in known else "use_auxmedian"
for method in METHODS:
    timed(method, lambda: apply_crmasks(
        list(data), masks, combination=method, apply_flux_factor=False, bias=0.0,
        **{name: False}))
sys.stdout = real
"""

_CCDCR = """
from astropy.nddata import CCDData
from ccdcr import CRCombiner, detect_cosmic_rays
ccds = [CCDData(plane, unit="adu") for plane in data]
masks = timed("detect", lambda: detect_cosmic_rays(
    ccds, gain=1.0, readnoise=READNOISE, la_verbose=False))
result["stages"] = masks.diagnostics.timing
masks.write(output, overwrite=True)
for method in METHODS:
    timed(method, lambda: getattr(
        CRCombiner(ccds, masks, dtype="float32"), method + "_combine")())
"""


def main(args=None):
    """Run the comparison and print it."""
    options = _parser().parse_args(args)
    programs = {"ccdcr": (sys.executable, _CCDCR)}
    for number, python in enumerate(options.numina, start=1):
        programs[f"numina {_version(python) or number}"] = (python, _NUMINA)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.npz"
        _simulate(options, data)
        runs = {name: [] for name in programs}
        for _ in range(options.repeat):
            for name, (python, code) in programs.items():
                output = Path(folder) / f"{name.replace(' ', '_')}.fits"
                runs[name].append(_run(python, code, data, output))
        _print_times(runs)
        _print_agreement(folder, list(programs))
    return 0


def _parser():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--numina", action="append", default=[], metavar="PYTHON")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--scene", default="fibres")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seed", type=int, default=11)
    return parser


def _version(python):
    code = "from importlib.metadata import version; print(version('numina'))"
    result = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return result.stdout.strip()


def _simulate(options, path):
    from ccdcr.simulation import simulate_exposures

    sim = simulate_exposures(
        (options.size, options.size),
        scene=options.scene,
        readnoise=READNOISE,
        seed=options.seed,
    )
    np.savez(path, data=np.stack([ccd.data for ccd in sim.exposures]))


def _run(python, code, data, output):
    code = f"READNOISE, METHODS = {READNOISE}, {METHODS}\n{_COMMON}{code}{_REPORT}"
    result = subprocess.run(
        [python, "-c", code, str(data), str(output)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def _print_times(runs):
    names = ("detect", *METHODS, "peak MB")
    print(f"{'':14}" + "".join(f"{name:>12}" for name in names))
    medians = {}
    for program, results in runs.items():
        medians[program] = [statistics.median(r[n] for r in results) for n in names]
        print(f"{program:14}" + "".join(f"{m:12.3f}" for m in medians[program]))
    ours = medians.pop("ccdcr")
    for program, theirs in medians.items():
        ratios = (a / b for a, b in zip(theirs, ours, strict=True))
        print(f"{program} / ccdcr" + "".join(f"{ratio:12.2f}" for ratio in ratios))
    stages = [result["stages"] for result in runs["ccdcr"]]
    parts = {name: statistics.median(s[name] for s in stages) for name in stages[0]}
    single = parts.pop("single image")
    rest = sum(parts.values())
    print(f"ccdcr: single images {single:.2f} s, all else {rest:.2f} s", parts)


def _print_agreement(folder, programs):
    from astropy.io import fits

    with fits.open(Path(folder) / "ccdcr.fits") as ours:
        for program in programs[1:]:
            path = Path(folder) / f"{program.replace(' ', '_')}.fits"
            with fits.open(path) as theirs:
                for name in ("MEDIANCR", "MEANCRT", "CRMASK1"):
                    a, b = ours[name].data > 0, theirs[name].data > 0
                    both, either = np.sum(a & b), np.sum(a | b)
                    print(f"{program} {name}: {both / either:.3f} of the union shared")


if __name__ == "__main__":
    raise SystemExit(main())
