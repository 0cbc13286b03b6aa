# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Simulated cosmic rays: electrons that charged particles leave in a thick CCD.

Each particle is cut into samples of a fraction of a pixel, the columns of an array
(4, n): ``x``, ``y``, ``charge`` in electrons and ``sigma`` of the charge diffusion.
"""

import numpy as np
from scipy.special import ndtr

__all__ = []

# Lengths are in pixels. The device is like one of 120 micron with pixels of
# 15 micron, in which a muon frees about 75 electrons per micron of its path.
_THICKNESS = 8.0
_ELECTRONS_PER_PIXEL = 1100.0
_STEP = 0.25
_DIFFUSION = (0.2, 0.45)
_FRACTIONS = {"muon": 0.35, "worm": 0.2, "spot": 0.45}

# Far enough for 99.999% of the charge at the largest sigma; the rest is put into
# the outermost pixels so that no charge is lost.
_EDGES = np.arange(-2.5, 3.0)
_OFFSETS = np.arange(-2, 3)

_MOYAL_MEAN = np.euler_gamma + np.log(2)


def _cosmic_rays(shape, rate, rng):
    """Return the electrons (ny, nx) left by cosmic rays, ``rate`` per 1000 pixels."""
    n_hits = rng.poisson(rate * shape[0] * shape[1] / 1000)
    n_muons, n_worms, n_spots = rng.multinomial(n_hits, list(_FRACTIONS.values()))
    samples = [
        _muons(n_muons, shape, rng),
        _worms(n_worms, shape, rng),
        _spots(n_spots, shape, rng),
    ]
    return _deposit(np.concatenate(samples, axis=1), shape)


def _deposit(samples, shape):
    """Return an image (ny, nx) of the charge of samples (4, n), spread by diffusion."""
    x, y, charge, sigma = samples
    columns, weights_x = _shares(x, sigma, shape[1])
    rows, weights_y = _shares(y, sigma, shape[0])
    pixels = rows[:, :, np.newaxis] * shape[1] + columns[:, np.newaxis, :]
    weights_y *= charge[:, np.newaxis]
    electrons = weights_y[:, :, np.newaxis] * weights_x[:, np.newaxis, :]
    image = np.bincount(
        pixels.ravel(), electrons.ravel(), minlength=shape[0] * shape[1]
    )
    return image.reshape(shape)


def _shares(position, sigma, size):
    """Return the pixels near each position along one axis and their shares, (n, 5)."""
    centre = np.rint(position)
    edges = (centre - position)[:, np.newaxis] + _EDGES
    cumulative = ndtr(edges / sigma[:, np.newaxis])
    cumulative[:, 0] = 0
    cumulative[:, -1] = 1
    # Charge that leaves on one side comes in on the other: edges are hit as often.
    pixels = (centre.astype(int)[:, np.newaxis] + _OFFSETS) % size
    return pixels, np.diff(cumulative, axis=1)


def _muons(number, shape, rng):
    """Return samples (4, n) of straight tracks through the whole device."""
    # Directions are isotropic: most tracks are short.
    cosine = np.clip(np.sqrt(rng.random(number)), 0.03, 1)
    x0, y0, angle = _starts(number, shape, rng)
    path = _THICKNESS / cosine
    length = np.sqrt(path**2 - _THICKNESS**2)
    steps = np.ceil(path / _STEP).astype(int)
    track = np.repeat(np.arange(number), steps)
    first = np.repeat(np.cumsum(steps) - steps, steps)
    depth = (np.arange(track.size) - first + 0.5) / steps[track]
    x = x0[track] + depth * (length * np.cos(angle))[track]
    y = y0[track] + depth * (length * np.sin(angle))[track]
    charge = (path / steps)[track] * _energy_loss(track.size, rng)
    return np.stack([x, y, charge, _diffusion(depth)])


def _worms(number, shape, rng):
    """Return samples (4, n) of electrons that change direction until they stop."""
    x0, y0, angle = _starts(number, shape, rng)
    length = np.clip(rng.lognormal(np.log(14), 0.6, number), 3, 80)
    arc = _STEP * np.arange(int(np.max(length, initial=0) / _STEP) + 1)
    left = length[:, np.newaxis] - arc
    # A slow electron is deflected more and leaves more charge.
    scatter = np.sqrt(_STEP) * (0.15 + 0.5 * np.exp(-np.abs(left) / 4))
    heading = angle[:, np.newaxis] + np.cumsum(
        scatter * rng.standard_normal(scatter.shape), axis=1
    )
    pitch = rng.uniform(-0.6, 0.6, (number, 1))
    step = _STEP * np.cos(pitch)
    x = x0[:, np.newaxis] + np.cumsum(step * np.cos(heading), axis=1)
    y = y0[:, np.newaxis] + np.cumsum(step * np.sin(heading), axis=1)
    depth = _reflect(rng.random((number, 1)) + np.sin(pitch) * arc / _THICKNESS)
    charge = _STEP * (0.7 + 1.5 * np.exp(-np.abs(left) / 3))
    charge = charge * _energy_loss(charge.shape, rng)
    return np.stack([x, y, charge, _diffusion(depth)])[:, left > 0]


def _spots(number, shape, rng):
    """Return samples (4, n) of hits that leave all their charge in one place."""
    x, y, _ = _starts(number, shape, rng)
    charge = rng.lognormal(np.log(1000), 0.9, number)
    return np.stack([x, y, charge, _diffusion(rng.random(number))])


def _starts(number, shape, rng):
    """Draw places in the image and directions in its plane."""
    x = rng.uniform(-0.5, shape[1] - 0.5, number)
    y = rng.uniform(-0.5, shape[0] - 0.5, number)
    return x, y, rng.uniform(0, 2 * np.pi, number)


def _energy_loss(size, rng):
    """Draw electrons per pixel of path, with a tail like Landau's."""
    # Minus the logarithm of the square of a normal number is a Moyal number.
    moyal = -np.log(rng.standard_normal(size) ** 2 + np.finfo(float).tiny)
    loss = 1 + 0.25 * (moyal - _MOYAL_MEAN)
    return _ELECTRONS_PER_PIXEL * np.maximum(loss, 0.1)


def _diffusion(depth):
    """Return the sigma of the charge cloud from a ``depth`` of 0 to 1."""
    low, high = _DIFFUSION
    return np.sqrt(low**2 + (high**2 - low**2) * depth)


def _reflect(depth):
    """Fold any depth into the range from 0 to 1."""
    return np.abs((depth + 1) % 2 - 1)
