"""How to bring a real ledger into every state, and how to make every event happen to it.

Each driver of a state makes a record in it and returns its id. Each driver of an event gets everything ready that is
not the event itself, and returns what makes it happen. Where an event makes the record, it returns the record's id.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from polly_mesos.errors import PlatformFull, UnknownOperation, UnknownVolume
from polly_mesos.ledger import AdoptVolume, CreateDisk, CreateVolume, DestroyVolume, Reserve, SetOwner
from polly_mesos.ledger.transitions import FormatEvent, OperationEvent, PublicationEvent, Stage, VolumeEvent
from polly_mesos.model import (
    MB,
    AgentState,
    FormatState,
    OperationState,
    PublicationState,
    Reclaim,
    Volume,
    VolumeKind,
    VolumeState,
)

if TYPE_CHECKING:
    from tests.unit.ledger.conftest import Desk

GB = 1024 * MB
OWNER = '[{"labels":{"labels":[{"key":"app","value":"db"}]},"role":"marathon","type":"DYNAMIC"}]'
OTHER_OWNER = '[{"labels":{"labels":[{"key":"app","value":"db2"}]},"role":"marathon","type":"DYNAMIC"}]'

Act = Callable[[], object]


def furnish(desk: Desk) -> None:
    """A lease and a reservation on each agent."""
    for agent, owner in (("a1", OWNER), ("a2", OTHER_OWNER)):
        desk.lease(20 * GB, agent)
        desk.reserve(8 * GB, owner, agent=agent)


def unknown(desk: Desk) -> str:
    return str(uuid.uuid4())


# Volumes ------------------------------------------------------------------------------------------------------------


def found(volume_id: str, state: VolumeState, kind: VolumeKind = VolumeKind.PATH) -> Volume:
    """A volume as its platform tells of it."""
    return Volume(
        id=volume_id,
        pool="gold",
        profile="gold",
        service="disks",
        kind=kind,
        size=GB,
        state=state,
        agent="a1",
        owner=OWNER,
        platform_id="vol-1",
        format_state=FormatState.FORMATTED,
    )


def volume_creating(desk: Desk, kind: VolumeKind) -> str:
    if kind is VolumeKind.PATH:
        return desk.create(GB).id
    disk = desk.wanted(GB, "", kind=kind)
    desk.admit(CreateDisk(disk))
    return disk.id


def volume_ready(desk: Desk, kind: VolumeKind) -> str:
    return desk.ledger.volume_created(volume_creating(desk, kind), "vol-1").id


def volume_failed(desk: Desk, kind: VolumeKind) -> str:
    return desk.ledger.volume_failed(volume_creating(desk, kind), "quota", final=True).id


def volume_released(desk: Desk, kind: VolumeKind) -> str:
    if kind is VolumeKind.MOUNT:
        return desk.ledger.adopt_volume(found(unknown(desk), VolumeState.RELEASED, kind)).id
    volume_id = volume_ready(desk, kind)
    desk.admit(DestroyVolume(volume_id, Reclaim.RETAIN))
    return volume_id


def volume_deleting(desk: Desk, kind: VolumeKind) -> str:
    return desk.ledger.delete_volume(volume_ready(desk, kind)).id


def volume_deleted(desk: Desk, kind: VolumeKind) -> str:
    return desk.ledger.volume_deleted(volume_deleting(desk, kind)).id


VOLUME_STATES: dict[VolumeState | None, Callable[[Desk, VolumeKind], str]] = {
    None: lambda desk, kind: unknown(desk),
    VolumeState.CREATING: volume_creating,
    VolumeState.READY: volume_ready,
    VolumeState.FAILED: volume_failed,
    VolumeState.RELEASED: volume_released,
    VolumeState.DELETING: volume_deleting,
    VolumeState.DELETED: volume_deleted,
}


def state_of_volume(desk: Desk, volume_id: str) -> VolumeState | None:
    try:
        return desk.ledger.volume(volume_id).state
    except UnknownVolume:
        return None


def adoption(desk: Desk, volume_id: str) -> Act:
    desk.ledger.set_agent_state("a1", AgentState.LOST)
    change = AdoptVolume(volume_id, "a2", OTHER_OWNER, "anew", {}, "f2")
    return lambda: desk.admit(change, agent="a2")


def replacement(desk: Desk, record_id: str) -> Act:
    desk.ledger.put_agent(replace(desk.ledger.agent("a1"), id="a3"))
    return lambda: desk.ledger.replace_agent("a1", "a3")


def forgetting(desk: Desk, record_id: str) -> Act:
    desk.ledger.set_agent_state("a1", AgentState.LOST)
    desk.ledger.dissolve("a1")
    return lambda: desk.ledger.forget_agent("a1")


def pruning(desk: Desk, record_id: str) -> Act:
    desk.ledger.finish(desk.ledger.begin("volume.create", "newer", {}).id, {})
    return lambda: desk.ledger.prune(time.time() + 60, keep=1)


VOLUME_EVENTS: dict[VolumeEvent, Callable[[Desk, str], Act]] = {
    VolumeEvent.ASKED_FOR: lambda desk, key: lambda: desk.admit(CreateVolume(replace(desk.wanted(GB, "anew"), id=key))),
    VolumeEvent.FOUND: lambda desk, key: lambda: desk.ledger.adopt_volume(found(key, VolumeState.READY)),
    VolumeEvent.FOUND_RELEASED: lambda desk, key: lambda: desk.ledger.adopt_volume(found(key, VolumeState.RELEASED)),
    VolumeEvent.CREATED: lambda desk, key: lambda: desk.ledger.volume_created(key, "vol-1"),
    VolumeEvent.FAILED: lambda desk, key: lambda: desk.ledger.volume_failed(key, "no", final=False),
    VolumeEvent.FAILED_FOR_GOOD: lambda desk, key: lambda: desk.ledger.volume_failed(key, "no", final=True),
    VolumeEvent.DESTROYED: lambda desk, key: lambda: desk.admit(DestroyVolume(key, Reclaim.DELETE)),
    VolumeEvent.RETAINED: lambda desk, key: lambda: desk.admit(DestroyVolume(key, Reclaim.RETAIN)),
    VolumeEvent.RENAMED: lambda desk, key: lambda: desk.admit(SetOwner(key, OTHER_OWNER)),
    VolumeEvent.UNWANTED: lambda desk, key: lambda: desk.ledger.delete_volume(key),
    VolumeEvent.DELETED: lambda desk, key: lambda: desk.ledger.volume_deleted(key),
    VolumeEvent.PUBLISH: lambda desk, key: lambda: desk.ledger.publish(key, "a1", "host1"),
    VolumeEvent.MOVED: lambda desk, key: lambda: desk.ledger.move_volume(key, "a2"),
    VolumeEvent.PARKED: lambda desk, key: lambda: desk.ledger.move_volume(key, ""),
    VolumeEvent.ADOPTED: adoption,
    VolumeEvent.PUBLICATION_ADOPTED: lambda desk, key: (
        lambda: desk.ledger.adopt_publication(key, "a1", "host1", 1, "/target")
    ),
    VolumeEvent.AGENT_REPLACED: replacement,
    VolumeEvent.AGENT_FORGOTTEN: forgetting,
    VolumeEvent.PRUNED: pruning,
}

OF_DISKS = frozenset({VolumeEvent.RENAMED})
"""Events of MOUNT volumes; the others happen to PATH volumes."""


# Publications: the record's id is that of its volume, and its generation is 1 ---------------------------------------


def unpublished(desk: Desk) -> str:
    key = detaching(desk)
    desk.ledger.detached(key, 1)
    return key


def attaching(desk: Desk) -> str:
    key = volume_ready(desk, VolumeKind.PATH)
    desk.ledger.publish(key, "a1", "host1")
    return key


def attached(desk: Desk) -> str:
    key = attaching(desk)
    desk.ledger.attached(key, 1, {"device": "/dev/loop1"})
    return key


def published(desk: Desk) -> str:
    key = attached(desk)
    desk.ledger.published(key, 1, "/dev/loop1", "/target")
    return key


def detaching(desk: Desk) -> str:
    key = published(desk)
    desk.ledger.unpublished(key, 1)
    return key


PUBLICATION_STATES: dict[PublicationState | None, Callable[[Desk], str]] = {
    None: unpublished,
    PublicationState.ATTACHING: attaching,
    PublicationState.ATTACHED: attached,
    PublicationState.PUBLISHED: published,
    PublicationState.DETACHING: detaching,
}


def state_of_publication(desk: Desk, volume_id: str) -> PublicationState | None:
    publication = desk.ledger.publication(volume_id)
    return publication.state if publication else None


def deletion(desk: Desk, key: str) -> Act:
    desk.ledger.delete_volume(key)
    return lambda: desk.ledger.volume_deleted(key)


def forgetting_host(desk: Desk, key: str) -> Act:
    if desk.ledger.publication(key) is None:
        desk.ledger.move_volume(key, "")
    return forgetting(desk, key)


PUBLICATION_EVENTS: dict[PublicationEvent, Callable[[Desk, str], Act]] = {
    PublicationEvent.PUBLISH: VOLUME_EVENTS[VolumeEvent.PUBLISH],
    PublicationEvent.ATTACHED: lambda desk, key: lambda: desk.ledger.attached(key, 1, {"device": "/dev/loop1"}),
    PublicationEvent.FORMATTING: lambda desk, key: lambda: desk.ledger.formatting(key, 1),
    PublicationEvent.FORMATTED: lambda desk, key: lambda: desk.ledger.formatted(key, 1),
    PublicationEvent.PUBLISHED: lambda desk, key: lambda: desk.ledger.published(key, 1, "/dev/loop1", "/target"),
    PublicationEvent.UNPUBLISHED: lambda desk, key: lambda: desk.ledger.unpublished(key, 1),
    PublicationEvent.DETACHED: lambda desk, key: lambda: desk.ledger.detached(key, 1),
    PublicationEvent.FENCED: lambda desk, key: lambda: desk.ledger.fence("a1", "disks", "it is off"),
    PublicationEvent.ADOPTED: VOLUME_EVENTS[VolumeEvent.PUBLICATION_ADOPTED],
    PublicationEvent.ADOPTED_NEWER: lambda desk, key: (
        lambda: desk.ledger.adopt_publication(key, "a1", "host1", 2, "/target")
    ),
    PublicationEvent.MOVED: VOLUME_EVENTS[VolumeEvent.MOVED],
    PublicationEvent.VOLUME_ADOPTED: adoption,
    PublicationEvent.VOLUME_DELETED: deletion,
    PublicationEvent.AGENT_REPLACED: replacement,
    PublicationEvent.AGENT_FORGOTTEN: forgetting_host,
}


# Formats: the record's id is that of its volume, which is attached under generation 1 -------------------------------


def formatting(desk: Desk) -> str:
    key = attached(desk)
    desk.ledger.formatting(key, 1)
    return key


def formatted(desk: Desk) -> str:
    key = formatting(desk)
    desk.ledger.formatted(key, 1)
    return key


FORMAT_STATES: dict[FormatState | None, Callable[[Desk], str]] = {
    FormatState.NEVER: attached,
    FormatState.FORMATTING: formatting,
    FormatState.FORMATTED: formatted,
}


def state_of_format(desk: Desk, volume_id: str) -> FormatState:
    return desk.ledger.volume(volume_id).format_state


FORMAT_EVENTS: dict[FormatEvent, Callable[[Desk, str], Act]] = {
    FormatEvent.FORMATTING: PUBLICATION_EVENTS[PublicationEvent.FORMATTING],
    FormatEvent.FORMATTED: PUBLICATION_EVENTS[PublicationEvent.FORMATTED],
    FormatEvent.PUBLICATION_ADOPTED: VOLUME_EVENTS[VolumeEvent.PUBLICATION_ADOPTED],
}


# Operations: steps of ours are about volume v1; those of Mesos are RESERVEs -----------------------------------------


def intent(desk: Desk) -> str:
    return desk.ledger.begin("volume.create", "v1", {}, "a1").id


def admitted(desk: Desk) -> str:
    return desk.reserve(GB).id


def refused(desk: Desk) -> str:
    return desk.ledger.refuse(desk.operation(), PlatformFull("no")).id


def done(desk: Desk, event: OperationEvent) -> str:
    key = intent(desk) if event in OF_STEPS else admitted(desk)
    desk.ledger.finish(key, {}) if event in OF_STEPS else desk.ledger.acknowledge(key)
    return key


def failed(desk: Desk, event: OperationEvent) -> str:
    key = intent(desk) if event in OF_STEPS else refused(desk)
    desk.ledger.finish(key, {}, PlatformFull("no")) if event in OF_STEPS else desk.ledger.acknowledge(key)
    return key


OF_STEPS = frozenset({OperationEvent.BEGIN, OperationEvent.FINISH, OperationEvent.FINISH_FAILED})
"""Events of our own steps; where an operation is over, the others happen to those of Mesos."""

OPERATION_STATES: dict[Stage | None, Callable[[Desk, OperationEvent], str]] = {
    None: lambda desk, event: unknown(desk),
    Stage.INTENT: lambda desk, event: intent(desk),
    Stage.ADMITTED: lambda desk, event: admitted(desk),
    Stage.REFUSED: lambda desk, event: refused(desk),
    Stage.DONE: done,
    Stage.FAILED: failed,
}


def stage_of_operation(desk: Desk, operation_id: str) -> Stage | None:
    try:
        operation = desk.ledger.operation(operation_id)
    except UnknownOperation:
        return None
    waiting = {OperationState.DONE: Stage.ADMITTED, OperationState.FAILED: Stage.REFUSED}
    if operation.state in waiting and not operation.acknowledged:
        return waiting[operation.state]
    return Stage(operation.state.value)


def asking(desk: Desk, key: str, verdict: Callable[[Any], object]) -> Act:
    return lambda: verdict(desk.operation(operation_id=key))


OPERATION_EVENTS: dict[OperationEvent, Callable[[Desk, str], Act]] = {
    OperationEvent.BEGIN: lambda desk, key: lambda: intent(desk),
    OperationEvent.FINISH: lambda desk, key: lambda: desk.ledger.finish(key, {}),
    OperationEvent.FINISH_FAILED: lambda desk, key: lambda: desk.ledger.finish(key, {}, PlatformFull("no")),
    OperationEvent.ADMIT: lambda desk, key: asking(
        desk, key, lambda asked: desk.ledger.admit(asked, Reserve("gold", "a1", "", OWNER, GB))
    ),
    OperationEvent.REFUSE: lambda desk, key: asking(
        desk, key, lambda asked: desk.ledger.refuse(asked, PlatformFull("no"))
    ),
    OperationEvent.ACKNOWLEDGE: lambda desk, key: lambda: desk.ledger.acknowledge(key),
    OperationEvent.AGENT_REPLACED: replacement,
    OperationEvent.AGENT_FORGOTTEN: forgetting,
    OperationEvent.PRUNED: pruning,
}
