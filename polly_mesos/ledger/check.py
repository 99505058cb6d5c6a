"""Looking for what must never be in a ledger, and for what somebody should look at. Changes nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import select, union_all

from polly_mesos.ledger import Ledger, sqlite
from polly_mesos.ledger.tables import history, intents, verdicts
from polly_mesos.ledger.volumes import LIVE, role_of
from polly_mesos.model import (
    UNRESERVED,
    AgentState,
    FormatState,
    OperationState,
    Publication,
    PublicationState,
    Severity,
    Volume,
    VolumeKind,
    VolumeState,
)

OLD_INTENT_SECONDS = 600.0
"""After so long an intent without outcome is worth a look."""

CLOCK_TOLERANCE_SECONDS = 60.0
"""What an operation may seem to lie ahead without a word about the clock."""

_EXISTING = frozenset(VolumeState) - {VolumeState.DELETED}
_GIVING_BACK = frozenset({VolumeState.DELETING, VolumeState.RELEASED})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    :param severity: ERROR where the ledger contradicts itself, WARNING where something waits for longer than it should
    :param code: dotted words that stay the same from version to version
    :param subject: the id of the volume, pool, agent or operation that it is about; empty where it is the whole file
    """

    severity: Severity
    code: str
    subject: str
    what: str
    remedy: str


def check(ledger: Ledger, *, intent_age: float = OLD_INTENT_SECONDS, thorough: bool = True) -> list[Finding]:
    """Everything that is wrong with a ledger, errors first; empty where it is clean. All of it is of one moment.

    :param intent_age: seconds after which an intent without outcome is reported
    :param thorough: whether to compare the file's indexes with its tables too, and to count every operation ever made
    """
    with ledger.snapshot():
        broken = list(_structure(ledger, thorough))
        if broken:
            return broken
        found = [*_balances(ledger), *_unbacked(ledger), *_volumes(ledger), *_publications(ledger)]
        found += [*_agents(ledger), *_intents(ledger, intent_age)]
        if thorough:
            found += _duplicates(ledger)
    return sorted(found, key=lambda finding: finding.severity is Severity.WARNING)


def _structure(ledger: Ledger, thorough: bool) -> Iterator[Finding]:
    with ledger.reading() as connection:
        damage = sqlite.damage(connection, thorough=thorough)
        references = sqlite.broken_references(connection)
    for what in damage:
        yield Finding(Severity.ERROR, "ledger.damaged", "", f"the file is damaged: {what}", "restore it from a backup")
    for what in references:
        yield Finding(
            Severity.ERROR, "ledger.broken-reference", "", what, "restore the ledger from a backup, and report this"
        )


def _balances(ledger: Ledger) -> Iterator[Finding]:
    for balance in ledger.balance().values():
        if balance.free < 0:
            promised = balance.capacity - balance.free
            yield Finding(
                Severity.ERROR,
                "pool.overcommitted",
                balance.pool,
                f"pool {balance.pool} has promised {promised} bytes and has {balance.capacity}",
                "give the pool its capacity back, or delete volumes; until then nothing more is promised",
            )


def _unbacked(ledger: Ledger) -> Iterator[Finding]:
    coming = Counter[tuple[str, str]]()
    for volume in ledger.volumes(states=_GIVING_BACK):
        coming[volume.pool, volume.agent] += volume.size
    waiting = Counter[tuple[str, str]]()
    for holding in ledger.holdings():
        waiting[holding.pool, holding.agent] += holding.size - holding.backed
    for (pool, agent), size in waiting.items():
        if size > coming[pool, agent]:
            yield Finding(
                Severity.ERROR,
                "pool.space-lost",
                f"{pool}@{agent}",
                f"agent {agent} waits for {size} bytes of pool {pool}, and volumes of {coming[pool, agent]} bytes are"
                " being deleted or retained there",
                "report this: space was lost in the books",
            )


def _volumes(ledger: Ledger) -> Iterator[Finding]:
    published = {publication.volume for publication in ledger.publications()}
    volumes = ledger.volumes(states=_EXISTING)
    for volume in volumes:
        if volume.format_state is FormatState.FORMATTING and volume.id not in published and volume.state in LIVE:
            yield Finding(
                Severity.WARNING,
                "volume.format-interrupted",
                volume.id,
                f"volume {volume.id} was being formatted when its host let go of it",
                "launch its task again: the format is finished then; or destroy the volume",
            )
        if volume.state is VolumeState.READY and not volume.platform_id:
            what = f"volume {volume.id} is ready and has no platform id"
            yield Finding(Severity.ERROR, "volume.without-platform-id", volume.id, what, "report this")
        if volume.kind is VolumeKind.PATH and volume.state in LIVE and volume.owner == UNRESERVED:
            what = f"volume {volume.id} belongs to nobody"
            yield Finding(Severity.ERROR, "volume.ownerless", volume.id, what, "report this")
    yield from _namesakes(volumes)


def _namesakes(volumes: list[Volume]) -> Iterator[Finding]:
    named = [volume for volume in volumes if volume.state in LIVE and volume.agent and volume.persistence_id]
    names = Counter((volume.agent, role_of(volume.owner), volume.persistence_id) for volume in named)
    for (agent, role, persistence_id), count in names.items():
        if count > 1:
            yield Finding(
                Severity.ERROR,
                "volume.namesakes",
                f"{persistence_id}@{agent}",
                f"{count} volumes of role {role} on agent {agent} have the persistence id {persistence_id!r}",
                "destroy all but one",
            )


def _publications(ledger: Ledger) -> Iterator[Finding]:
    volumes = {volume.id: volume for volume in ledger.volumes(states=_EXISTING)}
    for publication in ledger.publications():
        volume = volumes.get(publication.volume) or ledger.volume(publication.volume)
        name = f"volume {volume.id} on host {publication.host}"
        if publication.generation != volume.generation:
            yield Finding(
                Severity.ERROR,
                "publication.wrong-generation",
                volume.id,
                f"the publication of {name} has generation {publication.generation}, its volume {volume.generation}",
                "report this, and make sure that only one host has the volume",
            )
        if volume.state is VolumeState.DELETED:
            what = f"{name} is published and deleted"
            yield Finding(Severity.ERROR, "publication.of-deleted", volume.id, what, "report this")
        elif _is_mounted(publication) and not volume.platform_id:
            what = f"{name} is {publication.state} and was never made"
            yield Finding(Severity.ERROR, "publication.of-unmade", volume.id, what, "report this")
        if publication.fenced and publication.state is not PublicationState.DETACHING:
            what = f"{name} is fenced and {publication.state}"
            yield Finding(Severity.ERROR, "publication.fenced-in-use", volume.id, what, "report this")
        yield from _offered_elsewhere(publication, volume, name)


def _offered_elsewhere(publication: Publication, volume: Volume, name: str) -> Iterator[Finding]:
    if volume.agent == publication.agent or volume.state not in LIVE:
        return
    if volume.agent:
        yield Finding(
            Severity.ERROR,
            "publication.elsewhere",
            volume.id,
            f"{name} of agent {publication.agent} is offered by agent {volume.agent}",
            "report this, and make sure that only one host has the volume",
        )
    elif volume.persistence_id:
        yield Finding(
            Severity.ERROR,
            "volume.parked-in-use",
            volume.id,
            f"{name} of agent {publication.agent} is offered by nobody",
            "report this; nothing else can have the volume until its host has let go of it",
        )


def _is_mounted(publication: Publication) -> bool:
    return publication.state in (PublicationState.ATTACHED, PublicationState.PUBLISHED)


def _agents(ledger: Ledger) -> Iterator[Finding]:
    dead = {agent.id: agent for agent in ledger.agents().values() if agent.state.is_over}
    if not dead:
        return
    held = Counter[str]()
    for holding in ledger.holdings():
        if holding.agent in dead:
            held[holding.agent] += holding.size
    for agent, size in held.items():
        yield Finding(
            Severity.WARNING,
            "agent.dead-with-space",
            agent,
            f"agent {agent} is {dead[agent].state} and has {size} bytes of leases and reservations",
            "see whether polly serve runs and what it logs about this; it gives them back to the pools",
        )
    offered = Counter(volume.agent for volume in ledger.volumes(states=LIVE) if volume.agent in dead)
    for agent, count in offered.items():
        yield Finding(
            Severity.WARNING,
            "agent.dead-with-volumes",
            agent,
            f"agent {agent} is {dead[agent].state}, and only it would offer its volumes: {count}",
            f"if its host cannot write any more, say so: polly agent fence {agent}"
            if dead[agent].state is AgentState.LOST
            else "see what polly serve logs: it looks for another agent that fits, by zone and free slots",
        )


def _intents(ledger: Ledger, intent_age: float) -> Iterator[Finding]:
    now = time.time()
    for operation in ledger.operations(state=OperationState.INTENT, limit=sqlite.LARGEST):
        age = now - operation.created
        if age > intent_age:
            yield Finding(
                Severity.WARNING,
                "operation.unfinished",
                operation.subject,
                f"{operation.kind} of {operation.subject} was begun {age / 60:.0f} minutes ago and has"
                f" no outcome (operation {operation.id})",
                "see whether polly serve runs and what it logs about this; it finishes what it finds",
            )
        elif age < -CLOCK_TOLERANCE_SECONDS:
            yield Finding(
                Severity.WARNING,
                "clock.set-back",
                operation.subject,
                f"{operation.kind} of {operation.subject} was begun {-age / 60:.0f} minutes from now: the clock was set"
                " back, or was ahead",
                "correct this host's clock; nothing in the ledger depends on it but ages and the order of the history",
            )


def _duplicates(ledger: Ledger) -> Iterator[Finding]:
    ids = union_all(*(select(table.c.id) for table in (intents, verdicts, history)))
    with ledger.reading() as connection:
        for operation_id, count in Counter(row[0] for row in connection.execute(ids)).items():
            if count > 1:
                what = f"operation {operation_id} is recorded {count} times"
                yield Finding(Severity.ERROR, "operation.recorded-twice", operation_id, what, "report this")
