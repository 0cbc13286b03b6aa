# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Point sources of one exposure only, among hits."""

import numpy as np
import pytest
from astropy.nddata import CCDData
from scipy import ndimage

from ccdcr import CRMaskSet, detect_cosmic_rays
from ccdcr.masks.diagnostics import POINT_LIKE
from ccdcr.report import detection_table, write_report
from ccdcr.report.report_figures import ReportFigure
from ccdcr.simulation import simulate_exposures

SIZE, NUMBER = 300, 18


def add_sources(sim, exposure, sigmas, seed, fwhm=2.5):
    """Return exposures with new Moffat sources in one, and their rows and columns."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(12, SIZE - 12, (NUMBER, 2))
    y, x = np.mgrid[:SIZE, :SIZE]
    signal = np.zeros((SIZE, SIZE))
    width = fwhm / 2 / np.sqrt(2 ** (1 / 3) - 1)
    for row, column in places:
        square = np.square(y - row) + np.square(x - column)
        profile = 2 / np.pi / width**2 * (1 + square / width**2) ** -3.0
        sky = sim.expected[exposure][round(row), round(column)] + 9
        # The flux at which the sum of the squared sigmas of all pixels is right.
        fluxes = np.geomspace(10, 1e6, 2000)
        near = profile[profile > 1e-4, np.newaxis]
        square = np.square(fluxes * near) / (sky + fluxes * near)
        signal += profile * np.interp(sigmas, np.sqrt(square.sum(axis=0)), fluxes)
    data = [ccd.data.copy() for ccd in sim.exposures]
    data[exposure] = data[exposure] + rng.poisson(signal)
    ccds = [CCDData(plane.astype(np.float32), unit="electron") for plane in data]
    return ccds, tuple(np.rint(places).astype(int).T)


def count(n, sigmas, fwhm, rate, scene):
    """Return how many sources are listed, and groups of hits and listed ones."""
    listed = groups = wrong = 0
    for seed in (300, 301):
        sim = simulate_exposures(
            (SIZE, SIZE),
            n_exposures=n,
            scene=scene,
            seeing=fwhm,
            cr_rate=rate,
            seed=seed,
        )
        exposure = seed % n
        ccds, places = add_sources(sim, exposure, sigmas, seed, fwhm)
        masks = detect_cosmic_rays(ccds, readnoise=3.0)
        for i, mask in enumerate(masks.crmasks):
            flags = masks.diagnostics.flags[f"CRMASK{i + 1}"] == POINT_LIKE
            assert not (flags & ~mask).any()
            labels, number = ndimage.label(mask, np.ones((3, 3)))
            found, new = np.unique(labels[flags]), []
            if i == exposure:
                listed += np.count_nonzero(ndimage.maximum_filter(flags, 3)[places])
                new = np.unique(ndimage.maximum_filter(labels, 3)[places])
            groups += number - len(new)
            wrong += len(np.setdiff1d(found, new))
    return listed, groups, wrong


# The signal-to-noise ratio is that of all the flux.
@pytest.mark.parametrize(
    ("n", "sigmas", "fwhm", "rate", "scene"),
    [
        (2, 20, 2.5, 0.5, "stars"),
        (3, 20, 2.0, 0.5, "stars"),
        (2, 20, 4.5, 0.5, "stars"),
        (3, 20, 4.5, 1.0, "stars"),
        (4, 20, 3.0, 1.0, "stars"),
        (5, 20, 2.5, 1.0, "stars"),
        (3, 1000, 2.5, 0.5, "stars"),
        (3, 1000, 4.5, 0.5, "stars"),
        (2, 20, 2.5, 0.5, "fibres"),
        (2, 20, 4.5, 0.5, "fibres"),
        (2, 20, 2.0, 0.5, "longslit"),
        (3, 20, 4.5, 0.5, "longslit"),
    ],
)
def test_listed(n, sigmas, fwhm, rate, scene):
    """At least 90 % of the sources are listed, and at most 2 % of the hits."""
    listed, groups, wrong = count(n, sigmas, fwhm, rate, scene)
    assert listed >= 0.9 * 2 * NUMBER
    assert wrong <= 0.02 * groups


@pytest.mark.parametrize("along", ["rows", "columns"])
def test_changed_trace(along):
    """A faint trace that is brighter in one exposure is no point source."""
    rng = np.random.default_rng(320)
    y, x = np.mgrid[:160, :240]
    lines = np.exp(-np.square(x % 30 - 15) / 8)
    trace = np.exp(-np.square(y - 80.3) / 5) * (1 - lines)
    data = [rng.poisson(50 + 400 * lines + f * trace) for f in (36.0, 16, 16)]
    data = [plane if along == "rows" else plane.T for plane in data]
    ccds = [CCDData(plane.astype(np.float32), unit="electron") for plane in data]
    masks = detect_cosmic_rays(ccds, readnoise=3.0)
    assert masks.point_sources is None or len(masks.point_sources) == 0


@pytest.mark.parametrize("scene", ["stars", "fibres", "longslit"])
def test_hits_alone(scene):
    """Without a source hardly any of many hits is listed."""
    sim = simulate_exposures((256, 256), scene=scene, seed=310)
    masks = detect_cosmic_rays(sim.exposures, gain=1.0, readnoise=3.0)
    summary = masks.summary()
    rows = summary[summary["mask"] == "POINT_LIKE"]
    groups = summary["groups"][list(summary["mask"]).index("MEANCRT")]
    assert sum(rows["groups"]) <= 0.02 * groups


def test_table(tmp_path, monkeypatch):
    """Table, summary and report list the sources, also from a file."""
    sim = simulate_exposures(
        (SIZE, SIZE), scene="stars", n_exposures=3, cr_rate=0.5, seed=320
    )
    ccds, places = add_sources(sim, 1, 100, 320)
    masks = detect_cosmic_rays(ccds, readnoise=3.0)
    assert masks.crmasks[1][places].all()
    masks.write(tmp_path / "masks.fits")
    read = CRMaskSet.read(tmp_path / "masks.fits")
    assert read == masks
    texts = []
    monkeypatch.setattr(ReportFigure, "png", lambda _: b"")  # takes long
    for given in (masks, read):
        table = detection_table(ccds, given, "CRMASK2")
        listed = table[table["class"] == "point-like"]
        assert len(listed) >= 0.9 * NUMBER
        assert (table["class"][: len(listed)] == "point-like").all()
        # Each is listed where its peak is, a track beside it or not.
        distance = np.hypot(
            np.subtract.outer(listed["y"] - 1, places[0]),
            np.subtract.outer(listed["x"] - 1, places[1]),
        )
        assert distance.min(axis=1).max() < 2
        summary = given.summary()
        row = summary[list(summary["mask"]).index("POINT_LIKE")]
        assert row["groups"] >= len(listed)
        page = write_report(ccds, given, tmp_path / f"{id(given)}", maxplots=1)
        text = page.paths["index.html"].read_text()
        texts.append(text.partition("shape of a point source")[2].partition("</p>")[0])
        assert texts[-1].count(";") == row["groups"] - 1
    assert texts[0] == texts[1]


def test_part_and_edit():
    """Point sources are moved with a part, and forgotten where unmasked."""
    crmasks = np.zeros((2, 5, 6), dtype=bool)
    crmasks[1, 2, 3] = crmasks[1, 4, 5] = True
    masks = CRMaskSet(
        crmasks[0], crmasks[1], crmasks, point_sources=[[2, 4, 3], [2, 6, 5]]
    )
    assert masks[1:4, 2:5].point_sources.tolist() == [[2, 2, 2]]
    assert masks.edit(remove=[[4, 3]]).point_sources.tolist() == [[2, 6, 5]]
    with pytest.raises(ValueError, match="point_sources must be masked in their"):
        CRMaskSet(crmasks[0], crmasks[1], crmasks, point_sources=[[1, 4, 3]])


def test_unequal_times():
    """Mean and noise of the others are those of their weights."""
    ratio = np.array([1.0, 0.2, 0.2])
    sim = simulate_exposures(
        (SIZE, SIZE),
        scene="stars",
        n_exposures=3,
        cr_rate=0.1,
        flux=ratio.tolist(),
        seed=340,
    )
    ccds, places = add_sources(sim, 2, 30, 340)
    masks = detect_cosmic_rays(ccds, readnoise=3.0, flux_factor=ratio)
    found = masks.point_like[2]
    assert np.count_nonzero(found[places]) >= 0.9 * NUMBER
    assert not masks.point_like[:2].any()


def test_no_stars():
    """Where there are no stars nothing is said."""
    rng = np.random.default_rng(330)
    data = rng.poisson(50, (3, 100, 100)).astype(np.float32)
    data[0, 50:53, 50:53] += 200
    ccds = [CCDData(plane, unit="electron") for plane in data]
    masks = detect_cosmic_rays(ccds, readnoise=3.0)
    assert masks.crmasks[0, 51, 51]
    assert "POINT_LIKE" not in masks.summary()["mask"]


@pytest.mark.parametrize("seed", range(3))
def test_wide_structure(seed):
    """Where all structure is wider than point sources nothing is said."""
    rng = np.random.default_rng(seed)
    scene = ndimage.gaussian_filter(rng.normal(0, 1, (120, 120)), 6)
    data = rng.poisson(900 + 200 * scene / scene.std(), (3, 120, 120))
    data[0, 50:53, 50:53] += 500
    ccds = [CCDData(plane.astype(np.float32), unit="electron") for plane in data]
    masks = detect_cosmic_rays(ccds, readnoise=3.0)
    assert masks.crmasks[0, 51, 51]
    assert masks.point_sources is None
