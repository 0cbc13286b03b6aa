# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Each published rule of the benchmark does what its description says, by hand."""

import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
if not (FOLDER / "field.py").exists():
    pytest.skip("benchmarks are not part of a release", allow_module_level=True)


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    yield
    for name in [n for n in sys.modules if n.startswith("field") or n == "accuracy"]:
        monkeypatch.delitem(sys.modules, name)


def flat(*levels, shape=(9, 9)):
    """Return exposures (n, ny, nx) of constant levels."""
    return np.array([np.full(shape, level, dtype=float) for level in levels])


def pixel(masks, y=4, x=4):
    """Return in which exposures a pixel is masked."""
    return masks[:, y, x].tolist()


def test_variance():
    """100 adu at 4 electrons per adu and a read noise of 12 electrons: 25 + 9."""
    from field_rules import variance

    assert variance(np.array([100.0, -5.0]), 4.0, 12.0).tolist() == [34.0, 9.0]


def test_clean_mean():
    """The mean of what is left; the minimum where nothing is."""
    from field_rules import clean_mean

    stack = flat(2, 4, 12)
    masks = np.zeros(stack.shape, dtype=bool)
    masks[2, 0] = masks[:, 1] = True
    image = clean_mean(stack, masks)
    assert image[:3, 0].tolist() == [3.0, 2.0, 6.0]


class TestSigmaClip:
    """Clipping by ccdproc."""

    def test_three_values_are_never_clipped(self):
        """None of three is more than 2 / sqrt(3) = 1.15 deviations from the mean."""
        from field_rules import sigma_clip

        stack = flat(100, 100, 100)
        stack[0, 4, 4] = 1e6
        assert not sigma_clip(stack, 1.0, 3.0)[0].any()

    def test_robust(self):
        """Two of 100 and 101 about a median of 101, scatter 1.48: 1000 is 600 away."""
        from field_rules import sigma_clip

        stack = flat(100, 101, 102)
        stack[2, 4, 4] = 1000
        masks, image = sigma_clip(stack, 1.0, 3.0, sigma=5.0, robust=True)
        assert pixel(masks) == [False, False, True]
        assert image[4, 4] == 100.5
        assert image[0, 0] == 101


@pytest.mark.parametrize(("part", "left"), [(None, 2), (0.5, 2), (0.7, 1)])
def test_clip_extrema(part, left):
    """The highest of three; 0.5 and 0.7 of three are one and two values."""
    from field_rules import clip_extrema

    masks, image = clip_extrema(flat(1, 2, 3), 1.0, 3.0, part=part)
    assert ((~masks).sum(axis=0) == left).all()
    assert image[4, 4] == (1.5 if left == 2 else 1)


class TestCrrej:
    """Noise-model rejection from the minimum."""

    def test_two_of_three(self):
        """From the minimum both are found, and the third is left."""
        from field_rules import crrej

        stack = flat(100, 100, 100)
        stack[:2, 4, 4] = 300, 250
        masks, image = crrej(stack, 1.0, 0.0)
        assert pixel(masks) == [True, True, False]
        assert (image == 100).all()

    @pytest.mark.parametrize(("hit", "found"), [(66, True), (50, False)])
    def test_passes(self, hit, found):
        """
        Noise 10: 66 is found in the first pass, 50 in none.

        Then the mean is 117, with 33 = 3.1 sigma left: below 5.5 and 4.5 sigma.
        """
        from field_rules import crrej

        stack = flat(100, 100, 100)
        stack[0, 4, 4] += hit
        assert pixel(crrej(stack, 1.0, 0.0)[0])[0] == found

    def test_neighbours(self):
        """Two pixels from a rejected one .5555 of the limit is enough, not three."""
        from field_rules import crrej

        stack = flat(100, 100, 100)
        stack[0, 4, 4:9] = 1000, 140, 140, 140, 100
        masks, _ = crrej(stack, 1.0, 0.0)
        assert masks[0, 4, 4:9].tolist() == [True, True, True, False, False]

    def test_scale_noise(self):
        """10% of 10000 is ten times the noise: 2000 more is 2 sigma."""
        from field_rules import crrej

        stack = flat(10000, 10000, 10000)
        stack[0, 4, 4] = 12000
        assert pixel(crrej(stack, 1.0, 0.0)[0])[0]
        assert not crrej(stack, 1.0, 0.0, scalenoise=0.1)[0].any()

    def test_sky(self):
        """Skies of other levels are no cosmic rays, and the mean level is kept."""
        from field_rules import crrej

        masks, image = crrej(flat(100, 400, 1000), 1.0, 3.0)
        assert not masks.any()
        assert image[4, 4] == 500


class TestScaledMinimum:
    """The minimum of scaled visits."""

    def test_scale(self):
        """Exposures of 80% and 120% of the flux are equal, but for a hit."""
        from field_rules import scaled_minimum

        scene = np.linspace(100, 2000, 400).reshape(20, 20)
        stack = np.array([0.8 * scene, scene, 1.2 * scene])
        stack[0, 2, 2] += 300
        masks, _ = scaled_minimum(stack, 1.0, 3.0)
        assert np.argwhere(masks).tolist() == [[0, 2, 2]]

    def test_few(self):
        """The minimum sees a hit in three of four, the median of five does not."""
        from field_rules import scaled_minimum

        scene = np.linspace(100, 2000, 400).reshape(20, 20)
        for n, found in ((4, 3), (5, 0)):
            stack = np.array([scene] * n)
            stack[:3, 2, 2] += 300
            assert scaled_minimum(stack, 1.0, 3.0)[0].sum() == found


@pytest.mark.parametrize(
    ("n", "lower", "upper"),
    [
        (2, 99, None),
        (3, 2.6, 2.7),
        (4, 3.4, 3.5),
        (5, 4.3, 4.4),
        (6, 6.7, 6.8),
        (7, 8.9, 9.0),
    ],
)
def test_clip_by_number(n, lower, upper):
    """
    Of 0, 1, 2, ... and a last value, this is clipped or not.

    The median is (n - 1) / 2, the median absolute deviation 1, 1, 1, 1.5 and 2 of 3 to
    7 values; the limits are 1.483 times it times 1.1, 1.3, 1.6, 1.9 and 2 above.
    """
    from field_rules import clip_by_number

    for last, clipped in ((lower, 0), (upper, 1)):
        if last is not None:
            masks, _ = clip_by_number(flat(*range(n - 1), last), 1.0, 3.0)
            assert masks.sum(axis=0).max() == clipped
            assert masks[:-1].sum() == 0


class TestDrizCr:
    """Noise and the derivative of the clean image."""

    def test_derivative(self):
        """The largest step to one of four neighbours; not to the diagonal ones."""
        from field_rules import derivative

        image = np.zeros((5, 5))
        image[2, 2] = 7
        around = derivative(image)[1:4, 1:4]
        assert around.tolist() == [[0, 7, 0], [7, 7, 7], [0, 7, 0]]

    def test_minimum_where_the_median_is_too_high(self):
        """Noise 10: a median 41 above the minimum is not taken, one of 39 is."""
        from field_rules import minmed

        stack = flat(100, 100, 100)
        stack[1:, 2, 2], stack[1:, 2, 7] = 141, 139
        image = minmed(stack, 1.0, 0.0)
        assert (image[2, 2], image[2, 7]) == (100, 139)

    def test_steps_protect(self):
        """On a flat image 3.5 sigma are enough, not beside a star of 1000."""
        from field_rules import driz_cr

        stack = flat(100, 100, 100)
        stack[:, 4, 4] = 1100
        stack[0, 4, 3] += 500
        stack[0, 7, 7] += 36
        stack[1, 7, 1] += 34
        masks, _ = driz_cr(stack, 1.0, 0.0)
        assert np.argwhere(masks).tolist() == [[0, 7, 7]]


class TestFewEpochs:
    """What is seen in few epochs is an artifact."""

    @pytest.mark.parametrize(("n", "hit", "kept"), [(2, 1, 0), (3, 1, 1), (5, 2, 2)])
    def test_number_of_epochs(self, n, hit, kept):
        """0.4 N epochs: none of two, one of three, two of five are rejected."""
        from field_rules import few_epochs

        stack = flat(*[100] * n)
        stack[:hit, 4, 4] += 300
        assert few_epochs(stack, 1.0, 3.0)[0].sum() == kept

    def test_variable_source(self):
        """What deviates in three of five epochs is a source."""
        from field_rules import few_epochs

        stack = flat(*[100] * 5)
        stack[:, 4, 4] = 100, 300, 500, 700, 900
        assert not few_epochs(stack, 1.0, 3.0)[0].any()


class TestRunningShares:
    """Shares of exposures in rows."""

    def test_shares(self):
        """Shares of 1 : 2 : 3 along a row, and one hit, which is replaced."""
        from field_rules import running_shares

        row = 100 + np.arange(60)
        stack = np.array([k * np.tile(row, (3, 1)) for k in (1.0, 2.0, 3.0)])
        stack[0, 1, 30] += 500
        masks, image = running_shares(stack, 1.0, 3.0, half=5)
        assert np.argwhere(masks).tolist() == [[0, 1, 30]]
        assert image[1, 30] == pytest.approx(2 * row[30], rel=1e-3)

    def test_two_are_summed(self):
        """Two exposures are not compared."""
        from field_rules import running_shares

        stack = flat(100, 100)
        stack[0, 4, 4] = 900
        masks, image = running_shares(stack, 1.0, 3.0)
        assert not masks.any()
        assert image[4, 4] == 500


class TestScores:
    """Scores of masks and images."""

    def test_by_hand(self):
        """Two of three hits found, one false pixel of 42 x 42, and its errors."""
        from field_scenes import Scene
        from field_scores import count, score

        stack = flat(100, 100, 100, shape=(50, 50))
        hits = np.zeros(stack.shape, dtype=bool)
        hits[0, 10, 10] = hits[1, 10, 10] = hits[0, 20, 20] = True
        masks = hits.copy()
        masks[0, 20, 20] = False
        masks[2, 40, 40] = True
        scene = Scene(stack + 90 * hits, 1.0, 0.0, hits, hits, hits, stack)
        image = stack.mean(axis=0)
        image[20, 20] += 30
        got = score(count(scene, masks, image))
        assert got["recall"] == 1
        assert got["own_recall"] == pytest.approx(2 / 3)
        assert got["own_false"] == pytest.approx(1e6 / 3 / 42**2)  # no edge of 4
        assert got["false"] == got["lost"] == got["error"] == got["efficiency"] == 0

    def test_flux_lost(self):
        """Half of the brightest pixels' flux is lost."""
        from field_scenes import Scene
        from field_scores import count, score

        stack = flat(100, 100, shape=(58, 58))
        stack[:, 5, 5:30] = 5000
        hits = np.zeros(stack.shape, dtype=bool)
        image = stack.mean(axis=0)
        image[5, 5:30] = 2500
        scene = Scene(stack, 1.0, 0.0, hits, hits)
        assert score(count(scene, None, image))["lost"] == pytest.approx(50)


def test_resume(tmp_path, capsys):
    """What a table has is not done again; other sizes are refused."""
    import field

    table = tmp_path / "field.ecsv"
    known = ["--scenes", "stars-eq", "--exposures", "3", "--seeds", "1"]
    known += ["--table", str(table), "--rules", "mean", "median"]
    assert field.main([*known[:-1], "--size", "32"]) == 0
    first = table.read_text()
    capsys.readouterr()
    assert field.main([*known, "--size", "32"]) == 0
    assert "mean" not in capsys.readouterr().out
    assert first.splitlines()[-1] in table.read_text()
    with pytest.raises(SystemExit, match="other sizes"):
        field.main([*known, "--size", "40", "--scenes", "stars-all"])
