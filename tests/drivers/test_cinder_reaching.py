"""The Cinder driver on hosts that are no instances: real Keystone, real Cinder with NFS, and real os-brick."""

from __future__ import annotations

import pytest

from drivers.base import PlatformVolume
from drivers.cinder import DRIVER, GIB
from polly_mesos.errors import HostError
from polly_mesos.testing import driver_suite
from polly_mesos.testing.driver_suite.harness import MACHINE, NODE, OTHER_NODE, Harness
from tests.drivers.cinder_cloud import cloud, losing_an_answer

pytestmark = [pytest.mark.root, pytest.mark.openstack, pytest.mark.timeout(600), pytest.mark.usefixtures("needs_cloud")]

_DATA = b"what was written before the copy"


def settings() -> dict[str, object]:
    cloud().bare_hosts.add(NODE, OTHER_NODE, MACHINE)
    return cloud().login(**cloud().bare_hosts.settings())


class TestConformance(  # type: ignore[misc]
    driver_suite(DRIVER, lambda _: settings(), size=GIB, many=20, lost_answers=losing_an_answer)
):
    """The whole suite, but for two things that Cinder's NFS driver does to its files, which the host side refuses."""

    def test_a_snapshot_keeps_what_was_there(self, harness: Harness) -> None:
        """A volume of which a snapshot was taken is a qcow2 file on NFS, until the snapshot is deleted."""
        volume = harness.create()
        with harness.on_host(volume) as attached:
            harness.write(attached.path, _DATA)
        snapshot = harness.snapshot(volume)
        self._is_refused(harness, volume, "qcow2", "delete the snapshots")
        restored = harness.when_available(harness.controller.restore(snapshot.id, harness.request()))
        with harness.on_host(restored) as attached:
            assert harness.read(attached.path, len(_DATA)) == _DATA
        harness.controller.delete_snapshot(snapshot.id)
        with harness.on_host(volume) as attached:
            assert harness.read(attached.path, len(_DATA)) == _DATA

    def test_a_clone_is_larger_where_asked_and_independent(self, harness: Harness) -> None:
        """Of a larger copy Cinder's NFS driver makes a file that is as small as its source."""
        volume = harness.create()
        with harness.on_host(volume) as attached:
            harness.write(attached.path, _DATA)
        clone = harness.when_available(harness.controller.clone(volume.id, harness.request(2 * harness.size)))
        self._is_refused(harness, clone, f"{harness.size} bytes", "expand it")
        harness.controller.expand(clone.id, 3 * harness.size)
        with harness.on_host(clone) as attached:
            assert harness.device_size(attached.path) == 3 * harness.size
            assert harness.read(attached.path, len(_DATA)) == _DATA
            harness.write(attached.path, b"only the clone has this")
        with harness.on_host(volume) as attached:
            assert harness.read(attached.path, len(_DATA)) == _DATA

    def _is_refused(self, harness: Harness, volume: PlatformVolume, why: str, remedy: str) -> None:
        with pytest.raises(HostError, match=why) as caught:
            harness.attach(volume)
        assert remedy in caught.value.remedy
        harness.new_host().release({"volume": volume.id})
        harness.controller.detach(volume.id, harness.identity())
