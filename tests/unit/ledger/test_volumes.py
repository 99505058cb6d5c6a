"""Volumes from the wish to the end of their data, and publications under their generations."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from polly_mesos.errors import (
    AgentUnreachable,
    AlreadyExists,
    InsufficientCapacity,
    InvalidRequest,
    StaleGeneration,
    UnknownAgent,
    UnknownPool,
    UnknownVolume,
    VolumeInUse,
    WrongState,
)
from polly_mesos.ledger import DestroyVolume
from polly_mesos.ledger.publications import GENERATIONS_OF_AN_EPOCH
from polly_mesos.model import MB, AgentState, FormatState, PublicationState, Reclaim, Volume, VolumeKind, VolumeState

if TYPE_CHECKING:
    from tests.unit.ledger.conftest import Desk

GB = 1024 * MB
OWNER = '[{"labels":{"labels":[{"key":"app","value":"db"}]},"role":"marathon","type":"DYNAMIC"}]'


@pytest.fixture
def volume(desk: Desk) -> Volume:
    desk.lease(10 * GB)
    desk.reserve(8 * GB)
    return desk.create(2 * GB)


@pytest.fixture
def ready(desk: Desk, volume: Volume) -> Volume:
    return desk.ledger.volume_created(volume.id, "vol-1")


def test_a_volume_comes_back_as_it_was_asked_for(desk: Desk, volume: Volume) -> None:
    assert desk.ledger.volume(volume.id) == volume
    assert volume.persistence == {"persistence": {"id": "data"}}
    assert (volume.framework, volume.created > 0, volume.format_state) == ("f1", True, FormatState.NEVER)
    assert desk.ledger.find_volume("a1", OWNER, "data") == volume
    assert desk.ledger.find_volume("a2", OWNER, "data") is None
    with pytest.raises(UnknownVolume, match="'nothing'"):
        desk.ledger.volume("nothing")


def test_volumes_are_listed_by_agent_and_state(desk: Desk, volume: Volume) -> None:
    other = desk.create(2 * GB, "more")
    desk.ledger.volume_created(other.id, "vol-2")
    ids = lambda **query: [found.id for found in desk.ledger.volumes(**query)]  # noqa: E731
    assert ids() == [volume.id, other.id]
    assert ids(agent="a2") == []
    assert ids(agent="a1", states={VolumeState.READY}) == [other.id]
    assert ids(states=set()) == []


def test_a_created_volume_is_ready_and_stays_what_it_became(desk: Desk, volume: Volume) -> None:
    desk.ledger.volume_failed(volume.id, "try again", final=False)
    assert desk.ledger.volume(volume.id).state is VolumeState.CREATING
    assert desk.ledger.volume(volume.id).error == "try again"
    ready = desk.ledger.volume_created(volume.id, "vol-1")
    assert (ready.state, ready.platform_id, ready.error) == (VolumeState.READY, "vol-1", "")
    desk.ledger.volume_created(volume.id, "vol-1")
    with pytest.raises(AlreadyExists, match="delete vol-2"):
        desk.ledger.volume_created(volume.id, "vol-2")


def test_a_volume_that_cannot_be_made_fails_and_keeps_its_bytes_until_destroyed(desk: Desk, volume: Volume) -> None:
    failed = desk.ledger.volume_failed(volume.id, "quota", final=True)
    assert (failed.state, failed.error) == (VolumeState.FAILED, "quota")
    assert desk.ledger.balance()["gold"].volumes == 2 * GB
    with pytest.raises(WrongState, match="failed and cannot be published: quota"):
        desk.ledger.publish(volume.id, "a1", "host1")
    desk.admit(DestroyVolume(volume.id, Reclaim.DELETE))
    desk.ledger.volume_deleted(volume.id)
    assert desk.reserved() == (8 * GB, 8 * GB)


def test_a_volume_destroyed_while_it_is_made_stays_destroyed_but_is_known_to_the_platform(
    desk: Desk, volume: Volume
) -> None:
    desk.admit(DestroyVolume(volume.id, Reclaim.DELETE))
    late = desk.ledger.volume_created(volume.id, "vol-1")
    assert (late.state, late.platform_id) == (VolumeState.DELETING, "vol-1")
    desk.ledger.volume_failed(volume.id, "busy", final=True)
    assert desk.ledger.volume(volume.id).state is VolumeState.DELETING
    desk.ledger.volume_deleted(volume.id)
    desk.ledger.volume_deleted(volume.id)
    for late_step in (
        lambda: desk.ledger.volume_created(volume.id, "vol-1"),
        lambda: desk.ledger.volume_failed(volume.id, "busy", final=True),
        lambda: desk.ledger.delete_volume(volume.id),
    ):
        with pytest.raises(WrongState, match="deleted"):
            late_step()


def test_the_name_of_a_volume_being_deleted_can_be_used_again(desk: Desk, volume: Volume) -> None:
    desk.admit(DestroyVolume(volume.id, Reclaim.RETAIN))
    assert desk.ledger.find_volume("a1", OWNER, "data") == desk.ledger.volume(volume.id)
    second = desk.create(2 * GB, "data")
    assert desk.ledger.find_volume("a1", OWNER, "data") == second


def test_nothing_is_gone_that_nobody_wanted_gone(desk: Desk, ready: Volume) -> None:
    with pytest.raises(WrongState, match="nobody wanted it deleted"):
        desk.ledger.volume_deleted(ready.id)
    desk.ledger.publish(ready.id, "a1", "host1")
    desk.ledger.delete_volume(ready.id)
    assert desk.ledger.delete_volume(ready.id).state is VolumeState.DELETING
    with pytest.raises(VolumeInUse, match="on host host1"):
        desk.ledger.volume_deleted(ready.id)


def test_an_operators_volume_comes_out_of_the_pools_free_bytes(desk: Desk) -> None:
    disk = desk.wanted(4 * GB, "", kind=VolumeKind.MOUNT)
    added = desk.ledger.add_volume(disk)
    assert (added.state, desk.free()) == (VolumeState.CREATING, 96 * GB)
    with pytest.raises(AlreadyExists, match=disk.id):
        desk.ledger.add_volume(disk)


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"size": 0}, InvalidRequest, "0 bytes"),
        ({"size": 101 * GB}, InsufficientCapacity, "gold has"),
        ({"pool": "tin"}, UnknownPool, "tin"),
        ({"agent": "a9"}, UnknownAgent, "a9"),
        ({"kind": VolumeKind.PATH}, InvalidRequest, "mount"),
    ],
)
def test_an_impossible_volume_is_not_added(
    desk: Desk, fields: dict[str, Any], kind: type[Exception], words: str
) -> None:
    wanted = {"pool": "gold", "size": GB, "agent": "", "kind": VolumeKind.MOUNT} | fields
    volume = Volume(
        id=str(uuid.uuid4()), profile="gold", service="disks", state=VolumeState.CREATING, owner=OWNER, **wanted
    )
    with pytest.raises(kind, match=words):
        desk.ledger.add_volume(volume)
    assert (desk.ledger.volumes(), desk.free()) == ([], 100 * GB)


def test_a_publication_goes_from_attaching_to_published_to_gone(desk: Desk, ready: Volume) -> None:
    ledger = desk.ledger
    publication = ledger.publish(ready.id, "a1", "host1")
    assert (publication.state, publication.generation) == (PublicationState.ATTACHING, 1)
    assert ledger.publish(ready.id, "a1", "host1") == publication
    assert ledger.attached(ready.id, 1, {"device": "/dev/loop1"}).state is PublicationState.ATTACHED
    ledger.formatting(ready.id, 1)
    assert ledger.volume(ready.id).format_state is FormatState.FORMATTING
    ledger.formatted(ready.id, 1)
    assert ledger.volume(ready.id).format_state is FormatState.FORMATTED
    published = ledger.published(ready.id, 1, "/dev/loop1", "/target")
    assert (published.state, published.device, published.target, published.attachment) == (
        PublicationState.PUBLISHED,
        "/dev/loop1",
        "/target",
        {"device": "/dev/loop1"},
    )
    assert ledger.publications("a1") == [ledger.publication(ready.id)] == [published]
    assert ledger.publications("a2") == []
    ledger.unpublished(ready.id, 1)
    assert ledger.publication(ready.id).state is PublicationState.DETACHING  # type: ignore[union-attr]
    ledger.detached(ready.id, 1)
    assert ledger.publication(ready.id) is None
    assert ledger.publish(ready.id, "a1", "host1").generation == 2


def test_steps_that_are_repeated_do_no_harm(desk: Desk, ready: Volume) -> None:
    ledger = desk.ledger
    ledger.publish(ready.id, "a1", "host1")
    for _ in range(2):
        ledger.attached(ready.id, 1, {"device": "/dev/loop1"})
    for _ in range(2):
        ledger.formatting(ready.id, 1)
    for _ in range(2):
        ledger.formatted(ready.id, 1)
    for _ in range(2):
        ledger.published(ready.id, 1, "/dev/loop1", "/target")
    assert ledger.attached(ready.id, 1, {"device": "/dev/loop1"}).state is PublicationState.PUBLISHED
    for _ in range(2):
        ledger.unpublished(ready.id, 1)
    for _ in range(2):
        ledger.detached(ready.id, 1)
    ledger.unpublished(ready.id, 1)
    assert ledger.publication(ready.id) is None


def test_one_host_at_a_time_has_a_volume(desk: Desk, ready: Volume) -> None:
    desk.ledger.publish(ready.id, "a1", "host1")
    with pytest.raises(VolumeInUse, match="host1 of agent a1"):
        desk.ledger.publish(ready.id, "a2", "host2")
    desk.ledger.unpublished(ready.id, 1)
    with pytest.raises(VolumeInUse, match="being detached"):
        desk.ledger.publish(ready.id, "a1", "host1")


def test_a_volume_is_published_where_it_is_advertised(desk: Desk, ready: Volume) -> None:
    with pytest.raises(WrongState, match="advertised by agent a1, not by a2"):
        desk.ledger.publish(ready.id, "a2", "host2")
    with pytest.raises(UnknownAgent, match="a9"):
        desk.ledger.publish(ready.id, "a9", "host2")


@pytest.mark.parametrize("state", [AgentState.UNREACHABLE, AgentState.LOST, AgentState.FENCED])
def test_a_host_that_may_be_dead_keeps_what_it_has_and_gets_nothing_more(
    desk: Desk, ready: Volume, state: AgentState
) -> None:
    desk.ledger.set_agent_state("a1", state)
    with pytest.raises((AgentUnreachable, WrongState), match=f"agent a1 is {state}"):
        desk.ledger.publish(ready.id, "a1", "host1")
    assert desk.ledger.publication(ready.id) is None
    desk.ledger.set_agent_state("a1", AgentState.CONNECTED)
    held = desk.ledger.publish(ready.id, "a1", "host1")
    desk.ledger.set_agent_state("a1", state)
    assert desk.ledger.publish(ready.id, "a1", "host1") == held


@pytest.mark.parametrize("reclaim", Reclaim)
def test_what_was_destroyed_is_not_published(desk: Desk, ready: Volume, reclaim: Reclaim) -> None:
    desk.admit(DestroyVolume(ready.id, reclaim))
    with pytest.raises(WrongState, match="cannot be published"):
        desk.ledger.publish(ready.id, "a1", "host1")


@pytest.mark.parametrize("generation", [0, 1, 3])
def test_a_step_under_another_generation_is_refused(desk: Desk, ready: Volume, generation: int) -> None:
    ledger = desk.ledger
    ledger.publish(ready.id, "a1", "host1")
    ledger.unpublished(ready.id, 1)
    ledger.detached(ready.id, 1)
    current = ledger.publish(ready.id, "a1", "host1")
    for step in (
        lambda: ledger.attached(ready.id, generation, {}),
        lambda: ledger.formatting(ready.id, generation),
        lambda: ledger.formatted(ready.id, generation),
        lambda: ledger.published(ready.id, generation, "/dev/loop1", "/target"),
        lambda: ledger.unpublished(ready.id, generation),
        lambda: ledger.detached(ready.id, generation),
    ):
        with pytest.raises(StaleGeneration, match=f"generation {generation} .* newest is 2"):
            step()
    assert ledger.publication(ready.id) == current


def test_a_host_that_was_detached_has_lost_the_volume(desk: Desk, ready: Volume) -> None:
    desk.ledger.publish(ready.id, "a1", "host1")
    desk.ledger.unpublished(ready.id, 1)
    desk.ledger.detached(ready.id, 1)
    with pytest.raises(StaleGeneration):
        desk.ledger.published(ready.id, 1, "/dev/loop1", "/target")


def test_steps_out_of_order_are_refused(desk: Desk, ready: Volume) -> None:
    ledger = desk.ledger
    ledger.publish(ready.id, "a1", "host1")
    for early in (
        lambda: ledger.formatting(ready.id, 1),
        lambda: ledger.published(ready.id, 1, "/dev/loop1", "/target"),
        lambda: ledger.detached(ready.id, 1),
    ):
        with pytest.raises(WrongState, match="attaching"):
            early()
    ledger.attached(ready.id, 1, {})
    ledger.unpublished(ready.id, 1)
    assert ledger.attached(ready.id, 1, {"late": True}).state is PublicationState.DETACHING
    with pytest.raises(WrongState, match="detaching"):
        ledger.published(ready.id, 1, "/dev/loop1", "/target")


def test_a_formatted_volume_is_never_formatted_again(desk: Desk, ready: Volume) -> None:
    desk.ledger.publish(ready.id, "a1", "host1")
    desk.ledger.attached(ready.id, 1, {})
    desk.ledger.formatting(ready.id, 1)
    desk.ledger.formatted(ready.id, 1)
    with pytest.raises(WrongState, match="not formatted again"):
        desk.ledger.formatting(ready.id, 1)
    assert desk.ledger.volume(ready.id).format_state is FormatState.FORMATTED


def test_a_file_system_that_a_restored_ledger_has_not_heard_of_is_never_made_anew(desk: Desk, ready: Volume) -> None:
    desk.ledger.publish(ready.id, "a1", "host1")
    desk.ledger.attached(ready.id, 1, {})
    assert desk.ledger.formatted(ready.id, 1).format_state is FormatState.FORMATTED
    with pytest.raises(WrongState, match="not formatted again"):
        desk.ledger.formatting(ready.id, 1)


def test_generations_of_a_later_epoch_are_above_all_of_the_earlier_ones(desk: Desk, ready: Volume) -> None:
    assert desk.ledger.publish(ready.id, "a1", "host1").generation == 1
    desk.ledger.unpublished(ready.id, 1)
    desk.ledger.detached(ready.id, 1)
    desk.ledger.set_epoch(3)
    assert desk.ledger.publish(ready.id, "a1", "host1").generation == 2 * GENERATIONS_OF_AN_EPOCH + 1
    desk.ledger.unpublished(ready.id, 2 * GENERATIONS_OF_AN_EPOCH + 1)
    desk.ledger.detached(ready.id, 2 * GENERATIONS_OF_AN_EPOCH + 1)
    assert desk.ledger.publish(ready.id, "a1", "host1").generation == 2 * GENERATIONS_OF_AN_EPOCH + 2


def test_a_volume_that_the_platform_has_not_made_is_attached_nowhere(desk: Desk) -> None:
    desk.lease(10 * GB)
    desk.reserve(1 * GB)
    volume = desk.create(1 * GB)
    publication = desk.ledger.publish(volume.id, "a1", "host1")
    with pytest.raises(WrongState, match="not made yet"):
        desk.ledger.attached(volume.id, publication.generation, {})
    desk.ledger.volume_created(volume.id, "p1")
    desk.ledger.attached(volume.id, publication.generation, {})
