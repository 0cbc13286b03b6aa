# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of exposures that are dask arrays, and of arrays that are refused."""

import numpy as np
import pytest
from astropy.nddata import CCDData, StdDevUncertainty
from numpy.testing import assert_array_equal

from ccdcr import CRCombiner, CRMaskSet, combine, detect_cosmic_rays

SHAPE = (40, 12)
N = 4
METHODS = ["mediancr", "meancrt", "meancr"]

# Random masks are not those of the exposures.
pytestmark = pytest.mark.filterwarnings("ignore::ccdcr.ForeignMasksWarning")


def arrays():
    """Return data, masks and standard deviations."""
    rng = np.random.default_rng(7)
    data = rng.normal(100, 10, (N, *SHAPE)).astype(np.float32)
    return data, rng.random(data.shape) < 0.1, rng.uniform(5, 20, data.shape)


def mask_set():
    """Return random masks."""
    rng = np.random.default_rng(8)
    return CRMaskSet(
        rng.random(SHAPE) < 0.3,
        rng.random(SHAPE) < 0.5,
        rng.random((N, *SHAPE)) < 0.3,
        gain=2.0,
        uuid="this one",
        readnoise=5.0,
        local_median_pixels=[[5, 10, 3, 9]],
    )


def exposures(convert=np.asarray):
    """Return exposures of which data and uncertainty are converted."""
    return [
        CCDData(
            convert(data),
            unit="adu",
            mask=mask,
            uncertainty=StdDevUncertainty(convert(sigma)),
        )
        for data, mask, sigma in zip(*arrays(), strict=True)
    ]


class Foreign:
    """An array of another package, which must never be converted."""

    dtype, ndim = np.dtype(float), 2
    unit = mask = None

    def __init__(self, shape=SHAPE):
        self.shape = shape

    def __getitem__(self, item):
        """Give no part either."""
        pytest.fail("a part was taken")

    def __array__(self, *_, **__):
        """Fail as soon as somebody converts it."""
        pytest.fail("converted")


Foreign.__module__ = "cupy"


class TestDask:
    """The same bits as with arrays in memory."""

    @pytest.fixture(name="lazy")
    def fixture_lazy(self):
        """Return exposures whose chunks do not fit the tiles."""
        da = pytest.importorskip("dask.array")
        return exposures(lambda array: da.from_array(array, chunks=(7, 5)))

    def check(self, lazy, methods=METHODS, **options):
        """Compare with arrays in memory."""
        for method in methods:
            result = combine(lazy, method=method, crmasks=mask_set(), **options)
            whole = combine(exposures(), method=method, crmasks=mask_set(), **options)
            assert type(result.data) is np.ndarray
            assert_array_equal(result.data, whole.data)
            assert_array_equal(result.mask, whole.mask)
            assert_array_equal(result.uncertainty.array, whole.uncertainty.array)
            assert result.header == whole.header

    @pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
    @pytest.mark.parametrize("limit", [4e5, 16e9])
    def test_scheduler(self, lazy, scheduler, limit):
        """With the scheduler that is set."""
        dask = pytest.importorskip("dask")
        with dask.config.set(scheduler=scheduler):
            self.check(lazy, mem_limit=limit)
            self.check(lazy, mem_limit=limit, minmax_clip=True, minmax_clip_min=90)

    def test_scheduler_is_used(self, lazy):
        """It sees several tiles at once, and each chunk is asked for by rows."""
        dask = pytest.importorskip("dask")
        seen = []

        def get(graph, keys, **kwargs):
            seen.append(len(keys[0]) if isinstance(keys[0], list) else len(keys))
            return dask.get(graph, keys, **kwargs)

        with dask.config.set(scheduler=get):
            combine(lazy, crmasks=mask_set(), mem_limit=4e5)
        assert len(seen) >= 1
        assert max(seen) > 1

    def test_mixed(self, lazy, tmp_path):
        """Some exposures may be files or arrays."""
        given = exposures()
        given[1].write(tmp_path / "one.fits")
        self.check([lazy[0], tmp_path / "one.fits", given[2], lazy[3]])

    def test_scale_function(self, lazy):
        """A function sees the dask array."""
        kinds = set()

        def scale(data):
            kinds.add(type(data).__module__)
            return 100 / float(data.mean())

        result = combine(lazy, crmasks=mask_set(), scale=scale)
        assert kinds == {"dask.array.core"}
        means = [ccd.data.mean() for ccd in exposures()]
        whole = combine(exposures(), crmasks=mask_set(), scale=[100 / m for m in means])
        np.testing.assert_allclose(result.data, whole.data, rtol=1e-6)

    def test_larger_than_memory(self):
        """Only the tiles that are worked on are made."""
        da = pytest.importorskip("dask.array")
        heights = []

        def make(block_info):
            (start, stop), _ = block_info[None]["array-location"]
            heights.append(stop - start)
            return np.full((stop - start, SHAPE[1]), 100.0)

        data = da.map_blocks(
            make, chunks=((4,) * 10, (SHAPE[1],)), dtype=float, meta=np.empty((0, 0))
        )
        ccds = [CCDData(data, unit="adu") for _ in range(N)]
        result = combine(ccds, crmasks=mask_set(), mem_limit=4e5)
        assert (result.data == 100).all()
        assert set(heights) == {4}

    def test_distributed(self, lazy):
        """On a cluster of another process."""
        distributed = pytest.importorskip("distributed")
        dask = pytest.importorskip("dask")
        options = {"n_workers": 1, "threads_per_worker": 2, "dashboard_address": None}
        with (
            dask.config.set({"distributed.worker.daemon": True}),
            distributed.LocalCluster(processes=True, **options) as cluster,
            distributed.Client(cluster),
        ):
            self.check(lazy, ["meancr"], mem_limit=4e5)

    @pytest.mark.parametrize("method", ["average", "median", "sum"])
    def test_plain(self, lazy, method):
        """The methods of ccdproc take it as ccdproc does."""
        result = combine(lazy, method=method)
        whole = combine(exposures(), method=method)
        assert_array_equal(np.asarray(result.data), whole.data)

    def test_combiner(self, lazy):
        """The Combiner has arrays in memory and says what to use."""
        message = (
            r"the data of exposure 1 is dask\.array\.core\.Array; use ccdcr\.combine, "
            r"or call compute\(\) first"
        )
        with pytest.raises(TypeError, match=message):
            CRCombiner(lazy, mask_set())
        with pytest.raises(TypeError, match=message):
            detect_cosmic_rays(lazy, gain=1, readnoise=3)


@pytest.mark.parametrize(
    "function",
    [
        lambda ccds: combine(ccds, crmasks=mask_set()),
        lambda ccds: combine(ccds, method="median"),
        lambda ccds: CRCombiner(ccds, mask_set()),
        lambda ccds: detect_cosmic_rays(ccds, gain=1, readnoise=3),
    ],
)
def test_other_arrays(function):
    """Arrays of other packages are refused by name, never converted."""
    ccds = exposures()
    ccds[2]._data = Foreign()
    message = (
        r"the data of exposure 3 is cupy\.Foreign; convert them to numpy arrays first"
    )
    with pytest.raises(TypeError, match=message):
        function(ccds)
    ccds = exposures()
    ccds[1].uncertainty._array = Foreign()
    message = r"the uncertainty of exposure 2 is cupy\.Foreign; convert"
    with pytest.raises(TypeError, match=message):
        function(ccds)
