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
from astropy.nddata import CCDData
from scipy.ndimage import binary_dilation

from ccdcr import (
    CRCombiner,
    CRMaskSet,
    ForeignMasksWarning,
    add_expected,
    align_exposures,
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
        with pytest.raises(ValueError, match=message(order)):
            masks.apply_to(ccds)

    def test_methods(self, sim, masks):
        """All methods check the order."""
        order = (1, 2, 0)
        ccds = [sim.exposures[i] for i in order]
        for call in (
            lambda: CRCombiner(ccds, masks),
            lambda: combine(ccds, crmasks=masks),
            lambda: compare_methods(ccds, masks),
            lambda: explain_pixel(ccds, masks, 20, 30),
            lambda: masks.clean(ccds),
            lambda: add_expected(ccds, masks),
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
            lambda: masks.apply_to(other),
            lambda: masks.clean(other),
            lambda: add_expected(other, masks),
        ):
            with pytest.warns(ForeignMasksWarning, match="masks of other exposures"):
                call()

    @pytest.mark.parametrize("i", range(3))
    def test_one_foreign(self, sim, masks, i):
        """One exposure that is another one, or given twice, is named."""
        other = simulate_exposures(SHAPE, cr_rate=2, seed=8, bias=200).exposures
        for new in (other[0], sim.exposures[i - 1]):
            ccds = [*sim.exposures]
            ccds[i] = new
            with pytest.warns(ForeignMasksWarning, match=f"than exposure {i + 1}: "):
                masks.apply_to(ccds)

    @pytest.mark.parametrize("seed", [2, 9])
    def test_no_order_by_chance(self, masks, seed):
        """No order is claimed for foreign exposures."""
        other = simulate_exposures(SHAPE, cr_rate=2, seed=seed, bias=200).exposures
        with pytest.warns(ForeignMasksWarning, match="seem to be"):
            masks.apply_to(other)

    def test_no_false_alarm(self, sim, masks):
        """Cleaned and masked exposures are right, and those of dilated masks."""
        CRCombiner(masks.clean(sim.exposures), masks)
        CRCombiner(masks.apply_to(sim.exposures), masks)
        wide = np.array([binary_dilation(m, np.ones((9, 9))) for m in masks.crmasks])
        CRMaskSet(masks.mediancr, masks.meancrt, wide).apply_to(sim.exposures)

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


@pytest.fixture(scope="module")
def cleaned(sim, masks):
    """Cleaned exposures."""
    return masks.clean(sim.exposures)


@pytest.fixture(scope="module")
def others(sim, masks):
    """Masks of the same exposures: without a table, and of another method."""
    known = KNOWN | {"bias": 200, "crmethod": "mm_lacosmic"}
    return masks._with(expected=None), detect_cosmic_rays(sim.exposures, **known)


class TestCleaned:
    """Cleaned exposures are those of all masks of the same exposures."""

    def test_right(self, sim, cleaned, others, tmp_path):
        """No warning, also if some are not cleaned, in electrons, and in files."""
        names = [tmp_path / f"{i}.fits" for i in range(3)]
        for ccd, name in zip(cleaned, names, strict=True):
            ccd.write(name)  # without flags
        more = [{"meta": ccd.meta, "flags": ccd.flags} for ccd in cleaned]
        electrons = [
            CCDData(2 * ccd.data, unit="electron", mask=ccd.mask, **kept)
            for ccd, kept in zip(cleaned, more, strict=True)
        ]
        for masks in others:
            for ccds in (cleaned, [cleaned[0], *sim.exposures[1:]], electrons, names):
                masks.apply_to(ccds)
            assert "CRCLEAN" not in combine(names, crmasks=masks).header

    def test_header(self, masks, cleaned):
        """The header tells the masks and the exposure."""
        assert [ccd.header["CRCLEAN"] for ccd in cleaned] == [
            f"{masks.uuid} {i}" for i in (1, 2, 3)
        ]

    @pytest.mark.parametrize(("flag", "ignore"), [(1, None), (4, 0)])
    def test_own_flags(self, sim, flag, ignore):
        """Bit 1 of the exposures may mean anything; replaced pixels are not bad."""
        ccds = [ccd.copy() for ccd in sim.exposures]
        for ccd in ccds:
            ccd.flags = np.zeros(SHAPE, np.uint8)
            ccd.flags[:, ::2] = flag
        masks = detect_cosmic_rays(ccds, bias=200, ignore_flags=ignore, **KNOWN)
        once = masks.clean(ccds)
        for first, second in zip(once, masks.clean(once), strict=True):
            assert first.mask[:, ::2].all() == (ignore is not None)
            assert (first.mask == second.mask).all()

    @pytest.mark.parametrize("order", WRONG)
    def test_wrong_order(self, masks, cleaned, others, order):
        """Replaced pixels, or without flags the headers, tell the order."""
        ccds = [cleaned[i].copy() for i in order]
        for each in (masks, *others):
            with pytest.raises(ValueError, match=message(order)):
                each.apply_to(ccds)
        for ccd in ccds:
            ccd.flags = None
        with pytest.raises(ValueError, match=message(order)):
            masks.apply_to(ccds)

    def test_foreign(self, masks, cleaned, others):
        """Cleaned exposures of another field, and those given twice, are found."""
        sim = simulate_exposures(SHAPE, cr_rate=2, seed=7, bias=200)
        foreign = detect_cosmic_rays(sim.exposures, bias=200, **KNOWN)
        new = foreign.clean(sim.exposures)
        for each in (masks, *others):
            with pytest.warns(ForeignMasksWarning, match="masks of other exposures"):
                each.apply_to(new)
            for last in (cleaned[0], new[2]):
                with pytest.warns(ForeignMasksWarning, match="than exposure 3: "):
                    each.apply_to([*cleaned[:2], last])


SHIFT = [[0, 0], [6, -3], [-4, 8]]


@pytest.fixture(scope="module")
def dithers():
    """Exposures and their masks."""
    sim = simulate_exposures((130, 130), scene="stars", cr_rate=2, seed=3, shift=SHIFT)
    masks = detect_cosmic_rays(align_exposures(sim.exposures, SHIFT), **KNOWN)
    return sim.exposures, masks


class TestDithers:
    """Exposures of dithered masks are aligned, or not."""

    def test_wrong_order(self, dithers):
        """Wrong orders are refused, of aligned and of original exposures."""
        order, (ccds, masks) = (1, 2, 0), dithers
        originals = [ccds[i] for i in order]
        aligned = align_exposures(ccds, SHIFT)
        for call in (
            lambda: masks.apply_to(originals),
            lambda: masks.clean(originals),
            lambda: compare_methods(originals, masks),
            lambda: combine([aligned[i] for i in order], crmasks=masks),
            lambda: combine(align_exposures(originals, SHIFT), crmasks=masks),
            lambda: add_expected([aligned[i] for i in order], masks),
        ):
            with pytest.raises(ValueError, match=message(order)):
                call()

    def test_right_order(self, dithers):
        """Original exposures are aligned, or the error tells how."""
        ccds, masks = dithers
        masks.apply_to(ccds)
        assert compare_methods(ccds, masks).table["method"][0] == "median"
        for call in (
            lambda: combine(ccds, crmasks=masks),
            lambda: CRCombiner(ccds, masks),
            lambda: add_expected(ccds, masks),
        ):
            with pytest.raises(ValueError, match=r"align_exposures\(ccds, \[\[0, 0\]"):
                call()

    def test_one_foreign(self, dithers):
        """One exposure given twice is named."""
        ccds, masks = dithers
        with pytest.warns(ForeignMasksWarning, match="than exposure 3: "):
            masks.apply_to([ccds[0], ccds[1], ccds[1]])

    def test_cleaned(self, dithers):
        """Cleaned originals are right, also aligned; a wrong order is not."""
        ccds, masks = dithers
        cleaned, plain = masks.clean(ccds), masks._with(expected=None, uuid="new")
        plain.apply_to(cleaned)
        plain.apply_to(align_exposures(cleaned, SHIFT))
        with pytest.raises(ValueError, match=message((1, 2, 0))):
            plain.apply_to([cleaned[i] for i in (1, 2, 0)])

    def test_names(self, dithers, tmp_path):
        """Names of files are kept by alignment, and tell the order without hits."""
        ccds, masks = dithers
        names = [tmp_path / f"{name}.fits" for name in "abc"]
        for ccd, name in zip(ccds, names, strict=True):
            ccd.write(name)
        aligned = align_exposures(names, SHIFT)
        none = np.zeros((3, *aligned[0].shape), bool)
        meta = masks.meta | {f"FILE{i}": f"{n}.fits" for i, n in enumerate("abc", 1)}
        empty = CRMaskSet(none[0], none[0], none, meta=meta)
        for given in (names[::-1], aligned[::-1]):
            with pytest.raises(ValueError, match=r"is 3, 2, 1: a\.fits, b\.fits"):
                empty.apply_to(given)
        known = detect_cosmic_rays(aligned, **KNOWN)
        assert [known.meta[f"FILE{i}"] for i in (1, 2, 3)] == [n.name for n in names]


class TestNames:
    """File names decide where they are known."""

    @pytest.fixture
    def known(self, files, masks):
        """Write the masks of the files."""
        named = CRMaskSet.from_hdulist(masks.to_hdulist())
        named.meta.update({f"FILE{i}": name for i, name in enumerate(files, start=1)})
        named.write("masks.fits")
        return "masks.fits"

    @pytest.mark.parametrize("order", [(1, 0, 2), (1, 2, 0)])
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

    def test_files(self, files, known):
        """Methods of mask sets take files, and check their order."""
        masks = CRMaskSet.read(known)
        assert (masks.apply_to(files)[1].mask == masks.crmasks[1]).all()
        for call in (masks.apply_to, masks.clean, lambda f: masks.write_dq(f, "dq")):
            with pytest.raises(ValueError, match=r"is 3, 2, 1: a\.fits, b\.fits"):
                call(files[::-1])

    def test_one_foreign(self, sim, files, known):
        """A warning names the file, and the one that it replaces."""
        sim.exposures[0].write("d.fits")
        text = r"than d.fits \(they know c.fits\): "
        with pytest.warns(ForeignMasksWarning, match=text):
            combine([*files[:2], "d.fits"], crmasks=known)

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
