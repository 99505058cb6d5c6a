"""The whole way of a volume on the real Mesos and a real Cinder: offer, reserve, create, publish, task, destroy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.testing.openstack.cloud import PROJECT, USER
from tests.drivers.cinder_cloud import cloud
from tests.leftovers import loop_devices_below, require_root
from tests.mesos.framework import Framework, wait_until
from tests.mesos.operations import create, destroy, launch, persistent, reserve, unreserve
from tests.mesos.polly import Polly
from tests.mesos.test_scheduler_half import disks

pytestmark = [
    pytest.mark.mesos,
    pytest.mark.root,
    pytest.mark.openstack,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

SIZE = 1024.0


def goes_the_whole_way(cluster: LocalCluster, directory: Path, service: dict[str, Any]) -> None:
    """A volume is offered, reserved, created, published, used by two tasks after each other, and destroyed."""
    volumes = cloud().connect(USER, PROJECT).block_storage
    service = {"driver": "cinder", "capacity": "8GiB", **service}
    profile = {"service": "cloud", "minimum_size": "1GiB"}
    with Polly(cluster, directory, services={"cloud": service}, profiles={"gold": profile}) as polly:
        polly.connected(1)
        with Framework(cluster.master) as framework:
            offer, disk = disks(framework, type="PATH", profile="gold")
            made = persistent(disk, SIZE, "kept")
            write = launch(offer, "write", made, "echo precious > data/file && sync")
            framework.accept(offer, reserve(disk, SIZE), create(disk, SIZE, "kept"), write)
            framework.wait_for("write", "TASK_FINISHED")
            (ours,) = [one for one in volumes.volumes() if one.metadata.get("polly:cluster") == "test"]
            assert (ours.size, ours.metadata["polly:profile"]) == (1, "gold")

            def kept() -> tuple[object, object] | None:
                offer = framework.offer()
                for one in offer["resources"]:
                    if one.get("disk", {}).get("persistence", {}).get("id") == "kept":
                        return offer, one
                framework.accept(offer)
                return None

            wait_until(lambda: volumes.get_volume(ours.id).status == "available")  # unmounted and detached
            offer, volume = wait_until(kept)
            framework.accept(offer, launch(offer, "read", volume, "grep precious data/file"))
            framework.wait_for("read", "TASK_FINISHED")
            offer, volume = wait_until(kept)
            plain = {**volume, "disk": {"source": volume["disk"]["source"]}}
            framework.accept(offer, destroy(volume), unreserve(plain))
            wait_until(lambda: ours.id not in [one.id for one in volumes.volumes()])


def test_a_task_finds_its_data_again_on_a_volume_of_cinder(
    cluster_factory: Callable[..., LocalCluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_root()
    cluster = cluster_factory(agents=1)
    monkeypatch.setenv("CINDER_PASSWORD", cloud().password)
    goes_the_whole_way(cluster, tmp_path, cloud().login(password="${CINDER_PASSWORD}"))
    assert loop_devices_below(cloud().instances.root) == []
