# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tests of the registry of single-image detectors.

The packages of the optional detectors are replaced by modules of the same names
that flag what exceeds a limit in electrons.
"""

import sys
from statistics import median
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from astropy.nddata import CCDData

from ccdcr import Requirements, UnusedRequirementWarning, detect_cosmic_rays
from ccdcr.exposures import CCDParameters
from ccdcr.requirements.requirement_table import CRMETHODS
from ccdcr.simulation import simulate_exposures
from ccdcr.single_image.detectors import DETECTORS, LACosmic, SingleImage, run_detector

OTHERS = ["pycosmic", "deepcr", "conn"]
MODULES = {"pycosmic": "PyCosmic", "deepcr": "deepCR", "conn": "cosmic_conn"}
LIMIT = 600.0  # electron
GAIN, READNOISE = 2.0, 5.0


class Calls(list):
    """What the packages were called with."""

    def flag(self, image, **kwargs):
        """Record a call and flag what is bright."""
        self.append({"image": image.copy()} | kwargs)
        return image > LIMIT


@pytest.fixture
def calls(monkeypatch):
    """The packages are installed; their calls."""
    calls = Calls()

    def det_cosmics(data, *, gain, rdnoise):
        return SimpleNamespace(mask=calls.flag(data, gain=gain, rdnoise=rdnoise))

    class Model:
        def __init__(self, **made):
            self.made = made

        def clean(self, image, *, threshold, inpaint):
            hit = calls.flag(image, threshold=threshold, inpaint=inpaint, **self.made)
            return hit.astype(np.uint8)

    def init_model(name):
        def detect_cr(image):
            # A probability: just above and just below one half.
            return np.where(calls.flag(image, name=name), 0.51, 0.5)

        return SimpleNamespace(detect_cr=detect_cr)

    for name, function in (
        ("PyCosmic", {"det_cosmics": det_cosmics}),
        ("deepCR", {"deepCR": Model}),
        ("cosmic_conn", {"init_model": init_model}),
    ):
        module = ModuleType(name)
        module.__dict__.update(function)
        monkeypatch.setitem(sys.modules, name, module)
    return calls


def make(name):
    """Return a detector as the detection makes it."""
    return DETECTORS[name].from_requirements(Requirements(crmethod=name))


def image_with_hits(seed=1, shape=(12, 14)):
    """Return an image in adu and where it is above the limit in electrons."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(10, 90, shape).astype(np.float32)
    hits = rng.random(shape) < 0.15
    hits[:5, :5] = hits[0, 0] = hits[-1, -1] = True
    image[hits] += 300
    return image, hits


class TestRegistry:
    """Names and what they stand for."""

    def test_names(self):
        """Each but mmcosmic and matched is a detector, with and without mm_."""
        methods = {*DETECTORS, *(f"mm_{name}" for name in DETECTORS), "mmcosmic"}
        methods |= {"matched", "matched_lacosmic"}
        assert methods == set(CRMETHODS)
        assert DETECTORS["lacosmic"] is LACosmic

    def test_lacosmic(self):
        """It takes its requirements."""
        detector = DETECTORS["lacosmic"].from_requirements(Requirements(la_niter=7))
        assert detector == LACosmic(niter=7)

    @pytest.mark.parametrize(
        ("name", "remedy"),
        [
            ("pycosmic", r"PyCosmic; pip install git\+https://github.com/.*/PyCosmic"),
            ("deepcr", r"deepCR; pip install ccdcr\[deepcr\]"),
            ("conn", r"cosmic-conn; pip install ccdcr\[cosmic-conn\]"),
        ],
    )
    @pytest.mark.parametrize("prefix", ["", "mm_"])
    def test_not_installed(self, monkeypatch, name, remedy, prefix):
        """The message says what to install."""
        monkeypatch.setitem(sys.modules, MODULES[name], None)
        ccds = simulate_exposures((30, 30), seed=1).exposures
        with pytest.raises(ImportError, match=f"needs the package {remedy}"):
            detect_cosmic_rays(
                ccds, gain=1.0, readnoise=3.0, crmethod=f"{prefix}{name}"
            )


@pytest.mark.parametrize("name", OTHERS)
class TestOthers:
    """What detectors of other packages have in common."""

    def test_units(self, calls, name):
        """They see electrons; the clean image is in the unit of the image."""
        image, hits = image_with_hits()
        mask, cleaned = make(name)(image, None, GAIN, READNOISE)
        (call,) = calls
        np.testing.assert_array_equal(call["image"], image * 2)
        assert call["image"].dtype == np.float32
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, hits)
        assert cleaned.dtype == np.float32
        np.testing.assert_array_equal(cleaned[~hits], image[~hits])
        assert cleaned.max() <= 90

    @pytest.mark.parametrize("with_bad", [False, True])
    @pytest.mark.parametrize("seed", [1, 2])
    def test_interpolation(self, calls, name, with_bad, seed):
        """The median of what is good in 5 x 5 pixels, by a loop over pixels."""
        image, hits = image_with_hits(seed)
        inmask = None
        if with_bad:
            inmask = np.random.default_rng(8).random(image.shape) < 0.2
            image[inmask & ~hits] = 250  # below the limit, far above the others
        _, cleaned = make(name)(image, inmask, GAIN, READNOISE)
        good = ~hits if inmask is None else ~(hits | inmask)
        everywhere = median(image[good].tolist())
        expected = image.copy()
        for y, x in np.argwhere(hits if inmask is None else hits & ~inmask):
            box = np.s_[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
            values = image[box][good[box]].tolist()
            expected[y, x] = median(values) if values else everywhere
        assert not good[:5, :5].any()  # one pixel has no good neighbour
        np.testing.assert_allclose(cleaned, expected, rtol=1e-6)
        assert len(calls) == 1

    def test_inmask(self, calls, name):
        """What takes no part is not flagged, and keeps its value."""
        image, hits = image_with_hits()
        inmask = np.zeros_like(hits)
        inmask[0] = True
        copy = image.copy()
        mask, cleaned = make(name)(image, inmask, GAIN, READNOISE)
        np.testing.assert_array_equal(mask, hits & ~inmask)
        np.testing.assert_array_equal(cleaned[0], copy[0])
        np.testing.assert_array_equal(image, copy)
        assert calls

    def test_nothing_good(self, calls, name):
        """Without a good pixel the image stays as it is."""
        image = np.full((6, 7), 900, dtype=np.float32)
        mask, cleaned = make(name)(image, None, GAIN, READNOISE)
        assert mask.all()
        np.testing.assert_array_equal(cleaned, image)
        assert calls

    def test_nothing_found(self, calls, name):
        """Without a hit, too."""
        image = np.full((6, 7), 9, dtype=np.float32)
        mask, cleaned = make(name)(image, None, GAIN, READNOISE)
        assert not mask.any()
        np.testing.assert_array_equal(cleaned, image)
        assert calls


class TestArguments:
    """What the functions of the packages get besides the image."""

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("pycosmic", {"gain": 1.0, "rdnoise": READNOISE}),
            (
                "deepcr",
                {
                    "mask": "ACS-WFC",
                    "device": "CPU",
                    "threshold": 0.5,
                    "inpaint": False,
                },
            ),
            ("conn", {"name": "ground_imaging"}),
        ],
    )
    def test_arguments(self, calls, name, expected):
        """Electrons have a gain of 1; models and limits are the documented ones."""
        make(name)(np.ones((5, 6), np.float32), None, GAIN, READNOISE)
        (call,) = calls
        del call["image"]
        assert call == expected


@pytest.mark.parametrize("name", OTHERS)
class TestDetection:
    """The detection as a whole with another detector."""

    @pytest.fixture
    def sim(self):
        """Three exposures of a flat field below the limit, with cosmic rays."""
        rng = np.random.default_rng(4)
        cosmic_rays = simulate_exposures((96, 96), seed=21).cosmic_rays / GAIN
        data = rng.poisson(120, (3, 96, 96)) / GAIN + cosmic_rays + 50
        data += rng.normal(0, 3.0 / GAIN, data.shape)
        noise = np.sqrt(120 + 9) / GAIN
        return SimpleNamespace(
            exposures=[CCDData(image.astype(np.float32), unit="adu") for image in data],
            hits=cosmic_rays > 5 * noise,
        )

    def test_alone(self, calls, name, sim):
        """Masks are what the package says of median, mean and exposures."""
        masks = detect_cosmic_rays(
            sim.exposures,
            gain=GAIN,
            readnoise=3.0,
            bias=50.0,
            crmethod=name,
            dilation=0,
        )
        stack = np.stack([ccd.data - 50 for ccd in sim.exposures])
        median_image, mean = np.median(stack, axis=0), stack.mean(axis=0, dtype=float)
        mediancr = median_image * GAIN > LIMIT
        np.testing.assert_array_equal(masks.mediancr, mediancr)
        meancrt = (mean.astype(np.float32) * GAIN > LIMIT) | mediancr
        np.testing.assert_array_equal(masks.meancrt, meancrt)
        np.testing.assert_array_equal(masks.crmasks, (stack * GAIN > LIMIT) & meancrt)
        assert masks.crmasks.any()
        assert masks.requirements.crmethod == name
        # Median, mean, three exposures, and what is left in the clean mean.
        assert len(calls) == 6

    def test_with_mm(self, calls, name, sim):
        """Either of the two: at least what each finds alone."""
        known = {"gain": GAIN, "readnoise": 3.0, "bias": 50.0}
        single, mm, both = (
            detect_cosmic_rays(sim.exposures, crmethod=method, **known)
            for method in (name, "mmcosmic", f"mm_{name}")
        )
        hits = sim.hits
        recall = [(m.crmasks & hits).sum() / hits.sum() for m in (single, mm, both)]
        assert recall[0] < 0.8
        assert recall[2] > 0.95
        assert np.all(both.mediancr >= single.mediancr)
        flags = both.diagnostics.flags["MEANCRT"]
        assert {2, 4} <= set(np.unique(flags))
        assert both.lamedian is not None
        assert calls

    def test_requirements_without_effect(self, calls, name, sim):
        """What only L.A. Cosmic uses is named in a warning."""
        with pytest.warns(UnusedRequirementWarning, match="la_niter"):
            detect_cosmic_rays(
                sim.exposures, gain=GAIN, readnoise=3.0, crmethod=name, la_niter=2
            )
        assert calls


class TestRun:
    """The same detector for several images."""

    PARAMETERS = CCDParameters(gain=2.0, readnoise=4.0, bias=0.0)

    def test_results_by_name(self):
        """Each image with its bad pixels, gain and read noise; wrapped if wanted."""
        seen, wrapped = [], []

        def detector(image, bad, gain, readnoise):
            seen.append((bad, gain, readnoise))
            return image > 1, image * 0

        def progress_bar(items):
            for item in items:
                wrapped.append(item[0])
                yield item

        bad = np.zeros((2, 2), bool)
        images = {"a": (np.ones((2, 2)), None), "b": (np.full((2, 2), 5), bad)}
        found = run_detector(
            detector, images, self.PARAMETERS, keep=("b",), progress_bar=progress_bar
        )
        assert seen == [(None, 2, 4), (bad, 2, 4)]
        assert wrapped == ["a", "b"]
        assert found.masks.keys() == {"a", "b"}
        assert found.cleaned.keys() == {"b"}
        assert found.mask("b", (2, 2)).all()
        assert not found.mask("a", (2, 2)).any()

    def test_no_detector(self):
        """Nothing is found, in the shape that is wanted."""
        images = {"a": (np.ones((2, 2)), None)}
        found = run_detector(None, images, self.PARAMETERS)
        assert found == SingleImage({}, {})
        assert found.mask("a", (3, 4)).shape == (3, 4)
        assert not found.mask("a", (3, 4)).any()
