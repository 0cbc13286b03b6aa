# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Checks of what is given as exposures."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from astropy.nddata import CCDData

__all__ = ["array_kind", "check_alike", "check_arrays", "list_exposures"]


def list_exposures(ccds, *, minimum=1, name="ccds"):
    """Return exposures as a list, not yet read, and the names of their files."""
    if isinstance(ccds, (str, bytes, os.PathLike, CCDData)) or not isinstance(
        ccds, Iterable
    ):
        msg = (
            f"{name} must be a list or generator of CCDData objects or file names, "
            f"got {type(ccds).__name__}"
        )
        raise TypeError(msg)
    items = list(ccds)
    if len(items) < minimum:
        msg = f"{name} must hold at least {minimum} exposures, got {len(items)}"
        raise ValueError(msg)
    for number, item in enumerate(items, start=1):
        if not isinstance(item, (CCDData, str, os.PathLike)):
            msg = (
                f"{name} must hold CCDData objects or file names, "
                f"got {type(item).__name__} as exposure {number}"
            )
            raise TypeError(msg)
    return items, tuple(_file_name(item) for item in items)


def _file_name(item):
    return Path(item).name if isinstance(item, (str, os.PathLike)) else ""


def array_kind(array):
    """Return the package that an array is of, such as ``'numpy'``."""
    if isinstance(array, np.ndarray):
        return "numpy"
    return type(array).__module__.partition(".")[0]


def check_arrays(ccds, names=None, allowed=("numpy",)):
    """Refuse CCDData whose arrays are of other packages than those allowed."""
    for label, ccd in zip(_labels(names or [""] * len(ccds)), ccds, strict=True):
        uncertainty = None if ccd.uncertainty is None else ccd.uncertainty.array
        for what, array in (
            ("data", ccd.data),
            ("mask", ccd.mask),
            ("uncertainty", uncertainty),
        ):
            kind = array_kind(array)
            if array is None or np.ndim(array) == 0 or kind in allowed:
                continue
            remedy = "convert them to numpy arrays first"
            if kind == "dask":
                remedy = "use ccdcr.combine, or call compute() first"
            msg = (
                f"the exposures must be {' or '.join(allowed)} arrays, the {what} of "
                f"{label} is {type(array).__module__}.{type(array).__name__}; {remedy}"
            )
            raise TypeError(msg)


def _labels(names):
    return [name or f"exposure {i}" for i, name in enumerate(names, start=1)]


def check_alike(ccds, names):
    """Refuse exposures that are no 2D real images, or differ in shape or unit."""
    labels = _labels(names)
    for ccd, label in zip(ccds, labels, strict=True):
        dtype = ccd.data.dtype
        if len(ccd.shape) != 2 or 0 in ccd.shape or dtype.kind not in "iuf":
            msg = (
                f"exposures must be 2D images of real numbers, {label} has shape "
                f"{ccd.shape} and dtype {dtype}"
            )
            raise ValueError(msg)
    for what, values in (
        ("shape", [ccd.shape for ccd in ccds]),
        ("unit", [ccd.unit for ccd in ccds]),
    ):
        if any(value != values[0] for value in values):
            found = ", ".join(
                f"{label}: {value}" for label, value in zip(labels, values, strict=True)
            )
            msg = f"all exposures must have the same {what}, got {found}"
            raise ValueError(msg)
