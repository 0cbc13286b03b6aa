# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Combination of exposures or their files in one call."""

import difflib
import inspect
import os

import numpy as np
from astropy.io import fits
from astropy.nddata import fits_ccddata_reader

from ccdcr.combination.ccdproc_adapter import check_namespace
from ccdcr.combination.clipping import make_clips
from ccdcr.combination.combination_settings import check_dtype
from ccdcr.combination.combine_rows import Images
from ccdcr.combination.combine_tiles import combine_plain, combine_tiles
from ccdcr.combination.methods import METHODS
from ccdcr.exposures.exposure_flags import bad_bits, flag_hdus
from ccdcr.exposures.open_exposures import list_exposures
from ccdcr.masks.mask_rows import check_not_swapped
from ccdcr.utils.files import check_output
from ccdcr.utils.fits_structure import write_images
from ccdcr.utils.scratch import to_bytes

__all__ = ["combine"]

_PLAIN = ("average", "median", "sum")
_REMEDY = "use overwrite_output=True"
# Arguments of CCDData.read that change what is read; others have no effect.
_READING = ("hdu_mask", "hdu_uncertainty", "hdu_flags", "key_uncertainty_type")


def combine(
    img_list,
    output_file=None,
    method=None,
    *,
    crmasks=None,
    use_lamedian=False,
    use_expected=None,
    apply_flux_factor=None,
    uncertainty="propagate",
    gain=None,
    readnoise=None,
    noise="auto",
    weights=None,
    scale=None,
    mem_limit=16e9,
    clip_extrema=False,
    nlow=1,
    nhigh=1,
    minmax_clip=False,
    minmax_clip_min=None,
    minmax_clip_max=None,
    sigma_clip=False,
    sigma_clip_low_thresh=3,
    sigma_clip_high_thresh=3,
    sigma_clip_func=None,
    sigma_clip_dev_func=None,
    dtype=None,
    combine_uncertainty_function=None,
    overwrite_output=False,
    array_package=None,
    progress_bar=None,
    extension=None,
    unit=None,
    ignore_flags=None,
    flag_name_map=None,
    **ccdkwargs,
):
    """
    Combine exposures or their files, without cosmic rays.

    Extends `ccdproc.combine` by three methods, which require masks.

    Parameters
    ----------
    img_list : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        The exposures or their files, all of one shape (ny, nx) and unit, or
        one string of file names that are separated by commas. The arrays of
        the exposures may be those of dask.
    output_file : str or `~pathlib.Path`, optional
        File to be written: extensions PRIMARY, MASK (1 = bad), UNCERT (standard
        deviation), NUSED (number of exposures used), and FLAGS if the exposures have
        flags.
    method : {'meancr', 'meancrt', 'mediancr', 'meancr2', 'average', 'median', \
'sum'}, optional
        The method; the last three are those of `ccdproc.combine`. Default is
        ``'meancr'`` with masks and ``'average'`` without.
    crmasks : `~ccdcr.CRMaskSet`, str or `~pathlib.Path`, optional
        The masks or their file. Not for the last three methods.
    use_lamedian : bool, optional
        Use LAMEDIAN instead of the minimum. Default is False.
    use_expected : bool, optional
        Replace masked values by their expected values without hits
        (`CRMaskSet.expected`). Default is None: use them if the mask set has them.
    apply_flux_factor : bool, optional
        Subtract the bias recorded in the mask set and divide the exposures by their
        flux factors. Default is None: only if the factors come from exposure times.
    uncertainty : {'propagate', 'scatter'} or None, optional
        As for `CRCombiner.mediancr_combine`.
    gain, readnoise : optional
        Gain and read noise, as for `~ccdcr.detect_cosmic_rays`. Default is those of the
        mask set.
    noise : {'auto', 'uncertainty', 'detector'}, optional
        As for `CRCombiner`.
    weights : `~numpy.ndarray`, optional
        Weights of the exposures in a mean, (n,) or (n, ny, nx).
    scale : callable or sequence of float, optional
        Factors of the exposures, or a function of the data of an exposure that
        returns its factor.
    mem_limit : float, str or `~astropy.units.Quantity`, optional
        Memory limit in bytes, or such as ``"8 GB"``, in addition to the interpreter
        with its packages and to arrays of the caller. Default is 16e9. Files are read
        and combined in tiles that fit; the result does not depend on the limit. A large
        combined image is kept in a temporary file.
    clip_extrema : bool, optional
        Clip the lowest and the highest values of each pixel. Values are scaled before
        clipping; masked and flagged values do not affect it.
    nlow, nhigh : int, optional
        How many extreme values are clipped. Default is 1.
    minmax_clip : bool, optional
        Clip values beyond limits.
    minmax_clip_min, minmax_clip_max : float, optional
        Lowest and highest value that is kept.
    sigma_clip : bool, optional
        Clip values that deviate from the others of their pixel.
    sigma_clip_low_thresh, sigma_clip_high_thresh : float, optional
        Thresholds in sigma; None is no limit. Default is 3.
    sigma_clip_func, sigma_clip_dev_func : str or callable, optional
        Centre, 'mean' or 'median', and deviation, 'std' or 'mad_std'. Default is
        the mean and the standard deviation.
    dtype : str or `~numpy.dtype`, optional
        Type of the data and of the result; ``'auto'`` is float32 if the exposures are
        float32 or 16-bit integers. Default is float64.
    combine_uncertainty_function : callable, optional
        As for `ccdproc.combine`, for the last three methods only.
    overwrite_output : bool, optional
        Whether an existing ``output_file`` is replaced. Default is False.
    array_package : module, optional
        Accepted as by later versions of ccdproc; only numpy is allowed.
    progress_bar : callable, optional
        Function that wraps an iterable, such as ``tqdm``. It wraps the exposures or
        files, and then the tiles if there are several.
    extension : int, str or tuple, optional
        Number or name of the image extension in files, also as ``hdu``. Default is the
        primary image, or the only image that is not named like a mask or an
        uncertainty.
    unit : str or `~astropy.units.Unit`, optional
        Unit of the files. Default is BUNIT, or adu without it.
    ignore_flags, flag_name_map : optional
        As for `~ccdcr.detect_cosmic_rays`. Default is what the mask set records of the
        detection; -1 ignores all flags.
    **ccdkwargs
        More arguments of `astropy.nddata.CCDData.read`, such as ``hdu_mask``.

    Returns
    -------
    combined : `~astropy.nddata.CCDData`
        The combined image, with the signal of one exposure. Its EXPTIME is the exposure
        time of this flux scale, and TEXPTIME the sum of all; the last three methods
        keep the header of the first exposure, as in ccdproc. Its flags are the union
        of those of the exposures.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not allowed, if the exposures differ in shape or unit, if the
        mask set does not fit them, if arrays are neither numpy nor dask arrays, or if
        ``mem_limit`` is too small for one tile.
    FileExistsError
        If ``output_file`` exists and ``overwrite_output`` is False.

    Examples
    --------
    >>> from ccdcr import combine, detect_cosmic_rays
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures((100, 120), seed=1)
    >>> masks = detect_cosmic_rays(
    ...     sim.exposures, gain=1.0, readnoise=3.0, la_verbose=False
    ... )
    >>> combine(sim.exposures, method="mediancr", crmasks=masks).shape
    (100, 120)
    """
    if method is None:
        method = "average" if crmasks is None else "meancr"
    options = {
        "use_lamedian": use_lamedian,
        "use_expected": use_expected,
        "apply_flux_factor": apply_flux_factor,
        "uncertainty": uncertainty,
        "gain": gain,
        "readnoise": readnoise,
        "noise": noise,
    }
    clipping = {
        "clip_extrema": clip_extrema,
        "nlow": nlow,
        "nhigh": nhigh,
        "minmax_clip": minmax_clip,
        "minmax_clip_min": minmax_clip_min,
        "minmax_clip_max": minmax_clip_max,
        "sigma_clip": sigma_clip,
        "sigma_clip_low_thresh": sigma_clip_low_thresh,
        "sigma_clip_high_thresh": sigma_clip_high_thresh,
        "sigma_clip_func": sigma_clip_func,
        "sigma_clip_dev_func": sigma_clip_dev_func,
    }
    _check_method(method, {"crmasks": crmasks, **options}, combine_uncertainty_function)
    check_namespace(array_package, "array_package")
    mem_limit = to_bytes(mem_limit)
    check_dtype(dtype, kinds="fiu" if method in _PLAIN else "f")
    clips = make_clips(clipping)
    if output_file is not None:
        output_file = check_output(
            output_file, overwrite=overwrite_output, remedy=_REMEDY
        )
    reading = _reading_options(extension, unit, ccdkwargs)
    reading |= {"ignore_flags": ignore_flags, "flag_name_map": flag_name_map}
    bad_bits(ignore_flags, flag_name_map)  # an error before any work
    check_not_swapped(img_list, crmasks, "img_list and crmasks")
    items = _listed(img_list, progress_bar)
    if output_file is not None:
        read = [x for x in (*items, crmasks) if isinstance(x, (str, os.PathLike))]
        check_output(
            output_file, overwrite=overwrite_output, remedy=_REMEDY, inputs=read
        )
    settings = {
        "clips": clips,
        "weights": weights,
        "scale": scale,
        "mem_limit": mem_limit,
        "dtype": dtype,
        "reading": reading,
        "folder": None if output_file is None else output_file.parent,
        "progress_bar": progress_bar,
    }
    if method in _PLAIN:
        function = combine_uncertainty_function
        combined, images = combine_plain(items, method, function, **settings)
    else:
        number = output_file is not None
        combined, images = combine_tiles(
            items, crmasks, method, options, number=number, **settings
        )
    if output_file is not None:
        _write(combined, images, output_file, overwrite=overwrite_output)
    return combined


def _check_method(method, options, combine_uncertainty_function):
    if method in _PLAIN:
        defaults = {
            "crmasks": None,
            "use_lamedian": False,
            "use_expected": None,
            "apply_flux_factor": None,
            "uncertainty": "propagate",
            "gain": None,
            "readnoise": None,
            "noise": "auto",
        }
        for name, default in defaults.items():
            if options[name] is not default and options[name] != default:
                msg = f"{name} has no effect with method={method!r}; leave it out"
                raise ValueError(msg)
        return
    if method not in METHODS:
        allowed = ", ".join([*METHODS, *_PLAIN])
        msg = f"method must be one of {allowed}, got {method!r}"
        raise ValueError(msg)
    if options["crmasks"] is None:
        msg = f"crmasks must be given with method={method!r}: a CRMaskSet or its file"
        raise ValueError(msg)
    if combine_uncertainty_function is not None:
        msg = (
            f"combine_uncertainty_function has no effect with method={method!r}; "
            "use uncertainty='scatter'"
        )
        raise ValueError(msg)


def _reading_options(extension, unit, ccdkwargs):
    """Return the options of the reader; unknown names are refused."""
    ours = inspect.signature(combine).parameters
    known = {
        "format",
        "hdu_flags",  # of astropy >= 8, read with all
        *inspect.signature(fits_ccddata_reader).parameters,
        *inspect.signature(fits.open).parameters,
    }
    for name in ccdkwargs:
        if name not in known:
            nearest = difflib.get_close_matches(name, [*ours, *known], 1, cutoff=0.0)
            msg = f"combine has no parameter {name!r}; did you mean {nearest[0]!r}?"
            raise TypeError(msg)
    if "hdu" in ccdkwargs and extension is None:
        extension = ccdkwargs["hdu"]
    chosen = {name: ccdkwargs[name] for name in _READING if name in ccdkwargs}
    return {"extension": extension, "unit": unit, **chosen}


def _listed(img_list, progress_bar):
    if isinstance(img_list, str) and "," in img_list:
        img_list = [name.strip() for name in img_list.split(",")]
    elif isinstance(img_list, np.ndarray):
        img_list = img_list.tolist()
    if progress_bar is not None:
        img_list = progress_bar(img_list)
    return list_exposures(img_list, name="img_list")[0]


def _write(combined, images, path, *, overwrite):
    headers = _headers(combined, images)
    parts = list(zip(headers, images.planes.values(), strict=True))
    parts += [(hdu.header, hdu.data) for hdu in flag_hdus(combined.flags)]
    write_images(path, parts, overwrite=overwrite, remedy=_REMEDY)


def _headers(combined, images):
    """Return the headers of the extensions, made from an image of one pixel."""
    pixel = Images(**{name: plane[:1][:, :1] for name, plane in images.planes.items()})
    hdulist = pixel.to_ccd(combined, combined.unit, {}).to_hdu()
    if pixel.number is not None:
        hdulist.append(fits.ImageHDU(pixel.number, name="NUSED"))
    hdulist.verify("exception")
    for hdu in hdulist:
        hdu.header["NAXIS2"], hdu.header["NAXIS1"] = combined.shape
    return [hdu.header for hdu in hdulist]
