# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tables of the documentation that are measured when it is built."""

import warnings

import numpy as np
from figures import clipped
from requirements_tables import _list_table, _Tables

from ccdcr import CRCombiner, detect_cosmic_rays
from ccdcr.exceptions import CRWarning
from ccdcr.simulation import evaluate, simulate_exposures

__all__ = ["setup"]

_SCENES = ("fibres", "longslit", "stars")
_DETECTORS = {
    "``matched``": {},
    "``matched_lacosmic``": {"crmethod": "matched_lacosmic"},
    "``mmcosmic``": {"crmethod": "mmcosmic"},
    "``mm_lacosmic``": {"crmethod": "mm_lacosmic"},
    "``lacosmic``": {"crmethod": "lacosmic"},
    "``lacosmic``, ``la_fsmode`` median": {
        "crmethod": "lacosmic",
        "la_fsmode": "median",
    },
}
_COMBINATIONS = ("mediancr", "meancrt", "meancr")
_RAMP = np.linspace(-1, 1, 3)
_OTHER = np.roll(_RAMP, 1)
# Differences between exposures as they are usual in one night.
_UNLIKE = {
    "flux": tuple(1 + 0.1 * _RAMP),
    "shift": np.column_stack([0.15 * _RAMP, 0.11 * _OTHER]).tolist(),
    "seeing": tuple(2.5 * (1 + 0.06 * _OTHER)),
    "sky_lines": tuple(1 + 0.06 * _OTHER),
    "background": tuple(2 + 2 * np.roll(_RAMP, 2)),
}
_SIZE = 200


class MeasuredDetections(_Tables):
    """One row for each ``crmethod``; with the argument unlike, of such exposures."""

    optional_arguments = 1

    def lines(self):
        """Yield reST."""
        differences = _UNLIKE if self.arguments else {}
        rows = [
            [name, *_detection(requirements, differences)]
            for name, requirements in _DETECTORS.items()
        ]
        columns = {"crmethod": 40, "found": 20, "false": 20, "efficiency": 20}
        yield from _list_table(columns, rows)


class MeasuredCombinations(_Tables):
    """One row for each way to combine, plain ccdproc's first."""

    def lines(self):
        """Yield reST."""
        counts = {}
        for scene in _SCENES:
            sim = simulate_exposures((_SIZE, _SIZE), scene=scene, seed=2)
            masks, images = _combined(sim, {})
            images = clipped(sim.exposures) | images
            table = evaluate(masks, images, sim).images
            for row in table:
                counts.setdefault(row["image"], []).append(list(row)[1:])
        rows = []
        for name, values in counts.items():
            residual, _, efficiency = np.transpose(values)
            noise = np.sqrt(1 / efficiency.mean())
            rows.append([f"``{name}``", f"{residual.sum():.0f}", f"{noise:.2f}"])
        columns = {"combination": 30, "pixels left": 20, "noise": 20}
        yield from _list_table(columns, rows)


def _detection(requirements, differences):
    """Return recall, false pixels and efficiency over all scenes."""
    hit = found = false = 0
    efficiency = []
    for scene in _SCENES:
        sim = simulate_exposures((_SIZE, _SIZE), scene=scene, seed=2, **differences)
        masks, images = _combined(sim, requirements)
        judged = evaluate(masks, {"meancr": images["meancr"]}, sim)
        hit += sum(judged.masks["hit"][1:])
        found += sum(judged.masks["hit"][1:] * judged.masks["recall"][1:])
        false += sum(judged.masks["false"][1:])
        efficiency.append(judged.images["efficiency"][0])
    return [f"{100 * found / hit:.1f} %", str(false), f"{np.mean(efficiency):.2f}"]


def _combined(sim, requirements):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CRWarning)
        masks = detect_cosmic_rays(
            sim.exposures,
            gain="GAIN",
            readnoise="RDNOISE",
            **{"la_verbose": False} | requirements,
        )
    combiner = CRCombiner(sim.exposures, masks)
    return masks, {
        name: getattr(combiner, f"{name}_combine")() for name in _COMBINATIONS
    }


def setup(app):
    """Register the directives."""
    app.add_directive("measured-detections", MeasuredDetections)
    app.add_directive("measured-combinations", MeasuredCombinations)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
