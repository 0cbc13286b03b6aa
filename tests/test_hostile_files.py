# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of files that are damaged on purpose, and of writers that are killed."""

import errno
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ccdcr import CRMaskSet, CRMasksFileError, Requirements

WRITER = """
import sys
import numpy as np
from ccdcr import CRMaskSet
planes = np.full((3, 60, 70), int(sys.argv[2]), dtype=np.uint8)
masks = CRMaskSet(planes[0], planes[0], planes)
print("ready", flush=True)
while True:
    masks.write(sys.argv[1], overwrite=True)
"""


@pytest.fixture
def masks():
    """A small set."""
    planes = np.random.default_rng(5).random((3, 6, 7)) > 0.5
    return CRMaskSet(planes.sum(axis=0) > 1, planes.any(axis=0), planes)


@pytest.fixture
def path(masks, tmp_path):
    """Its file."""
    path = tmp_path / "crmasks.fits"
    masks.write(path)
    return path


def _without_sums(content):
    return content.replace(b"CHECKSUM=", b"XHECKSUM=").replace(
        b"DATASUM =", b"XATASUM ="
    )


def _set_card(content, keyword, text):
    start = content.index(f"{keyword:8}=".encode())
    return content[: start + 10] + f"{text:>20}".encode() + content[start + 30 :]


class TestSizes:
    """Sizes in headers that cannot be true, with and without checksums."""

    @pytest.mark.parametrize(
        ("keyword", "text", "message"),
        [
            ("NAXIS", "99999999999", "NAXIS must be a possible number, got 9999"),
            ("NAXIS", "-1", "NAXIS must be a possible number, got -1"),
            ("NAXIS", "1000", "NAXIS must be a possible number, got 1000"),
            ("NAXIS1", "99999999999", "a header claims data up to byte [0-9]+ of"),
            ("NAXIS1", "-7", "NAXIS1 must be a possible number, got -7"),
            ("NAXIS2", "x", "NAXIS2 must be an integer, got 'x'"),
            ("PCOUNT", "-2880", "PCOUNT must be a possible number, got -2880"),
            ("GCOUNT", "99999999999", "a header claims data up to byte"),
            ("BITPIX", "2.5", "BITPIX must be an integer, got '2.5'"),
        ],
    )
    @pytest.mark.parametrize("sums", [True, False])
    def test_impossible(self, path, keyword, text, message, sums):
        """They are refused by name, at once."""
        content = _set_card(path.read_bytes(), keyword, text)
        path.write_bytes(content if sums else _without_sums(content))
        with pytest.raises(CRMasksFileError, match=f"{path} .*{message}"):
            CRMaskSet.read(path)

    @pytest.mark.parametrize(
        "card",
        ["naxis   = 99999999999", "NAXIS= 99999999999", "HIERARCH NAXIS = 99999999999"],
    )
    def test_spelling(self, path, card):
        """However the card is written that a reader understands."""
        content = _without_sums(path.read_bytes())
        start = content.index(b"NAXIS   =", 2880)
        content = content[:start] + f"{card:80}".encode() + content[start + 80 :]
        path.write_bytes(content)
        with pytest.raises(CRMasksFileError, match="NAXIS must be a possible number"):
            CRMaskSet.read(path)

    def test_end(self, path):
        """Nor may a card look as if the header ended before its sizes."""
        content = _set_card(_without_sums(path.read_bytes()), "NAXIS", "99999999999")
        path.write_bytes(content.replace(b"BITPIX  =", b"END     =", 1))
        with pytest.raises(
            CRMasksFileError, match="the card END must hold nothing, go"
        ):
            CRMaskSet.read(path)

    def test_twice(self, path):
        """Readers may differ in which of two sizes they believe."""
        content = path.read_bytes()
        content = content.replace(b"PCOUNT  =", b"NAXIS1  =", 1)
        path.write_bytes(_without_sums(content))
        with pytest.raises(CRMasksFileError, match="NAXIS1 is given twice"):
            CRMaskSet.read(path)


class TestFuzz:
    """Any bytes: the set, or the documented error."""

    @given(data=st.data())
    def test_changed_bytes(self, path, masks, data):
        """Up to five bytes; with checksums the set is read as it was or not."""
        content = bytearray(path.read_bytes())
        places = st.integers(0, len(content) - 1)
        changed = path.with_name("changed.fits")
        for place in data.draw(st.lists(places, min_size=1, max_size=5)):
            content[place] = data.draw(st.integers(0, 255))
        changed.write_bytes(content)
        try:
            found = CRMaskSet.read(changed)
        except CRMasksFileError:
            return
        assert found == masks

    @pytest.mark.filterwarnings("ignore::ccdcr.MissingUUIDWarning")
    @given(data=st.data())
    def test_without_checksums(self, path, data):
        """Nothing protects the file: no other error all the same."""
        content = bytearray(_without_sums(path.read_bytes()))
        places = st.integers(0, len(content) - 1)
        changed = path.with_name("changed.fits")
        for place in data.draw(st.lists(places, min_size=1, max_size=5)):
            content[place] = data.draw(st.integers(32, 126))
        changed.write_bytes(content)
        try:
            found = CRMaskSet.read(changed)
        except CRMasksFileError:
            return
        assert found.shape

    @given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
    def test_yaml(self, tmp_path, content):
        """Requirements, or a TypeError or ValueError."""
        path = tmp_path / "any.yaml"
        path.write_bytes(content)
        try:
            found = Requirements.from_yaml(path)
        except (TypeError, ValueError):
            return
        assert isinstance(found, Requirements)


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=9)
    | st.sampled_from(["auto", "lacosmic", "exact", "none", "median"])
    | st.dates()
    | st.binary(max_size=5)
)
anything = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner)
    ),
    max_leaves=12,
)


class TestYAML:
    """YAML that is made to do harm."""

    @pytest.mark.parametrize("name", Requirements().to_dict())
    @settings(max_examples=settings().max_examples // 2)
    @given(value=anything)
    def test_any_value(self, tmp_path, name, value):
        """It is kept as it is, or refused by the name of the requirement."""
        path = tmp_path / "any.yaml"
        text = yaml.safe_dump({"requirements": {name: value}}, allow_unicode=True)
        path.write_text(text, encoding="utf-8")
        try:
            found = Requirements.from_yaml(path)
        except (TypeError, ValueError) as err:
            assert re.search(rf"\b{name}\b|not a valid YAML file", str(err))  # noqa: PT017
            return
        found.to_yaml(path, overwrite=True)
        assert Requirements.from_yaml(path) == found
        value = getattr(found, name)
        kinds = (type(None), bool, int, float, str, tuple)
        assert isinstance(value, kinds)

    @pytest.mark.parametrize(
        "text",
        [
            "!!python/object/apply:os.system ['touch PATH']",
            "requirements: !!python/name:os.system",
            "? [a, b]\n: 1",
            "a: 1\na: 2",
            "requirements: {dilation: 1, dilation: 2}",
            "requirements: [1, 2]",
            "requirements: {dilation: 1e999}",
            "requirements: {dilation: true}",
            "requirements: {дилатация: 1}",
            "- 1",
            "\x00",
            "{" * 2000,
        ],
    )
    def test_refused(self, tmp_path, text):
        """Nothing is evaluated."""
        path, trap = tmp_path / "a.yaml", tmp_path / "trap"
        path.write_text(text.replace("PATH", str(trap)), encoding="utf-8")
        with pytest.raises((TypeError, ValueError)):
            Requirements.from_yaml(path)
        assert not trap.exists()

    def test_alias_bomb(self, tmp_path):
        """Ten levels of ten: the message is short."""
        lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
        lines += [
            f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)
        ]
        path = tmp_path / "bomb.yaml"
        path.write_text("\n".join([*lines, "requirements: {mm_xy_offsets: *a9}"]))
        with pytest.raises(ValueError, match="aliases stand for more") as error:
            Requirements.from_yaml(path)
        assert len(str(error.value)) < 3000


class TestWriting:
    """The old file is whole whatever happens to the writer."""

    def test_disk_full(self, path, masks, monkeypatch):
        """No space is left when the file is written to the disk."""
        before = path.read_bytes()

        def full(_descriptor):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            masks.write(path, overwrite=True)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]

    def test_killed(self, tmp_path):
        """Kills at different moments, two writers of the same file."""
        path = tmp_path / "crmasks.fits"
        for number in range(2):
            writers = [
                subprocess.Popen(
                    [sys.executable, "-c", WRITER, path, str(value)],
                    stdout=subprocess.PIPE,
                )
                for value in ((0, 1) if number == 0 else (number % 2,))
            ]
            for writer in writers:
                assert writer.stdout.readline() == b"ready\n"
            time.sleep(0.05 + 0.013 * number)
            for writer in writers:
                writer.send_signal(signal.SIGKILL)
                writer.wait()
                writer.stdout.close()
            if path.exists():
                found = CRMaskSet.read(path).crmasks
                assert found.all() or not found.any()
