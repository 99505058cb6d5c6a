"""The example of a third party's driver, killed between any two lines of its own and of what it calls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.base import ControllerDriver, CreateRequest, PlatformState, Tags
from drivers.declaration import load_class
from polly_mesos.errors import Conflict, UnknownVolume
from polly_mesos.model import MB, Filesystem, HostIdentity
from tests.drivers import crashes

SOURCE = Path(__file__).parents[2] / "examples" / "driver-folder" / "src"
REQUEST = CreateRequest("volume", MB, Tags("test", "volume", "gold"), filesystem=Filesystem.NONE)
HOST, OTHER = HostIdentity("192.0.2.1:5051"), HostIdentity("192.0.2.2:5051")

Controllers = Callable[[], ControllerDriver]


@pytest.fixture
def controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Controllers:
    """Gives a fresh object, as after a restart."""
    monkeypatch.syspath_prepend(SOURCE)
    monkeypatch.setattr(crashes, "_DRIVERS", "/")
    settings = load_class("polly_driver_folder.settings:FolderSettings")(str(tmp_path))
    kind = load_class("polly_driver_folder.controller:FolderController")
    return lambda: kind(settings, "test")


def write(directory: Path) -> None:
    data = directory / "volume" / "free"
    (data / "folder").mkdir()
    for path in (data / "file", data / "folder" / "file"):
        path.write_text("kept")


def read(directory: Path) -> list[str]:
    return [path.read_text() for path in directory.glob("volume/[fh]*/**/file")]


def test_a_crash_while_creating(tmp_path: Path, controller: Controllers) -> None:
    for _ in crashes.crash_in_every_state(tmp_path, lambda: controller().create(REQUEST)):
        assert all(volume.state is PlatformState.AVAILABLE for volume in controller().list().volumes)
        assert controller().create(REQUEST).state is PlatformState.AVAILABLE
        controller().delete("volume")
        assert list(tmp_path.iterdir()) == []


def test_what_a_crash_while_creating_left_is_deleted_without_being_made(
    tmp_path: Path, controller: Controllers
) -> None:
    for _ in crashes.crash_in_every_state(tmp_path, lambda: controller().create(REQUEST)):
        controller().delete("volume")
        assert list(tmp_path.iterdir()) == []


def test_a_crash_while_attaching(tmp_path: Path, controller: Controllers) -> None:
    controller().create(REQUEST)
    write(tmp_path)
    for _ in crashes.crash_in_every_state(tmp_path, lambda: controller().attach("volume", HOST)):
        assert controller().get("volume").attached_to in ((), (HOST.host,))
        controller().attach("volume", HOST)
        assert controller().get("volume").attached_to == (HOST.host,)
        with pytest.raises(Conflict):
            controller().attach("volume", OTHER)
        assert read(tmp_path) == ["kept", "kept"]
        controller().detach("volume", HOST)


def test_a_crash_while_detaching(tmp_path: Path, controller: Controllers) -> None:
    controller().create(REQUEST)
    write(tmp_path)
    controller().attach("volume", HOST)
    for _ in crashes.crash_in_every_state(tmp_path, lambda: controller().detach("volume", HOST)):
        controller().detach("volume", HOST)
        controller().attach("volume", OTHER)
        assert read(tmp_path) == ["kept", "kept"]
        controller().detach("volume", OTHER)
        controller().attach("volume", HOST)


def test_a_crash_while_deleting(tmp_path: Path, controller: Controllers) -> None:
    controller().create(REQUEST)
    write(tmp_path)
    states = set()
    for number in crashes.crash_in_every_state(tmp_path, lambda: controller().delete("volume")):
        try:
            state = controller().get("volume").state
        except UnknownVolume:
            state = None
        states.add(state)
        if state is PlatformState.AVAILABLE:
            assert read(tmp_path) == ["kept", "kept"]
        else:
            with pytest.raises((Conflict, UnknownVolume)):
                controller().attach("volume", HOST)
        if number % 2:
            controller().delete("volume")
            assert list(tmp_path.iterdir()) == []
        else:
            assert controller().create(REQUEST).state is PlatformState.AVAILABLE
            controller().delete("volume")
        controller().create(REQUEST)
        assert read(tmp_path) == []
        write(tmp_path)
    assert states == {PlatformState.AVAILABLE, PlatformState.DELETING, None}
