"""Agents that come back under another id, die, are emptied and forgotten; volumes that move between agents."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from polly_mesos.errors import (
    AlreadyExists,
    Conflict,
    InvalidRequest,
    StaleGeneration,
    UnknownAgent,
    UnknownVolume,
    VolumeInUse,
    WrongState,
)
from polly_mesos.ledger import CreateVolume, DestroyVolume
from polly_mesos.ledger.check import check
from polly_mesos.model import (
    MB,
    AgentState,
    HostIdentity,
    Provider,
    PublicationState,
    Reclaim,
    Severity,
    Volume,
    VolumeState,
)

if TYPE_CHECKING:
    from tests.unit.ledger.conftest import Desk

GB = 1024 * MB
OWNER = '[{"labels":{"labels":[{"key":"app","value":"db"}]},"role":"marathon","type":"DYNAMIC"}]'


@pytest.fixture
def volume(desk: Desk) -> Volume:
    """On a1, ready and published; a1 has a lease of 2 GB and a reservation of 6 GB too."""
    desk.lease(10 * GB)
    desk.reserve(8 * GB)
    made = desk.create(2 * GB)
    desk.ledger.volume_created(made.id, "vol-1")
    desk.ledger.publish(made.id, "a1", "host1")
    desk.ledger.attached(made.id, 1, {"device": "/dev/loop1"})
    return desk.ledger.volume(made.id)


def add_successor(desk: Desk, host: str = "host1") -> None:
    """Agent a3, which is where a1 is."""
    first = desk.ledger.agent("a1")
    desk.ledger.put_agent(replace(first, id="a3", identities={"disks": HostIdentity(host)}))


def detach(desk: Desk, volume: Volume) -> None:
    desk.ledger.unpublished(volume.id, 1)
    desk.ledger.detached(volume.id, 1)


def test_an_agents_state_changes_alone(desk: Desk) -> None:
    before = desk.ledger.agent("a1")
    for _ in range(2):
        desk.ledger.set_agent_state("a1", AgentState.UNREACHABLE)
    assert desk.ledger.agent("a1") == replace(before, state=AgentState.UNREACHABLE)
    assert desk.ledger.agent("a2").state is AgentState.CONNECTED
    with pytest.raises(UnknownAgent, match="a9"):
        desk.ledger.set_agent_state("a9", AgentState.LOST)


def test_a_host_that_comes_back_under_another_id_has_all_that_it_had(desk: Desk, volume: Volume) -> None:
    ledger = desk.ledger
    add_successor(desk)
    desk.lease(1 * GB, "a3")
    gone = desk.create(3 * GB, "gone")
    desk.admit(DestroyVolume(gone.id, Reclaim.RETAIN))
    ledger.set_provider(Provider("a1", "provider-1", "org.polly.mesos", "test"))
    begun = ledger.begin("volume.attach", volume.id, {}, "a1")
    waiting = ledger.unacknowledged("a1")
    before, published = ledger.balance(), ledger.publication(volume.id)
    assert published
    for _ in range(2):
        ledger.replace_agent("a1", "a3")
    assert ledger.balance() == before
    assert set(ledger.agents()) == {"a2", "a3"}
    assert desk.leased("a3") == 3 * GB
    assert desk.reserved(OWNER, "a3") == (6 * GB, 3 * GB)
    assert replace(ledger.volume(volume.id), agent="a1", updated=volume.updated) == volume
    assert ledger.volume(gone.id).agent == "a3"
    handed_over = ledger.publication(volume.id)
    assert handed_over
    assert replace(handed_over, agent="a1", updated=published.updated) == published
    assert ledger.provider("a1") is None
    assert ledger.unacknowledged("a1") == ledger.unacknowledged("a3") == []
    assert waiting
    assert all(ledger.operation(operation.id).acknowledged for operation in waiting)
    assert ledger.operation(begun.id).agent == "a3"
    (event,) = ledger.events()
    assert (event.kind, event.subject, event.detail) == ("agent.replaced", "a3", {"old": "a1"})
    assert check(ledger) == []


def test_only_the_same_host_replaces_an_agent(desk: Desk, volume: Volume) -> None:
    with pytest.raises(Conflict, match=r"a1.example:5051, and a2 at a2.example:5051"):
        desk.ledger.replace_agent("a1", "a2")
    add_successor(desk, "host9")
    with pytest.raises(Conflict, match=f"volume {volume.id} is on host host1, and agent a3 is host9"):
        desk.ledger.replace_agent("a1", "a3")
    with pytest.raises(UnknownAgent, match="a9"):
        desk.ledger.replace_agent("a1", "a9")
    with pytest.raises(InvalidRequest, match="itself"):
        desk.ledger.replace_agent("a1", "a1")
    assert desk.ledger.volume(volume.id) == volume
    assert desk.ledger.events() == []


def test_a_replacement_that_would_give_two_volumes_one_path_changes_nothing(desk: Desk, volume: Volume) -> None:
    add_successor(desk)
    desk.lease(2 * GB, "a3")
    desk.reserve(1 * GB, agent="a3")
    namesake = desk.create(1 * GB, "data", agent="a3")
    with pytest.raises(AlreadyExists, match=namesake.id):
        desk.ledger.replace_agent("a1", "a3")
    assert desk.ledger.volume(volume.id) == volume
    assert desk.leased("a1") == 2 * GB
    assert "a1" in desk.ledger.agents()


def test_a_fenced_hosts_volumes_may_be_taken_by_force(desk: Desk, volume: Volume) -> None:
    ledger = desk.ledger
    elsewhere = replace(desk.wanted(1 * GB, "elsewhere"), service="tapes")
    ledger.admit(desk.operation(), CreateVolume(elsewhere))
    ledger.volume_created(elsewhere.id, "tape-1")
    ledger.publish(elsewhere.id, "a1", "host1")
    for _ in range(2):
        assert ledger.fence("a1", "disks", "instance i-1 is stopped") == [volume.id]
    fenced, other = ledger.publication(volume.id), ledger.publication(elsewhere.id)
    assert fenced
    assert other
    assert (fenced.state, fenced.fenced, fenced.generation) == (PublicationState.DETACHING, True, 1)
    assert (other.state, other.fenced) == (PublicationState.ATTACHING, False)
    (event,) = ledger.events()
    assert (event.kind, event.subject, event.severity) == ("agent.fenced", "a1", Severity.WARNING)
    assert "instance i-1 is stopped" in event.message
    assert event.detail["volumes"] == [volume.id]
    with pytest.raises(WrongState, match="detaching"):
        ledger.published(volume.id, 1, "/dev/loop1", "/target")
    ledger.detached(volume.id, 1)
    assert ledger.fence("a1", "disks", "again") == []
    with pytest.raises(UnknownAgent, match="a9"):
        ledger.fence("a9", "disks", "")


@pytest.mark.parametrize("state", [AgentState.LOST, AgentState.FENCED])
def test_what_a_dead_agent_had_of_the_pools_goes_back_to_them(desk: Desk, volume: Volume, state: AgentState) -> None:
    desk.lease(1 * GB, "a2")
    desk.ledger.set_agent_state("a1", state)
    for _ in range(2):
        desk.ledger.dissolve("a1")
    assert (desk.leased("a1"), desk.reserved(), desk.leased("a2")) == (0, (0, 0), 1 * GB)
    assert desk.free() == (100 - 2 - 1) * GB
    assert desk.ledger.volume(volume.id) == volume
    assert [finding.code for finding in check(desk.ledger)] == ["agent.dead-with-volumes"]


@pytest.mark.parametrize("state", [AgentState.CHOSEN, AgentState.CONNECTED, AgentState.UNREACHABLE])
def test_an_agent_that_may_come_back_keeps_what_it_has(desk: Desk, volume: Volume, state: AgentState) -> None:
    desk.ledger.set_agent_state("a1", state)
    for give_up in (desk.ledger.dissolve, desk.ledger.forget_agent):
        with pytest.raises(WrongState, match=f"agent a1 is {state}"):
            give_up("a1")
    assert (desk.leased(), desk.ledger.volume(volume.id)) == (2 * GB, volume)


def test_a_volume_moves_to_another_agent_as_it_is(desk: Desk, volume: Volume) -> None:
    ledger = desk.ledger
    heard: list[frozenset[str]] = []
    detach(desk, volume)
    volume, before = ledger.volume(volume.id), ledger.balance()
    ledger.on_change(heard.append)
    for _ in range(2):
        moved = ledger.move_volume(volume.id, "a2")
        assert replace(moved, agent="a1", updated=volume.updated) == volume
    assert heard == [frozenset({"a1", "a2"})]
    assert ledger.balance() == before
    assert ledger.find_volume("a2", OWNER, "data") == moved
    assert ledger.publish(volume.id, "a2", "host2").generation == 2
    with pytest.raises(StaleGeneration):
        ledger.published(volume.id, 1, "/dev/loop1", "/target")
    (event,) = ledger.events()
    assert (event.kind, event.subject, event.detail["from"], event.detail["to"]) == (
        "volume.moved",
        volume.id,
        "a1",
        "a2",
    )


def test_a_destroyed_volume_that_moved_leaves_its_space_where_it_is(desk: Desk, volume: Volume) -> None:
    detach(desk, volume)
    desk.ledger.move_volume(volume.id, "a2")
    desk.admit(DestroyVolume(volume.id, Reclaim.DELETE), agent="a2")
    desk.ledger.volume_deleted(volume.id)
    assert desk.reserved(OWNER, "a2") == (2 * GB, 2 * GB)
    assert desk.reserved(OWNER, "a1") == (6 * GB, 6 * GB)


def test_a_parked_volume_is_offered_by_nobody_until_it_moves_on(desk: Desk, volume: Volume) -> None:
    ledger = desk.ledger
    detach(desk, volume)
    for _ in range(2):
        assert ledger.move_volume(volume.id, "").agent == ""
    assert ledger.volumes(agent="a1") == []
    assert [found.id for found in ledger.volumes(agent="")] == [volume.id]
    assert ledger.move_volume(volume.id, "a2").agent == "a2"
    assert [event.kind for event in ledger.events()] == ["volume.parked", "volume.moved"]
    assert check(ledger) == []


def test_a_volume_that_a_host_has_stays(desk: Desk, volume: Volume) -> None:
    for to in ("a2", ""):
        with pytest.raises(VolumeInUse, match="on host host1 of agent a1 is attached"):
            desk.ledger.move_volume(volume.id, to)
    desk.ledger.fence("a1", "disks", "stopped")
    with pytest.raises(VolumeInUse, match="detaching"):
        desk.ledger.move_volume(volume.id, "a2")
    assert desk.ledger.volume(volume.id) == volume


def test_a_volume_moves_only_where_it_can_be_offered(desk: Desk, volume: Volume) -> None:
    detach(desk, volume)
    with pytest.raises(UnknownAgent, match="a9"):
        desk.ledger.move_volume(volume.id, "a9")
    with pytest.raises(UnknownVolume, match="v9"):
        desk.ledger.move_volume("v9", "a2")
    desk.ledger.set_agent_state("a2", AgentState.LOST)
    with pytest.raises(WrongState, match="agent a2 is lost"):
        desk.ledger.move_volume(volume.id, "a2")
    desk.ledger.set_agent_state("a2", AgentState.CONNECTED)
    desk.lease(2 * GB, "a2")
    desk.reserve(1 * GB, agent="a2")
    namesake = desk.create(1 * GB, "data", agent="a2")
    with pytest.raises(AlreadyExists, match=namesake.id):
        desk.ledger.move_volume(volume.id, "a2")
    desk.admit(DestroyVolume(volume.id, Reclaim.RETAIN))
    with pytest.raises(WrongState, match="released"):
        desk.ledger.move_volume(volume.id, "a2")


def test_an_agent_is_forgotten_when_it_has_nothing_left(desk: Desk, volume: Volume) -> None:
    ledger = desk.ledger
    retained = desk.create(1 * GB, "retained")
    desk.admit(DestroyVolume(retained.id, Reclaim.RETAIN))
    waiting = ledger.unacknowledged("a1")
    ledger.set_provider(Provider("a1", "provider-1", "org.polly.mesos", "test"))
    ledger.set_agent_state("a1", AgentState.LOST)
    with pytest.raises(VolumeInUse, match=volume.id):
        ledger.forget_agent("a1")
    detach(desk, volume)
    with pytest.raises(WrongState, match="an agent with volumes is not forgotten"):
        ledger.forget_agent("a1")
    ledger.move_volume(volume.id, "")
    with pytest.raises(WrongState, match="lease or reservations"):
        ledger.forget_agent("a1")
    ledger.dissolve("a1")
    for _ in range(2):
        ledger.forget_agent("a1")
    assert set(ledger.agents()) == {"a2"}
    assert (ledger.volume(retained.id).agent, ledger.volume(retained.id).state) == ("", VolumeState.RELEASED)
    assert waiting
    assert all(ledger.operation(operation.id).acknowledged for operation in waiting)
    ledger.delete_volume(retained.id)
    ledger.volume_deleted(retained.id)
    assert desk.free() == 98 * GB
    assert check(ledger) == []
