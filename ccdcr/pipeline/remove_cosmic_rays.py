# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Detection and combination in one call."""

from ccdcr.combination.combination_settings import (
    check_dtype,
    check_uncertainty,
    is_applied,
)
from ccdcr.combination.combine import combine
from ccdcr.combination.methods import METHODS
from ccdcr.detection.detect_cosmic_rays import detect_cosmic_rays
from ccdcr.exceptions import MissingUnitWarning, ignored_warnings
from ccdcr.exposures.align_exposures import align_exposures
from ccdcr.exposures.open_exposures import list_exposures
from ccdcr.utils.scratch import to_bytes

__all__ = ["remove_cosmic_rays"]


def remove_cosmic_rays(
    ccds,
    requirements=None,
    *,
    gain=None,
    readnoise=None,
    bias=None,
    noise="auto",
    method="meancr",
    align=None,
    apply_flux_factor=None,
    uncertainty="propagate",
    dtype="auto",
    extension=None,
    unit=None,
    ignore_flags=None,
    flag_name_map=None,
    mem_limit=None,
    progress_bar=None,
    **overrides,
):
    """
    Detect the cosmic rays in a few exposures, and combine the exposures without them.

    Parameters
    ----------
    ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        The exposures or their files, as for `~ccdcr.detect_cosmic_rays`.
    requirements : `~ccdcr.Requirements`, mapping, str or `~pathlib.Path`, optional
        The requirements of the detection, or the YAML file that holds them.
    gain, readnoise, bias, noise : optional
        As for `~ccdcr.detect_cosmic_rays`.
    method : {'meancr', 'meancrt', 'mediancr', 'meancr2'}, optional
        The method, as for `~ccdcr.combine`. Default is ``'meancr'``.
    align : str or sequence of [dx, dy], optional
        How dithered exposures are aligned, as for `~ccdcr.align_exposures`. Default is
        None: they are not.
    apply_flux_factor, uncertainty : optional
        As for `~ccdcr.combine`.
    dtype : str or `~numpy.dtype`, optional
        Type of the combined image. Default is ``'auto'``: float32 if the exposures are
        float32 or 16-bit integers, else float64.
    extension : int, str or tuple, optional
        The extension of the image in files, by number or name.
    unit : str or `~astropy.units.Unit`, optional
        Unit of the files. Default is BUNIT, or adu without it.
    ignore_flags, flag_name_map : optional
        As for `~ccdcr.detect_cosmic_rays`.
    mem_limit : float, str or `~astropy.units.Quantity`, optional
        Memory limit, as for `~ccdcr.detect_cosmic_rays`. Default is none, and that of
        `~ccdcr.combine`.
    progress_bar : callable, optional
        Wraps an iterable of the images that are worked on, such as ``tqdm``.
    **overrides
        Requirements by name; they override ``requirements``.

    Returns
    -------
    combined : `~astropy.nddata.CCDData`
        The combined image.
    masks : `~ccdcr.CRMaskSet`
        The masks.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not allowed, or if the exposures are not alike.

    See Also
    --------
    ccdcr.detect_cosmic_rays : Detection alone.
    ccdcr.combine : Combination with masks, with more options.

    Examples
    --------
    >>> from ccdcr import remove_cosmic_rays
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures((100, 120), seed=1)
    >>> combined, masks = remove_cosmic_rays(sim.exposures, gain=1.0, readnoise=3.0)
    >>> combined.header["CRMETHOD"], combined.shape == masks.shape
    ('meancr', True)
    """
    if method not in METHODS:
        msg = f"method must be one of {', '.join(METHODS)}, got {method!r}"
        raise ValueError(msg)
    check_dtype(dtype)
    check_uncertainty(uncertainty)
    is_applied(False if apply_flux_factor is None else apply_flux_factor, None)
    limit = {} if mem_limit is None else {"mem_limit": to_bytes(mem_limit)}
    items, _ = list_exposures(ccds)
    reading = {"extension": extension, "unit": unit}
    if align is not None:
        items, reading = align_exposures(items, align, **reading), {}
    common = {**reading, **limit, "progress_bar": progress_bar}
    common |= {"ignore_flags": ignore_flags, "flag_name_map": flag_name_map}
    given = {"gain": gain, "readnoise": readnoise, "bias": bias, "noise": noise}
    masks = detect_cosmic_rays(items, requirements, **given, **common, **overrides)
    options = {"apply_flux_factor": apply_flux_factor, "uncertainty": uncertainty}
    options |= {"noise": noise, "dtype": dtype}
    with ignored_warnings(MissingUnitWarning):  # the detection has warned
        combined = combine(items, method=method, crmasks=masks, **options, **common)
    return combined, masks
