"""Judging Mesos operations: what each change needs, what it moves, and when it is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

from polly_mesos.errors import InvalidRequest, WrongState
from polly_mesos.ledger import adoption, journal, space, volumes
from polly_mesos.ledger.changes import (
    AdoptVolume,
    Change,
    ClearPersistence,
    CreateDisk,
    CreateVolume,
    DestroyDisk,
    DestroyVolume,
    Reserve,
    SetOwner,
    SetPersistence,
    Unreserve,
)
from polly_mesos.ledger.store import Store, Transaction
from polly_mesos.ledger.transitions import OperationEvent, VolumeEvent
from polly_mesos.model import UNRESERVED, Operation, Reclaim, Volume, VolumeKind, VolumeState


class Admission(Store):
    """The only judge of what may be reserved and made."""

    def admit(self, operation: Operation, *changes: Change) -> Operation:
        """Make all changes that an operation means, and keep the operation as DONE, in one transaction.

        Idempotent by the operation's id, also after it was acknowledged: a repeat gets the stored operation, which may
        be a refusal. The outcome is the one in ``operation``, and ``volumes``: the ids of those made or changed.

        :raises Conflict: the id was used for something else
        :raises PollyError: a change is refused, and nothing at all was changed; see
            :meth:`polly_mesos.ledger.Ledger.refuse`
        """
        with self._write() as transaction:
            known, stage = journal.step(transaction, operation, OperationEvent.ADMIT)
            if known is not None:
                return known
            made = [_apply(change, transaction, operation) for change in changes]
            touched = [volume_id for volume_id in made if volume_id]
            outcome = {**operation.outcome, "volumes": touched} if touched else operation.outcome
            return journal.decide(transaction, operation, stage, outcome)


@singledispatch
def _apply(change: Change, transaction: Transaction, operation: Operation) -> str:
    """Make the change; returns the id of its volume, empty where it has none."""
    raise TypeError(f"the ledger knows no change of type {type(change).__name__}")


@_apply.register
def _reserve(change: Reserve, transaction: Transaction, operation: Operation) -> str:
    _check_move(change, operation)
    if change.after_owner == UNRESERVED:
        raise _invalid("after_owner", change.after_owner, "a reservation needs an owner", "name the reservation")
    if change.shared and change.before_owner == UNRESERVED:
        space.take_free(transaction, change.pool, change.size)
        backed = change.size
    else:
        backed = space.take(transaction, change.pool, change.agent, change.before_owner, change.size)
    space.give(transaction, change.pool, change.agent, change.after_owner, change.size, backed)
    transaction.touch(change.agent)
    return ""


@_apply.register
def _unreserve(change: Unreserve, transaction: Transaction, operation: Operation) -> str:
    _check_move(change, operation)
    if change.before_owner == UNRESERVED:
        raise _invalid("before_owner", change.before_owner, "nothing is reserved for nobody", "name the reservation")
    backed = space.take(transaction, change.pool, change.agent, change.before_owner, change.size)
    if not (change.shared and change.after_owner == UNRESERVED):
        space.give(transaction, change.pool, change.agent, change.after_owner, change.size, backed)
    transaction.touch(change.agent)
    return ""


@_apply.register
def _create_volume(change: CreateVolume, transaction: Transaction, operation: Operation) -> str:
    volume = change.volume
    _check_new(volume, VolumeKind.PATH, operation)
    _check_names(volume.owner, volume.persistence_id)
    _out_of_holding(transaction, volume)
    return volumes.add(transaction, volume).id


@_apply.register
def _destroy_volume(change: DestroyVolume, transaction: Transaction, operation: Operation) -> str:
    event = VolumeEvent.RETAINED if change.reclaim is Reclaim.RETAIN else VolumeEvent.DESTROYED
    volume, state = _step(transaction, change.volume_id, event, VolumeKind.PATH, operation)
    volumes.store(transaction, replace(volume, state=state))
    space.give(transaction, volume.pool, volume.agent, volume.owner, volume.size, 0)
    return volume.id


@_apply.register
def _create_disk(change: CreateDisk, transaction: Transaction, operation: Operation) -> str:
    volume = change.volume
    _check_new(volume, VolumeKind.MOUNT, operation)
    if change.shared and volume.owner == UNRESERVED:
        space.take_free(transaction, volume.pool, volume.size)
    else:
        _out_of_holding(transaction, volume)
    return volumes.add(transaction, volume).id


@_apply.register
def _destroy_disk(change: DestroyDisk, transaction: Transaction, operation: Operation) -> str:
    volume, state = _step(transaction, change.volume_id, VolumeEvent.DESTROYED, VolumeKind.MOUNT, operation)
    _must_hold_no_data(volume)
    volumes.store(transaction, replace(volume, state=state))
    if volume.agent and not (change.shared and volume.owner == UNRESERVED):
        space.give(transaction, volume.pool, volume.agent, volume.owner, volume.size, 0)
    return volume.id


@_apply.register
def _set_persistence(change: SetPersistence, transaction: Transaction, operation: Operation) -> str:
    volume, state = _step(transaction, change.volume_id, VolumeEvent.RENAMED, VolumeKind.MOUNT, operation)
    _must_hold_no_data(volume)
    if change.owner != volume.owner:
        raise _invalid("owner", change.owner, f"disk {volume.id} is reserved for {volume.owner}", "name its owner")
    if not change.persistence_id:
        raise _invalid("persistence_id", "", "a persistent volume needs a persistence id", "choose one")
    persistent = replace(volume, state=state, persistence_id=change.persistence_id, persistence=change.persistence)
    volumes.persistence_id_must_be_new(transaction, persistent)
    return volumes.store(transaction, persistent).id


@_apply.register
def _clear_persistence(change: ClearPersistence, transaction: Transaction, operation: Operation) -> str:
    kept = change.reclaim is Reclaim.RETAIN
    event = VolumeEvent.RENAMED if kept else VolumeEvent.DESTROYED
    volume, state = _step(transaction, change.volume_id, event, VolumeKind.MOUNT, operation)
    if not volume.persistence_id:
        raise WrongState(f"disk {volume.id} holds no persistent volume", remedy="DESTROY_DISK removes a disk")
    if kept:
        volume = replace(volume, persistence_id="", persistence={})
    return volumes.store(transaction, replace(volume, state=state)).id


@_apply.register
def _set_owner(change: SetOwner, transaction: Transaction, operation: Operation) -> str:
    volume, state = _step(transaction, change.volume_id, VolumeEvent.RENAMED, VolumeKind.MOUNT, operation)
    _must_hold_no_data(volume)
    return volumes.store(transaction, replace(volume, state=state, owner=change.owner)).id


@_apply.register
def _adopt_volume(change: AdoptVolume, transaction: Transaction, operation: Operation) -> str:
    _check_agent(change.agent, operation)
    _check_names(change.owner, change.persistence_id)
    return adoption.adopt(transaction, change).id


def _check_move(change: Reserve | Unreserve, operation: Operation) -> None:
    space.size_must_be_possible(change.size)
    _check_agent(change.agent, operation)
    if change.before_owner == change.after_owner:
        raise _invalid("after_owner", change.after_owner, "the owner stays the same", "name another owner")


def _check_new(volume: Volume, kind: VolumeKind, operation: Operation) -> None:
    volumes.must_be(volume, kind)
    space.size_must_be_possible(volume.size)
    _check_agent(volume.agent, operation)


def _check_names(owner: str, persistence_id: str) -> None:
    if owner == UNRESERVED:
        raise _invalid("owner", owner, "a persistent volume needs a reservation", "RESERVE first")
    if not persistence_id:
        raise _invalid("persistence_id", "", "a persistent volume needs a persistence id", "choose one")


def _check_agent(agent: str, operation: Operation) -> None:
    if operation.agent not in ("", agent):
        raise _invalid(
            "agent", agent, f"the operation came through agent {operation.agent}", "operate on that agent's resources"
        )


def _step(
    transaction: Transaction, volume_id: str, event: VolumeEvent, kind: VolumeKind, operation: Operation
) -> tuple[Volume, VolumeState]:
    volume, state = volumes.step(transaction, volume_id, event)
    volumes.must_be(volume, kind)
    _check_agent(volume.agent, operation)
    return volume, state


def _must_hold_no_data(volume: Volume) -> None:
    if volume.persistence_id:
        raise WrongState(
            f"disk {volume.id} holds the persistent volume {volume.persistence_id!r}", remedy="DESTROY it first"
        )


def _out_of_holding(transaction: Transaction, volume: Volume) -> None:
    backed = space.take(transaction, volume.pool, volume.agent, volume.owner, volume.size)
    if backed < volume.size:
        # The reservation's space is still in a volume that was destroyed: the pool's free bytes may stand in. What the
        # reservation gave counts among those until the volume has it.
        space.take_free(transaction, volume.pool, volume.size)


def _invalid(field: str, value: str, why: str, remedy: str) -> InvalidRequest:
    return InvalidRequest(f"{field} is {value!r}: {why}", remedy=remedy, field=field, value=value)
