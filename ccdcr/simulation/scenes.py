# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Simulated scenes: fibres, a long slit, stars."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

__all__ = []

_FWHM_PER_SIGMA = np.sqrt(8 * np.log(2))
_MOFFAT_BETA = 3.0

_NEGLIGIBLE = 0.02  # electrons at which a profile ends
_BLOCK = 2**21  # values computed at a time, to save memory


def _rows_of_gaussians(centres, heights, sigma, size):
    """Return the sum (rows, size) of Gaussians with centres and heights (rows, n)."""
    half = int(np.ceil(5.5 * sigma))
    window = np.arange(-half, half + 1)
    n_blocks = centres.size * window.size // _BLOCK + 1
    blocks = zip(
        np.array_split(centres, n_blocks),
        np.array_split(heights, n_blocks),
        strict=True,
    )
    return np.concatenate([_gaussians(*block, sigma, size, window) for block in blocks])


def _gaussians(centres, heights, sigma, size, window):
    nearest = np.rint(centres).astype(int)
    columns = nearest[:, :, np.newaxis] + window
    distance = (columns - centres[:, :, np.newaxis]) / sigma
    values = heights[:, :, np.newaxis] * np.exp(-0.5 * distance**2)
    rows = np.arange(len(centres))[:, np.newaxis, np.newaxis]
    inside = (columns >= 0) & (columns < size)
    image = np.bincount(
        (rows * size + columns)[inside], values[inside], minlength=len(centres) * size
    )
    return image.reshape(len(centres), size)


def _add_moffat(image, place, flux, fwhm):
    """Add a Moffat profile of a total ``flux`` to ``image``, in place."""
    width = 0.5 * fwhm / np.sqrt(2 ** (1 / _MOFFAT_BETA) - 1)
    peak = flux * (_MOFFAT_BETA - 1) / (np.pi * width**2)
    radius = width * max(peak / _NEGLIGIBLE, 1) ** (0.5 / _MOFFAT_BETA)
    window, x, y = _window(image.shape, place, radius)
    image[window] += peak * (1 + (x**2 + y**2) / width**2) ** -_MOFFAT_BETA


def _add_exponential(image, place, fwhm, *, peak, scale, ratio, angle):
    """Add an inclined exponential disc to ``image``, in place."""
    radius = scale * np.log(peak / _NEGLIGIBLE)
    window, x, y = _window(image.shape, place, radius)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = (y * np.cos(angle) - x * np.sin(angle)) / ratio
    # Seeing rounds off the centre and keeps the flux of the sharp disc.
    core = 0.5 * fwhm
    height = peak * np.exp(core / scale) / (1 + core / scale)
    distance = np.sqrt(along**2 + across**2 + core**2)
    image[window] += height * np.exp(-distance / scale)


def _window(shape, place, radius):
    """Return the part of an image around ``place`` and its coordinates."""
    slices, offsets = [], []
    for size, centre in zip(shape, place[::-1], strict=True):
        start = int(np.clip(np.floor(centre - radius), 0, size))
        stop = int(np.clip(np.ceil(centre + radius) + 1, start, size))
        slices.append(slice(start, stop))
        offsets.append(np.arange(start, stop) - centre)
    return tuple(slices), offsets[1], offsets[0][:, np.newaxis]


def _power_law(number, limits, slope, rng):
    """Draw numbers of which those above a value fall as its power ``-slope``."""
    # Drawn in strata, so that even a few numbers span the range.
    low, high = (limit**-slope for limit in limits)
    share = (rng.permutation(number) + rng.random(number)) / number
    return (high + (low - high) * share) ** (-1 / slope)


# Signals are given as the peak at this seeing; at any other, their sum is kept.
_SEEING = 2.5

_FIBRE_PITCH = 6.5
_FIBRE_FWHM = 1.66
_BUNDLE = 20
_BUNDLE_GAP = 5.0
_LINE_FWHM = 3.0
_GALAXY = ("peak", "scale", "ratio", "angle")


@dataclass(frozen=True)
class _Fibres:
    """
    Spectra of fibres along the rows, in slightly curved traces.

    All fibres see the sky, and some the nebula. The image of a fibre is a little wider
    than the seeing, which stands for the focus of the spectrograph here.
    """

    shape: tuple
    y: np.ndarray
    throughput: np.ndarray
    nebula: np.ndarray
    velocity: np.ndarray
    sky_lines: np.ndarray
    nebular_lines: np.ndarray

    @classmethod
    def draw(cls, shape, rng):
        index = np.arange(int((shape[0] + 32) / _FIBRE_PITCH) + 1)
        sky_lines = _draw_lines(shape[1], 25, (40, 4000), rng)
        nebular_lines = _draw_lines(shape[1], 80, (300, 3000), rng)
        return cls(
            shape=shape,
            y=index * _FIBRE_PITCH + index // _BUNDLE * _BUNDLE_GAP - 16,
            throughput=np.clip(rng.normal(1, 0.08, index.size), 0.7, 1.3),
            nebula=np.minimum(rng.lognormal(np.log(0.3), 1.0, index.size), 4),
            velocity=rng.normal(0, 1.0, index.size),
            sky_lines=sky_lines,
            nebular_lines=nebular_lines,
        )

    def render(self, dx, dy, seeing, lines=1.0):
        ny, nx = self.shape
        sigma = _fibre_sigma(seeing)
        x = np.arange(nx) - dx
        bend = 0.008 * nx * (2 * x / nx - 1) ** 2
        spread = 1 + 0.6 * (self.y / ny - 0.5)
        centres = self.y[:, np.newaxis] + spread[:, np.newaxis] * bend + dy
        spectra = self._spectra(x, dx, sigma, lines)
        heights = spectra * (_fibre_sigma(_SEEING) / sigma)
        traces = _rows_of_gaussians(centres.T, heights.T, sigma, ny).T
        return traces + 8 + 6 * np.sin(np.pi * np.clip(x / nx, 0, 1))

    def _spectra(self, x, dx, sigma, lines):
        """Return the peak signal of each fibre in each column, (fibres, nx)."""
        nx = self.shape[1]
        blaze = 0.7 + 0.3 * np.cos(2.5 * (x / nx - 0.45))
        sky = 70 * blaze + 25 * np.cos(9 * x / nx)
        nebula = 150 * blaze * np.exp(-0.6 * x / nx)
        # Lines of fibres far from the middle are bent, as by any prism.
        bend = 3 * (self.y / self.shape[0] - 0.5) ** 2
        sky = sky + lines * self._lines(self.sky_lines, bend + dx, sigma)
        nebula = nebula + self._lines(
            self.nebular_lines, bend + self.velocity + dx, sigma
        )
        spectra = sky + self.nebula[:, np.newaxis] * nebula
        return self.throughput[:, np.newaxis] * spectra

    def _lines(self, lines, offset, sigma):
        """Return the emission lines (fibres, nx), each fibre with its offset."""
        centres = lines[0] + offset[:, np.newaxis]
        heights = lines[1] * (_fibre_sigma(_SEEING) / sigma)
        heights = np.broadcast_to(heights, centres.shape)
        return _rows_of_gaussians(centres, heights, sigma, self.shape[1])


@dataclass(frozen=True)
class _Stars:
    """A field of stars (Moffat profiles) and a few galaxies on a bright sky."""

    shape: tuple
    stars: np.ndarray
    galaxies: np.ndarray

    @classmethod
    def draw(cls, shape, rng):
        n_pixels = shape[0] * shape[1]
        n_stars = max(n_pixels // 1500, 5)
        n_galaxies = max(n_pixels // 100_000, 2)
        stars = [
            *_draw_places(n_stars, shape, 20, rng),
            _power_law(n_stars, (150, 1.8e5), 0.7, rng),
        ]
        galaxies = [
            *_draw_places(n_galaxies, shape, 0, rng),
            rng.uniform(150, 900, n_galaxies),
            rng.uniform(2.5, 6, n_galaxies),
            rng.uniform(0.3, 0.9, n_galaxies),
            rng.uniform(0, np.pi, n_galaxies),
        ]
        return cls(shape, np.stack(stars, axis=1), np.stack(galaxies, axis=1))

    def render(self, dx, dy, seeing, _lines=1.0):
        ny, nx = self.shape
        x = (np.arange(nx) - dx) / nx
        y = ((np.arange(ny) - dy) / ny)[:, np.newaxis]
        image = 110 + 8 * np.sin(x) - 5 * np.sin(y)
        for x0, y0, flux in self.stars:
            _add_moffat(image, (x0 + dx, y0 + dy), flux, seeing)
        for x0, y0, *values in self.galaxies:
            galaxy = dict(zip(_GALAXY, values, strict=True))
            _add_exponential(image, (x0 + dx, y0 + dy), seeing, **galaxy)
        return image


@dataclass(frozen=True)
class _Longslit:
    """
    Spectrum through a long slit, with wavelength along the rows.

    The sky fills the slit: its lines do not depend on the seeing, which is the width of
    the trace of the objects.
    """

    shape: tuple
    sky_lines: np.ndarray
    object_lines: np.ndarray
    dust: np.ndarray

    @classmethod
    def draw(cls, shape, rng):
        sky_lines = _draw_lines(shape[1], 14, (12, 3000), rng)
        object_lines = _draw_lines(shape[1], 130, (50, 800), rng)
        n_dust = max(shape[0] // 40, 1)
        dust = [rng.uniform(0, shape[0], n_dust), rng.uniform(0.01, 0.06, n_dust)]
        return cls(shape, sky_lines, object_lines, np.stack(dust))

    def render(self, dx, dy, seeing, lines=1.0):
        ny, nx = self.shape
        x = np.arange(nx) - dx
        y = (np.arange(ny) - dy)[:, np.newaxis]
        tilt = 0.006 * (y - ny / 2) + 3 * (y / ny - 0.5) ** 2
        sky = 45 + 25 * np.cos(4 * x / nx - 1)
        sky = sky + lines * self._sky_lines(tilt + dx)
        image = self._slit(y) * sky + self._objects(x, y, dx, seeing)
        return image + self._scattered(x, y)

    def _sky_lines(self, offset):
        centres = self.sky_lines[0] + offset
        heights = np.broadcast_to(self.sky_lines[1], centres.shape)
        sigma = _LINE_FWHM / _FWHM_PER_SIGMA
        return _rows_of_gaussians(centres, heights, sigma, self.shape[1])

    def _slit(self, y):
        """Return the transmission of the slit: its ends and the dust on it."""
        ny = self.shape[0]
        place, depth = self.dust
        dips = np.sum(depth * np.exp(-0.5 * ((y - place) / 1.3) ** 2), axis=1)
        ends = ndtr((y - 0.1 * ny) / 0.8) * ndtr((0.84 * ny - y) / 0.8)
        return ends * np.maximum(1 - dips[:, np.newaxis], 0)

    def _objects(self, x, y, dx, seeing):
        """Return a bright trace in faint extended light, and a faint trace."""
        ny, nx = self.shape
        trace = ny * 0.42 + 0.004 * x + 2 * (x / nx - 0.5) ** 2
        sigma = seeing / _FWHM_PER_SIGMA
        peak = _SEEING / seeing
        core = peak * np.exp(-0.5 * ((y - trace) / sigma) ** 2)
        second = peak * np.exp(-0.5 * ((y - trace - 0.2 * ny) / sigma) ** 2)
        halo = np.exp(-np.hypot(y - trace, _SEEING) / (0.03 * ny + 1))
        continuum = np.exp(-0.5 * (x / nx - 0.6) ** 2)
        lines = _rows_of_gaussians(
            self.object_lines[:1] + dx,
            self.object_lines[1:],
            _LINE_FWHM / _FWHM_PER_SIGMA,
            nx,
        )
        spectrum = 350 * continuum + lines
        return core * spectrum + halo * (0.1 * spectrum) + second * (60 * continuum)

    def _scattered(self, x, y):
        """Return the light that is also found outside of the slit."""
        ny, nx = self.shape
        near = np.exp(-0.5 * ((y / ny - 0.47) / 0.4) ** 2)
        return 3 + near * (7 + 3 * np.cos(5 * x / nx))


_SCENES = {"fibres": _Fibres, "longslit": _Longslit, "stars": _Stars}


def _fibre_sigma(seeing):
    """Return the sigma of the image of a fibre."""
    return np.hypot(seeing, _FIBRE_FWHM) / _FWHM_PER_SIGMA


def _draw_places(number, shape, margin, rng):
    """Draw places in the image and up to ``margin`` pixels around it."""
    x = rng.uniform(-margin, shape[1] + margin, number)
    y = rng.uniform(-margin, shape[0] + margin, number)
    return x, y


def _draw_lines(size, spacing, heights, rng):
    """Draw the places and heights of lines, one in ``spacing`` pixels."""
    number = max((size + 20) // spacing, 3)
    place = rng.uniform(-10, size + 10, number)
    return np.stack([place, _power_law(number, heights, 0.6, rng)])
