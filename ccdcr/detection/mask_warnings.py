# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Warnings about implausible masks and exposures that differ."""

import numpy as np
from astropy import log
from astropy.table import Table
from scipy.stats import poisson

from ccdcr.exceptions import (
    CoincidenceWarning,
    ImplausibleMaskWarning,
    MatchingFailedWarning,
    NotEquivalentWarning,
    warn_user,
)
from ccdcr.matching.equivalence import MENDED, NOT_REGISTERED
from ccdcr.requirements.requirement_table import STAGES
from ccdcr.utils.neighbours import label_groups
from ccdcr.utils.stacks import chance_of_half

__all__ = [
    "flagged_fractions",
    "warn_of_dead",
    "warn_of_implausible",
    "warn_of_mismatch",
    "warn_of_registration",
    "warn_of_size",
]

_LEAST = 1000  # pixels of an image whose fractions are judged
_LEAST_SIDE, _LEAST_SIZE = 8, 256  # pixels that tell how exposures differ
# Pixels of a dead line, part of them that others have flagged, and how many are named.
_LINE, _BY_DEAD, _NAMED = 32, 0.2, 5
_MOST_LINES = 16  # more are an area, which is named by itself
_MOST_FLAGGED = 0.2
_BLOCK, _LEAST_BLOCKS, _LEAST_PART = 32, 6, 0.02  # pixels; blocks, also as a part
# Times the chance, with and without many more on bright pixels.
_MOST_COINCIDENT, _MOST_ALONE = 4, 10
_MOST_BRIGHT = 4  # times the fraction of faint pixels
_RARE, _FEW = 1e-6, 10  # chance of so many groups, and least number of groups
_LEAST_EXCESS, _MOST_EXCESS = 2.5, 12.0  # sigmas that name an exposure, and that warn
_MOST_FAINT = 3.0  # sigmas, of faint groups, that warn
_SAMPLE = 100_000  # pixels that are enough for percentiles
_PERCENTILE = 95
_FAINT, _BRIGHT = 2.0, 5.0  # sigmas above the median


def warn_of_implausible(masks, hits, bad=None):
    """
    Warn of masks with ``hits`` (n, ny, nx) that can hardly be those of cosmic rays.

    Only pixels that are good in all exposures are judged (``bad`` (n, ny, nx), True =
    bad, or None): elsewhere fewer hits spoil the median. MEANCRT, which grows with the
    number of exposures, and images of less than 1000 pixels are not judged.
    """
    use = np.ones(masks.shape, dtype=bool) if bad is None else ~bad.any(axis=0)
    size = np.count_nonzero(use)
    if size < _LEAST:
        return
    planes = [plane & use for plane in (masks.mediancr, *hits)]
    names = ["MEDIANCR", *(f"CRMASK{i}" for i in range(1, len(planes)))]
    fractions = [np.count_nonzero(plane) / size for plane in planes]
    full = [
        f"{name} {fraction:.0%}"
        for name, fraction in zip(names, fractions, strict=True)
        if fraction > _MOST_FLAGGED
    ]
    if full:
        msg = (
            f"too many pixels are flagged to be cosmic rays: {', '.join(full)}; check "
            "gain, readnoise, bias and whether the exposures are of the same field"
        )
        warn_user(msg, ImplausibleMaskWarning)
        return
    if (lacking := _find_lacking(planes)) is not None:
        msg = (
            f"exposure {lacking} seems to lack what others have in large parts of the "
            f"image, where more than {_MOST_FLAGGED:.0%} of the pixels are flagged in "
            "MEDIANCR: mask what was not read or exposed, or leave the exposure out"
        )
        warn_user(msg, ImplausibleMaskWarning)
        return
    found, chance = fractions[0] * size, chance_of_half(fractions[1:]) * size
    if _too_many(masks, planes[0], found, chance):
        msg = (
            f"{found:.0f} pixels are flagged in MEDIANCR, {chance:.0f} are expected by "
            f"chance{_of_bright(masks)}; look for stars, edges and hot pixels among "
            f"them{_remedy(masks)}"
        )
        warn_user(msg, CoincidenceWarning)


def warn_of_dead(data, hits, bad=None):
    """Warn of columns and rows of one value in an exposure where others have hits."""
    (n, ny, nx), found = data.shape, {}
    across = nx // _LINE

    def by_row(band):
        return band[..., : across * _LINE].reshape(n, -1, _LINE).swapaxes(1, 2)

    for start in range(0, ny - _LINE + 1, _LINE):
        part = np.s_[:, start : start + _LINE]
        band = data[part] if bad is None else np.where(bad[part], np.nan, data[part])
        others = hits[part].sum(axis=0) > hits[part]
        for i, x in _find_dead(band, others):
            found.setdefault(i + 1, {})[f"x = {x + 1}"] = True
        for i, k in _find_dead(by_row(band), by_row(others)):
            found.setdefault(i + 1, {})[f"y = {start + k // across + 1}"] = True
    found = {i: v for i, v in found.items() if len(v) <= _MOST_LINES}
    if found:
        lines = [
            f"{', '.join([*v][:_NAMED])} of exposure {i}" for i, v in found.items()
        ]
        msg = (
            f"columns or rows have one value as if they were dead, {'; '.join(lines)}, "
            "and other exposures look hit there: mask them in the exposures"
        )
        warn_user(msg, ImplausibleMaskWarning)


def _find_dead(lines, others):
    """Return exposures and indices of lines (n, pixels, m) of one low value."""
    dead = (lines == lines[:, :1]).all(axis=1) & (others.mean(axis=1) > _BY_DEAD)
    found = []
    for i, k in np.argwhere(dead).tolist():
        rest = np.delete(lines[..., k], i, axis=0)
        # Saturated ones are the highest.
        low = np.count_nonzero(rest > lines[i, 0, k]) > rest.size / 2
        if low and len(np.unique(lines[..., k])) > _LINE // 2:
            found.append((i, k))
    return found


def _find_lacking(planes):
    """Return the exposure least flagged where the first plane is dense, or None."""
    ny, nx = (length // _BLOCK for length in planes[0].shape)
    blocks = [
        plane[: ny * _BLOCK, : nx * _BLOCK]
        .reshape(ny, _BLOCK, nx, _BLOCK)
        .sum(axis=(1, 3), dtype=int)
        for plane in planes
    ]
    full = blocks[0] > _MOST_FLAGGED * _BLOCK**2
    if np.count_nonzero(full) < max(_LEAST_BLOCKS, _LEAST_PART * full.size):
        return None
    return int(np.argmin([each[full].sum() for each in blocks[1:]])) + 1


def _too_many(masks, coincident, found, chance):
    """Return whether there are more coincidences (ny, nx) than chance explains."""
    bright = _times_brighter(masks) > _MOST_BRIGHT
    if found <= (_MOST_COINCIDENT if bright else _MOST_ALONE) * chance:
        return False
    groups = label_groups(coincident)[1]
    expected = chance * groups / found + _allowed_by_noise(masks)
    return groups >= _FEW and bool(poisson.sf(groups - 1, expected) < _RARE)


def _allowed_by_noise(masks):
    """Return how many pixels noise may flag, by the requirements."""
    requirements = masks.requirements
    if requirements is None or requirements.crmethod not in STAGES["mm"]:
        return 0.0
    exact = requirements.mm_boundary_fit == "exact"
    return requirements.mm_false_positives if exact else 0.0


def _remedy(masks):
    requirements = masks.requirements
    if requirements is None or requirements.crmethod in STAGES["matched"]:
        return ""
    return ", and take crmethod='matched' if the exposures are not equivalent"


def _times_brighter(masks):
    """Return the flagged fraction of bright pixels over that of faint ones."""
    if masks.bright is None:
        return 1.0
    row = masks.bright[list(masks.bright["mask"]).index("MEDIANCR")]
    if not row["bright"] > 0:
        return 0.0
    return row["bright"] / row["faint"] if row["faint"] > 0 else np.inf


def _of_bright(masks):
    times = _times_brighter(masks)
    if not _MOST_BRIGHT < times < np.inf:
        return ""
    return f", and {times:.0f} times more of the bright pixels than of the faint ones"


def warn_of_mismatch(equivalence, excess=(), faint=0, *, uncertain=False):
    """
    Warn if matching left something or failed; log if it was needed.

    ``excess`` (n,) are the sigmas by which more is flagged on structure than hits
    explain, ``faint`` those of faint groups. ``uncertain`` tells that the noise is
    that of uncertainties.
    """
    left, excess, faint = equivalence.left, np.asarray(excess), np.asarray(faint)
    sure = (excess > _MOST_EXCESS) | (faint > _MOST_FAINT)
    flagged = _name_excess(np.where(sure, np.maximum(excess, _MOST_EXCESS), excess))
    if equivalence.failures:
        reasons = "; ".join([*equivalence.failures, *flagged])
        if uncertain:
            reasons = reasons.replace("gain, read noise", "the uncertainties")
        msg = f"the exposures differ too much to be matched: {reasons}"
        warn_user(msg, MatchingFailedWarning)
    elif left > MENDED or sure.any():
        if left > MENDED:
            text = (
                f"on structure they are up to {left:.2f} times as far apart as noise "
                "explains (Q / Q0), so that faint hits there are not found"
            )
            flagged = [text, *flagged]
        msg = (
            f"the exposures still differ after matching: {'; '.join(flagged)}; see "
            "masks.equivalence, and register or scale the exposures, or leave out the "
            "one that differs"
        )
        warn_user(msg, NotEquivalentWarning)
    elif equivalence.needed:
        log.info(f"the exposures were matched: {equivalence.describe()}")


def _name_excess(excess):
    """Return a list of one text that names exposures, or of none."""
    worst = [str(i + 1) for i in np.argsort(-excess) if excess[i] > _LEAST_EXCESS]
    if not worst:
        return []
    exposures = "exposures" if len(worst) > 1 else "exposure"
    return [
        f"hits do not explain all flags on structure of {exposures} {', '.join(worst)}"
    ]


def warn_of_size(shape):
    """Warn of images (ny, nx) in which too few pixels tell how exposures differ."""
    if min(shape) < _LEAST_SIDE or shape[0] * shape[1] < _LEAST_SIZE:
        msg = (
            f"{shape[1]} x {shape[0]} pixels are too few to match exposures, and "
            "expected values may be wrong by several sigmas: give larger parts of the "
            f"exposures, at least {_LEAST_SIDE} pixels wide and {_LEAST_SIZE} in all"
        )
        warn_user(msg, MatchingFailedWarning)


def warn_of_registration(registration, places):
    """Warn if exposures are not registered; ``places`` are those of aligned ones."""
    if not registration.is_fine(places):
        warn_user(f"{NOT_REGISTERED}: {registration}", MatchingFailedWarning)


def flagged_fractions(masks, image, compute_noise):
    """Return a table of the flagged fractions of bright and faint pixels, by mask."""
    sample = image.ravel()[:: max(image.size // _SAMPLE, 1)]
    middle, high = np.percentile(sample, (50, _PERCENTILE))
    # Beyond the noise: the median is higher where an exposure is hit.
    sigma = compute_noise(middle)
    parts = {
        "bright": image > max(high, middle + _BRIGHT * sigma),
        "faint": image <= middle + _FAINT * sigma,
    }
    rows = {"mask": list(masks)} | {
        name: [_fraction(mask, part) for mask in masks.values()]
        for name, part in parts.items()
    }
    return Table(rows)


def _fraction(mask, part):
    number = np.count_nonzero(part)
    return np.count_nonzero(mask & part) / number if number else np.nan
