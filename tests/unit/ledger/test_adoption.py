"""Volumes and publications that exist although their owner or the ledger had lost them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from polly_mesos.errors import (
    AlreadyExists,
    Forbidden,
    InsufficientCapacity,
    InvalidRequest,
    PollyError,
    StaleGeneration,
    UnknownAgent,
    UnknownPool,
    UnknownVolume,
    VolumeInUse,
    WrongState,
)
from polly_mesos.ledger import AdoptVolume, DestroyVolume
from polly_mesos.ledger.check import check
from polly_mesos.model import (
    MB,
    AgentState,
    FormatState,
    OperationState,
    PublicationState,
    Reclaim,
    Severity,
    Volume,
    VolumeKind,
    VolumeState,
)

if TYPE_CHECKING:
    from tests.unit.ledger.conftest import Desk

GB = 1024 * MB
OWNER = '[{"labels":{"labels":[{"key":"app","value":"db"}]},"role":"marathon","type":"DYNAMIC"}]'
NEW_OWNER = '[{"labels":{"labels":[{"key":"app","value":"db2"}]},"role":"marathon","type":"DYNAMIC"}]'
OTHER = '[{"role":"other","type":"DYNAMIC"}]'


@pytest.fixture
def abandoned(desk: Desk) -> Volume:
    """A volume with data on a1, which is lost; a2 has a reservation of the same size for its role."""
    desk.lease(10 * GB)
    desk.reserve(2 * GB)
    made = desk.create(2 * GB, "app#data#1")
    use(desk, made)
    desk.ledger.set_agent_state("a1", AgentState.LOST)
    desk.ledger.dissolve("a1")
    desk.lease(10 * GB, "a2")
    desk.reserve(3 * GB, NEW_OWNER, agent="a2")
    return desk.ledger.volume(made.id)


def use(desk: Desk, volume: Volume) -> None:
    desk.ledger.volume_created(volume.id, f"vol-of-{volume.id}")
    desk.ledger.publish(volume.id, volume.agent, "host1")
    desk.ledger.attached(volume.id, 1, {})
    desk.ledger.formatting(volume.id, 1)
    desk.ledger.formatted(volume.id, 1)
    desk.ledger.unpublished(volume.id, 1)
    desk.ledger.detached(volume.id, 1)


def adoption(volume: Volume, **fields: Any) -> AdoptVolume:
    names = {"agent": "a2", "owner": NEW_OWNER, "persistence_id": "app#data#2", "framework": "f2"} | fields
    return AdoptVolume(volume.id, persistence={"persistence": {"id": names["persistence_id"]}}, **names)


def test_an_abandoned_volume_goes_to_who_asks_for_its_like_and_keeps_its_data(desk: Desk, abandoned: Volume) -> None:
    ledger = desk.ledger
    free = desk.free()
    asked = desk.operation(agent="a2")
    for _ in range(2):
        admitted = ledger.admit(asked, adoption(abandoned))
    assert (admitted.state, admitted.outcome["volumes"]) == (OperationState.DONE, [abandoned.id])
    adopted = ledger.volume(abandoned.id)
    assert (adopted.agent, adopted.owner, adopted.persistence_id, adopted.framework) == (
        "a2",
        NEW_OWNER,
        "app#data#2",
        "f2",
    )
    assert adopted.persistence == {"persistence": {"id": "app#data#2"}}
    for what in ("state", "format_state", "platform_id", "size", "generation", "created"):
        assert getattr(adopted, what) == getattr(abandoned, what)
    assert desk.reserved(NEW_OWNER, "a2") == (1 * GB, 1 * GB)
    assert desk.free() == free + 2 * GB
    (event,) = ledger.events()
    assert (event.kind, event.subject, event.severity) == ("volume.adopted", abandoned.id, Severity.WARNING)
    assert "app#data#1" in event.message
    assert "app#data#2" in event.message
    assert check(ledger) == []


def test_a_parked_volume_can_be_adopted_too(desk: Desk, abandoned: Volume) -> None:
    desk.ledger.set_agent_state("a1", AgentState.CONNECTED)
    desk.ledger.move_volume(abandoned.id, "")
    desk.admit(adoption(abandoned), agent="a2")
    assert desk.ledger.volume(abandoned.id).agent == "a2"


def test_an_adopted_volume_destroyed_gives_its_reservation_the_space_back(desk: Desk, abandoned: Volume) -> None:
    desk.admit(adoption(abandoned), agent="a2")
    desk.admit(DestroyVolume(abandoned.id, Reclaim.DELETE), agent="a2")
    assert desk.reserved(NEW_OWNER, "a2") == (3 * GB, 1 * GB)
    desk.ledger.volume_deleted(abandoned.id)
    assert desk.reserved(NEW_OWNER, "a2") == (3 * GB, 3 * GB)


@pytest.mark.parametrize("state", [AgentState.CHOSEN, AgentState.CONNECTED, AgentState.UNREACHABLE])
def test_a_volume_that_an_agent_still_offers_is_not_abandoned(desk: Desk, abandoned: Volume, state: AgentState) -> None:
    desk.ledger.set_agent_state("a1", state)
    with pytest.raises(WrongState, match="offered by agent a1"):
        desk.admit(adoption(abandoned), agent="a2")
    assert (desk.ledger.volume(abandoned.id), desk.ledger.events()) == (abandoned, [])


def test_a_volume_that_a_host_may_still_write_to_is_not_adopted(desk: Desk, abandoned: Volume) -> None:
    desk.ledger.set_agent_state("a1", AgentState.CONNECTED)
    desk.ledger.publish(abandoned.id, "a1", "host1")
    desk.ledger.set_agent_state("a1", AgentState.LOST)
    with pytest.raises(VolumeInUse, match="host1"):
        desk.admit(adoption(abandoned), agent="a2")
    desk.ledger.fence("a1", "disks", "stopped")
    with pytest.raises(VolumeInUse, match="detaching"):
        desk.admit(adoption(abandoned), agent="a2")


@pytest.mark.parametrize("reclaim", Reclaim)
def test_a_volume_that_its_owner_destroyed_is_not_adopted(desk: Desk, abandoned: Volume, reclaim: Reclaim) -> None:
    desk.admit(DestroyVolume(abandoned.id, reclaim))
    with pytest.raises(WrongState, match="cannot be adopted"):
        desk.admit(adoption(abandoned), agent="a2")


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"owner": OTHER}, Forbidden, "belongs to role marathon, not to other"),
        ({"owner": ""}, InvalidRequest, "needs a reservation"),
        ({"persistence_id": ""}, InvalidRequest, "needs a persistence id"),
        ({"owner": OWNER}, InsufficientCapacity, "has 0 bytes"),
        ({"agent": "a1"}, InvalidRequest, "came through agent a2"),
    ],
)
def test_an_impossible_adoption_changes_nothing(
    desk: Desk, abandoned: Volume, fields: dict[str, str], kind: type[PollyError], words: str
) -> None:
    before = desk.ledger.balance()
    with pytest.raises(kind, match=words):
        desk.admit(adoption(abandoned, **fields), agent="a2")
    assert (desk.ledger.volume(abandoned.id), desk.ledger.balance()) == (abandoned, before)


def test_the_new_name_must_be_free(desk: Desk, abandoned: Volume) -> None:
    desk.create(1 * GB, "app#data#2", NEW_OWNER, agent="a2")
    with pytest.raises(AlreadyExists, match="app#data#2"):
        desk.admit(adoption(abandoned), agent="a2")


def found(**fields: Any) -> Volume:
    """A volume as a platform's tags tell of it."""
    given = {
        "id": "0b1e7a5c-0000-4000-a000-000000000001",
        "kind": VolumeKind.PATH,
        "size": 4 * GB,
        "state": VolumeState.READY,
        "agent": "a1",
        "owner": OWNER,
        "persistence_id": "data",
        "platform_id": "vol-9",
        "format_state": FormatState.FORMATTED,
        "generation": 7,
    } | fields
    return Volume(pool="gold", profile="gold", service="disks", **given)


@pytest.mark.parametrize("state", [VolumeState.READY, VolumeState.RELEASED])
def test_a_volume_that_only_its_platform_knows_is_kept_as_it_is(desk: Desk, state: VolumeState) -> None:
    ledger = desk.ledger
    desk.lease(98 * GB)
    wanted = found(state=state)
    adopted = ledger.adopt_volume(wanted)
    assert ledger.adopt_volume(wanted) == adopted == ledger.volume(wanted.id)
    assert replace(adopted, created=0.0, updated=0.0) == wanted
    assert adopted.created > 0
    assert (desk.leased(), desk.free()) == (96 * GB, 0)
    (event,) = ledger.events()
    assert (event.kind, event.subject, event.detail["platform_id"]) == ("volume.adopted", wanted.id, "vol-9")
    assert check(ledger) == []


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"state": VolumeState.CREATING}, InvalidRequest, "state"),
        ({"state": VolumeState.DELETED}, InvalidRequest, "state"),
        ({"platform_id": ""}, InvalidRequest, "platform_id"),
        ({"format_state": FormatState.NEVER}, InvalidRequest, "format_state"),
        ({"owner": ""}, InvalidRequest, "owner"),
        ({"generation": -1}, InvalidRequest, "generation"),
        ({"size": 0}, InvalidRequest, "0 bytes"),
        ({"size": 101 * GB}, InsufficientCapacity, "bytes free"),
        ({"agent": "a9"}, UnknownAgent, "a9"),
    ],
)
def test_an_impossible_find_is_not_kept(desk: Desk, fields: dict[str, Any], kind: type[PollyError], words: str) -> None:
    desk.lease(10 * GB)
    with pytest.raises(kind, match=words):
        desk.ledger.adopt_volume(found(**fields))
    assert (desk.ledger.volumes(), desk.leased(), desk.ledger.events()) == ([], 10 * GB, [])


def test_a_find_in_an_unknown_pool_is_refused(desk: Desk) -> None:
    with pytest.raises(UnknownPool, match="tin"):
        desk.ledger.adopt_volume(replace(found(), pool="tin"))


def test_a_volume_that_the_ledger_knows_otherwise_is_not_adopted_over_it(desk: Desk, abandoned: Volume) -> None:
    for other in (found(id=abandoned.id), found(agent="a1", persistence_id="app#data#1")):
        with pytest.raises(AlreadyExists):
            desk.ledger.adopt_volume(other)
    assert desk.ledger.volume(abandoned.id) == abandoned
    adopted = desk.ledger.adopt_volume(found())
    desk.ledger.delete_volume(adopted.id)
    desk.ledger.volume_deleted(adopted.id)
    with pytest.raises(AlreadyExists):
        desk.ledger.adopt_volume(found())


@pytest.fixture
def behind(desk: Desk) -> Volume:
    """A volume on a1 in a ledger restored from before its publication under generation 3."""
    desk.lease(10 * GB)
    desk.reserve(2 * GB)
    made = desk.create(2 * GB)
    return desk.ledger.volume_created(made.id, "vol-1")


def test_a_host_that_has_a_volume_is_believed_and_nobody_formats_it(desk: Desk, behind: Volume) -> None:
    ledger = desk.ledger
    for _ in range(2):
        adopted = ledger.adopt_publication(behind.id, "a1", "host1", 3, "/target")
    assert ledger.publication(behind.id) == adopted
    assert (adopted.state, adopted.generation, adopted.host, adopted.target) == (
        PublicationState.PUBLISHED,
        3,
        "host1",
        "/target",
    )
    volume = ledger.volume(behind.id)
    assert (volume.generation, volume.format_state) == (3, FormatState.FORMATTED)
    with pytest.raises(WrongState, match="not formatted again"):
        ledger.formatting(behind.id, 3)
    assert [(event.kind, event.subject) for event in ledger.events()] == [("publication.adopted", behind.id)]
    assert check(ledger) == []


def test_a_host_with_a_newer_generation_has_the_volume_wherever_the_ledger_thought_it(
    desk: Desk, behind: Volume
) -> None:
    desk.ledger.adopt_publication(behind.id, "a2", "host2", 1, "/target")
    assert desk.ledger.volume(behind.id).agent == "a2"
    assert check(desk.ledger) == []


def test_a_publication_that_was_not_finished_when_the_backup_was_made_is_published(desk: Desk, behind: Volume) -> None:
    desk.ledger.publish(behind.id, "a1", "host1")
    desk.ledger.attached(behind.id, 1, {"device": "/dev/loop1"})
    adopted = desk.ledger.adopt_publication(behind.id, "a1", "host1", 1, "/target")
    assert (adopted.state, adopted.attachment) == (PublicationState.PUBLISHED, {"device": "/dev/loop1"})
    desk.ledger.unpublished(behind.id, 1)
    taken_back = desk.ledger.adopt_publication(behind.id, "a1", "host1", 1, "/target")
    assert taken_back.state is PublicationState.DETACHING
    newer = desk.ledger.adopt_publication(behind.id, "a1", "host1", 2, "/target")
    assert (newer.state, newer.generation) == (PublicationState.PUBLISHED, 2)


def test_a_late_host_is_told_that_it_has_lost_the_volume(desk: Desk, behind: Volume) -> None:
    ledger = desk.ledger
    ledger.publish(behind.id, "a1", "host1")
    ledger.fence("a1", "disks", "stopped")
    ledger.detached(behind.id, 1)
    ledger.set_agent_state("a1", AgentState.FENCED)
    for agent in ("a1", "a2"):
        with pytest.raises(StaleGeneration, match=r"generation 1 .* is over"):
            ledger.adopt_publication(behind.id, agent, "host1", 1, "/target")
    ledger.move_volume(behind.id, "a2")
    ledger.publish(behind.id, "a2", "host2")
    for generation in (0, 1):
        with pytest.raises(StaleGeneration, match="newest is 2"):
            ledger.adopt_publication(behind.id, "a1", "host1", generation, "/target")
    published = ledger.publication(behind.id)
    assert published
    assert (published.agent, published.state) == ("a2", PublicationState.ATTACHING)


def test_two_hosts_never_have_a_volume_in_the_ledger(desk: Desk, behind: Volume) -> None:
    first = desk.ledger.publish(behind.id, "a1", "host1")
    for agent, host, generation in (("a2", "host2", 1), ("a2", "host2", 5), ("a1", "host2", 5)):
        with pytest.raises(VolumeInUse, match=f"host1 of agent a1, and host {host}"):
            desk.ledger.adopt_publication(behind.id, agent, host, generation, "/target")
    assert desk.ledger.publication(behind.id) == first


def test_a_volume_that_was_never_made_or_is_gone_is_on_no_host(desk: Desk, behind: Volume) -> None:
    ledger = desk.ledger
    desk.reserve(1 * GB)
    unmade = desk.create(1 * GB, "unmade")
    with pytest.raises(WrongState, match="creating"):
        ledger.adopt_publication(unmade.id, "a1", "host1", 1, "/target")
    ledger.delete_volume(behind.id)
    ledger.volume_deleted(behind.id)
    with pytest.raises(WrongState, match="deleted"):
        ledger.adopt_publication(behind.id, "a1", "host1", 1, "/target")
    with pytest.raises(UnknownVolume, match="v9"):
        ledger.adopt_publication("v9", "a1", "host1", 1, "/target")
    with pytest.raises(UnknownAgent, match="a9"):
        ledger.adopt_publication(behind.id, "a9", "host1", 1, "/target")


def test_a_destroyed_volume_that_another_host_has_still_owes_its_bytes_to_the_agent_it_was_on(
    desk: Desk, behind: Volume
) -> None:
    desk.admit(DestroyVolume(behind.id, Reclaim.DELETE))
    desk.ledger.adopt_publication(behind.id, "a2", "host2", 1, "/target")
    assert desk.ledger.volume(behind.id).agent == "a1"
    assert check(desk.ledger) == []
    desk.ledger.unpublished(behind.id, 1)
    desk.ledger.detached(behind.id, 1)
    desk.ledger.volume_deleted(behind.id)
    assert desk.reserved() == (2 * GB, 2 * GB)


def test_a_volume_that_is_to_be_deleted_is_kept_while_a_host_has_it(desk: Desk, behind: Volume) -> None:
    desk.ledger.delete_volume(behind.id)
    desk.ledger.adopt_publication(behind.id, "a1", "host1", 1, "/target")
    with pytest.raises(VolumeInUse, match="host1"):
        desk.ledger.volume_deleted(behind.id)
