# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Compare methods on real exposures with real cosmic rays added.

    python benchmarks/real.py FOLDER --numina /path/to/python-with-numina

The exposures are three spectra of 600 s (FOLDER/kast-red-2018gdg). Cosmic rays cut
from darks of another CCD (FOLDER/lsst-itl-cr-stamps) are added to them: 150 pairs that
touch in two exposures, and 150 single ones in each exposure. The added rays are known
exactly, those of the exposures themselves by comparing the exposures (excess_mask).

Columns, all in the illuminated part of the detector:

- left: pixels of the combined image that are more than 8 sigma (of one exposure) above
  the mean of the original exposures without their cosmic rays;
- found: part of the pixels with more than 5 sigma of an added ray that are rejected in
  the exposure that has the ray;
- false: pixels rejected in an exposure, more than 2 pixels from any of its cosmic rays;
- seconds: of the CPU, for detection and combination.

All methods but the median average what they do not reject. astroscrappy runs on each
exposure, with its own defaults and with those of a grid that leave fewest pixels off by
8 sigma. numina runs in its own Python, with the defaults of its recipe.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import astroscrappy
import ccdproc
import numpy as np
from accuracy import KAST_DETECTOR, NUMINA, far_from, inject, read_kast, read_stamps
from astropy import log
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.stats import mad_std
from scipy import ndimage

from ccdcr import CRCombiner, detect_cosmic_rays

GAIN, READNOISE = KAST_DETECTOR
WINDOW = np.s_[:, 60:345]

_START = "import time; start = time.process_time()\n"

_COMBINE = """
from numina.array.crmasks.apply_crmasks import apply_crmasks
name = "use_lamedian"
if name not in inspect.signature(apply_crmasks).parameters:
    name = "use_auxmedian"
combined = apply_crmasks(
    list(data), masks, combination="meancr", apply_flux_factor=False, bias=0.0,
    **{name: False})
combined = combined[0] if isinstance(combined, tuple) else combined
np.savez(output + ".npz", image=combined, seconds=time.process_time() - start)
"""


class Scene:
    """Exposures with added rays, and what is known of them."""

    def __init__(self, folder, seed):
        original, _, excess = read_kast(folder / "kast-red-2018gdg")
        stamps = read_stamps(
            folder / "lsst-itl-cr-stamps" / "cosmic_rays_itl_2017.fits.gz"
        )
        rays = inject(original.shape, stamps, np.random.default_rng(seed)) / GAIN
        signal = np.maximum(np.median(original, axis=0), 0)
        self.sigma = np.sqrt((READNOISE / GAIN) ** 2 + signal / GAIN)
        self.exposures = original + rays
        near = ndimage.maximum_filter(excess, (1, 3, 3))
        self.clean = np.ma.array(original, mask=near).mean(axis=0).filled(np.nan)
        self.hits = rays > 5 * self.sigma
        traces = (rays > self.sigma) | excess
        self.far = np.array([far_from(trace) for trace in traces])

    def ccds(self):
        """Return the exposures as CCDData."""
        return [CCDData(plane, unit="adu") for plane in self.exposures]

    def off(self, image):
        """Return how far an image is from the clean mean, in sigma."""
        return ((image - self.clean) / self.sigma)[WINDOW]

    def row(self, name, result, seconds):
        """Return the row of the table for masks (or None) and image."""
        masks, image = result
        left = np.count_nonzero(self.off(image) > 8)
        if masks is None:
            return f"{name:28}{left:8d}{'':>10}{'':>10}{seconds:10.1f}"
        part = (slice(None), *WINDOW)
        found = 100 * np.mean(masks[part][self.hits[part]])
        false = np.count_nonzero((masks & self.far)[part])
        return f"{name:28}{left:8d}{found:9.1f}%{false:10d}{seconds:10.1f}"


def mean_of_rest(exposures, masks):
    """Return the mean of what is not masked; the minimum where all is."""
    rest = np.ma.array(exposures, mask=masks).mean(axis=0)
    return rest.filled(0) + np.where(rest.mask, exposures.min(axis=0), 0)


def clip(scene, *, extrema):
    """Clip with ccdproc."""
    combiner = ccdproc.Combiner(scene.ccds())
    if extrema:
        combiner.clip_extrema(nlow=0, nhigh=1)
    else:
        combiner.sigma_clipping(
            low_thresh=5, high_thresh=5, func="median", dev_func=mad_std
        )
    masks = np.array(getattr(combiner, "data_arr", combiner).mask)
    return masks, combiner.average_combine().data


def scrappy(scene, **options):
    """Find rays in each exposure with astroscrappy."""
    masks = [
        astroscrappy.detect_cosmics(plane, gain=GAIN, readnoise=READNOISE, **options)[0]
        for plane in scene.exposures
    ]
    return np.array(masks), mean_of_rest(scene.exposures, np.array(masks))


def tune_scrappy(scene):
    """Return the options of a grid that leave fewest pixels off by 8 sigma."""
    models = [
        {"fsmode": "median"},
        *({"fsmode": "convolve", "psffwhm": width} for width in (2.0, 3.0)),
    ]
    grid = itertools.product((4.5, 6.0), (1.0, 2.0, 5.0), models)
    wrong = {}
    for sigclip, objlim, model in grid:
        options = {"sigclip": sigclip, "objlim": objlim, **model}
        image = scrappy(scene, **options)[1]
        wrong[np.count_nonzero(abs(scene.off(image)) > 8)] = options
    return wrong[min(wrong)]


def matched(scene):
    """Detect and combine with the defaults of ccdcr."""
    ccds = scene.ccds()
    masks = detect_cosmic_rays(ccds, gain=GAIN, readnoise=READNOISE)
    return masks.crmasks, CRCombiner(ccds, masks).meancr_combine().data


def numina(scene, python):
    """Return masks, image and CPU seconds of numina."""
    with tempfile.TemporaryDirectory() as folder:
        given, output = Path(folder) / "data.npz", Path(folder) / "masks.fits"
        np.savez(given, data=scene.exposures)
        code = NUMINA.replace("masks = ", _START + "masks = ") + _COMBINE
        command = [python, "-c", code, given, output, GAIN, READNOISE]
        subprocess.run(list(map(str, command)), check=True)
        with fits.open(output) as hdulist:
            masks = [hdulist[f"CRMASK{i}"].data > 0 for i in (1, 2, 3)]
        with np.load(f"{output}.npz") as result:
            return (np.array(masks), result["image"]), float(result["seconds"])


def main(args=None):
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--numina", metavar="PYTHON")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(args)
    warnings.simplefilter("ignore")
    log.setLevel("ERROR")
    scene = Scene(options.folder, options.seed)
    tuned = tune_scrappy(scene)
    methods = {
        "median": lambda: (None, ccdproc.Combiner(scene.ccds()).median_combine().data),
        "sigma clipping": lambda: clip(scene, extrema=False),
        "clip_extrema": lambda: clip(scene, extrema=True),
        "astroscrappy": lambda: scrappy(scene),
        f"astroscrappy {tuned}": lambda: scrappy(scene, **tuned),
        "ccdcr": lambda: matched(scene),
    }
    print(f"{'':28}{'left':>8}{'found':>10}{'false':>10}{'seconds':>10}")
    for name, method in methods.items():
        start = time.process_time()
        result = method()
        print(scene.row(name, result, time.process_time() - start), flush=True)
    if options.numina:
        print(scene.row("numina", *numina(scene, options.numina)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
