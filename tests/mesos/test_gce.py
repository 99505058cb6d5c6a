"""The whole way of a volume on the real Mesos, with Google's disks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.model import Json
from polly_mesos.testing.gce import FakeCompute, nvme_ioctl
from tests.leftovers import loop_devices_below, require_root
from tests.mesos.framework import Framework
from tests.mesos.polly import Polly
from tests.mesos.volume_story import goes_the_whole_way

pytestmark = [pytest.mark.mesos, pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(240)]


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
                goes_the_whole_way(
                    framework,
                    10 * 1024.0,
                    written=lambda: _look(compute, disk_type, interface),
                    attached=lambda: any("users" in disk for disk in _volumes(compute)),
                    there=lambda: bool(_volumes(compute)),
                )
        assert compute.violations == []
        assert loop_devices_below(tmp_path) == []
        assert os.listdir(tmp_path / "google") == ["hosts"]


def _look(compute: FakeCompute, disk_type: str, interface: str) -> None:
    (google,) = _volumes(compute)
    assert google["labels"]["polly_cluster"] == "test"
    assert google["sizeGb"] == "10"
    assert google["type"].rpartition("/")[2] == disk_type
    instances = [one for one in list(compute.world.resources.values()) if one["kind"] == "compute#instance"]
    attached = [disk for one in instances for disk in one["disks"] if not disk["boot"]]
    assert [disk["interface"] for disk in attached] == [interface]


def _volumes(compute: FakeCompute) -> list[Json]:
    disks = [one for one in list(compute.world.resources.values()) if one["kind"] == "compute#disk"]
    return [one for one in disks if one.get("labels", {}).get("polly_cluster")]
