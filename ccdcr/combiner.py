# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The Combiner that knows where cosmic rays are."""

import os
from dataclasses import replace
from functools import partial

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData

from ccdcr._kernels import count
from ccdcr._parent import LateCombiner, rows_of
from ccdcr._threads import in_threads
from ccdcr.combination.images import Images, allocate
from ccdcr.combination.methods import METHODS, Stack
from ccdcr.combination.noise import has_variance, model_variance, variance_of
from ccdcr.exceptions import NoUncertaintyWarning, warn_user
from ccdcr.exposures import check_arrays
from ccdcr.maskset import CRMaskSet
from ccdcr.utils.row_bands import bands_of

__all__ = [
    "THREADS",
    "VALUES_AT_ONCE",
    "CRCombiner",
    "check_dtype",
    "check_fit",
    "check_weights",
    "keywords_of",
]

# Of a stack in each thread, so that they stay in the cache. With fewer of them
# threads wait for each other, with more threads memory is the limit.
VALUES_AT_ONCE = 1 << 19
THREADS = 4

_OPTIONS = """
        Parameters
        ----------
        use_lamedian : bool, optional
            Take the pixels of LAMEDIAN, the median cleaned by a single-image
            detector, instead of the minimum over the exposures{where}. It has
            the flux scale of the median that it was made from: with
            ``apply_flux_factor`` or ``scaling`` it is not scaled. Default is
            False.
        apply_flux_factor : bool, optional
            Divide each exposure by its flux factor in the mask set. Default
            is False.
        uncertainty : {{'propagate', 'scatter'}} or None, optional
            ``'propagate'``, the default: the uncertainties of the exposures
            if all have one, else the noise model by the gain and the read
            noise of the mask set. ``'scatter'``: ccdproc's convention over
            the exposures used, and the former where only one is left. None:
            no uncertainty, which is faster.
        scale_to : float or `~numpy.ndarray`, optional
            Factor of the exposures, instead of ``scaling``.

        Returns
        -------
        combined : `~astropy.nddata.CCDData`
            The combined image, with header and WCS of the first exposure,
            masked (True = bad) only where every exposure is; there the value
            is NaN. The uncertainty is a standard deviation.

        Raises
        ------
        ValueError
            If there is no mask set, or if it lacks what is asked for.

        Warns
        -----
        NoUncertaintyWarning
            If nothing is known from which the uncertainty could be computed.
        LocalMedianWarning
            If pixels to be replaced by their local median have no neighbour.
"""


def _with_options(where):
    """Append the common sections to the docstring of a method."""

    def decorate(method):
        method.__doc__ = f"{method.__doc__.rstrip()}\n{_OPTIONS.format(where=where)}"
        return method

    return decorate


class CRCombiner(LateCombiner):
    """
    A `ccdproc.Combiner` with three methods that remove cosmic rays.

    Scaling, weights, clipping and all else that ``Combiner`` has work as there.

    Parameters
    ----------
    ccd_iter : iterable of `~astropy.nddata.CCDData`
        The exposures, all of one shape (ny, nx) and unit. Pixels that are
        masked (True = bad) or not finite take no part.
    crmasks : `~ccdcr.CRMaskSet`, str or `~pathlib.Path`, optional
        The masks, or the file that holds them, in the order of the exposures.
    dtype : str or `~numpy.dtype`, optional
        Type of the data and of the result. Default is float64.

    Raises
    ------
    TypeError
        If exposures are no CCDData, differ in shape or unit, or hold arrays
        that are not of numpy.
    ValueError
        If the mask set does not fit the exposures.

    Examples
    --------
    >>> from ccdcr import CRCombiner, detect_cosmic_rays
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures((100, 120), seed=1)
    >>> masks = detect_cosmic_rays(
    ...     sim.exposures, gain=1.0, readnoise=3.0, la_verbose=False
    ... )
    >>> combined = CRCombiner(sim.exposures, masks).meancr_combine()
    >>> combined.unit, combined.header["NCOMBINE"]
    (Unit("adu"), 3)
    """

    def __init__(self, ccd_iter, crmasks=None, dtype=None):
        ccds = None if ccd_iter is None else list(ccd_iter)
        if ccds == []:
            msg = "ccd_iter must hold at least one exposure, got none"
            raise ValueError(msg)
        if ccds is not None and all(isinstance(ccd, CCDData) for ccd in ccds):
            check_arrays(ccds)
        super().__init__(ccds, dtype=dtype)
        self._ccds = ccds
        self.crmasks = crmasks

    @property
    def crmasks(self):
        """The `~ccdcr.CRMaskSet`, or None; a file name is read when set."""
        return self._crmasks

    @crmasks.setter
    def crmasks(self, value):
        if isinstance(value, (str, os.PathLike)):
            value = CRMaskSet.read(value)
        if value is not None:
            if not isinstance(value, CRMaskSet):
                msg = (
                    f"crmasks must be a CRMaskSet or a file, got {type(value).__name__}"
                )
                raise TypeError(msg)
            check_fit(value, len(self._ccds), self._ccds[0].shape)
        self._crmasks = value

    @_with_options(" at every MEDIANCR pixel")
    def mediancr_combine(
        self,
        *,
        use_lamedian=False,
        apply_flux_factor=False,
        uncertainty="propagate",
        scale_to=None,
    ):
        """
        Combine by the median; by the minimum where MEDIANCR is set.

        Pixels of MEDIANCR are hit in more than half of the exposures, so that
        the median is wrong; the lowest exposure there is likely not hit.
        """
        return self._combine(
            "mediancr", use_lamedian, apply_flux_factor, uncertainty, scale_to
        )

    @_with_options("\n            where MEANCRT and MEDIANCR are both set")
    def meancrt_combine(
        self,
        *,
        use_lamedian=False,
        apply_flux_factor=False,
        uncertainty="propagate",
        scale_to=None,
    ):
        """
        Combine by the mean; by `mediancr_combine` where MEANCRT is set.

        MEANCRT is one mask of all hits in any exposure. The mean has less noise
        than the median and is taken everywhere else, with the weights set on
        the combiner.
        """
        return self._combine(
            "meancrt", use_lamedian, apply_flux_factor, uncertainty, scale_to
        )

    @_with_options("\n            where no exposure is left")
    def meancr_combine(
        self,
        *,
        use_lamedian=False,
        apply_flux_factor=False,
        uncertainty="propagate",
        scale_to=None,
    ):
        """
        Combine by the mean over the exposures that are not hit themselves.

        Each exposure has its own mask CRMASKi. Where none is left it is the
        minimum over the exposures. Weights set on the combiner are used.
        """
        return self._combine(
            "meancr", use_lamedian, apply_flux_factor, uncertainty, scale_to
        )

    @_with_options("\n            where no exposure is left or MEANCR is set")
    def meancr2_combine(
        self,
        *,
        use_lamedian=False,
        apply_flux_factor=False,
        uncertainty="propagate",
        scale_to=None,
    ):
        """
        Combine by `meancr_combine`; by the minimum where MEANCR is set.

        MEANCR are pixels where the result of `meancr_combine` still looks like
        a cosmic ray; not every mask set has it.
        """
        return self._combine(
            "meancr2", use_lamedian, apply_flux_factor, uncertainty, scale_to
        )

    def exposure_map(self, method="meancr"):
        """
        Return how many exposures each pixel of a combination is made of.

        Parameters
        ----------
        method : {'mediancr', 'meancrt', 'meancr', 'meancr2'}, optional
            The combination method.

        Returns
        -------
        number : 2D `~numpy.ndarray` of int16
            Number of exposures used; 1 for a replaced pixel, 0 where every
            exposure is bad.

        Raises
        ------
        ValueError
            If the method is not known, or if there is no mask set for it.

        Examples
        --------
        >>> from ccdcr import detect_cosmic_rays
        >>> from ccdcr.simulation import simulate_exposures
        >>> sim = simulate_exposures((100, 120), seed=1)
        >>> masks = detect_cosmic_rays(
        ...     sim.exposures, gain="GAIN", readnoise="RDNOISE"
        ... )
        >>> from ccdcr import CRCombiner
        >>> number = CRCombiner(sim.exposures, masks).exposure_map("meancrt")
        >>> bool((number[~masks.meancrt] == 3).all())
        True
        """
        masks = self._masks_for(method)
        number = np.empty(self.crmasks.shape, dtype=np.int16)
        for rows in self._bands():
            data, mask = rows_of(self, rows)
            bad = mask | ~np.isfinite(data)
            cut = {name: plane[..., rows, :] for name, plane in masks.items()}
            number[rows] = self._number(method, cut, bad, rows)
        return number

    def _number(self, method, masks, bad, rows):
        """Return the number of exposures used in some rows."""
        n = len(bad)
        if "CRMASKS" in masks:
            unused = bad | masks["CRMASKS"]
            if self.weights is not None:
                per_pixel = self.weights.ndim > 1
                weights = self.weights[:, rows] if per_pixel else self.weights
                unused |= (weights if per_pixel else weights.reshape(n, 1, 1)) == 0
            number = count(unused, n)
            replaced = (number == 0) | masks.get("MEANCR", False)
        else:
            number = count(bad, n)
            replaced = masks[METHODS[method][1][0]]
        number[replaced] = 1
        number[bad.all(axis=0)] = 0
        return number

    def _masks_for(self, method):
        """Return the masks that a method uses, by name."""
        if method not in METHODS:
            msg = f"method must be one of {', '.join(METHODS)}, got {method!r}"
            raise ValueError(msg)
        if self.crmasks is None:
            msg = f"{method} needs a mask set; set crmasks to a CRMaskSet or its file"
            raise ValueError(msg)
        available = {"CRMASKS": self.crmasks.crmasks, **self.crmasks.planes}
        needed = METHODS[method][1]
        if missing := [name for name in needed if name not in available]:
            msg = f"{method} needs the mask {missing[0]}, which crmasks does not have"
            raise ValueError(msg)
        return {name: available[name] for name in needed}

    def _combine(self, method, use_lamedian, apply_flux_factor, uncertainty, scale_to):
        check_dtype(self.dtype)
        check_weights(self.weights)
        images = self._images(
            method, use_lamedian, apply_flux_factor, uncertainty, scale_to
        )
        images.replace_by_local_median(self.crmasks.local_median_pixels)
        keywords = keywords_of(
            len(self._ccds),
            method,
            self.crmasks.uuid,
            apply_flux_factor,
            use_lamedian,
            replaced=images.replaced,
        )
        return images.to_ccd(self._ccds[0], self.unit, keywords)

    def _images(
        self,
        method,
        use_lamedian=False,
        apply_flux_factor=False,
        uncertainty="propagate",
        scale_to=None,
        *,
        number=False,
    ):
        """Return the combined images, without the local medians."""
        masks = self._masks_for(method)
        function, scatter = METHODS[method][0], uncertainty == "scatter"
        inputs = {
            "scale": self._scale(apply_flux_factor, scale_to),
            "substitute": self._lamedian() if use_lamedian else None,
            "variances": self._variances(uncertainty),
        }
        images = allocate(
            np.empty,
            self.crmasks.shape,
            self.dtype,
            sigma=inputs["variances"] is not None,
            number=number,
        )

        def work(rows):
            stack, bad = self._stack(rows, **inputs)
            stack = replace(stack, scatter=scatter)
            cut = {name: mask[..., rows, :] for name, mask in masks.items()}
            flat = {n: m.reshape(*m.shape[:-2], -1) for n, m in cut.items()}
            part = _finish(function(stack, flat), bad)
            if number:
                part.number = self._number(method, cut, bad, rows)
            images.put(rows, part)
            return part.replaced

        images.replaced = sum(in_threads(work, self._bands(), THREADS))
        return images

    def _bands(self):
        return bands_of(self.crmasks.shape, max(VALUES_AT_ONCE // len(self._ccds), 1))

    def _scale(self, apply_flux_factor, scale_to):
        """Return the factor of each exposure, or None if all are 1."""
        scale = self.scaling if scale_to is None else scale_to
        if scale is None and not apply_flux_factor:
            return None
        n = len(self._ccds)
        scale = 1.0 if scale is None else np.ravel(np.asarray(scale, dtype=float))
        try:
            scale = np.broadcast_to(scale, (n,))
        except ValueError as err:
            msg = f"scale_to must be one number or {n} of them, got {np.size(scale)}"
            raise ValueError(msg) from err
        if not np.all(np.isfinite(scale)):
            msg = f"scaling and scale_to must be finite, got {scale.tolist()}"
            raise ValueError(msg)
        return scale / self.crmasks.flux_factor if apply_flux_factor else scale

    def _stack(self, rows, *, scale, substitute, variances):
        """Return the exposures of some rows, flat, and what is bad, (n, rows, nx)."""
        data, mask = rows_of(self, rows)
        bad = mask | ~np.isfinite(data)
        noise = None
        if variances is not None:
            planes = zip(variances, data, strict=True)
            noise = [variance(plane, rows).ravel() for variance, plane in planes]
        if scale is not None:
            # Values that take no part may be anything.
            with np.errstate(over="ignore", invalid="ignore"):
                data = data * scale.astype(data.dtype)[:, np.newaxis, np.newaxis]
                factors = [float(s) ** 2 for s in scale]
                noise = noise and [v * f for v, f in zip(noise, factors, strict=True)]
        weights = self.weights
        if weights is not None and weights.ndim > 1:
            weights = weights[:, rows].reshape(len(data), -1)
        stack = Stack(
            data.reshape(len(data), -1),
            bad.reshape(len(bad), -1) if bad.any() else None,
            weights,
            noise,
            substitute=None if substitute is None else substitute(rows).ravel(),
        )
        return stack, bad

    def _lamedian(self):
        """Return a function of rows: LAMEDIAN in the unit of the exposures."""
        masks = self.crmasks
        image = masks.lamedian
        if image is None:
            msg = "use_lamedian=True needs LAMEDIAN, which the mask set does not have"
            raise ValueError(msg)
        unit = getattr(image, "unit", self.unit)
        if {unit, self.unit} == {u.electron, u.adu} and masks.gain is not None:
            factor = masks.gain if unit == u.adu else 1 / masks.gain
        else:
            try:
                factor = unit.to(self.unit)
            except u.UnitConversionError as err:
                msg = (
                    f"LAMEDIAN is in {unit} and the exposures are in {self.unit}; "
                    "the mask set records no gain to convert it"
                )
                raise ValueError(msg) from err
        image = np.asarray(image)

        def substitute(rows):
            return np.multiply(image[rows], factor, dtype=np.float64) + self._bias()

        return substitute

    def _bias(self):
        """Return the recorded bias in the unit of the exposures."""
        bias = self.crmasks.bias or 0.0
        in_electrons = self.unit == u.electron and self.crmasks.gain is not None
        return bias * self.crmasks.gain if in_electrons else bias

    def _variances(self, uncertainty):
        """Return functions of data and rows, the variance of each exposure; or None."""
        if uncertainty is None:
            return None
        if uncertainty not in {"propagate", "scatter"}:
            msg = (
                "uncertainty must be 'propagate', 'scatter' or None, "
                f"got {uncertainty!r}"
            )
            raise ValueError(msg)
        known = sum(has_variance(ccd) for ccd in self._ccds)
        model = self._noise_model()
        if known == len(self._ccds):
            others = model or [None] * known
            return [
                partial(_known_variance, ccd, other)
                for ccd, other in zip(self._ccds, others, strict=True)
            ]
        if model is not None:
            return model
        msg = (
            f"{known} of {len(self._ccds)} exposures have an uncertainty, and the "
            "mask set does not record gain and read noise for exposures in "
            f"{self.unit}"
        )
        if uncertainty == "scatter":
            msg += ", which uncertainty='scatter' needs where one exposure is left"
            raise ValueError(msg)
        warn_user(f"the result has no uncertainty: {msg}", NoUncertaintyWarning)
        return None

    def _noise_model(self):
        masks = self.crmasks
        if masks.readnoise is None or (masks.gain is None and self.unit == u.adu):
            return None
        if self.unit not in {u.adu, u.electron}:
            return None
        gain = masks.gain if self.unit == u.adu else 1.0
        bias = self._bias()

        def variance(plane, _):
            return model_variance(plane, gain, masks.readnoise, bias)

        return [variance] * len(self._ccds)


def check_fit(masks, n, shape):
    """Refuse masks of another number or shape of exposures."""
    if len(masks) != n:
        msg = f"crmasks must hold the masks of {n} exposures, got {len(masks)}"
        raise ValueError(msg)
    if masks.shape != shape:
        msg = (
            f"crmasks must have the shape of the exposures, {shape}, got {masks.shape}"
        )
        raise ValueError(msg)


def check_dtype(dtype):
    """Refuse a type of the data that has no NaN."""
    dtype = np.dtype(dtype or float)
    if dtype.kind != "f":
        msg = f"dtype must be a floating-point type, got {dtype}"
        raise TypeError(msg)


def check_weights(weights):
    """Refuse weights that are negative, not finite or all 0."""
    if weights is None:
        return
    lowest, highest = np.min(weights), np.max(weights)
    if not (lowest >= 0 and 0 < highest < np.inf):  # also of NaN
        msg = "weights must be finite numbers >= 0, not all of them 0"
        raise ValueError(msg)


def _known_variance(ccd, model, plane, rows):
    """Return the variance of an exposure; by a model where it is 0, < 0 or NaN."""
    variance = variance_of(ccd, rows)
    unknown = ~(variance > 0)
    if unknown.any():
        other = np.inf if model is None else model(plane, rows)
        variance = np.where(unknown, other, variance)
    return variance


def _finish(combined, bad):
    """Return what a method made of some rows as images."""
    nogood = bad.all(axis=0)
    shape = nogood.shape
    value = combined.value.reshape(shape)
    sigma = combined.variance
    if sigma is not None:
        sigma = np.sqrt(sigma).reshape(shape)
    replaced = np.count_nonzero(combined.replaced)
    if nogood.any():
        replaced -= np.count_nonzero(combined.replaced & nogood.ravel())
        for image in filter(lambda image: image is not None, (value, sigma)):
            image[nogood] = np.nan
    return Images(value, nogood, sigma, replaced=replaced)


def keywords_of(n, method, uuid, apply_flux_factor, use_lamedian, *, replaced):
    """Return what is recorded in the header of a combined image."""
    return {
        "NCOMBINE": n,
        "CRMETHOD": method,
        "CRUUID": uuid,
        "CRFLUXF": bool(apply_flux_factor),
        "CRLAMED": bool(use_lamedian),
        "CRNREPL": int(replaced),
    }
