# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Simulated exposures with known cosmic rays."""

from collections.abc import Mapping
from numbers import Real
from types import SimpleNamespace

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.time import Time, TimeDelta

from ccdcr.exposures.ccd_values import find_values
from ccdcr.requirements import requirement_table as kind
from ccdcr.requirements.requirement_table import choice, integer, optional
from ccdcr.simulation.cosmic_rays import _cosmic_rays
from ccdcr.simulation.evaluation import Simulation, broadcast
from ccdcr.simulation.scenes import _SCENES

__all__ = ["image_shape", "number", "per_exposure", "shifts", "simulate_exposures"]


def number(value, name, minimum=None, *, above=False):
    """Return ``value`` as one finite float, ``>= minimum`` or above it."""
    return float(kind.number(minimum, above=above)(value, name))


def _sides(value):
    sides = tuple(kind.integer(1).check(side) for side in kind.sequence(value))
    if len(sides) != 2:
        raise ValueError
    return sides


image_shape = kind.Kind("two positive integers (ny, nx)", _sides)


def per_exposure(value, name, n_exposures, minimum=None, *, above=False):
    """Return one float per exposure, (n,), from one value or one per exposure."""
    single = kind.number(minimum, above=above)

    def check(value):
        if isinstance(value, Real):
            value = [value] * n_exposures
        numbers = [single.check(item) for item in kind.sequence(value)]
        if len(numbers) != n_exposures:
            raise ValueError
        return np.array(numbers, dtype=float)

    allowed = f"{single.allowed} or {n_exposures} of them, one per exposure"
    return kind.Kind(allowed, check)(value, name)


def shifts(value, name, n_exposures):
    """Return the shifts, (n, 2), from one pair or one per exposure."""

    def check(value):
        rows = kind.sequence(value)
        if all(isinstance(item, Real) for item in rows):
            rows = [rows] * n_exposures
        pairs = kind.offsets.check(rows)
        if pairs is None or len(pairs) != n_exposures:
            raise ValueError
        return np.array(pairs, dtype=float)

    allowed = f"one pair (dx, dy) or {n_exposures} pairs, one per exposure"
    return kind.Kind(allowed, check)(value, name)


_UNITS = {"adu": u.adu, "electron": u.electron}
_FIRST_EXPOSURE = "2024-03-10T01:00:00.000"
_READOUT_TIME = 60.0


def simulate_exposures(
    shape=(512, 512),
    *,
    n_exposures=3,
    scene="fibres",
    gain=1.0,
    readnoise=3.0,
    bias=0.0,
    cr_rate=1.0,
    flux=1.0,
    shift=(0.0, 0.0),
    seeing=2.5,
    sky_lines=1.0,
    background=0.0,
    flat=None,
    exptime=1200.0,
    unit="adu",
    seed=None,
):
    """
    Simulate long exposures of a CCD with cosmic rays, equivalent or not.

    Parameters
    ----------
    shape : tuple of int, optional
        Shape ``(ny, nx)`` of the images. Default is ``(512, 512)``.
    n_exposures : int, optional
        Number of exposures. Default is 3.
    scene : {'fibres', 'longslit', 'stars'}, optional
        The scene: spectra of fibres along the rows; a spectrum through a long slit,
        with wavelength along the rows; or stars and galaxies. All include the sky.
        Default is 'fibres'.
    gain : float, sequence of float, `~numpy.ndarray` or mapping, optional
        Gain in electrons per adu: one, one per exposure, a map (ny, nx) or values by
        FITS section as for `~ccdcr.ccd_map`. Default is 1.
    readnoise : float, sequence of float, `~numpy.ndarray` or mapping, optional
        Read noise in electrons, likewise. Default is 3.
    bias : float, optional
        Level added to each exposure, in the data unit. Default is 0.
    cr_rate : float, optional
        Mean number of cosmic-ray hits per 1000 pixels and exposure. A hit affects about
        20 pixels, so that the default of 1 affects 2 % of the pixels. This is more than
        usual, so that small images have coincidences.
    flux : float or sequence of float, optional
        Factor of all the signal, sky included: one, or one per exposure. Default
        is 1.
    shift : sequence of float or of pairs, optional
        Shift ``(dx, dy)`` of the whole image in pixels: one, or one per exposure.
        Default is no shift.
    seeing : float or sequence of float, optional
        FWHM of point sources in pixels, at least 1: one, or one per exposure. In
        the scene 'fibres' the focus of the spectrograph, which widens traces and
        lines. Default is 2.5.
    sky_lines : float or sequence of float, optional
        Factor of the sky lines, which change within minutes: one, or one per
        exposure. The scene 'stars' has none. Default is 1.
    background : float or sequence of float, optional
        Electrons added to each pixel: one, or one per exposure. Default is 0.
    flat : 2D `~numpy.ndarray`, optional
        Factor of all the signal in each pixel, (ny, nx). Default is 1.
    exptime : float or sequence of float, optional
        Exposure time in seconds: one, for the headers only, or one per exposure. In the
        latter case the signal is proportional to it, and ``flux`` is that of an
        exposure of the median time. Default is 1200.
    unit : {'adu', 'electron'}, optional
        Unit of the data; with 'electron' the gain must be 1. Default is 'adu'.
    seed : int or None, optional
        Random seed. The scene depends only on ``seed``, ``scene`` and ``shape``.
        Default is None: different each time.

    Returns
    -------
    simulation : `Simulation`
        The exposures and their truth.

    Raises
    ------
    TypeError, ValueError
        If a parameter is of the wrong kind or has a wrong value.

    Notes
    -----
    An exposure is ``bias + (Poisson(expected) + cosmic_rays + Normal(0, readnoise)) /
    gain`` with the bracket in electrons. The charge of cosmic rays fluctuates with the
    energy loss and has no additional Poisson noise, so that `Simulation.noise` is valid
    in all pixels. The data are float32, without saturation or rounding to integers.

    Examples
    --------
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures((64, 64), scene="stars", gain=2.0, seed=1)
    >>> sim
    <Simulation(scene='stars', n_exposures=3, shape=(64, 64), seed=1)>
    >>> sim.exposures[0].unit
    Unit("adu")
    >>> sim.hits().shape
    (3, 64, 64)
    """
    shape = image_shape(shape, "shape")
    n = integer(1)(n_exposures, "n_exposures")
    known = {
        "gain": _ccd_values(gain, "gain", n, shape, above=True),
        "readnoise": _ccd_values(readnoise, "readnoise", n, shape),
        "bias": number(bias, "bias"),
        "flux": per_exposure(flux, "flux", n, 0, above=True),
        "shift": shifts(shift, "shift", n),
        "seeing": per_exposure(seeing, "seeing", n, 1),
        "sky_lines": per_exposure(sky_lines, "sky_lines", n, 0),
        "background": per_exposure(background, "background", n, 0),
        "scene": choice(*_SCENES)(scene, "scene"),
        "seed": optional(integer(0))(seed, "seed"),
    }
    cr_rate = number(cr_rate, "cr_rate", 0)
    exptime = per_exposure(exptime, "exptime", n, 0, above=True)
    known["flux"] = known["flux"] * (exptime / np.median(exptime))
    flat = 1.0 if flat is None else _flat(flat, shape)
    unit = choice(*_UNITS)(unit, "unit")
    _check_gain(known["gain"], unit)

    rng = np.random.default_rng(known["seed"])
    images = _electrons(shape, cr_rate, known, flat, rng)
    data = _read_out(images, known, rng)
    exposures = [
        CCDData(image, unit=_UNITS[unit], meta=header)
        for image, header in zip(data, _headers(exptime, known), strict=True)
    ]
    each = broadcast(known["gain"]).astype(np.float32)
    typical = each if each.ndim < 3 else np.float32(np.median(each))
    gains = {"truth": typical, "expected": each, "cosmic_rays": each}
    images = {name: image / gains[name] for name, image in images.items()}
    return Simulation(exposures=exposures, **images, **known)


def _ccd_values(value, name, n, shape, *, above=False):
    """Return gain or read noise as a float, (n,) or (ny, nx)."""
    if np.ndim(value) == 0 and not isinstance(value, Mapping):
        return number(value, name, 0, above=above)
    alike = [SimpleNamespace(shape=shape, meta={})] * n
    unit = u.electron / u.adu if name == "gain" else u.electron
    return find_values(alike, name, value, unit, above=above)


def _flat(value, shape):
    flat = np.array(value, dtype=float)
    if flat.shape != shape or not (np.isfinite(flat) & (flat > 0)).all():
        msg = f"flat must hold numbers > 0 in the shape {shape}, got {flat.shape}"
        raise ValueError(msg)
    return flat


def _check_gain(gain, unit):
    if unit == "electron" and np.any(gain != 1):
        msg = f"gain must be 1 when unit is 'electron', got {gain}"
        raise ValueError(msg)


def _electrons(shape, cr_rate, known, flat, rng):
    """Return the noise-free images by name, in electrons."""
    # The scene first, noise last: neither scene nor cosmic rays depend on the rest.
    scene = _SCENES[known["scene"]].draw(shape, rng)
    names = ("flux", "shift", "seeing", "sky_lines", "background")
    settings = zip(*(known[name] for name in names), strict=True)
    truth = flat * scene.render(0, 0, np.mean(known["seeing"]))
    expected = [
        flat * (flux * scene.render(*shift, fwhm, lines) + sky)
        for flux, shift, fwhm, lines, sky in settings
    ]
    cosmic_rays = [_cosmic_rays(shape, cr_rate, rng) for _ in expected]
    return {
        "truth": truth.astype(np.float32),
        "expected": np.array(expected, dtype=np.float32),
        "cosmic_rays": np.array(cosmic_rays, dtype=np.float32),
    }


def _read_out(images, known, rng):
    """Return the noisy data of each exposure, in the data unit."""
    data, n = [], len(known["flux"])
    noise = ([_of_exposure(known[x], i) for i in range(n)] for x in _NOISE)
    planes = images["expected"], images["cosmic_rays"]
    for gain, readnoise, expected, cosmic_rays in zip(*noise, *planes, strict=True):
        electrons = rng.poisson(expected) + cosmic_rays.astype(float)
        electrons += readnoise * rng.standard_normal(electrons.shape)
        image = electrons / gain + known["bias"]
        data.append(image.astype(np.float32))
    return data


_NOISE = ("gain", "readnoise")


def _of_exposure(values, i):
    """Return a number or a map of exposure i."""
    return values[i] if np.ndim(values) == 1 else values


def _headers(exptime, known):
    """Return the headers of exposures taken one after the other."""
    start = Time(_FIRST_EXPOSURE, scale="utc")
    headers = []
    for index in range(len(known["flux"])):
        before = exptime[:index].sum() + index * _READOUT_TIME
        date = start + TimeDelta(before, format="sec")
        gain, readnoise = (
            float(np.median(_of_exposure(known[name], index))) for name in _NOISE
        )
        cards = [
            ("OBJECT", f"simulated {known['scene']}", "name of the object"),
            ("DATE-OBS", date.isot, "start of the exposure (UTC)"),
            ("MJD-OBS", date.mjd, "[d] the same as a modified Julian date"),
            ("EXPTIME", float(exptime[index]), "[s] exposure time"),
            ("GAIN", gain, "[electron/data unit] gain"),
            ("RDNOISE", readnoise, "[electron] read noise"),
        ]
        headers.append(fits.Header(cards))
    return headers
