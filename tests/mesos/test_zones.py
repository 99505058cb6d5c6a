"""A profile of several zones on a real Mesos: each agent offers what it can have, under one name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.testing.ec2 import KEY, SECRET, Delays, Ec2
from tests.leftovers import assert_nothing_left
from tests.mesos.framework import Framework, wait_until
from tests.mesos.polly import Polly
from tests.mesos.test_failover import RESERVATION, ROLES
from tests.mesos.test_scheduler_half import persistent, task_on

pytestmark = [pytest.mark.mesos, pytest.mark.root, pytest.mark.timeout(240)]

_ZONES = ("us-east-1a", "us-east-1b")


@pytest.fixture
def ec2(tmp_path: Path) -> Iterator[Ec2]:
    delays = Delays(create=0.2, attach=0.2, detach=0.2, delete=0.2)
    with Ec2(tmp_path / "ec2", delays=delays) as ec2:
        yield ec2
    assert_nothing_left(tmp_path)


def test_volumes_of_one_profile_are_made_in_the_zones_of_the_agents_that_use_them(
    cluster_factory: Callable[..., LocalCluster], tmp_path: Path, ec2: Ec2
) -> None:
    cluster = cluster_factory(agents=2)
    secrets = {"access_key": "${POLLY_TEST_ACCESS_KEY}", "secret_key": "${POLLY_TEST_SECRET_KEY}"}
    service = {**ec2.settings, "driver": "ebs", "capacity": "8GiB", **secrets}
    profile = {"service": "local", "minimum_size": "1GiB", "zones": list(_ZONES)}
    polly = Polly(cluster, tmp_path, services={"local": service}, profiles={"gold": profile})
    polly.environment |= {"POLLY_TEST_ACCESS_KEY": KEY, "POLLY_TEST_SECRET_KEY": SECRET}
    for agent, zone in zip(cluster.agents, _ZONES, strict=True):
        ec2.instance(agent.endpoint, zone=zone)
    with polly, Framework(cluster.master, **ROLES) as framework:
        agents = polly.connected(2)
        used: set[str] = set()
        while len(used) < len(_ZONES):
            offer = framework.offer()
            disks = [
                one for one in offer["resources"] if one.get("disk", {}).get("source", {}).get("profile") == "gold"
            ]
            agent_id = offer["agent_id"]["value"]
            if not disks or agent_id in used:
                framework.accept(offer)
                continue
            reserved = {**disks[0], "scalar": {"value": 1024.0}, "reservations": [RESERVATION]}
            volume = persistent(reserved, f"volume-{len(used)}")
            framework.accept(
                offer,
                {"type": "RESERVE", "reserve": {"resources": [reserved]}},
                {"type": "CREATE", "create": {"volumes": [volume]}},
                task_on(offer, f"task-{len(used)}", volume, "echo precious > data/file && sync"),
            )
            framework.wait_for(f"task-{len(used)}", "TASK_FINISHED")
            used.add(agent_id)
        hosts = {ec2.instance(agent["endpoint"]).id: ec2.instance(agent["endpoint"]).zone for agent in agents}
        volumes = list(ec2.cloud.volumes.values())
        wait_until(lambda: len(volumes) == len(_ZONES))
        assert sorted(volume.zone for volume in volumes) == sorted(_ZONES)
        for volume in volumes:
            (host,) = volume.attachments
            assert hosts[host] == volume.zone
        destroyed: set[str] = set()
        while len(destroyed) < len(_ZONES):
            offer = framework.offer()
            made = [one for one in offer["resources"] if one.get("disk", {}).get("persistence")]
            framework.accept(offer, *({"type": "DESTROY", "destroy": {"volumes": [one]}} for one in made))
            destroyed |= {one["disk"]["persistence"]["id"] for one in made}
        wait_until(lambda: not _left(ec2))


def _left(ec2: Ec2) -> list[str]:
    with ec2.cloud.lock:
        ec2.cloud.settle()
        return list(ec2.cloud.volumes)
