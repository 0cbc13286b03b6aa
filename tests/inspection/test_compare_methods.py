# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the comparison of combination methods."""

import numpy as np
import pytest
from astropy.nddata import CCDData
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal

from ccdcr import CRCombiner, CRMaskSet, compare_methods, detect_cosmic_rays
from ccdcr.plotting import plot_comparison
from ccdcr.simulation import simulate_exposures

SHAPE = (120, 140)
LEVEL, READNOISE = 400.0, 10.0  # adu; electron, at a gain of 1
SIGMA = np.sqrt(LEVEL + READNOISE**2)


def exposures_of(data, bad=(None,) * 3):
    """Return arrays as exposures."""
    pairs = zip(data, bad, strict=True)
    return [CCDData(plane, unit="adu", mask=mask) for plane, mask in pairs]


def masks_of(crmasks, **kwargs):
    """Return masks of which gain and read noise are known."""
    known = {"gain": 1.0, "readnoise": READNOISE} | kwargs
    return CRMaskSet(crmasks.sum(axis=0) > 1, crmasks.any(axis=0), crmasks, **known)


@pytest.fixture
def flat():
    """Three flat exposures with noise."""
    rng = np.random.default_rng(5)
    return rng.normal(LEVEL, SIGMA, (3, *SHAPE))


def column(comparison, name):
    """Return a column by method."""
    table = comparison.table
    return dict(zip(table["method"].tolist(), table[name].tolist(), strict=True))


def test_noise(flat):
    """Mean and median of three have the noise that theory says."""
    masks = masks_of(np.zeros((3, *SHAPE), dtype=bool))
    noise = column(compare_methods(exposures_of(flat), masks), "noise")
    mean = SIGMA / np.sqrt(3)
    # The standard deviation of the median of three is 1.160 times the mean's.
    for method, expected in (("average", mean), ("median", 1.160 * mean)):
        assert noise[method] == pytest.approx(expected, rel=0.04)
    assert noise["meancr"] == pytest.approx(noise["average"])
    assert noise["mediancr"] == pytest.approx(noise["median"])


def test_expected(flat):
    """The noise model explains the noise that is there."""
    masks = masks_of(np.zeros((3, *SHAPE), dtype=bool))
    comparison = compare_methods(exposures_of(flat), masks)
    noise, expected = (column(comparison, name) for name in ("noise", "expected"))
    assert list(expected) == ["median", "average", "mediancr", "meancrt", "meancr"]
    for method in expected:
        assert expected[method] == pytest.approx(noise[method], rel=0.05)


def test_positive(flat):
    """What is left of hits is counted: all by the mean, few by the median."""
    crmasks = np.zeros((3, *SHAPE), dtype=bool)
    crmasks[0, 10:15, 10:20] = True  # 50 pixels, one exposure
    crmasks[:2, 60:64, 30:35] = True  # 20 pixels, two exposures
    data = flat + 100 * SIGMA * crmasks
    missed = crmasks.copy()
    missed[:2, 60, 30] = False
    positive = column(compare_methods(exposures_of(data), masks_of(missed)), "positive")
    assert positive == {
        "median": 20,
        "average": 70,
        "mediancr": 1,
        "meancrt": 1,
        "meancr": 1,
    }


def test_negative(flat):
    """Pixels where the minimum is far below exposures that are not masked."""
    data = flat.copy()
    data[0, 50:55, 50:56] -= 30 * SIGMA  # a defect of one exposure, 30 pixels
    nothing = np.zeros((3, *SHAPE), dtype=bool)
    wrong = np.zeros(SHAPE, dtype=bool)
    wrong[50:55, 50:56] = True
    masks = CRMaskSet(wrong, wrong, nothing, gain=1.0, readnoise=READNOISE)
    negative = column(compare_methods(exposures_of(data), masks), "negative")
    assert negative == {
        "median": 0,
        "average": 30,
        "mediancr": 30,
        "meancrt": 30,
        "meancr": 30,
    }


def test_flux():
    """A source that is masked loses the flux that the minimum lacks."""
    stack = np.full((3, 100, 100), 100.0)
    stack[:, 40:44, 40:44] = np.array([800, 1000, 1200])[:, np.newaxis, np.newaxis]
    core = np.zeros((100, 100), dtype=bool)
    core[40:44, 40:44] = True
    nothing = np.zeros((3, 100, 100), dtype=bool)
    masks = CRMaskSet(core, core, nothing, gain=1.0, readnoise=READNOISE)
    comparison = compare_methods(exposures_of(stack), masks)
    for name in ("flux", "flux_low"):
        flux = column(comparison, name)
        assert flux == pytest.approx(
            {"median": 1, "average": 1, "mediancr": 0.8, "meancrt": 0.8, "meancr": 1}
        )


def test_replaced():
    """As the headers of the combined images say; a set with MEANCR has meancr2."""
    sim = simulate_exposures((100, 120), seed=1)
    masks = detect_cosmic_rays(
        sim.exposures,
        gain="GAIN",
        readnoise="RDNOISE",
        la_verbose=False,
        crmethod="mm_lacosmic",
    )
    comparison = compare_methods(sim.exposures, masks)
    combiner = CRCombiner(sim.exposures, masks)
    for method in ("mediancr", "meancrt", "meancr", "meancr2"):
        image = getattr(combiner, f"{method}_combine")()
        assert_array_equal(comparison.images[method].data, image.data)
        assert column(comparison, "replaced")[method] == image.header["CRNREPL"]
    assert_array_equal(comparison.images["median"], combiner.median_combine())


def test_fewer(flat):
    """Pixels of which exposures are left out, but not all; bad ones count as such."""
    crmasks = np.zeros((3, *SHAPE), dtype=bool)
    crmasks[0, 5, 5:15] = True
    crmasks[:, 9, 5:8] = True  # replaced by the minimum
    crmasks[0, 20, 20] = crmasks[1, 20, 21] = True
    bad = np.zeros(crmasks.shape, dtype=bool)
    bad[1:, 20, 20] = bad[1, 20, 21] = True  # nothing is left; nothing is lost
    residual = np.zeros(SHAPE, dtype=bool)
    residual[5, 5:7] = True
    masks = masks_of(crmasks, meancr=residual)
    comparison = compare_methods(exposures_of(flat, bad), masks)
    fewer = column(comparison, "fewer")
    assert (fewer["meancr"], fewer["meancr2"], fewer["meancrt"]) == (10, 8, 0)


def test_flux_factors(flat):
    """All images are scaled, the plain ones as well."""
    factors = np.array([1.0, 0.5, 2.0])
    data = flat * factors[:, np.newaxis, np.newaxis]
    nothing = np.zeros((3, *SHAPE), dtype=bool)
    masks = masks_of(nothing, flux_factor=factors)
    comparison = compare_methods(exposures_of(data), masks, apply_flux_factor=True)
    for image in comparison.images.values():
        assert np.median(image.data) == pytest.approx(LEVEL, rel=0.02)
    assert set(column(comparison, "positive").values()) == {0}


def test_unknown_noise(flat):
    """Without gain and read noise the scatter takes their place."""
    crmasks = np.zeros((3, *SHAPE), dtype=bool)
    crmasks[0, 10:15, 10:20] = True
    masks = masks_of(crmasks, gain=None, readnoise=None)
    comparison = compare_methods(exposures_of(flat + 200 * SIGMA * crmasks), masks)
    assert column(comparison, "positive")["average"] >= 50
    assert np.isnan(comparison.table["expected"]).all()
    assert np.isfinite(comparison.table["noise"]).all()


def test_plot(flat):
    """The stamp of the largest correction; another one on demand."""
    crmasks = np.zeros((3, *SHAPE), dtype=bool)
    crmasks[:2, 60, 30] = True
    data = flat + 1000 * SIGMA * crmasks
    comparison = compare_methods(exposures_of(data), masks_of(crmasks))
    assert comparison.position == (31, 61)
    artists = plot_comparison(comparison, semiwindow=2, fig=Figure())
    assert list(artists) == list(comparison.images)
    image, difference = artists["mediancr"]
    assert tuple(image.get_extent()) == (28.5, 33.5, 58.5, 63.5)
    change = comparison.images["mediancr"].data - comparison.images["median"].data
    assert_allclose(difference.get_array(), change[58:63, 28:33])
    figure = plot_comparison(comparison, x=5, y=6, semiwindow=1)
    assert tuple(figure.axes[0].images[0].get_extent()) == (3.5, 6.5, 4.5, 7.5)


def test_text(flat):
    """Both texts name the methods."""
    comparison = compare_methods(
        exposures_of(flat), masks_of(np.zeros((3, *SHAPE), dtype=bool))
    )
    assert "mediancr" in repr(comparison)
    assert len(str(comparison).splitlines()) >= 5


@pytest.mark.parametrize("nsigma", [0, -1.0])
def test_refused(flat, nsigma):
    """A threshold that is none."""
    masks = masks_of(np.zeros((3, *SHAPE), dtype=bool))
    with pytest.raises(ValueError, match=f"nsigma must be a number > 0, got {nsigma}"):
        compare_methods(exposures_of(flat), masks, nsigma=nsigma)
