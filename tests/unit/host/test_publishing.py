"""Volumes on real loop devices are formatted, mounted, found again and unmounted."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.base import CreateRequest, Tags
from drivers.loop.controller import LoopController
from drivers.loop.host import LoopHost
from drivers.loop.settings import LoopSettings
from polly_mesos.errors import HostError, MountFailed, UnsafeFormat
from polly_mesos.executor import host
from polly_mesos.executor.host import mounts
from polly_mesos.model import MB, Filesystem, FormatState, HostIdentity, Json
from tests.leftovers import assert_nothing_left, require_root

pytestmark = pytest.mark.root

SIZES = {Filesystem.EXT4: 32 * MB, Filesystem.XFS: 300 * MB}


class Machine:
    """One host with the loop driver and a volume root; what it has mounted or bound is undone at the end."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "volume root"
        self.platform = directory / "platform"
        self.controller = LoopController(LoopSettings(str(self.platform)), "test")
        self.identity = HostIdentity("192.0.2.1:5051")
        self.attachments: dict[str, Json] = {}
        self.devices: dict[str, str] = {}
        self.formatted: dict[str, FormatState] = {}
        self.filesystems: dict[str, Filesystem] = {}

    def volume(self, filesystem: Filesystem = Filesystem.EXT4) -> str:
        """A new volume, attached and located."""
        volume = str(uuid.uuid4())
        tags = Tags("test", volume, "gold")
        self.controller.create(CreateRequest(volume, SIZES[filesystem], tags, filesystem=filesystem))
        self.attachments[volume] = self.controller.attach(volume, self.identity)
        self.devices[volume] = self.host().locate(self.attachments[volume], 5.0)
        self.formatted[volume] = FormatState.NEVER
        self.filesystems[volume] = filesystem
        return volume

    def host(self) -> LoopHost:
        return LoopHost({"directory": str(self.platform)}, self.identity.host)

    def target(self, name: str = "marathon#db#1") -> str:
        return str(self.root / "gold" / "volumes" / "roles" / "a b" / name)

    def publish(self, volume: str, target: str | None = None, *options: str) -> str:
        """Publish as the executor does."""
        target = target or self.target()
        host.publish(
            target,
            volume,
            self.devices[volume],
            self.filesystems[volume],
            options,
            format_state=self.formatted[volume],
            begin=lambda: self.formatted.update({volume: FormatState.FORMATTING}),
            done=lambda: self.formatted.update({volume: FormatState.FORMATTED}),
        )
        return target

    def undo(self) -> None:
        for mount in reversed(mounts.mounts()):
            if mount.mount_point.startswith(str(self.root)):
                mounts.unmount(mount.mount_point)
        for volume, attachment in self.attachments.items():
            self.host().release(attachment)
            self.controller.detach(volume, self.identity)
            self.controller.delete(volume)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    require_root()
    machine = Machine(tmp_path)
    try:
        yield machine
    finally:
        machine.undo()
        assert_nothing_left(tmp_path)


@pytest.mark.parametrize("filesystem", SIZES)
def test_a_new_volume_is_formatted_and_mounted_and_keeps_its_data(machine: Machine, filesystem: Filesystem) -> None:
    volume = machine.volume(filesystem)
    target = machine.publish(volume)
    Path(target, "file").write_text("kept")
    assert machine.formatted[volume] is FormatState.FORMATTED
    mount = mounts.mount_at(target)
    assert mount is not None
    assert (mount.source, mount.filesystem) == (machine.devices[volume], filesystem.value)
    host.unpublish(target)
    assert not os.path.exists(target)
    machine.publish(volume)
    assert Path(target, "file").read_text() == "kept"


def test_publishing_a_mounted_volume_again_is_quick_and_mounts_nothing(machine: Machine) -> None:
    volume = machine.volume()
    target = machine.publish(volume)
    before = mounts.mounts()
    begun = time.perf_counter()
    for _ in range(20):
        machine.publish(volume)
    assert time.perf_counter() - begun < 20 * 0.5
    assert mounts.mounts() == before
    assert target == machine.target()


def test_what_is_mounted_is_found_without_any_memory(machine: Machine) -> None:
    first, second = machine.volume(), machine.volume(Filesystem.XFS)
    disk = str(machine.root / "gold" / second / "target")
    elsewhere = machine.volume()
    machine.publish(first)
    machine.publish(second, disk)
    machine.publish(elsewhere, str(machine.root / "not a place of ours"))
    assert host.mounted(str(machine.root)) == {first: machine.target(), second: disk}


def test_no_blank_of_a_nested_role_is_in_the_kernels_table_where_mesos_would_stumble_over_it(machine: Machine) -> None:
    """Mesos cannot start a container with shared mounts while there is one (found by the fault campaign)."""
    volume = machine.volume()
    target = machine.publish(volume)
    assert "/roles/a b/" in target
    mount = mounts.mount_at(target)
    assert mount is not None
    assert " " not in mount.mount_point.removeprefix(str(machine.root))
    assert host.mounted(str(machine.root)) == {volume: target}
    Path(target, "file").touch()
    host.unpublish(target)
    assert host.mounted(str(machine.root)) == {}


def test_a_nested_role_in_which_an_earlier_version_has_volumes_mounted_keeps_its_directory(machine: Machine) -> None:
    earlier = Path(machine.target("earlier"))
    earlier.mkdir(parents=True)
    volume = machine.volume()
    target = machine.publish(volume)
    assert host.mounted(str(machine.root)) == {volume: target}
    assert earlier.is_dir()


def stop_writing(target: str, aside: Path) -> None:
    """What the kernel does to a file system after an error of its device: no mount of it can be written to any more."""
    aside.mkdir()
    subprocess.run(["mount", "--bind", target, str(aside)], check=True)
    subprocess.run(["mount", "-o", "remount,ro", str(aside)], check=True)
    subprocess.run(["umount", str(aside)], check=True)


def test_a_file_system_that_stopped_after_an_error_is_mounted_anew(machine: Machine, tmp_path: Path) -> None:
    """Else a volume whose disk was full for a moment could not be written to until nothing asks for it any more."""
    volume = machine.volume()
    target = machine.publish(volume)
    Path(target, "file").write_text("kept")
    stop_writing(target, tmp_path / "aside")
    with pytest.raises(OSError, match="Read-only"):
        Path(target, "more").touch()
    machine.publish(volume)
    Path(target, "more").touch()
    assert Path(target, "file").read_text() == "kept"


def test_a_file_system_that_stopped_stays_while_a_task_uses_it(machine: Machine, tmp_path: Path) -> None:
    volume = machine.volume()
    target = machine.publish(volume)
    Path(target, "file").touch()
    stop_writing(target, tmp_path / "aside")
    with open(os.path.join(target, "file")), pytest.raises(MountFailed, match="busy"):
        machine.publish(volume)
    assert mounts.is_mounted(target)


def test_another_volume_is_not_mounted_over_the_first(machine: Machine) -> None:
    first, second = machine.volume(), machine.volume()
    target = machine.publish(first)
    with pytest.raises(MountFailed, match=first):
        machine.publish(second)
    assert machine.formatted[second] is FormatState.NEVER
    assert host.mounted(str(machine.root)) == {first: target}


def test_a_volume_in_use_stays_mounted_until_it_is_not(machine: Machine) -> None:
    target = machine.publish(machine.volume())
    with open(os.path.join(target, "file"), "w"), pytest.raises(MountFailed, match=r"busy.*fuser"):
        host.unpublish(target)
    assert mounts.is_mounted(target)
    host.unpublish(target)
    host.unpublish(target)
    assert not mounts.is_mounted(target)


def put_a_file(target: Path) -> None:
    target.mkdir(parents=True)
    (target / "somebody's").touch()


def put_a_link(target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.symlink_to("/tmp")


def put_no_directory(target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.write_text("somebody's")


@pytest.mark.parametrize("put", [put_a_file, put_a_link, put_no_directory])
def test_nothing_is_hidden_and_nothing_formatted_where_the_target_is_taken(
    machine: Machine, put: Callable[[Path], None]
) -> None:
    volume = machine.volume()
    put(Path(machine.target()))
    with pytest.raises(MountFailed):
        machine.publish(volume)
    assert machine.formatted[volume] is FormatState.NEVER
    assert host.mounted(str(machine.root)) == {}


def test_mount_options_are_those_of_the_profile(machine: Machine) -> None:
    target = machine.publish(machine.volume(), None, "noatime", "nodev", "commit=17")
    options = next(line for line in Path("/proc/self/mounts").read_text().splitlines() if "commit=17" in line)
    assert {"noatime", "nodev"} <= set(options.split()[3].split(","))
    assert target == machine.target()


def test_a_wrong_mount_option_leaves_nothing_half_made(machine: Machine) -> None:
    volume = machine.volume()
    with pytest.raises(MountFailed, match=r"with options no-such-option failed.*mount options are wrong"):
        machine.publish(volume, None, "no-such-option")
    assert not os.path.exists(machine.target())
    assert machine.formatted[volume] is FormatState.FORMATTED
    machine.publish(volume)


MAKERS = {
    "ext4": (["mkfs.ext4", "-q"], "ext4 data"),
    "xfs": (["mkfs.xfs", "-q"], "xfs data"),
    "swap": (["mkswap", "-q"], "swap space"),
    "lvm": (["pvcreate", "-q"], "an LVM physical volume"),
    "luks": (
        ["cryptsetup", "luksFormat", "--batch-mode", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"],
        "a LUKS encrypted volume",
    ),
    "partition table": (["sfdisk", "-q"], "a DOS partition table"),
}
"""The real programs; what they write is tested by hand-made bytes too, so those that are not installed are left out."""

INSTALLED = [kind for kind, (command, _) in MAKERS.items() if shutil.which(command[0], path=f"{os.defpath}:/sbin")]


@pytest.mark.parametrize("kind", INSTALLED)
def test_what_other_programs_made_is_neither_formatted_nor_mounted(machine: Machine, kind: str) -> None:
    volume = machine.volume(Filesystem.XFS)
    (program, *arguments), words = MAKERS[kind]
    path = str(shutil.which(program, path=f"{os.defpath}:/sbin"))
    answers = "label: dos\n,\n" if program == "sfdisk" else "passphrase"
    command = [path, *arguments, machine.devices[volume]]
    subprocess.run(command, input=answers, text=True, check=True, capture_output=True)
    for machine.formatted[volume] in FormatState:
        with pytest.raises(UnsafeFormat, match=words):
            machine.publish(volume)
    assert not os.path.exists(machine.target())


def test_a_device_that_is_mounted_elsewhere_is_not_cleared(machine: Machine) -> None:
    volume = machine.volume()
    elsewhere = machine.publish(volume, str(machine.root / "elsewhere"))
    Path(elsewhere, "file").write_text("kept")
    machine.formatted[volume] = FormatState.NEVER
    target = machine.publish(volume)
    assert mounts.is_mounted(elsewhere)
    assert Path(target, "file").read_text() == "kept"


def may_grow_mounted_ext4() -> bool:
    """Whether this process has CAP_SYS_RESOURCE, which root in a container often lacks."""
    status = Path("/proc/self/status").read_text()
    return bool(int(status.partition("CapEff:")[2].split()[0], 16) & 1 << 24)


@pytest.mark.parametrize("filesystem", SIZES)
def test_a_volume_grows_while_it_is_used(machine: Machine, filesystem: Filesystem) -> None:
    volume = machine.volume(filesystem)
    device, target = machine.devices[volume], machine.publish(volume)
    with open(os.path.join(target, "file"), "w") as file:
        file.write("kept")
        before = os.statvfs(target).f_blocks
        machine.controller.expand(volume, 2 * SIZES[filesystem])
        machine.host().rescan(machine.attachments[volume])
        if filesystem is Filesystem.EXT4 and not may_grow_mounted_ext4():
            with pytest.raises(HostError, match="CAP_SYS_RESOURCE"):
                host.grow(device, target, filesystem)
            after = before
        else:
            for _ in range(2):
                host.grow(device, target, filesystem)
            after = 1.5 * before
    assert os.statvfs(target).f_blocks >= after
    assert Path(target, "file").read_text() == "kept"


def test_what_is_not_mounted_does_not_grow(machine: Machine) -> None:
    volume = machine.volume()
    with pytest.raises(HostError, match="is not mounted"):
        host.grow(machine.devices[volume], machine.target(), Filesystem.EXT4)


def test_several_mounts_at_one_target_all_go(machine: Machine) -> None:
    volume = machine.volume()
    target = machine.publish(volume)
    mounts.mount("above", target, "tmpfs")
    host.unpublish(target)
    assert not mounts.is_mounted(target)
