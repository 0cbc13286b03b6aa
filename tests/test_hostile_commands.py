# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of command lines and blocks that would do harm if they could."""

import bz2
import gzip
import lzma
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.utils import minversion
from hypothesis import given
from hypothesis import strategies as st

from ccdcr import (
    CRMaskSet,
    ObservingBlock,
    combine,
    detect_cosmic_rays,
    run_blocks,
)
from ccdcr.cli import main
from ccdcr.cli.input_options import _parameter
from ccdcr.exposures import load_ccds

FRAMES = ("e1.fits", "e2.fits", "e3.fits")
QUICK = ("--set", "crmethod=lacosmic", "--set", "la_verbose=false")
KNOWN = ("--gain", "1.5", "--readnoise", "3", *QUICK)
DETECT = "id: {id}\nframes: [e1.fits, e2.fits, e3.fits]\ngain: 1.5\nreadnoise: 3\n"
DETECT += "requirements: {{crmethod: lacosmic, la_verbose: false}}\n"


@pytest.fixture
def night(tmp_path, monkeypatch):
    """A folder with three exposures in a folder of nothing else; the current one."""
    folder = tmp_path / "night"
    folder.mkdir()
    rng = np.random.default_rng(4)
    for name in FRAMES:
        image = rng.poisson(100, (24, 26)) + rng.normal(0, 2, (24, 26))
        CCDData(image.astype("f4"), unit="adu").write(folder / name)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def made(night):
    """The same with a file of masks."""
    assert main(["detect", *FRAMES, *KNOWN, "-q"]) == 0
    return night


def contents(folder):
    """Return what all files hold, by name."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestPaths:
    """Results are nowhere but in the output folder."""

    @pytest.mark.parametrize(
        "name",
        [
            "../x",
            "/x",
            "..",
            "a/../../x",
            "a\\x",
            '"\\0"',
            '"a\\nb"',
            '""',
            "' '",
            "~",
            "~root",
            "é",
            "${HOME}",
            "$(touch x)",
            "-rf",
            "x" * 300,
            "2024-01-01",
            "1e400",
        ],
    )
    def test_id(self, night, name):
        """A block is refused or written inside, whatever its name."""
        out = night / "out"
        out.mkdir()
        (night / "b.yaml").write_text(DETECT.format(id=name), encoding="utf-8")
        before = contents(night.parent)
        (result,) = run_blocks([night / "b.yaml"], output_folder=out)
        after = contents(night.parent)
        assert result.status in {"done", "failed"}
        assert {path: after[path] for path in before} == before
        new = set(after) - set(before)
        assert bool(new) == (result.status == "done")
        assert all(path.parent.parent == out for path in new)

    def test_links(self, night):
        """A link in the place of a result is replaced and not followed."""
        (night / "b.yaml").write_text(DETECT.format(id="x"))
        folder, target = night / "obsidx_results", night / "precious.fits"
        folder.mkdir()
        target.write_text("precious")
        for name in ("crmasks.fits", "crmasks.log", "crmasks.json"):
            (folder / name).symlink_to(target)
        (result,) = run_blocks([night / "b.yaml"], overwrite=True)
        assert result.status == "done"
        assert target.read_text() == "precious"
        assert not (folder / "crmasks.fits").is_symlink()

    @pytest.mark.parametrize("name", ["../e1.fits", "{absolute}", "link.fits"])
    def test_outside_is_read(self, night, name):
        """Exposures may be anywhere."""
        (night / "e1.fits").rename(night.parent / "e1.fits")
        (night / "link.fits").symlink_to(night.parent / "e1.fits")
        name = name.format(absolute=night.parent / "e1.fits")
        text = DETECT.format(id="x").replace("[e1.fits", f"[{name}")
        (night / "b.yaml").write_text(text)
        (result,) = run_blocks([night / "b.yaml"])
        assert result.error is None
        assert result.files[0].parent == night / "obsidx_results"


class TestInputs:
    """What is read is never replaced, even with the leave to overwrite."""

    @pytest.mark.parametrize(
        "args",
        [
            ["detect", *FRAMES, *KNOWN, "-o", "e2.fits"],
            ["detect", *FRAMES, *KNOWN, "-o", "link.fits"],
            ["detect", *FRAMES, *KNOWN, "-o", "hard.fits"],
            ["combine", *FRAMES, "--crmasks", "crmasks.fits", "-o", "e1.fits"],
            ["combine", *FRAMES, "--crmasks", "crmasks.fits", "-o", "crmasks.fits"],
            ["combine", *FRAMES, "--method", "median", "-o", "../night/e3.fits"],
            ["template", *FRAMES, "-o", "e1.fits"],
            ["compare", "crmasks.fits", *FRAMES, "-o", "crmasks.fits"],
            ["compare", "crmasks.fits", *FRAMES, "-o", "e1.fits"],
            ["detect", "crmasks_requirements.yaml", *FRAMES, "-o", "crmasks.fits"],
        ],
    )
    def test_output(self, made, args, capsys):
        """The command is refused before any work."""
        (made / "link.fits").symlink_to("e1.fits")
        os.link("e1.fits", "hard.fits")
        if "crmasks_requirements.yaml" in args:
            Path("crmasks_requirements.yaml").write_text(DETECT.format(id="x"))
        before = contents(made)
        assert main([*args, "--overwrite"]) == 1
        assert contents(made) == before
        assert "is one of the files to be read; name another" in capsys.readouterr().err

    @pytest.mark.parametrize("output", ["e1.fits", "crmasks.fits"])
    @pytest.mark.parametrize("method", ["median", "meancr"])
    @pytest.mark.usefixtures("made")
    def test_combine(self, method, output):
        """Nor from Python."""
        before = Path(output).read_bytes()
        masks = {"crmasks": "crmasks.fits"} if method == "meancr" else {}
        frames = [*FRAMES, "crmasks.fits"] if not masks else FRAMES
        with pytest.raises(ValueError, match="is one of the files to be read"):
            combine(frames, output, method, **masks, overwrite_output=True)
        assert Path(output).read_bytes() == before

    def test_block(self, night):
        """Nor by a block that reads what it made before."""
        (night / "b.yaml").write_text(DETECT.format(id="x"))
        (result,) = run_blocks([night / "b.yaml"])
        text = "id: x\nframes: [obsidx_results/median.fits, e2.fits]\n"
        (night / "c.yaml").write_text(text + "requirements: {method: median}\n")
        (night / "e1.fits").rename(night / "obsidx_results" / "median.fits")
        before = contents(night)
        (result,) = run_blocks([night / "c.yaml"], overwrite=True)
        assert "is one of the files to be read" in result.error
        assert contents(night) == before

    @pytest.mark.parametrize("name", ["e1.fits", "crmasks.fits", "notes.txt"])
    def test_log_file(self, made, name, capsys):
        """Messages are appended to a file of messages only."""
        (made / "notes.txt").write_text("precious")
        before = contents(made)
        assert main(["info", "crmasks.fits", "--log-file", name]) == 1
        assert (
            "exists and is not a log file; name another file" in capsys.readouterr().err
        )
        assert contents(made) == before

    @pytest.mark.usefixtures("night")
    def test_log_file_again(self):
        """Which may grow."""
        args = ["detect", *FRAMES, *KNOWN, "--log-file", "a.log", "--overwrite"]
        args += ["--set", "la_verbose=true"]
        assert main(args) == 0
        size = Path("a.log").stat().st_size
        assert main(args) == 0
        assert Path("a.log").stat().st_size > size > 0


NAMES = ["é.fits", "a b.fits", "it's.fits", "a\nb.fits", "\udcff.fits", "🙂.fits"]
NAMES += [f"{'x' * 200}.fits", "[e].fits", "-o.fits", "a=b,c.fits"]


class TestNames:
    """Exposures of any name."""

    @pytest.mark.parametrize("name", NAMES, ids=ascii)
    def test_name(self, night, name):
        """Masks and images are made, and say which exposures they are of."""
        (night / "e1.fits").rename(night / name)
        frames = [str(night / name), *FRAMES[1:]]
        assert main(["detect", *frames, *KNOWN]) == 0
        masks = CRMaskSet.read("crmasks.fits")
        assert masks.meta["FILE1"].encode("ascii").decode("unicode_escape") == name
        assert main(["combine", *frames, "--crmasks", "crmasks.fits"]) == 0
        again = detect_cosmic_rays(
            frames, gain=1.5, readnoise=3, crmethod="lacosmic", la_verbose=False
        )
        assert again.meta["FILE1"] == masks.meta["FILE1"]

    def test_found_again(self, night):
        """A combination finds the masks of an earlier run by such names."""
        (night / "e1.fits").rename(night / "é.fits")
        text = DETECT.format(id="x").replace("e1.fits", "é.fits")
        (night / "a.yaml").write_text(text, encoding="utf-8")
        text = "id: y\nframes: [é.fits, e2.fits, e3.fits]\n"
        text += "requirements: {method: meancr, crmasks: crmasks.fits}\n"
        (night / "b.yaml").write_text(text, encoding="utf-8")
        for name in ("a.yaml", "b.yaml"):
            (result,) = run_blocks([night / name])
            assert result.error is None


STREAMS = """
import os, sys
for number in {closed}: os.close(number)
os.execv(sys.executable, [sys.executable, "-m", "ccdcr", *sys.argv[1:]])
"""


class TestStreams:
    """A terminal that is not there."""

    @pytest.mark.parametrize("closed", [[1], [0, 1, 2]])
    def test_closed(self, night, closed):
        """The work is done all the same."""
        args = ["detect", *FRAMES, *KNOWN]
        code = STREAMS.format(closed=closed)
        result = subprocess.run([sys.executable, "-c", code, *args], check=False)
        assert result.returncode == 0
        assert len(CRMaskSet.read(night / "crmasks.fits")) == 3

    def test_encoding(self, night):
        """Names are shown as far as it can."""
        args = ["detect", *FRAMES, *KNOWN, "-o", "🙂.fits"]
        result = subprocess.run(
            [sys.executable, "-m", "ccdcr", *args],
            env=os.environ | {"PYTHONIOENCODING": "ascii"},
            capture_output=True,
            check=False,
        )
        assert result.returncode == 0
        assert b"done, \\U0001f642.fits" in result.stdout
        assert (night / "🙂.fits").exists()


words = st.text(st.characters(codec="utf-8"), max_size=20)
values = words | st.sampled_from(
    [
        *("nan", "inf", "1e999", "-1", "0", "m", "1 m", "1 adu", "2 electron/adu"),
        *("1 m^^", "1 m/0", "1 m**1e400", "(", "9" * 400, "GAIN", "²", "0x10", "1_0"),
    ]
)


class TestOptions:
    """Any values of options."""

    @given(text=values)
    def test_parameter(self, text):
        """A number, a quantity, or what may be a keyword."""
        found = _parameter(text)
        assert isinstance(found, float) or hasattr(found, "unit") or found == text

    @pytest.mark.usefixtures("made")
    @given(
        command=st.sampled_from(["detect", "combine", "run", "info", "report"]),
        option=st.sampled_from(
            [
                *("--gain", "--readnoise", "--bias", "--extension", "--unit"),
                *("--datadir", "--set", "--jobs", "--method", "--crmasks"),
                *("--mask", "--maxplots"),
            ]
        ),
        value=values
        | words.map("dilation={}".format)
        | words.map("crmethod={}".format),
    )
    def test_any(self, command, option, value):
        """Done, refused in one line, or wrong usage; nothing else is written."""
        args = [command, "crmasks.fits", *FRAMES, option, value, "-q"]
        before = contents(Path())
        try:
            status = main([*args, "--dry-run"] if command != "info" else args)
        except SystemExit as err:
            status = err.code
        assert status in {0, 1, 2}
        assert contents(Path()) == before


class TestBlocks:
    """Blocks whose values are of the wrong kind."""

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("id", ["a"], "id must be a name"),
            ("mode", {"a": 1}, "mode must be a name"),
            ("instrument", [1], "instrument must be a name"),
            ("frames", "e1.fits", "frames must be a list of file names"),
            ("extnum", [1], "extnum must be the number or the name of an extension"),
            ("method", ["meancr"], "method must be the name of a method"),
            ("method_kwargs", ["a"], "method_kwargs must be a mapping"),
            ("crmasks", ["a.fits"], "crmasks must be a file name"),
        ],
    )
    def test_kinds(self, name, value, message):
        """They are refused by name."""
        with pytest.raises(TypeError, match=message):
            ObservingBlock(**{name: value})

    @pytest.mark.parametrize(
        "line",
        [
            "id: *a",
            "mode: *a",
            "extnum: *a",
            "gain: *a",
            "frames: *a",
            "requirements: {method: *a}",
            "requirements: {method: median, method_kwargs: {scale: *a}}",
            "requirements: {crmasks: *a, method: meancr}",
            "requirements: {dilation: *a}",
            "other: *a",
            "? *a\n: 1",
        ],
    )
    def test_bomb(self, night, line):
        """A short file that stands for 10**12 values is refused at once."""
        bomb = ["x0: &x0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
        bomb += [
            f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]" for i in range(1, 12)
        ]
        text = "\n".join([*bomb, line.replace("*a", "*x11")])
        if not line.startswith("frames"):
            text += f"\nframes: [{', '.join(FRAMES)}]\n"
        (night / "b.yaml").write_text(text)
        (result,) = run_blocks([night / "b.yaml"])
        assert "is not a valid YAML file" in result.error
        assert len(result.error) < 3000

    def test_itself(self, night):
        """So is a list that holds itself."""
        (night / "b.yaml").write_text("frames: &a [*a]\n")
        with pytest.raises(ValueError, match="aliases stand for more than 10000000"):
            ObservingBlock.from_yaml(night / "b.yaml")

    @pytest.mark.usefixtures("night")
    def test_option(self, capsys):
        """Nor on the command line."""
        with pytest.raises(SystemExit, match="2"):
            main(["detect", *FRAMES, "--set", "mm_xy_offsets=&a [*a]"])
        assert "is not a valid YAML value" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("NAXIS", "99999999999"),
        ("NAXIS", "-3"),
        ("NAXIS1", "99999999999"),
        ("NAXIS2", "-3"),
        ("NAXIS2", "x"),
        ("BITPIX", "99999999999"),
    ],
)
class TestExposures:
    """Exposures whose headers claim impossible sizes: no reader hangs."""

    @pytest.fixture
    def damaged(self, night, keyword, value):
        """Damage the first exposure."""
        content = bytearray((night / "e1.fits").read_bytes())
        start = content.index(f"{keyword:8}=".encode())
        content[start + 10 : start + 30] = value.rjust(20).encode()
        (night / "e1.fits").write_bytes(content)

    @pytest.mark.usefixtures("damaged")
    def test_refused(self):
        """They are refused by name, from Python and by the command."""
        with pytest.raises(ValueError, match=r"e1\.fits is damaged: "):
            detect_cosmic_rays(FRAMES, gain=1.5, readnoise=3)
        for method in ("median", "meancr"):
            masks = CRMaskSet(*np.zeros((2, 24, 26), bool), np.zeros((3, 24, 26), bool))
            crmasks = {"crmasks": masks} if method == "meancr" else {}
            with pytest.raises(ValueError, match=r"e1\.fits is damaged: "):
                combine(FRAMES, method=method, **crmasks)
        (result,) = run_blocks([ObservingBlock(id="x", frames=FRAMES, method="median")])
        assert "e1.fits is damaged: " in result.error


PACKERS = {"gz": gzip, "bz2": bz2, "xz": lzma}


@pytest.mark.parametrize("suffix", PACKERS)
class TestPacked:
    """Compressed exposures, of which astropy notices no damage, or fails."""

    @pytest.fixture
    def packed(self, night, suffix):
        """Compress the first exposure."""
        content = (night / "e1.fits").read_bytes()
        path = night / f"e1.fits.{suffix}"
        path.write_bytes(PACKERS[suffix].compress(content))
        return path

    def all_of(self, path):
        """Yield what reads exposures."""
        frames = [path, *FRAMES[1:]]
        yield lambda: load_ccds([path])
        yield lambda: detect_cosmic_rays(frames, gain=1.5, readnoise=3)
        yield lambda: combine(frames, method="median")
        masks = CRMaskSet.read("crmasks.fits")
        yield lambda: combine(frames, method="mediancr", crmasks=masks)

    @pytest.mark.usefixtures("made")
    def test_whole(self, packed):
        """They are read as they are."""
        if packed.suffix == ".xz" and not minversion("astropy", "7.1"):
            pytest.skip("astropy reads no .xz")
        for read in self.all_of(packed):
            read()

    @pytest.mark.usefixtures("made")
    @pytest.mark.parametrize("part", [0.3, 0.999])
    def test_cut(self, packed, part):
        """What is missing is noticed."""
        content = packed.read_bytes()
        packed.write_bytes(content[: int(part * len(content))])
        for read in self.all_of(packed):
            with pytest.raises(ValueError, match=rf"{packed.name} is damaged: "):
                read()

    @pytest.mark.usefixtures("made")
    def test_empty(self, packed):
        """So is that nothing is there."""
        packed.write_bytes(b"")
        for read in self.all_of(packed):
            with pytest.raises(ValueError, match="the file has no content"):
                read()

    @pytest.mark.usefixtures("made")
    @pytest.mark.parametrize("part", [0.2, 0.5, 0.8])
    def test_flipped(self, packed, part):
        """A changed byte is, too."""
        content = bytearray(packed.read_bytes())
        content[int(part * len(content))] ^= 255
        packed.write_bytes(content)
        for read in self.all_of(packed):
            with pytest.raises(ValueError, match=rf"{packed.name} is damaged: "):
                read()

    @pytest.mark.usefixtures("made")
    def test_huge(self, night, packed, suffix):
        """A size that is claimed is not allocated."""
        content = (night / "e1.fits").read_bytes()
        start = content.index(b"NAXIS1  =")
        card = b"NAXIS1  =       99999999999999".ljust(80)
        content = content[:start] + card + content[start + 80 :]
        packed.write_bytes(PACKERS[suffix].compress(content))
        for read in self.all_of(packed):
            with pytest.raises(ValueError, match="a header claims data up to byte"):
                read()


def test_info_after_all(made, capsys):
    """The masks of the fixture are as they were made."""
    assert main(["info", "crmasks.fits"]) == 0
    assert "exposure 3: e3.fits" in capsys.readouterr().out
    assert fits.getval(made / "crmasks.fits", "FILE3") == "e3.fits"
