# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the review, driven by synthetic keys and clicks."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backend_bases import (
    CloseEvent,
    FigureCanvasBase,
    FigureManagerBase,
    KeyEvent,
    MouseEvent,
)
from numpy.testing import assert_allclose, assert_array_equal

from ccdcr import (
    CRMaskSet,
    NoWindowWarning,
    ReviewCancelledError,
    detect_cosmic_rays,
    review,
)
from ccdcr.report import detection_table
from ccdcr.reviewing import review_session as session
from ccdcr.reviewing.boundary_review import with_chance
from ccdcr.reviewing.review_session import has_windows
from ccdcr.simulation import simulate_exposures

KNOWN = {
    "gain": "GAIN",
    "readnoise": "RDNOISE",
    "la_verbose": False,
    "crmethod": "mm_lacosmic",
}
FIGURES = 5  # before the stamps


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
    """Masks with a spline."""
    return detect_cosmic_rays(sim.exposures, mm_boundary_fit="spline", **KNOWN)


@pytest.fixture
def script(monkeypatch):
    """Play events, one each time a window waits; return what was on the figures."""
    plt.switch_backend("agg")
    titles = []

    def play(*events):
        left = list(events)

        def flush_events(canvas):
            assert left, "the review waits for more events than there are"
            titles.append(texts_of(canvas.figure))
            event = left.pop(0)
            if callable(event):
                event(canvas)
            else:
                KeyEvent("key_press_event", canvas, event)._process()

        monkeypatch.setattr(session, "has_windows", lambda: True)
        monkeypatch.setattr(FigureCanvasBase, "flush_events", flush_events)
        monkeypatch.setattr(FigureCanvasBase, "draw_idle", lambda _: None)
        monkeypatch.setattr(FigureManagerBase, "show", lambda _: None)
        return left

    play.titles = titles
    yield play
    assert plt.get_fignums() == []


@pytest.fixture
def only_boundary(monkeypatch):
    """Leave out the figures between the boundary and the stamps."""
    monkeypatch.setattr(session, "_show_figures", lambda *_: None)


def texts_of(figure):
    """Return all texts of a figure in one."""
    return "\n".join(t.get_text() for t in figure.findobj(plt.Text) if t.get_text())


def click(x, y, button=1):
    """Return an event: a click on data coordinates of the first panel."""

    def event(canvas):
        canvas.figure.draw_without_rendering()  # places the panels
        place = canvas.figure.axes[0].transData.transform((x, y))
        MouseEvent("button_press_event", canvas, *place, button=button)._process()

    return event


def close(canvas):
    """Close the window."""
    CloseEvent("close_event", canvas)._process()


class TestKeys:
    """Continue, quit, and what else keys do."""

    @pytest.mark.usefixtures("only_boundary")
    @pytest.mark.parametrize("key", ["c", "enter", close])
    def test_key(self, sim, masks, script, key):
        """Keys that continue; the masks are what they were."""
        left = script(key, key)
        assert review(sim.exposures, masks, maxplots=1) is masks
        assert left == []

    def test_continue(self, sim, masks, script):
        """Through all figures."""
        n = len(detection_table(sim.exposures, masks))
        left = script(*["c"] * (FIGURES + n))
        assert review(sim.exposures, masks) is masks
        assert left == []
        assert "Median-Minimum diagram" in script.titles[0]
        assert "pixels of MEDIANCR" in script.titles[1]
        assert "flux of the exposures" in script.titles[2]
        assert "offsets" in script.titles[3]
        assert "meancrt" in script.titles[4]
        assert "MEDIANCR 1: " in script.titles[5]
        assert all("q: quit" in text for text in script.titles)

    @pytest.mark.parametrize("before", [0, 2, FIGURES])
    def test_quit(self, sim, masks, script, before):
        """A clean end, wherever it is."""
        planes = {name: plane.copy() for name, plane in masks.planes.items()}
        left = script(*["c"] * before, "q")
        with pytest.raises(ReviewCancelledError, match="nothing is written"):
            review(sim.exposures, masks)
        assert left == []
        for name, plane in planes.items():
            assert_array_equal(masks.planes[name], plane)

    def test_unknown_key(self, sim, masks, script):
        """Other keys do nothing, also those of matplotlib (p, o, g, s)."""
        script("x", "p", "o", "g", "s", "f1", "q")
        with pytest.raises(ReviewCancelledError):
            review(sim.exposures, masks)
        assert all("Median-Minimum diagram" in text for text in script.titles)

    def test_exposures(self, sim, masks, script):
        """Stamps of one exposure after another, and back to all."""
        script(*["c"] * FIGURES, "e", "e", "e", "e", "b", "s")
        assert review(sim.exposures, masks) is masks
        shown = script.titles[FIGURES:]
        assert "corrected" in shown[0]
        for text, number in zip(shown[1:], (1, 2, 3, 1), strict=False):
            assert f"mask CRMASK{number}" in text
            assert "corrected" not in text
        assert "corrected" in shown[5]

    def test_maxplots(self, sim, masks, script):
        """No more detections than wanted."""
        left = script(*["c"] * (FIGURES + 2))
        assert review(sim.exposures, masks, maxplots=2) is masks
        assert left == []

    def test_from_file(self, sim, masks, script, tmp_path):
        """Masks from a file have no diagram; the other figures come."""
        path = tmp_path / "crmasks.fits"
        masks.write(path)
        left = script(*["c"] * (FIGURES - 1))
        review(sim.exposures, CRMaskSet.read(path), maxplots=0)
        assert left == []
        assert "pixels of MEDIANCR" in script.titles[0]


class TestMatched:
    """Exposures that were matched."""

    def test_figures(self, sim, script):
        """How equivalent they are comes first."""
        masks = detect_cosmic_rays(sim.exposures, **KNOWN | {"crmethod": "matched"})
        left = script(*["c"] * (FIGURES + 1))
        assert review(sim.exposures, masks, maxplots=0) is masks
        assert left == []
        assert "deviations of the matched exposures" in script.titles[0]
        assert "Q / Q0" in script.titles[1]
        assert "background (adu)" in script.titles[1]
        assert "pixels of MEDIANCR" in script.titles[2]
        assert "5 sigma of the noise" in script.titles[2]
        assert "measured by matching" in script.titles[3]


@pytest.mark.usefixtures("only_boundary")
class TestBoundary:
    """Another boundary: the exposures are searched again."""

    def test_false_positives(self, sim, masks, script):
        """Of the exact boundary; the masks are those of the new requirement."""
        script("+", "+", "+", "-", "c")
        result = review(sim.exposures, masks, maxplots=0)
        assert "4 false positives expected" in script.titles[4]
        expected = detect_cosmic_rays(sim.exposures, mm_false_positives=4, **KNOWN)
        assert result.requirements.mm_false_positives == 4
        assert_array_equal(result.meancrt, expected.meancrt)
        assert result.meancrt.sum() > masks.meancrt.sum()

    def test_back(self, sim, masks, script):
        """Back to what it was: nothing is done."""
        script("+", "-", "c")
        assert review(sim.exposures, masks, maxplots=0) is masks

    def test_spline(self, sim, fitted, script):
        """Knots, weight and a fixed point that was clicked."""
        script("+", "+", "-", "w", "w", "v", click(300, 120), "c")
        result = review(sim.exposures, fitted, maxplots=0)
        requirements = result.requirements
        assert requirements.mm_knots_splfit == 4
        assert requirements.mm_weight_boundary_extension == 20
        ((x, y),) = requirements.mm_fixed_points_in_boundary
        assert_allclose((x, y), (300, 120), rtol=1e-6)
        boundary = result.diagnostics.boundaries["MEDIANCR"]
        assert boundary(np.array([300.0]))[0] == pytest.approx(120, rel=0.02)

    def test_points(self, sim, fitted, script):
        """The right button takes the nearest point away, d all."""
        script(
            click(300, 120),
            click(600, 100),
            click(1200, 200, button=3),  # too far
            click(600, 100, button=3),
            click(300, 120, button=3),
            click(100, 50, button=3),  # nothing is left
            click(400, 100),
            "d",
            "c",
        )
        assert review(sim.exposures, fitted, maxplots=0) is fitted
        with_points = ["fixed points\n" in text for text in script.titles[:9]]
        assert with_points == [False, True, True, True, True, False, False, True, False]

    def test_toolbar(self, sim, fitted, script):
        """Clicks that zoom or pan are not for the boundary."""

        def zoom(canvas):
            canvas.widgetlock(self)
            click(300, 120)(canvas)
            canvas.widgetlock.release(self)
            KeyEvent("key_press_event", canvas, "c")._process()

        script(zoom)
        assert review(sim.exposures, fitted, maxplots=0) is fitted

    def test_shown_boundary(self, sim, fitted, script):
        """The boundary that is drawn is that of the new requirements."""
        drawn = []

        def look(canvas):
            lines = canvas.figure.axes[0].lines
            drawn.extend(i.get_xydata() for i in lines if i.get_label() == "boundary")
            KeyEvent("key_press_event", canvas, "c")._process()

        script("+", look)
        result = review(sim.exposures, fitted, maxplots=0)
        x, y = drawn[0].T
        assert_allclose(y, result.diagnostics.boundaries["MEDIANCR"](x), rtol=1e-5)

    def test_piecewise(self, sim, script):
        """Straight lines keep two points."""
        points = [[0, 40], [1000, 200]]
        masks = detect_cosmic_rays(
            sim.exposures,
            mm_boundary_fit="piecewise",
            mm_fixed_points_in_boundary=points,
            **KNOWN,
        )
        script(click(500, 170), click(500, 170, 3), click(1000, 200, 3), "d", "c")
        result = review(sim.exposures, masks, maxplots=0)
        assert result is masks
        assert "fixed points" in script.titles[0]

    def test_other_chance(self, sim, masks):
        """The boundary that is shown is that of a detection."""
        boundary = masks.diagnostics.boundaries["MEDIANCR"]
        again = detect_cosmic_rays(sim.exposures, mm_false_positives=8, **KNOWN)
        expected = again.diagnostics.boundaries["MEDIANCR"]
        shown = with_chance(boundary, 8 * boundary.p_value)
        assert shown.p_value == pytest.approx(expected.p_value)
        x = np.linspace(0, 500, 20)
        assert_allclose(shown(x), expected(x), rtol=0.02)
        assert np.all(shown(x) < boundary(x))


class TestVerify:
    """Each detection is confirmed or not."""

    @pytest.fixture
    def places(self, sim, masks):
        """FITS pixels of the detections."""
        table = detection_table(sim.exposures, masks)
        assert len(table) >= 4
        return np.column_stack([table["x"], table["y"]])

    @pytest.mark.usefixtures("only_boundary")
    @pytest.mark.parametrize(
        ("answers", "rejected"),
        [("ynya", [1]), ("nna", [0, 1]), ("ns", [0]), ("a", []), ("s", [])],
    )
    def test_answers(self, sim, masks, script, places, answers, rejected):
        """What is none is masked no more; all the rest is."""
        left = script("c", *answers)
        result = review(sim.exposures, masks, verify_cr=True)
        assert left == []
        assert (result is masks) == (not rejected)
        x, y = places.T - 1
        expected = np.ones(len(places), dtype=bool)
        expected[rejected] = False
        assert_array_equal(result.mediancr[y, x], expected)
        if rejected:
            known = masks.edit(drop=places[rejected])
            assert result == known

    def test_requirement(self, sim, script):
        """The requirement verify_cr is the default."""
        masks = detect_cosmic_rays(
            sim.exposures, interactive=True, verify_cr=True, maxplots=1, **KNOWN
        )
        left = script(*["c"] * FIGURES, "c", "n")  # c is no answer
        result = review(sim.exposures, masks)
        assert left == []
        assert result.mediancr.sum() < masks.mediancr.sum()

    def test_quit(self, sim, masks, script):
        """Answers so far are void."""
        script(*["c"] * FIGURES, "n", "q")
        with pytest.raises(ReviewCancelledError):
            review(sim.exposures, masks, verify_cr=True)


class TestNoWindows:
    """A backend without windows."""

    def test_warning(self, sim, masks):
        """One warning, and it goes on."""
        plt.switch_backend("agg")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert review(sim.exposures, masks) is masks
        assert [w.category for w in caught] == [NoWindowWarning]
        assert "matplotlib opens no windows" in str(caught[0].message)
        assert plt.get_fignums() == []

    @pytest.mark.parametrize("framework", ["tk", None])
    def test_closed(self, monkeypatch, framework):
        """A closed figure may lose its canvas: it is asked before."""
        figure = plt.Figure()
        figure.canvas.required_interactive_framework = framework

        def close(closed):
            assert closed is figure
            FigureCanvasBase(figure)

        monkeypatch.setattr(plt, "figure", lambda: figure)
        monkeypatch.setattr(plt, "close", close)
        assert has_windows() == (framework is not None)
        assert figure.canvas.required_interactive_framework is None

    def test_no_display(self, sim, masks, monkeypatch):
        """A backend that needs a display which is not there."""

        def figure():
            msg = "Cannot load backend 'TkAgg'"
            raise ImportError(msg)

        monkeypatch.setattr(plt, "figure", figure)
        with pytest.warns(NoWindowWarning):
            review(sim.exposures, masks)


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"mask": "EVERY"}, "mask must be one of MEDIANCR"),
        ({"maxplots": -3}, "maxplots"),
    ],
)
def test_refused(sim, masks, kwargs, match):
    """Before any figure."""
    with pytest.raises(ValueError, match=match):
        review(sim.exposures, masks, **kwargs)
