"""What becomes of an agent's things when it comes back under another id, dies, is drained, or is forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy import bindparam, delete, select, update

from polly_mesos.errors import Conflict, InvalidRequest, WrongState
from polly_mesos.ledger import events, journal, publications, rows, space, volumes
from polly_mesos.ledger.store import Prepared, Store, Transaction
from polly_mesos.ledger.tables import agents, holdings, providers
from polly_mesos.ledger.tables import publications as publication_rows
from polly_mesos.ledger.tables import volumes as volume_rows
from polly_mesos.ledger.transitions import VOLUME, OperationEvent, PublicationEvent, VolumeEvent
from polly_mesos.model import Agent, AgentState, Event, Publication, Severity, Volume

_AGENT = Prepared(select(agents).where(agents.c.id == bindparam("agent")))
_SET_STATE = Prepared(update(agents).where(agents.c.id == bindparam("key")).values(state=bindparam("to_state")))
_FORGET_AGENT = Prepared(delete(agents).where(agents.c.id == bindparam("agent")))
_FORGET_PROVIDER = Prepared(delete(providers).where(providers.c.agent == bindparam("the_agent")))

_HOLDINGS = Prepared(select(holdings).where(holdings.c.agent == bindparam("the_agent")))
_DROP_HOLDINGS = Prepared(delete(holdings).where(holdings.c.agent == bindparam("the_agent")))

_VOLUMES = Prepared(select(volume_rows).where(volume_rows.c.agent == bindparam("the_agent")))
_PUBLICATIONS = Prepared(
    select(publication_rows, volume_rows.c.service.label("service"))
    .join(volume_rows, volume_rows.c.id == publication_rows.c.volume)
    .where(publication_rows.c.agent == bindparam("the_agent"))
    .order_by(publication_rows.c.volume)
)


class Takeover(Store):
    """Agents that are replaced, fenced, emptied and forgotten; volumes that move between them."""

    def set_agent_state(self, agent_id: str, state: AgentState) -> None:
        """Change the agent's state and nothing else of it.

        :raises UnknownAgent: the ledger has none of that id
        """
        with self._write() as transaction:
            if not transaction.run(_SET_STATE, key=agent_id, to_state=state.value):
                raise space.unknown_agent(agent_id)

    def replace_agent(self, old: str, new: str) -> None:
        """The host that was the Mesos agent ``old`` is ``new`` now: all that ``old`` has becomes that of ``new``.

        Leases and reservations are merged, volumes and publications keep everything but their agent, and statuses that
        ``old`` has not acknowledged are closed: nobody will. Then ``old`` and its provider are forgotten. Nothing
        happens where ``old`` is not known, for example because it was replaced before. Event ``agent.replaced``.

        :raises UnknownAgent: the ledger has no ``new``
        :raises InvalidRequest: both are the same
        :raises Conflict: they are not the same host, by their address or by what the platforms call them
        :raises AlreadyExists: both have a volume of the same role and persistence id
        """
        if old == new:
            raise InvalidRequest(f"agent {old} cannot replace itself", remedy="name two agents", field="new", value=new)
        with self._write() as transaction:
            successor = _must_find(transaction, new)
            row = transaction.one(_AGENT, agent=old)
            if row is None:
                return
            _must_be_same_host(transaction, rows.to_agent(row), successor)
            _hand_over(transaction, old, new)
            journal.close_agent(transaction, old, OperationEvent.AGENT_REPLACED, to=new)
            _remove(transaction, old)
            transaction.touch(new)
            message = f"agent {old} on {successor.endpoint} came back as {new}, which has all that it had"
            events.record(transaction, Event("agent.replaced", new, message, detail={"old": old}))

    def fence(self, agent_id: str, service: str, proof: str, held: Mapping[str, int] | None = None) -> list[str]:
        """The agent's host cannot write to the service's volumes any more: they may be taken from it by force.

        All its publications of that service become DETACHING and fenced. Event ``agent.fenced``, where any was not.

        :param proof: what proves it, or who says so; one sentence
        :param held: volume id -> generation of what the host had before the proof was asked for: nothing else is
            fenced, because the host may have come back and been given it since; None for everything
        :return: the ids of the volumes, those that were fenced before included
        :raises UnknownAgent: the ledger has none of that id
        """
        with self._write() as transaction:
            agent = _must_find(transaction, agent_id)
            on_host = [
                publication
                for publication, of_service in _publications(transaction, agent_id)
                if of_service == service and (held is None or held.get(publication.volume) == publication.generation)
            ]
            anew = [publication for publication in on_host if not publication.fenced]
            for publication in anew:
                fenced = replace(publication, fenced=True)
                publications.advance(transaction, publication, PublicationEvent.FENCED, fenced)
            if anew:
                message = f"agent {agent_id} on {agent.endpoint} cannot write to {service} any more: {proof}"
                detail = {"service": service, "proof": proof, "volumes": [publication.volume for publication in anew]}
                events.record(transaction, Event("agent.fenced", agent_id, message, Severity.WARNING, detail))
            return [publication.volume for publication in on_host]

    def dissolve(self, agent_id: str) -> None:
        """The agent's lease and reservations go back to the pools. Its volumes stay what and where they are.

        :raises UnknownAgent: the ledger has none of that id
        :raises WrongState: the agent is neither LOST nor FENCED
        """
        with self._write() as transaction:
            _must_be_dead(_must_find(transaction, agent_id))
            if transaction.run(_DROP_HOLDINGS, the_agent=agent_id):
                transaction.touch(agent_id)

    def move_volume(self, volume_id: str, agent_id: str) -> Volume:
        """Another agent is to offer the volume, with its reservation and persistence id; nobody, where it is empty.

        Event ``volume.moved`` or ``volume.parked``; nothing happens where the volume is there already.

        :raises UnknownVolume, UnknownAgent: the ledger has none of that id
        :raises VolumeInUse: a host has the volume
        :raises AlreadyExists: the agent has a volume of the same role and persistence id
        :raises WrongState: the volume is not its owner's any more, or the agent is LOST or FENCED
        """
        with self._write() as transaction:
            event = VolumeEvent.MOVED if agent_id else VolumeEvent.PARKED
            volume, state = volumes.step(transaction, volume_id, event)
            if agent_id:
                _must_be_alive(_must_find(transaction, agent_id))
            if volume.agent == agent_id:
                return volume
            volumes.must_be_free(transaction, volume_id, PublicationEvent.MOVED)
            moved = replace(volume, state=state, agent=agent_id)
            volumes.persistence_id_must_be_new(transaction, moved)
            transaction.touch(volume.agent)
            events.record(transaction, _moved(volume, agent_id))
            return volumes.store(transaction, moved)

    def forget_agent(self, agent_id: str) -> None:
        """Remove an agent that has nothing left; nothing happens where it is not known.

        Volumes that are being deleted or were retained stay, as nobody's. Unacknowledged statuses are closed.

        :raises WrongState: the agent is neither LOST nor FENCED, or has a lease, reservation or live volume
        :raises VolumeInUse: its host has a volume
        """
        with self._write() as transaction:
            row = transaction.one(_AGENT, agent=agent_id)
            if row is None:
                return
            _must_be_dead(rows.to_agent(row))
            _let_go(transaction, agent_id)
            journal.close_agent(transaction, agent_id, OperationEvent.AGENT_FORGOTTEN, to=agent_id)
            _remove(transaction, agent_id)
            transaction.touch(agent_id)


def _must_find(transaction: Transaction, agent_id: str) -> Agent:
    row = transaction.one(_AGENT, agent=agent_id)
    if row is None:
        raise space.unknown_agent(agent_id)
    return rows.to_agent(row)


def is_dead(transaction: Transaction, agent_id: str) -> bool:
    """Whether the agent never comes back.

    :raises UnknownAgent: the ledger has none of that id
    """
    return _must_find(transaction, agent_id).state.is_over


def _must_be_dead(agent: Agent) -> None:
    if not agent.state.is_over:
        raise WrongState(
            f"agent {agent.id} is {agent.state}: what it has is still its own",
            remedy="wait until Mesos has given it up, or fence it: polly agent fence",
        )


def _must_be_alive(agent: Agent) -> None:
    if agent.state.is_over:
        raise WrongState(f"agent {agent.id} is {agent.state} and offers nothing", remedy="choose another agent")


def _must_be_same_host(transaction: Transaction, old: Agent, new: Agent) -> None:
    if old.endpoint != new.endpoint:
        raise Conflict(
            f"agent {old.id} is at {old.endpoint}, and {new.id} at {new.endpoint}: they are not the same host",
            remedy="fence the old agent, so that its volumes can move",
        )
    for publication, service in _publications(transaction, old.id):
        identity = new.identities.get(service)
        if identity is not None and identity.host != publication.host:
            raise Conflict(
                f"volume {publication.volume} is on host {publication.host}, and agent {new.id} is {identity.host}:"
                f" another machine has taken the address {new.endpoint}",
                remedy="fence the old agent, so that its volumes can move",
            )


def _hand_over(transaction: Transaction, old: str, new: str) -> None:
    for volume in _volumes(transaction, old):
        state = VOLUME.kept(volume.state, VolumeEvent.AGENT_REPLACED, f"volume {volume.id}")
        moved = replace(volume, state=state, agent=new)
        if state in volumes.LIVE:
            volumes.persistence_id_must_be_new(transaction, moved)
        volumes.store(transaction, moved)
    for publication, _ in _publications(transaction, old):
        moved_there = replace(publication, agent=new)
        publications.advance(transaction, publication, PublicationEvent.AGENT_REPLACED, moved_there)
    held = transaction.all(_HOLDINGS, the_agent=old)
    transaction.run(_DROP_HOLDINGS, the_agent=old)
    for pool, _, owner, size, backed in held:
        space.give(transaction, pool, new, owner, size, backed)


def _let_go(transaction: Transaction, agent_id: str) -> None:
    for publication, _ in _publications(transaction, agent_id):
        publications.advance(transaction, publication, PublicationEvent.AGENT_FORGOTTEN)
    for volume in _volumes(transaction, agent_id):
        state = VOLUME.kept(volume.state, VolumeEvent.AGENT_FORGOTTEN, f"volume {volume.id}")
        volumes.store(transaction, replace(volume, state=state, agent=""))
    if transaction.all(_HOLDINGS, the_agent=agent_id):
        raise WrongState(f"agent {agent_id} still has a lease or reservations", remedy="dissolve them first")


def _remove(transaction: Transaction, agent_id: str) -> None:
    transaction.run(_FORGET_PROVIDER, the_agent=agent_id)
    transaction.run(_FORGET_AGENT, agent=agent_id)


def _volumes(transaction: Transaction, agent_id: str) -> list[Volume]:
    return [rows.to_volume(row) for row in transaction.all(_VOLUMES, the_agent=agent_id)]


def _publications(transaction: Transaction, agent_id: str) -> list[tuple[Publication, str]]:
    """The agent's publications, each with the service of its volume."""
    found = transaction.all(_PUBLICATIONS, the_agent=agent_id)
    return [(rows.to_publication(row[:-1]), row[-1]) for row in found]


def _moved(volume: Volume, agent_id: str) -> Event:
    detail = {"from": volume.agent, "to": agent_id, "persistence_id": volume.persistence_id}
    if agent_id:
        message = f"volume {volume.id} is offered by agent {agent_id} now, before by {volume.agent or 'nobody'}"
        return Event("volume.moved", volume.id, message, detail=detail)
    message = f"volume {volume.id} is offered by nobody now, before by {volume.agent}"
    return Event("volume.parked", volume.id, message, Severity.WARNING, detail)
