# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tests of the computed boundary.

How many pixels are above is counted on fresh simulated exposures.
"""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.testing import assert_allclose
from scipy.optimize import brentq
from scipy.stats import norm

from ccdcr.exposures import CCDParameters
from ccdcr.median_minimum.exact_statistics import EqualExposures, describe_exposures
from ccdcr.median_minimum.noise_distribution import PhotonNoise
from ccdcr.median_minimum.order_statistics import Given, GivenIndex, Ordered
from ccdcr.median_minimum.prior import find_prior, make_histogram, make_surfaces

SIZE = 512
WANTED = 100.0  # false pixels of an image
IMAGES = 3


def scene(kind):
    """Return expected electrons."""
    x = np.linspace(0, 1, SIZE)
    if kind == "structured":
        return np.outer(0.2 + x, 5 + 20_000 * np.exp(-(((x - 0.5) / 0.1) ** 2)))
    return np.full((SIZE, SIZE), {"flat": 100.0, "dark": 0.0, "faint": 3.0}[kind])


def draw(level, factors, sigmas, gain, shape, rng):
    """Return exposures in adu, divided by their factors."""
    factors = np.reshape(factors, (-1, 1, 1))
    expected = factors * level
    if np.isinf(shape):
        photons = rng.poisson(expected)
    else:
        photons = rng.negative_binomial(shape, shape / (shape + expected))
    noise = rng.normal(size=expected.shape) * np.reshape(sigmas, (-1, 1, 1))
    return ((photons + noise) / gain / factors).astype(np.float32)


def surfaces_of(stack, exposures, lowest, statistics):
    """Return what the exposures say."""
    histogram = make_histogram(stack.min(axis=0), None, exposures)
    prior = find_prior(histogram, exposures)
    return make_surfaces(prior, exposures, lowest, statistics)


@pytest.mark.parametrize(
    ("kind", "n", "factors", "readnoise", "gain", "shape"),
    [
        ("structured", 3, None, 3.0, 1.0, np.inf),
        ("structured", 4, None, 1.5, 2.0, np.inf),
        ("structured", 5, None, 12.0, 1.0, np.inf),
        ("structured", 4, None, 3.0, 1.0, 20.0),
        ("structured", 3, (0.6, 1.0, 1.5), 3.0, 1.0, np.inf),
        ("structured", 4, (0.8, 0.9, 1.1, 1.3), 3.0, 1.0, np.inf),
        ("structured", 5, (0.7, 0.85, 1.0, 1.15, 1.3), 3.0, 2.0, np.inf),
        ("structured", 3, (0.6, 1.0, 1.5), 3.0, 1.0, 20.0),
        ("structured", 4, (0.95, 1, 1, 1.05), 3.0, 1.0, np.inf),
        ("faint", 3, None, 0.5, 1.0, np.inf),
        ("flat", 3, None, 3.0, 1.0, np.inf),
        ("dark", 3, None, 3.0, 1.0, np.inf),
    ],
)
def test_calibration(kind, n, factors, readnoise, gain, shape):
    """
    As many pixels of noise are above as were requested.

    In 3 fresh images of the scene 300 are expected, with a scatter of 6 %; four
    standard deviations are allowed, and 15 % more where all pixels expect the same
    signal: there expectation maximisation ends on the safe side.
    """
    level, rng = scene(kind), np.random.default_rng([7, n])
    given = np.ones(n) if factors is None else np.array(factors, dtype=float)
    exposures = describe_exposures(CCDParameters(gain, readnoise, 0.0), given, shape)
    equal = isinstance(exposures, EqualExposures)
    lowest, rank = (2 if equal and n >= 4 else 1), n - (n + 1) // 2 + 1
    last = Given(n) if equal else GivenIndex(n - 1)
    statistics = {"median": Ordered(rank), "any": Ordered(n), "given": last}
    args = given, np.full(n, readnoise), gain, shape, rng
    surfaces = surfaces_of(draw(level, *args), exposures, lowest, statistics)
    boundaries = {k: surfaces.boundary(k, WANTED / level.size) for k in statistics}
    found = dict.fromkeys(statistics, 0)
    for _ in range(IMAGES):
        stack = draw(level, *args)
        ordered = np.sort(stack, axis=0)
        x = ordered[:lowest].mean(axis=0)
        for name, top in (
            ("median", ordered[rank - 1]),
            ("any", ordered[-1]),
            ("given", stack[-1]),
        ):
            found[name] += np.count_nonzero(top - x > boundaries[name](x))
    margin = 4 * np.sqrt(IMAGES * WANTED)
    shortcut = 0.1 if equal and factors is not None else 0
    for number in found.values():
        assert number < IMAGES * WANTED * (1 + shortcut) + margin
        safe = 0.85 if kind != "structured" else 1 - shortcut
        assert number > IMAGES * WANTED * safe - margin


@pytest.fixture(scope="module")
def surfaces():
    """Return surfaces of three exposures, in adu of 2 electrons."""
    exposures = EqualExposures(PhotonNoise(3.0), 3, 2.0)
    rng = np.random.default_rng(3)
    stack = draw(scene("structured"), np.ones(3), np.full(3, 3.0), 2.0, np.inf, rng)
    statistics = {"median": Ordered(2), "any": Ordered(3), "given": Given(3)}
    return surfaces_of(stack, exposures, 1, statistics)


@pytest.fixture(scope="module")
def boundary(surfaces):
    """Return a boundary of the median."""
    return surfaces.boundary("median", 1e-5)


class TestBoundary:
    """Values and their law."""

    @pytest.mark.parametrize("p_value", [0.3, 1e-3, 1e-7])
    @pytest.mark.parametrize("name", ["median", "any", "given"])
    def test_survival(self, surfaces, name, p_value):
        """At the boundary the chance to be above is the p-value."""
        boundary = surfaces.boundary(name, p_value)
        x = np.linspace(boundary.x[0] - 20, boundary.x[-1] * 1.5, 500)
        p = boundary.survival(x, boundary(x))
        # Levels are interpolated: half a per cent of sqrt(-ln p).
        assert_allclose(np.sqrt(-np.log(p)), np.sqrt(-np.log(p_value)), rtol=5e-3)

    def test_survival_falls(self, boundary):
        """Higher points are less likely; below the reference all are above."""
        y = np.linspace(-5, 300, 400)
        for x in (-30.0, 0.0, 50.0, 5000.0):
            p = boundary.survival(x, y)
            assert np.all(np.diff(p) <= 0)
            # Where x is below the grid there must be more.
            assert x < boundary.x[0] or p[0] == 1
        assert boundary.survival(50.0, 1e6) == pytest.approx(5e-22, rel=0.1)

    def test_normal(self):
        """Far above 0, with a flat prior, it is that of normal noise."""
        level = np.geomspace(1e4, 4e4, SIZE**2).reshape(SIZE, SIZE)
        rng = np.random.default_rng(1)
        stack = draw(level, np.ones(3), np.full(3, 3.0), 1.0, np.inf, rng)
        exposures = EqualExposures(PhotonNoise(3.0), 3, 1.0)
        surfaces = surfaces_of(stack, exposures, 1, {"given": Given(3)})
        found = surfaces.boundary("given", 1e-3)(np.array([2e4]))

        def chance(y):
            # Of three normal values, given the lowest: with a flat prior of the
            # level z, the chance of a given one to be above the lowest by y.
            z = np.linspace(-9, 9, 4001)
            total = 2 * norm.pdf(z) * norm.sf(z) * norm.sf(z + y)
            return np.sum(total) * (z[1] - z[0])

        expected = brentq(lambda y: chance(y) - 1e-3, 1, 8)
        # The noise grows a little from x to x + y.
        assert found[0] / np.sqrt(2e4) == pytest.approx(expected, rel=0.02)

    @pytest.mark.parametrize("p_value", [0.1, 1e-4, 1e-8])
    @pytest.mark.parametrize("name", ["median", "any", "given"])
    def test_never_decreases(self, surfaces, name, p_value):
        """The limit x + y never decreases."""
        boundary = surfaces.boundary(name, p_value)
        x = np.linspace(boundary.x[0] - 50, 1.5 * boundary.x[-1], 20_000)
        limit = x + boundary(x).astype(float)
        # Rounding of float32 boundaries of some thousands.
        assert np.all(np.diff(limit) > -2e-3)

    def test_below(self, boundary):
        """Below the grid x + y is constant."""
        x = boundary.x[0] - np.array([0, 1, 10, 1000])
        assert_allclose(x + boundary(x), x[0] + boundary(x[0]), rtol=1e-5)

    def test_above(self, boundary):
        """Above it the boundary grows like the noise."""
        x = boundary.x[-1] * np.array([1, 2, 30])
        noise = np.sqrt(2 * x + 9)
        assert_allclose(boundary(x) / noise, boundary(x[0]) / noise[0], rtol=1e-5)

    def test_dtype(self, boundary):
        """Any shape, as float32."""
        image = boundary(np.full((3, 4), 20.0, dtype=np.float32))
        assert image.shape == (3, 4)
        assert image.dtype == np.float32
        assert float(boundary(20.0)) == pytest.approx(image[0, 0])

    def test_p_values(self, surfaces):
        """Lower p-values are higher boundaries; the highest exposure is above."""
        x = np.linspace(-5, 5000, 300)
        heights = [surfaces.boundary("median", p)(x) for p in (1e-2, 1e-4, 1e-6)]
        assert np.all(np.diff(heights, axis=0) > 0)
        for p in (1e-2, 1e-6):
            assert np.all(
                surfaces.boundary("any", p)(x) > surfaces.boundary("median", p)(x)
            )

    def test_units(self, surfaces):
        """The unit of the data is 2 electrons."""
        boundary = surfaces.boundary("median", 1e-5)
        signal = boundary.x * 2
        ratio = boundary.y * 2 / np.sqrt(np.maximum(signal, 0) + 9)
        # Standard deviations, where most pixels are above the reference.
        assert np.all((ratio[signal > 20] > 2) & (ratio[signal > 20] < 9))


class TestShown:
    """What is shown of it."""

    def test_repr(self, boundary):
        """One line with statistic, number, p-value and range."""
        text = repr(boundary)
        assert text.startswith("<ExactBoundary(median of 3, p = 1.00e-05, x = ")
        assert f"{boundary.x[-1]:.4g}" in text
        assert "\n" not in text

    def test_table(self, boundary):
        """Support points, at which it has these values."""
        table = boundary.table
        assert table.colnames == ["x", "y"]
        assert_allclose(boundary(np.asarray(table["x"])), table["y"], rtol=1e-5)
        assert np.all(np.diff(table["x"]) > 0)

    def test_plot(self, boundary):
        """A line of the support points, on the given axes."""
        ax = Figure().add_subplot()
        line = boundary.plot(ax, color="red", label="limit")
        assert isinstance(line, Line2D)
        assert line in ax.lines
        assert (line.get_color(), line.get_label()) == ("red", "limit")
        assert_allclose(line.get_xydata(), np.column_stack([boundary.x, boundary.y]))

    def test_plot_without_display(self, boundary):
        """Without axes those of pyplot are used, which needs no display."""
        assert mpl.get_backend().lower() == "agg"
        line = boundary.plot()
        assert line.axes is plt.gca()
        assert "1.0e-05" in line.get_label()
        plt.close("all")
