# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures of the documentation, drawn from simulated exposures when it is built."""

import warnings
from pathlib import Path

import ccdproc
import matplotlib.pyplot as plt
import numpy as np
from astropy.stats import mad_std
from astropy.table import Table
from scipy import ndimage

from ccdcr import CRCombiner, detect_cosmic_rays
from ccdcr.exceptions import CRWarning
from ccdcr.plotting import plot_boundary, plot_diagram
from ccdcr.simulation import simulate_exposures
from ccdcr.single_image.detectors import LACosmic, laplacian_statistics

__all__ = [
    "accuracy",
    "boundaries",
    "clipped",
    "compare_masks",
    "diagram",
    "house",
    "laplacian",
    "problem",
    "tails",
]

_RESIDUAL = 8.0  # sigma, as in ccdcr.simulation.evaluate
_NEAR = 2  # pixels: flags this near to a hit are not false


def clipped(exposures):
    """Return combinations of plain ccdproc, by title."""
    sigma, extrema = ccdproc.Combiner(exposures), ccdproc.Combiner(exposures)
    sigma.sigma_clipping(low_thresh=5, high_thresh=5, func="median", dev_func=mad_std)
    extrema.clip_extrema(nlow=0, nhigh=1)
    return {
        "median": ccdproc.Combiner(exposures).median_combine(),
        "sigma_clipping": sigma.average_combine(),
        "clip_extrema": extrema.average_combine(),
    }


def problem(columns=2):
    """Draw what four combinations of three exposures leave; return the figure."""
    sim = simulate_exposures((400, 400), scene="longslit", seed=1)
    masks = _detect(sim)
    images = clipped(sim.exposures)
    images["ccdcr: meancr"] = CRCombiner(sim.exposures, masks).meancr_combine()
    noise = np.sqrt((sim.noise**2).mean(axis=0))
    expected = sim.expected.mean(axis=0)
    wide = columns == 4
    fig, axes = plt.subplots(
        4 // columns,
        columns,
        figsize=(8, 2.55) if wide else (8, 8.6),
        sharex=True,
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    for ax, (title, image) in zip(axes.flat, images.items(), strict=True):
        z = (image.data - expected) / noise
        y, x = np.nonzero(z > _RESIDUAL)
        artist = ax.imshow(z, origin="lower", cmap="gray", vmin=-3, vmax=8)
        size = 6 if wide else 9
        ax.plot(x, y, "o", ms=size, mfc="none", mec="tab:red", alpha=0.6)
        rms = np.sqrt(np.mean(z**2))
        ax.set_title(f"{title}\n{len(x)} pixels left, RMS {rms:.2f}", fontsize="medium")
    if wide:
        plt.setp(axes, xticks=[], yticks=[])
        return fig
    plt.setp(axes[-1], xlabel="x (pixel)")
    plt.setp(axes[:, 0], ylabel="y (pixel)")
    fig.colorbar(
        artist, ax=axes, location="bottom", label="combined - truth (sigma)", shrink=0.7
    )
    return fig


def compare_masks(simulated, choices, *, exposure=-1):
    """
    Draw an exposure and what is flagged in it; false pixels are red.

    Parameters
    ----------
    simulated : dict
        Arguments of `ccdcr.simulation.simulate_exposures`.
    choices : mapping of str to dict
        Requirements by title.
    exposure : int, optional
        Which one is drawn.
    """
    sim = simulate_exposures((200, 200), seed=3, **simulated)
    rows = 1 if len(choices) == 1 else 2
    _fig, grid = plt.subplots(rows, 2, figsize=(6.8, 3.7 * rows), layout="constrained")
    axes = grid.flat[: 1 + len(choices)]
    for ax in grid.flat[len(axes) :]:
        ax.set_axis_off()
    data = sim.exposures[exposure].data
    low, high = np.percentile(data, [1, 99])
    axes[0].imshow(data, origin="lower", cmap="gray_r", vmin=low, vmax=high)
    axes[0].set_title("exposure")
    trace = sim.hits(1)[exposure]
    far = ndimage.distance_transform_edt(~trace) > _NEAR
    for ax, (title, requirements) in zip(axes[1:], choices.items(), strict=True):
        mask = _detect(sim, **requirements).crmasks[exposure]
        image = np.ones((*mask.shape, 3))
        image[mask] = 0.0
        image[mask & far] = (0.9, 0.1, 0.1)
        ax.imshow(image, origin="lower")
        ax.set_title(f"{title}\n{np.count_nonzero(mask & far)} false pixels")
    for ax in axes:
        ax.set(xlabel="x (pixel)", ylabel="y (pixel)")


def tails():
    """Draw the charge that masks leave against the pixels they take."""
    sim = simulate_exposures((300, 300), seed=3)
    series = {
        "matched: ma_tail": [
            (value, {"ma_tail": value}) for value in (4, 3, 2.5, 2, 1.5, 1)
        ],
        "mmcosmic: dilation": [
            (value, {"crmethod": "mmcosmic", "dilation": value}) for value in (0, 1, 2)
        ],
    }
    _fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    for marker, (label, runs) in zip("os", series.items(), strict=True):
        points = [_left(sim, _detect(sim, **options)) for _, options in runs]
        ax.plot(*np.transpose(points), marker=marker, label=label)
        for (value, _), point in zip(runs, points, strict=True):
            ax.annotate(f"{value:g}", point, xytext=(6, 4), textcoords="offset points")
    ax.set(
        xlabel="flagged part of an exposure (%)",
        ylabel="charge of hits that is not flagged (%)",
        yscale="log",
    )
    ax.legend()


def laplacian():
    """Draw an exposure, what L.A. Cosmic sees in it, and what it flags."""
    sim = simulate_exposures((200, 200), scene="stars", seed=3)
    data = sim.exposures[0].data
    fig, axes = plt.subplots(2, 2, figsize=(7, 8), layout="constrained")
    low, high = np.percentile(data, [1, 99])
    artist = axes[0, 0].imshow(data, origin="lower", cmap="gray_r", vmin=low, vmax=high)
    axes[0, 0].set_title("exposure (adu)")
    fig.colorbar(artist, ax=axes[0, 0], location="bottom")
    for ax, fsmode in zip(axes[1], ("convolve", "median"), strict=True):
        detector = LACosmic(fsmode=fsmode)
        significance, contrast = laplacian_statistics(data, detector, 1.0, 3.0)
        significant = significance > detector.sigclip
        image = np.ones((*data.shape, 3))
        image[significant] = (0.6, 0.7, 0.9)
        image[significant & (contrast > detector.objlim)] = (0.9, 0.1, 0.1)
        ax.imshow(image, origin="lower")
        ax.set_title(f"la_fsmode {fsmode}")
    artist = axes[0, 1].imshow(
        significance, origin="lower", cmap="gray_r", vmin=0, vmax=10
    )
    axes[0, 1].set_title("$S'$")
    fig.colorbar(artist, ax=axes[0, 1], location="bottom")
    for ax in axes.flat:
        ax.set(xlabel="x (pixel)", ylabel="y (pixel)")


def diagram(name, **requirements):
    """Draw the Median-Minimum diagram of a mask."""
    sim = simulate_exposures((300, 300), seed=1)
    masks = _detect(sim, crmethod="mmcosmic", **requirements)
    plot_diagram(masks, name, fig=plt.figure(figsize=(9, 4.5), layout="constrained"))


def boundaries():
    """Draw the boundaries of the three masks."""
    sim = simulate_exposures((300, 300), seed=1)
    found = _detect(sim, crmethod="mmcosmic").diagnostics.boundaries
    _fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, style in {"MEDIANCR": "-", "MEANCRT": "--", "CRMASK1": ":"}.items():
        plot_boundary(found[name], limits=(0, 4000), ax=ax, ls=style, label=name)
    ax.set(xlabel="minimum over the exposures (adu)", ylabel="excess over it (adu)")
    ax.legend()


def _left(sim, masks):
    left = sim.cosmic_rays[~masks.crmasks].sum() / sim.cosmic_rays.sum()
    return 100 * masks.crmasks.mean(), 100 * left


def _detect(sim, **requirements):
    """Detect; that exposures are not equivalent is what some figures show."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CRWarning)
        return detect_cosmic_rays(
            sim.exposures, gain="GAIN", readnoise="RDNOISE", **requirements
        )


def accuracy():
    """Draw what ``benchmarks/accuracy.py`` has measured of all methods."""
    table = Table.read(Path(__file__).parents[1] / "accuracy.csv", format="ascii.csv")
    names = list(dict.fromkeys(table["exposures"]))
    size = (9, 0.26 * len(names) + 1.6)
    fig, axes = plt.subplots(1, 3, figsize=size, sharey=True, layout="constrained")
    axes[1].set(xscale="log", xlabel="false coincidences per Mpixel, at least 1")
    axes[0].set(
        xlabel="coincidence recall", yticks=range(len(names)), yticklabels=names
    )
    axes[2].set_xlabel("efficiency")
    for method, marker in zip(dict.fromkeys(table["method"]), "osv^DP", strict=True):
        rows = table[table["method"] == method]
        places = [names.index(name) for name in rows["exposures"]]
        for ax, name in zip(axes, ("recall", "false", "efficiency"), strict=True):
            shown = np.maximum(rows[name], 1) if name == "false" else rows[name]
            ax.plot(shown, places, marker, ms=5, label=method)
    for ax in axes:
        ax.grid(axis="y", lw=0.3)
    axes[0].invert_yaxis()
    handles = axes[0].get_legend_handles_labels()
    fig.legend(*handles, loc="outside upper center", ncols=6)


# Rooms from the ground up: name, what is in it, left edge and width of its box.
_FLOORS = (
    (("utils", "files, bands, windows, stacks", 0, 8), ("exceptions", "", 8, 2)),
    (
        ("requirements", "the table of options", 0, 3),
        ("exposures", "reader, CCD", 3, 7),
    ),
    (
        ("single_image", "L.A. Cosmic", 0, 3),
        ("median_minimum", "boundaries", 3, 3.5),
        ("matching", "local matching, decision", 6.5, 3.5),
    ),
    (("masks", "mask set, its file, editing, origins", 0, 10),),
    (
        ("detection", "stages in their order", 0, 4),
        ("combination", "methods, tiles, ccdproc", 4, 4),
        ("simulation", "known truth", 8, 2),
    ),
    (("inspection", "masks together with exposures", 0, 10),),
    (
        ("plotting", "figures", 0, 2),
        ("report", "a folder", 2, 2),
        ("reviewing", "windows", 4, 2),
        ("pipeline", "observing blocks", 6, 4),
    ),
    (("cli", "the command ccdcr", 0, 10),),
)
_FLOW = {"exposures", "detection", "masks", "combination"}


def house():
    """Draw the rooms of the package; a room imports only from those below it."""
    _fig, ax = plt.subplots(figsize=(8, 5.6), layout="constrained")
    for floor, rooms in enumerate(_FLOORS):
        for name, text, left, width in rooms:
            color = "#cfe3f5" if name in _FLOW else "#f2f2f2"
            box = plt.Rectangle(
                (left + 0.05, floor + 0.06), width - 0.1, 0.88, fc=color, ec="#004c87"
            )
            ax.add_patch(box)
            x = left + width / 2
            ax.text(x, floor + 0.62, name, ha="center", va="center", weight="bold")
            ax.text(x, floor + 0.28, text, ha="center", va="center", fontsize="small")
    ax.set(xlim=(0, 10), ylim=(0, len(_FLOORS)))
    ax.axis("off")
