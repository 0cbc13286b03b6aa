# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Exposures as the stages of matching see them."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ccdcr.detection.matched.noise import Noise

__all__ = ["Frames"]


@dataclass(frozen=True)
class Frames:
    """
    Exposures, their noise, and what of them takes no part.

    Parameters
    ----------
    data : 3D `~numpy.ndarray` of float32
        The exposures, (n, ny, nx), without bias.
    noise : `~ccdcr.detection.matched.noise.Noise`
        Their noise.
    bad : 3D `~numpy.ndarray` of bool, optional
        True = takes no part in any sort, mean or fit, and is never flagged.
    saturated : 3D `~numpy.ndarray` of bool, optional
        True = takes no part, either, but may be flagged.
    """

    data: np.ndarray
    noise: Noise
    bad: np.ndarray | None = None
    saturated: np.ndarray | None = None

    @classmethod
    def of(cls, data, noise, bad=None, level=np.inf):
        """
        Tell bad and saturated pixels.

        Parameters
        ----------
        data, noise, bad
            As for the class; values under ``bad`` may be anything.
        level : float or sequence of float, optional
            Saturation level, one or one for each exposure.

        Returns
        -------
        frames : `Frames`
            The frames, finite everywhere.
        """
        level = np.broadcast_to(np.float32(level), len(data))
        with np.errstate(invalid="ignore"):
            saturated = data >= level[:, np.newaxis, np.newaxis]
        if bad is not None:
            saturated &= ~bad
            data = np.where(bad, data.dtype.type(0), data)
        return cls(data, noise, bad, saturated if saturated.any() else None)

    @cached_property
    def unused(self):
        """Pixels that take no part, (n, ny, nx), or None."""
        masks = [mask for mask in (self.bad, self.saturated) if mask is not None]
        if len(masks) < 2:
            return masks[0] if masks else None
        return masks[0] | masks[1]

    def replace(self, data):
        """Return the same with other data."""
        frames = replace(self, data=data)
        vars(frames)["unused"] = self.unused
        return frames

    @property
    def shape(self):
        """Shape of each exposure, (ny, nx)."""
        return self.data.shape[1:]

    def __len__(self):
        return len(self.data)
