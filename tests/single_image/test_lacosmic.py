# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the single-image detector."""

import astroscrappy
import numpy as np
import pytest

from ccdcr import Requirements
from ccdcr.single_image.detectors import LACosmic, gaussian_kernel
from ccdcr.utils.neighbours import groups_with_seed

GAIN, READNOISE = 2.0, 4.0


@pytest.fixture(scope="module")
def image():
    """A noisy background with sharp hits, in adu."""
    rng = np.random.default_rng(3)
    image = rng.poisson(100, (80, 90)) + rng.normal(0, READNOISE, (80, 90))
    image[20, 30] += 900
    image[40:46, 50] += 400
    image[60, 10:13] += [120, 900, 120]
    return (image / GAIN).astype(np.float32)


def _astroscrappy(image, **kwargs):
    options = {
        "gain": GAIN,
        "readnoise": READNOISE,
        "sigclip": 5.0,
        "sigfrac": 0.3,
        "objlim": 5.0,
        "satlevel": 65535.0 * GAIN,
        "fsmode": "convolve",
    } | kwargs
    return astroscrappy.detect_cosmics(image, **options)


class TestKernel:
    """The elliptical Gaussian."""

    def test_normalised_and_centred(self):
        """The sum is 1 and the maximum is in the middle."""
        kernel = gaussian_kernel(2.5, 4.0, 11)
        assert kernel.sum() == pytest.approx(1, abs=1e-6)
        assert np.unravel_index(kernel.argmax(), kernel.shape) == (5, 5)

    def test_widths(self):
        """At half the FWHM from the centre it has half of its maximum."""
        kernel = gaussian_kernel(4.0, 6.0, 11)
        assert kernel[5, 5 + 2] / kernel[5, 5] == pytest.approx(0.5, rel=1e-5)
        assert kernel[5 + 3, 5] / kernel[5, 5] == pytest.approx(0.5, rel=1e-5)


class TestLACosmic:
    """The wrapper of astroscrappy."""

    @pytest.mark.parametrize("model", ["gauss", "moffat", "gaussx", "gaussy"])
    def test_same_as_astroscrappy(self, image, model):
        """Models of astroscrappy get the FWHM of their axis, or the mean."""
        detector = LACosmic(psfmodel=model, psffwhm_x=2.0, psffwhm_y=3.0, psfsize=7)
        fwhm = {"gaussx": 2.0, "gaussy": 3.0}.get(model, 2.5)
        mask, cleaned = detector(image, None, GAIN, READNOISE)
        expected, clean = _astroscrappy(image, psfmodel=model, psffwhm=fwhm, psfsize=7)
        np.testing.assert_array_equal(mask, expected)
        np.testing.assert_allclose(cleaned, clean, rtol=1e-6)
        assert mask[20, 30]

    def test_elliptical_kernel_is_used(self, image):
        """The model gaussxy is the kernel made here."""
        mask, cleaned = LACosmic()(image, None, GAIN, READNOISE)
        kernel = gaussian_kernel(2.5, 2.5, 11)
        expected, clean = _astroscrappy(image, psfk=kernel)
        np.testing.assert_array_equal(mask, expected)
        np.testing.assert_allclose(cleaned, clean, rtol=1e-6)

    def test_requirements_reach_it(self):
        """Each requirement la_ but those of the door is a field."""
        requirements = Requirements(la_sigclip=7, la_niter=2, la_padwidth=3)
        detector = LACosmic.from_requirements(requirements)
        assert (detector.sigclip, detector.niter, detector.padwidth) == (7, 2, 3)
        names = {f"la_{name}" for name in LACosmic.__dataclass_fields__}
        of_table = {n for n in requirements.to_dict() if n.startswith("la_")}
        assert of_table - names == {"la_gain_apply", "la_verbose"}

    def test_saturation_in_adu(self, image):
        """Saturated pixels and their surroundings are not flagged."""
        bright = image.copy()
        bright[18:23, 28:33] = 1000  # adu
        flagged = [
            LACosmic(satlevel=level)(bright, None, GAIN, READNOISE)[0][15:26, 25:36]
            for level in (900.0, 1100.0)
        ]
        assert not flagged[0].any()
        assert flagged[1].any()

    def test_two_passes(self, image):
        """A pair adds what a laxer run finds connected to the strict run."""
        strict = LACosmic(sigclip=20.0)(image, None, GAIN, READNOISE)[0]
        lax = LACosmic(sigclip=3.0)(image, None, GAIN, READNOISE)[0]
        both = LACosmic(sigclip=(20.0, 3.0))(image, None, GAIN, READNOISE)[0]
        np.testing.assert_array_equal(both, strict | groups_with_seed(lax, strict))
        assert strict.sum() < both.sum() <= lax.sum()

    def test_margin(self, image):
        """Only with a margin are hits in the outer rows found."""
        edge = image.copy()
        edge[0, 40] += 800
        assert not LACosmic()(edge, None, GAIN, READNOISE)[0][0, 40]
        mask, cleaned = LACosmic(padwidth=10)(edge, None, GAIN, READNOISE)
        assert mask[0, 40]
        assert mask.shape == cleaned.shape == edge.shape

    def test_masked_pixels(self, image):
        """What is masked is not flagged."""
        inmask = np.zeros(image.shape, bool)
        inmask[20, 30] = True
        assert not LACosmic()(image, inmask, GAIN, READNOISE)[0][20, 30]
