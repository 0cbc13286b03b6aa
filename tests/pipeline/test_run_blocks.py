# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of running observing blocks: files found, files written, nothing lost."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from astropy import log
from astropy.io import fits
from astropy.table import Table

from ccdcr import (
    CRMaskSet,
    MissingUnitWarning,
    ObservingBlock,
    Requirements,
    UnknownRequirementError,
    combine,
    detect_cosmic_rays,
    run_blocks,
)
from ccdcr.simulation import simulate_exposures

YAML = Path(__file__).parents[1] / "yaml"
METHODS = ("mediancr", "meancrt", "meancr")
DETECTION = """\
id: {id}
mode: MegaraCrDetection
frames: [{frames}]
requirements: {{crmethod: lacosmic, la_verbose: false}}
"""
COMBINATION = """\
id: {id}
frames: [{frames}]
requirements: {{method: {method}, crmasks: {crmasks}}}
"""
IN_FILE = Requirements(
    crmethod="mm_lacosmic", interactive=True, mm_boundary_fit="spline"
)
FRAMES = "exposure1.fits, exposure2.fits, exposure3.fits"


@pytest.fixture(scope="module")
def exposures(tmp_path_factory):
    """Three simulated exposures as files; the folder that holds them."""
    folder = tmp_path_factory.mktemp("exposures")
    sim = simulate_exposures((96, 110), gain=1.5, bias=200.0, cr_rate=2.0, seed=3)
    for number, ccd in enumerate(sim.exposures, start=1):
        ccd.write(folder / f"exposure{number}.fits")
    return folder


@pytest.fixture
def night(exposures, tmp_path, monkeypatch):
    """A folder with a folder data of exposures; the current one."""
    shutil.copytree(exposures, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name, template=DETECTION, **values):
    """Write a YAML file and return its name."""
    values = {"id": "a", "frames": FRAMES, "method": "meancr"} | values
    Path(name).write_text(template.format(**values), encoding="utf-8")
    return name


def run(*blocks, **options):
    """Run blocks and return the results by id and main file."""
    options = {"gain": 1.5, "readnoise": 3.0} | options
    return list(run_blocks(blocks, **options))


def visible(folder):
    """Return the names of all files, hidden ones too."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.mark.usefixtures("night")
class TestDocumentedFiles:
    """The documented files, in which only names of exposures are changed."""

    @pytest.fixture
    def results(self, night):
        """The results of all four files, the detection last in the alphabet."""
        paths = sorted(shutil.copytree(YAML, night / "yaml").iterdir())
        for path in paths:
            path.rename(night / path.name)
        return run(*(path.name for path in paths), gain=None, readnoise=None)

    def test_names_only(self):
        """The files are the documented ones: 62 and 16 lines, nothing set."""
        lines = [len(path.read_text().splitlines()) for path in sorted(YAML.iterdir())]
        assert lines == [16, 16, 16, 62]
        block = ObservingBlock.from_yaml(YAML / "8_generate_crmasks.yaml")
        assert block.requirements == Requirements(
            crmethod="mm_lacosmic", interactive=True, mm_boundary_fit="spline"
        )

    def test_same_as_python(self, results, night):
        """Masks and images are those of the Python functions, bit by bit."""
        assert [(r.id, r.status) for r in results] == [
            ("8_LR-R_crmasks", "done"),
            *[("8_LcbImage_LR-R", "done")] * 3,
        ]
        frames = [night / "data" / f"exposure{i}.fits" for i in (1, 2, 3)]
        expected = detect_cosmic_rays(
            frames,
            "8_generate_crmasks.yaml",
            gain="GAIN",
            readnoise="RDNOISE",
        )
        path = Path("obsid8_LR-R_crmasks_results/crmasks.fits")
        masks = CRMaskSet.read(path)
        assert expected.meancrt.any()
        assert masks == expected
        assert masks.meta["FILE3"] == "exposure3.fits"
        for method in METHODS:
            combine(frames, f"{method}.fits", method, crmasks=path, dtype="auto")
            output = Path(f"obsid8_LcbImage_LR-R_results/{method}.fits")
            with fits.open(output) as ours, fits.open(f"{method}.fits") as theirs:
                names = ["PRIMARY", "MASK", "UNCERT", "NUSED"]
                assert [hdu.name for hdu in ours] == names
                for mine, other in zip(ours, theirs, strict=True):
                    assert mine.data.dtype == other.data.dtype
                    np.testing.assert_array_equal(mine.data, other.data)

    def test_diagnostics(self, results):
        """Beside the masks: summary, requirements, log and record."""
        files = {path.name: path for path in results[0].files}
        masks = CRMaskSet.read(files["crmasks.fits"])
        summary = Table.read(files["crmasks_summary.ecsv"])
        assert list(summary["pixels"]) == list(masks.summary()["pixels"])
        requirements = Requirements.from_yaml(files["crmasks_requirements.yaml"])
        assert requirements == Requirements(
            crmethod="mm_lacosmic", interactive=True, mm_boundary_fit="spline"
        )
        assert "header keyword RDNOISE" in files["crmasks.log"].read_text()
        record = json.loads(files["crmasks.json"].read_text())
        assert record["status"] == "done"
        assert record["files"] == [path.name for path in results[0].files]
        assert all(path.is_file() for result in results for path in result.files)


@pytest.mark.usefixtures("night")
class TestFrames:
    """Where exposures are looked for, and how they are read."""

    def test_wildcards(self):
        """Wildcards are sorted; the same file twice is refused."""
        (result,) = run(write("a.yaml", frames='"exposure?.fits"'))
        record = json.loads(result.files[-1].read_text())
        names = [Path(name).name for name in record["frames"]]
        assert names == ["exposure1.fits", "exposure2.fits", "exposure3.fits"]
        frames = '"exp*.fits", exposure1.fits'
        (result,) = run(write("b.yaml", id="b", frames=frames))
        assert result.status == "failed"
        assert result.error.startswith("frames must be different files, ")
        assert not Path("obsidb_results").exists()

    @pytest.mark.parametrize("where", ["beside", "datadir", "outside", "absolute"])
    def test_folders(self, night, where):
        """Beside the YAML file, in another folder, outside, anywhere."""
        (night / "yaml").mkdir()
        target = night / {"beside": "yaml", "outside": "x"}.get(where, "y")
        (night / "data").rename(night / "z")
        shutil.copytree(night / "z", target, dirs_exist_ok=True)
        prefix = {"outside": "../x/", "absolute": f"{target}/"}.get(where, "")
        frames = ", ".join(f"{prefix}exposure{i}.fits" for i in (1, 2, 3))
        path = write(night / "yaml" / "a.yaml", frames=frames)
        datadir = target if where == "datadir" else None
        (result,) = run(path, datadir=datadir)
        assert result.error is None
        assert result.files[0] == night / "obsida_results" / "crmasks.fits"

    def test_missing(self, night):
        """The message names the frame and the folders."""
        (result,) = run(write("a.yaml", frames="no.fits, exposure1.fits, x.fits"))
        data, base = night / "data", night
        assert result.error == f"the frame no.fits does not exist in {data}, {base}"

    def test_too_few(self):
        """A detection needs three exposures."""
        (result,) = run(write("a.yaml", frames="exposure1.fits, exposure2.fits"))
        assert result.error == "frames must be at least 3 exposures, got 2"

    @pytest.mark.parametrize("kind", ["gz", "fz", "name", "number"])
    def test_formats(self, night, kind):
        """Compressed files and extensions hold the same masks."""
        (expected,) = run(write("a.yaml"))
        for path in sorted((night / "data").iterdir()):
            with fits.open(path) as hdulist:
                header, data = hdulist[0].header, hdulist[0].data
                write_as(kind, path, data, header)
        ending = {"gz": ".gz", "fz": ".fz"}.get(kind, "")
        frames = ", ".join(f"exposure{i}.fits{ending}" for i in (1, 2, 3))
        extension = {"name": "SCI", "number": 2}.get(kind)
        (result,) = run(write("b.yaml", id="b", frames=frames), extension=extension)
        assert result.error is None
        masks = CRMaskSet.read(result.files[0])
        assert masks.crmasks.any()
        assert masks == CRMaskSet.read(expected.files[0])

    def test_no_unit(self, night):
        """Files without a unit are in adu, with one warning; a unit may be given."""
        for path in sorted((night / "data").iterdir()):
            fits.delval(path, "BUNIT")
        message = r"no unit \(keyword BUNIT\) in exposure1.fits, exposure2.fits, expos"
        with pytest.warns(MissingUnitWarning, match=message) as record:
            (result,) = run(write("a.yaml"))
        assert len(record) == 1
        assert result.status == "done"
        (result,) = run(write("b.yaml", id="b"), unit="adu")
        assert result.status == "done"
        assert result.warnings == ()

    def test_two(self):
        """Two exposures are enough for matched, also in a dry run."""
        path = write("a.yaml", frames="exposure1.fits, exposure2.fits")
        for dry_run, status in ((True, "checked"), (False, "done")):
            (result,) = run(path, crmethod="matched", bias=200.0, dry_run=dry_run)
            assert (result.error, result.status) == (None, status)
        assert len(CRMaskSet.read(result.files[0])) == 2

    def test_primary_keywords(self, night):
        """Gain and read noise may stand in the primary header alone."""
        for path in sorted((night / "data").iterdir()):
            data, header = fits.getdata(path, header=True)
            hdus = [fits.PrimaryHDU(header=header), fits.ImageHDU(data, name="SCI")]
            fits.HDUList(hdus).writeto(path, overwrite=True)
        (result,) = run(write("a.yaml"), gain=None, readnoise=None)
        masks = CRMaskSet.read(result.files[0])
        assert (masks.gain, masks.readnoise) == (1.5, 3.0)

    @pytest.mark.parametrize(
        ("extension", "message"),
        [
            ("SCI", "exposure1.fits has no extension 'SCI'; it has 0 PRIMARY"),
            (1, "exposure1.fits has no extension 1; it has 0 PRIMARY"),
            (
                "PRIMARY",
                "exposure1.fits has no image in extension 'PRIMARY'",
            ),
        ],
    )
    def test_wrong_extension(self, night, extension, message):
        """The message names file, extension and those there are."""
        if extension == "PRIMARY":
            hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones((4, 4)))])
            hdus.writeto(night / "data" / "exposure1.fits", overwrite=True)
        (result,) = run(write("a.yaml"), extension=extension)
        assert result.error.startswith(f"{night / 'data'}/{message}")

    def test_no_image(self, night):
        """A file without image, and one that is no FITS file."""
        fits.PrimaryHDU().writeto("data/exposure1.fits", overwrite=True)
        (result,) = run(write("a.yaml"))
        assert result.error.endswith(
            "exposure1.fits has no image in any extension; it has 0 PRIMARY"
        )
        Path("data/exposure1.fits").write_text("no")
        (result,) = run(write("a.yaml"))
        path = night / "data" / "exposure1.fits"
        message = "is damaged: it does not begin with the header of a FITS file"
        assert result.error == f"{path} {message}"

    def test_no_keywords(self, night):
        """Without keyword or value, the message says what to give."""
        for path in sorted((night / "data").iterdir()):
            fits.delval(path, "GAIN")
        (result,) = run(write("a.yaml"), gain=None)
        assert result.error.startswith("gain must be given for exposures in adu")


def write_as(kind, path, data, header):
    """Write an exposure again in another way."""
    if kind == "gz":
        fits.writeto(f"{path}.gz", data, header)
    elif kind == "fz":
        # Without loss, so that the masks must be the same.
        image = fits.CompImageHDU(
            data, header, compression_type="GZIP_2", quantize_level=0
        )
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(f"{path}.fz")
    else:
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(data * 0, name="X")]
        hdus.append(fits.ImageHDU(data, header, name="SCI"))
        fits.HDUList(hdus).writeto(path, overwrite=True)


@pytest.mark.usefixtures("night")
class TestValues:
    """Detector parameters and changes."""

    @pytest.mark.parametrize(
        ("lines", "readnoise"),
        [
            ("gain: 1.5\nrnoise: 2.0\nbias: 200", 3.0),
            ("gain: 1.5\nreadnoise: 2.5\nbias: 200", 2.5),
            ("gain: GAIN\nreadnoise: RDNOISE\nbias: 200", 3.0),
        ],
    )
    def test_from_yaml(self, lines, readnoise):
        """Read noise in adu, in electron, or by keyword."""
        path = write("a.yaml", DETECTION + lines)
        (result,) = run(path, gain=None, readnoise=None)
        masks = CRMaskSet.read(result.files[0])
        assert (masks.gain, masks.readnoise, masks.bias) == (1.5, readnoise, 200)

    def test_arguments_win(self):
        """Arguments win over the file, and overrides over requirements."""
        path = write("a.yaml", DETECTION + "gain: 7.0\nrnoise: 9")
        (result,) = run(path, gain=1.5, readnoise=4.0, dilation=0)
        masks = CRMaskSet.read(result.files[0])
        assert (masks.gain, masks.readnoise) == (1.5, 4.0)
        assert masks.requirements.dilation == 0
        assert masks.requirements.crmethod == "lacosmic"

    def test_combination(self):
        """Method and its options can be overridden; each by either name."""
        values = {"crmasks": "crmasks.fits", "method": "mediancr"}
        paths = [write("a.yaml"), write("b.yaml", COMBINATION, id="b", **values)]
        results = run(*paths, method="meancrt", use_auxmedian=True)
        assert results[1].files[0].name == "meancrt.fits"
        header = fits.getheader(results[1].files[0])
        masks = CRMaskSet.read(results[0].files[0])
        assert header["CRUUID"] == masks.uuid
        assert masks.requirements.use_lamedian is True

    def test_no_effect(self):
        """A change that no block can have is warned of."""
        text = f"id: a\nframes: [{FRAMES}]\nrequirements: {{method: sum}}\n"
        Path("a.yaml").write_text(text)
        with log.log_to_list() as messages:
            run("a.yaml", mm_seed=1, dilation=2, method="median")
        warnings = [m.message for m in messages if m.levelname == "WARNING"]
        assert warnings == ["in no block, without effect: mm_seed, dilation"]
        assert Path("obsida_results/median.fits").exists()

    def test_electron(self):
        """The keyword GAIN of exposures in electron is not their gain."""
        sim = simulate_exposures((64, 64), unit="electron", seed=3)
        for number, ccd in enumerate(sim.exposures, start=1):
            ccd.header["GAIN"] = 1.5
            ccd.write(f"data/exposure{number}.fits", overwrite=True)
        (result,) = run(write("a.yaml"), gain=None, readnoise=None)
        assert result.error is None
        assert CRMaskSet.read(result.files[0]).gain == 1

    def test_unknown(self):
        """Unknown names are refused with a suggestion, before anything."""
        message = "unknown requirement 'mm_sed'; did you mean 'mm_seed'"
        with pytest.raises(UnknownRequirementError, match=message):
            run_blocks([], mm_sed=1)

    def test_bad_value(self):
        """A value that is not allowed fails the block."""
        (result,) = run(write("a.yaml"), dilation=-1)
        assert result.error == "dilation must be an integer >= 0, got -1"

    @pytest.mark.parametrize(
        ("requirements", "message"),
        [
            ("method: best, crmasks: a", "method must be one of mediancr, .+ 'best'"),
            ("method: meancr", "crmasks must be given for the method meancr: the file"),
            ("crmasks: a.fits", "method must be one of .+, got None"),
            ("method: median, crmasks: a", "method median does not use crmasks"),
            ("method: meancr, crmasks: 5", "crmasks must be a file name, got 5"),
            ("method: meancr, crmasks: a, method_kwargs: 5", "must be a mapping, got"),
            (
                "method: meancr, crmasks: a, method_kwargs: {use_lamedian: 1}",
                "use_lamedian must be True or False, got 1",
            ),
            (
                "method: meancr, crmasks: a, method_kwargs: {progress_bar: x}",
                "method_kwargs must be among .+, got 'progress_bar'",
            ),
        ],
    )
    def test_method(self, requirements, message):
        """Combinations are checked before any work."""
        text = f"id: a\nframes: [{FRAMES}]\nrequirements: {{{requirements}}}\n"
        Path("a.yaml").write_text(text)
        (result,) = run("a.yaml")
        assert result.status == "failed"
        with pytest.raises(ValueError, match=message):
            raise ValueError(result.error)

    def test_plain(self):
        """The methods of ccdproc need no masks."""
        text = f"id: a\nframes: [{FRAMES}]\nrequirements: {{method: median}}\n"
        Path("a.yaml").write_text(text)
        (result,) = run("a.yaml")
        stack = [fits.getdata(f"data/exposure{i}.fits") for i in (1, 2, 3)]
        image = fits.getdata(result.files[0])
        np.testing.assert_allclose(image, np.median(stack, axis=0))

    @pytest.mark.parametrize("mode", ["MegaraBias", "MegaraCrDetection", "detection"])
    def test_mode(self, mode):
        """A mode must fit what is required."""
        requirements = "{method: meancr, crmasks: a}" if "etection" in mode else "{}"
        text = f"mode: {mode}\nframes: [{FRAMES}]\nrequirements: {requirements}\n"
        Path("a.yaml").write_text(text)
        (result,) = run("a.yaml")
        rule = "must be MegaraCrDetection or detection for a detection"
        assert result.error.startswith(f"mode {mode} {rule}")


@pytest.mark.usefixtures("night")
class TestMasks:
    """How a combination finds its masks."""

    def test_made_before(self):
        """In the output folder of a block of the same frames, run before."""
        run(write("a.yaml"))
        masks = CRMaskSet.read("obsida_results/crmasks.fits")
        path = write("b.yaml", COMBINATION, crmasks="../data/crmasks.fits")
        (result,) = run(path)
        assert fits.getheader(result.files[0])["CRUUID"] == masks.uuid

    def test_data_folder(self, night):
        """Masks in data win over those of a block, with a warning."""
        run(write("a.yaml"))
        shutil.copy("obsida_results/crmasks.fits", "data")
        uuid = CRMaskSet.read("data/crmasks.fits").uuid
        paths = [
            write("c.yaml", id="c"),
            write("b.yaml", COMBINATION, id="b", crmasks="crmasks.fits"),
        ]
        with log.log_to_list() as messages:
            results = run(*paths)
        assert fits.getheader(results[1].files[0])["CRUUID"] == uuid
        (text,) = [m.message for m in messages if m.levelname == "WARNING"]
        used, other = (night / name for name in ("data", "obsidc_results"))
        assert text == (
            f"b: the masks {used / 'crmasks.fits'} are used, "
            f"not {other / 'crmasks.fits'}"
        )

    def test_renamed(self):
        """Any name and folder."""
        run(write("a.yaml"))
        Path("x").mkdir()
        shutil.move("obsida_results/crmasks.fits", "x/other.fits")
        path = write("b.yaml", COMBINATION, crmasks="x/other.fits")
        (result,) = run(path)
        assert result.error is None

    @pytest.mark.parametrize("name", ["crmasks.fits", "../x/crmasks.fits"])
    def test_missing(self, name):
        """A folder that is named is not replaced by another one."""
        if "x" in name:
            run(write("a.yaml"))
        (result,) = run(write("b.yaml", COMBINATION, id="b", crmasks=name))
        assert result.error.startswith(f"crmasks {name} does not exist; looked for ")
        assert not Path("obsidb_results").exists()

    def test_ambiguous(self):
        """Two sets of masks of the same frames."""
        paths = [write(f"{name}.yaml", id=name) for name in "ac"]
        paths.append(write("b.yaml", COMBINATION, id="b", crmasks="crmasks.fits"))
        *_, result = sorted(run(*paths), key=lambda result: result.status == "failed")
        assert result.id == "b"
        assert "may be any of" in result.error
        named = "../obsidc_results/crmasks.fits"
        (result,) = run(write("b.yaml", COMBINATION, id="b", crmasks=named))
        uuid = CRMaskSet.read("obsidc_results/crmasks.fits").uuid
        assert fits.getheader(result.files[0])["CRUUID"] == uuid

    @pytest.mark.parametrize("at_once", [True, False])
    def test_same_yaml(self, at_once):
        """Of several sets of masks, that of the same YAML file."""
        for name in "cd":
            values = {"id": f"{name}2", "method": "meancr", "crmasks": "crmasks.fits"}
            combination = COMBINATION.format(frames=FRAMES, **values)
            detection = DETECTION.format(id=name, frames=FRAMES)
            Path(f"{name}.yaml").write_text(f"{combination}---\n{detection}")
        if at_once:
            results = run("c.yaml", "d.yaml")
        else:
            results = [*run("c.yaml"), *run("d.yaml")]
            shutil.rmtree("obsidc2_results")
            # The detection of c is refused here: its masks exist.
            results += [r for r in run("c.yaml") if r.id == "c2"]
        assert {result.status for result in results} == {"done"}
        for name in "cd":
            masks = CRMaskSet.read(f"obsid{name}_results/crmasks.fits")
            header = fits.getheader(f"obsid{name}2_results/meancr.fits")
            assert header["CRUUID"] == masks.uuid

    def test_other_frames(self):
        """Masks of other frames are not taken by their name."""
        run(write("a.yaml"))
        Path("data/exposure3.fits").rename("data/exposure4.fits")
        frames = '"exposure*.fits"'
        values = {"id": "b", "frames": frames, "crmasks": "crmasks.fits"}
        (result,) = run(write("b.yaml", COMBINATION, **values))
        assert "does not exist" in result.error

    def test_detection_fails(self, night):
        """What needs the masks of a block that failed fails with it."""
        Path("data/exposure2.fits").write_text("no")
        paths = [
            write("b.yaml", COMBINATION, id="b", crmasks="crmasks.fits"),
            write("a.yaml"),
        ]
        first, second = run(*paths)
        assert (first.id, first.status) == ("a", "failed")
        path = night / "obsida_results" / "crmasks.fits"
        assert second.error == f"the block a failed, which makes {path}"


@pytest.mark.usefixtures("night")
class TestFiles:
    """One file of several blocks, names of folders, files that exist."""

    def test_several_documents(self):
        """Blocks are separated by ---; the combination comes first here."""
        text = COMBINATION.format(
            id="b", frames=FRAMES, method="meancr", crmasks="../data/crmasks.fits"
        )
        other = DETECTION.format(id="a", frames=FRAMES)
        Path("a.yaml").write_text(f"{text}---\n{other}")
        assert [(r.id, r.status) for r in run("a.yaml")] == [
            ("a", "done"),
            ("b", "done"),
        ]

    def test_no_id(self):
        """The name of the YAML file stands in for the id."""
        text = DETECTION.replace("id: {id}\n", "")
        Path("x.yaml").write_text(f"{text}---\n{text}".format(frames=FRAMES))
        assert [r.id for r in run("x.yaml")] == ["x", "x_2"]

    @pytest.mark.parametrize("name", ["../x", "a/b", "'a\\b'", "/etc", '" "'])
    def test_id(self, night, name):
        """Nothing is written outside of the output folder."""
        before = visible(night.parent)
        (result,) = run(write("a.yaml", id=name))
        assert result.error.startswith("id must be usable as the name of a folder")
        assert visible(night.parent) == sorted([*before, f"{night.name}/a.yaml"])

    def test_link(self, night):
        """A folder that is a link to another place is refused."""
        (night / "out").mkdir()
        (night / "elsewhere").mkdir()
        (night / "out" / "obsida_results").symlink_to(night / "elsewhere")
        (result,) = run(write("a.yaml"), output_folder="out")
        assert "leads out of the output folder" in result.error
        assert visible(night / "elsewhere") == []

    def test_same_files(self, night):
        """Two blocks of one name."""
        first, second = run(write("a.yaml"), write("b.yaml"))
        assert (first.status, second.status) == ("failed", "done")
        text = f"is also written by a ({night / 'a.yaml'}); give them different ids"
        assert text in first.error

    def test_overwrite(self):
        """Existing files are only replaced when that is asked for."""
        path = write("a.yaml")
        run(path)
        masks = Path("obsida_results/crmasks.fits")
        before = masks.read_bytes()
        (result,) = run(path)
        rule = "exists; use overwrite=True to replace it"
        assert result.error == f"the output file {masks.absolute()} {rule}"
        assert masks.read_bytes() == before
        (result,) = run(path, overwrite=True)
        assert result.status == "done"
        assert masks.read_bytes() != before  # another UUID

    def test_no_folder(self):
        """The output folder must exist."""
        (result,) = run(write("a.yaml"), output_folder="no")
        assert result.error == "the output folder no does not exist"

    def test_bad_yaml(self):
        """A file that cannot be read does not stop the others."""
        Path("bad.yaml").write_text("frames: [")
        bad, good = run("bad.yaml", write("a.yaml"))
        assert bad.error.startswith("bad.yaml is not a valid YAML file")
        assert "Traceback" in bad.traceback
        assert good.status == "done"

    def test_block(self):
        """A block made in Python; names are relative to the current folder."""
        frames = tuple(f"data/exposure{i}.fits" for i in (1, 2, 3))
        requirements = Requirements(crmethod="lacosmic", la_verbose=False)
        block = ObservingBlock(id="p", frames=frames, requirements=requirements)
        (result,) = run(block)
        assert (result.status, result.source) == ("done", "")

    @pytest.mark.parametrize(
        ("blocks", "executor", "message"),
        [
            ("a.yaml", None, "blocks must be a list of blocks or YAML files"),
            ([], 5, "executor must be a concurrent.futures.Executor .+ got int"),
        ],
    )
    def test_arguments(self, blocks, executor, message):
        """Wrong arguments are refused at once."""
        with pytest.raises(TypeError, match=message):
            run_blocks(blocks, executor)

    @pytest.mark.parametrize(("review", "executor"), [(5, None), (print, 5)])
    def test_review(self, review, executor):
        """Nobody looks at what another process does."""
        with pytest.raises(
            TypeError, match="review must be a function of exposures and"
        ):
            run_blocks([], executor, review=review)


@pytest.mark.usefixtures("night")
class TestResume:
    """The record of what is done."""

    def test_skipped(self, night):
        """What was done from the same input is skipped."""
        paths = [
            write("a.yaml"),
            write("b.yaml", COMBINATION, id="b", crmasks="crmasks.fits"),
        ]
        run(*paths)
        before = {p: p.stat().st_mtime_ns for p in night.rglob("*") if p.is_file()}
        results = run(*paths, resume=True)
        assert [result.status for result in results] == ["skipped", "skipped"]
        after = {p: p.stat().st_mtime_ns for p in night.rglob("*") if p.is_file()}
        assert after == before

    @pytest.mark.parametrize("change", ["option", "requirement", "exposure"])
    def test_changed(self, change):
        """With another input it is neither skipped nor replaced."""
        path = write("a.yaml")
        run(path)
        options = {"option": {"readnoise": 4.0}, "requirement": {"dilation": 3}}
        if change == "exposure":
            fits.setval("data/exposure1.fits", "OBJECT", value="x")
        (result,) = run(path, resume=True, **options.get(change, {}))
        assert "made with other input or options: use overwrite=" in result.error
        (result,) = run(path, resume=True, overwrite=True, **options.get(change, {}))
        assert result.status == "done"

    @pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
    def test_unfinished(self, status):
        """What was not finished is repeated; also if the masks are there."""
        path = write("a.yaml")
        run(path)
        record = Path("obsida_results/crmasks.json")
        content = json.loads(record.read_text()) | {"status": status}
        record.write_text(json.dumps(content))
        assert run(path)[0].status == "failed"  # it would replace the masks
        assert run(path, resume=True)[0].status == "done"
        assert json.loads(record.read_text())["status"] == "done"

    def test_after_failure(self, night):
        """A failed block leaves its record and log, which may be replaced."""
        path = write("a.yaml")
        Path("data/exposure2.fits").rename("x.fits")
        Path("data/exposure2.fits").write_text("no")
        (result,) = run(path)
        files = ["crmasks.json", "crmasks.log"]
        assert visible(night / "obsida_results") == files
        record = json.loads(Path("obsida_results/crmasks.json").read_text())
        assert (record["status"], record["error"]) == ("failed", result.error)
        assert "Traceback" in Path("obsida_results/crmasks.log").read_text()
        Path("x.fits").replace("data/exposure2.fits")
        assert run(path)[0].status == "done"

    def test_interrupted(self, night, monkeypatch):
        """An interruption leaves no results, and says so in the record."""

        def interrupt(_, path, **__):
            Path(path).write_bytes(b"half")
            raise KeyboardInterrupt

        monkeypatch.setattr(fits.HDUList, "writeto", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(write("a.yaml"))
        assert visible(night / "obsida_results") == ["crmasks.json"]
        record = json.loads(Path("obsida_results/crmasks.json").read_text())
        assert record["status"] == "interrupted"


@pytest.mark.usefixtures("night")
class TestDryRun:
    """Everything is checked and nothing is written."""

    def test_nothing_written(self, night):
        """Files are named, and not written."""
        paths = [
            write("a.yaml"),
            write("b.yaml", COMBINATION, id="b", crmasks="crmasks.fits"),
        ]
        before = visible(night)
        results = run(*paths, dry_run=True)
        assert [(r.id, r.status) for r in results] == [
            ("a", "checked"),
            ("b", "checked"),
        ]
        assert results[1].files[0] == night / "obsidb_results" / "meancr.fits"
        assert visible(night) == before

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"regions_to_be_skipped": [[1, 500, 1, 2]]}, "regions_to_be_skipped"),
            ({"crmethod": "mmcosmic", "mm_cr_coincidences": 3}, "mm_cr_coincidences"),
            ({"flux_factor": [1, 2]}, "flux_factor must hold 3 entries"),
            ({"gain": "NOKEY"}, "gain='NOKEY' must name a header keyword"),
        ],
    )
    def test_detection(self, options, message):
        """What depends on the exposures is checked, as a run would."""
        path = write("a.yaml")
        (checked,) = run(path, dry_run=True, **options)
        assert message in checked.error
        (result,) = run(path, **options)
        assert result.error == checked.error

    @pytest.mark.parametrize("align", ["sideways", "measure z", "[[0, 0]]"])
    def test_align(self, align):
        """Offsets are checked, too."""
        (checked,) = run(write("a.yaml", f"align: {align}\n{DETECTION}"), dry_run=True)
        assert "align must be" in checked.error

    def test_combination(self):
        """Masks must fit the exposures."""
        run(write("a.yaml"))
        masks = CRMaskSet.read("obsida_results/crmasks.fits")
        masks[:50].write("data/small.fits")
        path = write("b.yaml", COMBINATION, id="b", crmasks="small.fits")
        (result,) = run(path, dry_run=True)
        assert (
            "small.fits must have the shape of the exposures, (96, 110" in result.error
        )

    def test_lamedian(self):
        """LAMEDIAN must be there when it is asked for."""
        path = write("a.yaml")
        run(path, crmethod="mmcosmic", bias=200.0)
        path = write("b.yaml", COMBINATION, id="b", crmasks="crmasks.fits")
        (result,) = run(path, dry_run=True, use_lamedian=True)
        assert result.error.startswith("use_lamedian needs the extension LAMEDIAN")


@pytest.mark.usefixtures("night")
class TestMessages:
    """What is logged, warned of, and shown while it works."""

    def test_interactive(self):
        """One warning for all blocks that would be interactive."""
        paths = [write(f"{name}.yaml", id=name) for name in "ab"]
        with log.log_to_list() as messages:
            run(*paths, interactive=True, verify_cr=True)
        warnings = [m.message for m in messages if m.levelname == "WARNING"]
        assert len(warnings) == 1
        assert warnings[0].startswith("interactive and verify_cr have no effect here")
        assert warnings[0].endswith("(a, b)")

    def test_warnings(self, monkeypatch):
        """What a block warns of is in its result and its log."""
        original = Requirements.to_yaml

        def warn(*args, **kwargs):
            log.warning("look\nhere")
            return original(*args, **kwargs)

        monkeypatch.setattr(Requirements, "to_yaml", warn)
        (result,) = run(write("a.yaml"))
        assert result.warnings == ("look here",)
        assert "WARNING look" in Path("obsida_results/crmasks.log").read_text()

    def test_log_by_thread(self):
        """Blocks in several threads have logs of their own."""
        paths = [write(f"{name}.yaml", id=name) for name in "ab"]
        with ThreadPoolExecutor(2) as executor:
            results = run(*paths, executor=executor, gain=None, readnoise=None)
        assert {result.status for result in results} == {"done"}
        for name in "ab":
            text = Path(f"obsid{name}_results/crmasks.log").read_text()
            assert text.count("header keyword GAIN") == 1

    def test_progress(self):
        """The progress bar learns block, stage and exposure."""
        seen = []

        def progress(iterable, desc):
            for item in iterable:
                seen.append((desc, item.name if isinstance(item, Path) else item[0]))
                yield item

        paths = [
            write("a.yaml"),
            write("b.yaml", COMBINATION, id="b", crmasks="crmasks.fits"),
        ]
        run(*paths, progress_bar=progress)
        names = ["MEDIANCR", "MEANCRT", "CRMASK1", "CRMASK2", "CRMASK3"]
        frames = [f"exposure{i}.fits" for i in (1, 2, 3)]
        assert seen == [
            *[("a: detecting", name) for name in names],
            *[("b: combining", name) for name in frames],
        ]
