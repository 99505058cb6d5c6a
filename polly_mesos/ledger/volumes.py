"""Volumes: what becomes of them between the wish for one and the end of its data."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from dataclasses import replace

from sqlalchemy import bindparam, insert, literal_column, select, update

from polly_mesos.errors import AlreadyExists, InvalidRequest, UnknownVolume
from polly_mesos.ledger import rows, space
from polly_mesos.ledger.store import Prepared, Store, Transaction
from polly_mesos.ledger.tables import publications, volumes
from polly_mesos.ledger.transitions import PUBLICATION, VOLUME, PublicationEvent, VolumeEvent
from polly_mesos.model import FormatState, PublicationState, Volume, VolumeKind, VolumeState

LIVE = frozenset(VOLUME.leading_to(VolumeState.DELETING, VolumeEvent.DESTROYED))
"""A volume in one of these states is still its owner's, who can destroy it."""

_not_deleted = volumes.c.state != literal_column("'deleted'")

_VOLUME = Prepared(select(volumes).where(volumes.c.id == bindparam("key")))
_ADD = Prepared(insert(volumes))
_STORE = Prepared(
    update(volumes)
    .where(volumes.c.id == bindparam("key"))
    .values({column.name: bindparam(column.name) for column in volumes.c if not column.primary_key})
)
_NAMESAKES = Prepared(
    select(volumes).where(
        volumes.c.agent == bindparam("the_agent"), volumes.c.persistence_id == bindparam("the_id"), _not_deleted
    )
)
_HOLDER = Prepared(
    select(publications.c.state, publications.c.host, publications.c.agent).where(
        publications.c.volume == bindparam("key")
    )
)


class Volumes(Store):
    """Pieces of storage on the platforms, and how far each has come."""

    def volumes(self, *, agent: str | None = None, states: Collection[VolumeState] | None = None) -> list[Volume]:
        """The volumes of an agent and in one of ``states``, or all, oldest first."""
        query = select(volumes)
        if agent is not None:
            query = query.where(volumes.c.agent == (agent or None))
        if states is not None:
            query = query.where(volumes.c.state.in_([state.value for state in states]))
            if VolumeState.DELETED not in states:
                query = query.where(_not_deleted)
        with self.reading() as connection:
            found = connection.execute(query.order_by(volumes.c.created, volumes.c.id))
            return [rows.to_volume(row) for row in found]

    def volume(self, volume_id: str) -> Volume:
        """One volume.

        :raises UnknownVolume: there is none of that id
        """
        with self.reading() as connection:
            row = connection.execute(select(volumes).where(volumes.c.id == volume_id)).first()
        if row is None:
            raise _unknown(volume_id)
        return rows.to_volume(row)

    def find_volume(self, agent: str, owner: str, persistence_id: str) -> Volume | None:
        """The volume that a framework knows by its persistence id.

        One that is being deleted or was retained is found only where no newer one has taken its name.
        """
        query = select(volumes).where(
            volumes.c.agent == agent,
            volumes.c.owner == owner,
            volumes.c.persistence_id == persistence_id,
            _not_deleted,
        )
        with self.reading() as connection:
            found = [rows.to_volume(row) for row in connection.execute(query)]
        return max(found, key=lambda volume: (volume.state in LIVE, volume.created), default=None)

    def add_volume(self, volume: Volume) -> Volume:
        """Add a MOUNT volume for an operator, out of what nobody reserved in its pool; it is CREATING.

        What is not free comes out of leases: its own agent's first, then the largest.

        :raises InvalidRequest: it is no MOUNT volume, or its size is not positive
        :raises UnknownPool, UnknownAgent: the ledger has none of that name
        :raises AlreadyExists: the id or the persistence id is taken
        :raises InsufficientCapacity: the pool has not so many bytes that are free or in leases
        """
        must_be(volume, VolumeKind.MOUNT)
        with self._write() as transaction:
            space.size_must_be_possible(volume.size)
            space.take_unreserved(transaction, volume.pool, volume.agent, volume.size)
            return add(transaction, volume)

    def volume_created(self, volume_id: str, platform_id: str) -> Volume:
        """The platform has made the volume. One that was given up meanwhile stays so, with the platform's id known.

        :raises AlreadyExists: it has another platform id already
        :raises WrongState: it is deleted
        """
        with self._write() as transaction:
            volume, state = step(transaction, volume_id, VolumeEvent.CREATED)
            if volume.platform_id not in ("", platform_id):
                raise AlreadyExists(
                    f"volume {volume_id} is {volume.platform_id} on its platform, and {platform_id} was made too",
                    remedy=f"delete {platform_id} on the platform: nothing uses it",
                )
            return store(transaction, replace(volume, state=state, platform_id=platform_id, error=""))

    def volume_failed(self, volume_id: str, error: str, *, final: bool) -> Volume:
        """A step on the platform failed. A volume being created is FAILED where that is ``final``, else tried again.

        :raises WrongState: it is deleted
        """
        event = VolumeEvent.FAILED_FOR_GOOD if final else VolumeEvent.FAILED
        with self._write() as transaction:
            volume, state = step(transaction, volume_id, event)
            return store(transaction, replace(volume, state=state, error=error))

    def delete_volume(self, volume_id: str) -> Volume:
        """Want the volume and its data gone, whoever owns it. Whether a task uses it is the caller's to know.

        :raises WrongState: it is deleted already
        """
        with self._write() as transaction:
            volume, state = step(transaction, volume_id, VolumeEvent.UNWANTED)
            return volume if state is volume.state else store(transaction, replace(volume, state=state, error=""))

    def volume_deleted(self, volume_id: str) -> Volume:
        """The platform has deleted the volume: its bytes go to who waits for them on its agent, else to the pool.

        :raises WrongState: nobody wanted it deleted
        :raises VolumeInUse: it is still published
        """
        with self._write() as transaction:
            volume, state = step(transaction, volume_id, VolumeEvent.DELETED)
            if state is volume.state:
                return volume
            must_be_free(transaction, volume_id, PublicationEvent.VOLUME_DELETED)
            space.settle(transaction, volume.pool, volume.agent, volume.owner, volume.size)
            return store(transaction, replace(volume, state=state, error=""))


def find(transaction: Transaction, volume_id: str) -> Volume | None:
    """The volume of that id, None where there is none."""
    row = transaction.one(_VOLUME, key=volume_id)
    return rows.to_volume(row) if row is not None else None


def must_find(transaction: Transaction, volume_id: str) -> Volume:
    """:raises UnknownVolume: there is none of that id"""
    volume = find(transaction, volume_id)
    if volume is None:
        raise _unknown(volume_id)
    return volume


def step(transaction: Transaction, volume_id: str, event: VolumeEvent) -> tuple[Volume, VolumeState]:
    """A volume as it is, and the state in which an event leaves it.

    :raises PollyError: the event is refused in its state, or there is no such volume
    """
    volume = find(transaction, volume_id)
    name = f"volume {volume_id}"
    if volume is None:
        VOLUME.after(None, event, name)
        raise _unknown(volume_id)
    return volume, VOLUME.kept(volume.state, event, name, f": {volume.error}" if volume.error else "")


def must_be_free(transaction: Transaction, volume_id: str, event: PublicationEvent) -> None:
    """Make sure that an event can happen which no host may have the volume for.

    :raises VolumeInUse: a host has it
    """
    row = transaction.one(_HOLDER, key=volume_id)
    if row is None:
        PUBLICATION.after(None, event, f"publication of volume {volume_id}")
    else:
        PUBLICATION.after(PublicationState(row[0]), event, f"volume {volume_id} on host {row[1]} of agent {row[2]}")


def must_be(volume: Volume, kind: VolumeKind) -> None:
    """:raises InvalidRequest: the volume is of another kind"""
    if volume.kind is not kind:
        raise InvalidRequest(
            f"volume {volume.id} is a {volume.kind} volume, and this needs a {kind} one",
            remedy=f"name a {kind} volume",
            field="kind",
            value=volume.kind,
        )


def add(transaction: Transaction, volume: Volume) -> Volume:
    """Keep a new volume, which is CREATING and was never formatted, whatever else ``volume`` says.

    :raises AlreadyExists: the id or the persistence id is taken
    :raises UnknownPool, UnknownAgent: the ledger has none of that name
    """
    known = find(transaction, volume.id)
    state = VOLUME.kept(known.state if known else None, VolumeEvent.ASKED_FOR, f"volume {volume.id}")
    now = time.time()
    new = replace(
        volume,
        state=state,
        format_state=FormatState.NEVER,
        generation=0,
        error="",
        created=now,
        updated=now,
    )
    return keep(transaction, new)


def keep(transaction: Transaction, volume: Volume) -> Volume:
    """Keep a volume that is new, as it is.

    :raises AlreadyExists: the persistence id is taken
    :raises UnknownPool, UnknownAgent: the ledger has none of that name
    """
    space.pool_must_exist(transaction, volume.pool)
    if volume.agent:
        space.agent_must_exist(transaction, volume.agent)
    persistence_id_must_be_new(transaction, volume)
    transaction.run(_ADD, **rows.from_volume(volume))
    transaction.touch(volume.agent)
    return volume


def store(transaction: Transaction, volume: Volume) -> Volume:
    """Keep a changed volume."""
    changed = replace(volume, updated=time.time())
    transaction.run(_STORE, key=volume.id, **rows.from_volume(changed))
    transaction.touch(volume.agent)
    return changed


def persistence_id_must_be_new(transaction: Transaction, volume: Volume) -> None:
    """Two volumes of one role on one agent would share a path there if they had the same persistence id.

    :raises AlreadyExists: a live volume has it
    """
    if not volume.persistence_id:
        return
    for row in transaction.all(_NAMESAKES, the_agent=volume.agent, the_id=volume.persistence_id):
        other = rows.to_volume(row)
        if other.id != volume.id and other.state in LIVE and role_of(other.owner) == role_of(volume.owner):
            raise AlreadyExists(
                f"persistence id {volume.persistence_id!r} is taken by volume {other.id} on agent {volume.agent}",
                remedy="choose another persistence id, or destroy that volume first",
            )


def role_of(owner: str) -> str:
    """The role that a reservation stack ends in; the whole text where it is no stack."""
    try:
        return str(json.loads(owner)[-1]["role"])
    except (ValueError, LookupError, TypeError):
        return owner


def _unknown(volume_id: str) -> UnknownVolume:
    return UnknownVolume(f"the ledger has no volume {volume_id!r}", remedy="see which there are: polly ledger show")
