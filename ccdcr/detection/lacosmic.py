# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""L.A. Cosmic, the first of the single-image detectors."""

from dataclasses import dataclass, replace

import astroscrappy
import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma

from ccdcr.utils.morphology import groups_with_seed

__all__ = ["LACosmic", "gaussian_kernel"]

_LARGEST_FILTER = 9  # pixels; it writes outside of smaller images


def gaussian_kernel(fwhm_x, fwhm_y, size):
    """
    Return an elliptical Gaussian whose sum is 1.

    Parameters
    ----------
    fwhm_x, fwhm_y : float
        Full width at half maximum along x and y in pixels.
    size : int
        Odd number of pixels along each side.

    Returns
    -------
    kernel : 2D `~numpy.ndarray` of float32
        The kernel, centred.
    """
    distance = np.arange(size) - size // 2
    profiles = [
        np.exp(-0.5 * (distance / (fwhm * gaussian_fwhm_to_sigma)) ** 2)
        for fwhm in (fwhm_y, fwhm_x)
    ]
    kernel = np.outer(*profiles)
    return (kernel / kernel.sum()).astype(np.float32)


@dataclass(frozen=True)
class LACosmic:
    """
    L.A. Cosmic [1]_ as implemented in astroscrappy.

    The parameters are the requirements ``la_…`` without this prefix.
    ``sigclip``, ``sigfrac`` and ``objlim`` may be pairs: then a second, laxer
    run adds those of its features that touch a pixel of the first one.

    References
    ----------
    .. [1] van Dokkum, P. G. 2001, PASP 113, 1420, doi:10.1086/323894
    """

    sigclip: float | tuple = 5.0
    sigfrac: float | tuple = 0.3
    objlim: float | tuple = 5.0
    satlevel: float = 65535.0
    niter: int = 4
    sepmed: bool = True
    cleantype: str = "meanmask"
    fsmode: str = "convolve"
    psfmodel: str = "gaussxy"
    psffwhm_x: float = 2.5
    psffwhm_y: float = 2.5
    psfsize: int = 11
    psfbeta: float = 4.765
    padwidth: int = 0

    @classmethod
    def from_requirements(cls, requirements):
        """Take the requirements that begin with ``la_``."""
        names = cls.__dataclass_fields__
        return cls(**{name: getattr(requirements, f"la_{name}") for name in names})

    def __call__(self, image, inmask, gain, readnoise):
        """
        Detect and clean cosmic rays in one image.

        Parameters
        ----------
        image : 2D `~numpy.ndarray`
            The image, without bias.
        inmask : 2D `~numpy.ndarray` of bool or None
            True = takes no part.
        gain : float
            Electrons per unit of the image.
        readnoise : float
            Read noise in electron.

        Returns
        -------
        mask : 2D `~numpy.ndarray` of bool
            True = cosmic ray.
        cleaned : 2D `~numpy.ndarray` of float32
            The image with interpolated cosmic rays, in the unit of the image.
        """
        strict, lax = self._passes()
        mask, cleaned = strict.run(image, inmask, gain, readnoise)
        if lax is None:
            return mask, cleaned
        wide, wide_cleaned = lax.run(image, inmask, gain, readnoise)
        mask |= groups_with_seed(wide, mask)
        return mask, np.where(mask & wide, wide_cleaned, cleaned)

    def _passes(self):
        names = ("sigclip", "sigfrac", "objlim")
        values = {name: getattr(self, name) for name in names}
        pairs = {n: v if isinstance(v, tuple) else (v, v) for n, v in values.items()}
        strict = replace(self, **{name: pair[0] for name, pair in pairs.items()})
        lax = replace(self, **{name: pair[1] for name, pair in pairs.items()})
        return strict, None if lax == strict else lax

    def run(self, image, inmask, gain, readnoise):
        """Make one pass; parameters and results as for a call."""
        pad = _widths(image.shape, self.padwidth)
        # In electrons, so that gain is 1 for every version of astroscrappy.
        electrons = _pad(np.multiply(image, gain, dtype=np.float32), pad)
        mask, cleaned = astroscrappy.detect_cosmics(
            electrons,
            inmask=None if inmask is None else _pad(inmask, pad),
            sigclip=self.sigclip,
            sigfrac=self.sigfrac,
            objlim=self.objlim,
            gain=1.0,
            readnoise=readnoise,
            satlevel=self.satlevel * gain,
            niter=self.niter,
            sepmed=self.sepmed,
            cleantype=self.cleantype,
            fsmode=self.fsmode,
            **self._psf(),
        )
        inside = tuple(
            slice(before, before + size)
            for (before, _), size in zip(pad, image.shape, strict=True)
        )
        return np.array(mask[inside], dtype=bool), cleaned[inside] / np.float32(gain)

    def _psf(self):
        x, y, size = self.psffwhm_x, self.psffwhm_y, self.psfsize
        if self.psfmodel == "gaussxy":
            return {"psfk": gaussian_kernel(x, y, size)}
        fwhm = {"gaussx": x, "gaussy": y}.get(self.psfmodel, (x + y) / 2)
        return {
            "psfmodel": self.psfmodel,
            "psffwhm": fwhm,
            "psfsize": size,
            "psfbeta": self.psfbeta,
        }


def _widths(shape, padwidth):
    """Return the margins; the filters of astroscrappy need images of their size."""
    return [(padwidth, padwidth + max(_LARGEST_FILTER - n, 0)) for n in shape]


def _pad(image, widths):
    return np.pad(image, widths, mode="reflect") if np.any(widths) else image
