"""Hosts that die, on a real Mesos: their volumes, with names and data, are offered by another agent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from polly_mesos.ledger import Ledger
from polly_mesos.mesos.local.agent import LocalAgent
from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.model import Event
from tests.mesos.framework import Framework, wait_until
from tests.mesos.polly import Polly
from tests.mesos.test_scheduler_half import disks, persistent, task_on

pytestmark = [pytest.mark.mesos, pytest.mark.root, pytest.mark.timeout(240)]

Json = dict[str, Any]
SHORT = {"MESOS_AGENT_PING_TIMEOUT": "1secs", "MESOS_MAX_AGENT_PING_TIMEOUTS": "2"}
RESERVATION = {"type": "DYNAMIC", "role": "test", "principal": "test"}
CAPABILITIES = [{"type": "PARTITION_AWARE"}, {"type": "RESERVATION_REFINEMENT"}]
ROLES = {"roles": ["test"], "principal": "test", "capabilities": CAPABILITIES}


@pytest.fixture
def two(cluster_factory: Callable[..., LocalCluster]) -> LocalCluster:
    return cluster_factory(agents=2, environment=SHORT)


@pytest.fixture
def polly(two: LocalCluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Polly]:
    sections: dict[str, Any] = getattr(request, "param", {})
    sections = {**sections, "agents": {"fence_after": "1s", **sections.get("agents", {})}}
    with Polly(two, tmp_path, **sections) as running:
        running.connected(2)
        yield running


def master(cluster: LocalCluster, call: Json) -> None:
    """An operator's call."""
    answer = httpx.post(f"http://{cluster.master}/api/v1", json=call, timeout=10, trust_env=False)
    assert answer.status_code in (200, 202), answer.text


def written(framework: Framework, name: str = "db#data#1", command: str = "sleep 1000") -> tuple[Json, str]:
    """A volume with data, and a task that has it; returns the disk and the agent's id."""
    offer, disk = disks(framework, type="PATH", profile="gold")
    reserved = {**disk, "scalar": {"value": 64.0}, "reservations": [RESERVATION]}
    volume = persistent(reserved, name)
    framework.accept(
        offer,
        {"type": "RESERVE", "reserve": {"resources": [reserved]}},
        {"type": "CREATE", "create": {"volumes": [volume]}},
        task_on(offer, "writer", volume, f"echo precious > data/file && sync && {command}"),
    )
    framework.wait_for("writer", "TASK_RUNNING" if "sleep" in command else "TASK_FINISHED")
    return volume, offer["agent_id"]["value"]


def events(polly: Polly, kind: str) -> list[Event]:
    with Ledger.open(polly.directory / "ledger.db", "test", read_only=True) as ledger:
        return ledger.events(kinds=[kind])


def node_of(cluster: LocalCluster, polly: Polly, agent_id: str) -> LocalAgent:
    (endpoint,) = [agent["endpoint"] for agent in polly.get("/v1/agents") if agent["id"] == agent_id]
    (node,) = [agent for agent in cluster.agents if agent.endpoint == endpoint]
    return node


def offered_again(framework: Framework, volume: Json, elsewhere_than: str) -> tuple[Json, Json]:
    """The offer of another agent that has this very volume."""

    def look() -> tuple[Json, Json] | None:
        offer = framework.offer()
        for resource in offer["resources"]:
            persistence = resource.get("disk", {}).get("persistence")
            if persistence == volume["disk"]["persistence"] and offer["agent_id"]["value"] != elsewhere_than:
                return offer, resource
        framework.accept(offer)
        return None

    found: tuple[Json, Json] = wait_until(look)
    return found


def reads(framework: Framework, offer: Json, volume: Json) -> None:
    framework.accept(offer, task_on(offer, "reader", volume, "grep precious data/file"))
    framework.wait_for("reader", "TASK_FINISHED")


def test_a_host_without_power_is_fenced_by_its_platform_and_its_volume_is_found_elsewhere_with_its_data(
    two: LocalCluster, polly: Polly
) -> None:
    with Framework(two.master, **ROLES) as framework:
        volume, agent_id = written(framework)
        node = node_of(two, polly, agent_id)
        node.power_off()
        offer, found = offered_again(framework, volume, agent_id)
        assert found["disk"] == {**volume["disk"], "source": found["disk"]["source"]}
        assert found["scalar"] == volume["scalar"]
        reservations = found["reservations"]
        assert [{key: one[key] for key in RESERVATION} for one in reservations] == [RESERVATION]
        reads(framework, offer, found)
        assert [event.subject for event in events(polly, "agent.fenced")] == [agent_id]
    node.start()
    polly.connected(2)
    (known,) = polly.get("/v1/volumes")
    assert known["agent"] == offer["agent_id"]["value"]
    polly.call("ledger", "check", "--config", str(polly.configuration))


def test_a_host_whose_agent_died_and_whose_task_still_writes_keeps_its_volume(two: LocalCluster, polly: Polly) -> None:
    with Framework(two.master, **ROLES) as framework:
        _, agent_id = written(framework)
        node = node_of(two, polly, agent_id)
        node.kill()

        def explained() -> Json | None:
            (agent,) = [agent for agent in polly.get("/v1/agents") if agent["id"] == agent_id]
            return agent if agent["state"] == "unreachable" and agent["waits_for"] else None

        agent = wait_until(explained)
        assert agent["waits_for"]["local"]
        (known,) = polly.get("/v1/volumes")
        assert known["publication"]["agent"] == agent_id
        message = polly.call("agent", "fence", agent_id, "--yes")
        assert "fenced" in message
        # The operator was wrong: the task still has the volume mounted, and the driver does not take it away.
        wait_until(lambda: f"volume {known['id']}" in polly.log.read_text())
        assert "trying again" in polly.log.read_text()
        (known,) = polly.get("/v1/volumes")
        assert known["agent"] == agent_id
        node.start()


@pytest.mark.parametrize("command", ["true", "sleep 1000"], ids=["idle", "in use"])
def test_a_drained_agent_gives_its_volume_to_another(two: LocalCluster, polly: Polly, command: str) -> None:
    with Framework(two.master, **ROLES) as framework:
        volume, agent_id = written(framework, command=command)
        if command == "true":
            wait_until(lambda: polly.get("/v1/volumes")[0]["publication"] is None)
        master(two, {"type": "DRAIN_AGENT", "drain_agent": {"agent_id": {"value": agent_id}}})
        offer, found = offered_again(framework, volume, agent_id)
        reads(framework, offer, found)
        assert not events(polly, "agent.fenced")


ADOPTING = {"profiles": {"gold": {"service": "local", "minimum_size": "16MiB", "adopt": True}}}


@pytest.mark.parametrize("polly", [ADOPTING], indirect=True)
def test_the_successor_of_an_abandoned_volume_finds_the_data_of_its_predecessor(
    two: LocalCluster, polly: Polly
) -> None:
    with Framework(two.master, **ROLES) as framework:
        _, agent_id = written(framework, "app#data#first")
        node = node_of(two, polly, agent_id)
        node.power_off()
        master(two, {"type": "MARK_AGENT_GONE", "mark_agent_gone": {"agent_id": {"value": agent_id}}})
        (parked,) = wait_until(lambda: [known for known in polly.get("/v1/volumes") if not known["agent"]])

        def enough() -> tuple[Json, Json] | None:
            offer, disk = disks(framework, type="PATH", profile="gold")
            if disk["scalar"]["value"] >= 64 and offer["agent_id"]["value"] != agent_id:
                return offer, disk
            framework.accept(offer)
            return None

        offer, disk = wait_until(enough)
        reserved = {**disk, "scalar": {"value": 64.0}, "reservations": [RESERVATION]}
        successor = persistent(reserved, "app#data#second")
        framework.accept(
            offer,
            {"type": "RESERVE", "reserve": {"resources": [reserved]}},
            {"type": "CREATE", "create": {"volumes": [successor]}},
            task_on(offer, "reader", successor, "grep precious data/file"),
        )
        framework.wait_for("reader", "TASK_FINISHED")
        (known,) = polly.get("/v1/volumes")
        assert (known["id"], known["persistence_id"]) == (parked["id"], "app#data#second")
