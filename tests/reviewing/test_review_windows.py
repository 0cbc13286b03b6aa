# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the review in real windows, with keys and clicks of the X server."""

import importlib.util
import json
import os
import pty
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from ccdcr import CRMaskSet, detect_cosmic_rays
from ccdcr.report import detection_table
from ccdcr.simulation import simulate_exposures

pytestmark = [
    pytest.mark.skipif(
        not (shutil.which("Xvfb") and shutil.which("xdotool")),
        reason="Xvfb and xdotool are needed",
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("_tkinter") is None, reason="Python has no Tk"
    ),
]

KNOWN = {
    "gain": "GAIN",
    "readnoise": "RDNOISE",
    "la_verbose": False,
    "crmethod": "mm_lacosmic",
    "mm_boundary_fit": "spline",
}
SCENE = {"shape": (100, 120), "scene": "fibres", "seed": 1}
SECONDS = 60
FIGURES = ("pixels", "flux", "offsets", "methods")
REVIEW = """
import json, sys
from ccdcr import CRMaskSet, ReviewCancelledError, detect_cosmic_rays, review
from ccdcr.simulation import simulate_exposures

known, scene, options, path = map(json.loads, sys.argv[1:])
sim = simulate_exposures(**scene)
masks = detect_cosmic_rays(sim.exposures, **known)
try:
    review(sim.exposures, masks, **options).write(path)
except ReviewCancelledError as err:
    sys.exit(str(err))
"""


class Screen:
    """A screen without a monitor, with somebody in front of it."""

    def __init__(self, display):
        self.environment = os.environ | {
            "DISPLAY": display,
            "MPLBACKEND": "tkagg",
            "OMP_WAIT_POLICY": "passive",
        }

    def _xdotool(self, *words):
        result = subprocess.run(
            ["xdotool", *map(str, words)],  # noqa: S607
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return result.stdout.split()

    def _find(self, title):
        return self._xdotool("search", "--onlyvisible", "--name", f"^{title}")

    def _wait(self, title, *, shown=True, seconds=SECONDS):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            windows = self._find(title)
            if bool(windows) == shown:
                return windows
            time.sleep(0.1)
        return None

    def focus(self, title):
        """Wait for a window and give it the keyboard."""
        windows = self._wait(f"ccdcr review: {title}")
        assert windows, f"no window {title}"
        time.sleep(0.5)  # it is drawn
        self._xdotool("windowfocus", "--sync", windows[-1])
        return windows[-1]

    def press(self, title, *keys):
        """Press keys in a window, one after another."""
        self.focus(title)
        for key in keys:
            self._xdotool("key", key)
            time.sleep(0.5)

    def leave(self, title, key):
        """Press a key until the window is left."""
        for _ in range(5):
            self.press(title, key)
            if self._wait(f"ccdcr review: {title}$", shown=False, seconds=5) == []:
                return
        pytest.fail(f"{key} does not leave {title}")

    def click(self, title, x, y, button=1):
        """Click in a window, in pixels of it."""
        window = self.focus(title)
        self._xdotool("mousemove", "--window", window, x, y, "click", button)
        time.sleep(0.5)


@pytest.fixture(scope="module")
def screen():
    """Return a screen."""
    read, write = os.pipe()
    server = subprocess.Popen(
        [  # noqa: S607
            "Xvfb",
            *("-screen", "0", "1600x1000x24"),
            *("-displayfd", str(write), "-nolisten", "tcp"),
        ],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    with os.fdopen(read) as pipe:
        display = f":{pipe.readline().strip()}"
    yield Screen(display)
    server.terminate()
    server.wait()


@pytest.fixture
def start(screen, tmp_path):
    """Start a review in a process of its own."""
    processes = []
    path = tmp_path / "reviewed.fits"

    def run(known=KNOWN, **options):
        arguments = map(json.dumps, (known, SCENE, options, str(path)))
        process = subprocess.Popen(
            [sys.executable, "-c", REVIEW, *arguments],
            env=screen.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process, path

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def test_boundary_and_answers(screen, start):
    """Other knots, weight and a fixed point; one detection is none."""
    process, path = start(verify_cr=True)
    screen.press("boundary", "plus", "w")
    screen.click("boundary", 500, 330)
    screen.click("boundary", 501, 331, button=3)
    screen.click("boundary", 500, 330)
    screen.leave("boundary", "c")
    for figure in FIGURES:
        screen.leave(figure, "Return" if figure == "flux" else "c")
    screen.press("detection 1", "e", "e", "b")
    screen.leave("detection 1 of .*", "n")
    screen.leave("detection 2 of .*", "y")
    screen.leave("detection 3 of .*", "a")
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    result = CRMaskSet.read(path)
    changed = result.requirements
    assert changed.mm_knots_splfit == 4
    assert changed.mm_weight_boundary_extension == 20
    assert len(changed.mm_fixed_points_in_boundary) == 1
    sim = simulate_exposures(**SCENE)
    again = detect_cosmic_rays(sim.exposures, changed, gain=1.0, readnoise=3.0)
    first = detection_table(sim.exposures, again)[0]
    expected = again.edit(drop=[(first["x"], first["y"])])
    for name, plane in expected.planes.items():
        np.testing.assert_array_equal(result.planes[name], plane)


def test_quit(screen, start):
    """A clean end."""
    process, path = start()
    screen.leave("boundary", "c")
    screen.leave("pixels", "q")
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "the review was quit" in errors
    assert "Traceback" not in errors
    assert not path.exists()


def test_matched(screen, start):
    """The figures of matched exposures; s stops the stamps."""
    process, path = start(KNOWN | {"crmethod": "matched"}, maxplots=2)
    for figure in ("deviations", "equivalence", *FIGURES):
        screen.leave(figure, "c")
    screen.leave("detection 1 of 2", "c")
    screen.leave("detection 2 of 2", "s")
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    assert path.exists()


def test_command_line(screen, tmp_path):
    """``interactive: True`` in a block, in front of a terminal."""
    sim = simulate_exposures(**SCENE)
    for i, ccd in enumerate(sim.exposures):
        ccd.write(tmp_path / f"e{i}.fits")
    (tmp_path / "night1.yaml").write_text(
        "id: night1\nmode: MegaraCrDetection\nframes: ['e*.fits']\n"
        "requirements: {interactive: True, la_verbose: False, crmethod: mmcosmic}\n"
    )
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "ccdcr", "run", "night1.yaml"),
            *("--gain", "1", "--readnoise", "3"),
        ],
        env=screen.environment,
        cwd=tmp_path,
        stdin=end,
        stdout=end,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(end)
    screen.leave("boundary", "q")
    _, errors = process.communicate(timeout=SECONDS)
    os.close(terminal)
    assert process.returncode == 1
    assert "the review was quit" in errors
    assert list(tmp_path.glob("*/*.fits")) == []
