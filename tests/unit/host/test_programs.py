"""The host's programs: which are missing, and what becomes of those that fail or hang."""

from __future__ import annotations

from pathlib import Path

import pytest

from polly_mesos.errors import HostError
from polly_mesos.executor.host import missing_tools, programs
from polly_mesos.model import Filesystem


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that alone is searched for programs."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "_ADMIN_PATH", ())
    return tmp_path


def put(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_what_is_missing_is_named_with_its_package(only: Path) -> None:
    put(only, "blkid", "true")
    assert missing_tools([Filesystem.XFS]) == {
        "mkfs.xfs": "xfsprogs",
        "wipefs": "util-linux",
        "xfs_growfs": "xfsprogs",
    }
    assert missing_tools([Filesystem.EXT4])["mkfs.ext4"] == "e2fsprogs"


def test_a_directory_needs_no_programs(only: Path) -> None:
    assert missing_tools([Filesystem.NONE]) == {}


def test_a_program_that_fails_is_quoted(only: Path) -> None:
    put(only, "resize2fs", "echo 'the device is on fire' >&2; exit 3")
    with pytest.raises(HostError, match=r"resize2fs failed with exit status 3: the device is on fire"):
        programs.run("resize2fs", timeout=10)


def test_a_program_that_hangs_is_ended(only: Path) -> None:
    put(only, "resize2fs", "exec /bin/sleep 600")
    with pytest.raises(HostError, match="did not end within 0 seconds"):
        programs.run("resize2fs", timeout=0.05)


def test_programs_ask_nothing_and_speak_english(only: Path) -> None:
    put(only, "resize2fs", 'read answer; echo "$? $LC_ALL"')
    assert programs.run("resize2fs", timeout=10) == "1 C\n"
