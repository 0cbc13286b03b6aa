# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From what was found in matched exposures to the masks of a set."""

import numpy as np
from scipy import ndimage

from ccdcr import _kernels as kernels
from ccdcr.detection.detectors import run_detector
from ccdcr.detection.masks import assemble, flag_origins, residual_mask
from ccdcr.detection.matched.decide import Limits
from ccdcr.detection.matched.matched import Options
from ccdcr.detection.matched.structure import find_structure
from ccdcr.detection.planes import Observed, Planes, fill_from_nearest
from ccdcr.utils.morphology import groups_with_seed, label_groups

__all__ = ["options_of", "planes_of", "second_opinion"]

# Cores of lines and stars look like hits; a hit stands out more than what is left.
_CLEAR, _SIGMAS = np.float32(2.0), np.float32(5.0)
_EDGE = 0.25  # of the peak
_LIMITS = ("high", "low", "leak", "tail")


def options_of(requirements):
    """Take the requirements that begin with ``ma_``."""
    return Options(
        passes=requirements.ma_passes,
        tile=requirements.ma_tile,
        strips=requirements.ma_strips,
        limits=Limits(
            **{name: getattr(requirements, f"ma_{name}") for name in _LIMITS}
        ),
    )


def second_opinion(detector, frames, parameters, progress_bar=None):
    """
    Find what is hit in every exposure: a single image shows it, no comparison.

    Parameters
    ----------
    detector : callable or None
        The single-image detector; None finds nothing.
    frames : `~ccdcr.detection.matched.frames.Frames`
        The exposures.
    parameters : `~ccdcr.exposures.Detector`
        Gain and read noise.
    progress_bar : callable, optional
        Wraps the images.

    Returns
    -------
    found : `~ccdcr.detection.detectors.SingleImage`
        What was found in the median and in the lowest exposure.
    everywhere : 2D `~numpy.ndarray` of bool
        Groups that are found in both, stand out clearly and are sharp.
    """
    nothing = np.zeros(frames.shape, dtype=bool)
    if detector is None:
        return run_detector(None, {}, parameters), nothing
    unused = frames.unused
    nowhere = None if unused is None else unused.all(axis=0)
    images = {
        "MEDIANCR": kernels.median(frames.data, unused),
        "LOWEST": kernels.lowest(frames.data, unused)[0],
    }
    if nowhere is not None and nowhere.any():
        images = {k: fill_from_nearest(v, nowhere) for k, v in images.items()}
    found = run_detector(
        detector,
        {name: (image, nowhere) for name, image in images.items()},
        parameters,
        keep=images,
        progress_bar=progress_bar,
    )
    both = found.masks["MEDIANCR"] & found.masks["LOWEST"]
    if not both.any():
        return found, both
    clear = _stands_out(images["LOWEST"], found.cleaned["LOWEST"], frames.noise)
    both = groups_with_seed(both, clear)
    return found, _sharp(both, images["LOWEST"], frames.noise)


def _stands_out(image, cleaned, noise):
    """Return where an image exceeds what is left by more than structure does."""
    structure = find_structure(cleaned, noise)
    limit = _CLEAR * np.maximum(structure.height, structure.contrast)
    limit += _SIGMAS * np.sqrt(noise.mean_variance(cleaned))
    return image - cleaned > limit


def _sharp(mask, image, noise):
    """Return the 8-connected groups that end at once, as no line or star does."""
    labels, number = label_groups(mask)
    profile = find_structure(image, noise).profile
    around = ndimage.maximum_filter(labels, 3) * ~mask
    index = np.arange(1, number + 1)
    edge = ndimage.maximum(profile, around, index)
    sharp = edge < _EDGE * ndimage.maximum(profile, labels, index)
    return np.concatenate([[False], sharp])[labels]


def planes_of(hits, everywhere, frames, lists, dilation):
    """
    Return the masks of a set, and what found each pixel.

    Parameters
    ----------
    hits : `~ccdcr.detection.matched.matched.Found`
        What was found by comparing the exposures.
    everywhere : 2D `~numpy.ndarray` of bool
        What is hit in every exposure, True = hit.
    frames : `~ccdcr.detection.matched.frames.Frames`
        The exposures.
    lists : `~ccdcr.detection.masks.UserLists`
        The user's lists.
    dilation : int
        How many times masks are dilated.

    Returns
    -------
    masks : dict of 2D `~numpy.ndarray` of bool
        The masks by name, True = hit.
    flags : dict of 2D `~numpy.ndarray` of uint8
        As `~ccdcr.detection.masks.flag_origins` returns them.
    """
    observed = _observed(frames)
    compared = {"MEDIANCR": hits.coincident, "MEANCRT": hits.masks.any(axis=0)}
    compared |= dict(zip(observed.names, hits.masks, strict=True))
    found = {name: mask | everywhere for name, mask in compared.items()}
    masks = assemble(found, observed, lists, dilation)
    union = masks["MEDIANCR"].copy()
    left = observed.planes.nogood
    left = np.ones(union.shape, dtype=bool) if left is None else ~left
    for i, name in enumerate(observed.names):
        union |= masks[name]
        left &= masks[name] if frames.unused is None else masks[name] | frames.unused[i]
    masks["MEANCRT"] = union
    masks["MEANCR"] = residual_mask(left, observed.planes.nogood, lists, 0)
    single = dict.fromkeys(masks, everywhere)
    compared["MEANCR"] = left & compared["MEANCRT"]
    return masks, flag_origins(masks, single, compared, lists)


def _observed(frames):
    """Return what assembling the masks needs to know."""
    minimum, index = kernels.lowest(frames.data, frames.unused)
    nogood = None if frames.bad is None else frames.bad.all(axis=0)
    planes = Planes(minimum, index, None, None, nogood)
    return Observed(frames.data, frames.bad, planes, np.ones(len(frames)), None)
