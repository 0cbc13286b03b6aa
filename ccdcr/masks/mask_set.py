# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Cosmic-ray masks of a set of exposures."""

from copy import copy
from functools import cached_property
from uuid import uuid4

import numpy as np
from astropy import units as u
from astropy.io import registry
from astropy.nddata.bitmask import extend_bit_flag_map
from astropy.table import MaskedColumn, Table

from ccdcr.exceptions import CRMasksFileError, describe_error
from ccdcr.exposures import load_ccds, open_exposures
from ccdcr.exposures.align_exposures import (
    align_exposures,
    read_alignment,
    take_part,
    without_alignment,
)
from ccdcr.exposures.exposure_flags import CLEANED, FLAG_NAMES, mask_as_recorded
from ccdcr.exposures.open_exposures import list_exposures
from ccdcr.masks import fits_io, mask_flags
from ccdcr.masks.diagnostics import Diagnostics, cut_diagnostics
from ccdcr.masks.edit_masks import edit_masks
from ccdcr.masks.expected_table import (
    EXPECTED_COLUMNS,
    clean_exposures,
    expected_table,
    move_expected,
)
from ccdcr.masks.mask_checks import (
    NOISE_TEXTS,
    as_bright,
    as_equivalence,
    as_meta,
    as_requirements,
    ccd_values,
    check_shape,
    clean_image,
    exact_boundaries,
    flux_factors,
    mask_array,
    noise_source,
    pixel_boxes,
    pixel_rows,
    scalar,
    text,
)
from ccdcr.masks.mask_order import check_order, cleaned_names
from ccdcr.utils.neighbours import label_groups
from ccdcr.utils.notebook import html_facts, html_table, html_text
from ccdcr.utils.stacks import chance_of_all, chance_of_half

__all__ = ["FLUX_SOURCE", "CRMaskSet", "CRMaskSetRead", "CRMaskSetWrite"]

FLUX_SOURCE = "FLUXFSRC"  # keyword in meta

# Attributes that do not depend on the masked pixels.
_KEPT = (
    "lamedian",
    "flux_factor",
    "local_median_pixels",
    "requirements",
    "gain",
    "readnoise",
    "bias",
    "noise",
    "boundaries",
    "equivalence",
    "meta",
)


class CRMaskSetRead(registry.UnifiedReadWrite):
    """
    Read a mask set from a file.

    Parameters
    ----------
    *args : tuple, optional
        The first one is the file name.
    format : str, optional
        The format; ``'fits'`` is the only one.
    **kwargs : dict, optional
        Further arguments of the reader.

    Returns
    -------
    masks : `~ccdcr.CRMaskSet`
        The mask set.
    """

    def __init__(self, instance, cls):
        super().__init__(instance, cls, "read", registry=None)

    def __call__(self, *args, **kwargs):
        """Read; the format need not be given."""
        kwargs.setdefault("format", "fits")
        return self.registry.read(self._cls, *args, **kwargs)


class CRMaskSetWrite(registry.UnifiedReadWrite):
    """
    Write a mask set to a file, completely or not at all.

    Parameters
    ----------
    *args : tuple, optional
        The first one is the file name.
    format : str, optional
        The format; ``'fits'`` is the only one.
    **kwargs : dict, optional
        Further arguments of the writer: ``overwrite`` (False) and ``auxclean``
        (False; True names the extension LAMEDIAN as numina >= 0.37 does).
    """

    def __init__(self, instance, cls):
        super().__init__(instance, cls, "write", registry=None)

    def __call__(self, *args, **kwargs):
        """Write; the format need not be given."""
        kwargs.setdefault("format", "fits")
        return self.registry.write(self._instance, *args, **kwargs)


class CRMaskSet:
    """
    The cosmic-ray masks of a set of exposures.

    All masks are boolean of shape (ny, nx), True = hit by a cosmic ray.

    Parameters
    ----------
    mediancr : 2D `~numpy.ndarray` of bool or of 0 and 1
        Pixels hit in half of the exposures or more, so that the median is
        wrong.
    meancrt : 2D `~numpy.ndarray` of bool or of 0 and 1
        Pixels hit in any exposure, so that the mean is wrong.
    crmasks : 3D `~numpy.ndarray` of bool or of 0 and 1
        Pixels hit in each exposure, (n, ny, nx), in the order of the exposures.
    meancr : 2D `~numpy.ndarray` of bool or of 0 and 1, optional
        Pixels where the combination by ``meancr`` is still wrong.
    lamedian : 2D `~numpy.ndarray` or `~astropy.units.Quantity`, optional
        The median image cleaned by a single-image detector. Without a unit it
        is in the unit of the exposures.
    flux_factor : sequence of float, optional
        Relative flux of each exposure. Default is 1 for each.
    low_values : sequence of [EXPOSURE, X, Y], optional
        Pixels that are masked because they are low in an exposure. The first exposure
        is 1, the first pixel (1, 1).
    expected : `~astropy.table.Table`, optional
        Expected values of masked pixels without hits: columns EXPOSURE, X, Y (from 1),
        VALUE and SIGMA, in adu or electron.
    point_sources : sequence of [EXPOSURE, X, Y], optional
        Masked pixels that have the shape of a point source in one exposure only.
    local_median_pixels : sequence of [X, Y, X_width, Y_width], optional
        Pixels that a combination replaces by the median of a box around them. The first
        pixel is (1, 1), and widths are odd.
    requirements : `~ccdcr.Requirements` or mapping, optional
        The requirements of the detection.
    gain : float, `~numpy.ndarray` or `~astropy.units.Quantity`, optional
        Gain in electron / adu: a number, one for each exposure, a map (ny, nx), or
        a map for each exposure (n, ny, nx).
    readnoise : float, `~numpy.ndarray` or `~astropy.units.Quantity`, optional
        Read noise in electron, likewise.
    bias : float, optional
        Bias level that the exposures still contain, in their unit.
    noise : {'detector', 'uncertainty'}, optional
        Source of the noise in the detection.
    boundaries : dict of `~ccdcr.median_minimum.exact_boundary.ExactBoundary`, optional
        The exact Median-Minimum boundaries, by name of the mask.
    equivalence : `~ccdcr.Equivalence`, optional
        Report on how much the exposures differ.
    bright : `~astropy.table.Table`, optional
        Columns mask, bright and faint: the flagged fractions of pixels with structure
        (at most the brightest 5 %) and of pixels near the background.
    uuid : str, optional
        Identity of the set, written to combined images. Default is a new one.
    meta : mapping, optional
        Additional FITS keywords and values.
    diagnostics : `~ccdcr.masks.diagnostics.Diagnostics`, optional
        Diagnostics of the detection for figures and reports. They are not written to
        the file.

    Raises
    ------
    TypeError
        If an array is not of bool or integers, or a scalar is not a number.
    ValueError
        If shapes differ, a mask holds other values than 0 and 1, a flux
        factor is not a finite number above 0, or a box does not fit.

    Notes
    -----
    Two sets are equal if their masks, LAMEDIAN, expected values, flux factors, boxes,
    requirements and detector parameters are equal, regardless of ``uuid`` and ``meta``.

    Examples
    --------
    >>> import numpy as np
    >>> from ccdcr import CRMaskSet
    >>> crmasks = np.zeros((3, 4, 5), dtype=bool)
    >>> crmasks[0, 1, 2] = crmasks[1, 1, 2] = crmasks[2, 3, 3] = True
    >>> masks = CRMaskSet(crmasks.sum(axis=0) > 1, crmasks.any(axis=0), crmasks)
    >>> len(masks), masks.shape
    (3, (4, 5))
    >>> masks[0:3, 1:4].shape
    (3, 3)
    >>> masks.summary()["mask", "pixels"].pprint(show_dtype=False)
        mask   pixels
    ---------- ------
      MEDIANCR      1
       MEANCRT      2
       CRMASK1      1
       CRMASK2      1
       CRMASK3      1
    COINCIDENT      1
         EVERY      0
    """

    read = registry.UnifiedReadWriteMethod(CRMaskSetRead)
    write = registry.UnifiedReadWriteMethod(CRMaskSetWrite)

    def __init__(
        self,
        mediancr,
        meancrt,
        crmasks,
        *,
        meancr=None,
        lamedian=None,
        flux_factor=None,
        low_values=None,
        expected=None,
        point_sources=None,
        local_median_pixels=None,
        requirements=None,
        gain=None,
        readnoise=None,
        bias=None,
        noise=None,
        boundaries=None,
        equivalence=None,
        bright=None,
        uuid=None,
        meta=None,
        diagnostics=None,
    ):
        self._crmasks = mask_array("crmasks", crmasks, ndim=3)
        self._mediancr = self._plane("mediancr", mediancr)
        self._meancrt = self._plane("meancrt", meancrt)
        self._meancr = None if meancr is None else self._plane("meancr", meancr)
        self._lamedian = clean_image(lamedian, self.shape)
        self._flux_factor = flux_factors(flux_factor, len(self))
        self._expected = expected_table(expected, self._crmasks)
        self._low_values = pixel_rows("low_values", low_values, self._crmasks)
        self._point_sources = pixel_rows("point_sources", point_sources, self._crmasks)
        self._local_median_pixels = pixel_boxes(local_median_pixels, self.shape)
        self._requirements = as_requirements(requirements)
        shape = self._crmasks.shape
        self._gain = ccd_values("gain", gain, u.electron / u.adu, shape, above=0)
        self._readnoise = ccd_values(
            "readnoise", readnoise, u.electron, shape, minimum=0
        )
        self._bias = scalar("bias", bias, None)
        self._noise = noise_source(noise)
        self._boundaries = exact_boundaries(boundaries)
        self._equivalence = as_equivalence(equivalence, len(self))
        self._bright = as_bright(bright)
        self._uuid = str(uuid4()) if uuid is None else text("uuid", uuid)
        self._meta = as_meta(meta)
        self._diagnostics = _checked(diagnostics, self.shape)
        self._extra_hdus = ()

    def _plane(self, name, value):
        plane = mask_array(name, value, ndim=2)
        check_shape(name, plane.shape, self.shape)
        return plane

    @property
    def mediancr(self):
        """Pixels hit in half of the exposures or more, True = hit; (ny, nx)."""
        return self._mediancr

    @property
    def meancrt(self):
        """Pixels hit in any exposure, True = hit; (ny, nx)."""
        return self._meancrt

    @property
    def crmasks(self):
        """Pixels hit in each exposure, True = hit; (n, ny, nx)."""
        return self._crmasks

    @property
    def meancr(self):
        """Pixels where ``meancr`` is still wrong, True = wrong; None if unknown."""
        return self._meancr

    @property
    def lamedian(self):
        """The cleaned median image, a Quantity where its unit is known; or None."""
        return self._lamedian

    @property
    def flux_factor(self):
        """Relative flux of each exposure."""
        return self._flux_factor

    @property
    def flux_source(self):
        """Source of the flux factors: 'given', 'auto', 'EXPTIME', or None."""
        return self.meta.get(FLUX_SOURCE)

    @property
    def low_values(self):
        """Rows of EXPOSURE, X, Y, all from 1, of low values, (m, 3); or None."""
        return self._low_values

    @cached_property
    def low(self):
        """Low pixels of each exposure, which are ignored; (n, ny, nx) or None."""
        return self._marked(self._low_values)

    @property
    def point_sources(self):
        """Rows of EXPOSURE, X, Y, all from 1, of point sources, (m, 3); or None."""
        return self._point_sources

    @cached_property
    def point_like(self):
        """Pixels of new point sources, True = point source; (n, ny, nx) or None."""
        return self._marked(self._point_sources)

    def _marked(self, rows):
        if rows is None:
            return None
        marked = np.zeros(self.crmasks.shape, dtype=bool)
        exposure, x, y = rows.T - 1
        marked[exposure, y, x] = True
        return marked

    @property
    def expected(self):
        """
        Expected values of masked pixels without hits, a Table; or None.

        Columns: EXPOSURE, X and Y from 1, VALUE in the unit of the exposures, including
        their bias, and SIGMA.
        """
        return self._expected

    @property
    def expected_unit(self):
        """The unit of `expected`, or None."""
        return None if self._expected is None else self._expected["VALUE"].unit

    @property
    def local_median_pixels(self):
        """Rows of X, Y, X_width, Y_width, the first pixel is (1, 1); (m, 4)."""
        return self._local_median_pixels

    @property
    def requirements(self):
        """The `~ccdcr.Requirements` of the detection, or None."""
        return self._requirements

    @property
    def gain(self):
        """Gain in electron / adu: a number, (n,), (ny, nx) or (n, ny, nx); or None."""
        return self._gain

    @property
    def readnoise(self):
        """Read noise in electron: a number, (n,), (ny, nx) or (n, ny, nx); or None."""
        return self._readnoise

    @property
    def bias(self):
        """Bias level of the exposures, in their unit; or None."""
        return self._bias

    @property
    def noise(self):
        """Source of the noise: 'detector', 'uncertainty', or None if unknown."""
        return self._noise

    @property
    def boundaries(self):
        """The exact Median-Minimum boundaries by name of the mask; a dict."""
        return dict(self._boundaries)

    @property
    def equivalence(self):
        """Report on how much the exposures differ; None if unknown."""
        return self._equivalence

    @property
    def bright(self):
        """The flagged fraction on bright and faint pixels; None if unknown."""
        return self._bright

    @property
    def uuid(self):
        """Identity of the set."""
        return self._uuid

    @property
    def meta(self):
        """Additional FITS keywords and values."""
        return self._meta

    @property
    def diagnostics(self):
        """The `~ccdcr.masks.diagnostics.Diagnostics`; empty for masks from a file."""
        return self._diagnostics

    @property
    def extra_hdus(self):
        """Other extensions of the file, which are kept unchanged."""
        return self._extra_hdus

    @property
    def shape(self):
        """Shape of each mask, (ny, nx)."""
        return self._crmasks.shape[1:]

    def __len__(self):
        return len(self._crmasks)

    @property
    def planes(self):
        """The masks by the names of their FITS extensions, in order; a dict."""
        planes = {"MEDIANCR": self.mediancr, "MEANCRT": self.meancrt}
        planes |= {f"CRMASK{i}": mask for i, mask in enumerate(self.crmasks, start=1)}
        if self.meancr is not None:
            planes["MEANCR"] = self.meancr
        return planes

    def __repr__(self):
        return (
            f"<{type(self).__name__}({len(self)} exposures, shape={self.shape}, "
            f"uuid={self.uuid!r})>"
        )

    def __str__(self):
        extras = {
            "LAMEDIAN": self.lamedian,
            "LOW": self.low_values,
            "EXPECTED": self.expected,
            "POINT": self.point_sources,
            "RPMEDIAN": self.local_median_pixels,
        }
        lines = [
            type(self).__name__,
            f"uuid: {self.uuid}",
            f"exposures: {len(self)}",
            f"shape: {self.shape}",
            f"flux factors: {', '.join(f'{f:g}' for f in self.flux_factor)}"
            + (f" ({self.flux_source})" if self.flux_source else ""),
            *([] if self.noise is None else [f"noise: {NOISE_TEXTS[self.noise]}"]),
            *(
                f"{name}: {np.count_nonzero(mask)} pixels"
                for name, mask in self.planes.items()
            ),
            *(f"{name}: {len(x)} rows" for name, x in extras.items() if x is not None),
        ]
        return "\n".join(lines)

    def _repr_html_(self):
        facts = dict(line.split(": ", 1) for line in str(self).splitlines()[1:])
        facts = {n: v for n, v in facts.items() if n not in self.planes}
        title = f"{type(self).__name__} of {len(self)} exposures"
        return html_text(title, html_facts(facts), html_table(self.summary()))

    def __eq__(self, other):
        if not isinstance(other, CRMaskSet):
            return NotImplemented
        return (
            self.planes.keys() == other.planes.keys()
            and all(
                np.array_equal(mask, other.planes[name])
                for name, mask in self.planes.items()
            )
            and _same_image(self.lamedian, other.lamedian)
            and np.array_equal(self.flux_factor, other.flux_factor)
            and _same_image(self.low_values, other.low_values)
            and _same_table(self.expected, other.expected)
            and _same_image(self.point_sources, other.point_sources)
            and _same_image(self.local_median_pixels, other.local_median_pixels)
            and _same_image(self.gain, other.gain)
            and _same_image(self.readnoise, other.readnoise)
            and (self.requirements, self.bias) == (other.requirements, other.bias)
        )

    __hash__ = None

    def __getitem__(self, item):
        """Return the set of a part of the images, ``masks[y0:y1, x0:x1]``."""
        (y0, y1), (x0, x1) = _bounds(item, self.shape)
        cut = np.s_[..., y0:y1, x0:x1]
        return self._changed(
            mediancr=self.mediancr[cut],
            meancrt=self.meancrt[cut],
            crmasks=self.crmasks[cut],
            meancr=None if self.meancr is None else self.meancr[cut],
            lamedian=None if self.lamedian is None else self.lamedian[cut],
            expected=move_expected(self.expected, y0, y1, x0, x1),
            low_values=_moved(self.low_values, y0, y1, x0, x1),
            point_sources=_moved(self.point_sources, y0, y1, x0, x1),
            local_median_pixels=self._moved_boxes(y0, y1, x0, x1),
            gain=self.gain[cut] if np.ndim(self.gain) > 1 else self.gain,
            readnoise=self.readnoise[cut]
            if np.ndim(self.readnoise) > 1
            else self.readnoise,
            uuid=self.uuid,
            meta=without_alignment(self.meta),
            diagnostics=cut_diagnostics(self.diagnostics, cut),
        )

    def _changed(self, **changes):
        """Return a set with these arguments and all of `_KEPT`; its identity is new."""
        kept = {name: getattr(self, name) for name in _KEPT}
        return type(self)(**kept | changes)

    def _with(self, **changes):
        """Return a copy with other ``requirements`` or ``diagnostics``."""
        same = copy(self)
        for name, value in changes.items():
            setattr(same, f"_{name}", value)
        return same

    def _moved_boxes(self, y0, y1, x0, x1):
        if self.local_median_pixels is None:
            return None
        x, y = self.local_median_pixels[:, :2].T
        inside = (x > x0) & (x <= x1) & (y > y0) & (y <= y1)
        return self.local_median_pixels[inside] - [x0, y0, 0, 0]

    def summary(self):
        """
        Count the masked pixels.

        Returns
        -------
        table : `~astropy.table.Table`
            One row for each mask. ``COINCIDENT`` are the pixels that are masked in half
            of the exposures or more by their own masks, ``EVERY`` those that are masked
            in every exposure; both without low values. ``LOW`` are low values, and
            ``POINT_LIKE`` pixels that have the shape of a point source in one exposure
            only, which may be an asteroid, a flare or a supernova. The columns are
            mask, pixels, fraction, groups (8-connected), expected (number of pixels
            expected by chance from the masks of the exposures), and, if known, bright
            and faint: the flagged fractions of pixels with structure (at most the
            brightest 5 %) and of pixels near the background. If many more bright pixels
            are flagged, or many more coincidences than expected, real signal is
            flagged.

        Examples
        --------
        >>> import numpy as np
        >>> from ccdcr import CRMaskSet
        >>> crmasks = np.zeros((3, 10, 10), bool)
        >>> crmasks[:2, 4, 5] = crmasks[0, 1, 1] = True
        >>> masks = CRMaskSet(crmasks.sum(axis=0) > 1, crmasks.any(axis=0), crmasks)
        >>> masks.summary()["mask", "pixels"].pprint()
           mask    pixels
        ---------- ------
          MEDIANCR      1
           MEANCRT      2
           CRMASK1      2
           CRMASK2      1
           CRMASK3      0
        COINCIDENT      1
             EVERY      0
        """
        planes = self.planes | {
            "COINCIDENT": self._hits >= len(self) / 2,
            "EVERY": self._hits == len(self),
        }
        rows = [_count(name, mask) for name, mask in planes.items()]
        table = Table(rows=rows, names=("mask", "pixels", "fraction", "groups"))
        table["fraction"].info.format = ".6f"
        chances = mask_flags.only_hits(self).mean(axis=(1, 2))
        expected = np.zeros(len(rows))
        expected[-2:] = chance_of_half(chances), chance_of_all(chances)
        masked = np.arange(len(rows)) < len(rows) - 2
        more = {} if self.low is None else {"LOW": self.low.any(axis=0)}
        if self.point_like is not None:
            more["POINT_LIKE"] = self.point_like.any(axis=0)
        for place, (name, mask) in enumerate(more.items(), start=len(self.planes)):
            table.insert_row(place, _count(name, mask))
            expected, masked = (np.insert(a, 0, a[0]) for a in (expected, masked))
        table["expected"] = MaskedColumn(
            expected * self.mediancr.size, mask=masked, format=".1f"
        )
        if self.bright is not None:
            known = {row["mask"]: row for row in self.bright}
            for name in ("bright", "faint"):
                values = [known[m][name] if m in known else 0 for m in table["mask"]]
                missing = [m not in known for m in table["mask"]]
                table[name] = MaskedColumn(values, mask=missing, format=".6f")
        return table

    @cached_property
    def _hits(self):
        return mask_flags.only_hits(self).sum(axis=0, dtype=np.int16)

    def apply_to(self, ccds):
        """
        Return copies of the exposures with their masks applied.

        Use it to continue with ccdproc or other packages.

        Parameters
        ----------
        ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
            The exposures or their files in the order of the masks: those of the
            detection, or those before `~ccdcr.align_exposures`.

        Returns
        -------
        masked : list of `~astropy.nddata.CCDData`
            Copies whose masks (True = bad) include CRMASKi, and the flagged pixels that
            the detection ignored.

        Raises
        ------
        ValueError
            If number, shape or order do not match.

        Examples
        --------
        >>> from ccdcr import detect_cosmic_rays
        >>> from ccdcr.simulation import simulate_exposures
        >>> sim = simulate_exposures((100, 120), seed=1)
        >>> masks = detect_cosmic_rays(
        ...     sim.exposures, gain="GAIN", readnoise="RDNOISE"
        ... )
        >>> masked = masks.apply_to(sim.exposures)
        >>> bool((masked[0].mask == masks.crmasks[0]).all())
        True
        """
        ccds, names = load_ccds(ccds, allowed=("numpy", "dask"))
        ccds = mask_as_recorded(ccds, self.meta)
        parts = self._check("ccds", ccds, names)
        masked = [ccd.copy() for ccd in ccds]
        for ccd, plane, part in zip(masked, self.crmasks, parts, strict=True):
            mask = plane[part]
            ccd.mask = mask.copy() if ccd.mask is None else ccd.mask | mask
        return masked

    def _check(self, name, ccds, labels):
        """Return slices of the masks for exposures, whose order is checked."""
        if len(ccds) != len(self):
            msg = f"{name} must be {len(self)} exposures, one per mask, got {len(ccds)}"
            raise ValueError(msg)
        parts, shape = self._parts_of(ccds)
        check_shape("exposures", ccds[0].shape, shape)
        check_order(self, ccds, labels)
        return parts

    def _parts_of(self, ccds):
        """Return slices of the masks for each exposure, and the shape of exposures."""
        places, shape = read_alignment(self.meta, len(self))
        if places is None or ccds[0].shape != shape:
            return [np.s_[:, :]] * len(self), self.shape
        ny, nx = shape
        return [np.s_[y : y + ny, x : x + nx] for x, y in places], shape

    def _aligned(self, ccds):
        """Return the exposures on the grid of the masks, on which they may be."""
        if self._parts_of(ccds)[1] == self.shape or len(ccds) != len(self):
            return ccds
        places, _ = read_alignment(self.meta, len(self))
        return align_exposures(ccds, places[0] - places)

    def clean(self, ccds):
        """
        Return copies of the exposures with masked values replaced.

        The values of `expected`, which are computed from the other exposures, replace
        the masked ones, as in the cleaned array of astroscrappy. To combine the
        exposures, use the original ones with the masks: values made from each other
        are not independent, so that the mean of cleaned exposures with newly detected
        masks has too small an uncertainty at hits.

        Parameters
        ----------
        ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
            The exposures of the detection in the order of the masks, or those before
            `~ccdcr.align_exposures`.

        Returns
        -------
        cleaned : list of `~astropy.nddata.CCDData`
            Copies, as floats. Replaced pixels have the uncertainty SIGMA, if the
            exposure has an uncertainty or gain and read noise are known, and bit 1 of
            ``flags`` is set. Masked pixels without an expected value are masked (True =
            bad), and so are flagged pixels that the detection ignored. The keyword
            ``CRCLEAN`` is the UUID of the masks and the number of the exposure.

        Raises
        ------
        ValueError
            If the mask set has no expected values, or if the exposures do not fit.

        Examples
        --------
        >>> from ccdcr import detect_cosmic_rays
        >>> from ccdcr.simulation import simulate_exposures
        >>> sim = simulate_exposures((100, 120), seed=1)
        >>> masks = detect_cosmic_rays(
        ...     sim.exposures, gain="GAIN", readnoise="RDNOISE"
        ... )
        >>> cleaned = masks.clean(sim.exposures)
        >>> bool(sim.exposures[0].data.max() > cleaned[0].data.max())
        True
        """
        ccds = mask_as_recorded(load_ccds(ccds)[0], self.meta)
        parts, shape = self._parts_of(ccds)
        cleaned = clean_exposures(self._aligned(ccds), self)
        if shape != self.shape:
            triples = zip(cleaned, parts, ccds, strict=True)
            cleaned = [take_part(image, part, ccd) for image, part, ccd in triples]
        for ccd, name in zip(cleaned, cleaned_names(self), strict=True):
            ccd.meta[CLEANED] = name
        return cleaned

    @cached_property
    def bit_flags(self):
        """The names of the bits of `to_bitmask`, a BitFlagNameMap."""
        names = list(self.planes)
        flags = {name: 1 << bit for bit, name in enumerate(names)}
        return extend_bit_flag_map("CRMaskSetFlags", **flags)

    def to_bitmask(self):
        """
        Return all masks as bits of one image.

        Returns
        -------
        bits : 2D `~numpy.ndarray`
            Unsigned integers; `bit_flags` names the bits.

        Raises
        ------
        ValueError
            If there are more than 64 masks.

        Examples
        --------
        >>> import numpy as np
        >>> from astropy.nddata.bitmask import bitfield_to_boolean_mask
        >>> from ccdcr import CRMaskSet
        >>> crmasks = np.eye(3, dtype=bool)[:, np.newaxis]
        >>> masks = CRMaskSet(np.zeros((1, 3), int), np.ones((1, 3), int), crmasks)
        >>> bits = masks.to_bitmask()
        >>> bitfield_to_boolean_mask(
        ...     bits, ignore_flags="~CRMASK2", flag_name_map=masks.bit_flags
        ... )
        array([[False,  True, False]])
        """
        if len(self.planes) > 64:
            msg = f"a plane of bits holds 64 masks at most, got {len(self.planes)}"
            raise ValueError(msg)
        dtype = np.min_scalar_type((1 << len(self.planes)) - 1)
        bits = np.zeros(self.shape, dtype=dtype)
        for bit, mask in enumerate(self.planes.values()):
            bits |= mask.astype(dtype) << dtype.type(bit)
        return bits

    @property
    def flag_names(self):
        """The names of the bits of `to_flags`, a BitFlagNameMap."""
        return extend_bit_flag_map("CRFlags", **FLAG_NAMES["ccdcr"])

    def to_flags(self, convention="ccdcr"):
        """
        Return the masks of the exposures as flags.

        Parameters
        ----------
        convention : str or int, optional
            ``'ccdcr'``, the default, whose `flag_names` are COSMIC 1, COINCIDENT 2
            (hit in half of the exposures or more), EXPECTED 4 (has an expected value),
            LOW 8, USER 16 (listed in the requirements) and ALL_HIT 32 (hit in all
            exposures). Or the value of a cosmic ray: ``'hst'`` 8192,
            ``'astrodrizzle'`` 4096, ``'jwst'`` 17 (OUTLIER and DO_NOT_USE),
            ``'gemini'`` 8, ``'pypeit'`` 2, or a number.

        Returns
        -------
        flags : 3D `~numpy.ndarray`
            Integers, (n, ny, nx); 0 where an exposure is not masked.

        Raises
        ------
        ValueError
            If the convention is not known.

        Examples
        --------
        >>> import numpy as np
        >>> from ccdcr import CRMaskSet
        >>> crmasks = np.eye(3, dtype=bool)[:, np.newaxis]
        >>> masks = CRMaskSet(np.zeros((1, 3), int), np.ones((1, 3), int), crmasks)
        >>> masks.to_flags("gemini")[0]
        array([[8, 0, 0]], dtype=uint8)
        """
        return mask_flags.make_flags(self, convention)

    def write_dq(
        self, files, folder, *, convention="hst", extension=None, overwrite=False
    ):
        """
        Write copies of the exposures' files with the masks in their DQ extension.

        Flags are added to the DQ extension of the image, or to a new one.

        Parameters
        ----------
        files : iterable of str or `~pathlib.Path`
            The files of the exposures, in the order of the masks.
        folder : str or `~pathlib.Path`
            Where the copies are written, with the same names. It is made if needed.
        convention : str or int, optional
            As for `to_flags`. Default is ``'hst'``.
        extension : int, str or tuple, optional
            The extension of the image, by number or name.
        overwrite : bool, optional
            Whether existing files are replaced. Default is False.

        Returns
        -------
        paths : list of `~pathlib.Path`
            The files that were written.

        Raises
        ------
        ValueError
            If files and masks do not fit.
        FileExistsError
            If a file exists, or is one of the exposures.
        """
        files = files if isinstance(files, str) else list(files)
        reading = {"extension": extension, "unit": u.adu}  # values are only compared
        with open_exposures(files, name="files", **reading) as opened:
            parts = self._check("files", opened, list_exposures(files)[1])
        flags = zip(self.to_flags(convention), parts, strict=True)
        flags = [plane[part] for plane, part in flags]
        options = {"extension": extension, "overwrite": overwrite}
        return mask_flags.write_dq(flags, files, folder, **options)

    def to_regions(self, name="MEDIANCR"):
        """
        Return a box around each detection of a mask, as regions of DS9.

        Parameters
        ----------
        name : str, optional
            Name of the mask. Default is ``'MEDIANCR'``.

        Returns
        -------
        regions : `regions.Regions`
            One `regions.RectanglePixelRegion` for each 8-connected group, with its
            number as ``meta["text"]``.

        Raises
        ------
        ImportError
            If the package regions is not installed. `write_regions` does without.
        ValueError
            If the mask does not exist.
        """
        try:
            from regions import PixCoord, RectanglePixelRegion, Regions  # noqa: PLC0415
        except ImportError as err:
            msg = (
                'to_regions needs the package regions: pip install "ccdcr[regions]"; '
                "write_regions writes a file of DS9 without it"
            )
            raise ImportError(msg) from err
        return Regions(
            [
                RectanglePixelRegion(
                    PixCoord(x - 1, y - 1), width, height, meta={"text": str(number)}
                )
                for number, (x, y, width, height) in enumerate(
                    mask_flags.list_boxes(self._named(name)), start=1
                )
            ]
        )

    def write_regions(self, path, name="MEDIANCR", *, overwrite=False):
        """
        Write a box around each detection of a mask to a region file of DS9.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            The file, such as ``crs.reg``.
        name : str, optional
            Name of the mask. Default is ``'MEDIANCR'``.
        overwrite : bool, optional
            Whether an existing file is replaced. Default is False.

        Raises
        ------
        ValueError
            If the mask does not exist.
        FileExistsError
            If the file exists.
        """
        boxes = mask_flags.list_boxes(self._named(name))
        title = f"{name} of the masks {self.uuid}"
        mask_flags.write_ds9(boxes, path, title=title, overwrite=overwrite)

    def _named(self, name):
        if name not in self.planes:
            msg = f"name must be one of {', '.join(self.planes)}, got {name!r}"
            raise ValueError(msg)
        return self.planes[name]

    def edit(
        self,
        *,
        drop=None,
        add=None,
        remove=None,
        detections_of="MEDIANCR",
        planes=None,
        ccds=None,
    ):
        """
        Return a new set with detections dropped, and pixels added or removed.

        Pixels are FITS pixels, the first is (1, 1). ``meta["HISTORY"]`` records the
        changes, also in the file.

        Parameters
        ----------
        drop : sequence of [X, Y], optional
            One pixel of each detection to be removed with all its pixels. Detections
            are the 8-connected groups of ``detections_of``.
        add : sequence of [X, Y], optional
            Pixels to be masked in MEDIANCR, MEANCRT and every exposure but the lowest
            one, which requires ``ccds``, or in ``planes``.
        remove : sequence of [X, Y], optional
            Pixels to be unmasked.
        detections_of : str, optional
            Name of the mask that defines detections. Default is ``'MEDIANCR'``.
        planes : sequence of str, optional
            Names of the masks that are edited. Default is all.
        ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`, optional
            The exposures, in the order of the masks.

        Returns
        -------
        masks : `CRMaskSet`
            The new set, with a new UUID.

        Raises
        ------
        TypeError
            If a list does not contain pairs of integers.
        ValueError
            If a pixel is outside, not in a detection, or both added and
            removed, if a mask does not exist, or if ``ccds`` is missing.

        Examples
        --------
        >>> import numpy as np
        >>> from ccdcr import CRMaskSet
        >>> crmasks = np.zeros((3, 4, 5), dtype=bool)
        >>> crmasks[:2, 1, 2:4] = True
        >>> masks = CRMaskSet(crmasks.sum(axis=0) > 1, crmasks.any(axis=0), crmasks)
        >>> edited = masks.edit(drop=[[3, 2]])
        >>> int(masks.mediancr.sum()), int(edited.mediancr.sum())
        (2, 0)
        """
        return edit_masks(
            self,
            drop=drop,
            add=add,
            remove=remove,
            detections_of=detections_of,
            planes=planes,
            ccds=ccds,
        )

    def to_hdulist(self, *, auxclean=False):
        """
        Return the set as FITS extensions.

        Parameters
        ----------
        auxclean : bool, optional
            Name the extension LAMEDIAN ``AUXCLEAN``, as numina >= 0.37 does.
            Default is False.

        Returns
        -------
        hdulist : `~astropy.io.fits.HDUList`
            The extensions of crmasks.fits.

        Examples
        --------
        >>> import numpy as np
        >>> from ccdcr import CRMaskSet
        >>> crmasks = np.eye(3, dtype=bool)[:, np.newaxis]
        >>> masks = CRMaskSet(np.zeros((1, 3), int), np.ones((1, 3), int), crmasks)
        >>> hdulist = masks.to_hdulist()
        >>> [hdu.name for hdu in hdulist]
        ['PRIMARY', 'MEDIANCR', 'MEANCRT', 'CRMASK1', 'CRMASK2', 'CRMASK3']
        >>> CRMaskSet.from_hdulist(hdulist) == masks
        True
        """
        return fits_io.to_hdulist(self, auxclean=auxclean)

    @classmethod
    def from_hdulist(cls, hdulist, *, name=None):
        """
        Make a mask set from FITS extensions.

        Parameters
        ----------
        hdulist : `~astropy.io.fits.HDUList`
            The extensions of crmasks.fits.
        name : str, optional
            Name for messages. Default is the name of its file.

        Returns
        -------
        masks : `CRMaskSet`
            The mask set.

        Raises
        ------
        CRMasksFileError
            If an extension or keyword is missing or wrong.
        """
        name = name or hdulist.filename() or "HDUList"
        try:
            parts, extras = fits_io.from_hdulist(hdulist, name)
            masks = cls(**parts)
        except (CRMasksFileError, Warning):
            raise
        except Exception as err:  # astropy raises anything for damaged headers
            msg = f"{name}: {describe_error(err)}"
            raise CRMasksFileError(msg) from err
        masks._extra_hdus = extras
        return masks


def _checked(diagnostics, shape):
    """Return diagnostics (empty for None) after a check of the shape of their flags."""
    if diagnostics is None:
        return Diagnostics()
    if not isinstance(diagnostics, Diagnostics):
        msg = f"diagnostics must be Diagnostics, got {type(diagnostics).__name__}"
        raise TypeError(msg)
    for name, flags in diagnostics.flags.items():
        check_shape(f"flags of {name}", flags.shape, shape)
    return diagnostics


def _same_image(first, second):
    if first is None or second is None:
        return first is second
    units = (getattr(image, "unit", None) for image in (first, second))
    first, second = (np.asarray(image) for image in (first, second))
    return len(set(units)) == 1 and np.array_equal(first, second, equal_nan=True)


def _same_table(first, second):
    if first is None or second is None:
        return first is second
    return first["VALUE"].unit == second["VALUE"].unit and all(
        np.array_equal(first[name], second[name]) for name in EXPECTED_COLUMNS
    )


def _moved(rows, y0, y1, x0, x1):
    """Return the rows of EXPOSURE, X, Y in a part of the images, moved to it."""
    if rows is None:
        return None
    _, x, y = rows.T
    inside = (x > x0) & (x <= x1) & (y > y0) & (y <= y1)
    return rows[inside] - [0, x0, y0]


def _bounds(item, shape):
    """Return the pairs of limits of slices along y and x."""
    items = item if isinstance(item, tuple) else (item,)
    if not 1 <= len(items) <= 2 or not all(isinstance(s, slice) for s in items):
        msg = f"a mask set is cut by masks[y0:y1, x0:x1], got {item!r}"
        raise TypeError(msg)
    items += (slice(None),) * (2 - len(items))
    bounds = [s.indices(size) for s, size in zip(items, shape, strict=True)]
    if any(step != 1 for *_, step in bounds):
        msg = f"slices of a mask set must have no step, got {item!r}"
        raise ValueError(msg)
    if any(stop <= start for start, stop, _ in bounds):
        msg = f"the slices {item!r} leave nothing of masks of shape {shape}"
        raise ValueError(msg)
    return [(start, stop) for start, stop, _ in bounds]


def _count(name, mask):
    pixels = np.count_nonzero(mask)
    groups = label_groups(mask)[1]
    return name, pixels, pixels / mask.size, groups


fits_io.register(CRMaskSet)
