"""The directory driver, as any user."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from drivers.base import CreateRequest, PlatformState, Tags
from drivers.directory import DRIVER
from drivers.directory.controller import DirectoryController
from drivers.directory.settings import DirectorySettings
from polly_mesos.errors import NotSupported, VolumeInUse
from polly_mesos.model import MB, Filesystem, HostIdentity
from polly_mesos.testing import driver_suite
from tests.drivers.crashes import crash_in_every_state

TestConformance = driver_suite(
    DRIVER, lambda tmp_path: {"directory": str(tmp_path / "platform"), "capacity": 512 * MB}, many=25
)

SIZE = 16 * MB
HOST = HostIdentity("192.0.2.1:5051")


def request() -> CreateRequest:
    token = str(uuid.uuid4())
    return CreateRequest(token, SIZE, Tags("test", token, "gold"), filesystem=Filesystem.NONE)


@pytest.fixture
def platform(tmp_path: Path) -> Path:
    return tmp_path / "platform"


@pytest.fixture
def controller(platform: Path) -> DirectoryController:
    return DirectoryController(DirectorySettings(str(platform)), "test")


def names(platform: Path) -> list[str]:
    return sorted(path.name for path in (platform / "volumes").iterdir())


def test_a_file_system_is_refused_with_the_remedy(controller: DirectoryController) -> None:
    asked = request()
    with pytest.raises(NotSupported, match="filesystem: none"):
        controller.create(CreateRequest(asked.token, SIZE, asked.tags, filesystem=Filesystem.EXT4))


def test_capacity_without_a_limit_is_what_the_disk_has(platform: Path, controller: DirectoryController) -> None:
    below = os.statvfs(platform)
    total = controller.capacity("", "").total
    assert total is not None
    assert abs(total - below.f_bavail * below.f_frsize) < 0.1 * total


def test_a_copy_keeps_what_is_in_a_directory_as_it_is(platform: Path, controller: DirectoryController) -> None:
    volume = controller.create(request())
    data = platform / "volumes" / volume.id / "data"
    (data / "folder").mkdir()
    (data / "folder" / "file").write_text("kept")
    (data / "folder" / "file").chmod(0o640)
    (data / "link").symlink_to("folder/file")
    os.link(data / "folder" / "file", data / "same")
    os.mkfifo(data / "pipe")
    clone = controller.clone(volume.id, request())
    copied = platform / "volumes" / clone.id / "data"
    assert (copied / "folder" / "file").read_text() == "kept"
    assert (copied / "folder" / "file").stat().st_mode & 0o777 == 0o640
    assert os.readlink(copied / "link") == "folder/file"
    assert (copied / "same").samefile(copied / "folder" / "file")
    assert (copied / "pipe").is_fifo()


def test_a_volume_that_a_host_holds_is_not_copied(controller: DirectoryController) -> None:
    volume = controller.create(request())
    controller.attach(volume.id, HOST)
    with pytest.raises(VolumeInUse, match="at one moment"):
        controller.snapshot(volume.id, "snapshot", volume.tags)
    with pytest.raises(VolumeInUse):
        controller.clone(volume.id, request())
    assert controller.list_snapshots() == ()
    assert len(controller.list().volumes) == 1


def test_deleting_follows_no_link_out_of_the_volume(
    tmp_path: Path, platform: Path, controller: DirectoryController
) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("kept")
    volume = controller.create(request())
    (platform / "volumes" / volume.id / "data" / "out").symlink_to(tmp_path / "precious")
    controller.delete(volume.id)
    assert (tmp_path / "precious" / "file").read_text() == "kept"
    assert names(platform) == []


def test_a_crash_while_creating(platform: Path, controller: DirectoryController) -> None:
    asked = request()
    for _ in crash_in_every_state(platform, lambda: controller.create(asked)):
        DirectoryController(DirectorySettings(str(platform)), "test")
        assert controller.create(asked).state is PlatformState.AVAILABLE
        controller.delete(asked.token)
        assert names(platform) == []


def test_a_crash_while_deleting(platform: Path, controller: DirectoryController) -> None:
    asked = request()
    controller.create(asked)
    for _ in crash_in_every_state(platform, lambda: controller.delete(asked.token)):
        DirectoryController(DirectorySettings(str(platform)), "test")
        assert all(found.state is not PlatformState.ERROR for found in controller.list().volumes)
        controller.delete(asked.token)
        assert names(platform) == []
        (platform / "volumes" / controller.create(asked).id / "data" / "file").touch()


def test_a_crash_while_copying(platform: Path, controller: DirectoryController) -> None:
    source, asked = controller.create(request()), request()
    (platform / "volumes" / source.id / "data" / "file").write_text("kept")
    for _ in crash_in_every_state(platform, lambda: controller.clone(source.id, asked)):
        DirectoryController(DirectorySettings(str(platform)), "test")
        assert controller.clone(source.id, asked).state is PlatformState.AVAILABLE
        assert (platform / "volumes" / asked.token / "data" / "file").read_text() == "kept"
        controller.delete(asked.token)
        assert len(names(platform)) == 2
