"""Adoption: volumes and publications that exist and whose owner or ledger had lost them."""

from __future__ import annotations

import time
from dataclasses import replace

from polly_mesos.errors import AlreadyExists, Forbidden, InvalidRequest, StaleGeneration, VolumeInUse, WrongState
from polly_mesos.ledger import events, publications, space, takeover, volumes
from polly_mesos.ledger.changes import AdoptVolume
from polly_mesos.ledger.store import Store, Transaction
from polly_mesos.ledger.transitions import FORMAT, PUBLICATION, VOLUME, FormatEvent, PublicationEvent, VolumeEvent
from polly_mesos.model import (
    UNRESERVED,
    Event,
    FormatState,
    Publication,
    Severity,
    Volume,
    VolumeKind,
    VolumeState,
)

_EXISTING = frozenset({VolumeState.READY, VolumeState.RELEASED})


class Adoption(Store):
    """What hosts and platforms have and the ledger has not: it was restored from a backup, or rebuilt."""

    def adopt_volume(self, volume: Volume) -> Volume:
        """Keep a volume that its platform has under our tag and the ledger has not. Event ``volume.adopted``.

        Its bytes come out of what is free in its pool, then out of leases: its own agent's first, then the largest.
        Asked again for the same platform volume, it returns what there is.

        :param volume: as it is to be kept: READY or RELEASED, with its platform id, FORMATTED so that nothing ever
            formats it, and with the generation that it had at least
        :raises InvalidRequest: it is not like that
        :raises UnknownPool, UnknownAgent: the ledger has none of that name
        :raises AlreadyExists: the id or the persistence id is taken
        :raises InsufficientCapacity: the pool has not so many bytes that are free or in leases
        """
        _must_exist_on_platform(volume)
        event = VolumeEvent.FOUND_RELEASED if volume.state is VolumeState.RELEASED else VolumeEvent.FOUND
        with self._write() as transaction:
            known = volumes.find(transaction, volume.id)
            state = VOLUME.kept(known.state if known else None, event, f"volume {volume.id}")
            if known is not None:
                _must_be_same(known, volume)
                return known
            space.take_unreserved(transaction, volume.pool, volume.agent, volume.size)
            message = f"volume {volume.id} was found on {volume.service} as {volume.platform_id} and is {volume.state}"
            detail = {"platform_id": volume.platform_id, "size": volume.size, "pool": volume.pool}
            events.record(transaction, Event("volume.adopted", volume.id, message, Severity.WARNING, detail))
            now = time.time()
            found = replace(volume, state=state, error="", created=volume.created or now, updated=now)
            return volumes.keep(transaction, found)

    def adopt_publication(self, volume_id: str, agent_id: str, host: str, generation: int, target: str) -> Publication:
        """A host holds a volume of which the ledger does not know that: it is PUBLISHED there under that generation.

        The volume's generation is raised to it, the volume counts as formatted, and where the host's generation is
        newer than the ledger's the volume is that agent's, unless its owner destroyed it. A publication that the
        ledger knows under the same generation becomes PUBLISHED, unless it is being taken back. Event
        ``publication.adopted``, where anything changed.

        :param target: where the host has it mounted
        :raises UnknownVolume, UnknownAgent: the ledger has none of that id
        :raises StaleGeneration: the ledger knows a newer generation, or that this one is over: the host must let go
        :raises VolumeInUse: another host has it, as far as the ledger knows
        :raises WrongState: the volume is deleted, or the platform has not made it
        :raises AlreadyExists: the agent has another volume of the same role and persistence id
        """
        with self._write() as transaction:
            space.agent_must_exist(transaction, agent_id)
            volume, _ = volumes.step(transaction, volume_id, VolumeEvent.PUBLICATION_ADOPTED)
            current = publications.find(transaction, volume_id)
            _must_not_be_over(transaction, volume, current, agent_id, generation)
            _must_be_free_for(volume, current, agent_id, host)
            newer = generation > volume.generation
            event = PublicationEvent.ADOPTED_NEWER if newer else PublicationEvent.ADOPTED
            name = f"publication of volume {volume_id}"
            state = PUBLICATION.kept(current.state if current else None, event, name)
            if current is not None and state is current.state and not newer:
                return current
            _catch_up(transaction, volume, agent_id, generation)
            found = Publication(volume_id, agent_id, host, generation, state, target=target)
            events.record(transaction, _adopted(found))
            if current is None:
                return publications.add(transaction, found)
            changed = found if newer else replace(current, target=target)
            return publications.advance(transaction, current, event, changed)


def adopt(transaction: Transaction, change: AdoptVolume) -> Volume:
    """Give an abandoned volume to a CREATE instead of an empty one; see :class:`AdoptVolume`.

    :raises VolumeInUse: a host has it
    :raises WrongState: it is not abandoned, or is failed, retained or deleted
    :raises InvalidRequest: it is no PATH volume, or the new names are empty
    :raises Forbidden: the new owner is of another role
    """
    volume, state = volumes.step(transaction, change.volume_id, VolumeEvent.ADOPTED)
    volumes.must_be(volume, VolumeKind.PATH)
    volumes.must_be_free(transaction, volume.id, PublicationEvent.VOLUME_ADOPTED)
    if volume.agent and not takeover.is_dead(transaction, volume.agent):
        raise WrongState(
            f"volume {volume.id} is offered by agent {volume.agent}: it is not abandoned",
            remedy="wait until the agent is lost or fenced, or the volume parked",
        )
    if volumes.role_of(volume.owner) != volumes.role_of(change.owner):
        raise Forbidden(
            f"volume {volume.id} belongs to role {volumes.role_of(volume.owner)}, not to"
            f" {volumes.role_of(change.owner)}",
            remedy="create a new volume",
        )
    adopted = replace(
        volume,
        state=state,
        agent=change.agent,
        owner=change.owner,
        persistence_id=change.persistence_id,
        persistence=change.persistence,
        framework=change.framework,
    )
    volumes.persistence_id_must_be_new(transaction, adopted)
    # The volume has its own bytes: what the pool held for the reservation is free for others.
    space.take(transaction, volume.pool, change.agent, change.owner, volume.size)
    message = f"volume {volume.id} ({volume.persistence_id}) with its data is {change.persistence_id} now"
    detail = {"from": volume.agent, "to": change.agent, "was": volume.persistence_id, "is": change.persistence_id}
    events.record(transaction, Event("volume.adopted", volume.id, message, Severity.WARNING, detail))
    transaction.touch(volume.agent)
    return volumes.store(transaction, adopted)


def _must_be_same(known: Volume, found: Volume) -> None:
    if known.platform_id != found.platform_id:
        raise AlreadyExists(
            f"volume {known.id} is {known.platform_id or 'nothing'} on its platform as far as the ledger knows, and"
            f" {found.platform_id} has its tag too",
            remedy=f"see which of the two has the data; the ledger does not touch {found.platform_id}",
        )


def _must_exist_on_platform(volume: Volume) -> None:
    space.size_must_be_possible(volume.size)
    wrong = {
        "state": (volume.state not in _EXISTING, volume.state),
        "platform_id": (not volume.platform_id, volume.platform_id),
        "format_state": (volume.format_state is not FormatState.FORMATTED, volume.format_state),
        "generation": (volume.generation < 0, volume.generation),
        "owner": (
            volume.kind is VolumeKind.PATH and volume.state is VolumeState.READY and volume.owner == UNRESERVED,
            volume.owner,
        ),
    }
    for field, (is_wrong, value) in wrong.items():
        if is_wrong:
            raise InvalidRequest(
                f"the {field} of volume {volume.id}, which its platform has, is {value!r}",
                remedy="give a volume that is ready, formatted and owned, or one that is released",
                field=field,
                value=value,
            )


def _must_not_be_over(
    transaction: Transaction, volume: Volume, current: Publication | None, agent_id: str, generation: int
) -> None:
    over = generation < volume.generation or generation < 1
    if generation == volume.generation and current is None:
        # As far as the ledger knows the platform has taken the volume from its last host. Only where that host is still
        # to have it can the ledger be the one that is behind.
        over = over or volume.agent != agent_id or takeover.is_dead(transaction, agent_id)
    if over:
        raise StaleGeneration(
            f"generation {generation} of volume {volume.id} is over; the newest is {volume.generation}",
            remedy="unmount it and stop using it",
        )


def _must_be_free_for(volume: Volume, current: Publication | None, agent_id: str, host: str) -> None:
    if current is not None and (current.agent, current.host) != (agent_id, host):
        raise VolumeInUse(
            f"volume {volume.id} is {current.state} on host {current.host} of agent {current.agent}, and host {host} of"
            f" agent {agent_id} says that it has it",
            remedy="see which of the two really has it; the other lets go of it by itself as soon as it is asked",
        )
    if not volume.platform_id:
        raise WrongState(
            f"volume {volume.id} was never made, and host {host} says that it has it",
            remedy="look for it on its platform: polly check",
        )


def _catch_up(transaction: Transaction, volume: Volume, agent_id: str, generation: int) -> None:
    """What the ledger learns of a volume from the host that has it."""
    format_state = FORMAT.kept(volume.format_state, FormatEvent.PUBLICATION_ADOPTED, f"volume {volume.id}")
    changed = replace(volume, generation=generation, format_state=format_state)
    if generation > volume.generation and volume.state in volumes.LIVE:
        # One that was destroyed stays where it was: a reservation there may wait for its bytes.
        changed = replace(changed, agent=agent_id)
        volumes.persistence_id_must_be_new(transaction, changed)
        transaction.touch(volume.agent)
    volumes.store(transaction, changed)


def _adopted(found: Publication) -> Event:
    message = (
        f"host {found.host} of agent {found.agent} has volume {found.volume} at {found.target}, as generation"
        f" {found.generation}"
    )
    detail = {"agent": found.agent, "host": found.host, "generation": found.generation, "target": found.target}
    return Event("publication.adopted", found.volume, message, Severity.WARNING, detail)
