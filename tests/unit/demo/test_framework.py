"""The example framework learns from offers alone: scripted offers in, calls out."""

from __future__ import annotations

import argparse
import itertools
from typing import Any

import pytest

from polly_mesos.demo import stateful_framework
from polly_mesos.demo.stateful_framework import Instance, StatefulFramework

Json = dict[str, Any]
PROVIDER = {"value": "provider-1"}


class ScriptedMaster:
    """Notes the calls; time passes only when a test says so."""

    def __init__(self, address: str, info: Json) -> None:
        self.info = info
        self.calls: list[tuple[str, Json]] = []

    def call(self, kind: str, body: Json | None = None) -> None:
        self.calls.append((kind, body or {}))


class Framework(StatefulFramework):
    """The framework with what a test asks of it."""

    master: Any

    def operations(self) -> list[Json]:
        """Those of the last ACCEPT."""
        kind, body = self.master.calls[-1]
        assert kind == "ACCEPT"
        return list(body["operations"])

    def kinds(self) -> list[str]:
        return [operation["type"] for operation in self.operations()]

    @property
    def reserved_instance(self) -> Instance:
        assert self.instance is not None
        return self.instance


@pytest.fixture
def framework(monkeypatch: pytest.MonkeyPatch) -> Framework:
    monkeypatch.setattr(stateful_framework, "Master", ScriptedMaster)
    options = {"master": "127.0.0.1:5050", "profile": "gold", "size": 256, "role": "marathon", "cpus": 0.1, "mem": 64}
    made = Framework(argparse.Namespace(**options, runs=2, reservation_timeout=20.0, json=True))
    made.framework_id = "framework-1"
    return made


numbers = itertools.count()


def offer(*resources: Json) -> Json:
    address = {"ip": "127.0.0.1", "hostname": "localhost", "port": 5051}
    identity = {"id": {"value": f"offer-{next(numbers)}"}, "agent_id": {"value": "agent-1"}, "hostname": "localhost"}
    return {**identity, "url": {"address": address}, "resources": list(resources)}


def scalar(name: str, value: float) -> Json:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}, "allocation_info": {"role": "marathon"}}


def pool(size: float, profile: str = "gold") -> Json:
    source = {"type": "PATH", "path": {"root": "/volumes/gold"}, "profile": profile}
    return {**scalar("disk", size), "provider_id": PROVIDER, "disk": {"source": source}}


WHOLE = (scalar("cpus", 4), scalar("mem", 4096), scalar("disk", 10240), pool(4096))


def granted(framework: Framework) -> list[Json]:
    """What the last ACCEPT reserved and created, as the next offer shows it."""
    agents, _, created = framework.operations()
    held = agents["reserve"]["resources"] + created["create"]["volumes"]
    return [{**resource, "allocation_info": {"role": "marathon"}} for resource in held]


def test_it_reserves_per_provider_and_creates_as_marathon_does(framework: Framework) -> None:
    framework.consider(offer(*WHOLE))
    assert framework.kinds() == ["RESERVE", "RESERVE", "CREATE"]
    of_agent, of_provider, create = framework.operations()
    assert [resource["name"] for resource in of_agent["reserve"]["resources"]] == ["cpus", "mem"]
    assert [resource["provider_id"] for resource in of_provider["reserve"]["resources"]] == [PROVIDER]
    volume = create["create"]["volumes"][0]
    assert volume["scalar"] == {"value": 256.0}
    assert volume["role"] == "marathon"
    labels = {label["key"]: label["value"] for label in volume["reservation"]["labels"]["labels"]}
    assert labels == {"marathon_framework_id": "framework-1", "marathon_task_id": framework.reserved_instance.id}
    assert volume["disk"]["persistence"]["id"].startswith("demo#data#")
    assert "id" not in create, "Marathon gives its operations no ids"
    capabilities = {capability["type"] for capability in framework.master.info["capabilities"]}
    assert capabilities == {"MULTI_ROLE", "PARTITION_AWARE", "REGION_AWARE", "TASK_KILLING_STATE"}


@pytest.mark.parametrize(
    "resources",
    [
        pytest.param((*WHOLE[:3], pool(255)), id="pool too small"),
        pytest.param((*WHOLE[:3], pool(4096, "silver")), id="another profile"),
        pytest.param((scalar("cpus", 4), pool(4096)), id="no memory"),
        pytest.param(WHOLE[:3], id="no pool"),
    ],
)
def test_an_offer_that_does_not_do_is_declined(framework: Framework, resources: tuple[Json, ...]) -> None:
    framework.consider(offer(*resources))
    assert [kind for kind, _ in framework.master.calls] == ["DECLINE"]


def test_it_launches_with_the_whole_reserved_set(framework: Framework) -> None:
    framework.consider(offer(*WHOLE))
    held = granted(framework)
    framework.consider(offer(pool(3840), *held))
    assert framework.kinds() == ["LAUNCH"]
    assert framework.operations()[0]["launch"]["task_infos"][0]["resources"] == held


def test_a_task_that_could_not_start_is_launched_again(framework: Framework) -> None:
    framework.consider(offer(*WHOLE))
    held = granted(framework)
    framework.consider(offer(*held))
    lost = {"task_id": {"value": framework.task}, "agent_id": {"value": "agent-1"}, "state": "TASK_DROPPED"}
    assert framework.update(lost)
    assert framework.master.calls[-1] == ("REVIVE", {})
    framework.consider(offer(*held))
    assert framework.kinds() == ["LAUNCH"]


def test_what_did_not_come_in_time_is_given_up_and_freed_when_it_comes(
    framework: Framework, monkeypatch: pytest.MonkeyPatch
) -> None:
    framework.consider(offer(*WHOLE))
    first, late = framework.reserved_instance.id, granted(framework)
    later = framework.reserved_instance.deadline + 1
    monkeypatch.setattr(stateful_framework.time, "monotonic", lambda: later)
    framework.check_time()
    framework.consider(offer(*WHOLE))
    assert framework.reserved_instance.id != first
    framework.consider(offer(*late))
    assert framework.kinds() == ["DESTROY", "UNRESERVE", "UNRESERVE"]
    destroy, *unreserve = framework.operations()
    assert destroy["destroy"]["volumes"] == [late[2]]
    freed = [resource for operation in unreserve for resource in operation["unreserve"]["resources"]]
    assert [resource["name"] for resource in freed] == ["cpus", "mem", "disk"]
    assert all("persistence" not in resource.get("disk", {}) for resource in freed)


def test_a_reservation_without_its_volume_is_waited_for_then_freed(
    framework: Framework, monkeypatch: pytest.MonkeyPatch
) -> None:
    framework.consider(offer(*WHOLE))
    reserved = framework.operations()[1]["reserve"]["resources"]
    framework.consider(offer(*WHOLE[:3], *reserved))
    assert framework.master.calls[-1][0] == "DECLINE"
    later = framework.reserved_instance.deadline + 1
    monkeypatch.setattr(stateful_framework.time, "monotonic", lambda: later)
    framework.check_time()
    framework.consider(offer(*reserved))
    assert framework.kinds() == ["UNRESERVE"]


def test_a_volume_with_data_is_never_given_up(framework: Framework, monkeypatch: pytest.MonkeyPatch) -> None:
    framework.consider(offer(*WHOLE))
    held = granted(framework)
    framework.consider(offer(*held))
    status = {"task_id": {"value": framework.task}, "agent_id": {"value": "agent-1"}}
    framework.update({**status, "state": "TASK_RUNNING"})
    framework.update({**status, "state": "TASK_FAILED"})
    much_later = framework.reserved_instance.deadline + 3600
    monkeypatch.setattr(stateful_framework.time, "monotonic", lambda: much_later)
    framework.check_time()
    framework.consider(offer(*held))
    assert framework.kinds() == ["LAUNCH"]


def test_missing_lines_are_lost_data(framework: Framework, monkeypatch: pytest.MonkeyPatch) -> None:
    framework.written = ["written by the first"]
    monkeypatch.setattr(framework, "printed", lambda task: [f"written by {task}"])
    assert framework.check_data("the-second") is False
    framework.written = ["written by the first"]
    monkeypatch.setattr(framework, "printed", lambda task: ["written by the first", f"written by {task}"])
    assert framework.check_data("the-second") is True


def test_one_clean_offer_does_not_prove_that_all_is_free(framework: Framework, monkeypatch: pytest.MonkeyPatch) -> None:
    framework.consider(offer(*WHOLE))
    held = granted(framework)
    framework.written = ["written by a", "written by b"]
    clock = [5000.0]
    monkeypatch.setattr(stateful_framework.time, "monotonic", lambda: clock[0])
    framework.consider(offer(*WHOLE))
    clock[0] += 1.5
    framework.consider(offer(*held))
    assert framework.kinds() == ["DESTROY", "UNRESERVE", "UNRESERVE"], "it was refused, and is asked for again"
    framework.consider(offer(*WHOLE))
    assert not framework.clean
    clock[0] += 2.5
    framework.consider(offer(*WHOLE))
    assert framework.clean == {"agent-1"}
