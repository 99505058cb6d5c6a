"""The main path on a real Mesos with EBS volumes: offer, reserve, create, publish, task, destroy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.testing.ec2 import KEY, SECRET, Delays, Ec2
from tests.leftovers import assert_nothing_left
from tests.mesos.framework import Framework, wait_until
from tests.mesos.polly import Polly
from tests.mesos.test_failover import RESERVATION, ROLES
from tests.mesos.test_scheduler_half import disks, persistent, task_on

pytestmark = [pytest.mark.mesos, pytest.mark.root, pytest.mark.timeout(240)]

_DELAYS = Delays(create=0.2, attach=0.2, detach=0.2, delete=0.2)


@pytest.fixture(params=["m5.large", "m4.large"], ids=["nitro", "xen"])
def ec2(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Ec2]:
    with Ec2(tmp_path / "ec2", delays=_DELAYS, default_type=request.param) as ec2:
        yield ec2
    assert_nothing_left(tmp_path)


def _sections(ec2: Ec2) -> dict[str, Any]:
    service = {
        **ec2.settings,
        "driver": "ebs",
        "access_key": "${POLLY_TEST_ACCESS_KEY}",
        "secret_key": "${POLLY_TEST_SECRET_KEY}",
        "capacity": "8GiB",
    }
    return {"services": {"local": service}, "profiles": {"gold": {"service": "local", "minimum_size": "1GiB"}}}


def test_a_volume_is_made_used_by_two_tasks_and_destroyed(
    cluster_factory: Callable[..., LocalCluster], tmp_path: Path, ec2: Ec2
) -> None:
    cluster = cluster_factory(agents=1)
    polly = Polly(cluster, tmp_path, **_sections(ec2))
    polly.environment |= {"POLLY_TEST_ACCESS_KEY": KEY, "POLLY_TEST_SECRET_KEY": SECRET}
    with polly, Framework(cluster.master, **ROLES) as framework:
        (agent,) = polly.connected(1)
        offer, disk = disks(framework, type="PATH", profile="gold")
        reserved = {**disk, "scalar": {"value": 1024.0}, "reservations": [RESERVATION]}
        made = persistent(reserved, "v")
        framework.accept(
            offer,
            {"type": "RESERVE", "reserve": {"resources": [reserved]}},
            {"type": "CREATE", "create": {"volumes": [made]}},
            task_on(offer, "writer", made, "echo precious > data/file && sync"),
        )
        framework.wait_for("writer", "TASK_FINISHED")
        (volume,) = ec2.cloud.volumes.values()
        assert list(volume.attachments) == [ec2.instance(agent["endpoint"]).id]
        limit = agent["identities"]["local"]["attach_limit"]
        assert limit == ec2.instance(agent["endpoint"]).limit - 1, "EC2's own, less the root volume"
        offer, found = _volume(framework)
        framework.accept(offer, task_on(offer, "reader", found, "grep precious data/file"))
        framework.wait_for("reader", "TASK_FINISHED")
        offer, found = _volume(framework)
        framework.accept(offer, {"type": "DESTROY", "destroy": {"volumes": [found]}})
        wait_until(lambda: not _left(ec2))
        assert SECRET not in polly.log.read_text()


def _volume(framework: Framework) -> tuple[dict[str, Any], dict[str, Any]]:
    """An offer with the persistent volume, and that volume."""

    def look() -> tuple[dict[str, Any], dict[str, Any]] | None:
        offer = framework.offer()
        for resource in offer["resources"]:
            if resource.get("disk", {}).get("persistence", {}).get("id") == "v":
                return offer, resource
        framework.accept(offer)
        return None

    found: tuple[dict[str, Any], dict[str, Any]] = wait_until(look)
    return found


def _left(ec2: Ec2) -> list[str]:
    with ec2.cloud.lock:
        ec2.cloud.settle()
        return list(ec2.cloud.volumes)
