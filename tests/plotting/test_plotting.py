# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the figures: what the artists hold."""

import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.visualization import ZScaleInterval
from matplotlib.figure import Figure
from numpy.testing import assert_array_equal

from ccdcr.plotting import plot_combinations

SHAPE = (30, 50)


def images_of(n):
    """Return images; the one of number i has values from 1000 i on."""
    image = np.arange(1500.0).reshape(SHAPE)
    return {f"image {i}": image + 1000 * i for i in range(n)}


def drawn(images, **kwargs):
    """Return the artists that are drawn on a given figure."""
    return plot_combinations(images, fig=Figure(), **kwargs)


class TestPlotCombinations:
    """Stamps of several images."""

    @pytest.mark.parametrize(
        ("x", "y", "semiwindow", "cut", "extent"),
        [
            # 7 x 7 pixels around the centre; the first pixel is (1, 1)
            (20, 10, 3, np.s_[6:13, 16:23], (16.5, 23.5, 6.5, 13.5)),
            # cut at the edges
            (1, 1, 2, np.s_[:3, :3], (0.5, 3.5, 0.5, 3.5)),
            (50, 30, 2, np.s_[27:, 47:], (47.5, 50.5, 27.5, 30.5)),
            (25, 15, 99, np.s_[:, :], (0.5, 50.5, 0.5, 30.5)),
        ],
    )
    def test_stamp(self, x, y, semiwindow, cut, extent):
        """The pixels around the centre, at their place."""
        images = images_of(2)
        artists = drawn(images, x=x, y=y, semiwindow=semiwindow)
        for artist, image in zip(artists, images.values(), strict=True):
            assert_array_equal(artist.get_array(), image[cut])
            assert tuple(artist.get_extent()) == extent
            assert artist.origin == "lower"

    def test_default_semiwindow(self):
        """20 pixels to each side."""
        (artist,) = drawn({"a": np.ones((100, 100))}, x=50, y=50)
        assert artist.get_array().shape == (41, 41)

    @pytest.mark.parametrize(
        ("n", "rows", "columns"),
        [(1, 1, 1), (2, 1, 2), (3, 1, 3), (4, 2, 2), (5, 2, 3), (6, 2, 3), (7, 2, 4)],
    )
    def test_grid(self, n, rows, columns):
        """One row of three at most; what is left of the second is empty."""
        artists = drawn(images_of(n), x=20, y=10)
        assert [artist.axes.get_title() for artist in artists] == list(images_of(n))
        figure = artists[0].figure
        grid = figure.axes[0].get_gridspec()
        assert (grid.nrows, grid.ncols) == (rows, columns)
        axes = {artist.axes for artist in artists}
        assert len(axes) == n
        assert len(figure.axes) == rows * columns
        assert all(ax.axison == (ax in axes) for ax in figure.axes)
        assert figure.get_supxlabel() == "x (pixel)"
        assert figure.get_supylabel() == "y (pixel)"

    def test_grey_scale(self):
        """One for all, of the stamp of the last image."""
        images = images_of(3)
        artists = drawn(images, x=20, y=10, semiwindow=4)
        limits = ZScaleInterval().get_limits(images["image 2"][5:14, 15:24])
        for artist in artists:
            assert artist.get_clim() == pytest.approx(limits)
            assert artist.get_cmap().name == "gray"
            assert artist.norm is artists[0].norm

    def test_shared_axes(self):
        """All stamps zoom together."""
        first, second = drawn(images_of(2), x=20, y=10)
        first.axes.set_xlim(10, 12)
        assert second.axes.get_xlim() == (10, 12)

    @pytest.mark.parametrize("masked", [False, True])
    def test_ccddata(self, masked):
        """Images may be CCDData, with NaN under their mask."""
        data = np.arange(1500.0).reshape(SHAPE)
        mask = None
        if masked:
            mask = np.zeros(SHAPE, bool)
            mask[9, 19] = True
            data[9, 19] = np.nan
        ccd = CCDData(data, unit="adu", mask=mask)
        first, second = drawn({"a": ccd, "b": data}, x=20, y=10)
        assert_array_equal(np.ma.getdata(first.get_array()), data[:30, :40])
        assert np.isfinite(first.get_clim()).all()
        assert first.get_clim() == second.get_clim()
        first.figure.canvas.draw()

    def test_figure(self):
        """It draws on the figure that is given."""
        figure = Figure()
        artists = plot_combinations(images_of(2), x=20, y=10, fig=figure)
        assert all(artist.figure is figure for artist in artists)
        assert plot_combinations(images_of(2), x=20, y=10) is not figure


class TestStampRefused:
    """Images and centres that make no stamp."""

    @pytest.mark.parametrize(
        ("images", "match"),
        [
            ({}, "one or more of one shape, got none"),
            (
                {"a": np.ones((3, 4)), "b": np.ones((4, 4))},
                "images must be one or more",
            ),
        ],
    )
    def test_images(self, images, match):
        """No image, or images of different shapes."""
        with pytest.raises(ValueError, match=match):
            plot_combinations(images, x=1, y=1)

    @pytest.mark.parametrize(("x", "y"), [(0, 1), (5, 1), (1, 0), (1, 4)])
    def test_centre(self, x, y):
        """The centre lies in the image; the first pixel is (1, 1)."""
        with pytest.raises(ValueError, match="images of 4 x 3 pixels, got"):
            plot_combinations({"a": np.ones((3, 4))}, x=x, y=y)
