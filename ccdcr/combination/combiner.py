# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A ccdproc Combiner with methods that remove cosmic rays."""

from functools import wraps

import numpy as np

from ccdcr.combination.ccdproc_adapter import LateCombiner, check_namespace, get_stack
from ccdcr.combination.combination_settings import (
    CombinationSettings,
    check_dtype,
    check_fit,
    check_weights,
    choose_dtype,
    given_noise,
    make_keywords,
    masks_for,
)
from ccdcr.combination.combine_rows import ImagePlanes, combine_planes
from ccdcr.exposures.ccd_parameters import find_noise_source
from ccdcr.exposures.exposure_flags import (
    bad_bits,
    mask_as_recorded,
    mask_flagged,
    union_of_flags,
)
from ccdcr.exposures.open_exposures import Exposure, check_arrays, list_exposures
from ccdcr.masks.expected_table import cut_masks
from ccdcr.masks.mask_order import check_order
from ccdcr.masks.mask_rows import check_not_swapped, read_masks

__all__ = ["CRCombiner"]

_OPTIONS = """
        Parameters
        ----------
        use_lamedian : bool, optional
            Use LAMEDIAN, the median cleaned by a single-image detector, instead of the
            minimum over the exposures{where}. LAMEDIAN is not scaled by
            ``apply_flux_factor`` or ``scaling``. Default is False.
        use_expected : bool, optional
            Replace masked values of the exposures by their expected values without hits
            (`CRMaskSet.expected`), and take the {statistic}. Other pixels do not
            change. Expected values belong to the exposures from which they were
            computed. Default is None: use them if the mask set has them.
        apply_flux_factor : bool, optional
            Subtract the bias recorded in the mask set from each exposure and divide it
            by its flux factor. Default is None: only if the factors come from exposure
            times.
        uncertainty : {{'propagate', 'scatter'}} or None, optional
            ``'propagate'``, the default, propagates the ``noise`` of the combiner.
            ``'scatter'`` computes the scatter of the exposures used, as ccdproc does,
            and propagates where only one is left. None skips the uncertainty (faster).
        scale_to : float or `~numpy.ndarray`, optional
            Factor of the exposures, instead of ``scaling``.

        Returns
        -------
        combined : `~astropy.nddata.CCDData`
            The combined image, with header and WCS of the first exposure. It is masked
            (True = bad) and NaN only where every exposure is masked. The uncertainty is
            a standard deviation.

        Raises
        ------
        ValueError
            If there is no mask set, or if it lacks a requested mask.

        Warns
        -----
        NoUncertaintyWarning
            If neither uncertainties nor gain and read noise are known.
        FluxScaleWarning
            If flux factors that differ by more than 2 % are not applied, although
            the method mixes exposures.
        LocalMedianWarning
            If pixels to be replaced by their local median have no neighbour.
"""


def _combination(where, statistic):
    """Return a decorator of a name and a docstring that makes a method of them."""
    given = {"where": where, "statistic": statistic}

    def decorate(named):
        name = named.__name__.removesuffix("_combine")

        @wraps(named)
        def method(
            self,
            *,
            use_lamedian=False,
            use_expected=None,
            apply_flux_factor=None,
            uncertainty="propagate",
            scale_to=None,
        ):
            return self._combine(
                name,
                scale_to,
                use_lamedian=use_lamedian,
                use_expected=use_expected,
                apply_flux_factor=apply_flux_factor,
                uncertainty=uncertainty,
            )

        del method.__wrapped__  # whose signature is another one
        method.__doc__ = f"{named.__doc__.rstrip()}\n{_OPTIONS.format(**given)}"
        return method

    return decorate


class CRCombiner(LateCombiner):
    """
    A `ccdproc.Combiner` with three methods that remove cosmic rays.

    Scaling, weights and clipping work as in ``Combiner``, but masked values do not
    affect clipping, and flagged values do not in the three methods.

    Parameters
    ----------
    ccd_iter : iterable of `~astropy.nddata.CCDData`
        The exposures, all of one shape (ny, nx) and unit. Pixels that are
        masked (True = bad) or not finite are ignored.
    crmasks : `~ccdcr.CRMaskSet`, str or `~pathlib.Path`, optional
        The masks, or the file that holds them, in the order of the exposures.
    dtype : str or `~numpy.dtype`, optional
        Type of the data and of the result; ``'auto'`` is float32 if the exposures are
        float32 or 16-bit integers. Default is float64.
    xp : module, optional
        Accepted as by later versions of ccdproc; only numpy is allowed.
    gain, readnoise : optional
        Gain and read noise, as for `~ccdcr.detect_cosmic_rays`. Default is those of the
        mask set.
    noise : {'auto', 'uncertainty', 'detector'}, optional
        Source of the uncertainty of the result: the uncertainties of the exposures (of
        any class), or gain and read noise. ``'auto'``, the default, uses the former if
        each exposure has one. Pixels whose uncertainty means that nothing is known (a
        standard deviation or variance of 0, infinity or NaN, or an inverse variance of
        0) are then ignored.
    ignore_flags, flag_name_map : optional
        As for `~ccdcr.detect_cosmic_rays`. Default is what the mask set records of the
        detection; -1 ignores all flags.

    Raises
    ------
    TypeError
        If exposures are not CCDData, differ in shape or unit, or hold other arrays than
        numpy arrays.
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

    def __init__(
        self,
        ccd_iter,
        crmasks=None,
        dtype=None,
        *,
        xp=None,
        gain=None,
        readnoise=None,
        noise="auto",
        ignore_flags=None,
        flag_name_map=None,
    ):
        check_namespace(xp, "xp")
        check_not_swapped(ccd_iter, crmasks, "ccd_iter and crmasks")
        ccds = None if ccd_iter is None else list(ccd_iter)
        if ccds == []:
            msg = "ccd_iter must hold at least one exposure, got none"
            raise ValueError(msg)
        auto = isinstance(dtype, str) and dtype == "auto"
        super().__init__(ccds, dtype=None if auto else dtype)
        if auto:
            self._dtype = choose_dtype(dtype, ccds)
        check_arrays(ccds)
        if (bits := bad_bits(ignore_flags, flag_name_map)) is not None:
            labels = [f"exposure {i}" for i in range(1, len(ccds) + 1)]
            pairs = zip(ccds, labels, strict=True)
            ccds = [mask_flagged(ccd, bits, label) for ccd, label in pairs]
        self._ccds = self.ccd_list = ccds
        self._unflagged = ccds if bits is None else None
        self.crmasks = crmasks
        self._noise = {"gain": gain, "readnoise": readnoise}
        given_noise(self._exposures, self.crmasks, **self._noise)
        self._source = noise
        find_noise_source(self._exposures, noise, warn=False)

    @property
    def crmasks(self):
        """The `~ccdcr.CRMaskSet`, or None; a file name is read when set."""
        return self._crmasks

    @crmasks.setter
    def crmasks(self, value):
        if value is not None:
            value = read_masks(value, "crmasks")
            check_fit(value, len(self._ccds), self._ccds[0].shape)
            names = list_exposures(self._ccds)[1]
            self._foreign = check_order(value, self._exposures, names)
            self._mask_as_recorded(value.meta)
        self._crmasks = value

    def _mask_as_recorded(self, meta):
        if self._unflagged is None:
            return
        self._ccds = self.ccd_list = mask_as_recorded(self._unflagged, meta)
        if self.copied and self._ccds is not self._unflagged:
            get_stack(self)[1][:] |= np.stack([ccd.mask for ccd in self._ccds])

    @_combination(" at every MEDIANCR pixel", "median of all, there too")
    def mediancr_combine(self):
        """
        Combine by the median, and by the minimum where MEDIANCR is set.

        Pixels of MEDIANCR are hit in half of the exposures or more, so that the median
        is wrong.
        """

    @_combination(
        "\n            where MEANCRT and MEDIANCR are both set",
        "median of\n            all where MEANCRT is set",
    )
    def meancrt_combine(self):
        """
        Combine by the mean, and by `mediancr_combine` where MEANCRT is set.

        Pixels of MEANCRT are hit in any exposure, so that the mean is wrong. The mean
        has less noise than the median and uses the weights of the combiner.
        """

    @_combination("\n            where no exposure is left", "mean of all")
    def meancr_combine(self):
        """
        Combine by the mean over the exposures that are not hit.

        Each exposure has its own mask CRMASKi. If all exposures are hit, the result is
        their minimum. The weights of the combiner are used.
        """

    @_combination(
        "\n            where no exposure is left or MEANCR is set",
        "mean of\n            all where MEANCR is not set",
    )
    def meancr2_combine(self):
        """
        Combine by `meancr_combine`, and by the minimum where MEANCR is set.

        In the pixels of MEANCR the result of `meancr_combine` still looks like a cosmic
        ray. Not every mask set has this mask.
        """

    def exposure_map(self, method="meancr", *, use_expected=None):
        """
        Return the number of exposures used in each pixel of a combination.

        Parameters
        ----------
        method : {'mediancr', 'meancrt', 'meancr', 'meancr2'}, optional
            The combination method.
        use_expected : bool, optional
            As for the methods. Expected values are not counted.

        Returns
        -------
        number : 2D `~numpy.ndarray` of int16
            Number of exposures used: 1 for a replaced pixel, 0 where no measured value
            is good.

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
        settings, planes = self._prepare(
            method, self.scaling, use_expected=use_expected, uncertainty=None
        )
        return combine_planes(planes, self.dtype, settings, number=True).number

    def _combine(self, method, scale_to, **options):
        check_dtype(self.dtype)
        check_weights(self.weights)
        scaling = self.scaling if scale_to is None else scale_to
        settings, planes = self._prepare(method, scaling, **options)
        if not self._foreign:
            settings.check_expected(
                self._exposures, lambda rows: cut_masks(planes.masks, rows)
            )
        images = combine_planes(planes, self.dtype, settings)
        images.replace_by_local_median(self.crmasks.local_median_pixels)
        more = {"scaled": scaling is not None, "replaced": images.replaced}
        keywords = make_keywords(self._exposures, self.crmasks, settings, **more)
        combined = images.to_ccd(self._ccds[0], self.unit, keywords)
        combined.flags = union_of_flags(self._ccds)
        return combined

    def _prepare(self, method, scaling, **options):
        """Return settings and planes of a combination."""
        noise = given_noise(self._exposures, self.crmasks, **self._noise)
        given = {"scaling": scaling, "clips": self._clips, "given": noise}
        given["noise"] = self._source
        settings = CombinationSettings.from_options(
            self._exposures, self.crmasks, method, **given, **options
        )
        choice = {"clips": settings.clips, "expected": settings.expected}
        masks = masks_for(self.crmasks, method, given=noise, **choice)
        lamedian = None if settings.lamedian is None else self.crmasks.lamedian
        return settings, self._planes(masks, lamedian)

    @property
    def _exposures(self):
        return [Exposure.from_ccd(ccd) for ccd in self._ccds]

    def _planes(self, masks, lamedian=None):
        """Return the planes of the exposures, or those of the parent if it has any."""
        planes = [exposure.cut(np.s_[:]) for exposure in self._exposures]
        if self.copied:
            data, mask = get_stack(self)
            if self._rejected is not None:
                mask = mask & ~self._rejected
            sigmas = [sigma for *_, sigma in planes]
            planes = list(zip(data, mask, sigmas, strict=True))
        lamedian = None if lamedian is None else np.asarray(lamedian)
        return ImagePlanes(planes, masks, self.weights, lamedian)
