"""Volumes that operators make ahead of their use, in a profile of several zones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from polly_mesos.config import load
from polly_mesos.errors import ConfigurationError
from polly_mesos.model import MB, Agent, AgentState, HostIdentity, Pool
from polly_mesos.scheduler.half import SchedulerHalf
from tests.unit.api.test_api import bearer, configuration, served


@pytest.fixture
def half(tmp_path: Path) -> Iterator[SchedulerHalf]:
    file = configuration(tmp_path)
    file.write_text(file.read_text().replace("minimum_size", "zones: [east, west], minimum_size"))
    made = SchedulerHalf(load(file))
    made.start()
    for profile in made.profiles.values():  # this driver has one zone at most
        made.ledger.set_pool(Pool(profile.pool, profile.name, profile.service, profile.zone, 1024 * MB))
    yield made
    made.stop()


@pytest.fixture
def client(half: SchedulerHalf) -> Iterator[httpx.Client]:
    with served(half) as opened:
        yield opened


def _agent(half: SchedulerHalf, name: str, zone: str, **more: Any) -> None:
    identity = HostIdentity(f"127.0.0.1:{name}", zone, **more)
    agent = Agent(name, f"host-{name}", f"127.0.0.1:{name}", AgentState.CONNECTED, identities={"local": identity})
    half.ledger.put_agent(agent)


def _make(client: httpx.Client, half: SchedulerHalf, **more: str) -> httpx.Response:
    body = {"profile": "gold", "size": 64 * MB, "role": "marathon", **more}
    return client.post("/v1/volumes", json=body, headers=bearer(half))


def _place(answer: httpx.Response, half: SchedulerHalf) -> tuple[str, str]:
    assert answer.status_code == 201, answer.text
    volume = half.ledger.volume(answer.json()["id"])
    return volume.pool, volume.agent


def test_a_volume_is_made_in_the_zone_of_its_agent(client: httpx.Client, half: SchedulerHalf) -> None:
    _agent(half, "1", "west")
    assert _place(_make(client, half), half) == ("gold.west", "1")
    _agent(half, "2", "east")
    assert _place(_make(client, half), half) == ("gold.east", "2")  # it has fewer volumes
    assert _place(_make(client, half, agent="1"), half) == ("gold.west", "1")


def test_an_agent_of_another_zone_is_refused(client: httpx.Client, half: SchedulerHalf) -> None:
    _agent(half, "1", "north")
    answer = _make(client, half, agent="1")
    assert (answer.status_code, answer.json()["field"]) == (400, "agent")
    assert "another zone" in answer.json()["message"]
    assert answer.json()["remedy"] == "name an agent in east, west"
    assert not half.ledger.volumes()


def test_where_no_agent_can_have_it_the_reasons_are_told(client: httpx.Client, half: SchedulerHalf) -> None:
    _agent(half, "1", "north")
    _agent(half, "2", "west", attach_limit=0)
    answer = _make(client, half)
    assert answer.status_code == 404
    assert "no attach slot free" in answer.json()["message"]
    assert "not in zone east" in answer.json()["message"]
    assert not half.ledger.volumes()


def test_a_zone_in_which_volumes_are_is_not_forgotten(client: httpx.Client, half: SchedulerHalf) -> None:
    _agent(half, "1", "west")
    _place(_make(client, half), half)
    half.stop()
    file = half.configuration.path
    file.write_text(file.read_text().replace("[east, west]", "[east]"))
    with pytest.raises(ConfigurationError, match="profile 'gold' is not configured for zone west"):
        SchedulerHalf(load(file))
