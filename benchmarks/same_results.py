# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Masks and images before and after a change, compared bit by bit.

    python benchmarks/same_results.py before.json           # stores hashes
    python benchmarks/same_results.py after.json before.json  # and compares

It is for changes that must not change results: tidying, speed, memory. Where numbers
may differ in the last digits, look at the masks and counts alone; whether a result is
better, ``accuracy.py`` says. It takes 2 minutes of CPU. Only the public interface is
used, so that both commits can run it (with the newer script, if options have changed).
The cases are simulated exposures of each scene and method, and those beside the
checkout, if any.
"""

import hashlib
import json
import sys
import warnings
from pathlib import Path

import numpy as np
from astropy import log
from astropy.nddata import CCDData, StdDevUncertainty

from ccdcr import CRCombiner, CRMaskSet, combine, detect_cosmic_rays
from ccdcr.simulation import simulate_exposures

SHARED = Path(__file__).resolve().parents[2] / "shared"
DETECTIONS = {
    "matched": {},
    "matched_lacosmic": {},
    "lacosmic": {},
    "mmcosmic": {},
    "mm_lacosmic": {},
    "spline": {"crmethod": "mm_lacosmic", "mm_boundary_fit": "spline", "mm_seed": 1},
}
SCENES = {
    "fibres": {"flux": (0.9, 1.0, 1.1)},
    "longslit": {},
    "stars": {"flux": (1.0, 0.95, 1.05)},
}
METHODS = ("mediancr", "meancrt", "meancr")


def hash_of(*arrays):
    """Return a hash of the bytes of some arrays."""
    content = hashlib.sha256()
    for array in arrays:
        content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()[:16]


def images_of(ccds, masks, files=None):
    """Yield names and hashes of all combinations."""
    combiner = CRCombiner(ccds, masks)
    given = {"crmasks": masks, "use_expected": False}
    for method in METHODS:
        images = {
            f"{method} expected": getattr(combiner, f"{method}_combine")(),
            method: getattr(combiner, f"{method}_combine")(use_expected=False),
            f"{method} scaled": getattr(combiner, f"{method}_combine")(
                apply_flux_factor=True, uncertainty="scatter", use_expected=False
            ),
            f"{method} tiles": combine(
                files or ccds, mem_limit=3e6, **given | {"method": method}
            ),
            f"{method} clipped": combine(
                ccds, sigma_clip=True, dtype="float32", **given | {"method": method}
            ),
        }
        for name, image in images.items():
            sigma = () if image.uncertainty is None else (image.uncertainty.array,)
            yield name, hash_of(image.data, image.mask, *sigma)


def hashes_of(ccds, files=None, **options):
    """Return hashes of the masks of an exposure set and of what they combine to."""
    found = {}
    for name, changes in DETECTIONS.items():
        given = {"crmethod": name, "la_verbose": False, **options, **changes}
        masks = detect_cosmic_rays(ccds, **given)
        planes = (masks.mediancr, masks.meancrt, masks.crmasks)
        found[f"{name} masks"] = hash_of(*planes, masks.meancr)
        counts = [int(plane.sum()) for plane in planes]
        found[f"{name} counts"] = counts
        for method, value in images_of(ccds, masks, files):
            found[f"{name} {method}"] = value
    return found


def simulated():
    """Yield names and exposures of simulated sets."""
    for scene, options in SCENES.items():
        sim = simulate_exposures((192, 208), scene=scene, gain=1.5, seed=5, **options)
        yield scene, sim.exposures, None
    rng = np.random.default_rng(3)
    ccds = simulate_exposures((96, 112), n_exposures=5, gain=1.5, seed=6).exposures
    for ccd in ccds:
        ccd.mask = rng.random(ccd.shape) < 0.01
        ccd.uncertainty = StdDevUncertainty(rng.uniform(3, 5, ccd.shape))
    yield "masked5", ccds, None


def real():
    """Yield names and exposures of the cases beside the checkout."""
    for scene in ("fibres3", "stars5"):
        files = sorted((SHARED / "peer" / scene).glob("exp*.fits.gz"))
        if files:
            yield scene, [CCDData.read(file) for file in files], files


def kast():
    """Return hashes of the real exposures of a spectrograph, trimmed by hand."""
    files = sorted((SHARED / "data" / "kast-red-2018gdg").glob("r*.fits.gz"))
    if not files:
        return {}
    ccds = []
    for file in files:
        raw = CCDData.read(file, unit="adu").data.astype(np.float32)
        left = raw[:, :112] - np.median(raw[:, 440:540], axis=1, keepdims=True)
        right = raw[:, 112:440] - np.median(raw[:, 540:], axis=1, keepdims=True)
        ccds.append(CCDData(np.hstack([left, right]), unit="adu"))
    return hashes_of(ccds, gain=1.9, readnoise=3.8)


def peer_masks():
    """Return hashes of combinations with the masks of numina."""
    found = {}
    for scene, ccds, files in real():
        for path in sorted(files[0].parent.glob("*_crmasks.fits.gz")):
            masks = CRMaskSet.read(path)
            for method, value in images_of(ccds, masks, files):
                found[f"{path.name} {scene} {method}"] = value
    return found


def main(target, *before):
    """Store the hashes, and compare them with those of another commit."""
    warnings.simplefilter("ignore")
    log.setLevel("ERROR")
    found = {}
    for name, ccds, files in (*simulated(), *real()):
        values = hashes_of(ccds, files, gain="GAIN", readnoise="RDNOISE")
        found |= {f"{name}: {key}": value for key, value in values.items()}
    found |= {f"kast: {key}": value for key, value in kast().items()}
    found |= peer_masks()
    Path(target).write_text(json.dumps(found, indent=1))
    print(f"{len(found)} hashes")
    for path in before:
        known = json.loads(Path(path).read_text())
        changed = sorted(k for k in known if found.get(k) != known[k])
        print(f"{len(known) - len(changed)} of {len(known)} as in {path}", *changed)
        if changed:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
