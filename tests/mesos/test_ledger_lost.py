"""The ledger is lost on a real Mesos: rebuilt from platforms and agents, or restored from a copy that is too old."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.mesos.resources import add, canonical, normalise, owner_of
from polly_mesos.model import Json
from tests.mesos.framework import Framework, wait_until
from tests.mesos.polly import Polly

pytestmark = [pytest.mark.mesos, pytest.mark.timeout(240)]

LABELS = {"labels": [{"key": "app", "value": "db"}, {"key": "a", "value": "of another order"}]}
REFINED = {"roles": ["test"], "principal": "test", "capabilities": [{"type": "RESERVATION_REFINEMENT"}]}


@pytest.fixture
def two(cluster_factory: Callable[..., LocalCluster]) -> LocalCluster:
    return cluster_factory(agents=2)


@pytest.fixture
def polly(two: LocalCluster, tmp_path: Path) -> Iterator[Polly]:
    with Polly(two, tmp_path) as started:
        started.connected(2)
        yield started


@pytest.fixture
def framework(two: LocalCluster, polly: Polly) -> Iterator[Framework]:
    with Framework(two.master, **REFINED) as subscribed:
        yield subscribed


def disks_of(offer: Json) -> list[Json]:
    return [resource for resource in offer["resources"] if resource.get("disk", {}).get("source")]


def persistence_of(resource: Json) -> str:
    return str(resource["disk"].get("persistence", {}).get("id", ""))


def take(framework: Framework, wanted: Callable[[Json], bool]) -> tuple[Json, Json]:
    """An offer with a disk that is wanted, and that disk."""

    def look() -> tuple[Json, Json] | None:
        offer = framework.offer()
        for resource in disks_of(offer):
            if wanted(resource):
                return offer, resource
        framework.accept(offer)
        return None

    found: tuple[Json, Json] = wait_until(look)
    return found


def task(offer: Json, name: str, disk: Json, command: str) -> Json:
    little = [
        {**resource, "scalar": {"value": value}}
        for kind, value in (("cpus", 0.1), ("mem", 32.0))
        for resource in offer["resources"]
        if resource["name"] == kind
    ]
    info = {
        "name": name,
        "task_id": {"value": name},
        "agent_id": offer["agent_id"],
        "resources": [*little, disk],
        "command": {"value": command},
    }
    return {"type": "LAUNCH", "launch": {"task_infos": [info]}}


def make(framework: Framework, name: str) -> str:
    """A persistent volume of 64 MB with a file in it, made by a task; returns its agent."""
    free = lambda disk: not disk.get("reservations") and disk["scalar"]["value"] >= 64  # noqa: E731
    offer, pool = take(framework, free)
    part = {key: value for key, value in pool.items() if key != "allocation_info"} | {"scalar": {"value": 64.0}}
    reservation = {"type": "DYNAMIC", "role": "test", "principal": "test", "labels": LABELS}
    reserved = {**part, "reservations": [reservation]}
    info = {"persistence": {"id": name, "principal": "test"}, "volume": {"mode": "RW", "container_path": "data"}}
    volume = {**reserved, "disk": {**reserved["disk"], **info}}
    framework.accept(
        offer,
        {"type": "RESERVE", "reserve": {"resources": [reserved]}},
        {"type": "CREATE", "create": {"volumes": [volume]}},
        task(offer, f"write-{name}", volume, f"echo {name} > data/file"),
    )
    framework.wait_for(f"write-{name}", "TASK_FINISHED")
    return str(offer["agent_id"]["value"])


def read(framework: Framework, name: str, run: str) -> Json:
    """The volume's disk as it is offered, once a task has found in it what the first one wrote."""
    offer, disk = take(framework, lambda disk: persistence_of(disk) == name)
    framework.accept(offer, task(offer, run, disk, f"grep -qx {name} data/file"))
    framework.wait_for(run, "TASK_FINISHED")
    return disk


def totals(polly: Polly, agents: LocalCluster) -> dict[str, set[str]]:
    """What every agent says that our provider has, leases left out."""
    found = {}
    for agent in agents.agents:
        answer = httpx.post(
            f"http://{agent.endpoint}/api/v1", json={"type": "GET_RESOURCE_PROVIDERS"}, trust_env=False, timeout=10
        ).json()
        # A provider that is just coming back is not there yet, or has not said what it has.
        for provider in answer["get_resource_providers"].get("resource_providers", []):
            resources = [normalise(resource) for resource in provider.get("total_resources", [])]
            identity = provider["resource_provider_info"]["id"]["value"]
            found[f"{agent.endpoint} {identity}"] = {
                # The order of labels means nothing to Mesos; owner_of sorts them.
                canonical({**resource, "reservations": owner_of(resource)})
                for resource in add(resources, [])
                if resource.get("reservations")
            }
    return found


def ledger_command(polly: Polly, *words: str) -> Any:
    return json.loads(polly.call("ledger", *words, "--config", str(polly.configuration), "--format", "json"))


def lose(polly: Polly) -> None:
    for file in polly.directory.glob("ledger.db*"):
        file.unlink()


def test_a_ledger_that_is_lost_is_rebuilt_and_the_framework_has_its_volume_and_data(
    two: LocalCluster, polly: Polly, framework: Framework
) -> None:
    agent = make(framework, "db")
    wait_until(lambda: len(found := totals(polly, two)) == len(two.agents) and any(found.values()))
    before, framework_id = totals(polly, two), polly.get("/health")["framework_id"]
    polly.kill()
    lose(polly)
    rebuilt = ledger_command(polly, "rebuild")
    (volume,) = rebuilt["volumes"]
    assert (volume["said_by"], volume["state"], volume["agent"]) == ("agent", "ready", agent)
    assert rebuilt["framework_id"] == framework_id
    assert ledger_command(polly, "check") == []
    polly.start()
    polly.connected(2)
    read(framework, "db", "again")
    wait_until(lambda: totals(polly, two) == before)
    assert polly.get("/health")["framework_id"] == framework_id
    assert all(node.alive() for node in two.agents)


def test_a_task_that_runs_while_the_ledger_is_lost_keeps_its_volume(
    two: LocalCluster, polly: Polly, framework: Framework
) -> None:
    make(framework, "db")
    offer, disk = take(framework, lambda disk: persistence_of(disk) == "db")
    framework.accept(
        offer, task(offer, "long", disk, "while ! test -e data/stop; do echo x >> data/log; sleep 0.1; done")
    )
    framework.wait_for("long", "TASK_RUNNING")
    (held,) = polly.get("/v1/volumes")
    polly.kill()
    lose(polly)
    ledger_command(polly, "rebuild")
    polly.start()
    polly.connected(2)

    def adopted() -> bool:
        (volume,) = polly.get("/v1/volumes")
        publication = volume["publication"]
        return bool(publication and publication["generation"] == held["publication"]["generation"])

    wait_until(adopted)
    assert [status["state"] for status in framework.updates("long")][-1] == "TASK_RUNNING"
    framework.kill({"task_id": {"value": "long"}, "agent_id": offer["agent_id"]})
    framework.wait_for("long", "TASK_KILLED")
    read(framework, "db", "after")


def test_a_copy_that_is_older_than_a_volume_is_restored_and_the_volume_is_found_again(
    two: LocalCluster, polly: Polly, framework: Framework
) -> None:
    make(framework, "first")
    copy = polly.directory / "copy"
    taken = ledger_command(polly, "backup", str(copy))
    assert taken["volumes"] == {"ready": 1}
    make(framework, "second")
    before = totals(polly, two)
    polly.kill()
    restored = ledger_command(polly, "restore", str(copy))
    assert [(one["kind"], one["persistence_id"]) for one in restored["differences"]] == [("adopted", "second")]
    assert Path(restored["kept"]).exists()
    polly.start()
    polly.connected(2)
    read(framework, "first", "first-again")
    read(framework, "second", "second-again")
    known = {disk for held in before.values() for disk in held}
    wait_until(lambda: known <= {disk for held in totals(polly, two).values() for disk in held})
    assert restored["epoch"] > taken["epoch"]
