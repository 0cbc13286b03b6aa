# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of features, dilation and the user's lists."""

import numpy as np
import pytest

from ccdcr import Requirements
from ccdcr.detection.common import (
    UserLists,
    assemble,
    drop_flat_features,
    flag_origins,
    user_lists,
)
from ccdcr.utils.planes import Observed, make_planes

SHAPE = (6, 8)


def _mask(*pixels, shape=SHAPE):
    mask = np.zeros(shape, dtype=bool)
    for y, x in pixels:
        mask[y, x] = True
    return mask


def test_flat_features_are_dropped():
    """A feature stays whole if one of its pixels exceeds the threshold."""
    mask = _mask((0, 0), (0, 1), (3, 3), (3, 4))
    excess = np.zeros(SHAPE)
    excess[0, 1], excess[3, 3], excess[5, 5] = 2.5, 2.0, 9.0
    kept = drop_flat_features(mask, excess, 2.0)
    np.testing.assert_array_equal(kept, _mask((0, 0), (0, 1)))


class TestUserLists:
    """Regions and pixels in FITS style, the first pixel is (1, 1)."""

    def test_masks(self):
        """X comes first, limits are inclusive."""
        lists = user_lists(
            Requirements(
                regions_to_be_skipped=[[2, 3, 1, 2]],
                pixels_to_be_ignored_as_cr=[[8, 6]],
                pixels_to_be_flagged_as_cr=[[5, 4]],
                pixels_to_be_replaced_by_local_median=[[1, 6, 3, 3]],
            ),
            SHAPE,
        )
        never = _mask((0, 1), (0, 2), (1, 1), (1, 2), (5, 7))
        np.testing.assert_array_equal(lists.never, never)
        np.testing.assert_array_equal(lists.always, _mask((3, 4)))
        np.testing.assert_array_equal(lists.replaced, _mask((5, 0)))

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("regions_to_be_skipped", [[1, 9, 1, 2]]),
            ("regions_to_be_skipped", [[1, 2, 1, 7]]),
            ("pixels_to_be_flagged_as_cr", [[9, 1]]),
            ("pixels_to_be_ignored_as_cr", [[1, 7]]),
            ("pixels_to_be_replaced_by_local_median", [[9, 1, 3, 3]]),
        ],
    )
    def test_outside(self, name, value):
        """Regions and pixels outside the image are refused."""
        with pytest.raises(ValueError, match=f"{name} must lie in the image of 8 x 6"):
            user_lists(Requirements(**{name: value}), SHAPE)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("pixels_to_be_ignored_as_cr", [[5, 4]]),
            ("pixels_to_be_replaced_by_local_median", [[5, 4, 3, 1]]),
        ],
    )
    def test_contradiction(self, name, value):
        """A pixel cannot be flagged and not flagged."""
        requirements = Requirements(
            pixels_to_be_flagged_as_cr=[[5, 4]], **{name: value}
        )
        with pytest.raises(ValueError, match=rf"{name} both hold \[\[5, 4\]\]"):
            user_lists(requirements, SHAPE)


class TestAssemble:
    """From detected pixels to masks."""

    @staticmethod
    def _assemble(found, *, lists=None, dilation=0, bad=None, stack=None):
        stack = np.zeros((3, *SHAPE)) if stack is None else stack
        names = ("MEDIANCR", "MEANCRT", "CRMASK1", "CRMASK2", "CRMASK3")
        found = {name: found.get(name, _mask()) for name in names}
        observed = Observed(stack, bad, make_planes(stack, bad), np.ones(3), None)
        return assemble(found, observed, lists or UserLists(), dilation)

    def test_relations(self):
        """The mean has the hits of the median; exposures only those of the mean."""
        found = {
            "MEDIANCR": _mask((1, 1)),
            "MEANCRT": _mask((4, 4)),
            "CRMASK1": _mask((1, 1), (4, 4), (5, 7)),
        }
        masks = self._assemble(found)
        np.testing.assert_array_equal(masks["MEDIANCR"], _mask((1, 1)))
        np.testing.assert_array_equal(masks["MEANCRT"], _mask((1, 1), (4, 4)))
        np.testing.assert_array_equal(masks["CRMASK1"], _mask((1, 1), (4, 4)))
        assert not masks["CRMASK2"].any()

    def test_dilation(self):
        """Every mask is dilated; the mean's contains that of the median."""
        found = {"MEDIANCR": _mask((2, 2)), "CRMASK1": _mask((2, 2))}
        masks = self._assemble(found, dilation=1)
        assert masks["MEDIANCR"].sum() == 9
        assert masks["MEANCRT"].sum() == 25
        assert masks["CRMASK1"].sum() == 9

    def test_never(self):
        """Nothing enters a skipped region, and nothing grows out of it."""
        found = {"MEDIANCR": _mask((2, 2), (4, 6))}
        lists = UserLists(never=_mask((2, 2), (3, 5)))
        masks = self._assemble(found, lists=lists, dilation=1)
        for name in ("MEDIANCR", "MEANCRT"):
            assert not (masks[name] & lists.never).any()
        assert masks["MEDIANCR"].sum() == 8
        assert not masks["MEDIANCR"][1:4, 1:4].any()

    def test_always(self):
        """A flagged pixel is on everywhere but in its lowest exposure."""
        stack = np.zeros((3, *SHAPE))
        stack[:, 3, 4] = 5, 2, 9
        masks = self._assemble({}, lists=UserLists(always=_mask((3, 4))), stack=stack)
        on = {name: bool(mask[3, 4]) for name, mask in masks.items()}
        assert on == {
            "MEDIANCR": True,
            "MEANCRT": True,
            "CRMASK1": True,
            "CRMASK2": False,
            "CRMASK3": True,
        }
        assert sum(mask.sum() for mask in masks.values()) == 4

    def test_replaced(self):
        """A pixel that gets its local median is not flagged."""
        found = {"MEDIANCR": _mask((2, 2))}
        masks = self._assemble(
            found, lists=UserLists(replaced=_mask((2, 3))), dilation=1
        )
        assert not masks["MEDIANCR"][2, 3]
        assert masks["MEDIANCR"].sum() == 8

    def test_bad_pixels(self):
        """Bad pixels are neither flagged nor dilated."""
        bad = np.zeros((3, *SHAPE), bool)
        bad[0, 2, 2] = bad[1, 2, 3] = True
        bad[:, 4, 6] = True
        found = {
            "MEDIANCR": _mask((4, 6)),
            "MEANCRT": _mask((2, 2)),
            "CRMASK1": _mask((2, 2)),
            "CRMASK2": _mask((2, 2)),
        }
        masks = self._assemble(found, dilation=1, bad=bad)
        assert not masks["MEDIANCR"].any()
        assert not masks["CRMASK1"].any()
        assert masks["CRMASK2"].sum() == 8
        assert not masks["CRMASK2"][2, 3]


def test_origins():
    """Dilation, Median-Minimum, single image, both, and the user."""
    mask = _mask(*[(0, x) for x in range(6)])
    flags = flag_origins(
        {"MEDIANCR": mask},
        {"MEDIANCR": _mask((0, 2), (0, 3), (5, 5))},
        {"MEDIANCR": _mask((0, 1), (0, 3))},
        UserLists(always=_mask((0, 4))),
    )
    assert flags["MEDIANCR"][0].tolist() == [1, 2, 3, 4, 5, 1, 0, 0]
    assert not flags["MEDIANCR"][1:].any()
