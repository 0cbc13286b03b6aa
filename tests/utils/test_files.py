# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of writing files whole or not at all."""

import os
import re
from pathlib import Path

import pytest

from ccdcr.utils import files
from ccdcr.utils.files import atomic_path, check_output


class StopError(Exception):
    """Something that goes wrong in the middle of writing."""


def contents(folder):
    """Return names and texts of all files of a folder."""
    return {path.name: path.read_text() for path in folder.iterdir()}


class TestCheckOutput:
    """Paths are refused before any work."""

    @pytest.mark.parametrize("kind", [str, Path])
    @pytest.mark.parametrize("overwrite", [False, True])
    def test_new(self, tmp_path, kind, overwrite):
        """A new file is possible."""
        path = tmp_path / "new.fits"
        checked = check_output(kind(path), overwrite=overwrite, remedy="")
        assert checked == path
        assert isinstance(checked, Path)
        assert contents(tmp_path) == {}

    def test_home(self, tmp_path, monkeypatch):
        """A tilde is the home folder."""
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        checked = check_output("~/new.fits", overwrite=False, remedy="")
        assert checked == tmp_path / "new.fits"

    def test_no_folder(self, tmp_path):
        """The folder must exist."""
        path = tmp_path / "absent" / "new.fits"
        message = re.escape(f"the folder of the output file {path} does not exist")
        with pytest.raises(FileNotFoundError, match=message):
            check_output(path, overwrite=True, remedy="")

    def test_parent_is_file(self, tmp_path):
        """A file is no folder."""
        (tmp_path / "file").write_text("x")
        with pytest.raises(FileNotFoundError, match="the folder of the output file"):
            check_output(tmp_path / "file" / "new.fits", overwrite=True, remedy="")

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_is_folder(self, tmp_path, overwrite):
        """A folder is never replaced."""
        message = re.escape(f"the output file {tmp_path} is a folder")
        with pytest.raises(IsADirectoryError, match=message):
            check_output(tmp_path, overwrite=overwrite, remedy="")

    def test_exists(self, tmp_path):
        """An existing file is replaced on request only; the message says how."""
        path = tmp_path / "old.fits"
        path.write_text("old")
        message = re.escape(f"the output file {path} exists; say please to replace it")
        with pytest.raises(FileExistsError, match=message):
            check_output(path, overwrite=False, remedy="say please")
        assert check_output(path, overwrite=True, remedy="say please") == path
        assert contents(tmp_path) == {"old.fits": "old"}


class TestAtomicPath:
    """The temporary path."""

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_new(self, tmp_path, overwrite):
        """The file has its name only when it is complete."""
        path = tmp_path / "new.fits"
        with atomic_path(path, overwrite=overwrite) as temporary:
            temporary.write_text("new")
            assert not path.exists()
        assert contents(tmp_path) == {"new.fits": "new"}

    @pytest.mark.parametrize("name", ["a.fits", "a.fits.gz", "a.yaml"])
    def test_name(self, tmp_path, name):
        """The temporary file is in the same folder, hidden, of the same kind."""
        with atomic_path(tmp_path / name, overwrite=False) as temporary:
            assert temporary.parent == tmp_path
            assert temporary.name.startswith(".")
            assert temporary.name.endswith(name)
            temporary.write_text("")

    def test_names_differ(self, tmp_path):
        """Two processes do not write to the same temporary file."""
        path = tmp_path / "new.fits"
        with (
            atomic_path(path, overwrite=True) as first,
            atomic_path(path, overwrite=True) as second,
        ):
            assert first != second
            first.write_text("1")
            second.write_text("2")

    def test_replace(self, tmp_path):
        """The old file stays whole until the new one is."""
        path = tmp_path / "old.fits"
        path.write_text("old")
        with atomic_path(path, overwrite=True) as temporary:
            temporary.write_text("new")
            assert path.read_text() == "old"
        assert contents(tmp_path) == {"old.fits": "new"}

    def test_refused(self, tmp_path):
        """The block does not run when the file exists."""
        path = tmp_path / "old.fits"
        path.write_text("old")
        ran = []
        with (
            pytest.raises(FileExistsError, match="exists; use overwrite=True to repl"),
            atomic_path(path, overwrite=False),
        ):
            ran.append(True)
        assert not ran
        assert contents(tmp_path) == {"old.fits": "old"}

    @pytest.mark.parametrize("old", [None, "old"])
    @pytest.mark.parametrize("started", [False, True])
    @pytest.mark.parametrize("error", [StopError, KeyboardInterrupt, OSError])
    def test_failure_in_block(self, tmp_path, old, started, error):
        """The old file is whole and nothing else is left."""
        path = tmp_path / "out.fits"
        if old:
            path.write_text(old)
        before = contents(tmp_path)
        failure = error("disk full")

        def write():
            with atomic_path(path, overwrite=True) as temporary:
                if started:
                    temporary.write_text("half of the n")
                raise failure

        with pytest.raises(error, match="disk full"):
            write()
        assert contents(tmp_path) == before

    @pytest.mark.parametrize("call", ["fsync", "open"])
    @pytest.mark.parametrize("overwrite", [False, True])
    def test_failure_to_sync(self, tmp_path, monkeypatch, call, overwrite):
        """A disk that is found to be full at the end changes nothing."""
        path = tmp_path / "out.fits"
        if overwrite:
            path.write_text("old")
        before = contents(tmp_path)

        def fail(*_):
            raise OSError(28, "No space left on device")

        def write():
            with atomic_path(path, overwrite=overwrite) as temporary:
                temporary.write_text("new")
                monkeypatch.setattr(files.os, call, fail)

        with pytest.raises(OSError, match="No space left"):
            write()
        monkeypatch.undo()
        assert contents(tmp_path) == before

    def test_synced_before_renamed(self, tmp_path, monkeypatch):
        """The content is on the disk before the name is."""
        path = tmp_path / "out.fits"
        calls = []
        real = os.fsync

        def fsync(descriptor):
            calls.append(path.exists())
            real(descriptor)

        monkeypatch.setattr(files.os, "fsync", fsync)
        with atomic_path(path, overwrite=False) as temporary:
            temporary.write_text("new")
        assert calls == [False]

    def test_failure_to_rename(self, tmp_path, monkeypatch):
        """The temporary file is removed when it cannot be renamed."""
        path = tmp_path / "out.fits"
        path.write_text("old")

        def fail(*_):
            raise PermissionError(13, "Permission denied")

        def write():
            with atomic_path(path, overwrite=True) as temporary:
                temporary.write_text("new")
                monkeypatch.setattr(Path, "replace", fail)

        with pytest.raises(PermissionError, match="Permission denied"):
            write()
        monkeypatch.undo()
        assert contents(tmp_path) == {"out.fits": "old"}

    @pytest.mark.parametrize("links", [True, False])
    def test_other_process_was_faster(self, tmp_path, monkeypatch, links):
        """A file that appears meanwhile is not replaced."""
        path = tmp_path / "out.fits"

        def no_links(*_):
            raise OSError(95, "Operation not supported")

        def write():
            with atomic_path(path, overwrite=False) as temporary:
                temporary.write_text("mine")
                path.write_text("theirs")
                if not links:
                    monkeypatch.setattr(files.os, "link", no_links)

        with pytest.raises(FileExistsError, match="exists; use overwrite=True"):
            write()
        assert contents(tmp_path) == {"out.fits": "theirs"}

    def test_no_hard_links(self, tmp_path, monkeypatch):
        """File systems without hard links work too."""

        def no_links(*_):
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(files.os, "link", no_links)
        with atomic_path(tmp_path / "out.fits", overwrite=False) as temporary:
            temporary.write_text("new")
        assert contents(tmp_path) == {"out.fits": "new"}

    def test_remedy(self, tmp_path):
        """The caller says how a file is replaced."""
        (tmp_path / "out.fits").write_text("old")
        with (
            pytest.raises(FileExistsError, match="exists; use --overwrite to replace"),
            atomic_path(
                tmp_path / "out.fits", overwrite=False, remedy="use --overwrite"
            ),
        ):
            pass
