"""Publications: which host has which volume. Every step is made under a generation, and one that is over is refused."""

from __future__ import annotations

import time
from dataclasses import replace

from sqlalchemy import bindparam, delete, insert, select, update

from polly_mesos.errors import AgentUnreachable, StaleGeneration, VolumeInUse, WrongState
from polly_mesos.ledger import rows, space, volumes
from polly_mesos.ledger.store import Prepared, Store, Transaction
from polly_mesos.ledger.tables import agents, publications
from polly_mesos.ledger.transitions import FORMAT, PUBLICATION, FormatEvent, PublicationEvent, VolumeEvent
from polly_mesos.model import AgentState, Json, Publication, Volume

_PUBLICATION = Prepared(select(publications).where(publications.c.volume == bindparam("key")))
_ADD = Prepared(insert(publications))
_STORE = Prepared(
    update(publications)
    .where(publications.c.volume == bindparam("key"))
    .values({column.name: bindparam(column.name) for column in publications.c if not column.primary_key})
)
_AGENT_STATE = Prepared(select(agents.c.state).where(agents.c.id == bindparam("agent")))
_REMOVE = Prepared(delete(publications).where(publications.c.volume == bindparam("key")))

GENERATIONS_OF_AN_EPOCH = 1 << 20
"""More than a volume is published in one epoch; 2,047 epochs still fit into 32 bits."""


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
        :raises WrongState: the volume failed, or is retained or deleted, or another agent advertises it, or the agent
            is LOST or FENCED
        :raises AgentUnreachable: the master does not reach the agent, whose host may be dead
        """
        with self._write() as transaction:
            volume, _ = volumes.step(transaction, volume_id, VolumeEvent.PUBLISH)
            agent_state = _agent_state(transaction, agent)
            current = find(transaction, volume_id)
            if current is not None:
                if current.agent != agent:
                    raise VolumeInUse(f"{_name(current)} is {current.state}", remedy="wait until it is detached there")
                return advance(transaction, current, PublicationEvent.PUBLISH)
            if volume.agent not in ("", agent):
                raise WrongState(
                    f"volume {volume_id} is advertised by agent {volume.agent}, not by {agent}",
                    remedy="launch the task on the agent whose offer has the volume",
                )
            _must_be_there(agent, agent_state)
            generation = max(volume.generation, first_generation(self.epoch)) + 1
            volumes.store(transaction, replace(volume, generation=generation))
            state = PUBLICATION.kept(None, PublicationEvent.PUBLISH, f"publication of volume {volume_id}")
            return add(transaction, Publication(volume_id, agent, host, generation, state))

    def attached(self, volume_id: str, generation: int, attachment: Json) -> Publication:
        """The platform has given the volume to the host. One that is already being taken back stays DETACHING.

        :param attachment: what the host's driver needs to find the volume
        :raises WrongState: the platform has not made the volume
        """
        with self._write() as transaction:
            current = _must_be_current(transaction, volume_id, generation, PublicationEvent.ATTACHED)
            if not volumes.must_find(transaction, volume_id).platform_id:
                raise WrongState(f"volume {volume_id} is not made yet and cannot be attached", remedy="create it first")
            changed = replace(current, attachment=attachment)
            return advance(transaction, current, PublicationEvent.ATTACHED, changed)

    def formatting(self, volume_id: str, generation: int) -> Volume:
        """The host is about to format the volume, for the first time or because a first time was interrupted.

        :raises WrongState: it is not attached there, or was formatted before: it never is again
        """
        with self._write() as transaction:
            _must_be_current(transaction, volume_id, generation, PublicationEvent.FORMATTING)
            return _format(transaction, volume_id, FormatEvent.FORMATTING)

    def formatted(self, volume_id: str, generation: int) -> Volume:
        """The host has formatted the volume, or has found on it the volume's own file system.

        It finds that on one which, as far as the ledger knows, was never formatted, where the ledger is a restored one.

        :raises WrongState: it is not attached there
        """
        with self._write() as transaction:
            _must_be_current(transaction, volume_id, generation, PublicationEvent.FORMATTED)
            return _format(transaction, volume_id, FormatEvent.FORMATTED)

    def published(self, volume_id: str, generation: int, device: str, target: str) -> Publication:
        """The host has mounted the volume.

        :raises WrongState: it is not attached there, or is being taken back
        """
        with self._write() as transaction:
            current = _must_be_current(transaction, volume_id, generation, PublicationEvent.PUBLISHED)
            changed = replace(current, device=device, target=target)
            return advance(transaction, current, PublicationEvent.PUBLISHED, changed)

    def unpublished(self, volume_id: str, generation: int) -> None:
        """The host has let go of the volume, or shall: it is DETACHING. Nothing happens where it was detached since."""
        with self._write() as transaction:
            current = _find_newest(transaction, volume_id, generation)
            if current is None:
                PUBLICATION.after(None, PublicationEvent.UNPUBLISHED, f"publication of volume {volume_id}")
                return
            advance(transaction, current, PublicationEvent.UNPUBLISHED)

    def detached(self, volume_id: str, generation: int) -> None:
        """The platform has taken the volume from the host: another may have it. Saying so twice does no harm.

        :raises WrongState: the publication was not DETACHING
        """
        with self._write() as transaction:
            current = _find_newest(transaction, volume_id, generation)
            if current is None:
                PUBLICATION.after(None, PublicationEvent.DETACHED, f"publication of volume {volume_id}")
                return
            PUBLICATION.after(current.state, PublicationEvent.DETACHED, _name(current))
            remove(transaction, current)


def first_generation(epoch: int) -> int:
    """The number above which the generations of an epoch begin.

    A restored or rebuilt ledger does not know the last generations of its earlier epochs, which hosts may still hold.
    So that none is given twice, what it gives is above all of them.
    """
    return (epoch - 1) * GENERATIONS_OF_AN_EPOCH


def find(transaction: Transaction, volume_id: str) -> Publication | None:
    """The volume's publication, None where no host has it."""
    row = transaction.one(_PUBLICATION, key=volume_id)
    return rows.to_publication(row) if row is not None else None


def add(transaction: Transaction, publication: Publication) -> Publication:
    """Keep a new publication, of a volume that has none."""
    new = replace(publication, updated=time.time())
    transaction.run(_ADD, **rows.from_publication(new))
    transaction.touch(new.agent)
    return new


def advance(
    transaction: Transaction, current: Publication, event: PublicationEvent, changed: Publication | None = None
) -> Publication:
    """Keep a publication in the state in which an event leaves it, and what else of it has ``changed``.

    :raises PollyError: the event is refused in its state
    """
    state = PUBLICATION.kept(current.state, event, _name(current))
    wanted = replace(changed or current, state=state)
    if wanted == current:
        return current
    stored = replace(wanted, updated=time.time())
    transaction.run(_STORE, key=stored.volume, **rows.from_publication(stored))
    transaction.touch(stored.agent)
    return stored


def remove(transaction: Transaction, publication: Publication) -> None:
    """The volume is on no host any more."""
    transaction.run(_REMOVE, key=publication.volume)
    transaction.touch(publication.agent)


def _agent_state(transaction: Transaction, agent: str) -> AgentState:
    row = transaction.one(_AGENT_STATE, agent=agent)
    if row is None:
        raise space.unknown_agent(agent)
    return AgentState(row[0])


def _must_be_there(agent: str, state: AgentState) -> None:
    # Who fences a host takes what it has from it once; what it got later would stay with it for ever. A request that
    # waits for its volume can outlive the host that made it.
    if state is AgentState.UNREACHABLE:
        raise AgentUnreachable(
            f"agent {agent} is unreachable: its host may be dead, and gets nothing now",
            remedy="wait until the master reaches it again, or fence it: polly agent fence",
        )
    if state.is_over:
        raise WrongState(
            f"agent {agent} is {state}: its host gets no volumes any more",
            remedy="launch the task on the agent whose offer has the volume",
        )


def _name(publication: Publication) -> str:
    return f"volume {publication.volume} on host {publication.host} of agent {publication.agent}"


def _find_newest(transaction: Transaction, volume_id: str, generation: int) -> Publication | None:
    """The publication of that generation; None where it is over and none came after it.

    :raises StaleGeneration: another came after it, or there never was such a generation
    """
    volume = volumes.must_find(transaction, volume_id)
    current = find(transaction, volume_id)
    newest = volume.generation if current is None else current.generation
    if generation != newest or generation < 1:
        raise StaleGeneration(
            f"generation {generation} of volume {volume_id} is over; the newest is {newest}",
            remedy="unmount it and stop using it",
        )
    return current


def _must_be_current(transaction: Transaction, volume_id: str, generation: int, event: PublicationEvent) -> Publication:
    """The publication of that generation, in which the event may happen."""
    current = _find_newest(transaction, volume_id, generation)
    if current is None:
        PUBLICATION.after(None, event, f"publication of volume {volume_id}")
        raise LookupError(f"the table lets {event} happen to a volume that no host has")
    PUBLICATION.after(current.state, event, _name(current))
    return current


def _format(transaction: Transaction, volume_id: str, event: FormatEvent) -> Volume:
    volume = volumes.must_find(transaction, volume_id)
    state = FORMAT.kept(volume.format_state, event, f"the format of volume {volume_id}")
    return volumes.store(transaction, replace(volume, format_state=state))
