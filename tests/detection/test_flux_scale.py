# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tests of the flux scale of detection and combination.

Expected values come from algebra: 500 counts in the longest exposure, in proportion to
the exposure time in the others, and sums of the times.
"""

import warnings

import numpy as np
import pytest
from astropy.nddata import CCDData
from numpy.testing import assert_allclose

from ccdcr import (
    CRCombiner,
    CRMaskSet,
    FluxScaleWarning,
    check_equivalence,
    combine,
    detect_cosmic_rays,
)

SHAPE = (100, 100)
LEVEL = 500
KNOWN = {"gain": 1.0, "readnoise": 3.0, "la_verbose": False}
STARS = {"structure": True}


def make(times, *, bias=0, scaled=False, moon=0, structure=False, header=True, seed=1):
    """Return exposures of some times, and their hits (n, ny, nx)."""
    rng = np.random.default_rng(seed)
    scene = np.full(SHAPE, float(LEVEL))
    if structure:
        y, x = np.indices(SHAPE)
        for b, a in rng.uniform(5, 95, (20, 2)):
            scene += 5000 * np.exp(-((y - b) ** 2 + (x - a) ** 2) / 6)
    ccds, hits = [], rng.random((len(times), *SHAPE)) < 0.005
    hits &= hits.sum(axis=0) == 1
    for i, time in enumerate(times):
        factor = time / max(times)
        light = scene * factor + (moon if i == 0 else 0)
        data = rng.poisson(light) + rng.normal(0, 3, SHAPE) + 3000 * hits[i]
        meta = {"EXPTIME": time} if header else {}
        data = data / factor if scaled else data
        ccds.append(CCDData(data + bias, unit="adu", meta=meta))
    return ccds, hits


class TestFactors:
    """Flux factors of the mask set, and where they come from."""

    @pytest.mark.parametrize("crmethod", ["matched", "lacosmic", "mmcosmic"])
    def test_exposure_times(self, crmethod, tmp_path):
        """600, 600 and 300 s are 1, 1 and 0.5, also in the file."""
        ccds, _ = make((600, 600, 300))
        masks = detect_cosmic_rays(ccds, crmethod=crmethod, **KNOWN)
        masks.write(tmp_path / "masks.fits")
        for found in (masks, CRMaskSet.read(tmp_path / "masks.fits"), masks[:50, :50]):
            assert found.flux_factor.tolist() == [1, 1, 0.5]
            assert found.flux_source == "EXPTIME"
        assert "flux factors: 1, 1, 0.5 (EXPTIME)" in str(masks)

    def test_text(self):
        """Times that are written as text are read; text that is none is named."""
        ccds, _ = make((600, 600, 300))
        for ccd, text in zip(ccds, ("600.0", " 600", "300."), strict=True):
            ccd.meta["EXPTIME"] = text
        masks = detect_cosmic_rays(ccds, **KNOWN)
        assert masks.flux_factor.tolist() == [1, 1, 0.5]
        combined = combine(ccds, crmasks=masks)
        assert (combined.header["EXPTIME"], combined.header["TEXPTIME"]) == (600, 1500)
        for ccd, value in zip(ccds, (0, "300 s"), strict=False):
            ccd.meta["EXPTIME"] = value
        with pytest.warns(FluxScaleWarning, match="exposure 1, 2"):
            check_equivalence(ccds, gain=1.0, readnoise=3.0)

    @pytest.mark.parametrize(
        ("given", "factors", "source"),
        [
            (1, [1, 1, 1], "given"),
            ([1, 1, 0.6], [1, 1, 0.6], "given"),
            ("auto", [1, 1, 0.5], "auto"),
        ],
    )
    def test_given(self, given, factors, source):
        """What is given wins over the exposure times."""
        ccds, _ = make((600, 600, 300))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of factors that are wrong here
            masks = detect_cosmic_rays(ccds, flux_factor=given, **KNOWN)
        assert_allclose(masks.flux_factor, factors, rtol=0.01)
        assert masks.flux_source == source

    @pytest.mark.parametrize(
        ("times", "header"), [((600, 603, 600), True), ((600, 600, 300), False)]
    )
    def test_unity(self, times, header):
        """Times within 1 %, or unknown ones, are no factors."""
        ccds, _ = make(times, header=header)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            masks = detect_cosmic_rays(ccds, **KNOWN)
        assert masks.flux_factor.tolist() == [1, 1, 1]
        assert masks.flux_source is None

    @pytest.mark.parametrize(
        ("times", "structure"),
        [
            ((600, 600, 300), False),
            ((600, 600, 300), True),
            ((200, 1000), False),
            ((200, 1000), True),
            ((100, 105, 100), False),
        ],
    )
    def test_contradiction(self, times, structure):
        """Exposures that were scaled to one time: EXPTIME is not used."""
        ccds, _ = make(times, scaled=True, structure=structure)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")  # noise and masks are others, too
            masks = detect_cosmic_rays(ccds, **KNOWN)
        (text,) = [str(w.message) for w in caught if w.category is FluxScaleWarning]
        assert "scaled already" in text
        assert "flux_factor=1" in text
        assert masks.flux_factor.tolist() == [1] * len(times)

    def test_other_field(self):
        """Where exposures do not show the same no factors are proposed."""
        ccds, _ = make((600, 25), scaled=True, structure=True)
        ccds[1].data = ccds[1].data[::-1].copy()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            detect_cosmic_rays(ccds, **KNOWN)
        (text,) = [str(w.message) for w in caught if w.category is FluxScaleWarning]
        assert text.endswith("check that they show the same field")

    @pytest.mark.parametrize("given", [[600, 25], [1, 1 / 24]])
    def test_far_factors(self, given):
        """Factors of any scale give the same masks."""
        ccds, _ = make((600, 25))
        masks, same = (
            detect_cosmic_rays(ccds, flux_factor=factors, **KNOWN)
            for factors in ([24, 1], given)
        )
        assert masks.crmasks.any()
        assert np.count_nonzero(masks.crmasks ^ same.crmasks) <= 2

    @pytest.mark.parametrize("times", [(600, 600, 300), (200, 1000), (100, 105, 100)])
    @pytest.mark.parametrize("options", [{}, STARS, {"moon": 400} | STARS])
    def test_no_contradiction(self, times, options):
        """Moonlight in one exposure does not contradict the times."""
        ccds, _ = make(times, **options)
        masks = detect_cosmic_rays(ccds, **KNOWN)
        assert_allclose(masks.flux_factor, np.array(times) / np.median(times))


class TestCombination:
    """One flux scale, and no steps where exposures are masked."""

    @pytest.mark.parametrize("apply", [None, True])
    @pytest.mark.parametrize("method", ["meancr", "meancrt", "mediancr"])
    @pytest.mark.parametrize("bias", [0, 1000])
    def test_steps(self, method, apply, bias):
        """200, 1000 and 1000 s: 500 everywhere, for 1000 s and 2200 s in all."""
        ccds, hits = make((200, 1000, 1000), bias=bias)
        masks = detect_cosmic_rays(ccds, bias=bias, **KNOWN)
        result = combine(ccds, crmasks=masks, method=method, apply_flux_factor=apply)
        for hit in hits:
            hit = hit & masks.meancrt  # noqa: PLW2901
            error = 4 * LEVEL**0.5 / np.sqrt(hit.sum()) / LEVEL
            assert result.data[hit].mean() == pytest.approx(LEVEL, rel=max(error, 0.01))
        assert result.data[~masks.meancrt].mean() == pytest.approx(LEVEL, rel=0.003)
        assert (result.header["EXPTIME"], result.header["TEXPTIME"]) == (1000, 2200)
        assert result.header["CRFLUXF"] is True
        assert result.header.get("CRBIASUB", 0) == bias

    def test_sky(self):
        """Skies 600, 500, 500: medians at hits are steps of -33; meancrt warns."""
        ccds, hits = make((600, 600, 600), moon=100)
        masks = detect_cosmic_rays(ccds, **KNOWN)
        with pytest.warns(FluxScaleWarning, match="use method meancr"):
            steps = combine(ccds, crmasks=masks, method="meancrt").data
        hit = hits.any(axis=0) & masks.meancrt
        # The higher one of 500 and 500 is .56 of their noise of 23 above 500.
        assert steps[hit].mean() - steps[~masks.meancrt].mean() < -33 + 13
        assert combine(ccds, crmasks=masks).data[hit].mean() == pytest.approx(
            533, abs=5
        )

    def test_not_applied(self):
        """The mean of exposures as they are is for the mean of the times."""
        ccds, _ = make((200, 1000, 1000))
        masks = detect_cosmic_rays(ccds, **KNOWN)
        combiner = CRCombiner(ccds, masks)
        result = combiner.meancr_combine(apply_flux_factor=False)
        assert result.header["EXPTIME"] == pytest.approx(2200 / 3)
        assert np.median(result.data) == pytest.approx(LEVEL * 2.2 / 3, rel=0.01)
        message = "differ by up to 400% and are not applied: mediancr mixes"
        with pytest.warns(FluxScaleWarning, match=message):
            combiner.mediancr_combine(apply_flux_factor=False)

    @pytest.mark.parametrize("method", ["mediancr", "meancrt", "meancr"])
    def test_bias(self, method):
        """1000 + 100 f, f = 1, 2, 4, without the bias: 100, as numina."""
        factors = (1.0, 2.0, 4.0)
        ccds = [CCDData(np.full((2, 3), 1000 + 100 * f), unit="adu") for f in factors]
        none = np.zeros((3, 2, 3), bool)
        known = {"gain": 1.0, "readnoise": 3.0, "bias": 1000.0}
        masks = CRMaskSet(none[0], none[0], none, flux_factor=factors, **known)
        result = combine(ccds, crmasks=masks, method=method, apply_flux_factor=True)
        assert (result.data == 100).all()
        assert result.header["CRBIASUB"] == 1000
        variance = sum((100 * f + 9) / f**2 for f in factors) / 9
        if method != "mediancr":
            assert_allclose(result.uncertainty.array, variance**0.5)

    @pytest.mark.parametrize("source", ["given", "auto", None])
    def test_only_times(self, source):
        """Other factors are applied only if that is asked for."""
        ccds = [CCDData(np.full((2, 3), 100 * f), unit="adu") for f in (1.0, 2.0)]
        none = np.zeros((2, 2, 3), bool)
        meta = {} if source is None else {"FLUXFSRC": source}
        known = {"gain": 1.0, "readnoise": 3.0, "meta": meta}
        masks = CRMaskSet(none[0], none[0], none, flux_factor=(1, 2), **known)
        with pytest.warns(FluxScaleWarning, match="apply_flux_factor=True"):
            assert (combine(ccds, crmasks=masks).data == 150).all()
        scaled = combine(ccds, crmasks=masks, apply_flux_factor=True)
        assert (scaled.data == 100).all()

    @pytest.mark.parametrize("value", [1, "yes", [True]])
    def test_wrong_option(self, value):
        """It is True, False or None."""
        ccds, _ = make((600, 600))
        none = np.zeros((2, *SHAPE), bool)
        masks = CRMaskSet(none[0], none[0], none, gain=1.0, readnoise=3.0)
        with pytest.raises(TypeError, match="apply_flux_factor must be True, False"):
            combine(ccds, crmasks=masks, apply_flux_factor=value)
