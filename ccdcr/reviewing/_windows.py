# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures in windows, one after another, that answer to keys."""

from ccdcr.exceptions import ReviewCancelledError

__all__ = ["Window", "has_windows"]

_ALWAYS = {"q": "quit"}


def has_windows():
    """Tell whether the backend of matplotlib opens windows."""
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

    Parameters
    ----------
    draw : callable
        Draws on an empty figure.
    keys : dict of tuple
        What keys do: a function of the event that returns whether the figure is
        done, and a word for the line of help.
    title : str
        Of the window.
    size : tuple of float
        Width and height in inches.
    click : callable, optional
        Gets each mouse press on the figure.
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
        # Legends stand below the axes: the keys have a strip of their own.
        upper, lower = self.figure.subfigures(2, 1, height_ratios=[24, 1])
        self._draw(upper)
        words = {k: word for k, (_, word) in self._keys.items() if k != "enter"}
        words |= _ALWAYS
        text = "   ".join(f"{key}: {word}" for key, word in words.items())
        lower.text(0.5, 0.5, text, ha="center", va="center", color="#004c87")
        self.figure.canvas.draw_idle()

    def _prepare(self, canvas):
        canvas.manager.set_window_title(self._title)
        # Keys of matplotlib itself would do other things.
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
