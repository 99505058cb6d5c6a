"""Volume types that encrypt: at a real Cinder, whose NFS driver keeps such volumes as LUKS in qcow2."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drivers.base import CreateRequest, PlatformState, PlatformVolume, Tags
from drivers.cinder import GIB
from drivers.cinder.controller import CinderController
from drivers.cinder.host import CinderHost
from drivers.cinder.settings import CinderSettings
from polly_mesos.errors import NotSupported, PlatformError
from polly_mesos.model import HostIdentity
from polly_mesos.testing.openstack.cloud import PROJECT, USER
from tests.drivers.cinder_cloud import cloud
from tests.drivers.test_cinder_failures import available

pytestmark = [pytest.mark.root, pytest.mark.openstack, pytest.mark.timeout(600), pytest.mark.usefixtures("needs_cloud")]

NODES = ("192.0.2.60:5051", "192.0.2.61:5051")
PLAIN = b"plain text that nobody may read in the data centre" * 100


@pytest.fixture
def driver() -> Iterator[CinderController]:
    made = CinderController(CinderSettings(**cloud().login()), "encrypted")
    yield made
    for snapshot in made.list_snapshots():
        made.delete_snapshot(snapshot.id)
    for volume in made.list().volumes:
        for host in volume.attached_to:
            made.detach(volume.id, HostIdentity(host))
        made.delete(volume.id)


def request(size: int = GIB, **changes: Any) -> CreateRequest:
    token = str(uuid.uuid4())
    asked = CreateRequest(token, size, Tags("encrypted", token, "gold"), platform_type="encrypted", encryption=True)
    return replace(asked, **changes)


def images_of(volume: PlatformVolume) -> list[Path]:
    """What the data centre has of a volume."""
    return sorted(cloud().directory.glob(f"mounts/*/volume-{volume.id}*"))


class Guest:
    """A host with an agent."""

    def __init__(self, driver: CinderController, node: str) -> None:
        settings = {name: cloud().login()[name] for name in ("metadata_endpoint", "host_root")}
        self._driver, self._host = driver, CinderHost(settings, node)
        self.identity = self._host.identify()

    def disk(self, volume: PlatformVolume) -> str:
        """Attached, and where it is."""
        return self._host.locate(self._driver.attach(volume.id, self.identity), 30.0)

    def write(self, volume: PlatformVolume, data: bytes) -> None:
        """Attach, write, detach."""
        descriptor = os.open(self.disk(volume), os.O_WRONLY)
        os.pwrite(descriptor, data, 1024 * 1024)
        os.fsync(descriptor)
        os.close(descriptor)
        self._driver.detach(volume.id, self.identity)

    def read(self, volume: PlatformVolume) -> bytes:
        """Attach, read as much, detach."""
        descriptor = os.open(self.disk(volume), os.O_RDONLY)
        data = os.pread(descriptor, len(PLAIN), 1024 * 1024)
        os.close(descriptor)
        self._driver.detach(volume.id, self.identity)
        return data


def test_the_guest_sees_its_data_and_the_data_centre_does_not(driver: CinderController) -> None:
    volume = available(driver.create(request()), driver)
    assert cloud().connect(USER, PROJECT).block_storage.get_volume(volume.id).is_encrypted
    one, other = (Guest(driver, node) for node in NODES)
    one.write(volume, PLAIN)
    (image,) = images_of(volume)
    assert b"plain text" not in image.read_bytes()
    assert other.read(volume) == PLAIN
    plain = available(driver.create(request(encryption=False, platform_type="standard")), driver)
    one.write(plain, PLAIN)
    assert b"plain text" in images_of(plain)[0].read_bytes()


def test_a_type_that_does_not_encrypt_is_refused_and_nothing_is_left(driver: CinderController) -> None:
    for kind in ("standard", ""):
        with pytest.raises(NotSupported, match="not encrypted") as caught:
            driver.create(request(platform_type=kind))
        assert "type" in caught.value.remedy


def test_one_that_its_back_end_cannot_expand_is_told_and_is_broken_until_an_operator_has_seen_it(
    driver: CinderController,
) -> None:
    """Cinder 29's NFS driver is such a back end: it has QEMU resize the image without the key."""
    volume = available(driver.create(request()), driver)
    with pytest.raises(PlatformError, match="could not expand") as caught:
        driver.expand(volume.id, 2 * GIB)
    assert "message list" in caught.value.remedy
    assert driver.get(volume.id).state is PlatformState.ERROR
    assert driver.get(volume.id).size == GIB
