# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Exposures with known cosmic rays on which the rules of ``field_rules`` are compared.

``SCENES`` has a function for each name. It takes the size, the number of exposures, a
seed and the folder of real exposures, and returns a `Scene`, or None if it needs a
folder that is not there. Most are simulated by ccdcr. ``kast`` is real, and ``drawn``
is made by other code: stars and galaxies of astropy and photutils on real dark
exposures, with their cosmic rays and those in the darks of another detector.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from accuracy import KAST_DETECTOR, inject, knobs, read_kast, read_stamps
from astropy.io import fits
from astropy.modeling.functional_models import Moffat2D, Sersic2D
from astropy.table import Table
from field_rules import variance
from scipy import ndimage

from ccdcr.simulation import simulate_exposures

_EDGE = 4


@dataclass
class Scene:
    """
    Exposures and what is known about them, all images (n, ny, nx) in adu.

    ``hits`` are pixels with cosmic rays of more than 5 sigma, ``traces`` of more than
    1, ``touched`` of more than 0.1. ``wrong`` is True where an exposure is wrong, but
    not by a cosmic ray. ``expected`` is what it has without noise and cosmic rays, or
    None if nobody knows; ``window`` (ny, nx) is where rules are judged.
    """

    stack: np.ndarray
    gain: float
    readnoise: float
    hits: np.ndarray
    traces: np.ndarray
    touched: np.ndarray | None = None
    expected: np.ndarray | None = None
    wrong: np.ndarray | None = None
    window: np.ndarray | None = None

    def __post_init__(self):
        if self.window is None:
            # Some detectors see nothing at the edge, which is large in small images.
            self.window = np.zeros(self.stack.shape[1:], dtype=bool)
            self.window[_EDGE:-_EDGE, _EDGE:-_EDGE] = True
        if self.wrong is None:
            self.wrong = np.zeros(self.stack.shape, dtype=bool)

    @property
    def noise(self):
        """The 1-sigma noise of each exposure, (n, ny, nx)."""
        return np.sqrt(variance(self.expected, self.gain, self.readnoise))


def _rate(n):
    """Return the hits per 1000 pixels; with many exposures more, for coincidences."""
    return 1.0 if n < 4 else 2.0


def _scene(sim):
    """Return the scene of a simulation."""
    stack = np.stack([ccd.data for ccd in sim.exposures])
    rays = [sim.hits(nsigma) for nsigma in (5, 1, 0.1)]
    return Scene(stack, sim.gain, sim.readnoise, *rays, sim.expected)


def simulated(kind, case, size, n, seed, folder=None):
    """Return a scene of the package, equivalent or not."""
    del folder
    options = {"scene": kind, "cr_rate": _rate(n), "seed": seed}
    options |= knobs(case, n)
    return _scene(simulate_exposures((size, size), n_exposures=n, **options))


def low_values(kind, size, n, seed, folder=None):
    """Add dead pixels, which are low in one exposure: 1 in 500 pixels."""
    scene = simulated(kind, "eq", size, n, seed, folder)
    rng = np.random.default_rng(seed)
    wrong = rng.random(scene.stack.shape) < 0.002 / n
    wrong &= ~ndimage.binary_dilation(scene.traces, np.ones((1, 3, 3), dtype=bool))
    depth = rng.uniform(0.3, 1.0, scene.stack.shape)
    noise = rng.normal(0, scene.readnoise, scene.stack.shape) / scene.gain
    low = scene.expected * (1 - depth) + noise
    scene.stack = np.where(wrong, low, scene.stack).astype(np.float32)
    scene.wrong = wrong
    return scene


def bad_columns(kind, size, n, seed, folder=None):
    """Let 1 column in 60 flicker: its noise is four times that of the others."""
    scene = simulated(kind, "eq", size, n, seed, folder)
    rng = np.random.default_rng(seed)
    columns = np.zeros(size, dtype=bool)
    columns[rng.choice(size, size // 60 + 1, replace=False)] = True
    extra = np.sqrt(15) * scene.noise * rng.standard_normal(scene.stack.shape)
    scene.stack = (scene.stack + np.where(columns, extra, 0)).astype(np.float32)
    scene.wrong = np.broadcast_to(columns, scene.stack.shape)
    return scene


def bright_skies(kind, size, n, seed, folder=None):
    """Let the sky grow from one exposure to the next, by 300 electrons in total."""
    del folder
    background = tuple(np.linspace(0, 300, n))
    options = {"scene": kind, "cr_rate": _rate(n), "seed": seed}
    options |= {"n_exposures": n, "background": background}
    return _scene(simulate_exposures((size, size), **options))


def dithers(kind, size, n, seed, folder=None):
    """
    Dither by up to 8 pixels and register by whole pixels.

    Dead columns of the detector, 1 in 100, then are elsewhere in each exposure.
    """
    del folder
    rng = np.random.default_rng(seed)
    shifts, edge = rng.uniform(-8, 8, (n, 2)), 9
    large = size + 2 * edge
    options = {"scene": kind, "cr_rate": _rate(n), "seed": seed, "n_exposures": n}
    sim = simulate_exposures((large, large), shift=shifts.tolist(), **options)
    columns = rng.choice(large, large // 100, replace=False)
    stack = np.stack([ccd.data for ccd in sim.exposures])
    stack[:, :, columns] *= 0.3
    dead = np.zeros(stack.shape, dtype=bool)
    dead[:, :, columns] = True

    def registered(images):
        planes = []
        for image, (dx, dy) in zip(images, np.rint(shifts).astype(int), strict=True):
            rows, cols = (slice(edge + d, edge + d + size) for d in (dy, dx))
            planes.append(image[rows, cols])
        return np.stack(planes)

    return Scene(
        registered(stack),
        sim.gain,
        sim.readnoise,
        hits=registered(sim.hits(5) & ~dead),
        traces=registered(sim.hits(1)),
        touched=registered(sim.hits(0.1)),
        expected=registered(sim.expected),
        wrong=registered(dead),
    )


def kast(size, n, seed, folder=None):
    """Return three real long-slit exposures with real tracks of another detector."""
    del size
    files = folder and (folder / "kast-red-2018gdg", _stamps(folder))
    if n != 3 or not files or not all(path.exists() for path in files):
        return None
    data, _, excess = read_kast(files[0])
    gain, readnoise = KAST_DETECTOR
    rng = np.random.default_rng(seed)
    rays = inject(data.shape, read_stamps(files[1]), rng) / gain
    window = np.zeros(data.shape[1:], dtype=bool)
    window[:, 60:345] = True
    slit = np.s_[..., 400:1200, 40:365]
    data, rays, excess, window = (a[slit] for a in (data, rays, excess, window))
    noise = np.sqrt(variance(np.median(data, axis=0), gain, readnoise))
    traces = (rays > noise) | excess
    # What is hit in all three, by a real ray too, no comparison can see.
    window &= traces.sum(axis=0) < 3
    stack = (data + rays).astype(np.float32)
    hits = rays > 5 * noise
    return Scene(stack, gain, readnoise, hits, traces, window=window)


def _stamps(folder):
    return folder / "lsst-itl-cr-stamps" / "cosmic_rays_itl_2017.fits.gz"


def draw_sky(shape, n, seed):
    """Return stars and galaxies in electrons, (n, ny, nx), of n seeings and fluxes."""
    rng = np.random.default_rng(seed)
    ny, nx = shape
    number = ny * nx // 700
    flux = 10 ** rng.uniform(2.5, 5.5, number)
    x, y = rng.uniform(0, nx, number), rng.uniform(0, ny, number)
    galaxies = np.zeros(shape)
    rows, columns = np.mgrid[:ny, :nx]
    for _ in range(max(number // 15, 1)):
        place = {"x_0": rng.uniform(0, nx), "y_0": rng.uniform(0, ny)}
        looks = {"amplitude": 60, "r_eff": 5, "n": 1.0, "ellip": rng.uniform(0, 0.7)}
        galaxies += Sersic2D(theta=rng.uniform(0, np.pi), **place, **looks)(
            columns, rows
        )
    images = []
    for k in range(n):
        width = 2.2 * (1 + 0.05 * (k - (n - 1) / 2))
        amplitude = flux * (2.5 - 1) / (np.pi * width**2)
        dx, dy = rng.uniform(-0.1, 0.1, 2)
        stars = Table({"x_0": x + dx, "y_0": y + dy, "amplitude": amplitude})
        model = Moffat2D(gamma=width, alpha=2.5)
        images.append(_draw(shape, model, stars) + galaxies + 120 + 15 * k)
    return np.array(images) * (1 + 0.03 * rng.standard_normal((n, 1, 1)))


def _draw(shape, model, stars):
    """Return an image of a model at each row of a table, by photutils if installed."""
    try:
        from photutils.datasets import make_model_image
    except ImportError:
        image = np.zeros(shape)
        for row in stars:
            y, x = (int(row[name]) for name in ("y_0", "x_0"))
            rows = np.arange(max(y - 20, 0), min(y + 21, shape[0]))[:, np.newaxis]
            columns = np.arange(max(x - 20, 0), min(x + 21, shape[1]))
            values = {name: row[name] for name in stars.colnames}
            image[rows, columns] += model.copy().evaluate(
                columns,
                rows,
                gamma=model.gamma.value,
                alpha=model.alpha.value,
                **values,
            )
        return image
    return make_model_image(shape, model, stars, model_shape=(41, 41))


def drawn(size, n, seed, folder=None):
    """
    Draw a sky on real dark exposures, whose noise and cosmic rays they keep.

    More cosmic rays are those of the darks of another detector.
    """
    paths = folder and sorted((folder / "st402-darks").glob("L2-dark-neon-1200*"))
    if n > 5 or not paths or not _stamps(folder).exists():
        return None
    gain, readnoise = 1.49, 12.6 * 1.49
    darks = np.stack([fits.getdata(path).astype(np.float32) for path in paths])
    darks -= np.median(darks, axis=(1, 2), keepdims=True)
    own = hits_of_darks(darks, readnoise / gain)
    current = warm_pixels(darks, readnoise / gain)
    darks -= current
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(darks), n, replace=False)
    left = rng.integers(0, max(darks.shape[2] - size, 0) + 1)
    part = np.s_[:, : min(size, darks.shape[1]), left : left + size]
    darks, own = darks[chosen][part], own[chosen][part]
    usable = current[part[1:]] < 20 * readnoise / gain
    sky = draw_sky(darks.shape[1:], n, seed)
    rays = drop_rays(darks.shape, read_stamps(_stamps(folder)), rng) / gain
    stack = darks + rng.poisson(np.maximum(sky, 0)) / gain + rays
    noise = np.sqrt(variance(sky / gain, gain, readnoise))
    traces = (rays > noise) | ndimage.binary_dilation(own, np.ones((1, 3, 3)))
    hits = (rays > 5 * noise) | (own & (darks > 5 * noise))
    scene = Scene(stack.astype(np.float32), gain, readnoise, hits, traces)
    scene.window &= usable
    return scene


def warm_pixels(darks, noise):
    """Return the dark current (ny, nx), of single pixels only where it is certain."""
    middle = np.median(darks, axis=0)
    smooth = ndimage.median_filter(middle, 15)
    warm = middle - smooth > 3 * noise / np.sqrt(len(darks))
    return np.where(warm, middle, smooth)


def hits_of_darks(darks, noise):
    """Return the hits of dark exposures, (n, ny, nx), found without any scene."""
    hits = []
    for i, plane in enumerate(darks):
        low = np.sort(np.delete(darks, i, axis=0), axis=0)[:2].mean(axis=0)
        z = plane - low
        z = (z - np.median(z)) / np.sqrt(2 * noise**2 + (0.05 * low) ** 2)
        labels, _ = ndimage.label(z > 3, np.ones((3, 3)))
        hits.append(np.isin(labels, np.unique(labels[z > 6])) & (labels > 0))
    return np.array(hits)


def drop_rays(shape, stamps, rng):
    """Return electrons (n, ny, nx) of 1 stamp in 1000 pixels of each exposure."""
    _, ny, nx = shape
    rays = np.zeros(shape, dtype=np.float32)
    for plane in rays:
        for _ in range(rng.poisson(ny * nx / 1000)):
            stamp = stamps[rng.integers(len(stamps))]
            y, x = rng.integers(0, ny), rng.integers(0, nx)
            rows, columns = min(stamp.shape[0], ny - y), min(stamp.shape[1], nx - x)
            plane[y : y + rows, x : x + columns] += stamp[:rows, :columns]
    return rays


KINDS = ("fibres", "stars", "longslit")
SCENES = {
    f"{kind}-{case}": partial(simulated, kind, case)
    for case in ("eq", "all")
    for kind in KINDS
}
SCENES |= {
    f"{kind}-{name}": partial(function, kind)
    for name, function in (
        ("low", low_values),
        ("columns", bad_columns),
        ("sky", bright_skies),
        ("dithers", dithers),
    )
    for kind in KINDS
    if (kind, name) != ("longslit", "dithers")  # a nodded slit is no dither
}
SCENES |= {"kast": kast, "drawn": drawn}
