# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the figures that masks and exposures make: what the artists hold."""

import pickle
import subprocess
import sys
from inspect import signature

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from matplotlib.backend_bases import MouseEvent
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.testing import assert_allclose, assert_array_equal

from ccdcr import CRMaskSet, detect_cosmic_rays
from ccdcr.matching.match import Deviations
from ccdcr.plotting import (
    plot_boundary,
    plot_comparison,
    plot_detections,
    plot_deviations,
    plot_diagram,
    plot_equivalence,
    plot_flux_factors,
    plot_masks,
    plot_offsets,
    plot_stamps,
)
from ccdcr.simulation import simulate_exposures

KNOWN = {
    "gain": "GAIN",
    "readnoise": "RDNOISE",
    "la_verbose": False,
    "crmethod": "mm_lacosmic",
}


@pytest.fixture(scope="module")
def sim():
    """Three exposures with truth."""
    return simulate_exposures((100, 120), scene="fibres", seed=1)


@pytest.fixture(scope="module")
def masks(sim):
    """Masks with the exact boundary."""
    return detect_cosmic_rays(sim.exposures, **KNOWN)


@pytest.fixture(scope="module")
def fitted(sim):
    """Masks with a spline through simulations and two fixed points."""
    return detect_cosmic_rays(
        sim.exposures,
        mm_boundary_fit="spline",
        mm_fixed_points_in_boundary=[[200, 90], [800, 160, 0.5]],
        **KNOWN,
    )


def small_masks():
    """Masks of 4 x 5 pixels; (x, y) = (3, 2) is hit in two exposures."""
    crmasks = np.zeros((3, 4, 5), dtype=bool)
    crmasks[:2, 1, 2] = True
    crmasks[2, 3, 4] = True
    return CRMaskSet(crmasks.sum(axis=0) > 1, crmasks.any(axis=0), crmasks)


def small_exposures(unit="adu"):
    """Exposures of small_masks: 10, and 100 where they are hit."""
    data = np.full((3, 4, 5), 10.0)
    data[:2, 1, 2] = 100, 90
    data[2, 3, 4] = 100
    return [CCDData(plane, unit=unit) for plane in data]


def artists_of(plot, *args, **kwargs):
    """Return the artists that a function draws on a given figure or axes."""
    fig = Figure(layout="constrained")
    if "ax" in signature(plot).parameters:
        return plot(*args, ax=fig.subplots(), **kwargs)
    return plot(*args, fig=fig, **kwargs)


def test_no_matplotlib():
    """Neither the package nor its figures import matplotlib before they draw."""
    code = (
        "import sys, ccdcr, ccdcr.plotting, ccdcr.report\n"
        "sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestDiagram:
    """The Median-Minimum diagram."""

    @pytest.mark.parametrize("which", ["masks", "fitted"])
    def test_histograms(self, which, request):
        """What is drawn is the diagram; one logarithmic scale for both."""
        masks = request.getfixturevalue(which)
        diagram = masks.diagnostics.diagrams["MEDIANCR"]
        artists = artists_of(plot_diagram, masks)
        per_set = diagram.simulated / diagram.n_simulations
        for name, counts in (("simulated", per_set), ("observed", diagram.observed)):
            shown = artists[name].get_array()
            assert_allclose(np.ma.getdata(shown), counts.T)
            assert_array_equal(np.ma.getmaskarray(shown), counts.T < 0.1)
            assert type(artists[name].norm).__name__ == "LogNorm"
        assert artists["simulated"].norm is artists["observed"].norm
        ax = artists["observed"].axes
        assert ax.get_xlim() == tuple(diagram.x_edges[[0, -1]])
        assert ax.get_ylim() == tuple(diagram.y_edges[[0, -1]])

    def test_exact_boundary(self, masks):
        """The line is the boundary, in both panels."""
        artists = artists_of(plot_diagram, masks)
        assert set(artists) == {"simulated", "observed", "boundary"}
        boundary = masks.diagnostics.boundaries["MEDIANCR"]
        assert len(artists["boundary"]) == 2
        for line in artists["boundary"]:
            x, y = line.get_data()
            assert_allclose(y, boundary(x))

    def test_fits(self, fitted):
        """Points, all iterations but the last, the last, and the fixed points."""
        boundary = fitted.diagnostics.boundaries["MEDIANCR"]
        artists = artists_of(plot_diagram, fitted)
        assert_array_equal(artists["points"][0].get_xdata(), boundary.x)
        assert_array_equal(artists["points"][0].get_ydata(), boundary.y)
        earlier = len(boundary.fits) - 1
        assert earlier == fitted.requirements.mm_niter_boundary_extension
        assert len(artists["fits"]) == 2 * earlier
        for fit, line in zip(boundary.fits, artists["fits"][:earlier], strict=False):
            x, y = line.get_data()
            # Gain 1 and read noise 3 electrons.
            assert_allclose(y, fit(np.sqrt(np.maximum(x, 0) + 9)))
        assert_array_equal(
            artists["fixed"][0].get_xydata(), [[200.0, 90.0], [800.0, 160.0]]
        )

    def test_labels(self, masks):
        """Axes have units, those that are given."""
        artists = artists_of(plot_diagram, masks, "MEANCRT", unit=u.electron)
        ax = artists["simulated"].axes
        assert ax.get_xlabel() == "minimum over the exposures (electron)"
        assert ax.get_ylabel() == "highest exposure \N{MINUS SIGN} minimum (electron)"
        assert ax.figure.get_suptitle() == "Median-Minimum diagram of MEANCRT"

    def test_figure(self, masks):
        """It draws on the figure that is given, and on no other."""
        fig = Figure()
        assert plot_diagram(masks, fig=fig)["simulated"].figure is fig

    def test_missing(self, masks):
        """Masks from a file have no diagram."""
        with pytest.raises(ValueError, match="no Median-Minimum diagram of MEDIANCR"):
            plot_diagram(small_masks())
        with pytest.raises(ValueError, match=r"diagram of CRMASK9 \(of: MEDIANCR, "):
            plot_diagram(masks, "CRMASK9")

    @pytest.mark.parametrize("which", ["masks", "fitted"])
    def test_boundary_alone(self, which, request):
        """A boundary on axes that are there, in its own range."""
        boundary = request.getfixturevalue(which).diagnostics.boundaries["MEANCRT"]
        ax = Figure().subplots()
        line = plot_boundary(boundary, ax=ax, color="red")
        assert line.axes is ax
        assert line.get_color() == "red"
        assert_allclose(line.get_xdata()[[0, -1]], boundary.x[[0, -1]])
        assert_allclose(line.get_ydata(), boundary(line.get_xdata()))


class TestDetections:
    """Pixels by detector."""

    def test_pixels(self, sim, masks):
        """Every masked pixel is drawn once in each panel, in FITS pixels."""
        artists = artists_of(plot_detections, sim.exposures, masks)
        labels = {1: "dilation only", 2: "comparison only", 3: "single image only"}
        flags = masks.diagnostics.flags["MEDIANCR"]
        median = np.median([ccd.data for ccd in sim.exposures], axis=0)
        minimum = np.min([ccd.data for ccd in sim.exposures], axis=0)
        for flag, label in labels.items():
            y, x = np.nonzero(flags == flag)
            assert len(x) > 0
            assert_array_equal(
                artists["image"][label].get_xydata(), np.column_stack([x, y]) + 1
            )
            assert_allclose(
                artists["diagram"][label].get_xydata(),
                np.column_stack([minimum[y, x], (median - minimum)[y, x]]),
                rtol=1e-4,
                atol=1e-3,
            )
            assert f"({len(x)})" in artists["image"][label].get_label()

    def test_link(self, sim, masks):
        """A click on a pixel marks it in both panels; a click elsewhere none."""
        artists = artists_of(plot_detections, sim.exposures, masks)
        line = artists["image"]["comparison only"]
        canvas = line.figure.canvas
        canvas.draw()
        place = line.axes.transData.transform(line.get_xydata()[3])
        MouseEvent("button_press_event", canvas, *place + 1, button=1)._process()
        left, right = artists["selected"]
        assert_array_equal(right.get_xydata(), line.get_xydata()[[3]])
        other = artists["diagram"]["comparison only"]
        assert_array_equal(left.get_xydata(), other.get_xydata()[[3]])
        corner = line.axes.transAxes.transform((0.5, 0.5))
        before = right.get_xydata()
        MouseEvent("button_press_event", canvas, *corner, button=1)._process()
        assert_array_equal(right.get_xydata(), before)

    def test_no_diagnostics(self):
        """Masks from a file: their pixels, of a detector that is not known."""
        artists = artists_of(plot_detections, small_exposures(), small_masks())
        assert list(artists["image"]) == ["detector not known"]
        line = artists["image"]["detector not known"]
        assert_array_equal(line.get_xydata(), [[3, 2]])
        # Median 90 of 100, 90 and 10.
        line = artists["diagram"]["detector not known"]
        assert_array_equal(line.get_xydata(), [[10, 80]])

    def test_nothing(self):
        """No masked pixel, no line."""
        nothing = np.zeros((3, 4, 5), dtype=bool)
        masks = CRMaskSet(nothing[0], nothing[0], nothing)
        artists = artists_of(plot_detections, small_exposures(), masks)
        assert artists["image"] == artists["diagram"] == {}
        artists["selected"][0].figure.canvas.draw()


class TestStamps:
    """Stamps of one detection."""

    def test_images(self):
        """Exposures, median, mask and corrected image at their place."""
        artists = artists_of(
            plot_stamps, small_exposures(), small_masks(), x=3, y=2, semiwindow=1
        )
        titles = ["exposure 1", "exposure 2", "exposure 3", "median", "MEDIANCR"]
        assert list(artists) == [*titles, "corrected"]
        centre = {t: a.get_array()[1, 1] for t, a in artists.items() if t != "MEDIANCR"}
        assert centre == {
            "exposure 1": 100,
            "exposure 2": 90,
            "exposure 3": 10,
            "median": 90,
            "corrected": 10,
        }
        for artist in artists.values():
            assert tuple(artist.get_extent()) == (1.5, 4.5, 0.5, 3.5)
            assert artist.origin == "lower"
        colors = artists["MEDIANCR"].get_array()
        masked = np.any(colors != 255, axis=-1)
        assert_array_equal(np.argwhere(masked), [[1, 1]])

    @pytest.mark.parametrize("name", ["MEANCRT", "CRMASK1", "EVERY"])
    def test_name(self, name):
        """Another mask."""
        masks = small_masks()
        artists = artists_of(plot_stamps, small_exposures(), masks, x=3, y=2, name=name)
        expected = masks.planes.get(name, masks.crmasks.all(axis=0))
        masked = np.any(artists[name].get_array() != 255, axis=-1)
        assert_array_equal(masked, expected)

    @pytest.mark.parametrize(
        ("color_scale", "limits"), [("minmax", (10, 100)), ("zscale", None)]
    )
    def test_color_scale(self, color_scale, limits):
        """One grey scale for all; that of the requirements is the default."""
        args = (small_exposures(), small_masks())
        artists = artists_of(plot_stamps, *args, x=3, y=2, color_scale=color_scale)
        norms = {id(a.norm) for t, a in artists.items() if t != "MEDIANCR"}
        assert len(norms) == 1
        if limits:
            assert artists["median"].get_clim() == limits
        else:
            same = artists_of(plot_stamps, *args, x=3, y=2)
            assert artists["median"].get_clim() == same["median"].get_clim()

    def test_bias_and_electrons(self):
        """The bias is subtracted; that of the masks is in adu."""
        masks = CRMaskSet(
            *(small_masks().planes[n] for n in ("MEDIANCR", "MEANCRT")),
            small_masks().crmasks,
            gain=2.0,
            bias=3.0,
        )
        for unit, bias in (("adu", 3), ("electron", 6)):
            artists = artists_of(plot_stamps, small_exposures(unit), masks, x=3, y=2)
            assert artists["corrected"].get_array()[1, 2] == 10 - bias

    @pytest.mark.parametrize(
        ("kwargs", "match"),
        [
            ({"x": 6, "y": 1}, "images of 5 x 4 pixels, got 6, 1"),
            ({"x": 1, "y": 0}, "images of 5 x 4 pixels, got 1, 0"),
            ({"x": 1, "y": 1, "name": "X"}, "name of a mask must be one of MEDIANCR"),
            ({"x": 1, "y": 1, "color_scale": "log"}, "'zscale' or 'minmax', got 'log'"),
        ],
    )
    def test_refused(self, kwargs, match):
        """Pixels outside, names and scales that do not exist."""
        with pytest.raises(ValueError, match=match):
            plot_stamps(small_exposures(), small_masks(), **kwargs)

    def test_other_exposures(self):
        """Exposures that do not fit the masks."""
        with pytest.raises(ValueError, match=r"3 exposures of shape \(4, 5\)"):
            plot_stamps(small_exposures()[:2], small_masks(), x=1, y=1)
        with pytest.raises(TypeError, match="masks must be a CRMaskSet or a file"):
            plot_stamps(small_exposures(), small_exposures(), x=1, y=1)


FLUX, SHIFTS = np.array([0.9, 1.0, 1.1]), [(0.2, 0.0), (-0.1, 0.1), (-0.1, -0.1)]


@pytest.fixture(scope="module")
def matched():
    """Exposures of other flux and position, and masks of the matched ones."""
    sim = simulate_exposures((200, 220), scene="stars", flux=FLUX, shift=SHIFTS, seed=6)
    known = KNOWN | {"crmethod": "matched"}
    return sim, detect_cosmic_rays(sim.exposures, **known)


class TestEquivalence:
    """How equivalent the exposures are."""

    def test_values(self, matched):
        """The lines and maps are those of the report."""
        _, masks = matched
        report = masks.equivalence
        artists = artists_of(plot_equivalence, report, unit="adu")
        for line, column in zip(artists["levels"], ("before", "after"), strict=True):
            assert_array_equal(line.get_xdata(), report.levels["level"])
            assert_array_equal(line.get_ydata(), report.levels[column])
        for name, maps in report.maps.items():
            for image, plane in zip(artists[name], maps, strict=True):
                assert_array_equal(image.get_array(), plane)

    def test_labels(self, matched):
        """Axes have units."""
        fig = Figure(figsize=(11, 9), layout="constrained")
        plot_equivalence(matched[1].equivalence, unit="adu", fig=fig)
        texts = [text.get_text() for text in fig.findobj(Text)]
        for label in ("x (pixel)", "exposure 3\ny (pixel)", "background (adu)"):
            assert label in texts

    def test_refused(self, matched):
        """A mask set is not its report."""
        with pytest.raises(TypeError, match=r"got CRMaskSet; pass masks.equivalence"):
            plot_equivalence(matched[1])
        with pytest.raises(TypeError, match="equivalence must be an Equivalence, got"):
            plot_equivalence(None)

    def test_deviations(self, matched):
        """All pixels are counted; the body is what the noise explains."""
        sim, masks = matched
        artists = artists_of(plot_deviations, masks)
        expected, observed = (
            np.asarray(artists[name].get_array().filled(0))
            for name in ("expected", "observed")
        )
        assert expected.shape == observed.shape
        total = 3 * sim.exposures[0].data.size
        assert 0.99 * total < expected.sum() < total
        assert 0.96 * total < observed.sum() < total
        y = np.linspace(-8, 15, len(observed) + 1)
        low = y[1:] < -1.0
        assert observed[low].sum() == pytest.approx(expected[low].sum(), rel=0.15)
        # Hits are above the limits, most of them above 15 sigma.
        hits = observed[y[:-1] >= 5].sum()
        assert 0.1 * masks.crmasks.sum() < hits < masks.crmasks.sum()
        assert expected[y[:-1] >= 5].sum() < 1
        values = [line.get_ydata()[0] for line in artists["limits"]]
        assert values == [5, 4] * 2

    def test_counts(self):
        """Numbers of pixels as numpy counts them; large images by rows."""
        rng = np.random.default_rng(2)
        level = rng.normal(100, 20, (1000, 900)).astype(np.float32)
        z = rng.normal(0, 3, (3, 1000, 900)).astype(np.float32)
        z[0, :, ::7], z[1, :, ::5] = -np.inf, 1e30
        found = Deviations.count(level, z)
        assert found.step == 1
        expected, number = np.zeros(found.counts.shape), np.zeros(len(found.number))
        for plane in z:
            known = np.isfinite(plane)
            edges = [found.x, found.y]
            expected += np.histogram2d(level[known], plane[known], edges)[0]
            number += np.histogram(level[known], found.x)[0]
        # Cells differ by rounding at their edges.
        assert np.abs(found.counts - expected).sum() < 1e-3 * expected.sum()
        assert np.abs(found.number - number).sum() < 1e-3 * number.sum()
        every, sampled = np.tile(level, (2, 1)), np.tile(z, (1, 2, 1))[:, ::3]
        half = Deviations.count(every, sampled, 3)
        assert half.step == 3
        assert half.number.sum() == pytest.approx(2 / 3 * number.sum(), rel=0.01)

    def test_no_deviations(self, masks):
        """Other masks have none."""
        with pytest.raises(ValueError, match="no deviations of matched exposures"):
            plot_deviations(masks)

    def test_guide(self, matched):
        """Matched exposures have the noise to compare with, no boundary."""
        sim, masks = matched
        artists = artists_of(plot_detections, sim.exposures, masks)
        ax = next(iter(artists["diagram"].values())).axes
        (line,) = (i for i in ax.lines if i.get_label() == "5 sigma of the noise")
        x, y = line.get_xydata().T
        assert_allclose(y, 5 * np.sqrt(np.maximum(x, 0) + 9), rtol=1e-5)


@pytest.mark.filterwarnings("ignore::ccdcr.CoincidenceWarning")  # of fibres
@pytest.mark.filterwarnings("ignore::ccdcr.ForeignMasksWarning")  # without hits
class TestExposures:
    """Flux factors and offsets."""

    def test_flux_factors(self):
        """Histograms peak at the lines where the factors are right."""
        flux = [1.0, 0.8, 1.3]
        sim = simulate_exposures((100, 120), flux=flux, cr_rate=0.0, seed=3)
        masks = detect_cosmic_rays(sim.exposures, flux_factor=flux, **KNOWN)
        artists = artists_of(plot_flux_factors, sim.exposures, masks)
        assert len(artists) == 3
        for (histogram, line), factor in zip(artists, flux, strict=True):
            assert_allclose(line.get_xdata(), factor)
            counts, edges, _ = histogram.get_data()
            assert counts.sum() > 1000
            middle = (edges[1:] + edges[:-1]) / 2
            assert np.average(middle, weights=counts) == pytest.approx(factor, rel=0.02)

    def test_matched(self, matched):
        """Lines and residuals take the fluxes that matching has measured."""
        sim, masks = matched
        artists = artists_of(plot_flux_factors, sim.exposures, masks)
        lines = [line.get_xdata()[0] for _, line in artists]
        assert_allclose(lines, FLUX / np.mean(FLUX), rtol=0.02)
        # A tenth of the flux is nearly one sigma here.
        for image in artists_of(plot_offsets, sim.exposures, masks)["residuals"]:
            assert abs(np.median(image.get_array().data)) < 0.5

    def test_given_scale(self):
        """Flux factors that are not relative to one leave nothing but noise."""
        flux = np.array([2.0, 1.8, 2.4])
        sim = simulate_exposures((100, 120), flux=flux, cr_rate=0.0, seed=3)
        masks = detect_cosmic_rays(sim.exposures, flux_factor=flux, **KNOWN)
        for image in artists_of(plot_offsets, sim.exposures, masks)["residuals"]:
            assert abs(np.median(image.get_array().data)) < 0.2

    def test_whole_numbers(self):
        """Bins do not show the steps of whole numbers."""
        data = np.random.default_rng(1).poisson(200, (3, 300, 300)).astype(float)
        nothing = np.zeros((300, 300), dtype=bool)
        crmasks = np.zeros(data.shape, dtype=bool)
        masks = CRMaskSet(nothing, nothing, crmasks, gain=1.0, readnoise=3.0)
        ccds = [CCDData(plane, unit="adu") for plane in data]
        for histogram, _ in artists_of(plot_flux_factors, ccds, masks):
            counts = histogram.get_data().values
            around = (counts[2:] + counts[:-2]) / 2
            well = around > 1000
            assert np.count_nonzero(well) > 20
            assert np.all(np.abs(counts[1:-1] / around - 1)[well] < 0.15)

    def test_axes(self, sim, masks):
        """It draws on the axes that are given."""
        ax = Figure().subplots()
        artists = plot_flux_factors(sim.exposures, masks, ax=ax)
        assert all(artist.axes is ax for pair in artists for artist in pair)

    def test_offsets(self, sim, masks):
        """Given offsets, and residuals in sigma of one exposure."""
        given = [(0.0, 0.0), (0.1, -0.2), (-0.3, 0.1)]
        artists = artists_of(plot_offsets, sim.exposures, masks, offsets=given)
        for line, (dx, dy) in zip(artists["offsets"], given, strict=True):
            assert_array_equal(line.get_xydata(), [[dx, dy]])
        stack = np.array([ccd.data for ccd in sim.exposures])
        median = np.median(stack, axis=0)
        for image, plane in zip(artists["residuals"], stack, strict=True):
            expected = (plane - median) / np.sqrt(np.maximum(median, 0) + 9)
            assert_allclose(image.get_array(), expected, rtol=1e-3, atol=1e-3)

    def test_unknown_offsets(self):
        """No offsets and no noise: the residuals in units of their scatter."""
        artists = artists_of(plot_offsets, small_exposures(), small_masks())
        assert artists["offsets"] == []
        assert len(artists["residuals"]) == 3

    def test_shifts(self, matched):
        """Shifts that matching has measured are offsets."""
        sim, masks = matched
        artists = artists_of(plot_offsets, sim.exposures, masks)
        found = np.array([line.get_xydata()[0] for line in artists["offsets"]])
        given = np.array(SHIFTS) - np.mean(SHIFTS, axis=0)
        assert_allclose(found, given, atol=0.06)

    def test_measured(self):
        """The offsets of the detection are the default, and the region is shown."""
        exposures = simulate_exposures((150, 160), seed=2).exposures
        known = detect_cosmic_rays(
            exposures,
            mm_boundary_fit="spline",
            mm_crosscorr_region=[11, 130, 21, 140],
            **KNOWN,
        )
        artists = artists_of(plot_offsets, exposures, known)
        found = [tuple(line.get_xydata()[0]) for line in artists["offsets"]]
        assert_allclose(found, known.diagnostics.offsets)
        extent = artists["residuals"][0].get_extent()
        assert tuple(extent) == (10.5, 130.5, 20.5, 140.5)


class TestComparison:
    """Stamps of several images and their differences."""

    def test_differences(self):
        """Each image minus the reference."""
        image = np.arange(1500.0).reshape(30, 50)
        images = {"median": image, "a": image + 1, "b": image - 3}
        artists = artists_of(plot_comparison, images, x=20, y=10, semiwindow=3)
        assert artists["median"][1] is None
        cut = np.s_[6:13, 16:23]
        for title, change in (("a", 1), ("b", -3)):
            assert_array_equal(artists[title][0].get_array(), images[title][cut])
            assert np.all(artists[title][1].get_array() == change)
            assert artists[title][1].get_clim() == (-3, 3)

    def test_reference(self):
        """The reference is one of the images."""
        with pytest.raises(ValueError, match=r"one of the images \(a\), got 'median'"):
            plot_comparison({"a": np.ones((4, 5))}, x=1, y=1)

    def test_no_centre(self):
        """Images have no place that is to be shown."""
        with pytest.raises(TypeError, match="x and y, the centre of the stamp, must"):
            plot_comparison({"median": np.ones((4, 5))}, x=1)

    def test_nothing_drawn(self):
        """A figure stays empty if the stamp is refused."""
        fig = Figure()
        with pytest.raises(ValueError, match="images of 5 x 4 pixels, got 6, 1"):
            plot_comparison({"median": np.ones((4, 5))}, x=6, y=1, fig=fig)
        assert fig.axes == []

    def test_widths(self):
        """All panels of the figure are as large as the others."""
        image = np.arange(1500.0).reshape(30, 50)
        images = {"median": image, "a": image + 1, "b": image - 3, "c": image}
        artists = artists_of(plot_comparison, images, x=20, y=10, semiwindow=8)
        fig = artists["a"][0].axes.figure
        fig.draw_without_rendering()
        panels = [ax for ax in fig.axes if ax.get_xlabel() or ax.get_title()]
        sizes = [ax.get_window_extent().size for ax in panels]
        assert len(panels) == 8
        assert_allclose(sizes, [sizes[0]] * 8, rtol=1e-3)


class TestNewFigure:
    """Without a figure or axes, the function returns the figure that it makes."""

    @pytest.mark.parametrize(
        "plot",
        [
            plot_detections,
            plot_flux_factors,
            plot_masks,
            plot_offsets,
            lambda *args: plot_stamps(*args, x=3, y=2),
            lambda ccds, _: plot_comparison({"median": ccds[0]}, x=3, y=2),
        ],
    )
    def test_shown(self, plot):
        """A notebook shows it as a PNG, without a window of pyplot."""
        figure = plot(small_exposures(), small_masks())
        assert isinstance(figure, Figure)
        assert figure._repr_png_().startswith(b"\x89PNG")
        assert figure.canvas.manager is None
        assert len(pickle.loads(pickle.dumps(figure)).axes) == len(figure.axes)  # noqa: S301

    def test_of_masks(self, masks):
        """The diagram, too, which needs no exposures."""
        assert (
            plot_diagram(masks).get_suptitle() == "Median-Minimum diagram of MEDIANCR"
        )


class TestMasks:
    """Masks over an exposure."""

    def test_default(self):
        """All of the exposures and MEDIANCR, in different colours, over the median."""
        artists = artists_of(plot_masks, small_exposures(), small_masks())
        assert list(artists) == ["image", "CRMASK1", "CRMASK2", "CRMASK3", "MEDIANCR"]
        masks = small_masks()
        colors = set()
        for name, mask in masks.planes.items():
            if name in artists:
                drawn = np.ma.getmaskarray(artists[name].get_array())
                assert_array_equal(~drawn, mask)
                assert artists[name].get_extent() == [0.5, 5.5, 0.5, 4.5]
                colors.add(artists[name].cmap(1.0))
        assert len(colors) == 4
        median = np.full((4, 5), 10.0)
        median[1, 2] = 90
        assert_allclose(artists["image"].get_array(), median)
        labels = [t.get_text() for t in artists["image"].figure.legends[0].get_texts()]
        assert labels == [
            "CRMASK1 (1)",
            "CRMASK2 (1)",
            "CRMASK3 (1)",
            "MEDIANCR (1)",
        ]

    def test_chosen(self):
        """One exposure with its own mask, or the masks that are named."""
        args = small_exposures(), small_masks()
        artists = artists_of(plot_masks, *args, exposure=3)
        assert list(artists) == ["image", "CRMASK3"]
        assert_allclose(artists["image"].get_array(), args[0][2].data)
        assert list(artists_of(plot_masks, *args, "MEANCRT")) == ["image", "MEANCRT"]

    def test_large(self):
        """Single pixels of large images are drawn wider, so that they are seen."""
        crmasks = np.zeros((2, 3, 2500), bool)
        crmasks[0, 1, 1000] = True
        masks = CRMaskSet(crmasks.all(axis=0), crmasks.any(axis=0), crmasks)
        ccds = [CCDData(np.ones((3, 2500)), unit="adu") for _ in range(2)]
        drawn = artists_of(plot_masks, ccds, masks, exposure=1)["CRMASK1"].get_array()
        assert np.flatnonzero(~np.ma.getmaskarray(drawn)[1]).tolist() == [
            *range(998, 1003)
        ]

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"names": ["X"]}, "names must be among MEDIANCR, .*, got X"),
            ({"exposure": 4}, "exposure must be from 1 to 3, got 4"),
        ],
    )
    def test_refused(self, kwargs, message):
        """Masks and exposures that there are not."""
        with pytest.raises(ValueError, match=message):
            plot_masks(small_exposures(), small_masks(), **kwargs)
