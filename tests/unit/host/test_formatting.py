"""Safe format, on files that stand for devices: any user, the real programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from polly_mesos.errors import HostError, UnsafeFormat, WrongState
from polly_mesos.executor.host import formatting, programs, superblocks
from polly_mesos.model import Filesystem, FormatState
from tests.unit.host import devices

VOLUME = "3f0b7c52-1c1e-4a38-9a4c-2f5a3f1f6f10"
SIZES = {Filesystem.EXT4: 32 * devices.MB, Filesystem.XFS: 300 * devices.MB}
FILESYSTEMS = tuple(SIZES)


class Ledger:
    """Writes down what it is told, and what the device held at that time."""

    def __init__(self, device: Path) -> None:
        self.device = device
        self.told: list[str] = []

    def begin(self) -> None:
        self.told.append("begin, blank" if self.device.stat().st_blocks == 0 else "begin, not blank")

    def done(self) -> None:
        superblock = superblocks.read(str(self.device))
        self.told.append(f"done, {superblock.filesystem} {superblock.uuid}" if superblock else "done, nothing")


def prepare(device: Path, state: FormatState, filesystem: Filesystem = Filesystem.EXT4) -> list[str]:
    """What the ledger was told."""
    ledger = Ledger(device)
    formatting.prepare(str(device), filesystem, VOLUME, state, ledger.begin, ledger.done)
    return ledger.told


def is_whole(device: Path, filesystem: Filesystem = Filesystem.EXT4) -> bool:
    """By the file system's own checker."""
    check = {
        Filesystem.EXT4: ["/sbin/e2fsck", "-n", "-f", str(device)],
        Filesystem.XFS: ["/sbin/xfs_repair", "-n", str(device)],
    }[filesystem]
    return subprocess.run(check, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_a_blank_device_is_formatted_after_the_ledger_knows(tmp_path: Path, filesystem: Filesystem) -> None:
    device = devices.blank(tmp_path / "device", SIZES[filesystem])
    assert prepare(device, FormatState.NEVER, filesystem) == ["begin, blank", f"done, {filesystem} {VOLUME}"]
    assert is_whole(device, filesystem)


@pytest.mark.parametrize("kind", devices.KINDS)
@pytest.mark.parametrize("state", [FormatState.NEVER, FormatState.FORMATTED])
def test_a_device_with_anything_on_it_is_refused_and_not_touched(tmp_path: Path, kind: str, state: FormatState) -> None:
    put, words = devices.KINDS[kind]
    device = devices.blank(tmp_path / "device")
    put(device)
    before = devices.digest(device)
    ledger = Ledger(device)
    with pytest.raises(UnsafeFormat) as refused:
        formatting.prepare(str(device), Filesystem.EXT4, VOLUME, state, ledger.begin, ledger.done)
    assert words in refused.value.found
    assert words in str(refused.value)
    assert str(device) in str(refused.value)
    assert ledger.told == []
    assert devices.digest(device) == before


@pytest.mark.parametrize("kind", [kind for kind in devices.KINDS if not kind.startswith("garbage")])
def test_what_is_foreign_is_refused_also_where_a_format_was_begun(tmp_path: Path, kind: str) -> None:
    put, words = devices.KINDS[kind]
    device = devices.blank(tmp_path / "device")
    put(device)
    before = devices.digest(device)
    with pytest.raises(UnsafeFormat) as refused:
        prepare(device, FormatState.FORMATTING)
    assert words in refused.value.found
    assert devices.digest(device) == before


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_the_volumes_own_file_system_is_kept_where_a_restored_ledger_says_never(
    tmp_path: Path, filesystem: Filesystem
) -> None:
    device = devices.blank(tmp_path / "device", SIZES[filesystem])
    prepare(device, FormatState.NEVER, filesystem)
    before = devices.digest(device)
    assert prepare(device, FormatState.NEVER, filesystem) == [f"done, {filesystem} {VOLUME}"]
    assert devices.digest(device) == before


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_a_formatted_device_is_verified_and_left_alone(tmp_path: Path, filesystem: Filesystem) -> None:
    device = devices.blank(tmp_path / "device", SIZES[filesystem])
    prepare(device, FormatState.NEVER, filesystem)
    before = devices.digest(device)
    assert prepare(device, FormatState.FORMATTED, filesystem) == []
    assert devices.digest(device) == before


def test_a_formatted_device_that_is_blank_now_is_the_wrong_one(tmp_path: Path) -> None:
    device = devices.blank(tmp_path / "device")
    with pytest.raises(UnsafeFormat) as refused:
        prepare(device, FormatState.FORMATTED)
    assert refused.value.found == "nothing"
    assert device.stat().st_blocks == 0


def test_a_device_with_the_other_file_system_is_refused(tmp_path: Path) -> None:
    device = devices.blank(tmp_path / "device")
    prepare(device, FormatState.NEVER, Filesystem.EXT4)
    with pytest.raises(UnsafeFormat, match="volume's xfs"):
        prepare(device, FormatState.FORMATTED, Filesystem.XFS)


def test_nothing_is_formatted_where_the_ledger_refuses_the_intent(tmp_path: Path) -> None:
    device = devices.blank(tmp_path / "device")

    def refuse() -> None:
        raise WrongState("the volume is being deleted")

    with pytest.raises(WrongState):
        formatting.prepare(str(device), Filesystem.EXT4, VOLUME, FormatState.NEVER, refuse, refuse)
    assert device.stat().st_blocks == 0


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_a_finished_format_whose_end_was_not_written_down_is_not_repeated(
    tmp_path: Path, filesystem: Filesystem
) -> None:
    device = devices.blank(tmp_path / "device", SIZES[filesystem])
    prepare(device, FormatState.NEVER, filesystem)
    before = devices.digest(device)
    assert prepare(device, FormatState.FORMATTING, filesystem) == [f"done, {filesystem} {VOLUME}"]
    assert devices.digest(device) == before


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_a_format_that_was_begun_and_never_started_is_done(tmp_path: Path, filesystem: Filesystem) -> None:
    device = devices.blank(tmp_path / "device", SIZES[filesystem])
    assert prepare(device, FormatState.FORMATTING, filesystem) == [f"done, {filesystem} {VOLUME}"]
    assert is_whole(device, filesystem)


def tear_off_superblock(device: Path) -> None:
    """As mkfs.ext4 leaves it before its last write."""
    devices.write(device, 1024, bytes(1024))


def tear_group_descriptors(device: Path) -> None:
    devices.write(device, 4096, bytes(4096))
    devices.write(device, 2048, bytes(2048))


def tear_all_but_garbage(device: Path) -> None:
    devices.write(device, 0, bytes(devices.MB))
    devices.garbage(device)


@pytest.mark.parametrize("tear", [tear_off_superblock, tear_group_descriptors, tear_all_but_garbage])
def test_what_an_interrupted_ext4_format_left_is_cleared_and_formatted(tmp_path: Path, tear: object) -> None:
    device = devices.blank(tmp_path / "device")
    prepare(device, FormatState.NEVER)
    assert callable(tear)
    tear(device)
    assert not is_whole(device)
    assert prepare(device, FormatState.FORMATTING) == [f"done, ext4 {VOLUME}"]
    assert is_whole(device)


def test_what_an_interrupted_xfs_format_left_is_cleared_and_formatted(tmp_path: Path) -> None:
    device = devices.blank(tmp_path / "device", SIZES[Filesystem.XFS])
    prepare(device, FormatState.NEVER, Filesystem.XFS)
    devices.write(device, 126, b"\1")
    devices.write(device, 4096, bytes(65536))
    assert prepare(device, FormatState.FORMATTING, Filesystem.XFS) == [f"done, xfs {VOLUME}"]
    assert is_whole(device, Filesystem.XFS)


def test_a_damaged_file_system_that_was_mounted_is_never_taken_for_a_leftover(tmp_path: Path) -> None:
    device = devices.blank(tmp_path / "device")
    prepare(device, FormatState.NEVER)
    tear_group_descriptors(device)
    devices.write(device, 1024 + 52, b"\1")
    before = devices.digest(device)
    assert prepare(device, FormatState.FORMATTING) == [f"done, ext4 {VOLUME}"]
    assert devices.digest(device) == before


CHILD = """
import sys
from polly_mesos.executor.host import formatting
from polly_mesos.model import Filesystem, FormatState
device, filesystem, volume = sys.argv[1:]
begin = lambda: print("begun", flush=True)
formatting.prepare(device, Filesystem(filesystem), volume, FormatState.NEVER, begin, lambda: None)
"""


def start_child(device: Path, filesystem: Filesystem) -> subprocess.Popen[str]:
    """A process of its own that formats, once it has said that it begins."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(device), filesystem.value, VOLUME],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "begun\n"
    return child


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
@pytest.mark.parametrize("milliseconds", [0, 1, 2, 4, 8])
def test_a_format_killed_at_any_moment_is_finished_by_the_next(
    tmp_path: Path, filesystem: Filesystem, milliseconds: int
) -> None:
    device = devices.blank(tmp_path / "device", SIZES[filesystem])
    child = start_child(device, filesystem)
    time.sleep(milliseconds / 1000)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    assert prepare(device, FormatState.FORMATTING, filesystem) == [f"done, {filesystem} {VOLUME}"]
    assert is_whole(device, filesystem)


def until(condition: object) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + 20
    assert callable(condition)
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


def test_an_mkfs_that_outlived_its_executor_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = devices.blank(tmp_path / "device")
    started, go = tmp_path / "started", tmp_path / "go"
    shim = tmp_path / "bin" / "mkfs.ext4"
    shim.parent.mkdir()
    shim.write_text(
        f'#!/bin/sh\necho x >> {started}\nwhile [ ! -e {go} ]; do sleep 0.01; done\nexec /sbin/mkfs.ext4 "$@"\n'
    )
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    child = start_child(device, Filesystem.EXT4)
    until(started.exists)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    told: list[str] = []
    second = threading.Thread(target=lambda: told.extend(prepare(device, FormatState.FORMATTING)))
    second.start()
    second.join(0.2)
    assert second.is_alive()
    go.touch()
    second.join(20)
    assert told == [f"done, ext4 {VOLUME}"]
    assert started.read_text() == "x\n"
    assert is_whole(device)


def test_a_device_that_somebody_holds_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formatting, "_LOCK_TIMEOUT", 0.05)
    device = devices.blank(tmp_path / "device")
    with formatting._locked(str(device)), pytest.raises(HostError, match="locked by another program"):
        prepare(device, FormatState.NEVER)


def test_an_mkfs_that_fails_is_quoted_and_not_called_done(tmp_path: Path) -> None:
    device = devices.blank(tmp_path / "device", 64 * devices.MB)
    ledger = Ledger(device)
    with pytest.raises(HostError, match=r"mkfs.xfs failed.*300MB"):
        formatting.prepare(str(device), Filesystem.XFS, VOLUME, FormatState.NEVER, ledger.begin, ledger.done)
    assert ledger.told == ["begin, blank"]


def test_a_device_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"gone cannot be opened"):
        prepare(tmp_path / "gone", FormatState.NEVER)


def test_the_programs_that_are_needed_are_here() -> None:
    assert programs.missing_tools(FILESYSTEMS) == {}
