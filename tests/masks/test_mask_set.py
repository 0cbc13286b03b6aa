# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the mask set; numbers are worked out by hand."""

import re

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, NDData
from astropy.nddata.bitmask import bitfield_to_boolean_mask, interpret_bit_flags
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from ccdcr import CRMaskSet, Requirements, UnknownRequirementError

NY, NX = SHAPE = (4, 6)
UUID = "9f1c54a2-0000-4000-8000-000000000000"


def make_planes(n=3):
    """Return masks: one pixel hit in all exposures, one in two, four in one."""
    crmasks = np.zeros((n, NY, NX), dtype=bool)
    crmasks[:, 1, 2] = True
    crmasks[:2, 3, 5] = True
    crmasks[0, 0, 0] = crmasks[0, 1, 1] = True  # the second touches (1, 2)
    crmasks[1, 3, 4] = True  # touches (3, 5)
    crmasks[2, 0, 5] = True
    hits = crmasks.sum(axis=0)
    return hits > n / 2, hits > 0, crmasks


def make_set(**kwargs):
    """Return a mask set of three exposures."""
    return CRMaskSet(*make_planes(), **kwargs)


def full_arguments():
    """Return everything that may be given."""
    rng = np.random.default_rng(3)
    return {
        "meancr": np.eye(NY, NX, dtype=np.uint8),
        "lamedian": rng.normal(size=SHAPE).astype(np.float32) * u.electron,
        "flux_factor": [0.9, 1.0, 1.1],
        "local_median_pixels": [[1, 1, 3, 3], [3, 2, 5, 1], [6, 4, 1, 3]],
        "requirements": Requirements(dilation=2),
        "gain": 1.7,
        "readnoise": 3.4,
        "bias": 100.0,
        "uuid": UUID,
        "meta": {"OBJECT": "M 31"},
    }


@pytest.fixture
def masks():
    """Return a mask set with everything in it."""
    return make_set(**full_arguments())


@pytest.fixture
def ccds():
    """Return three exposures, the second with a mask of its own."""
    data = np.arange(NY * NX, dtype=float).reshape(SHAPE)
    ccds = [CCDData(data + i, unit="adu", meta={"NUMBER": i}) for i in range(3)]
    ccds[1].mask = np.zeros(SHAPE, dtype=bool)
    ccds[1].mask[2, 2] = True
    return ccds


class TestConstruction:
    """What may be given, and what comes out."""

    def test_minimal(self):
        """Masks alone are enough."""
        mediancr, meancrt, crmasks = make_planes()
        masks = CRMaskSet(mediancr, meancrt, crmasks)
        assert_array_equal(masks.mediancr, mediancr)
        assert_array_equal(masks.meancrt, meancrt)
        assert_array_equal(masks.crmasks, crmasks)
        assert len(masks) == 3
        assert masks.shape == SHAPE
        assert_array_equal(masks.flux_factor, [1, 1, 1])
        for name in (
            "meancr",
            "lamedian",
            "local_median_pixels",
            "requirements",
            "gain",
            "readnoise",
            "bias",
        ):
            assert getattr(masks, name) is None
        assert masks.meta == {}
        assert not masks.diagnostics
        assert masks.extra_hdus == ()

    def test_everything(self, masks):
        """Everything that is given comes out."""
        given = full_arguments()
        assert_array_equal(masks.meancr, given["meancr"].astype(bool))
        assert_array_equal(masks.lamedian, given["lamedian"])
        assert masks.lamedian.unit == u.electron
        assert_array_equal(masks.flux_factor, given["flux_factor"])
        assert_array_equal(masks.local_median_pixels, given["local_median_pixels"])
        assert masks.local_median_pixels.dtype == np.int64
        for name in ("requirements", "gain", "readnoise", "bias", "uuid", "meta"):
            assert getattr(masks, name) == given[name]

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.uint16])
    def test_dtypes(self, dtype):
        """0 and 1 of any integer type become bool."""
        planes = [plane.astype(dtype) for plane in make_planes()]
        masks = CRMaskSet(*planes, meancr=planes[0])
        for mask in (masks.mediancr, masks.meancrt, masks.crmasks, masks.meancr):
            assert mask.dtype == bool
        assert masks == make_set(meancr=planes[0])

    def test_lists(self):
        """Nested lists will do."""
        masks = CRMaskSet([[0, 1]], [[1, 1]], [[[0, 1]], [[1, 1]]])
        assert masks.shape == (1, 2)
        assert_array_equal(masks.crmasks[1], [[True, True]])

    def test_uuid(self):
        """Each set has its own identity unless it is given."""
        first, second = make_set(), make_set()
        assert first.uuid != second.uuid
        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", first.uuid)
        assert make_set(uuid="abc").uuid == "abc"

    def test_units(self):
        """Quantities are converted; the set holds plain numbers."""
        masks = make_set(
            gain=2 * u.electron / u.adu, readnoise=3e-3 * u.Unit("1000 electron")
        )
        assert masks.gain == 2
        assert type(masks.gain) is float
        assert_allclose(masks.readnoise, 3)
        assert make_set(bias=5 * u.adu).bias == 5

    def test_readnoise_zero(self):
        """No read noise is possible, and a negative bias."""
        masks = make_set(readnoise=0, bias=-3)
        assert (masks.readnoise, masks.bias) == (0, -3)

    def test_requirements_mapping(self):
        """A mapping becomes requirements."""
        masks = make_set(requirements={"dilation": 3, "flux_factor": "none"})
        assert masks.requirements == Requirements(dilation=3)

    @pytest.mark.parametrize("kind", [CCDData, NDData, u.Quantity])
    def test_lamedian_kinds(self, kind):
        """An image with a unit, whatever its class."""
        data = np.arange(NY * NX, dtype=float).reshape(SHAPE)
        masks = make_set(lamedian=kind(data, unit="adu"))
        assert masks.lamedian.unit == u.adu
        assert masks.lamedian.dtype == np.float32
        assert_array_equal(masks.lamedian.value, data)

    @pytest.mark.parametrize("kind", [np.array, NDData, np.ndarray.tolist])
    def test_lamedian_without_unit(self, kind):
        """An image without a unit has none."""
        data = np.arange(NY * NX, dtype=float).reshape(SHAPE)
        masks = make_set(lamedian=kind(data))
        assert type(masks.lamedian) is np.ndarray
        assert_array_equal(masks.lamedian, data)

    @pytest.mark.parametrize("boxes", [None, [], np.empty((0, 4), int)])
    def test_no_boxes(self, boxes):
        """An empty list of boxes is none."""
        assert make_set(local_median_pixels=boxes).local_median_pixels is None


class TestErrors:
    """What is refused, and how."""

    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_float_masks(self, position):
        """Masks of floats are of the wrong kind."""
        planes = list(make_planes())
        planes[position] = planes[position].astype(np.float32)
        name = ["mediancr", "meancrt", "crmasks"][position]
        message = f"{name} must be an array of bool or of 0 and 1, got dtype float32"
        with pytest.raises(TypeError, match=message):
            CRMaskSet(*planes)

    @pytest.mark.parametrize("position", [0, 1, 2])
    @pytest.mark.parametrize(
        ("value", "found"), [(2, "0 to 2"), (255, "0 to 255"), (-1, "-1 to 1")]
    )
    def test_other_values(self, position, value, found):
        """Only 0 and 1."""
        planes = [plane.astype(np.int16) for plane in make_planes()]
        planes[position][..., 0, 1] = value
        name = ["mediancr", "meancrt", "crmasks"][position]
        with pytest.raises(
            ValueError, match=f"{name} must hold only 0 and 1, got {found}"
        ):
            CRMaskSet(*planes)

    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_dimensions(self, position):
        """Images are 2D, the stack is 3D."""
        planes = list(make_planes())
        planes[position] = planes[position][0]
        name = ["mediancr", "meancrt", "crmasks"][position]
        found = re.escape(str(planes[position].shape))
        ndim = [2, 2, 3][position]
        message = f"{name} must have {ndim} dimensions, none empty, got {found}"
        with pytest.raises(ValueError, match=message):
            CRMaskSet(*planes)

    def test_empty(self):
        """No exposures, no set."""
        mediancr, meancrt, crmasks = make_planes()
        message = r"crmasks must have 3 dimensions, none empty, got \(0, 4, 6\)"
        with pytest.raises(ValueError, match=message):
            CRMaskSet(mediancr, meancrt, crmasks[:0])

    @pytest.mark.parametrize("name", ["mediancr", "meancrt", "meancr", "lamedian"])
    def test_shapes(self, name):
        """Both shapes are named."""
        mediancr, meancrt, crmasks = make_planes()
        planes = {"mediancr": mediancr, "meancrt": meancrt, name: mediancr[1:]}
        message = rf"{name} must have the shape of the masks, \(4, 6\), got \(3, 6\)"
        with pytest.raises(ValueError, match=message):
            CRMaskSet(crmasks=crmasks, **planes)

    @pytest.mark.parametrize("value", [[1, 1], 1.0, [1, 1, 1, 1], [[1, 1, 1]]])
    def test_number_of_flux_factors(self, value):
        """One flux factor for each exposure."""
        message = re.escape(
            f"flux_factor must hold 3 numbers, one per exposure, got {value!r}"
        )
        with pytest.raises(ValueError, match=message):
            make_set(flux_factor=value)

    @pytest.mark.parametrize("value", [0, -1.5, np.nan, np.inf])
    def test_flux_factor(self, value):
        """A factor must be possible; the message says which one is not."""
        message = (
            rf"flux_factor must hold finite numbers > 0, got {float(value)} "
            r"for exposure 2 \(FLUXF2\)"
        )
        with pytest.raises(ValueError, match=message):
            make_set(flux_factor=[1, value, 1])

    @pytest.mark.parametrize(
        ("boxes", "detail"),
        [
            ([[1, 1, 2, 3]], "widths must be odd, got 2 x 3"),
            ([[1, 1, 1, 1]], "the box must have at least 3 pixels"),
            ([[0, 1, 3, 3]], "four positive integers are needed"),
            ([[1, 1, 3]], "four positive integers are needed"),
        ],
    )
    def test_boxes(self, boxes, detail):
        """Boxes are checked like the requirement."""
        message = rf"local_median_pixels must be a list of .+\({detail}\)"
        with pytest.raises(ValueError, match=message):
            make_set(local_median_pixels=boxes)

    @pytest.mark.parametrize("boxes", [5, "all", [1, 1, 3, 3], [[1.5, 1, 3, 3]]])
    def test_boxes_kind(self, boxes):
        """Anything else is of the wrong kind."""
        with pytest.raises(TypeError, match="local_median_pixels must be a list of"):
            make_set(local_median_pixels=boxes)

    def test_boxes_ragged(self):
        """Rows of different length are refused by name."""
        with pytest.raises((TypeError, ValueError), match="local_median_pixels must"):
            make_set(local_median_pixels=[[1, 1, 3, 3], [1, 1, 3]])

    @pytest.mark.parametrize("pixel", [[NX + 1, 1], [1, NY + 1]])
    def test_boxes_outside(self, pixel):
        """The pixel lies in the image; x goes with the number of columns."""
        make_set(local_median_pixels=[[NX, NY, 3, 3]])
        message = (
            "local_median_pixels must lie in the image of 6 x 4 pixels, "
            + re.escape(f"got [{pixel}]")
        )
        with pytest.raises(ValueError, match=message):
            make_set(local_median_pixels=[[1, 1, 3, 3], [*pixel, 3, 3]])

    @pytest.mark.parametrize(
        ("name", "value", "rule"),
        [
            ("gain", 0, "a finite number > 0, got 0.0"),
            ("gain", -2.0, "a finite number > 0, got -2.0"),
            ("gain", np.nan, "a finite number > 0, got nan"),
            ("readnoise", -1, "a finite number >= 0, got -1.0"),
            ("readnoise", np.inf, "a finite number >= 0, got inf"),
            ("bias", np.nan, "a finite number, got nan"),
        ],
    )
    def test_scalars(self, name, value, rule):
        """Detector parameters must be possible."""
        with pytest.raises(ValueError, match=f"{name} must be {rule}"):
            make_set(**{name: value})

    @pytest.mark.parametrize(
        ("name", "value", "rule"),
        [
            ("gain", 2 * u.s, "be in electron / adu, got s"),
            ("gain", "high", "be one number, got 'high'"),
            ("gain", [1, 2], r"be one number, one for each .* got shape \(2,\)"),
            ("readnoise", 3 * u.adu, "be in electron, got adu"),
            ("readnoise", "RDNOISE", "be one number, got 'RDNOISE'"),
            ("bias", [1, 2], r"be one number, got \[1, 2\]"),
            ("flux_factor", ["a", "b", "c"], r"be an array of numbers, got \['a'"),
            ("lamedian", "image", "be an array of numbers, got 'image'"),
        ],
    )
    def test_parameter_is_named(self, name, value, rule):
        """The message says which parameter has the wrong kind or unit."""
        with pytest.raises((TypeError, ValueError), match=f"{name} must {rule}"):
            make_set(**{name: value})

    @pytest.mark.parametrize("uuid", ["", 5, b"abc"])
    def test_uuid(self, uuid):
        """The identity is text."""
        message = f"uuid must be a string that is not empty, got {uuid!r}"
        with pytest.raises(TypeError, match=message):
            make_set(uuid=uuid)

    def test_meta(self):
        """More keywords come as a mapping."""
        with pytest.raises(TypeError, match="meta must be a mapping, got list"):
            make_set(meta=["OBJECT"])

    def test_meta_keys(self):
        """Keywords are text."""
        with pytest.raises(TypeError, match="meta must have names of keywords"):
            make_set(meta={5: 1})

    def test_requirements(self):
        """Requirements are checked."""
        with pytest.raises(TypeError, match="requirements must be a mapping of names"):
            make_set(requirements=5)
        with pytest.raises(UnknownRequirementError, match="did you mean 'dilation'"):
            make_set(requirements={"dilatation": 2})

    def test_positional(self):
        """Only the masks are positional."""
        with pytest.raises(TypeError, match="positional"):
            CRMaskSet(*make_planes(), None)


class TestCopies:
    """The set is independent of the caller's arrays, and read-only."""

    def test_copied(self):
        """Later changes by the caller have no effect, and the other way round."""
        mediancr, meancrt, crmasks = make_planes()
        given = full_arguments()
        masks = CRMaskSet(mediancr, meancrt, crmasks, **given)
        for array in (mediancr, meancrt, crmasks, given["meancr"]):
            array[...] = 1
        given["lamedian"][...] = -1 * u.electron
        given["flux_factor"][0] = 7
        given["local_median_pixels"][0][0] = 5
        given["meta"]["OBJECT"] = "M 33"
        assert masks == make_set(**full_arguments())
        assert masks.meta == {"OBJECT": "M 31"}

    @pytest.mark.parametrize("name", ["flux_factor", "local_median_pixels", "lamedian"])
    def test_arrays_copied(self, name):
        """Arrays of the right type are copied too."""
        array = {
            "flux_factor": np.ones(3),
            "local_median_pixels": np.array([[1, 1, 3, 3]]),
            "lamedian": np.ones(SHAPE, np.float32),
        }[name]
        masks = make_set(**{name: array})
        assert not np.shares_memory(getattr(masks, name), array)
        assert array.flags.writeable

    @pytest.mark.parametrize(
        "name",
        [
            "mediancr",
            "meancrt",
            "crmasks",
            "meancr",
            "lamedian",
            "flux_factor",
            "local_median_pixels",
        ],
    )
    def test_read_only(self, masks, name):
        """Neither values nor attributes can be changed."""
        array = getattr(masks, name)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[1]
        with pytest.raises(AttributeError, match=name):
            setattr(masks, name, None)

    @pytest.mark.parametrize("name", ["gain", "uuid", "requirements", "shape"])
    def test_no_setter(self, masks, name):
        """Other attributes cannot be set either."""
        with pytest.raises(AttributeError, match=name):
            setattr(masks, name, None)

    def test_caller_stays_writable(self):
        """The caller's arrays are not frozen."""
        planes = make_planes()
        CRMaskSet(*planes)
        assert all(plane.flags.writeable for plane in planes)


class TestPlanes:
    """The masks by name."""

    def test_names(self, masks):
        """In the order of the file."""
        names = ["MEDIANCR", "MEANCRT", "CRMASK1", "CRMASK2", "CRMASK3"]
        assert list(make_set().planes) == names
        assert list(masks.planes) == [*names, "MEANCR"]
        assert masks.planes["MEDIANCR"] is masks.mediancr
        assert masks.planes["MEANCRT"] is masks.meancrt
        assert masks.planes["MEANCR"] is masks.meancr
        assert_array_equal(masks.planes["CRMASK3"], masks.crmasks[2])

    def test_repr(self):
        """One short line."""
        expected = f"<CRMaskSet(3 exposures, shape=(4, 6), uuid='{UUID}')>"
        assert repr(make_set(uuid=UUID)) == expected

    def test_str(self, masks):
        """The numbers of pixels are those of the construction."""
        lines = str(masks).splitlines()
        assert lines[:10] == [
            "CRMaskSet",
            f"uuid: {UUID}",
            "exposures: 3",
            "shape: (4, 6)",
            "flux factors: 0.9, 1, 1.1",
            "MEDIANCR: 2 pixels",
            "MEANCRT: 6 pixels",
            "CRMASK1: 4 pixels",
            "CRMASK2: 3 pixels",
            "CRMASK3: 2 pixels",
        ]
        assert lines[10] == "MEANCR: 4 pixels"
        assert "RPMEDIAN: 3 rows" in lines
        assert any(line.startswith("LAMEDIAN: ") for line in lines)
        assert str(masks).isascii()

    def test_str_minimal(self):
        """What is not there is not named."""
        text = str(make_set())
        for name in ("LAMEDIAN", "RPMEDIAN", "MEANCR:"):
            assert name not in text


class TestEquality:
    """When two sets are equal."""

    def test_equal(self, masks):
        """Identity and further keywords do not matter."""
        other = full_arguments() | {"uuid": "other", "meta": {}}
        assert masks == make_set(**other)
        assert not masks != make_set(**other)  # noqa: SIM202

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("meancr", None),
            ("meancr", np.zeros(SHAPE, bool)),
            ("lamedian", None),
            ("lamedian", np.zeros(SHAPE) * u.electron),
            ("flux_factor", [0.9, 1.0, 1.1001]),
            ("local_median_pixels", None),
            ("local_median_pixels", [[1, 1, 3, 3]]),
            ("requirements", None),
            ("requirements", {"dilation": 3}),
            ("gain", None),
            ("gain", 1.8),
            ("readnoise", 3.5),
            ("bias", 0),
        ],
    )
    def test_different(self, masks, name, value):
        """Everything else matters."""
        other = make_set(**(full_arguments() | {name: value}))
        assert masks != other
        assert other != masks

    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_different_masks(self, position):
        """One pixel is enough."""
        planes = [plane.copy() for plane in make_planes()]
        planes[position][..., 2, 0] = True
        assert CRMaskSet(*planes) != make_set()

    def test_different_sizes(self):
        """Another number of exposures or shape."""
        mediancr, meancrt, crmasks = make_planes()
        assert CRMaskSet(mediancr, meancrt, crmasks[:2]) != make_set()
        assert make_set()[:, :3] != make_set()

    def test_unit_of_lamedian(self):
        """A unit is not the same as none or as another."""
        image = np.ones(SHAPE, np.float32)
        sets = [make_set(lamedian=image * unit) for unit in (u.adu, u.electron, 1)]
        assert sets[0] != sets[1]
        assert sets[0] != sets[2]
        assert sets[2] == make_set(lamedian=image)

    def test_nan(self):
        """NaN in the same place is equal."""
        image = np.full(SHAPE, np.nan)
        assert make_set(lamedian=image) == make_set(lamedian=image)

    def test_other_class(self, masks):
        """Something else is not equal."""
        assert masks != 5
        assert masks.__eq__(5) is NotImplemented

    def test_unhashable(self, masks):
        """Sets compare by content and have no hash."""
        with pytest.raises(TypeError, match="unhashable type"):
            hash(masks)


class TestSlicing:
    """Parts of the images."""

    def test_by_hand(self, masks):
        """Rows 1 and 2, columns 2 to 5: the box at (3, 2) becomes the first pixel."""
        part = masks[1:3, 2:6]
        assert part.shape == (2, 4)
        assert len(part) == 3
        # only the pixel (1, 2), hit in all exposures, lies inside
        expected = np.zeros((2, 4), dtype=bool)
        expected[0, 0] = True
        for mask in (part.mediancr, part.meancrt, *part.crmasks):
            assert_array_equal(mask, expected)
        assert_array_equal(part.meancr, [[0, 0, 0, 0], [1, 0, 0, 0]])
        assert_array_equal(part.lamedian, masks.lamedian[1:3, 2:6])
        assert part.lamedian.unit == u.electron
        # x = 3 - 2, y = 2 - 1
        assert_array_equal(part.local_median_pixels, [[1, 1, 5, 1]])

    def test_boxes_at_the_edges(self, masks):
        """The first and the last pixel of a part belong to it."""
        boxes = [[x, y, 3, 3] for y in range(1, NY + 1) for x in range(1, NX + 1)]
        whole = make_set(local_median_pixels=boxes)
        part = whole[1:3, 2:5].local_median_pixels
        expected = [[x, y, 3, 3] for y in (1, 2) for x in (1, 2, 3)]
        assert_array_equal(part, expected)
        assert masks[0:1, 1:2].local_median_pixels is None

    def test_rest_stays(self, masks):
        """What does not depend on the position stays."""
        part = masks[1:3]
        assert part.shape == (2, NX)
        assert_array_equal(part.flux_factor, masks.flux_factor)
        for name in ("requirements", "gain", "readnoise", "bias", "uuid", "meta"):
            assert getattr(part, name) == getattr(masks, name)

    @pytest.mark.parametrize(
        ("item", "shape"),
        [
            (np.s_[:, :], SHAPE),
            (np.s_[:], SHAPE),
            (np.s_[-2:, :-1], (2, NX - 1)),
            (np.s_[1:99, 5:], (3, 1)),
            ((slice(0, 2),), (2, NX)),
        ],
    )
    def test_shapes(self, masks, item, shape):
        """Slices mean what they mean for arrays."""
        part = masks[item]
        assert part.shape == shape
        assert_array_equal(part.meancrt, masks.meancrt[item])
        assert (part == masks) == (shape == SHAPE)

    @pytest.mark.parametrize("item", [1, (1, 2), (slice(2), 1), "a", np.s_[:, :, :]])
    def test_no_slices(self, masks, item):
        """Only two slices."""
        message = re.escape(f"a mask set is cut by masks[y0:y1, x0:x1], got {item!r}")
        with pytest.raises(TypeError, match=message):
            masks[item]

    @pytest.mark.parametrize("item", [np.s_[::2], np.s_[:, ::-1]])
    def test_step(self, masks, item):
        """A step would make no image of neighbours."""
        message = "slices of a mask set must have no step, got "
        with pytest.raises(ValueError, match=message):
            masks[item]

    @pytest.mark.parametrize("item", [np.s_[2:2], np.s_[:, 6:], np.s_[3:1, :]])
    def test_empty(self, masks, item):
        """Nothing left."""
        message = r"the slices .+ leave nothing of masks of shape \(4, 6\)"
        with pytest.raises(ValueError, match=message):
            masks[item]


class TestSummary:
    """The table of numbers."""

    def test_by_hand(self, masks):
        """Pixels and groups of neighbours, counted on paper."""
        table = masks.summary()
        assert table.colnames == ["mask", "pixels", "fraction", "groups", "expected"]
        counts = {row["mask"]: (row["pixels"], row["groups"]) for row in table}
        assert counts == {
            "MEDIANCR": (2, 2),
            # (0, 0), (1, 1), (1, 2) touch; (3, 4), (3, 5) touch; (0, 5) is alone
            "MEANCRT": (6, 3),
            "CRMASK1": (4, 2),
            "CRMASK2": (3, 2),
            "CRMASK3": (2, 2),
            "MEANCR": (4, 1),
            "COINCIDENT": (2, 2),
            "EVERY": (1, 1),
        }
        assert_allclose(table["fraction"], table["pixels"] / 24)

    def test_expected(self, masks):
        """Chances 4/24, 3/24, 2/24: two of three, and all three, by hand."""
        table = masks.summary()
        p, q, r = 4 / 24, 3 / 24, 2 / 24
        every = p * q * r
        two = p * q * (1 - r) + p * r * (1 - q) + q * r * (1 - p)
        assert_allclose(table["expected"][-2:], [24 * (two + every), 24 * every])
        assert_array_equal(table["expected"].mask, [True] * 6 + [False] * 2)

    @pytest.mark.parametrize("n", [2, 4, 5])
    def test_expected_binomial(self, n):
        """Equal fractions: the binomial distribution of half or more."""
        crmasks = np.zeros((n, 5, 10), dtype=bool)
        crmasks[:, 0] = True
        empty = np.zeros((5, 10), bool)
        table = CRMaskSet(empty, empty, crmasks).summary()
        distribution = stats.binom(n, 0.2)
        expected = [50 * distribution.sf((n + 1) // 2 - 1), 50 * distribution.pmf(n)]
        assert_allclose(table["expected"][-2:], expected)
        assert list(table["pixels"][-2:]) == [10, 10]

    def test_half_is_coincident(self):
        """Two of four exposures spoil the median."""
        crmasks = np.zeros((4, 1, 3), dtype=bool)
        crmasks[:1, 0, 1] = crmasks[:2, 0, 2] = True
        table = CRMaskSet(crmasks[0], crmasks[0], crmasks).summary()
        assert list(table["pixels"][-2:]) == [1, 0]

    def test_counts_own_masks(self):
        """COINCIDENT comes from the masks of the exposures, not from MEDIANCR."""
        _, meancrt, crmasks = make_planes()
        table = CRMaskSet(np.zeros(SHAPE, int), meancrt, crmasks).summary()
        counts = dict(table["mask", "pixels"].iterrows())
        assert (counts["MEDIANCR"], counts["COINCIDENT"]) == (0, 2)


class TestApplyTo:
    """Masks put into the exposures."""

    def test_masks(self, ccds):
        """Each exposure gets its own; masks that it has are kept."""
        masks = make_set()
        result = masks.apply_to(ccds)
        for i, (before, after) in enumerate(zip(ccds, result, strict=True)):
            assert isinstance(after, CCDData)
            assert_array_equal(after.data, before.data)
            assert after.meta["NUMBER"] == i
            assert after.unit == u.adu
        assert_array_equal(result[0].mask, masks.crmasks[0])
        assert_array_equal(result[2].mask, masks.crmasks[2])
        expected = masks.crmasks[1].copy()
        expected[2, 2] = True
        assert_array_equal(result[1].mask, expected)

    def test_independent(self, ccds):
        """Neither the caller's objects nor the set are changed or shared."""
        masks = make_set()
        result = masks.apply_to(ccds)
        assert ccds[0].mask is None
        assert ccds[1].mask.sum() == 1
        for before, after in zip(ccds, result, strict=True):
            assert not np.shares_memory(after.data, before.data)
            after.mask[...] = True
            after.meta["NUMBER"] = 99
        assert masks == make_set()
        assert [ccd.meta["NUMBER"] for ccd in ccds] == [0, 1, 2]
        assert ccds[1].mask.sum() == 1

    def test_generator(self, ccds):
        """Any iterable will do."""
        assert len(make_set().apply_to(ccd for ccd in ccds)) == 3

    @pytest.mark.parametrize("n", [1, 2])
    def test_number(self, ccds, n):
        """One exposure for each mask."""
        message = f"ccds must be 3 exposures, one per mask, got {n}"
        with pytest.raises(ValueError, match=message):
            make_set().apply_to(ccds[:n])

    def test_shape(self, ccds):
        """The message says which exposure does not fit."""
        ccds[1] = CCDData(np.ones((3, 3)), unit="adu")
        message = r"must have the same shape, got .*, exposure 2: \(3, 3\)"
        with pytest.raises(ValueError, match=message):
            make_set().apply_to(ccds)
        message = r"exposures must have the shape of the masks, \(4, 6\), got \(3, 3\)"
        with pytest.raises(ValueError, match=message):
            make_set().apply_to([ccds[1]] * 3)

    def test_integer_mask(self, ccds):
        """A mask of 0 and 1 becomes a mask of bool, as astropy expects."""
        ccds[0].mask = np.zeros(SHAPE, dtype=np.uint8)
        ccds[0].mask[3, 0] = 1
        result = make_set().apply_to(ccds)[0].mask
        assert result.dtype == bool
        assert result.sum() == 5


class TestBitmask:
    """All masks in one plane."""

    @pytest.mark.parametrize("meancr", [False, True])
    def test_each_bit(self, masks, meancr):
        """Functions of astropy find each mask again by its name."""
        masks = masks if meancr else make_set()
        bits = masks.to_bitmask()
        assert bits.dtype.kind == "u"
        assert bits.shape == SHAPE
        for name, mask in masks.planes.items():
            found = bitfield_to_boolean_mask(
                bits, ignore_flags=f"~{name}", flag_name_map=masks.bit_flags
            )
            assert_array_equal(found, mask)

    def test_any(self, masks):
        """Several names at once."""
        found = bitfield_to_boolean_mask(
            masks.to_bitmask(),
            ignore_flags="~(CRMASK1,CRMASK2,CRMASK3)",
            flag_name_map=masks.bit_flags,
        )
        assert_array_equal(found, masks.crmasks.any(axis=0))

    def test_values(self, masks):
        """Bits are in the order of the planes, from the lowest."""
        bits = masks.to_bitmask()
        # MEDIANCR 1, MEANCRT 2, CRMASK1 4, CRMASK2 8, CRMASK3 16, MEANCR 32
        assert bits[1, 2] == 1 + 2 + 4 + 8 + 16
        assert bits[0, 0] == 2 + 4 + 32
        assert bits[2, 2] == 32
        assert bits[2, 0] == 0
        assert interpret_bit_flags("CRMASK3", flag_name_map=masks.bit_flags) == 16

    @pytest.mark.parametrize(
        ("n", "dtype"), [(6, np.uint8), (7, np.uint16), (30, np.uint32), (62, "u8")]
    )
    def test_dtype(self, n, dtype):
        """The smallest type that holds all bits."""
        empty = np.zeros((1, 2), bool)
        crmasks = np.zeros((n, 1, 2), bool)
        crmasks[-1, 0, 0] = True
        bits = CRMaskSet(empty, empty, crmasks).to_bitmask()
        assert bits.dtype == dtype
        assert_array_equal(bits, [[1 << (n + 1), 0]])

    def test_too_many(self):
        """More masks than bits are refused, not turned into objects."""
        empty = np.zeros((1, 2), bool)
        masks = CRMaskSet(empty, empty, np.zeros((63, 1, 2), bool))
        with pytest.raises(
            ValueError, match="a plane of bits holds 64 masks at most, got 65"
        ):
            masks.to_bitmask()
