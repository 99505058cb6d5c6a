"""What was asked of Cinder and is waited for: where a look at it fails, it may have happened all the same."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest

from drivers.base import CreateRequest, Tags
from drivers.cinder import GIB
from polly_mesos.errors import PlatformError, UnknownVolume
from polly_mesos.testing.openstack.cloud import PROJECT, USER
from tests.drivers.cinder_cloud import cloud
from tests.drivers.test_cinder_failures import available, controller

pytestmark = [pytest.mark.root, pytest.mark.openstack, pytest.mark.timeout(600), pytest.mark.usefixtures("needs_cloud")]


@pytest.mark.parametrize("kind", ["unavailable", "lost", "throttle"])
def test_growing_and_deleting(kind: Any) -> None:
    driver, token = controller("waits"), str(uuid.uuid4())
    volume = available(driver.create(CreateRequest(token, GIB, Tags("waits", token, "gold"))), driver)
    for call in (lambda: driver.expand(volume.id, 2 * GIB), lambda: driver.delete(volume.id)):
        cloud().proxy.inject(kind, "GET", "/volumes/{id}", after=1)
        with pytest.raises(PlatformError) as caught:
            call()
        assert caught.value.outcome_unknown
        cloud().proxy.clear()
        call()
    with pytest.raises(UnknownVolume):
        driver.get(volume.id)


def test_deleting_a_snapshot() -> None:
    driver, token = controller("waits"), str(uuid.uuid4())
    volume = available(driver.create(CreateRequest(token, GIB, Tags("waits", token, "gold"))), driver)
    snapshot = driver.snapshot(volume.id, str(uuid.uuid4()), Tags("waits", token, "gold"))
    while driver.get_snapshot(snapshot.id).state.value == "creating":
        pass
    cloud().proxy.inject("unavailable", "GET", "/snapshots/{id}", after=1)
    with pytest.raises(PlatformError) as caught:
        driver.delete_snapshot(snapshot.id)
    assert caught.value.outcome_unknown
    driver.delete_snapshot(snapshot.id)
    assert driver.list_snapshots() == ()
    driver.delete(volume.id)


def test_a_volume_that_waited_for_its_last_snapshot_goes_also_where_the_first_try_was_broken_off() -> None:
    driver, token = controller("waits"), str(uuid.uuid4())
    volume = available(driver.create(CreateRequest(token, GIB, Tags("waits", token, "gold"))), driver)
    snapshot = driver.snapshot(volume.id, str(uuid.uuid4()), Tags("waits", token, "gold"))
    while driver.get_snapshot(snapshot.id).state.value == "creating":
        pass
    driver.delete(volume.id)
    cloud().proxy.inject("unavailable", "GET", "/volumes/detail")
    with pytest.raises(PlatformError):
        driver.delete_snapshot(snapshot.id)
    assert driver.list_snapshots() == ()
    driver.delete_snapshot(snapshot.id)
    volumes = cloud().connect(USER, PROJECT).block_storage
    deadline = time.monotonic() + 60
    while volume.id in [one.id for one in volumes.volumes()]:
        assert time.monotonic() < deadline, "it is hidden, and takes its part of the quota for ever"
        time.sleep(0.1)
