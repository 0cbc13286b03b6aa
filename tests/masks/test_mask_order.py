# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tests of masks in the wrong order, and of masks of other exposures.

The right order is that of the simulation; combined values come from its truth.
"""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from ccdcr import (
    CRCombiner,
    CRMaskSet,
    ForeignMasksWarning,
    combine,
    compare_methods,
    detect_cosmic_rays,
    explain_pixel,
    run_blocks,
)
from ccdcr.cli.command_line import main
from ccdcr.simulation import simulate_exposures

KNOWN = {"gain": 1.0, "readnoise": 3.0, "la_verbose": False}
SHAPE = (120, 120)
WRONG = list(permutations(range(3)))[1:]


@pytest.fixture(scope="module")
def sim():
    """Exposures and their masks."""
    return simulate_exposures(SHAPE, cr_rate=2, seed=1, bias=200)


@pytest.fixture(scope="module")
def masks(sim):
    """The masks of the exposures."""
    return detect_cosmic_rays(sim.exposures, bias=200, **KNOWN)


@pytest.fixture
def files(sim, tmp_path, monkeypatch):
    """Names of the files of the exposures, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name, ccd in zip("abc", sim.exposures, strict=True):
        ccd.write(f"{name}.fits")
    return [f"{name}.fits" for name in "abc"]


def message(order, names=None):
    """Return what the error says: the place of each mask's exposure."""
    places = [order.index(i) for i in range(3)]
    labels = [names[i] if names else f"exposure {i + 1}" for i in places]
    listed = ", ".join(str(i + 1) for i in places)
    return f"right order of what was given is {listed}: {', '.join(labels)}"


class TestPixels:
    """Without names the hits tell."""

    @pytest.mark.parametrize("order", WRONG)
    def test_wrong_order(self, sim, masks, order):
        """All five wrong orders of three are refused, and the right one is named."""
        ccds = [sim.exposures[i] for i in order]
        for call in (
            lambda: CRCombiner(ccds, masks),
            lambda: combine(ccds, crmasks=masks),
            lambda: compare_methods(ccds, masks),
            lambda: explain_pixel(ccds, masks, 20, 30),
        ):
            with pytest.raises(ValueError, match=message(order)):
                call()

    @pytest.mark.parametrize("factors", [(1, 1, 1), (0.2, 1, 1), (1, 0.5, 1)])
    @pytest.mark.parametrize("n", [2, 3])
    def test_right_order(self, factors, n):
        """The right order is accepted, also of unequal exposure times."""
        sim = simulate_exposures(SHAPE, n_exposures=n, flux=factors[:n], seed=3)
        masks = detect_cosmic_rays(
            sim.exposures, flux_factor=list(factors[:n]), **KNOWN
        )
        assert CRCombiner(sim.exposures, masks).crmasks is masks
        with pytest.raises(ValueError, match="right order"):
            CRCombiner(sim.exposures[::-1][: n - 2] + sim.exposures[:2][::-1], masks)

    def test_foreign(self, masks):
        """Masks of exposures of another field are used, with a warning."""
        other = simulate_exposures(SHAPE, cr_rate=2, seed=7, bias=200).exposures
        for call in (
            lambda: CRCombiner(other, masks),
            lambda: combine(other, crmasks=masks),
            lambda: compare_methods(other, masks),
        ):
            with pytest.warns(ForeignMasksWarning, match="masks of other exposures"):
                call()

    def test_no_verdict(self, sim):
        """Few pixels, or only those of the user's list, say nothing."""
        pixels = np.zeros((3, *SHAPE), bool)
        pixels[0, 5, 5:20] = True
        few = CRMaskSet(pixels[0], pixels[0], pixels, gain=1.0, readnoise=3.0)
        assert CRCombiner(sim.exposures[::-1], few).crmasks is few
        listed = [[x, y] for x in range(1, 60) for y in (30, 31)]
        pixels[0, 29:31, :59] = True
        given = {"requirements": {"pixels_to_be_flagged_as_cr": listed}}
        user = CRMaskSet(pixels[0], pixels[0], pixels, **given)
        assert CRCombiner(sim.exposures[::-1], user).crmasks is user


class TestNames:
    """File names decide where they are known."""

    @pytest.fixture
    def known(self, files):
        """Write the masks of the files."""
        detect_cosmic_rays(files, bias=200, **KNOWN).write("masks.fits")
        return "masks.fits"

    @pytest.mark.parametrize("order", WRONG)
    def test_another_order(self, files, known, order):
        """They are refused by name, also without a hit."""
        names = [files[i] for i in order]
        with pytest.raises(ValueError, match=message(order, names)):
            combine(names, crmasks=known)
        none = np.zeros((3, *SHAPE), bool)
        meta = {f"FILE{i}": name for i, name in enumerate(files, start=1)}
        empty = CRMaskSet(none[0], none[0], none, gain=1.0, readnoise=3.0, meta=meta)
        with pytest.raises(ValueError, match=message(order, names)):
            combine(names, crmasks=empty)

    def test_other_names(self, sim, known):
        """Of other names the pixels decide."""
        for i, ccd in enumerate(sim.exposures):
            ccd.write(f"copy{i}.fits")
        names = [f"copy{i}.fits" for i in range(3)]
        assert combine(names, crmasks=known).shape == SHAPE
        with pytest.raises(ValueError, match="is 3, 2, 1: copy0"):
            combine(names[::-1], crmasks=known)

    @pytest.mark.parametrize("command", ["combine", "compare", "report"])
    def test_commands(self, files, known, command, capsys):
        """The commands say so, with a status that is not 0."""
        args = [command, known, *files[::-1]]
        if command == "combine":
            args = [command, *files[::-1], "--crmasks", known]
        assert main(args) != 0
        assert "right order of what was given is 3, 2, 1" in capsys.readouterr().err

    def test_run(self, files):
        """A combination of a YAML file is refused, too."""
        Path("night.yaml").write_text(BLOCKS.format(frames=files[::-1]))
        done, failed = run_blocks(["night.yaml"])
        assert done.status == "done"
        assert "right order of what was given is 3, 2, 1" in failed.error


BLOCKS = """\
id: detect
mode: MegaraCrDetection
frames: [a.fits, b.fits, c.fits]
gain: 1.0
readnoise: 3.0
bias: 200.0
---
id: combine
mode: Combination
frames: {frames}
requirements: {{method: meancr, crmasks: crmasks.fits}}
"""


def test_stale_masks(files, caplog):
    """Masks that the file has made win over crmasks.fits beside it."""
    empty = np.zeros((3, *SHAPE), bool)
    known = {"gain": 1.0, "readnoise": 3.0, "bias": 200.0}
    CRMaskSet(empty[0], empty[0], empty, **known).write("crmasks.fits")
    Path("night.yaml").write_text(BLOCKS.format(frames=files))
    done, combined = run_blocks(["night.yaml"])
    uuid = fits.getheader(done.files[0])["UUID"]
    assert fits.getheader(combined.files[0])["CRUUID"] == uuid
    assert "of this file are used, not" in caplog.text
    assert "crmasks.fits; give its absolute path" in caplog.text
