# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Simulated exposures with their truth, and evaluation against it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from astropy.table import Table
from scipy import ndimage

__all__ = ["Evaluation", "Simulation", "broadcast", "evaluate"]

_HIT = 5.0  # sigma: a pixel that should be found
_TRACE = 1.0  # sigma: a pixel that may be flagged
_RESIDUAL = 8.0  # sigma: a pixel that spoils a combination
_CLEAN = 0.1  # sigma: an exposure with less is not hit
_BRIGHTEST = (1.0, 0.05, 0.01)  # parts of the pixels
_NEAR = 2  # pixels: flags this near to a trace are not false


@dataclass(frozen=True, eq=False, repr=False)
class Simulation:
    """
    Simulated exposures and their truth.

    Returned by `simulate_exposures`. Images are in the unit of the exposures.

    Attributes
    ----------
    exposures : list of `~astropy.nddata.CCDData`
        The exposures, with bias, noise and cosmic rays.
    truth : 2D `~numpy.ndarray`
        Noise-free image at flux 1, no shift and the mean seeing, without bias.
    expected : 3D `~numpy.ndarray`
        Noise-free image of each exposure, ``(n, ny, nx)``, without cosmic rays
        and bias.
    cosmic_rays : 3D `~numpy.ndarray`
        Signal left by cosmic rays in each exposure, ``(n, ny, nx)``.
    gain : float or `~numpy.ndarray`
        Gain in electrons per data unit: a number, (n,) or (ny, nx).
    readnoise : float or `~numpy.ndarray`
        Read noise in electrons, likewise.
    bias : float
        Bias level.
    flux, seeing : 1D `~numpy.ndarray`
        Factor of the signal and FWHM in pixels of each exposure.
    shift : 2D `~numpy.ndarray`
        Shift ``(dx, dy)`` in pixels of each exposure, ``(n, 2)``.
    sky_lines, background : 1D `~numpy.ndarray`
        Factor of the sky lines, and electrons added by each exposure's sky.
    scene : str
        Name of the scene.
    seed : int or None
        Seed of the random numbers.

    See Also
    --------
    simulate_exposures

    Examples
    --------
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures((64, 64), seed=1)
    >>> sim.exposures[0].header["RDNOISE"]
    3.0
    >>> sim.expected.shape
    (3, 64, 64)
    """

    exposures: list
    truth: np.ndarray
    expected: np.ndarray
    cosmic_rays: np.ndarray
    gain: float | np.ndarray
    readnoise: float | np.ndarray
    bias: float
    flux: np.ndarray
    shift: np.ndarray
    seeing: np.ndarray
    scene: str
    seed: int | None
    sky_lines: np.ndarray | None = None
    background: np.ndarray | None = None

    def __repr__(self):
        return (
            f"<{type(self).__name__}(scene={self.scene!r}, "
            f"n_exposures={len(self.exposures)}, shape={self.truth.shape}, "
            f"seed={self.seed})>"
        )

    @cached_property
    def noise(self):
        """The 1-sigma noise of each exposure without cosmic rays, ``(n, ny, nx)``."""
        gain, readnoise = map(broadcast, (self.gain, self.readnoise))
        return np.sqrt(self.expected / gain + (readnoise / gain) ** 2)

    def hits(self, nsigma=5.0):
        """
        Return the pixels that are hit by cosmic rays.

        Parameters
        ----------
        nsigma : float, optional
            Smallest signal of a cosmic ray in units of the noise. Default is 5.

        Returns
        -------
        hits : 3D `~numpy.ndarray` of bool
            True where ``cosmic_rays > nsigma * noise``, ``(n, ny, nx)``.

        Examples
        --------
        >>> from ccdcr.simulation import simulate_exposures
        >>> sim = simulate_exposures((64, 64), seed=1)
        >>> bool((sim.hits(3) >= sim.hits(10)).all())
        True
        """
        return self.cosmic_rays > nsigma * self.noise

    def coincidences(self, nsigma=5.0):
        """
        Return the pixels that are hit in half of the exposures or more.

        These are the pixels in which the median of the exposures is wrong.

        Parameters
        ----------
        nsigma : float, optional
            Smallest signal of a cosmic ray in units of the noise. Default is 5.

        Returns
        -------
        coincidences : 2D `~numpy.ndarray` of bool
            True where half of the exposures or more were hit, ``(ny, nx)``.

        Examples
        --------
        >>> from ccdcr.simulation import simulate_exposures
        >>> sim = simulate_exposures((64, 64), cr_rate=0, seed=1)
        >>> int(sim.coincidences().sum())
        0
        """
        return 2 * self.hits(nsigma).sum(axis=0) >= len(self.exposures)


def broadcast(values):
    """Return values of exposures as (n, 1, 1), all others as they are."""
    values = np.asarray(values)
    return values[:, np.newaxis, np.newaxis] if values.ndim == 1 else values


@dataclass(frozen=True)
class Evaluation:
    """
    Comparison of masks and combinations with the truth, returned by `evaluate`.

    Attributes
    ----------
    masks : `~astropy.table.Table`
        One row for MEDIANCR and one for each exposure's mask. Columns: mask,
        flagged (pixels), hit (pixels hit by more than 5 sigma, for MEDIANCR in
        half of the exposures or more), recall (the flagged fraction of
        them) and false (flagged pixels farther than 2 pixels from any pixel
        hit by more than 1 sigma).
    images : `~astropy.table.Table`
        One row for each combination. Columns: image, residual (pixels more than
        8 sigma of one exposure above the truth), rms (against the truth, in the
        unit of the data) and efficiency (squared ratio of the RMS, in units of
        the pixel's noise, of the mean over truly clean exposures, hit by less
        than 0.1 sigma, to that of the combination; 1 is ideal).
    masked : `~astropy.table.Table`
        Each combination at the pixels that are masked in some exposures and are clean
        (hit by less than 1 sigma) in the others: all of them, and those among the
        brightest 5 % and 1 %. Columns: image, brightest (part of the pixels), pixels,
        error (RMS of the deviations from the mean of the exposures without noise, in
        units of the noise of the mean of exposures that were never hit), pull (RMS of
        the deviations over the claimed uncertainty), difference (median of the
        signed deviations from that mean of the same exposures without cosmic rays, in
        units of its noise) and least (the error that exact expected values would
        have: the noise of the clean values alone).
    """

    masks: Table
    images: Table
    masked: Table

    def __str__(self):
        tables = [self.masks, self.images]
        tables += [self.masked] if len(self.masked) else []
        return "\n\n".join("\n".join(t.pformat(max_lines=-1)) for t in tables)


def evaluate(masks, combined, truth):
    """
    Compare masks and combined images with the truth of a simulation.

    Parameters
    ----------
    masks : `~ccdcr.CRMaskSet`
        The masks that were detected in the simulated exposures.
    combined : mapping of str to `~astropy.nddata.CCDData`
        Combined images by name.
    truth : `~ccdcr.simulation.Simulation`
        The simulation.

    Returns
    -------
    evaluation : `Evaluation`
        Three tables, which ``print`` shows.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> from ccdcr import CRCombiner, detect_cosmic_rays
    >>> from ccdcr.simulation import evaluate, simulate_exposures
    >>> sim = simulate_exposures((100, 120), seed=1)
    >>> masks = detect_cosmic_rays(
    ...     sim.exposures, gain=1.0, readnoise=3.0, la_verbose=False
    ... )
    >>> combiner = CRCombiner(sim.exposures, masks)
    >>> images = {"median": combiner.median_combine(),
    ...           "meancr": combiner.meancr_combine()}
    >>> evaluation = evaluate(masks, images, sim)
    >>> evaluation.masks.colnames
    ['mask', 'flagged', 'hit', 'recall', 'false']
    >>> evaluation.images.colnames
    ['image', 'residual', 'rms', 'efficiency']
    >>> evaluation.masked.colnames[:5]
    ['image', 'brightest', 'pixels', 'error', 'pull']
    """
    shape = truth.cosmic_rays.shape
    if (len(masks), *masks.shape) != shape:
        msg = f"masks must be of {shape}, got {(len(masks), *masks.shape)}"
        raise ValueError(msg)
    for name, image in combined.items():
        if image.shape != shape[1:]:
            msg = (
                f"combined[{name!r}] must have the shape {shape[1:]}, got {image.shape}"
            )
            raise ValueError(msg)
    both = truth.coincidences(_HIT), truth.coincidences(_TRACE)
    rows = [_judge_mask("MEDIANCR", masks.mediancr, *both)]
    hits, traces = truth.hits(_HIT), truth.hits(_TRACE)
    for i, mask in enumerate(masks.crmasks):
        rows.append(_judge_mask(f"CRMASK{i + 1}", mask, hits[i], traces[i]))
    judged = Table(rows=rows, names=("mask", "flagged", "hit", "recall", "false"))
    judged["recall"].info.format = ".3f"
    names = ("image", "residual", "rms", "efficiency")
    rows = list(_judge_images(combined, truth))
    images = (
        Table(rows=rows, names=names)
        if rows
        else Table(names=names, dtype=("U1", int, float, float))
    )
    images["rms"].info.format = ".3f"
    images["efficiency"].info.format = ".3f"
    return Evaluation(judged, images, _judge_masked(masks.crmasks, combined, truth))


def _judge_mask(name, mask, hit, trace):
    number = np.count_nonzero(hit)
    recall = np.count_nonzero(mask & hit) / number if number else np.nan
    if trace.any():
        far = ndimage.distance_transform_edt(~trace) > _NEAR
    else:
        far = np.ones_like(trace)
    return name, np.count_nonzero(mask), number, recall, np.count_nonzero(mask & far)


def _judge_images(combined, truth):
    expected = truth.expected.mean(axis=0) + truth.bias
    noise = np.sqrt((truth.noise**2).mean(axis=0))
    ideal, some = _clean_mean(truth)
    best = np.mean(((ideal - expected) / noise)[some] ** 2)
    for name, image in combined.items():
        good = some if image.mask is None else some & ~image.mask
        error = np.asarray(image.data, dtype=float) - expected
        yield (
            name,
            np.count_nonzero((error > _RESIDUAL * noise) & good),
            np.sqrt(np.mean(error[good] ** 2)),
            best / np.mean((error / noise)[good] ** 2),
        )


def _judge_masked(crmasks, combined, truth):
    """Return the table of combinations at masked pixels."""
    missed = (truth.hits(_TRACE) & ~crmasks).any(axis=0)
    use = crmasks.any(axis=0) & ~crmasks.all(axis=0) & ~missed
    level = truth.expected.mean(axis=0)
    noise = np.sqrt((truth.noise**2).sum(axis=0)) / len(crmasks)
    data = np.stack([ccd.data for ccd in truth.exposures])
    data = data - truth.cosmic_rays
    never_hit = data.mean(axis=0, dtype=float)
    number = np.maximum((~crmasks).sum(axis=0), 1)
    left = np.where(crmasks, 0, data - truth.expected - truth.bias).sum(axis=0) / number
    names = ("image", "brightest", "pixels", "error", "pull", "difference", "least")
    rows = []
    for name, image in combined.items():
        good = use if image.mask is None else use & ~image.mask
        sigma = np.full(good.shape, np.nan)
        if image.uncertainty is not None:
            sigma = np.where(
                image.uncertainty.array > 0, image.uncertainty.array, np.nan
            )
        error = np.asarray(image.data, dtype=float) - level - truth.bias
        difference = np.asarray(image.data, dtype=float) - never_hit
        for part in _BRIGHTEST:
            here = good & (level >= np.quantile(level, 1 - part))
            if not here.any():
                continue
            ratios = ((error / noise)[here], (error / sigma)[here])
            median = np.median((difference / noise)[here])
            least = _rms((left / noise)[here])
            numbers = part, np.count_nonzero(here), *map(_rms, ratios), median, least
            rows.append((name, *numbers))
    kinds = ("U16", float, int, *[float] * 4)
    table = Table(rows=rows or None, names=names, dtype=None if rows else kinds)
    for name in names[3:]:
        table[name].info.format = ".3f"
    return table


def _rms(values):
    return np.sqrt(np.mean(values**2)) if values.size else np.nan


def _clean_mean(truth):
    """Return the mean over exposures that are not hit, and where there are any."""
    clean = ~truth.hits(_CLEAN)
    data = np.stack([ccd.data for ccd in truth.exposures])
    number = clean.sum(axis=0)
    total = np.where(clean, data, 0).sum(axis=0, dtype=float)
    return total / np.maximum(number, 1), number > 0
