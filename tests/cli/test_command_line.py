# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the command line."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy import log
from astropy.io import fits
from astropy.nddata import CCDData

from ccdcr import (
    CRMaskSet,
    ObservingBlock,
    Requirements,
    ReviewCancelledError,
    __version__,
    add_expected,
    align_exposures,
    combine,
    detect_cosmic_rays,
)
from ccdcr.cli import main
from ccdcr.cli.command_line import ProgressLine
from ccdcr.cli.input_options import reviewer, to_options
from ccdcr.combination import combine_tiles
from ccdcr.report.report_figures import ReportFigure
from ccdcr.simulation import simulate_exposures

YAML = Path(__file__).parents[1] / "yaml"

FILES = [
    "average.fits",
    "combinations.png",
    "crmasks.fits",
    "exposure1.fits",
    "exposure2.fits",
    "exposure3.fits",
    "meancr.fits",
    "meancrt.fits",
    "median.fits",
    "mediancr.fits",
]


def test_version(capsys):
    """The version is that of the package."""
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"ccdcr {__version__}\n"


def test_usage(capsys):
    """Wrong usage exits with 2 and says what there is."""
    with pytest.raises(SystemExit, match="2"):
        main(["dmeo"])
    assert "demo" in capsys.readouterr().err


def test_demo(tmp_path, capsys):
    """Files, tables, and no overwriting."""
    folder = tmp_path / "out"
    assert main(["demo", "-o", str(folder), "--seed", "3"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == FILES
    output = capsys.readouterr().out
    masks = CRMaskSet.read(folder / "crmasks.fits")
    assert f"MEANCRT  {masks.meancrt.sum()}" in output
    residual = {
        line.split()[0]: int(line.split()[1])
        for line in output.splitlines()
        if len(line.split()) == 4
        and line.split()[0] in {"median", "mediancr", "meancr"}
    }
    assert residual["mediancr"] < residual["median"] / 3
    median = CCDData.read(folder / "median.fits")
    stack = [CCDData.read(folder / f"exposure{i}.fits").data for i in (1, 2, 3)]
    np.testing.assert_allclose(median.data, np.median(stack, axis=0))

    assert main(["demo", "-o", str(folder)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("ccdcr demo: the output file")
    assert "use --overwrite" in error
    assert main(["demo", "-o", str(folder), "--overwrite", "--no-figure"]) == 0


@pytest.fixture(scope="module")
def exposures(tmp_path_factory):
    """Three simulated exposures as files; the folder that holds them."""
    folder = tmp_path_factory.mktemp("exposures")
    sim = simulate_exposures((64, 70), gain=1.5, cr_rate=2.0, seed=3)
    for number, ccd in enumerate(sim.exposures, start=1):
        ccd.write(folder / f"exposure{number}.fits")
    return folder


@pytest.fixture
def night(exposures, tmp_path, monkeypatch):
    """A folder of exposures and the documented files; the current one."""
    shutil.copytree(exposures, tmp_path, dirs_exist_ok=True)
    shutil.copytree(YAML, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def visible():
    """Return the names of all files here, hidden ones too."""
    return sorted(str(path) for path in Path().rglob("*") if path.is_file())


def frames():
    """Return the names of the exposures."""
    return [f"exposure{number}.fits" for number in (1, 2, 3)]


def program(*args, **kwargs):
    """Start the program."""
    return subprocess.Popen(
        [sys.executable, "-m", "ccdcr", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


class TestProgram:
    """The program as a whole."""

    @pytest.mark.parametrize("command", ["", "run", "detect", "template"])
    def test_help(self, command):
        """Help has examples and imports nothing heavy."""
        script = (
            "import sys, ccdcr.cli as c\n"
            "try: c.main(sys.argv[1:])\n"
            "finally: print({'numpy', 'astropy', 'ccdproc'} & set(sys.modules))"
        )
        result = subprocess.run(
            [sys.executable, "-c", script, *command.split(), "-h"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"usage: ccdcr {command}" in result.stdout
        assert result.stdout.endswith("set()\n")

    def test_module(self):
        """The package runs as a program."""
        process = program("--version")
        assert process.communicate() == (f"ccdcr {__version__}\n", "")
        assert process.returncode == 0

    def test_completion(self, tmp_path, monkeypatch):
        """A shell completes commands and options where argcomplete is installed."""
        pytest.importorskip("argcomplete")
        line = "ccdcr template --a"
        given = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
        given["_ARGCOMPLETE_STDOUT_FILENAME"] = str(tmp_path / "found")
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        program().communicate()
        assert (tmp_path / "found").read_text().split() == ["--all"]

    def test_closed_pipe(self):
        """Nothing is said when nobody reads on."""
        process = program("template")
        process.stdout.close()
        assert process.stderr.read() == ""
        process.stderr.close()
        assert process.wait() == 1

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            ("run", "the following arguments are required: FILE.yaml"),
            ("run a.yaml --jobs 0", "must be an integer >= 1, got '0'"),
            ("run a.yaml --set dilation", "must be NAME=VALUE, got 'dilation'"),
            ("run a.yaml --set dilation=[", "'[' is not a valid YAML value"),
            (
                "run a.yaml --set dilatoin=1",
                "--set: unknown requirement 'dilatoin'; did you mean",
            ),
            ("run a.yaml --log-level LOUD", "invalid choice: 'LOUD'"),
            ("detect a.yaml b.yaml", "one YAML file is allowed"),
            ("clean a.fits --crmasks m.fits", "comes first: ccdcr clean crmasks.fits"),
        ],
    )
    def test_usage(self, args, message, capsys):
        """Wrong usage exits with 2, before any work."""
        with pytest.raises(SystemExit, match="2"):
            main(args.split())
        assert message in capsys.readouterr().err


@pytest.mark.usefixtures("night")
class TestRun:
    """Running the documented files."""

    def test_documented(self, capsys):
        """All four at once: the same as in Python."""
        files = sorted(str(path) for path in Path().glob("*.yaml"))
        assert len(files) == 4
        assert main(["run", *files]) == 0
        output, error = capsys.readouterr()
        lines = output.splitlines()
        assert re.match(r"8_LR-R_crmasks: done, obsid8_LR-R_crmasks_results", lines[0])
        assert lines[-1] == "4 blocks: 4 done"
        assert error.count("interactive and verify_cr have no effect here") == 1
        assert "reference_extinction" in error
        masks = CRMaskSet.read("obsid8_LR-R_crmasks_results/crmasks.fits")
        assert masks == detect_cosmic_rays(
            frames(), "8_generate_crmasks.yaml", gain="GAIN", readnoise="RDNOISE"
        )
        for method in ("mediancr", "meancrt", "meancr"):
            expected = combine(frames(), method=method, crmasks=masks, dtype="auto")
            image = fits.getdata(f"obsid8_LcbImage_LR-R_results/{method}.fits")
            np.testing.assert_array_equal(image, expected.data)

    def test_one_line(self, capsys):
        """An error is one line with block, file and reason; status is 1."""
        Path("exposure2.fits").unlink()
        assert main(["run", "8_generate_crmasks.yaml"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        here = Path.cwd()
        assert line == (
            f"ccdcr run: 8_LR-R_crmasks ({here / '8_generate_crmasks.yaml'}): the "
            f"frame exposure2.fits does not exist in {here / 'data'}, {here}"
        )

    def test_debug(self, capsys):
        """The traceback is shown when it is asked for."""
        Path("exposure2.fits").unlink()
        assert main(["run", "8_generate_crmasks.yaml", "--debug"]) == 1
        assert "Traceback (most recent call last)" in capsys.readouterr().err
        assert main(["info", "exposure1.fits", "--debug"]) == 1
        assert "Traceback (most recent call last)" in capsys.readouterr().err

    def test_overwrite(self, capsys):
        """Running again is refused, resumed, or replaces the files."""
        args = ["run", "8_generate_crmasks.yaml", "--set", "crmethod=lacosmic"]
        assert main(args) == 0
        assert main(args) == 1
        assert "exists; use --overwrite to replace it" in capsys.readouterr().err
        assert main([*args, "--resume"]) == 0
        assert capsys.readouterr().out == "8_LR-R_crmasks: done before, skipped\n"
        assert main([*args, "--overwrite"]) == 0

    def test_dry_run(self, capsys):
        """It says what it would do, and does not do it."""
        before = visible()
        assert main(["run", "8_generate_crmasks.yaml", "--dry-run"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == f"8_LR-R_crmasks: detection of {', '.join(frames())}"
        folder = Path("obsid8_LR-R_crmasks_results")
        assert lines[1] == f"  would write {folder / 'crmasks.fits'}"
        assert len(lines) == 6
        assert visible() == before

    # Without a seed the boundary is another one each time.
    @pytest.mark.filterwarnings("ignore::ccdcr.ImplausibleMaskWarning")
    def test_options(self, capsys):
        """Detector, requirements, folder; --quiet leaves the warnings."""
        Path("out").mkdir()
        args = "run 8_generate_crmasks.yaml -r control.yaml -o out --gain 2 -q"
        args += " --readnoise 2adu --bias 0 --set la_sigclip=[6,3] --set mm_seed=none"
        args += " --set dilation=0"  # a random boundary flags up to 20 % otherwise
        assert main(args.split()) == 0
        output, error = capsys.readouterr()
        assert output == ""
        first, second = error.splitlines()
        assert first.startswith("WARNING: control.yaml is not used")
        assert second.startswith("WARNING: interactive and verify_cr have no effect")
        masks = CRMaskSet.read("out/obsid8_LR-R_crmasks_results/crmasks.fits")
        assert (masks.gain, masks.readnoise) == (2, 4)
        assert masks.requirements.la_sigclip == (6, 3)
        assert masks.requirements.mm_seed is None

    def test_wildcards(self, capsys):
        """Wildcards that the shell leaves are expanded."""
        assert main(["run", "8_Lcb*.yaml", "8_gen*.yaml", "--dry-run"]) == 0
        assert "4 blocks: 4 checked" in capsys.readouterr().out
        assert main(["run", "no*.yaml"]) == 1
        assert "no*.yaml" in capsys.readouterr().err

    def test_log(self, capsys):
        """Messages by level, and to a file."""
        args = ["run", "8_generate_crmasks.yaml", "--log-level", "WARNING"]
        assert main([*args, "--log-file", "run.log"]) == 0
        error = capsys.readouterr().err
        assert error.startswith("WARNING: interactive")
        assert "readnoise is 3.0, from the header" not in error
        assert "gain is 1.5, from the header keyword GAIN" in error
        assert "INFO readnoise is 3.0, from the header" in Path("run.log").read_text()
        assert main(["info", "x.fits", "--log-file", "no/run.log"]) == 1

    def test_logger_restored(self):
        """The logger is left as it was, for those who call main."""
        before = (list(log.handlers), log.level)
        main(["info", "x.fits"])
        assert (list(log.handlers), log.level) == before

    def test_jobs(self, capsys):
        """Blocks in processes; one fails, the others are completed."""
        text = Path("8_LcbImage_meancr.yaml").read_text()
        Path("bad.yaml").write_text(text.replace("exposure3", "exposure4"))
        files = ["8_generate_crmasks.yaml", "8_LcbImage_meancr.yaml", "bad.yaml"]
        assert main(["run", *files, "--jobs", "2"]) == 1
        output, error = capsys.readouterr()
        assert output.splitlines()[-1] == "3 blocks: 1 failed, 2 done"
        assert (
            "(" + str(Path.cwd() / "bad.yaml") + "): the frame exposure4.fits" in error
        )
        masks = CRMaskSet.read("obsid8_LR-R_crmasks_results/crmasks.fits")
        expected = combine(frames(), method="meancr", crmasks=masks, dtype="auto")
        image = fits.getdata("obsid8_LcbImage_LR-R_results/meancr.fits")
        np.testing.assert_array_equal(image, expected.data)

    @pytest.mark.parametrize("jobs", ["1", "2"])
    def test_interrupt(self, jobs):
        """Ctrl-C leaves no results and nothing half-written."""
        sim = simulate_exposures((700, 700), seed=1)
        for name, ccd in zip(frames(), sim.exposures, strict=True):
            ccd.write(name, overwrite=True)
        before = visible()
        # A suite in the background of a shell ignores Ctrl-C, and so would the program.
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        process = program("run", "8_generate_crmasks.yaml", "--jobs", jobs)
        signal.signal(signal.SIGINT, handler)
        record = Path("obsid8_LR-R_crmasks_results/crmasks.json")
        while not record.exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        output, error = process.communicate()
        assert process.returncode == 1
        assert error.splitlines()[-1] == "ccdcr run: interrupted"
        assert "Traceback" not in error
        assert output == ""
        assert visible() == sorted([*before, str(record)])
        assert json.loads(record.read_text())["status"] == "interrupted"


@pytest.mark.usefixtures("night")
class TestDetectAndCombine:
    """One step from the command line."""

    def test_images(self, capsys):
        """From images to masks to a combination."""
        args = ["detect", *frames(), "--set", "crmethod=mm_lacosmic"]
        args += ["--set", "mm_threshold=1", "--set", "dilation=0"]
        assert main(args) == 0
        output = capsys.readouterr().out
        masks = CRMaskSet.read("crmasks.fits")
        assert masks == detect_cosmic_rays(
            frames(),
            gain="GAIN",
            readnoise="RDNOISE",
            crmethod="mm_lacosmic",
            mm_threshold=1,
            dilation=0,
        )
        assert output.startswith("crmasks: done, crmasks.fits and 4 more, ")
        assert re.search(rf"MEANCRT +{masks.meancrt.sum()} ", output)
        args = ["combine", "exposure?.fits", "--crmasks", "crmasks.fits"]
        assert main([*args, "--method", "mediancr", "--use-lamedian"]) == 0
        options = {"use_lamedian": True, "dtype": "auto"}
        expected = combine(frames(), method="mediancr", crmasks=masks, **options)
        image = fits.getdata("mediancr.fits")
        np.testing.assert_array_equal(image, expected.data)
        assert (image != combine(frames(), method="median").data).any()

    def test_two(self):
        """Two exposures are enough for the default method, as in Python."""
        two = frames()[:2]
        assert main(["detect", *two]) == 0
        masks = CRMaskSet.read("crmasks.fits")
        assert masks == detect_cosmic_rays(two, gain="GAIN", readnoise="RDNOISE")
        assert main(["template", *two, "-o", "two.yaml"]) == 0
        assert main(["run", "two.yaml", "--dry-run"]) == 0
        assert main(["run", "two.yaml", "--output-folder", "."]) == 0
        folder = Path("obsidnight1_crmasks_results")
        assert CRMaskSet.read(folder / "crmasks.fits") == masks

    @pytest.mark.parametrize("method", ["meancr", "median", "average", "sum"])
    def test_mem_limit(self, method, monkeypatch):
        """It makes tiles of the files, and the same comes out."""
        seen, original = [], combine_tiles.cut_tiles

        def cut_tiles(*args, **kwargs):
            seen.append(original(*args, **kwargs))
            return seen[-1]

        monkeypatch.setattr(combine_tiles, "cut_tiles", cut_tiles)
        args = ["combine", *frames(), "--method", method, "-o", "out.fits"]
        given = {}
        if method == "meancr":
            assert main(["detect", *frames(), "--set", "crmethod=mmcosmic"]) == 0
            args, given = (
                [*args, "--crmasks", "crmasks.fits"],
                {"crmasks": "crmasks.fits"},
            )
        assert main([*args, "--set", "mem_limit=120000"]) == 0
        assert len(seen[0]) > 2
        expected = combine(frames(), method=method, dtype="auto", **given)
        np.testing.assert_array_equal(fits.getdata("out.fits"), expected.data)

    def test_limited_detection(self, capsys):
        """The limit is checked before any work, and changes nothing else."""
        args = ["remove", *frames()]
        for more in ([], ["--dry-run"]):
            assert main([*args, *more, "--mem-limit", "1e3"]) == 1
            assert "--mem-limit must be at least" in capsys.readouterr().err
        assert main([*args, "--mem-limit", "1GB"]) == 0

    def test_limit_in_yaml(self, capsys):
        """A limit beside the frames is checked, and overridden by the option."""
        text = "id: a\nframes: [{}]\nmem_limit: 1 kB\nrequirements: {{}}\n"
        Path("a.yaml").write_text(text.format(", ".join(frames())))
        args = ["run", "a.yaml", "--dry-run"]
        assert main(args) == 1
        assert "mem_limit must be at least" in capsys.readouterr().err
        assert main([*args, "--mem-limit", "1 GB"]) == 0

    @pytest.mark.parametrize("limit", ["0", "-1", "much"])
    def test_wrong_limit(self, limit, capsys):
        """It is refused by its own name."""
        with pytest.raises(SystemExit):
            main(["detect", *frames(), f"--mem-limit={limit}"])
        text = "argument --mem-limit: must be a number of bytes > 0, such as 1e9 or"
        assert text in " ".join(capsys.readouterr().err.split())

    def test_named_extension(self):
        """Several images need a name; keywords of the primary header count."""
        for name in frames():
            data, header = fits.getdata(name, header=True)
            primary = fits.PrimaryHDU(header=header)
            images = [fits.ImageHDU(data * k, name=f"CCD{k}") for k in (1, 2)]
            fits.HDUList([primary, *images]).writeto(name, overwrite=True)
        args = ["detect", *frames(), "--set", "crmethod=mmcosmic"]
        assert main(args) == 1
        assert main([*args, "--extension", "CCD1"]) == 0
        masks = CRMaskSet.read("crmasks.fits")
        assert masks == detect_cosmic_rays(
            frames(),
            gain="GAIN",
            readnoise="RDNOISE",
            crmethod="mmcosmic",
            extension="CCD1",
        )

    def test_standalone(self):
        """The YAML of the standalone script: images, extnum, gain, rnoise, bias."""
        content = Path("8_generate_crmasks.yaml").read_text()
        requirements = content[content.index("requirements:") :]
        lines = ["images:", *(f" - {name}" for name in frames())]
        lines += ["extnum: 0", "gain: 1.7", "rnoise: 2.0", "bias: 10", requirements]
        Path("params.yaml").write_text("\n".join(lines))
        assert main(["detect", "params.yaml", "-o", "masks.fits"]) == 0
        assert main(["run", "params.yaml"]) == 0
        masks = CRMaskSet.read("masks.fits")
        assert (masks.gain, masks.readnoise, masks.bias) == (1.7, 3.4, 10)
        assert masks == CRMaskSet.read("obsidparams_results/crmasks.fits")

    def test_yaml_and_images(self):
        """Images of the command line win over those of the file."""
        for name in frames():
            Path(name).rename(f"x_{name}")
        args = ["detect", "8_generate_crmasks.yaml", "x_*.fits"]
        assert main([*args, "--set", "crmethod=lacosmic"]) == 0
        assert CRMaskSet.read("crmasks.fits").meta["FILE1"] == "x_exposure1.fits"
        args = ["combine", "8_LcbImage_meancrt.yaml", "x_*.fits", "-o", "m.fits"]
        assert main([*args, "--crmasks", "crmasks.fits", "--apply-flux-factor"]) == 0
        assert fits.getheader("m.fits")["CRUUID"] == CRMaskSet.read("crmasks.fits").uuid

    def test_wrong_kind(self, capsys):
        """A file without such a block."""
        assert main(["combine", "8_generate_crmasks.yaml"]) == 1
        error = capsys.readouterr().err
        assert "must hold one combination, found 0; ccdcr run runs all blocks" in error

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ("--extension SCI", "exposure1.fits has no extension 'SCI'"),
            ("--gain NOKEY", "--gain NOKEY must name a header keyword"),
            ("--gain 3m", "--gain must be in electron / adu, got m"),
            ("--unit furlong", "--unit must be a unit such as adu or electron"),
            ("--set ma_satlevel=abc", "ma_satlevel must be"),
            ("-o no/crmasks.fits", "the folder of the output file "),
        ],
    )
    def test_wrong_options(self, options, message, capsys):
        """One line that says what and where, with the names of options."""
        args = ["detect", *frames(), "--set", "crmethod=lacosmic", *options.split()]
        assert main([*args, "--log-level", "ERROR"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("ccdcr detect: crmasks: ")
        assert message in line
        assert not Path("crmasks.fits").exists()


class TestMessages:
    """Messages of the library with the names of options."""

    OPTIONS = SimpleNamespace(
        unit=None,
        extension=None,
        gain=3,
        overwrite=False,
        apply_flux_factor=None,
        changes=[],
        frames=[],
    )

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("is no unit; give unit=", "is no unit; give --unit"),
            ("give unit=, or CCDData objects, to say it", "give --unit to say it"),
            ("one by extension=, or give CCDData objects", "one by --extension"),
            (
                "crmethod='matched' has, and add_expected(ccds, masks) makes them",
                "--set crmethod=matched has",
            ),
            (
                "compute them again with add_expected(ccds, masks), or give --x",
                "give --x",
            ),
            (
                "compute them again with add_expected(ccds, masks)",
                "compute them again with --noise auto",
            ),
            ("use overwrite=True to", "use --overwrite to"),
            ("use overwrite_output=True", "use --overwrite"),
            ("use apply_flux_factor=True", "use --apply-flux-factor"),
            ("apply_flux_factor=False;", "--no-apply-flux-factor;"),
            ("or flux_factor='auto'", "or --set flux_factor=auto"),
            ("flux_factor=1 to", "--set flux_factor=1 to"),
            ("use axes='x', odd=True", "use axes='x', odd=True"),
            ("night/unit=1.fits is", "night/unit=1.fits is"),
            ("gain must be > 0", "--gain must be > 0"),
            ("x: unit must be given", "x: --unit must be given"),
            ("unit must be one", "unit must be one"),
            ("the gain must be", "the gain must be"),
            ("frames must be files", "frames must be files"),
            ("ccds must be 3", "the exposures must be 3"),
        ],
    )
    def test_translated(self, text, expected):
        """Assignments, and the beginning of rules about options that were given."""
        assert to_options(text, self.OPTIONS) == expected

    def test_no_set(self):
        """A command without --set."""
        text = "use flux_factor='auto'"
        assert to_options(text, SimpleNamespace(unit=None)) == text


@pytest.mark.usefixtures("night")
class TestRemove:
    """Detection and combination in one line."""

    OPTIONS = ("--set", "crmethod=lacosmic", "--method", "mediancr")

    def test_files(self):
        """The same as detect and combine; options go where they belong."""
        args = ["remove", *frames(), *self.OPTIONS, "--use-lamedian", "-o", "x.fits"]
        assert main(args) == 0
        masks = CRMaskSet.read("x_crmasks.fits")
        assert masks.requirements.crmethod == "lacosmic"
        options = {"use_lamedian": True, "dtype": "auto"}
        expected = combine(frames(), method="mediancr", crmasks=masks, **options)
        with fits.open("x.fits") as hdus:
            assert hdus[0].header["CRLAMED"]
            np.testing.assert_array_equal(hdus[0].data, expected.data)

    def test_type(self):
        """Exposures of 16 bits give an image of 32 bits unless another is asked for."""
        for name in frames():
            with fits.open(name, mode="update") as hdus:
                hdus[0].data = np.rint(hdus[0].data).astype("i2")
        assert main(["remove", *frames(), *self.OPTIONS, "-o", "x.fits"]) == 0
        assert fits.getdata("x.fits").dtype == ">f4"
        args = [*frames(), "--crmasks", "x_crmasks.fits"]
        assert main(["combine", *args]) == 0
        assert fits.getdata("meancr.fits").dtype == ">f4"
        args += ["--dtype", "float64", "-o", "y.fits"]
        assert main(["combine", *args]) == 0
        assert fits.getdata("y.fits").dtype == ">f8"

    def test_refused(self, capsys):
        """Unknown names, and files that exist, before any work."""
        with pytest.raises(SystemExit):
            main(["remove", *frames(), "--set", "nonsense=3"])
        assert "unknown requirement 'nonsense'" in capsys.readouterr().err
        assert main(["remove", *frames(), "--dtype", "int16"]) == 1
        assert "--dtype must be a floating-point type" in capsys.readouterr().err
        assert not list(Path().glob("combined*"))
        Path("combined.fits").touch()
        assert main(["remove", *frames()]) == 1
        assert "combined.fits exists; use --overwrite" in capsys.readouterr().err
        assert main(["remove", *frames(), "--dry-run"]) == 0
        assert "would write combined_crmasks.fits" in capsys.readouterr().out
        assert not Path("combined_crmasks.fits").exists()


@pytest.mark.usefixtures("night")
class TestFlag:
    """Flags of the exposures, and masks as flags."""

    def test_read(self):
        """Flagged pixels are left out by both steps."""
        for name in frames():
            with fits.open(name, mode="append") as hdus:
                flags = np.zeros(hdus[0].shape, "i2")
                flags[5, 6] = 4
                hdus.append(fits.ImageHDU(flags, name="DQ"))
        args = ["--ignore-flags", "~SATURATED", "--flag-name-map", "gemini"]
        args += [
            "--set",
            "crmethod=lacosmic",
            "--set",
            "pixels_to_be_flagged_as_cr=none",
        ]
        assert main(["remove", *frames(), *args]) == 0
        with fits.open("combined.fits") as hdus:
            assert np.argwhere(hdus["MASK"].data).tolist() == [[5, 6]]
            assert np.argwhere(hdus["FLAGS"].data).tolist() == [[5, 6]]

    def test_written(self, capsys):
        """Copies with a DQ extension, and regions."""
        assert main(["detect", *frames(), "--set", "crmethod=lacosmic"]) == 0
        args = ["flag", "crmasks.fits", *frames(), "--convention", "gemini"]
        assert main([*args, "--regions", "crs.reg"]) == 0
        assert "flagged/exposure3.fits" in capsys.readouterr().out
        masks = CRMaskSet.read("crmasks.fits")
        for name, mask in zip(frames(), masks.crmasks, strict=True):
            flags = fits.getdata(Path("flagged") / name, "DQ")
            np.testing.assert_array_equal(flags, 8 * mask)
        assert Path("crs.reg").read_text().startswith("# Region file format: DS9")
        assert main(args) == 1
        assert "use --overwrite" in capsys.readouterr().err


@pytest.mark.usefixtures("night")
class TestTemplate:
    """A file with everything, to be edited."""

    def test_complete(self, capsys):
        """All requirements with default and meaning; the file can be read."""
        assert main(["template", "--all"]) == 0
        text = capsys.readouterr().out
        Path("t.yaml").write_text(text)
        detection, combination = ObservingBlock.list_from_yaml("t.yaml")
        assert detection.requirements == Requirements()
        assert detection.frames == combination.frames == tuple(frames())
        assert combination.method == "meancr"
        words = " ".join(text.replace("#", " ").split())
        for row in Requirements.table():
            assert f"\n  {row['name']}: " in text
            unit = f" [{row['unit']}]" if row["unit"] else ""
            assert f"{row['meaning']}{unit}: {row['allowed']}" in words
        assert max(map(len, text.splitlines())) <= 88
        # The default method comes before the others.
        assert 0 < text.index("  ma_passes:") < text.index("  la_sigclip:")

    def test_short(self, capsys):
        """Without --all, a file of 20 lines and a few that means the same."""
        assert main(["template"]) == 0
        text = capsys.readouterr().out
        assert len(text.splitlines()) <= 22
        assert max(map(len, text.splitlines())) <= 88
        Path("t.yaml").write_text(text)
        detection, combination = ObservingBlock.list_from_yaml("t.yaml")
        assert (detection.mode, combination.mode) == ("detection", "combination")
        assert detection.requirements == Requirements()
        assert detection.gain is detection.readnoise is detection.extnum is None
        assert (combination.method, combination.crmasks) == ("meancr", "crmasks.fits")

    def test_frames(self, capsys):
        """Frames are checked, and what their headers say of the detector is told."""
        assert main(["template", *frames(), "-o", "t.yaml"]) == 0
        assert "gain is 1.5, from the header keyword GAIN" in capsys.readouterr().err
        text = Path("t.yaml").read_text()
        assert (
            "\ngain: none  # electron/adu, or a header keyword; none = GAIN, " in text
        )
        assert "none = GAIN, which is 1.5: check it\n" in text
        fits.PrimaryHDU(np.ones((3, 4))).writeto("small.fits")
        args = ["template", *frames(), "small.fits", "-o", "u.yaml", "--unit", "adu"]
        assert main(args) == 1
        assert "must have the same shape" in capsys.readouterr().err
        assert not Path("u.yaml").exists()

    def test_extension(self, capsys):
        """The extension is written to both blocks, and they can be run."""
        for number, name in enumerate(frames(), start=1):
            with fits.open(name) as hdus:
                image = fits.ImageHDU(hdus[0].data, hdus[0].header, name="SCI")
            other = fits.ImageHDU(image.data, name="OTHER")
            fits.HDUList([fits.PrimaryHDU(), image, other]).writeto(f"mef{number}.fits")
        args = ["template", "mef?.fits", "-o", "t.yaml"]
        assert main(args) == 1
        assert "must have one image, it has 2" in capsys.readouterr().err
        assert main([*args, "--extension", "SCI"]) == 0
        assert [b.extnum for b in ObservingBlock.list_from_yaml("t.yaml")] == [
            "SCI"
        ] * 2
        assert main(["run", "t.yaml", "--dry-run"]) == 0

    def test_template_of_missing(self, tmp_path, monkeypatch, capsys):
        """Files that do not exist are refused, and nothing is written."""
        monkeypatch.chdir(tmp_path)
        assert main(["template", "nope.fits", "-o", "t.yaml"]) == 1
        assert "must be files that exist, not found:" in capsys.readouterr().err
        assert not Path("t.yaml").exists()

    def test_run(self, capsys):
        """The file runs as it is when it names the exposures."""
        Path("x").mkdir()
        args = ["template", "exposure?.fits", "--id", "n 1", "-o", "x/t.yaml"]
        assert main(args) == 0
        assert main(args) == 1
        assert "x/t.yaml exists; use --overwrite" in capsys.readouterr().err
        assert main([*args, "--overwrite"]) == 0
        assert "../exposure1.fits" in Path("x/t.yaml").read_text()
        assert main(["run", "x/t.yaml", "--set", "crmethod=lacosmic"]) == 0
        assert Path("obsidn 1_crmasks_results/crmasks.fits").exists()
        assert Path("obsidn 1_results/meancr.fits").exists()

    @pytest.mark.parametrize("only", ["detection", "combination"])
    def test_only(self, only, capsys):
        """One of the two blocks."""
        assert main(["template", "--only", only]) == 0
        Path("t.yaml").write_text(capsys.readouterr().out)
        block = ObservingBlock.from_yaml("t.yaml")
        assert (block.requirements is None) == (only == "combination")


@pytest.mark.usefixtures("night")
def test_info(capsys):
    """Masks, how they were made, and the summary."""
    args = ["--set", "dilation=2", "--set", "crmethod=lacosmic", "-q"]
    assert main(["detect", *frames(), *args]) == 0
    assert main(["info", "crmasks.fits"]) == 0
    output = capsys.readouterr().out
    masks = CRMaskSet.read("crmasks.fits")
    for line in [*str(masks).splitlines(), *masks.summary().pformat(max_lines=-1)]:
        assert line in output.splitlines()
    assert "gain: 1.5 electron/adu" in output
    assert "<Requirements(crmethod='lacosmic', dilation=2)>" in output
    assert "exposure 3: exposure3.fits" in output
    assert main(["info", "exposure1.fits"]) == 1
    assert "exposure1.fits is not a file of masks" in capsys.readouterr().err


@pytest.mark.usefixtures("night")
def test_clean(capsys):
    """Exposures without hits; masks without expected values get them."""
    assert main(["detect", *frames(), "--set", "crmethod=lacosmic", "-q"]) == 0
    assert main(["clean", "crmasks.fits", *frames(), "-o", "cleaned", "-q"]) == 0
    ccds = [CCDData.read(name, unit="adu") for name in frames()]
    masks = add_expected(ccds, CRMaskSet.read("crmasks.fits"))
    for name, ccd in zip(frames(), masks.clean(ccds), strict=True):
        written = CCDData.read(Path("cleaned") / name.replace(".", "_clean."))
        assert (written.data == ccd.data).all()
        assert (written.mask == ccd.mask).all()
        assert (written.uncertainty.array == ccd.uncertainty.array).all()
    assert main(["clean", "crmasks.fits", *frames(), "-o", "cleaned"]) == 1
    assert "use --overwrite" in capsys.readouterr().err
    CRMaskSet(masks.mediancr, masks.meancrt, masks.crmasks).write("plain.fits")
    plain = ["clean", "plain.fits", *frames(), "-o", "again", "-q"]
    assert main(plain) == 1
    assert "gain must be given" in capsys.readouterr().err
    given = ["--gain", str(masks.gain), "--readnoise", str(masks.readnoise)]
    assert main([*plain, *given]) == 0
    again = CCDData.read(Path("again") / frames()[-1].replace(".", "_clean."))
    assert (again.uncertainty.array == written.uncertainty.array).all()


@pytest.mark.usefixtures("night")
@pytest.mark.filterwarnings("ignore")  # they are not really displaced
def test_clean_aligned():
    """Other noise for masks of exposures that were aligned."""
    ccds = [CCDData.read(name, unit="adu") for name in frames()]
    aligned = align_exposures(ccds, [(0, 0), (2, 1), (0, 3)])
    masks = detect_cosmic_rays(aligned, gain=2.0, readnoise=3.0, crmethod="lacosmic")
    masks.write("crmasks.fits")
    given = ["--gain", "4.0", "--readnoise", "3.0", "-o", "cleaned"]
    assert main(["clean", "crmasks.fits", *frames(), *given, "-q"]) == 0
    cleaned = add_expected(aligned, masks, gain=4.0, readnoise=3.0).clean(ccds)
    written = CCDData.read(Path("cleaned") / frames()[1].replace(".", "_clean."))
    assert (written.data == cleaned[1].data).all()


class TestProgress:
    """The line of progress."""

    def test_lines(self, monkeypatch):
        """Stage, exposure, number and time left."""
        monkeypatch.setenv("COLUMNS", "200")
        clock = iter([0.0, 0.0, 30.0])
        monkeypatch.setattr(time, "monotonic", lambda: next(clock))
        stream = io.StringIO()
        progress = ProgressLine(stream)
        items = {"MEDIANCR": 1, "CRMASK1": 2, "CRMASK2": 3}.items()
        assert list(progress(items, desc="detecting")) == list(items)
        lines = stream.getvalue().split("\r\x1b[K")
        assert lines == [
            "",
            "detecting 0/3",
            "detecting MEDIANCR 0/3",
            "detecting CRMASK1 1/3, 0s left",
            "detecting CRMASK2 2/3, 15s left",
            "detecting 3/3",
        ]

    def test_narrow(self, monkeypatch):
        """One line in a narrow terminal, and nothing after it is cleared."""
        monkeypatch.setenv("COLUMNS", "30")
        stream = io.StringIO()
        progress = ProgressLine(stream)
        list(progress([Path("a/name-of-an-exposure.fits")], desc="reading"))
        lines = stream.getvalue().split("\r\x1b[K")
        assert lines[2] == "reading name-of-an-exposu 0/1"
        progress.clear()
        assert stream.getvalue().endswith("reading 1/1\r\x1b[K")

    @pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals")
    @pytest.mark.parametrize("quiet", [False, True])
    def test_terminal(self, night, quiet):
        """On a terminal only, and not if it is to be quiet."""
        parent, child = os.openpty()
        args = ["run", "8_generate_crmasks.yaml", *(["-q"] if quiet else [])]
        with subprocess.Popen(
            [sys.executable, "-m", "ccdcr", *args],
            cwd=night,
            stdout=subprocess.DEVNULL,
            stderr=child,
        ) as process:
            os.close(child)
            output = b""
            try:
                while chunk := os.read(parent, 4096):
                    output += chunk
            except OSError:  # the other end is closed
                pass
        os.close(parent)
        assert process.returncode == 0
        assert (b"8_LR-R_crmasks: detecting CRMASK3" in output) == (not quiet)

    @pytest.mark.usefixtures("night")
    def test_pipe(self, capfd):
        """None in a pipe."""
        assert main(["run", "8_generate_crmasks.yaml"]) == 0
        assert "\r" not in capfd.readouterr().err


class TestReportAndCompare:
    """What was flagged, and what the methods make of it, from files."""

    @pytest.fixture(autouse=True)
    def masks(self, night):  # noqa: ARG002
        """Masks of the exposures in the current folder."""
        args = ["detect", *frames(), "--set", "crmethod=mmcosmic"]
        assert main(args) == 0

    def test_report(self, capsys, monkeypatch):
        """The same files as from Python."""
        monkeypatch.setattr(ReportFigure, "png", lambda _: b"")  # takes long
        args = ["report", "crmasks.fits", *frames()]
        assert main([*args, "--detect-again", "--maxplots", "3"]) == 0
        assert "detections, " in capsys.readouterr().out
        assert Path("report/index.html").is_file()
        assert main(args) == 1
        assert "--overwrite" in capsys.readouterr().err or Path("report").is_dir()
        assert main([*args, "--overwrite", "--maxplots", "1"]) == 0

    def test_compare(self, capsys):
        """A row for each method, and the figure on request."""
        args = ["compare", "crmasks.fits", *frames(), "-o", "methods.png"]
        assert main(args) == 0
        output = capsys.readouterr().out
        for method in ("median", "mediancr", "meancrt", "meancr"):
            assert re.search(rf"^ *{method} ", output, re.MULTILINE)
        assert Path("methods.png").read_bytes().startswith(b"\x89PNG")
        assert main(args) == 1
        assert "methods.png" in capsys.readouterr().err


class TestReview:
    """Blocks that want to be looked at, in front of a terminal."""

    @pytest.mark.usefixtures("night")
    def test_edited(self, monkeypatch, capsys):
        """What the review returns is written."""
        seen = []

        def review(ccds, masks):
            seen.append(len(ccds))
            return masks.edit(add=[[5, 6]], ccds=ccds)

        monkeypatch.setattr("ccdcr.cli.input_options.reviewer", lambda _: review)
        args = ["detect", *frames(), "--set", "interactive=True"]
        assert main([*args, "--set", "crmethod=mmcosmic"]) == 0
        assert seen == [3]
        assert CRMaskSet.read("crmasks.fits").mediancr[5, 4]
        assert main([*args, "--overwrite"]) == 1
        error = capsys.readouterr().err
        assert "edited or reviewed, which a new detection would undo; move" in error
        assert CRMaskSet.read("crmasks.fits").mediancr[5, 4]

    @pytest.mark.usefixtures("night")
    def test_boundary(self, monkeypatch):
        """Requirements that a review changed are an edit, too."""

        def review(ccds, masks):  # noqa: ARG001
            return CRMaskSet(
                masks.mediancr,
                masks.meancrt,
                masks.crmasks,
                requirements=masks.requirements.replace(mm_threshold=9),
            )

        monkeypatch.setattr("ccdcr.cli.input_options.reviewer", lambda _: review)
        args = ["detect", *frames(), "--set", "interactive=True", "--overwrite"]
        assert main(args) == 0
        assert main(args) == 1

    @pytest.mark.usefixtures("night")
    def test_cancelled(self, monkeypatch, capsys):
        """Nothing is written by somebody who quits."""

        def review(ccds, masks):  # noqa: ARG001
            msg = "the review was cancelled"
            raise ReviewCancelledError(msg)

        monkeypatch.setattr("ccdcr.cli.input_options.reviewer", lambda _: review)
        args = ["detect", *frames(), "--set", "interactive=True"]
        assert main([*args, "--set", "crmethod=mmcosmic"]) == 1
        assert "the review was cancelled" in capsys.readouterr().err
        assert not Path("crmasks.fits").exists()

    @pytest.mark.parametrize(
        ("options", "terminal", "expected"),
        [
            ({"jobs": 1, "dry_run": False}, True, True),
            ({"dry_run": False}, True, True),
            ({"jobs": 2, "dry_run": False}, True, False),
            ({"jobs": 1, "dry_run": True}, True, False),
            ({"jobs": 1, "dry_run": False}, False, False),
        ],
    )
    def test_when(self, monkeypatch, options, terminal, expected):
        """Only in front of a terminal, one block after the other."""
        output = SimpleNamespace(isatty=lambda: terminal)
        monkeypatch.setattr("ccdcr.cli.input_options.sys.stdout", output)
        found = reviewer(SimpleNamespace(**options))
        monkeypatch.undo()
        assert (found is not None) == expected
