# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Command ``ccdcr demo``: simulate, detect, combine, compare."""

from pathlib import Path

import numpy as np
from scipy import ndimage

from ccdcr.combination.combiner import CRCombiner
from ccdcr.detection.detect_cosmic_rays import detect_cosmic_rays
from ccdcr.plotting import plot_combinations
from ccdcr.simulation import evaluate, simulate_exposures
from ccdcr.utils.files import atomic_path, check_output, write_hdulist
from ccdcr.utils.neighbours import label_groups

__all__ = ["run_demo"]

_METHODS = ("median", "average", "mediancr", "meancrt", "meancr")


def run_demo(
    folder, *, scene="fibres", seed=1, figure=True, overwrite=False, progress_bar=None
):
    """Simulate, detect, combine, write files; return masks, evaluation and paths."""
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    names = [f"exposure{i}.fits" for i in (1, 2, 3)]
    names += ["crmasks.fits", *(f"{method}.fits" for method in _METHODS)]
    names += ["combinations.png"] if figure else []
    paths = {name: check_output(folder / name, overwrite=overwrite) for name in names}
    sim = simulate_exposures((512, 512), scene=scene, gain=1.5, seed=seed)
    for name, ccd in zip(names, sim.exposures, strict=False):
        write_hdulist(ccd.to_hdu(), paths[name], overwrite=overwrite)
    masks = detect_cosmic_rays(
        [paths[name] for name in names[:3]],
        gain="GAIN",
        readnoise="RDNOISE",
        la_verbose=False,
        progress_bar=progress_bar,
    )
    masks.write(paths["crmasks.fits"], overwrite=overwrite)
    combiner = CRCombiner(sim.exposures, paths["crmasks.fits"])
    combined = {method: getattr(combiner, f"{method}_combine")() for method in _METHODS}
    for method, image in combined.items():
        write_hdulist(image.to_hdu(), paths[f"{method}.fits"], overwrite=overwrite)
    if figure:
        _save_figure(sim, combined, paths["combinations.png"], overwrite=overwrite)
    return masks, evaluate(masks, combined, sim), list(paths.values())


def _save_figure(sim, combined, path, *, overwrite):
    from matplotlib.figure import Figure

    x, y = _worst_coincidence(sim)
    images = {
        f"exposure {i}": ccd.data for i, ccd in enumerate(sim.exposures, start=1)
    } | combined
    fig = Figure(figsize=(11, 5.9), layout="constrained", dpi=120)
    plot_combinations(images, x=x, y=y, semiwindow=24, fig=fig)
    with atomic_path(path, overwrite=overwrite) as temporary:
        fig.savefig(temporary)


def _worst_coincidence(sim):
    """Return x, y (first pixel 1) of the group with the most charge in the median."""
    median = np.median(sim.cosmic_rays, axis=0) * sim.coincidences()
    labels, number = label_groups(median > 0)
    if number == 0:
        return sim.truth.shape[1] // 2, sim.truth.shape[0] // 2
    sums = ndimage.sum_labels(np.minimum(median, 500), labels, np.arange(1, number + 1))
    y, x = ndimage.center_of_mass(median, labels, np.argmax(sums) + 1)
    return round(x) + 1, round(y) + 1
