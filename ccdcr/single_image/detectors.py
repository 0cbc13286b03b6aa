# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Single-image detectors: L.A. Cosmic and those of optional packages."""

from contextlib import contextmanager
from dataclasses import dataclass, replace

import astroscrappy
import numpy as np
from astropy.modeling.functional_models import Moffat2D
from astropy.stats import gaussian_fwhm_to_sigma
from astroscrappy.astroscrappy import gaussxkernel, gaussykernel
from astroscrappy.utils import image_utils, median_utils
from numpy.lib.stride_tricks import sliding_window_view

from ccdcr.utils import stacks as kernels
from ccdcr.utils.neighbours import groups_with_seed

__all__ = [
    "DETECTORS",
    "LACosmic",
    "SingleImage",
    "gaussian_kernel",
    "laplacian_statistics",
    "run_detector",
]

_LEAST_FINE = 0.01


def laplacian_statistics(image, detector, gain, readnoise):
    """
    Return significance and contrast (ny, nx) of an image without bias by L.A. Cosmic.

    The significance is S' of [1]_, for ``la_sigclip``; the contrast is its ratio to the
    fine structure, for ``la_objlim``. Both are those of astroscrappy's [2]_ first
    iteration.

    .. [1] van Dokkum, P. G. 2001, PASP 113, 1420, doi:10.1086/323894
    .. [2] McCully, C. et al., Astro-SCRAPPY, doi:10.5281/zenodo.1482018
    """
    electrons = np.ascontiguousarray(np.multiply(image, gain, dtype=np.float32))
    if detector.sepmed:
        of_variance = of_laplacian = median_utils.sepmedfilt7
        of_fine, of_structure = median_utils.sepmedfilt5, median_utils.sepmedfilt9
    else:
        of_variance = of_laplacian = median_utils.medfilt5
        of_fine, of_structure = median_utils.medfilt3, median_utils.medfilt7
    variance = of_variance(electrons + np.float32(readnoise) ** 2)
    noise = np.sqrt(np.maximum(variance, np.float32(1e-5)))
    laplacian = image_utils.laplaceconvolve(image_utils.subsample(electrons))
    ratio = image_utils.rebin(np.maximum(laplacian, 0)) / (2 * noise)
    significance = ratio - of_laplacian(ratio)
    if detector.fsmode == "median":
        fine = of_fine(electrons)
    else:
        fine = _matched(electrons, noise, _kernel(detector))
    structure = np.maximum((fine - of_structure(fine)) / noise, _LEAST_FINE)
    return significance, significance / structure


def _matched(electrons, noise, kernel):
    weight = noise**-2
    smooth = image_utils.convolve(electrons * weight, kernel)
    return smooth / image_utils.convolve(weight, kernel)


def _kernel(detector):
    """Return the kernel (size, size) of the fine structure."""
    x, y, size = detector.psffwhm_x, detector.psffwhm_y, detector.psfsize
    fwhm = {"gaussx": x, "gaussy": y}.get(detector.psfmodel, (x + y) / 2)
    if detector.psfmodel == "gaussxy":
        return gaussian_kernel(x, y, size)
    if detector.psfmodel == "gauss":
        return gaussian_kernel(fwhm, fwhm, size)
    if detector.psfmodel == "moffat":
        return _moffat_kernel(fwhm, detector.psfbeta, size)
    kernel = gaussxkernel if detector.psfmodel == "gaussx" else gaussykernel
    return np.ascontiguousarray(kernel(fwhm, size)[::-1, ::-1])


def _moffat_kernel(fwhm, beta, size):
    distance = np.arange(size) - size // 2
    gamma = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
    kernel = Moffat2D.evaluate(
        distance, distance[:, np.newaxis], 1.0, 0.0, 0.0, gamma, beta
    )
    return (kernel / kernel.sum()).astype(np.float32)


_LARGEST_FILTER = 9  # pixels; astroscrappy writes outside of smaller images


def gaussian_kernel(fwhm_x, fwhm_y, size):
    """Return a Gaussian (size, size) of float32 whose sum is 1, for FWHM in pixels."""
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
    L.A. Cosmic as implemented in astroscrappy.

    The fields are the requirements ``la_…`` without this prefix.
    ``sigclip``, ``sigfrac`` and ``objlim`` may be pairs: then a second, laxer
    run adds those of its groups that touch a pixel of the first one.
    References: van Dokkum, P. G. 2001, PASP 113, 1420.
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
        """Return the detector with the requirements ``la_…``."""
        names = cls.__dataclass_fields__
        return cls(**{name: getattr(requirements, f"la_{name}") for name in names})

    def __call__(self, image, inmask, gain, readnoise):
        """
        Return the mask (True = cosmic ray) and cleaned image of an image without bias.

        ``inmask`` (True = ignored) may be None; ``readnoise``, one number or a map
        (ny, nx), is in electron.
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
        """Return mask and cleaned image of one pass, as a call does."""
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
            **_noise_options(electrons, readnoise, pad),
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


def _noise_options(electrons, readnoise, pad):
    """Return the read noise, or as a map (ny, nx) the variance that it makes."""
    if np.ndim(readnoise) == 0:
        return {"readnoise": readnoise}
    return {"invar": electrons + _pad(np.square(readnoise, dtype=np.float32), pad)}


def _widths(shape, padwidth):
    """Return the margins along y and x; astroscrappy's filters need a least size."""
    return [(padwidth, padwidth + max(_LARGEST_FILTER - n, 0)) for n in shape]


def _pad(image, widths):
    return np.pad(image, widths, mode="reflect") if np.any(widths) else image


class _FromPackage:
    """Base class of detectors of other packages."""

    def __call__(self, image, inmask, gain, readnoise):
        """Return the mask and the image interpolated by medians of the surroundings."""
        electrons = np.multiply(image, gain, dtype=np.float32)
        readnoise = float(np.median(readnoise))  # these know no map
        mask = np.asarray(self.detect(electrons, readnoise), dtype=bool)
        if inmask is not None:
            mask &= ~inmask
        return mask, _interpolate(image, mask, inmask)

    @classmethod
    def from_requirements(cls, _requirements):
        """Return the detector; it has no requirements."""
        return cls()


@contextmanager
def _needs(package, remedy):
    """Name the package to install when an import fails."""
    try:
        yield
    except ImportError as err:
        msg = f"this crmethod needs the package {package}; {remedy}"
        raise ImportError(msg) from err


class PyCosmic(_FromPackage):
    """PyCosmic (Husemann et al. 2012, A&A 545, A137) with its defaults."""

    def __init__(self):
        remedy = "pip install git+https://github.com/brandherd/PyCosmic"
        with _needs("PyCosmic", remedy):
            from PyCosmic import det_cosmics
        self._function = det_cosmics

    def detect(self, electrons, readnoise):
        """Return the mask of an image in electron."""
        return self._function(electrons, gain=1.0, rdnoise=readnoise).mask


class DeepCR(_FromPackage):
    """The model ACS-WFC of deepCR (Zhang & Bloom 2020, ApJ 889, 24)."""

    def __init__(self):
        with _needs("deepCR", "pip install ccdcr[deepcr]"):
            from deepCR import deepCR
        self._model = deepCR(mask="ACS-WFC", device="CPU")

    def detect(self, electrons, _readnoise):
        """Return the mask of an image in electron."""
        return self._model.clean(electrons, threshold=0.5, inpaint=False)


class CosmicCoNN(_FromPackage):
    """The model ground_imaging of Cosmic-CoNN (Xu et al. 2023, ApJ 942, 73)."""

    def __init__(self):
        with _needs("cosmic-conn", "pip install ccdcr[cosmic-conn]"):
            from cosmic_conn import init_model
        self._model = init_model("ground_imaging")

    def detect(self, electrons, _readnoise):
        """Return the mask of an image in electron."""
        return self._model.detect_cr(electrons) > 0.5


DETECTORS = {
    "lacosmic": LACosmic,
    "pycosmic": PyCosmic,
    "deepcr": DeepCR,
    "conn": CosmicCoNN,
}


@dataclass(frozen=True)
class SingleImage:
    """Masks and cleaned images (ny, nx) of a detector, by name of the mask."""

    masks: dict
    cleaned: dict

    def mask(self, name, shape):
        """Return a mask; an empty one if no detector ran."""
        return self.masks.get(name, np.zeros(shape, dtype=bool))


def run_detector(detector, images, parameters, *, keep=(), progress_bar=None):
    """Return the `SingleImage` of pairs of image and bad pixels, by mask name."""
    masks, cleaned = {}, {}
    readnoise = parameters.readnoise
    times = getattr(parameters, "times", None)
    if times is not None and isinstance(detector, LACosmic):
        level = detector.satlevel / float(np.median(times))
        detector = replace(detector, satlevel=level)
    if parameters.readnoise_map is not None:
        readnoise = parameters.readnoise_map
    items = images.items() if progress_bar is None else progress_bar(images.items())
    for name, (image, bad) in items:
        if detector is not None:
            masks[name], clean = detector(image, bad, parameters.gain, readnoise)
            if name in keep:
                cleaned[name] = clean
    return SingleImage(masks, cleaned)


def _interpolate(image, mask, inmask):
    """Replace flagged pixels by the median of the good ones in 5 x 5 around them."""
    bad = mask if inmask is None else mask | inmask
    padded = np.pad(image, 2)
    unusable = np.pad(bad, 2, constant_values=True)
    y, x = np.nonzero(mask)
    boxes, unusable = (
        sliding_window_view(plane, (5, 5))[y, x].reshape(len(y), 25).T
        for plane in (padded, unusable)
    )
    cleaned = np.array(image, dtype=np.float32)
    values = kernels.median(boxes, unusable)
    if bad.all():
        return cleaned
    cleaned[y, x] = np.where(np.isnan(values), np.median(image[~bad]), values)
    return cleaned
