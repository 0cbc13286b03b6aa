# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Review of masks: figures in sequence, and keys that change the masks."""

from ccdcr.exceptions import NoWindowWarning, ReviewCancelledError, warn_user
from ccdcr.inspection.compare_methods import compare_methods
from ccdcr.inspection.inspected import Inspection, stamp_bounds
from ccdcr.plotting import plot_stamps
from ccdcr.plotting.figure_style import (
    class_image,
    frame_stamps,
    get_extent,
    image_norm,
)
from ccdcr.report.report_figures import comparison_figure, detection_table, make_figures
from ccdcr.reviewing.boundary_review import BoundaryReview

__all__ = ["Window", "has_windows", "review"]

_ALWAYS = {"q": "quit"}


def has_windows():
    """Return whether the backend of matplotlib opens windows."""
    import matplotlib.pyplot as plt

    try:
        with plt.ioff():
            figure = plt.figure()
    except ImportError:  # a backend that needs a display
        return False
    # A closed figure may lose its canvas.
    framework = figure.canvas.required_interactive_framework
    plt.close(figure)
    return framework is not None


class Window:
    """
    One figure that is shown until a key ends it.

    ``draw`` draws on an empty figure. ``keys`` are, by key, a function of the event
    that returns whether the figure is done, and a word for the line of help.
    ``size`` is in inches. ``click`` gets each mouse press on the figure.
    """

    def __init__(self, draw, keys, *, title, size, click=None):
        self._draw, self._keys, self._click = draw, keys, click
        self._title, self._size = title, size
        self._cancelled = False

    def show(self):
        """Show the figure until a key, or the closing of the window, ends it."""
        import matplotlib.pyplot as plt

        self.figure = plt.figure(figsize=self._size, layout="constrained")
        canvas = self.figure.canvas
        try:
            self._prepare(canvas)
            self.redraw()
            canvas.manager.show()
            canvas.start_event_loop()
        finally:
            plt.close(self.figure)
        if self._cancelled:
            msg = "the review was quit: the masks are as they were, nothing is written"
            raise ReviewCancelledError(msg)

    def redraw(self):
        """Draw again, with the line of help."""
        self.figure.clear()
        # Legends are below the axes: the keys need a strip of their own.
        upper, lower = self.figure.subfigures(2, 1, height_ratios=[24, 1])
        self._draw(upper)
        words = {k: word for k, (_, word) in self._keys.items() if k != "enter"}
        words |= _ALWAYS
        text = "   ".join(f"{key}: {word}" for key, word in words.items())
        lower.text(0.5, 0.5, text, ha="center", va="center", color="#004c87")
        self.figure.canvas.draw_idle()

    def _prepare(self, canvas):
        canvas.manager.set_window_title(self._title)
        # Matplotlib's own keys would act too.
        handler = getattr(canvas.manager, "key_press_handler_id", None)
        if handler is not None:
            canvas.mpl_disconnect(handler)
        canvas.mpl_connect("key_press_event", self._on_key)
        canvas.mpl_connect("close_event", lambda _: canvas.stop_event_loop())
        if self._click is not None:
            canvas.mpl_connect("button_press_event", self._on_click)

    def _on_key(self, event):
        if event.key == "q":
            self._cancelled = True
            self.figure.canvas.stop_event_loop()
        elif event.key in self._keys:
            function, _ = self._keys[event.key]
            if function(event):
                self.figure.canvas.stop_event_loop()
            else:
                self.redraw()

    def _on_click(self, event):
        # The button belongs to the toolbar while it zooms or pans.
        taken = self.figure.canvas.widgetlock.locked()
        if event.inaxes is not None and not taken and self._click(event):
            self.redraw()


_TITLE = "ccdcr review"
_HELP, _HIGHEST = 0.5, 7.6  # inches


def review(ccds, masks, *, verify_cr=None, maxplots=None, mask="MEDIANCR"):
    """
    Show figures of the masks in windows; keys change the masks.

    The figures are the Median-Minimum diagram, or the deviations and equivalence of
    matched exposures, the pixels by detector, flux factors, offsets, the combinations,
    and stamps of each detection.

    Parameters
    ----------
    ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        The exposures or their files, in the order of the masks.
    masks : `~ccdcr.CRMaskSet`, str or `~pathlib.Path`
        The masks or their file. A file contains no diagrams.
    verify_cr : bool, optional
        Ask whether each detection is a cosmic ray. Defaults of this and of ``maxplots``
        are those of the requirements.
    maxplots : int, optional
        Number of detections shown; -1 = all.
    mask : str, optional
        Name of the mask whose detections are shown. Default is ``'MEDIANCR'``.

    Returns
    -------
    masks : `~ccdcr.CRMaskSet`
        The masks themselves, or new ones if the review changed them: detected again
        with another boundary, or without rejected detections.

    Raises
    ------
    ReviewCancelledError
        If the review was quit.
    TypeError, ValueError
        If a parameter is not allowed, or if masks and exposures do not fit.

    Warns
    -----
    NoWindowWarning
        If matplotlib cannot open windows. The masks are then returned unchanged.

    Notes
    -----
    Keys, in every figure: ``c`` or enter or closing the window continues, ``q`` quits.
    In the diagram ``+`` and ``-`` change the number of knots (or, for the exact
    boundary, ``mm_false_positives``), ``w`` and ``v`` the weight, a click adds a fixed
    point, a click with the right button takes it away, ``d`` deletes all. If the
    boundary was changed, the detection is repeated when the figure is closed. In the
    stamps ``e`` cycles through the exposures, ``b`` goes back to all of them, and ``s``
    ends the stamps. With ``verify_cr`` ``y`` keeps the detection, ``n`` rejects it,
    ``a`` keeps it and all that follow, and ``s`` stops asking: all following detections
    stay masked.

    Examples
    --------
    Without a window nothing can be reviewed:

    >>> from ccdcr import detect_cosmic_rays
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures((100, 120), seed=1)
    >>> masks = detect_cosmic_rays(
    ...     sim.exposures, gain="GAIN", readnoise="RDNOISE"
    ... )
    >>> import warnings
    >>> from ccdcr import NoWindowWarning, review
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", NoWindowWarning)
    ...     review(sim.exposures, masks) is masks
    True
    """
    inspection = Inspection.from_ccds(ccds, masks)
    masks = inspection.masks
    if mask not in masks.planes:
        msg = f"mask must be one of {', '.join(masks.planes)}, got {mask!r}"
        raise ValueError(msg)
    given = {"verify_cr": verify_cr, "maxplots": maxplots}
    given = {name: value for name, value in given.items() if value is not None}
    display = inspection.requirements.replace(interactive=True, **given)
    if not has_windows():
        msg = (
            "interactive has no effect: matplotlib opens no windows with this backend; "
            "choose another one, such as MPLBACKEND=qtagg, or use write_report(...)"
        )
        warn_user(msg, NoWindowWarning)
        return masks
    inspection = _review_boundary(inspection)
    _show_figures(inspection, mask)
    rejected = _review_detections(inspection, mask, display)
    if not rejected:
        return inspection.masks
    return inspection.masks.edit(drop=rejected, detections_of=mask)


def _review_boundary(inspection):
    """Show the diagram; return an inspection with the boundary that was chosen."""
    if "MEDIANCR" not in inspection.masks.diagnostics.diagrams:
        return inspection
    boundary = BoundaryReview(inspection.masks, inspection.unit)
    keys = _continue_keys() | boundary.keys
    title = f"{_TITLE}: boundary"
    Window(
        boundary.draw, keys, title=title, size=(12, 6.2), click=boundary.click
    ).show()
    if not boundary.changed:
        return inspection
    return Inspection.from_ccds(
        inspection, inspection.detect_again(boundary.requirements)
    )


def _continue_keys():
    def done(_):
        return True

    return {"c": (done, "continue"), "enter": (done, "continue")}


def _show_figures(inspection, mask):
    """Show the figures without keys of their own."""
    for name, figure in _figures(inspection, mask):
        width, height = figure.size
        Window(
            figure.draw,
            _continue_keys(),
            title=f"{_TITLE}: {name}",
            size=(width, min(height + _HELP, _HIGHEST)),
        ).show()


def _figures(inspection, mask):
    """Yield name and `ReportFigure` of what the report shows but the diagrams."""
    yield from make_figures(inspection, mask, None).items()
    yield "comparison", comparison_figure(compare_methods(inspection, inspection.masks))


def _review_detections(inspection, mask, display):
    """Show the stamps of the detections; return pixels (x, y) of the rejected ones."""
    table = detection_table(inspection, inspection.masks, mask)
    if display.maxplots >= 0:
        table = table[: display.maxplots]
    rejected = []
    for row in table:
        stamps = _Stamps(inspection, mask, row, ask=display.verify_cr)
        stamps.show(f"{_TITLE}: detection {row['number']} of {len(table)}")
        if stamps.answer == "n":
            rejected.append((int(row["x"]), int(row["y"])))
        if stamps.answer in {"a", "s"}:
            break
    return rejected


class _Stamps:
    """The stamps of one detection; all together, or exposure by exposure."""

    def __init__(self, inspection, mask, row, *, ask):
        self._inspection, self._mask, self._row = inspection, mask, row
        self._ask, self._exposure = ask, None
        self.answer = None

    def show(self, title):
        """Show the stamps until they are answered or left."""
        keys = {"e": (self._next, "next exposure"), "b": (self._all, "all")}
        if self._ask:
            answers = {
                "y": "cosmic ray",
                "n": "none",
                "a": "all that follow are",
                "s": "stop asking",
            }
            keys |= {k: (self._answer(k), word) for k, word in answers.items()}
        else:
            keys |= _continue_keys() | {"s": (self._answer("s"), "skip the rest")}
        Window(self._draw, keys, title=title, size=(10, 7.4)).show()

    def _answer(self, key):
        def done(_):
            self.answer = key
            return True

        return done

    def _next(self, _):
        n = len(self._inspection.stack)
        self._exposure = 0 if self._exposure is None else (self._exposure + 1) % n

    def _all(self, _):
        self._exposure = None

    def _draw(self, fig):
        row, inspection = self._row, self._inspection
        x, y = int(row["x"]), int(row["y"])
        if self._exposure is None:
            plot_stamps(
                inspection, inspection.masks, x=x, y=y, name=self._mask, fig=fig
            )
        else:
            _draw_exposure(fig, inspection, self._exposure, x, y)
        fig.suptitle(
            f"{self._mask} {row['number']}: {row['class']}, {row['pixels']} pixels at "
            f"x = {x}, y = {y}, peak {row['peak_sigma']:.1f} sigma"
        )


def _draw_exposure(fig, inspection, index, x, y):
    """Draw an exposure and its mask."""
    requirements = inspection.requirements
    bounds = stamp_bounds(x, y, requirements.semiwindow, inspection.masks.shape)
    stamps = [plane[bounds] for plane in inspection.stack]
    norm = image_norm(stamps, requirements.color_scale)
    grid = fig.subplots(1, 2, sharex=True, sharey=True, squeeze=False)
    left, right = grid[0]
    kwargs = {"origin": "lower", "extent": get_extent(bounds), "interpolation": "none"}
    image = left.imshow(stamps[index], cmap="gray", norm=norm, **kwargs)
    name = f"CRMASK{index + 1}"
    right.imshow(class_image(inspection.flags(name)[bounds]), **kwargs)
    left.set_title(f"exposure {index + 1}")
    right.set_title(f"mask {name}")
    frame_stamps(grid, x, y, requirements.semiwindow)
    fig.colorbar(image, ax=left, label=f"signal without bias ({inspection.unit})")
