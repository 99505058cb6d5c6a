"""Publications: which host has which volume. Every step is made under a generation, and one that is over is refused."""

from __future__ import annotations

import time
from dataclasses import replace

from sqlalchemy import bindparam, delete, insert, select, update

from polly_mesos.errors import StaleGeneration, VolumeInUse, WrongState
from polly_mesos.ledger import rows, space, volumes
from polly_mesos.ledger.store import Prepared, Store, Transaction
from polly_mesos.ledger.tables import publications
from polly_mesos.model import FormatState, Json, Publication, PublicationState, Volume, VolumeState

_PUBLICATION = Prepared(select(publications).where(publications.c.volume == bindparam("key")))
_ADD = Prepared(insert(publications))
_STORE = Prepared(
    update(publications)
    .where(publications.c.volume == bindparam("key"))
    .values({column.name: bindparam(column.name) for column in publications.c if not column.primary_key})
)
_REMOVE = Prepared(delete(publications).where(publications.c.volume == bindparam("key")))

GENERATIONS_OF_AN_EPOCH = 1 << 20
"""More than a volume is published in one epoch; 2,047 epochs still fit into 32 bits."""

_PUBLISHABLE = frozenset({VolumeState.CREATING, VolumeState.READY})
_ON_HOST = frozenset({PublicationState.ATTACHED, PublicationState.PUBLISHED})


class Publications(Store):
    """Volumes mapped to hosts: one host at most for each volume."""

    def publications(self, agent: str | None = None) -> list[Publication]:
        """The publications on one agent, or all."""
        query = select(publications)
        if agent is not None:
            query = query.where(publications.c.agent == agent)
        with self.reading() as connection:
            found = connection.execute(query.order_by(publications.c.volume))
            return [rows.to_publication(row) for row in found]

    def publication(self, volume_id: str) -> Publication | None:
        """The volume's publication, None where no host has it."""
        with self.reading() as connection:
            row = connection.execute(select(publications).where(publications.c.volume == volume_id)).first()
        return rows.to_publication(row) if row else None

    def publish(self, volume_id: str, agent: str, host: str) -> Publication:
        """Give the volume to a host, under a new generation; the one that it has already where that is the same agent.

        :param host: who the agent's host is to the platform
        :raises VolumeInUse: another agent has it, or it is just being detached
        :raises WrongState: the volume failed, or is retained or deleted, or another agent advertises it
        """
        with self._write() as transaction:
            volume = volumes.must_find(transaction, volume_id)
            space.agent_must_exist(transaction, agent)
            current = find(transaction, volume_id)
            if volume.state not in _PUBLISHABLE:
                why = f": {volume.error}" if volume.error else ""
                raise WrongState(
                    f"volume {volume_id} is {volume.state} and cannot be published{why}",
                    remedy="destroy it and create another",
                )
            if current is not None:
                _must_be_same(current, agent)
                return current
            if volume.agent not in ("", agent):
                raise WrongState(
                    f"volume {volume_id} is advertised by agent {volume.agent}, not by {agent}",
                    remedy="launch the task on the agent whose offer has the volume",
                )
            return _add(transaction, volume, agent, host, above=first_generation(self.epoch))

    def attached(self, volume_id: str, generation: int, attachment: Json) -> Publication:
        """The platform has given the volume to the host. One that is already being taken back stays DETACHING.

        :param attachment: what the host's driver needs to find the volume
        :raises WrongState: the platform has not made the volume
        """
        with self._write() as transaction:
            current = _must_be_current(transaction, volume_id, generation)
            if not volumes.must_find(transaction, volume_id).platform_id:
                raise WrongState(f"volume {volume_id} is not made yet and cannot be attached", remedy="create it first")
            attaching = current.state is PublicationState.ATTACHING
            state = PublicationState.ATTACHED if attaching else current.state
            return store(transaction, replace(current, state=state, attachment=attachment))

    def formatting(self, volume_id: str, generation: int) -> Volume:
        """The host is about to format the volume, for the first time or because a first time was interrupted.

        :raises WrongState: it is not attached there, or was formatted before: it never is again
        """
        with self._write() as transaction:
            _must_be_on_host(_must_be_current(transaction, volume_id, generation))
            volume = volumes.must_find(transaction, volume_id)
            if volume.format_state is FormatState.FORMATTED:
                raise WrongState(
                    f"volume {volume_id} was formatted before and is not formatted again",
                    remedy="look at what is on it; nothing was changed",
                )
            return volumes.store(transaction, replace(volume, format_state=FormatState.FORMATTING))

    def formatted(self, volume_id: str, generation: int) -> Volume:
        """The host has formatted the volume, or has found on it the volume's own file system.

        It finds that on one which, as far as the ledger knows, was never formatted, where the ledger is a restored one.

        :raises WrongState: it is not attached there
        """
        with self._write() as transaction:
            _must_be_on_host(_must_be_current(transaction, volume_id, generation))
            volume = volumes.must_find(transaction, volume_id)
            return volumes.store(transaction, replace(volume, format_state=FormatState.FORMATTED))

    def published(self, volume_id: str, generation: int, device: str, target: str) -> Publication:
        """The host has mounted the volume.

        :raises WrongState: it is not attached there, or is being taken back
        """
        with self._write() as transaction:
            current = _must_be_current(transaction, volume_id, generation)
            _must_be_on_host(current)
            return store(transaction, replace(current, state=PublicationState.PUBLISHED, device=device, target=target))

    def unpublished(self, volume_id: str, generation: int) -> None:
        """The host has let go of the volume, or shall: it is DETACHING. Nothing happens where it was detached since."""
        with self._write() as transaction:
            current = find(transaction, volume_id)
            if current is None and _is_last(transaction, volume_id, generation):
                return
            current = _must_be_current(transaction, volume_id, generation)
            store(transaction, replace(current, state=PublicationState.DETACHING))

    def detached(self, volume_id: str, generation: int) -> None:
        """The platform has taken the volume from the host: another may have it. Saying so twice does no harm.

        :raises WrongState: the publication was not DETACHING
        """
        with self._write() as transaction:
            current = find(transaction, volume_id)
            if current is None and _is_last(transaction, volume_id, generation):
                return
            current = _must_be_current(transaction, volume_id, generation)
            if current.state is not PublicationState.DETACHING:
                raise WrongState(
                    f"volume {volume_id} is {current.state} on host {current.host} and cannot be detached",
                    remedy="unpublish it first",
                )
            transaction.run(_REMOVE, key=volume_id)
            transaction.touch(current.agent)


def find(transaction: Transaction, volume_id: str) -> Publication | None:
    """The volume's publication, None where no host has it."""
    row = transaction.one(_PUBLICATION, key=volume_id)
    return rows.to_publication(row) if row is not None else None


def first_generation(epoch: int) -> int:
    """The number above which the generations of an epoch begin.

    A restored or rebuilt ledger does not know the last generations of its earlier epochs, which hosts may still hold. So
    that none is given twice, what it gives is above all of them.
    """
    return (epoch - 1) * GENERATIONS_OF_AN_EPOCH


def _add(transaction: Transaction, volume: Volume, agent: str, host: str, *, above: int) -> Publication:
    generation = max(volume.generation, above) + 1
    volumes.store(transaction, replace(volume, generation=generation))
    new = Publication(
        volume=volume.id,
        agent=agent,
        host=host,
        generation=generation,
        state=PublicationState.ATTACHING,
    )
    return _insert(transaction, new)


def _insert(transaction: Transaction, publication: Publication) -> Publication:
    new = replace(publication, updated=time.time())
    transaction.run(_ADD, **rows.from_publication(new))
    transaction.touch(new.agent)
    return new


def store(transaction: Transaction, publication: Publication) -> Publication:
    """Keep a changed publication."""
    changed = replace(publication, updated=time.time())
    transaction.run(_STORE, key=publication.volume, **rows.from_publication(changed))
    transaction.touch(publication.agent)
    return changed


def put(transaction: Transaction, publication: Publication) -> Publication:
    """Keep a publication in place of whatever the volume has."""
    transaction.run(_REMOVE, key=publication.volume)
    return _insert(transaction, publication)


def must_be_unpublished(transaction: Transaction, volume_id: str) -> None:
    """:raises VolumeInUse: a host has the volume"""
    current = find(transaction, volume_id)
    if current is not None:
        raise VolumeInUse(
            f"volume {volume_id} is {current.state} on host {current.host} of agent {current.agent}",
            remedy="wait until it is detached there",
        )


def _must_be_current(transaction: Transaction, volume_id: str, generation: int) -> Publication:
    current = find(transaction, volume_id)
    if current is None or current.generation != generation:
        volume = volumes.must_find(transaction, volume_id)
        raise StaleGeneration(
            f"generation {generation} of volume {volume_id} is over; the newest is {volume.generation}",
            remedy="unmount it and stop using it",
        )
    return current


def _is_last(transaction: Transaction, volume_id: str, generation: int) -> bool:
    return volumes.must_find(transaction, volume_id).generation == generation > 0


def _must_be_same(current: Publication, agent: str) -> None:
    if current.agent != agent:
        raise VolumeInUse(
            f"volume {current.volume} is {current.state} on host {current.host} of agent {current.agent}",
            remedy="wait until it is detached there",
        )
    if current.state is PublicationState.DETACHING:
        raise VolumeInUse(
            f"volume {current.volume} is being detached from host {current.host}", remedy="wait until that is done"
        )


def _must_be_on_host(current: Publication) -> None:
    if current.state not in _ON_HOST:
        raise WrongState(
            f"volume {current.volume} is {current.state} on host {current.host}, not attached",
            remedy="wait until it is attached" if current.state is PublicationState.ATTACHING else "let go of it",
        )
