# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tests of the boundaries.

Lines are compared with `numpy.interp`, splines with other solvers, what is above
the fitted range with the law of the noise.
"""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.interpolate import make_lsq_spline

from ccdcr import Requirements
from ccdcr.median_minimum.simulated_boundary import (
    PiecewiseBoundary,
    SplineBoundary,
    fit_spline,
)

GAIN, READNOISE = 2.0, 5.0
# Values are float32.
RTOL = 1e-6


def noise_of(x, gain=GAIN, readnoise=READNOISE):
    """Return the noise of a signal in electron."""
    return np.sqrt(np.maximum(x, 0) * gain + readnoise**2)


def points_of(seed=1, n=80, *, scatter=0.3, low=1, high=3000):
    """Return points near four times the noise, and their weights."""
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(low, high, n))
    y = 4 * noise_of(x) / GAIN * (1 + scatter * rng.normal(size=n))
    return x, y, rng.integers(1, 2000, n)


def fit(points, **settings):
    """Return the spline for requirements without their prefix."""
    settings = {
        "niter_boundary_extension": 0,
        "knots_splfit": 3,
    } | settings
    requirements = Requirements(
        mm_boundary_fit="spline", **{f"mm_{k}": v for k, v in settings.items()}
    )
    return fit_spline(points, requirements, GAIN, READNOISE)


class TestPiecewise:
    """Straight lines through points."""

    X, Y = np.array([10.0, 50, 400]), np.array([30.0, 40, 20])

    @pytest.fixture
    def boundary(self):
        """Lines through three points."""
        return PiecewiseBoundary(self.X, self.Y, (10, 400), GAIN, READNOISE)

    def test_inside(self, boundary):
        """Between the points it is numpy's interpolation."""
        x = np.linspace(10, 400, 977)
        assert_allclose(boundary(x), np.interp(x, self.X, self.Y), rtol=RTOL)
        assert boundary(x).dtype == np.float32

    def test_below(self, boundary):
        """Below the first point it is constant."""
        assert boundary(np.array([-1e6, -3, 0, 9.99])).tolist() == [30] * 4

    @pytest.mark.parametrize(("gain", "readnoise"), [(1.0, 0.0), (2.0, 5.0), (0.5, 30)])
    def test_above(self, gain, readnoise):
        """Above the last point it grows like the noise."""
        boundary = PiecewiseBoundary(self.X, self.Y, (10, 400), gain, readnoise)
        x = np.array([400.001, 500, 1e4, 6e4])
        ratio = noise_of(x, gain, readnoise) / noise_of(400, gain, readnoise)
        assert_allclose(boundary(x), 20 * ratio, rtol=RTOL)

    def test_images(self, boundary):
        """An image gives an image, and is left as it is."""
        x = np.array([[5, 30], [1000, 400]], dtype=np.float32)
        copy = x.copy()
        assert boundary(x).shape == (2, 2)
        assert_allclose(boundary(x).ravel(), boundary(x.ravel()))
        assert_array_equal(x, copy)

    def test_repr(self, boundary):
        """One short line."""
        assert repr(boundary) == "<PiecewiseBoundary(3 points)>"


class TestSpline:
    """The spline that never decreases."""

    @pytest.mark.parametrize("seed", range(12))
    def test_never_decreases(self, seed):
        """However the points lie, a larger x has no smaller boundary."""
        rng = np.random.default_rng(seed)
        n = rng.integers(1, 100)
        x = np.sort(rng.uniform(-50, 10 ** rng.uniform(2, 4), n))
        y = rng.uniform(0, 100, n)
        fixed = list(zip(rng.uniform(0, 500, 2), rng.uniform(0, 100, 2), strict=True))
        boundary = fit(
            (x, y, rng.integers(1, 1000, n)),
            niter_boundary_extension=3,
            knots_splfit=int(rng.integers(2, 12)),
            fixed_points_in_boundary=fixed if seed % 2 else None,
        )
        dense = np.linspace(x[0] - 100, 3 * x[-1] + 100, 20_001)
        values = boundary(dense).astype(float)
        assert np.isfinite(values).all()
        # To the rounding of float32.
        assert np.diff(values).min() >= -RTOL * np.abs(values).max()

    @pytest.mark.parametrize("knots", [2, 3, 4, 6])
    def test_plain_least_squares(self, knots):
        """Without extension it is the weighted least-squares spline in the noise."""
        x, y, weight = points_of(scatter=0.005)
        noise = noise_of(x)
        inner = np.linspace(noise[0], noise[-1], knots)
        t = np.concatenate([[inner[0]] * 3, inner, [inner[-1]] * 3])
        other = make_lsq_spline(noise, y, t, k=3, w=np.sqrt(weight))
        assert np.all(np.diff(other.c) > 0)  # else the constraints matter
        boundary = fit((x, y, weight), knots_splfit=knots)
        assert len(boundary.fits) == 1
        assert_allclose(boundary(x), other(noise), rtol=1e-5)

    def test_constrained_least_squares(self):
        """Where points decrease the best spline that does not is their mean."""
        x, y = np.linspace(0, 1000, 50), np.linspace(90, 10, 50)
        weight = np.arange(1, 51)
        boundary = fit((x, y, weight))
        # Any other spline that never decreases is worse: the projection on the
        # cone of increasing functions of decreasing data is their weighted mean.
        assert_allclose(boundary(x), np.average(y, weights=weight), rtol=1e-4)

    def test_weights(self):
        """Points count as often as their weight says."""
        x, y, weight = points_of(n=60, scatter=0.03)
        weight = np.random.default_rng(2).integers(1, 4, 60)
        repeated = [np.repeat(part, weight) for part in (x, y)]
        once = fit((*repeated, np.ones(weight.sum())))
        assert_allclose(fit((x, y, weight))(x), once(x), rtol=1e-5)

    @pytest.mark.parametrize("knots", [2, 3, 5, 9])
    def test_knots(self, knots):
        """As many as required, ends included, equally far apart in the noise."""
        x, y, weight = points_of()
        (spline,) = fit((x, y, weight), knots_splfit=knots).fits
        found = np.unique(spline.t)
        assert_allclose(found, np.linspace(noise_of(x[0]), noise_of(x[-1]), knots))
        assert len(spline.c) == knots + 2  # a cubic spline

    def test_more_knots_fit_better(self):
        """The least squares of a refined spline are smaller."""
        x, _, weight = points_of()
        y = np.where(noise_of(x) > 45, 300, 50) + noise_of(x)
        rms = [
            np.average(
                (fit((x, y, weight), knots_splfit=n)(x) - y) ** 2, weights=weight
            )
            for n in (2, 3, 5, 9)
        ]
        assert np.all(np.diff(rms) < 0)
        assert rms[-1] < 0.5 * rms[0]

    def test_same_as_its_spline(self):
        """Values are those of the last fit, in the noise."""
        x, y, weight = points_of()
        boundary = fit((x, y, weight), niter_boundary_extension=2)
        dense = np.linspace(x[0], x[-1], 1001)
        assert_allclose(boundary(dense), boundary.fits[-1](noise_of(dense)), rtol=1e-5)

    def test_outside(self):
        """Constant below the points, like the noise above."""
        x, y, weight = points_of(low=20)
        boundary = fit((x, y, weight))
        first, last = boundary(x[[0, -1]])
        assert_allclose(boundary(np.array([-100, 0, x[0] - 1])), first)
        above = np.array([1.001, 2, 15]) * x[-1]
        expected = last * noise_of(above) / noise_of(x[-1])
        assert_allclose(boundary(above), expected, rtol=1e-5)
        assert boundary.limits == (x[0], x[-1])

    @pytest.mark.parametrize("n", [1, 2])
    def test_few_points(self, n):
        """One or two points are met."""
        x, y = np.array([10.0, 500])[:n], np.array([7.0, 60])[:n]
        boundary = fit((x, y, np.ones(n)), niter_boundary_extension=3)
        assert_allclose(boundary(x), y, rtol=1e-3)

    def test_negative_x(self):
        """Where the signal is negative the noise is that of the readout."""
        x = np.linspace(-20, -1, 10)
        boundary = fit((x, np.full(10, 8.0), np.ones(10)))
        assert_allclose(boundary(np.array([-30.0, -20, -5, -1])), 8, rtol=1e-5)
        assert isinstance(boundary, SplineBoundary)

    def test_repr(self):
        """One short line."""
        x, y = np.array([10.0, 500]), np.array([7.0, 60])
        text = "<SplineBoundary(2 points, x = 10 to 500)>"
        assert repr(fit((x, y, np.ones(2)))) == text


class TestExtension:
    """Lifting the spline to the upper edge of the points."""

    @pytest.mark.parametrize("niter", [0, 1, 3, 5])
    def test_fits(self, niter):
        """One fit more than extensions; the first is always the plain one."""
        points = points_of()
        boundary = fit(points, niter_boundary_extension=niter)
        assert len(boundary.fits) == niter + 1
        assert_allclose(boundary.fits[0].c, fit(points).fits[0].c)

    @pytest.mark.parametrize("seed", range(4))
    def test_lifts(self, seed):
        """More iterations leave fewer points above; all is higher than before."""
        x, y, weight = points_of(seed)
        boundaries = [
            fit((x, y, weight), niter_boundary_extension=n)(x) for n in (0, 1, 3)
        ]
        above = [np.sum(y > boundary) for boundary in boundaries]
        assert above[0] > above[1] > above[2]
        assert above[0] > 0.3 * len(x)
        assert above[2] < 0.15 * len(x)
        assert np.mean(boundaries[0]) < np.mean(boundaries[1]) < np.mean(boundaries[2])

    def test_weight(self):
        """A larger weight lifts more; a weight of 1 nothing at all."""
        x, y, weight = points_of()
        plain = fit((x, y, weight))(x)
        means = []
        for factor in (1, 3, 30):
            boundary = fit(
                (x, y, weight),
                niter_boundary_extension=2,
                weight_boundary_extension=factor,
            )
            means.append(boundary(x).mean())
            assert np.allclose(boundary(x), plain, rtol=1e-6) == (factor == 1)
        assert means[0] < means[1] < means[2]

    def test_first_extension(self):
        """Points above the plain fit get their weight times the factor, others not."""
        x, y, weight = points_of(scatter=0.05)
        plain = fit((x, y, weight))(x)
        lifted = fit((x, y, np.where(y > plain, weight * 7, weight)))
        boundary = fit(
            (x, y, weight), niter_boundary_extension=1, weight_boundary_extension=7
        )
        assert_allclose(boundary(x), lifted(x), rtol=1e-5)

    def test_second_extension(self):
        """The second time the factor is squared."""
        x, y, weight = points_of(scatter=0.05)
        once = fit(
            (x, y, weight), niter_boundary_extension=1, weight_boundary_extension=7
        )
        lifted = fit((x, y, np.where(y > once(x), weight * 49, weight)))
        boundary = fit(
            (x, y, weight), niter_boundary_extension=2, weight_boundary_extension=7
        )
        assert_allclose(boundary(x), lifted(x), rtol=1e-5)


class TestFixedPoints:
    """Points that pin the spline."""

    @pytest.mark.parametrize("niter", [0, 3])
    def test_met(self, niter):
        """The default weight wins over all other points together."""
        points = points_of()
        fixed = [[100, 60], [1000, 120], [2500, 400]]
        boundary = fit(
            points, fixed_points_in_boundary=fixed, niter_boundary_extension=niter
        )
        x, y = np.array(fixed).T
        assert np.abs(fit(points)(x) - y).min() > 10
        # 80 points of relative weight 1 or less against 10000.
        assert_allclose(boundary(x), y, rtol=0.02)

    def test_weight(self):
        """The weight is relative to the largest of all other points."""
        x, y, weight = points_of(scatter=0.05)
        extra = (
            np.append(x, 1500),
            np.append(y, 300),
            np.append(weight, 4 * max(weight)),
        )
        boundary = fit((x, y, weight), fixed_points_in_boundary=[[1500, 300, 4]])
        assert_allclose(boundary(x), fit(extra)(x), rtol=1e-4)

    def test_tiny_weight(self):
        """A weight of next to nothing has no effect."""
        x, y, weight = points_of(scatter=0.05)
        boundary = fit((x, y, weight), fixed_points_in_boundary=[[1500, 900, 1e-9]])
        assert_allclose(boundary(x), fit((x, y, weight))(x), rtol=1e-4)

    def test_beyond_the_points(self):
        """The fitted range includes them."""
        boundary = fit(
            points_of(high=2000), fixed_points_in_boundary=[[0, 5], [9000, 700]]
        )
        assert boundary.limits == (0, 9000)
        assert_allclose(boundary(np.array([-5, 0, 9000])), [5, 5, 700], rtol=0.02)
        assert len(boundary.x) == 80
