# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Options of a combination, checked against exposures and masks."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u

from ccdcr.combination.clipping import check_extrema
from ccdcr.combination.methods import METHODS
from ccdcr.exceptions import (
    FluxScaleWarning,
    NoUncertaintyWarning,
    short_repr,
    warn_user,
)
from ccdcr.exposures.ccd_parameters import (
    RecordedNoise,
    bias_in_unit,
    find_ccd_parameters,
    find_noise_source,
)
from ccdcr.exposures.ccd_values import exposure_times, is_electrons
from ccdcr.masks.expected_check import REMEDY, check_expected
from ccdcr.masks.expected_table import ExpectedRows, expected_power
from ccdcr.masks.fits_reader import MAPS
from ccdcr.masks.mask_checks import as_map
from ccdcr.masks.mask_order import alignment_remedy
from ccdcr.matching.equivalence import share_of_steps

__all__ = [
    "CombinationSettings",
    "check_dtype",
    "check_factors",
    "check_fit",
    "check_uncertainty",
    "check_weights",
    "choose_dtype",
    "given_noise",
    "is_applied",
    "make_keywords",
    "masks_for",
]

_SAME_FLUX = 1.02
_LEAST_SHARE = 0.1  # of the pixels, where medians are not means


@dataclass(frozen=True)
class CombinationSettings:
    """
    Settings of a combination that are the same for all pixels.

    ``factors`` are those of the exposures (n,) or None, after ``offset`` is subtracted;
    ``applied`` says whether flux factors are among them. ``kinds`` are class and unit
    of the uncertainties of the exposures, None where they are not used; ``model`` is
    the `RecordedNoise`, or None. ``lamedian`` are
    the factor, the power of the gain and the offset that bring LAMEDIAN to the unit of
    the exposures. ``clips`` are those of `make_clips`. ``expected`` is the power of the
    gain that brings expected values to the unit of the exposures, or None. ``fluxes``
    (n,) are the flux scales of the exposures after the factors.
    """

    method: str
    unit: u.UnitBase
    factors: np.ndarray | None = None
    kinds: tuple | None = None
    model: RecordedNoise | None = None
    has_variance: bool = False
    scatter: bool = False
    lamedian: tuple | None = None
    clips: tuple = ()
    expected: int | None = None
    offset: float = 0.0
    applied: bool = False
    fluxes: Any = 1.0

    @classmethod
    def from_options(
        cls,
        exposures,
        masks,
        method,
        *,
        use_lamedian=False,
        use_expected=None,
        apply_flux_factor=None,
        uncertainty="propagate",
        scaling=None,
        clips=(),
        given=None,
        noise="auto",
    ):
        """Return settings for exposures and masks, or `GivenNoise` in their place."""
        unit = exposures[0].unit
        masks_for(masks, method)
        check_extrema(clips, len(exposures))
        check_uncertainty(uncertainty)
        applied = is_applied(apply_flux_factor, masks)
        factors = _factors(len(exposures), masks, scaling, applied)
        scaled = applied and np.any(masks.flux_factor != 1)
        offset = bias_in_unit(masks, unit) if scaled else 0.0
        headers = [exposure.meta for exposure in exposures]
        recorded = masks if given is None else given
        model = RecordedNoise.from_masks(recorded, unit, headers)
        lamedian = _lamedian_units(masks, unit, offset) if use_lamedian else None
        expected = _expected_power(masks, unit, use_expected)
        warn = uncertainty is not None and model is not None
        kinds = _uncertainty_kinds(exposures, noise, warn=warn)
        known = uncertainty is not None and (kinds is not None or model is not None)
        if uncertainty is not None and not known:
            _complain(exposures, unit, uncertainty)
        scatter = uncertainty == "scatter"
        if scaling is None:
            _warn_of_flux(masks, method, expected, applied)
        fluxes = np.abs(masks.flux_factor * (1 if factors is None else factors))
        rules = known, scatter, lamedian, tuple(clips), expected, offset, applied
        return cls(method, unit, factors, kinds, model, *rules, fluxes)

    def check_expected(self, exposures, masks_of):
        """Warn of expected values that are used and are not those of exposures."""
        if self.expected is not None:
            remedy = f"{REMEDY}, or use use_expected=False"
            check_expected(exposures, masks_of, remedy)

    def variances(self, stack):
        """Return the variance (rows, nx) of each exposure of a RowStack, or None."""
        if not self.has_variance:
            return None
        if self.kinds is None:
            return [self._modelled(i, stack) for i in range(len(stack.data))]
        known = np.where(stack.bad, np.nan, np.array(stack.variances))
        if not (unknown := np.isnan(known)).any():
            return stack.variances
        return self._completed(known, unknown & ~stack.bad, stack)

    def _completed(self, known, unknown, stack):
        """Return variances (n, rows, nx): those of clean others where unknown."""
        hit = stack.masks.get("CRMASKS", stack.flagged)
        clean = known if hit is None else np.where(hit, np.nan, known)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # where all are unknown
            # Without masks of each exposure the median is not that of a hit.
            others = (np.nanmedian if hit is None else np.nanmean)(clean, axis=0)
        for i, here in enumerate(unknown):
            other = others[here]
            if self.model is not None and np.isnan(other).any():
                other = np.where(np.isnan(other), self._modelled(i, stack)[here], other)
            known[i][here] = np.where(np.isnan(other), np.inf, other)
        return list(np.where(stack.bad, np.inf, known))

    def _modelled(self, i, stack):
        """Return the variance (rows, nx) of exposure i by the noise model."""
        maps = {name: stack.ccd.get(extension) for name, (_, extension) in MAPS.items()}
        return self.model.variance(stack.data[i], i, **maps)


def _uncertainty_kinds(exposures, noise, *, warn):
    """Return class and unit of the uncertainties of exposures; None if not used."""
    if find_noise_source(exposures, noise, warn=warn) == "detector":
        return None
    return tuple((e.kind, e.sigma_unit) for e in exposures)


def masks_for(masks, method, *, clips=(), given=None, expected=None):
    """Return the masks that a method uses, by name."""
    if method not in METHODS:
        msg = f"method must be one of {', '.join(METHODS)}, got {method!r}"
        raise ValueError(msg)
    if masks is None:
        msg = f"{method} needs a mask set; set crmasks to a CRMaskSet or its file"
        raise ValueError(msg)
    available = {"CRMASKS": masks.crmasks, **masks.planes}
    needed = METHODS[method][1]
    if missing := [name for name in needed if name not in available]:
        msg = f"{method} needs the mask {missing[0]}, which crmasks does not have"
        raise ValueError(msg)
    noise = masks if given is None else given
    more = {"LOW": masks.low}
    more |= {MAPS[name][1]: as_map(getattr(noise, name)) for name in MAPS}
    if clips or expected is not None:
        more["FLAGGED"] = masks.crmasks
    if expected is not None:
        table = masks.expected, masks.crmasks.shape
        more["EXPECTED"] = ExpectedRows.from_table(*table, masks.gain, expected)
    more = {name: mask for name, mask in more.items() if mask is not None}
    return {name: available[name] for name in needed} | more


def check_uncertainty(uncertainty):
    """Refuse what is no choice of the uncertainty."""
    if uncertainty not in {"propagate", "scatter", None}:
        msg = f"uncertainty must be 'propagate', 'scatter' or None, got {uncertainty!r}"
        raise ValueError(msg)


def is_applied(apply_flux_factor, masks):
    """Return whether flux factors are applied, by default those of exposure times."""
    if apply_flux_factor is None:
        return masks.flux_source == "EXPTIME"
    if not isinstance(apply_flux_factor, (bool, np.bool_)):
        msg = (
            "apply_flux_factor must be True, False or None, "
            f"got {short_repr(apply_flux_factor)}"
        )
        raise TypeError(msg)
    return bool(apply_flux_factor)


def _factors(n, masks, scaling, applied):
    """Return the factor of each exposure, or None if all are 1."""
    if scaling is None and not applied:
        return None
    scale = np.ones(n) if scaling is None else check_factors(scaling, n, "scale_to")
    return scale / masks.flux_factor if applied else scale


def _warn_of_flux(masks, method, expected, applied):
    """Warn if medians, minima or masked pixels mix flux scales."""
    flux = np.ones(1) if applied else masks.flux_factor
    if "CRMASKS" in METHODS[method][1] and expected is not None:
        return
    if flux.max() > _SAME_FLUX * flux.min():
        msg = (
            f"the flux factors differ by up to {flux.max() / flux.min() - 1:.0%} and "
            f"are not applied: {method} mixes different flux scales; use "
            "apply_flux_factor=True"
        )
        warn_user(msg, FluxScaleWarning)
    elif method == "meancrt" and masks.equivalence is not None:
        _warn_of_steps(masks.equivalence, expected)


def _warn_of_steps(report, expected):
    """Warn if exposures differ so that their median is not their mean."""
    if share_of_steps(report, filled=expected is not None) > _LEAST_SHARE:
        msg = (
            "sky or flux of the exposures differ so that their median, which meancrt "
            f"uses at hits, is not the mean around them ({report.describe()}): use "
            "method meancr, or give the exposures one sky and flux"
        )
        warn_user(msg, FluxScaleWarning)


def check_factors(scale, n, name):
    """Return factors as an array (n,) of floats, from one number or one each."""
    try:
        factors = np.ravel(np.asarray(scale, dtype=float))
    except (TypeError, ValueError) as err:
        msg = f"{name} must be one number or {n} of them, got {short_repr(scale)}"
        raise TypeError(msg) from err
    if factors.size not in {1, n}:
        msg = f"{name} must be one number or {n} of them, got {factors.size}"
        raise ValueError(msg)
    if not np.all(np.isfinite(factors)):
        names = "scaling and scale_to" if name == "scale_to" else name
        msg = f"{names} must be finite, got {factors.tolist()}"
        raise ValueError(msg)
    return np.broadcast_to(factors, (n,))


def _expected_power(masks, unit, use_expected):
    """Return the power of the gain for expected values, None if they are not used."""
    if use_expected is not None and not isinstance(use_expected, bool):
        msg = f"use_expected must be True, False or None, got {use_expected!r}"
        raise ValueError(msg)
    other = masks.expected_unit
    if use_expected and other is None:
        msg = (
            "use_expected=True needs expected values, which the mask set does not "
            "have; detections with crmethod='matched' have them, and "
            "add_expected(ccds, masks) makes them"
        )
        raise ValueError(msg)
    if other is None or use_expected is False:
        return None
    return expected_power(masks, unit)


def _lamedian_units(masks, unit, offset):
    """Return factor, power of the gain and offset that LAMEDIAN needs."""
    if (image := masks.lamedian) is None:
        msg = "use_lamedian=True needs LAMEDIAN, which the mask set does not have"
        raise ValueError(msg)
    other = getattr(image, "unit", unit)
    if {other, unit} == {u.electron, u.adu} and masks.gain is not None:
        power = 1 if other == u.adu else -1
        if np.ndim(masks.gain) > 1:  # multiplied by the map of the rows
            return 1.0, power, bias_in_unit(masks, unit) - offset
        return (
            float(np.median(masks.gain)) ** power,
            0,
            bias_in_unit(masks, unit) - offset,
        )
    try:
        return other.to(unit), 0, bias_in_unit(masks, unit) - offset
    except u.UnitConversionError as err:
        msg = (
            f"LAMEDIAN is in {other} and the exposures are in {unit}; "
            "the mask set records no gain to convert it"
        )
        raise ValueError(msg) from err


@dataclass(frozen=True)
class GivenNoise:
    """Gain and read noise that are given in place of those of a mask set."""

    gain: Any
    readnoise: Any
    bias: float | None

    def rows(self, rows):
        """Return the same for some rows."""
        both = (self.gain, self.readnoise)
        cut = (x[..., rows, :] if np.ndim(x) > 1 else x for x in both)
        return GivenNoise(*cut, self.bias)


def given_noise(exposures, masks, gain=None, readnoise=None):
    """Return `GivenNoise`, completed by the masks; None if nothing is given."""
    if masks is None or (gain is None and readnoise is None):
        return None
    if gain is None and not is_electrons(exposures[0].unit):
        gain = masks.gain
    readnoise = masks.readnoise if readnoise is None else readnoise
    ccd = find_ccd_parameters(exposures, gain=gain, readnoise=readnoise, bias=None)
    # That of the masks tells how their bias became electrons.
    gain = masks.gain if is_electrons(exposures[0].unit) else ccd.every_gain
    return GivenNoise(gain, ccd.every_readnoise, masks.bias)


def _complain(exposures, unit, uncertainty):
    """Warn that the uncertainty is not known; an error if it must be."""
    known = sum(exposure.has_variance for exposure in exposures)
    msg = (
        f"{known} of {len(exposures)} exposures have an uncertainty, and the "
        f"mask set does not record gain and read noise for exposures in {unit}"
    )
    if uncertainty == "scatter":
        msg += ", which uncertainty='scatter' needs where one exposure is left"
        raise ValueError(msg)
    warn_user(f"the result has no uncertainty: {msg}", NoUncertaintyWarning)


def check_fit(masks, n, shape, name="crmasks"):
    """Refuse masks of another number or shape of exposures."""
    if len(masks) != n:
        msg = f"{name} must hold the masks of {n} exposures, got {len(masks)}"
        raise ValueError(msg)
    if masks.shape != shape:
        msg = (
            f"{name} must have the shape of the exposures, {shape}, got {masks.shape}"
            f"{alignment_remedy(masks, shape)}"
        )
        raise ValueError(msg)


def choose_dtype(dtype, exposures):
    """Return the type of results; 'auto' is float32 where exposures fit into it."""
    if not isinstance(dtype, str) or dtype != "auto":
        return dtype
    found = np.result_type(np.float32, *(exposure.data.dtype for exposure in exposures))
    return np.dtype("f4") if found == np.float32 else np.dtype("f8")


def check_dtype(dtype, *, kinds="f"):
    """Refuse a type of the data that numpy does not know, or of another kind."""
    if isinstance(dtype, str) and dtype == "auto":
        return
    try:
        found = np.dtype(dtype or float)
    except TypeError as err:
        msg = f"dtype must be 'auto' or a type such as 'float32', got {dtype!r}"
        raise TypeError(msg) from err
    if found.kind not in kinds:
        msg = f"dtype must be a floating-point type, got {found}"
        raise TypeError(msg)


def check_weights(weights):
    """Refuse weights that are negative, not finite or all 0."""
    if weights is None:
        return
    lowest, highest = np.min(weights), np.max(weights)
    if not (lowest >= 0 and 0 < highest < np.inf):  # also of NaN
        msg = "weights must be finite numbers >= 0, not all of them 0"
        raise ValueError(msg)


def make_keywords(exposures, masks, settings, *, scaled, replaced):
    """Return the header keywords of a combined image, ``scaled`` by other factors."""
    keywords = {
        "NCOMBINE": len(exposures),
        "CRMETHOD": settings.method,
        "CRUUID": masks.uuid,
        "CRFLUXF": settings.applied,
        "CRLAMED": settings.lamedian is not None,
        "CRNREPL": int(replaced),
    }
    if masks.expected_unit is not None:
        keywords["CREXPECT"] = settings.expected is not None
    if settings.offset:
        keywords["CRBIASUB"] = float(settings.offset)
    times = exposure_times([e.meta or {} for e in exposures])
    if times is not None:
        keywords["TEXPTIME"] = float(times.sum())
        scale = times / masks.flux_factor if settings.applied else times
        same = exposures[0].meta["EXPTIME"] == times[0]  # not if it is text
        if not scaled and not (same and np.allclose(scale, times[0], rtol=1e-9)):
            middle = np.median if settings.method == "mediancr" else np.mean
            keywords["EXPTIME"] = float(middle(scale))
    return keywords
