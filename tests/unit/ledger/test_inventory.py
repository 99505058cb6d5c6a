"""Framework, agents and providers, and who is told of changes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from polly_mesos.errors import InsufficientCapacity, UnknownAgent
from polly_mesos.ledger import Ledger
from polly_mesos.model import Agent, AgentState, HostIdentity, Provider

if TYPE_CHECKING:
    from tests.unit.ledger.conftest import Desk

AGENT = Agent(
    id="a1",
    hostname="host1.example",
    endpoint="host1.example:5051",
    state=AgentState.CONNECTED,
    attributes={"rack": "r1"},
    identities={"disks": HostIdentity("i-1", "zone-a", 28, {"iqn": "x"})},
    problems={"nfs": "mount.nfs is missing"},
    volume_root="/var/lib/polly/volumes",
    token_hash="ab12",
    standalone=True,
    seen=12.5,
)


def test_an_agent_comes_back_as_it_was_put(ledger: Ledger) -> None:
    ledger.put_agent(AGENT)
    assert ledger.agent("a1") == AGENT
    changed = replace(AGENT, state=AgentState.LOST, token_hash="cd34", identities={})
    ledger.put_agent(changed)
    assert ledger.agents() == {"a1": changed}


def test_an_agent_is_known_by_its_token_and_by_no_other(ledger: Ledger) -> None:
    ledger.put_agent(AGENT)
    ledger.put_agent(replace(AGENT, id="a2", token_hash=""))
    assert ledger.agent_by_token("ab12") == AGENT
    assert ledger.agent_by_token("cd34") is None
    assert ledger.agent_by_token("") is None


def test_an_unknown_agent_is_named(ledger: Ledger) -> None:
    with pytest.raises(UnknownAgent, match="'a9'"):
        ledger.agent("a9")
    with pytest.raises(UnknownAgent, match="'a9'"):
        ledger.set_provider(Provider("a9", "p1", "org.polly.mesos", "test"))


def test_a_provider_is_kept_replaced_and_forgotten(ledger: Ledger) -> None:
    ledger.put_agent(AGENT)
    assert ledger.provider("a1") is None
    for name in ("p1", "p2"):
        ledger.set_provider(Provider("a1", name, "org.polly.mesos", "test"))
        assert ledger.provider("a1") == Provider("a1", name, "org.polly.mesos", "test")
    ledger.forget_provider("a1")
    assert ledger.provider("a1") is None


def test_listeners_hear_which_agents_are_concerned_after_the_commit(desk: Desk) -> None:
    heard: list[tuple[frozenset[str], int]] = []
    desk.ledger.on_change(lambda agents: heard.append((agents, desk.leased())))
    desk.lease(1 << 30)
    assert heard == [(frozenset({"a1"}), 1 << 30)]
    volume = desk.ledger.volume
    heard.clear()
    reserved = desk.reserve(1 << 20)
    made = desk.create(1 << 20)
    desk.ledger.acknowledge(reserved.id)
    desk.ledger.volume_created(made.id, "vol-1")
    desk.ledger.publish(made.id, "a1", "host1")
    assert volume(made.id).generation == 1
    assert [agents for agents, _ in heard] == [frozenset({"a1"})] * 5


def test_listeners_hear_nothing_of_what_changes_no_assignment(desk: Desk) -> None:
    heard: list[frozenset[str]] = []
    desk.ledger.on_change(heard.append)
    known = desk.ledger.agent("a1")
    desk.ledger.put_agent(replace(known, seen=99.0, state=AgentState.LOST))
    desk.ledger.set_framework_id("framework-1")
    desk.ledger.finish(desk.ledger.begin("volume.create", "v1", {}, "a1").id, {})
    with pytest.raises(InsufficientCapacity):
        desk.reserve(1 << 20)
    assert heard == []
    desk.ledger.put_agent(replace(known, volume_root="/elsewhere"))
    assert heard == [frozenset({"a1"})]


def test_what_a_thread_reads_in_a_snapshot_is_of_one_moment(desk: Desk) -> None:
    with desk.ledger.snapshot():
        assert desk.ledger.leases() == []
        desk.ledger.set_framework_id("framework-1")
        assert desk.ledger.framework_id() == ""
    assert desk.ledger.framework_id() == "framework-1"
