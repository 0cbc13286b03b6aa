# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the explanation of a pixel."""

import warnings

import numpy as np
import pytest
from astropy.nddata import CCDData
from scipy import ndimage

from ccdcr import (
    CRMaskSet,
    NotEquivalentWarning,
    Requirements,
    detect_cosmic_rays,
    explain_pixel,
)
from ccdcr.detection.detect_matched import make_frames, make_options
from ccdcr.exposures import CCDParameters
from ccdcr.matching.match import decide, decision_at, match_exposures, surroundings
from ccdcr.matching.sky_levels import with_level_skies
from ccdcr.simulation import simulate_exposures
from ccdcr.single_image.detectors import LACosmic, laplacian_statistics

KNOWN = {
    "gain": "GAIN",
    "readnoise": "RDNOISE",
    "la_verbose": False,
    "crmethod": "mm_lacosmic",
}
EIGHT = np.ones((3, 3), dtype=bool)


@pytest.fixture(scope="module")
def sim():
    """Three exposures with truth."""
    return simulate_exposures((100, 120), scene="fibres", seed=1)


@pytest.fixture(scope="module", params=["exact", "spline"])
def masks(sim, request):
    """Masks with diagnostics."""
    return detect_cosmic_rays(sim.exposures, mm_boundary_fit=request.param, **KNOWN)


def rows_of(table):
    """Return the rows of a table by item."""
    return {row["item"]: row for row in table}


def hand_made(**kwargs):
    """Masks of one pixel (x, y) = (6, 4), hit in two exposures, and exposures."""
    data = np.full((3, 9, 11), 16.0)
    data[:, 3, 5] = 16, 116, 66
    crmasks = np.zeros(data.shape, dtype=bool)
    crmasks[1:, 3, 5] = True
    kwargs.setdefault("requirements", {"crmethod": "mm_lacosmic"})
    masks = CRMaskSet(crmasks.sum(axis=0) > 1, crmasks.any(axis=0), crmasks, **kwargs)
    return masks, [CCDData(plane, unit="adu") for plane in data]


def test_values():
    """Values, expected noise and replacements that can be worked out."""
    masks, ccds = hand_made(gain=1.0, readnoise=3.0)
    table = explain_pixel(ccds, masks, 6, 4)
    rows = rows_of(table)
    values = {item: row["value"] for item, row in rows.items()}
    expected = {
        "exposure 1": 16,
        "exposure 2": 116,
        "exposure 3": 66,
        "minimum": 16,
        "median": 66,
        "mean": 66,
        "Median-Minimum MEDIANCR: excess": 50,
        "Median-Minimum MEANCRT: excess": 100,
        "Median-Minimum CRMASK3: excess": 50,
        "Median-Minimum: highest exposure": 116,
        "result of mediancr": 16,
        "result of meancrt": 16,
        "result of meancr": 16,
    }
    assert {item: values[item] for item in expected} == expected
    # A level of 16 electrons and a read noise of 3.
    assert rows["exposure 1"]["noise"] == pytest.approx(5)
    verdicts = {item: row["verdict"] for item, row in rows.items()}
    assert verdicts["exposure 1"] == "not in CRMASK1"
    assert verdicts["exposure 2"] == "in CRMASK2"
    assert verdicts["minimum"] == "exposure 1"
    assert verdicts["result of mediancr"] == "replaced by the minimum"
    assert verdicts["result of meancr"] == "the mean of exposure 1"
    assert "result of meancr2" not in rows
    assert rows["Median-Minimum: highest exposure"]["limit"] == 15
    assert table.meta["x"] == 6
    assert table.meta["unit"] == "adu"


def test_clean_pixel():
    """A pixel that nothing has touched."""
    masks, ccds = hand_made(gain=1.0, readnoise=3.0)
    rows = rows_of(explain_pixel(ccds, masks, 1, 1))
    results = {i: r["verdict"] for i, r in rows.items() if i.startswith("result")}
    assert results == {
        "result of mediancr": "the median",
        "result of meancrt": "the mean",
        "result of meancr": "the mean",
    }
    assert rows["median"]["verdict"] == "not in MEDIANCR"


def test_missing():
    """What the masks do not say is listed."""
    masks, ccds = hand_made()
    missing = explain_pixel(ccds, masks, 6, 4).meta["missing"]
    assert [text.split(" (")[0] for text in missing] == [
        "the noise",
        "what found the pixel",
        "the Median-Minimum boundary",
    ]


def test_bad_exposure():
    """A bad value takes no part."""
    masks, ccds = hand_made(gain=1.0, readnoise=3.0)
    ccds[0].mask = np.zeros((9, 11), dtype=bool)
    ccds[0].mask[3, 5] = True
    rows = rows_of(explain_pixel(ccds, masks, 6, 4))
    assert rows["exposure 1"]["verdict"] == "bad: ignored"
    assert rows["minimum"]["value"] == 66
    assert rows["result of meancr"]["verdict"] == "replaced by the minimum"


def test_decisions(sim, masks):
    """Where a limit is exceeded the mask has the pixel; found by what is above."""
    flags = masks.diagnostics.flags["MEDIANCR"]
    boundary = masks.diagnostics.boundaries["MEDIANCR"]
    y, x = np.argwhere(flags == 2)[0]
    rows = rows_of(explain_pixel(sim.exposures, masks, x + 1, y + 1))
    row = rows["Median-Minimum MEDIANCR: excess"]
    assert row["verdict"] == "above"
    assert rows["median"]["verdict"] == "in MEDIANCR: comparison only"
    minimum = np.float32(rows["minimum"]["value"])
    assert row["limit"] == pytest.approx(boundary(np.array([minimum]))[0], rel=1e-5)
    chance = "Median-Minimum MEDIANCR: chance"
    exact = masks.requirements.mm_boundary_fit == "exact"
    assert (chance in rows) == exact
    if exact:
        assert rows[chance]["value"] < rows[chance]["limit"] == boundary.p_value


@pytest.mark.parametrize("fit", ["exact", "spline"])
def test_found(sim, fit):
    """Without dilation, what Median-Minimum found is above one of its limits."""
    masks = detect_cosmic_rays(
        sim.exposures,
        mm_boundary_fit=fit,
        dilation=0,
        **KNOWN | {"crmethod": "mmcosmic"},
    )
    y, x = np.nonzero(masks.meancrt)
    for i in range(0, len(x), max(len(x) // 20, 1)):
        rows = rows_of(explain_pixel(sim.exposures, masks, x[i] + 1, y[i] + 1))
        above = [rows[f"Median-Minimum {n}: excess"] for n in ("MEANCRT", "MEDIANCR")]
        assert "above" in [row["verdict"] for row in above]


def test_other_detector():
    """Detectors that give no statistic are named."""
    masks, ccds = hand_made(
        gain=1.0, readnoise=3.0, requirements=Requirements(crmethod="conn")
    )
    table = explain_pixel(ccds, masks, 6, 4)
    assert "a statistic of conn (it gives none)" in table.meta["missing"]
    assert not any(item.startswith(("L.A.", "Median-")) for item in table["item"])


@pytest.mark.parametrize(("x", "y"), [(0, 1), (12, 1), (1, 10), (1.5, 1)])
def test_refused(x, y):
    """Pixels outside, and what is no pixel."""
    masks, ccds = hand_made()
    with pytest.raises(ValueError, match=r"whole FITS pixel|images of 11 x 9 pixels"):
        explain_pixel(ccds, masks, x, y)


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"sepmed": False},
        {"fsmode": "median"},
        {"fsmode": "median", "sepmed": False},
        {"psfmodel": "gauss", "psffwhm_x": 2.0, "psffwhm_y": 2.0},
        {"psfmodel": "gaussx"},
        {"psfmodel": "gaussy"},
        {"psfmodel": "moffat"},
    ],
)
def test_laplacian(kwargs):
    """The two statistics and their limits make the mask of astroscrappy."""
    sim = simulate_exposures((150, 170), scene="stars", seed=2)
    image = np.median([ccd.data for ccd in sim.exposures], axis=0).astype(np.float32)
    detector = LACosmic(niter=1, **kwargs)
    significance, contrast = laplacian_statistics(image, detector, 1.0, 3.0)
    found = (significance > detector.sigclip) & (contrast > detector.objlim)
    # Neighbours twice, as van Dokkum grows them.
    found = ndimage.binary_dilation(found, EIGHT) & (significance > detector.sigclip)
    lower = detector.sigclip * detector.sigfrac
    found = ndimage.binary_dilation(found, EIGHT) & (significance > lower)
    mask, _ = detector(image, None, 1.0, 3.0)
    assert mask.any()
    np.testing.assert_array_equal(found, mask)


@pytest.fixture(scope="module")
def wide():
    """Exposures much larger than the surroundings of a pixel, not equivalent."""
    return simulate_exposures(
        (330, 700), scene="longslit", flux=[0.95, 1.0, 1.05], seed=4
    )


@pytest.fixture(scope="module")
def wide_masks(wide):
    """Their masks."""
    return detect_cosmic_rays(wide.exposures, **KNOWN | {"crmethod": "matched"})


class TestMatched:
    """What decided where exposures were matched."""

    def test_surroundings(self, wide, wide_masks):
        """A part of the image is searched as the whole was."""
        detector = CCDParameters(1.0, 3.0, 0.0)
        stack = np.array([ccd.data for ccd in wide.exposures], dtype=np.float32)
        matching = wide_masks.diagnostics.matching
        known, sky = matching.known, matching.sky
        frames = with_level_skies(make_frames(stack, detector, np.ones(3)), sky)
        options = make_options(wide_masks.requirements)
        matched = match_exposures(frames, options)
        rows = np.arange(stack.shape[1])
        z = decide(matched, options.limits, rows)[1].kept
        assert known.tile == matched.known.tile
        for pixel in [(100, 350), (0, 0), (329, 699), (200, 610)]:
            rows, columns = surroundings(pixel, stack.shape[1:], known.tile)
            assert columns.stop - columns.start < 400
            part = make_frames(stack[:, rows, columns], detector, np.ones(3))
            part = with_level_skies(part, sky and sky.cut((rows, columns)))
            here = pixel[0] - rows.start, pixel[1] - columns.start
            decision = decision_at(here, part, options, known)
            np.testing.assert_allclose(decision.z, z[:, *pixel], atol=2e-3)

    def test_masks(self, wide, wide_masks):
        """The decision of each exposure and of the median is that of the masks."""
        # Cores, ends and neighbours of hits, coincidences, and pixels anywhere.
        rng = np.random.default_rng(1)
        near = ndimage.binary_dilation(wide_masks.meancrt, EIGHT)
        pixels = [
            np.argwhere(plane)[rng.permutation(np.count_nonzero(plane))[:3]]
            for plane in (wide_masks.mediancr, wide_masks.meancrt, near)
        ]
        for y, x in np.concatenate(pixels):
            rows = rows_of(explain_pixel(wide.exposures, wide_masks, x + 1, y + 1))
            for i in range(3):
                name = f"matched exposure {i + 1}: "
                kinds = ("deviation", "as part of a hit", "charge of hit")
                hit = any(
                    row["verdict"].startswith("above")
                    and "joined to no hit" not in row["verdict"]
                    and "all others are hit" not in row["verdict"]
                    for item, row in rows.items()
                    if item.startswith(tuple(name + kind for kind in kinds))
                )
                assert hit == wide_masks.crmasks[i, y, x], (x, y, rows)
            (verdict,) = (
                row["verdict"]
                for item, row in rows.items()
                if item.startswith("matched MEDIANCR")
            )
            assert (verdict == "the median is wrong") == wide_masks.mediancr[y, x]

    def test_numbers(self):
        """Without structure matching has little to do: what algebra gives."""
        rng = np.random.default_rng(3)
        level, gain, readnoise, hit = 100.0, 2.0, 6.0, 400.0
        sigma = np.sqrt(level / gain + (readnoise / gain) ** 2)
        data = rng.normal(level, sigma, (3, 96, 96))
        data[1, 40, 50] = level + hit
        data[[0, 2], 40, 50] = level
        ccds = [CCDData(plane, unit="adu") for plane in data]
        masks = detect_cosmic_rays(
            ccds, gain=gain, readnoise=readnoise, crmethod="matched"
        )
        rows = rows_of(explain_pixel(ccds, masks, 51, 41))
        difference = rows["matched exposure 2: minus the others"]
        # The background of a tile is fitted to a few hundredths of the noise.
        assert difference["value"] == pytest.approx(hit, abs=0.2 * sigma)
        noise = sigma * np.sqrt(1 + 1 / 2)
        assert difference["noise"] == pytest.approx(noise, rel=0.03)
        assert difference["verdict"] == "others: the mean of exposure 1 3"
        deviation = rows["matched exposure 2: deviation (sigma)"]
        assert deviation["value"] == pytest.approx(hit / noise, rel=0.03)
        assert (deviation["limit"], deviation["verdict"]) == (5, "above")
        # One other is left; with 24 pixels around, of two each, there are 49.
        difference = rows["matched exposure 1: minus the others"]
        assert difference["noise"] == pytest.approx(sigma * np.sqrt(50 / 49), rel=0.03)
        verdict = "others: the mean of exposure 3 and of pixels around"
        assert difference["verdict"] == verdict
        assert rows["exposure 2"]["verdict"] == "in CRMASK2: comparison only"
        expected = rows["exposure 2: expected"]
        assert expected["value"] == pytest.approx(level, abs=0.2 * sigma)
        assert expected["noise"] == pytest.approx(sigma / np.sqrt(2), rel=0.03)
        result = rows["result of meancr"]
        assert result["value"] == pytest.approx(level, abs=0.1 * sigma)
        assert result["verdict"] == "the mean of measured and expected values"
        assert rows["result of mediancr"]["verdict"][:10] == "the median"
        (median,) = (row for i, row in rows.items() if i.startswith("matched MED"))
        assert (median["value"], median["limit"]) == (1, 2)
        assert median["verdict"] == "too few"

    def test_bad(self, wide):
        """Bad and saturated exposures take no part."""
        part = [ccd[:80, :90] for ccd in wide.exposures]
        data = np.array([ccd.data for ccd in part])
        bad = np.zeros(data.shape, dtype=bool)
        bad[0, 20, 30] = True
        data[1, 20, 30] = 70000
        ccds = [
            CCDData(plane, unit="adu", mask=mask)
            for plane, mask in zip(data, bad, strict=True)
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotEquivalentWarning)
            masks = detect_cosmic_rays(ccds, gain=1.0, readnoise=3.0)
        rows = rows_of(explain_pixel(ccds, masks, 31, 21))
        assert rows["exposure 1"]["verdict"] == "bad: ignored"
        assert "matched exposure 1: deviation (sigma)" not in rows
        others = rows["matched exposure 2: minus the others"]["verdict"]
        assert others == "others: the mean of exposure 3"

    def test_gain_map(self):
        """A map of the gain and other exposure times are taken into account."""
        rng = np.random.default_rng(4)
        gain = rng.uniform(1.5, 2.5, (80, 90))
        gain[30, 40] = 1.4
        times = [600.0, 900.0, 1200.0]
        data = np.array([rng.poisson(time / 2, gain.shape) / gain for time in times])
        data[1, 30, 40] += 300
        ccds = [
            CCDData(plane, unit="adu", meta={"EXPTIME": time})
            for plane, time in zip(data, times, strict=True)
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotEquivalentWarning)
            masks = detect_cosmic_rays(ccds, gain=gain, readnoise=2.0)
        rows = rows_of(explain_pixel(ccds, masks, 41, 31))
        ratio = gain[30, 40] / np.median(gain)
        difference = rows["matched exposure 2: minus the others"]
        noise = difference["noise"]
        assert difference["value"] == pytest.approx(300 * ratio, abs=4 * noise)
        variance = [450 / (time / 900) + (2 / (time / 900)) ** 2 for time in times]
        expected = np.sqrt(variance[1] + (variance[0] + variance[2]) / 4)
        assert noise == pytest.approx(expected / np.median(gain), rel=0.1)

    def test_two(self, sim):
        """One hit spoils the median of two exposures."""
        masks = detect_cosmic_rays(sim.exposures[:2], **KNOWN | {"crmethod": "matched"})
        rows = rows_of(explain_pixel(sim.exposures[:2], masks, 20, 30))
        assert "matched exposure 2: deviation (sigma)" in rows
        row = rows["matched MEDIANCR: exposures hit by more than 2.3 sigma"]
        assert row["limit"] == 1

    def test_single_image(self, sim):
        """The second opinion is of the median and of the lowest exposure."""
        known = KNOWN | {"crmethod": "matched_lacosmic"}
        masks = detect_cosmic_rays(sim.exposures, **known)
        table = explain_pixel(sim.exposures, masks, 20, 30)
        assert table.meta["missing"] == []
        items = [item for item in rows_of(table) if "Laplacian" in item]
        assert items == [
            "L.A. Cosmic median: Laplacian (sigma)",
            "L.A. Cosmic lowest exposure: Laplacian (sigma)",
        ]

    def test_file(self, sim, tmp_path):
        """The file of masks does not say it."""
        masks = detect_cosmic_rays(sim.exposures, **KNOWN | {"crmethod": "matched"})
        masks.write(tmp_path / "crmasks.fits")
        read = CRMaskSet.read(tmp_path / "crmasks.fits")
        (missing, _) = explain_pixel(sim.exposures, read, 5, 5).meta["missing"] + [""]
        assert missing.startswith("the statistic of the matched exposures")
