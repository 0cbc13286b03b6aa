# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures of what ``benchmarks/field.py`` has measured of published rules."""

from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from astropy.table import Table

__all__ = ["by_number", "found_and_false", "who_is_right"]

TABLE = Path(__file__).parents[1] / "field.ecsv"
_PREFERRED = {
    "default": ("default", "assumed"),
    "tuned": ("tuned", "default", "assumed"),
}
_OURS = ("matched", "mm_lacosmic")
_SHOWN = {
    "matched": ("#004c87", "o"),
    "crrej": ("#d55e00", "s"),
    "driz_cr": ("#009e73", "^"),
    "scaled minimum": ("#cc79a7", "v"),
    "few epochs": ("#56b4e9", "D"),
    "clip by number": ("#e69f00", "P"),
    "lacosmic": ("#999999", "X"),
    "mm_lacosmic": ("#7aa6cc", "o"),
}
_EDGES = (1.0, 1e5)


def _read(setting):
    """Return the rows of one setting of each rule, by scene, number and rule."""
    table, rows = Table.read(TABLE, format="ascii.ecsv"), {}
    for wanted in reversed(_PREFERRED[setting]):
        for row in table[table["setting"] == wanted]:
            rows[row["scene"], int(row["n"]), row["rule"]] = row
    return rows


def who_is_right(setting="default", n=3):
    """Draw the efficiency of each rule in each scene; the best of each is bold."""
    rows = {(s, r): row for (s, k, r), row in _read(setting).items() if k == n}
    scored = {key: row["efficiency"] for key, row in rows.items()}
    scored = {key: value for key, value in scored.items() if np.isfinite(value)}
    scenes = list(dict.fromkeys(scene for scene, _ in scored))
    rules = list(dict.fromkeys(rule for _, rule in scored))
    image = np.array([[scored.get((s, r), np.nan) for s in scenes] for r in rules])
    # Some rules are not measured in all scenes, of which some are easier.
    order = np.argsort(-np.nanmean(image - np.nanmedian(image, axis=0), axis=1))
    image, rules = image[order], [rules[i] for i in order]
    fig, ax = plt.subplots(
        figsize=(10.5, 0.33 * len(rules) + 1.5), layout="constrained"
    )
    artist = ax.imshow(image, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    best = np.nanmax(image, axis=0)
    for (y, x), value in np.ndenumerate(image):
        text = "" if np.isnan(value) else f"{value:.2f}".removeprefix("0")
        style = {"weight": "bold" if value > best[x] - 0.01 else "normal"}
        color = "white" if value > 0.6 else "black"
        ax.text(x, y, text, ha="center", va="center", size=8, color=color, **style)
    ax.set_xticks(range(len(scenes)), scenes, rotation=40, ha="right")
    ax.set_yticks(range(len(rules)), rules)
    for label in ax.get_yticklabels():
        label.set_weight("bold" if label.get_text() in _OURS else "normal")
    fig.colorbar(artist, label="efficiency", pad=0.01)


def by_number(setting="default"):
    """Draw the efficiency by the number of exposures, in six scenes."""
    rows = _read(setting)
    kinds, cases = ("fibres", "stars", "longslit"), ("eq", "all")
    size = {"figsize": (10, 5.6), "layout": "constrained"}
    fig, axes = plt.subplots(2, 3, sharex=True, sharey=True, **size)
    for ax, (case, kind) in zip(axes.flat, product(cases, kinds), strict=True):
        scene = f"{kind}-{case}"
        for rule, (color, marker) in _SHOWN.items():
            points = sorted(
                (n, row["efficiency"])
                for (s, n, r), row in rows.items()
                if (s, r) == (scene, rule)
            )
            if points:
                ax.plot(*zip(*points, strict=True), marker, ls="-", c=color, label=rule)
        words = "equivalent" if case == "eq" else "not quite equivalent"
        ax.set_title(f"{kind}, {words}", size="medium")
        ax.grid(lw=0.3)
    axes[0, 0].set(ylim=(0, 1.1))
    fig.supxlabel("exposures")
    fig.supylabel("efficiency")
    _legend(fig, axes[0, 1])


def found_and_false(n=3):
    """Draw coincidences found against false ones, at the defaults of each rule."""
    rows = _read("default")
    scenes = ("fibres-all", "stars-all", "longslit-all", "drawn", "kast")
    size = {"figsize": (11, 3.2), "layout": "constrained"}
    fig, axes = plt.subplots(1, len(scenes), sharex=True, sharey=True, **size)
    for ax, scene in zip(axes, scenes, strict=True):
        for rule, (color, marker) in _SHOWN.items():
            row = rows.get((scene, n, rule))
            if row is not None:
                away = np.clip(row["false"], *_EDGES)
                ax.plot(away, row["recall"], marker, c=color, ms=8, label=rule)
        ax.set_title(scene, size="medium")
        ax.grid(lw=0.3)
    axes[0].set(xscale="log", xlim=(0.6, 2e5), ylim=(-0.05, 1.05))
    axes[0].set_ylabel("coincidences found")
    fig.supxlabel("false coincidences per Mpixel, at least 1", size="medium")
    _legend(fig, axes[0])


def _legend(fig, ax):
    handles = ax.get_legend_handles_labels()
    fig.legend(*handles, loc="outside upper center", ncols=8, fontsize="small")
