"""What is on a device is told in words, and nothing is overlooked."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from polly_mesos.errors import HostError, MissingTool
from polly_mesos.executor.host import libblkid, probing, programs
from tests.unit.host import devices

pytestmark = pytest.mark.usefixtures("_by")


def test_a_blank_device_is_blank(tmp_path: Path) -> None:
    found = probing.probe(str(devices.blank(tmp_path / "device")))
    assert found.blank
    assert str(found) == "nothing"


@pytest.fixture(params=["library", "programs"])
def _by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test once with libblkid and once with the programs, which must say the same."""
    monkeypatch.setattr(libblkid, "is_installed", lambda: request.param == "library")


@pytest.mark.parametrize("kind", devices.KINDS)
def test_what_is_there_is_found_and_named(tmp_path: Path, kind: str) -> None:
    put, words = devices.KINDS[kind]
    device = devices.blank(tmp_path / "device")
    put(device)
    found = probing.probe(str(device))
    assert not found.blank
    assert words in str(found)


def test_several_things_are_all_named(tmp_path: Path) -> None:
    device = devices.blank(tmp_path / "device")
    devices.swap(device)
    devices.lvm(device)
    found = str(probing.probe(str(device)))
    assert "swap space" in found
    assert "an LVM physical volume" in found


def test_a_single_byte_is_found(tmp_path: Path) -> None:
    device = devices.blank(tmp_path / "device")
    devices.write(device, 32 * devices.MB - 1, b"\1")
    assert probing.probe(str(device)).data_at == 32 * devices.MB - 1


def test_a_device_smaller_than_what_is_looked_at_is_looked_at_whole(tmp_path: Path) -> None:
    device = devices.blank(tmp_path / "device", 4096)
    assert probing.first_data(str(device)) is None
    devices.write(device, 4095, b"\1")
    assert probing.first_data(str(device)) == 4095


def test_a_device_that_is_not_there_is_an_error_and_not_blank(tmp_path: Path) -> None:
    with pytest.raises(HostError):
        probing.probe(str(tmp_path / "nothing"))


def test_a_host_without_blkid_is_told_which_package_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "_ADMIN_PATH", ())
    monkeypatch.setattr(libblkid, "is_installed", lambda: False)
    with pytest.raises(MissingTool, match=r"blkid.*apt-get install util-linux"):
        probing.probe(str(devices.blank(tmp_path / "device")))


def test_the_library_and_the_programs_see_the_same(tmp_path: Path) -> None:
    for kind, (put, _) in devices.KINDS.items():
        device = devices.blank(tmp_path / kind)
        put(device)
        assert set(probing._by_library(str(device))) == set(probing._by_programs(str(device))), kind


def test_a_host_without_the_library_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    libblkid._library.cache_clear()
    libblkid.is_installed.cache_clear()

    def missing(*arguments: object, **named: object) -> None:
        raise OSError("libblkid.so.1: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert not libblkid.is_installed()
    monkeypatch.undo()
    libblkid.is_installed.cache_clear()
    assert libblkid.is_installed()
