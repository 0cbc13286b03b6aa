# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Compare methods on exposures that are not quite equivalent.

    python benchmarks/accuracy.py --only fibres-flux stars-shift --seeds 2
    python benchmarks/accuracy.py --kast FOLDER --stamps FILE --darks FOLDER
    python benchmarks/accuracy.py --numina /path/to/python-with-numina
    python benchmarks/accuracy.py --exposures 3 --seed 700 --seeds 1
        --only fibres longslit stars kast injected --kast FOLDER --stamps FILE
        --numina OLD --numina NEW --table docs/accuracy.csv

Each row has: coincidence recall, false coincidences per Mpixel, recall and false
pixels per Mpixel of the exposures' masks, and efficiency (1 = the mean of the
exposures that are truly clean). A pixel is false if it is more than 2 pixels from any
cosmic ray of more than 1 sigma. Pixels that are hit in every exposure count as not
found where they are not, but have no efficiency. The real exposures have none, either,
and their counts are pixels. numina runs in its own Python.

With ``--expected`` each row has the mean at masked pixels instead, with and without
expected values: error, pull, signed difference to the same exposures without cosmic
rays, and the least possible error (see `ccdcr.simulation.Evaluation`), of all pixels
and of the brightest 5% and 1%.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import warnings
from collections import defaultdict
from functools import cache
from itertools import product
from pathlib import Path

import ccdproc
import numpy as np
from astropy import log
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.stats import mad_std
from scipy import ndimage

from ccdcr import CRCombiner, detect_cosmic_rays
from ccdcr.simulation import evaluate, simulate_exposures

SCENES = ("fibres", "stars", "longslit")
CASES = ("eq", "flux", "shift", "see", "line", "all")
METHODS = ("matched", "mm_lacosmic", "sigma_clip", "clip_extrema")
COLUMNS = ("recall", "false", "own", "own false", "efficiency")
MASKED = ("error", "pull", "difference", "least")
_POWERS = np.array([2.0, 2.0, 1.0, 2.0])  # mean squares, but of the difference
KAST_DETECTOR, DARK_DETECTOR = (1.9, 3.8), (1.49, 12.6 * 1.49)

NUMINA = """
import inspect, os, sys, tempfile, warnings
warnings.simplefilter("ignore")
import matplotlib
matplotlib.use("Agg")
import matplotlib.figure
matplotlib.figure.Figure.savefig = lambda *args, **kwargs: None
import numpy as np
from numina.array.crmasks.compute_crmasks import compute_crmasks
data, gain, readnoise = np.load(sys.argv[1])["data"], *map(float, sys.argv[3:])
output = os.path.abspath(sys.argv[2])
os.chdir(tempfile.mkdtemp())
options = dict(
    gain=gain, rnoise=readnoise / gain, bias=0.0, crmethod="mm_lacosmic",
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
sys.stdout = open(os.devnull, "w")
masks = compute_crmasks(list(data), **options)
masks.writeto(output, overwrite=True)
"""


def knobs(case, n):
    """Return what differs between the exposures."""
    ramp = np.linspace(-1, 1, n)
    other, third = np.roll(ramp, 1), np.roll(ramp, 2)
    flux = tuple(1 + 0.1 * ramp)
    shift = np.column_stack([0.2 * ramp, 0.15 * other])
    line = {"sky_lines": tuple(1 + 0.06 * other), "background": tuple(3 + 3 * ramp)}
    return {
        "eq": {},
        "flux": {"flux": flux},
        "shift": {"shift": shift.tolist()},
        "see": {"seeing": tuple(2.5 * (1 + 0.1 * ramp))},
        "line": line,
        "all": {
            "flux": flux,
            "shift": (0.75 * shift).tolist(),
            "seeing": tuple(2.5 * (1 + 0.06 * other)),
            "sky_lines": line["sky_lines"],
            "background": tuple(2 + 2 * third),
        },
    }[case]


def find(method, data, gain, readnoise):
    """Return the masks of the exposures and that of the coincidences."""
    if method.startswith("numina:"):
        return find_by_numina(method.removeprefix("numina:"), data, gain, readnoise)
    if method in {"sigma_clip", "clip_extrema"}:
        return find_by_clipping(method, data)
    ccds = [CCDData(plane, unit="adu") for plane in data]
    masks = detect_cosmic_rays(
        ccds, gain=gain, readnoise=readnoise, crmethod=method, la_verbose=False
    )
    return masks.crmasks, masks.mediancr


def find_by_clipping(method, data):
    """Clip as ccdproc does; what is clipped in a majority is a coincidence."""
    combiner = ccdproc.Combiner([CCDData(plane, unit="adu") for plane in data])
    if method == "clip_extrema":
        combiner.clip_extrema(nlow=0, nhigh=1)
    else:
        combiner.sigma_clipping(
            low_thresh=5, high_thresh=5, func="median", dev_func=mad_std
        )
    masks = np.array(getattr(combiner, "data_arr", combiner).mask)
    return masks, masks.sum(axis=0) > len(data) / 2


def find_by_numina(python, data, gain, readnoise):
    """Let numina find them, in its own Python."""
    with tempfile.TemporaryDirectory() as folder:
        given, output = Path(folder) / "data.npz", Path(folder) / "masks.fits"
        np.savez(given, data=data)
        command = [python, "-c", NUMINA, given, output, gain, readnoise]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
        with fits.open(output) as hdulist:
            masks = [hdulist[f"CRMASK{i + 1}"].data > 0 for i in range(len(data))]
            return np.array(masks), hdulist["MEDIANCR"].data > 0


def far_from(trace):
    """Return the pixels more than 2 pixels from a mask."""
    if not trace.any():
        return np.ones_like(trace)
    return ndimage.distance_transform_edt(~trace) > 2


def simulations(scene, case, n, options):
    """Yield the simulated exposures of all seeds."""
    for seed in range(options.seed, options.seed + options.seeds):
        yield simulate_exposures(
            (options.size, options.size),
            n_exposures=n,
            scene=scene,
            cr_rate=1.0 if n < 4 else 2.0,
            seed=seed,
            **knobs(case, n),
        )


def simulated(method, scene, case, n, options):
    """Judge a method on simulated exposures."""
    counts, efficiency = np.zeros(6), []
    for sim in simulations(scene, case, n, options):
        data = np.stack([ccd.data for ccd in sim.exposures])
        masks, median = find(method, data, sim.gain, sim.readnoise)
        hit, trace = sim.coincidences(5), sim.coincidences(1)
        hits, traces = sim.hits(5), sim.hits(1)
        false = sum(
            np.count_nonzero(mask & far_from(t))
            for mask, t in zip(masks, traces, strict=True)
        )
        counts += [
            np.count_nonzero(median & hit),
            np.count_nonzero(hit),
            np.count_nonzero(median & far_from(trace)),
            np.count_nonzero(masks & hits),
            np.count_nonzero(hits),
            false / n,
        ]
        efficiency.append(efficiency_of(masks, data, sim))
    area = options.seeds * options.size**2 / 1e6
    found, all_, away, own, own_all, own_false = counts
    return (
        found / max(all_, 1),
        away / area,
        own / max(own_all, 1),
        own_false / area,
        float(np.mean(efficiency)),
    )


def expected(scene, case, n, options):
    """Print how good the mean is at masked pixels, with and without expected values."""
    sums = defaultdict(lambda: np.zeros(len(MASKED) + 1))
    for sim in simulations(scene, case, n, options):
        masks = detect_cosmic_rays(
            sim.exposures, gain=sim.gain, readnoise=sim.readnoise
        )
        combiner = CRCombiner(sim.exposures, masks)
        images = {
            "with": combiner.meancr_combine(),
            "without": combiner.meancr_combine(use_expected=False),
        }
        for row in evaluate(masks, images, sim).masked:
            values = np.array([row[name] for name in MASKED]) ** _POWERS
            total = sums[row["image"], row["brightest"]]
            total += row["pixels"] * np.append(values, 1)
    for (image, part), (*total, pixels) in sums.items():
        values = (np.array(total) / pixels) ** (1 / _POWERS)
        text = "".join(f"{value:11.3f}" for value in values)
        print(f"{scene}-{case}-{n:<4}{image:10}{part:6}{pixels:8.0f}{text}", flush=True)


def efficiency_of(masks, data, sim):
    """Return the squared ratio of the RMS of the ideal mean to that of ours."""
    error = data - sim.expected - np.float32(sim.bias)
    noise = np.sqrt((sim.noise**2).mean(axis=0))
    hit = sim.hits(0.1)
    # Without a clean exposure there is no ideal mean.
    use = ~hit.all(axis=0)
    squares = []
    for clean in (~hit, ~masks):
        number = clean.sum(axis=0)
        mean = np.where(clean, error, 0).sum(axis=0) / np.maximum(number, 1)
        mean = np.where(number > 0, mean, error.min(axis=0))
        squares.append(np.mean((mean / noise)[use] ** 2))
    return squares[0] / squares[1]


def read_kast(folder):
    """Return the exposures, the listed coincidences and the excess masks."""
    data = []
    for number in (1073, 1074, 1075):
        raw = CCDData.read(folder / f"r{number}.fits.gz", unit="adu")
        halves = [
            ccdproc.subtract_overscan(raw[:, part], overscan=raw[:, over], median=True)
            for part, over in (
                (slice(0, 112), slice(440, 540)),
                (slice(112, 440), slice(540, 640)),
            )
        ]
        data.append(np.hstack([half.data for half in halves]))
    data = np.array(data, dtype=np.float32)
    coincident = np.zeros(data.shape[1:], dtype=bool)
    with (folder / "coincident_pixels.csv").open() as file:
        for row in csv.DictReader(file):
            coincident[int(row["row"]), int(row["col"])] = True
    excess = fits.getdata(folder / "excess_mask.fits.gz") > 0
    return data, coincident, excess[:, :, : data.shape[2]]


def judge_real(method, data, detector, truth):
    """Judge by masks of which pixels are hit; ``truth`` says where to look."""
    coincident, near_coincident, hits, traces, window = truth
    masks, median = find(method, data, *detector)
    own = [
        (np.count_nonzero(m & h & window), np.count_nonzero(h & window))
        for m, h in zip(masks, hits, strict=True)
    ]
    false = max(
        np.count_nonzero(m & window & far_from(t))
        for m, t in zip(masks, traces, strict=True)
    )
    number = np.count_nonzero(coincident) or np.nan
    return (
        np.count_nonzero(median & coincident) / number,
        np.count_nonzero(median & window & far_from(near_coincident)),
        min((found / all_ for found, all_ in own if all_), default=np.nan),
        false,
        np.nan,
    )


def kast(method, folder):
    """Judge a method on the Kast exposures."""
    data, coincident, excess = read_kast(folder)
    window = np.zeros_like(coincident)
    window[:, 60:345] = True
    truth = (coincident, coincident, excess, excess, window)
    return judge_real(method, data, KAST_DETECTOR, truth)


def injected(method, folder, stamps, seed):
    """Judge a method on real cosmic rays injected into the Kast exposures."""
    data, _, excess = read_kast(folder)
    gain, readnoise = KAST_DETECTOR
    rays = inject(data.shape, read_stamps(stamps), np.random.default_rng(seed)) / gain
    sigma = np.sqrt((readnoise / gain) ** 2 + np.maximum(np.median(data, 0), 0) / gain)
    window = np.zeros(data.shape[1:], dtype=bool)
    window[:, 60:345] = True
    hits, traces = rays > 5 * sigma, (rays > sigma) | excess
    # What is hit in all three, by a real ray too, no comparison can see.
    visible = traces.sum(axis=0) < 3
    truth = (
        (hits.sum(axis=0) > 1) & window & visible,
        traces.sum(axis=0) > 1,
        hits,
        traces,
        window,
    )
    return judge_real(method, data + rays, KAST_DETECTOR, truth)


def read_stamps(path):
    """Return the images of real cosmic rays in electron."""
    table = fits.getdata(path, 1)
    name = table.columns.names[-1]
    spans = {}
    for row in table:
        span = (int(row["y0"]), int(row["x0"]), np.atleast_1d(row[name]))
        spans.setdefault(int(row["fp_id"]), []).append(span)
    stamps = []
    for parts in spans.values():
        y0, x0 = min(p[0] for p in parts), min(p[1] for p in parts)
        y1, x1 = max(p[0] for p in parts), max(p[1] + len(p[2]) for p in parts)
        stamp = np.zeros((y1 - y0 + 1, x1 - x0), dtype=np.float32)
        for y, x, values in parts:
            stamp[y - y0, x - x0 : x - x0 + len(values)] += values
        stamps.append(stamp)
    return stamps


def inject(shape, stamps, rng, number=150):
    """Return electrons of pairs of rays in two exposures, and of single ones."""
    n, ny, nx = shape
    rays = np.zeros(shape, dtype=np.float32)

    def drop(i, y, x):
        stamp = stamps[rng.integers(len(stamps))]
        y0, x0 = y - stamp.shape[0] // 2, x - stamp.shape[1] // 2
        rows = slice(max(y0, 0), min(y0 + stamp.shape[0], ny))
        columns = slice(max(x0, 0), min(x0 + stamp.shape[1], nx))
        part = stamp[rows.start - y0 : rows.stop - y0]
        rays[i, rows, columns] += part[:, columns.start - x0 : columns.stop - x0]

    for _ in range(number):
        i, j = rng.choice(n, 2, replace=False)
        y, x = rng.integers(5, ny - 5), rng.integers(62, 343)
        drop(i, y, x)
        dy, dx = rng.integers(-2, 3, 2)
        drop(j, y + dy, x + dx)
    for i in range(n):
        for _ in range(number):
            drop(i, rng.integers(0, ny), rng.integers(60, 345))
    return rays


def tracks(method, folder, length, seed):
    """
    Judge a method on faint tracks exactly along rows and columns of the exposures.

    They are two pixels wide and of 150 electrons per pixel, each in one exposure.
    """
    data, _, excess = read_kast(folder)
    rng = np.random.default_rng(seed)
    rays = np.zeros_like(data)
    for k in range(20):
        size = (2, length) if k % 2 else (length, 2)
        y = rng.integers(5, data.shape[1] - length - 5)
        x = rng.integers(62, 343 - length)
        rays[k % 3, y : y + size[0], x : x + size[1]] = 150 / KAST_DETECTOR[0]
    hits = rays > 0
    near = ndimage.maximum_filter(hits.any(axis=0), 5)
    nothing = np.zeros_like(near)
    truth = (nothing, excess.sum(axis=0) > 1, hits, hits | excess, near)
    return judge_real(method, data + rays, KAST_DETECTOR, truth)


def brighter(method, part, options):
    """Judge a method on stars of which each is brighter in one exposure alone."""
    sim = simulate_exposures((options.size,) * 2, scene="stars", seed=options.seed)
    data = np.stack([ccd.data for ccd in sim.exposures])
    image = sim.expected[0]
    sky = np.median(image)
    stars = ndimage.maximum_filter(image, 11) == image
    stars &= image > sky + 20 * np.sqrt(sky)
    near = np.zeros(data.shape, dtype=bool)
    for k, (y, x) in enumerate(np.argwhere(stars)):
        place = np.s_[k % 3, max(y - 5, 0) : y + 6, max(x - 5, 0) : x + 6]
        data[place] += np.float32(part) * (image[place[1:]] - sky).astype(np.float32)
        near[place] = True
    nothing = np.zeros(data.shape[1:], dtype=bool)
    hits, traces = sim.hits(5) & near, sim.hits(1)
    truth = (nothing, sim.coincidences(1), hits, traces, near.any(axis=0))
    return judge_real(method, data, (sim.gain, sim.readnoise), truth)


def darks(method, folder):
    """Judge a method on five dark exposures, of which five pixels are hit twice."""
    paths = sorted(folder.glob("L2-dark-neon-1200*"))
    data = np.stack([fits.getdata(path).astype(np.float32) for path in paths])
    data -= np.median(data, axis=(1, 2), keepdims=True)
    noise = DARK_DETECTOR[1] / DARK_DETECTOR[0]
    hits = []
    for i, plane in enumerate(data):
        low = np.sort(np.delete(data, i, axis=0), axis=0)[:2].mean(axis=0)
        z = plane - low
        z = (z - np.median(z)) / np.sqrt(2 * noise**2 + (0.05 * low) ** 2)
        labels, _ = ndimage.label(z > 3, np.ones((3, 3)))
        hits.append(np.isin(labels, np.unique(labels[z > 6])))
    hits = np.array(hits)
    twice = hits.sum(axis=0) > 1
    truth = (np.zeros_like(twice), twice, hits, hits, np.ones_like(twice))
    return judge_real(method, data, DARK_DETECTOR, truth)


def cells(options):
    """Yield the name of each data set, and what judges a method on it."""
    for name, *what in _simulations(options):
        yield name, (lambda m, a=what: simulated(m, *a, options))
    if options.kast:
        yield "kast", lambda m: kast(m, options.kast)
        if options.stamps:
            for seed in range(options.seed, options.seed + options.seeds):
                yield (
                    f"injected-{seed}",
                    lambda m, s=seed: injected(m, options.kast, options.stamps, s),
                )
        for length in (15, 30, 60, 120):
            yield (
                f"tracks-{length}",
                lambda m, k=length: tracks(m, options.kast, k, options.seed),
            )
    for part in (0.1, 0.2, 0.5):
        yield f"brighter-{part}", lambda m, p=part: brighter(m, p, options)
    if options.darks:
        yield "darks", lambda m: darks(m, options.darks)


def _simulations(options):
    """Yield name, scene, case and number of exposures of simulated data sets."""
    for n, scene, case in product(options.exposures, SCENES, CASES):
        yield f"{scene}-{case}" + ("" if n == 3 else f"-{n}"), scene, case, n


def main(args=None):
    """Run the comparison and print it."""
    options = _parser().parse_args(args)
    warnings.simplefilter("ignore")
    log.setLevel("ERROR")
    if options.expected:
        print(f"{'':32}" + "".join(f"{name:>11}" for name in MASKED))
        for name, scene, case, n in _simulations(options):
            if not options.only or any(name.startswith(p) for p in options.only):
                expected(scene, case, n, options)
        return 0
    methods = [*options.methods, *(f"numina:{python}" for python in options.numina)]
    print(f"{'':16}{'':14}" + "".join(f"{name:>11}" for name in COLUMNS))
    results = {}
    for name, judge in cells(options):
        if options.only and not any(name.startswith(part) for part in options.only):
            continue
        for method in methods:
            values = results[name, method] = judge(method)
            text = "{:11.4f}{:11.0f}{:11.4f}{:11.0f}{:11.4f}".format(*values)
            print(f"{name:16}{_label(method):14}{text}", flush=True)
    if options.table:
        _write(results, options.table)
    return 0


@cache
def _label(method):
    if not method.startswith("numina:"):
        return method
    code = "from importlib.metadata import version; print(version('numina'))"
    python = method.removeprefix("numina:")
    result = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return f"numina {result.stdout.strip()}"


def _write(results, path):
    """Write what was printed, for the figure of the documentation."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("exposures", "method", *COLUMNS))
        for (name, method), values in results.items():
            table.writerow([name, _label(method), *(f"{v:.5g}" for v in values)])


def _parser():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--numina", action="append", default=[], metavar="PYTHON")
    parser.add_argument("--only", nargs="+", help="names of data sets, or beginnings")
    parser.add_argument("--exposures", nargs="+", type=int, default=[3, 5])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--seed", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--kast", type=Path)
    parser.add_argument("--stamps", type=Path)
    parser.add_argument("--darks", type=Path)
    parser.add_argument("--expected", action="store_true", help="of masked pixels")
    parser.add_argument("--table", type=Path, help="file of CSV to write")
    return parser


if __name__ == "__main__":
    sys.exit(main())
