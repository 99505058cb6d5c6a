"""The whole way of a volume on the real Mesos, with Google's disks: offer, reserve, create, publish, task, destroy."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.testing.gce import FakeCompute, nvme_ioctl
from tests.leftovers import loop_devices_below, require_root
from tests.mesos.framework import Framework, wait_until
from tests.mesos.operations import create, destroy, launch, persistent, reserve, unreserve
from tests.mesos.polly import Polly
from tests.mesos.test_scheduler_half import disks

pytestmark = [pytest.mark.mesos, pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(240)]

SIZE = 10 * 1024.0


@pytest.mark.parametrize(
    ("machine_type", "disk_type", "interface"),
    [("n2-standard-4", "pd-balanced", "SCSI"), ("c4-standard-8", "hyperdisk-balanced", "NVME")],
)
def test_a_task_finds_its_data_again_on_a_google_disk(
    cluster_factory: Callable[..., LocalCluster], tmp_path: Path, machine_type: str, disk_type: str, interface: str
) -> None:
    require_root()
    cluster = cluster_factory(agents=1)
    with FakeCompute(tmp_path / "google", plug=True) as compute:
        compute.guests.machine_type = machine_type
        # Both run with it: where disks are SCSI nobody asks.
        python = nvme_ioctl.interpreter(tmp_path, sys.executable)
        service = {
            "driver": "gce",
            "key_file": str(compute.key_file(tmp_path / "key.json")),
            "zone": "europe-west3-a",
            "endpoint": compute.endpoint,
            "metadata_endpoint": f"{compute.endpoint}/node/{{node}}",
            "host_root": f"{compute.guests.root}/{{node}}",
            "capacity": "40GiB",
        }
        profile = {"service": "google", "type": disk_type, "zone": "europe-west3-a", "minimum_size": "10GiB"}
        settings = {"services": {"google": service}, "profiles": {"gold": profile}, "agents": {"python": str(python)}}
        with Polly(cluster, tmp_path, **settings) as polly:
            polly.connected(1)
            with Framework(cluster.master) as framework:
                offer, disk = disks(framework, type="PATH", profile="gold")
                made = persistent(disk, SIZE, "kept")
                write = launch(offer, "write", made, "echo precious > data/file && sync")
                framework.accept(offer, reserve(disk, SIZE), create(disk, SIZE, "kept"), write)
                wait_until(lambda: _interfaces(compute) == [interface])
                framework.wait_for("write", "TASK_FINISHED")
                (google,) = [one for one in compute.world.resources.values() if one["kind"] == "compute#disk"]
                assert google["labels"]["polly_cluster"] == "test"
                assert google["sizeGb"] == "10"
                assert google["type"].rpartition("/")[2] == disk_type

                def kept() -> tuple[object, object] | None:
                    offer = framework.offer()
                    for one in offer["resources"]:
                        if one.get("disk", {}).get("persistence", {}).get("id") == "kept":
                            return offer, one
                    framework.accept(offer)
                    return None

                wait_until(lambda: "users" not in google)  # the grace time is over: it is unmounted and detached
                offer, volume = wait_until(kept)
                framework.accept(offer, launch(offer, "read", volume, "grep precious data/file"))
                framework.wait_for("read", "TASK_FINISHED")
                offer, volume = wait_until(kept)
                plain = {**volume, "disk": {"source": volume["disk"]["source"]}}
                framework.accept(offer, destroy(volume), unreserve(plain))
                wait_until(lambda: google not in list(compute.world.resources.values()))
        assert compute.violations == []
        assert loop_devices_below(tmp_path) == []
        assert os.listdir(tmp_path / "google") == ["hosts"]


def _interfaces(compute: FakeCompute) -> list[str]:
    """By which interface the instances have the disks beside their boot disks."""
    instances = [one for one in list(compute.world.resources.values()) if one["kind"] == "compute#instance"]
    return [attached["interface"] for one in instances for attached in one["disks"] if not attached["boot"]]
