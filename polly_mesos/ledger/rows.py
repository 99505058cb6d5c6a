"""Rows to records and back. The order of a row is that of its table's columns."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

from polly_mesos.errors import LedgerCorrupt
from polly_mesos.model import (
    Agent,
    AgentState,
    Event,
    FormatState,
    HostIdentity,
    Json,
    Operation,
    OperationState,
    Pool,
    Provider,
    Publication,
    PublicationState,
    Severity,
    Volume,
    VolumeKind,
    VolumeState,
)

Values = dict[str, Any]
Row = Any

_encode = json.JSONEncoder(separators=(",", ":")).encode


Record = TypeVar("Record")


def _readable(convert: Callable[[Row], Record]) -> Callable[[Row], Record]:
    """Say it where a row has what no row of ours has: bytes on the disk changed without SQLite's knowledge."""

    @functools.wraps(convert)
    def converted(row: Row) -> Record:
        try:
            return convert(row)
        except (ValueError, TypeError, AttributeError) as error:
            raise LedgerCorrupt(
                f"the ledger is damaged: its row {tuple(row)!r:.200} cannot be read: {error}",
                remedy="restore it from a backup: polly ledger restore",
            ) from error

    return converted


def as_text(value: Any) -> str:
    """JSON as it is kept."""
    return _encode(value) if value else "{}"


def as_json(text: str) -> Json:
    """The JSON object kept as ``text``."""
    return dict(json.loads(text)) if text != "{}" else {}


@_readable
def to_pool(row: Row) -> Pool:
    return Pool(*row)


@_readable
def to_provider(row: Row) -> Provider:
    return Provider(*row)


@_readable
def to_agent(row: Row) -> Agent:
    (agent, hostname, endpoint, state, attributes, identities, problems, volume_root, token, standalone, seen) = row
    return Agent(
        id=agent,
        hostname=hostname,
        endpoint=endpoint,
        state=AgentState(state),
        attributes=as_json(attributes),
        identities={service: HostIdentity(**identity) for service, identity in as_json(identities).items()},
        problems=as_json(problems),
        volume_root=volume_root,
        token_hash=token,
        standalone=bool(standalone),
        seen=seen,
    )


def from_agent(agent: Agent) -> Values:
    return {
        "id": agent.id,
        "hostname": agent.hostname,
        "endpoint": agent.endpoint,
        "state": agent.state.value,
        "attributes": as_text(dict(agent.attributes)),
        "identities": as_text({service: asdict(identity) for service, identity in agent.identities.items()}),
        "problems": as_text(dict(agent.problems)),
        "volume_root": agent.volume_root,
        "token_hash": agent.token_hash,
        "standalone": int(agent.standalone),
        "seen": agent.seen,
    }


@_readable
def to_volume(row: Row) -> Volume:
    (
        (volume, pool, profile, service, kind, size, state, agent, owner, persistence_id, persistence),
        (framework, platform_id, format_state, generation, error, created, updated),
    ) = (row[:11], row[11:])
    return Volume(
        id=volume,
        pool=pool,
        profile=profile,
        service=service,
        kind=VolumeKind(kind),
        size=size,
        state=VolumeState(state),
        agent=agent or "",
        owner=owner,
        persistence_id=persistence_id,
        persistence=as_json(persistence),
        framework=framework,
        platform_id=platform_id,
        format_state=FormatState(format_state),
        generation=generation,
        error=error,
        created=created,
        updated=updated,
    )


def from_volume(volume: Volume) -> Values:
    return {
        "id": volume.id,
        "pool": volume.pool,
        "profile": volume.profile,
        "service": volume.service,
        "kind": volume.kind.value,
        "size": volume.size,
        "state": volume.state.value,
        "agent": volume.agent or None,
        "owner": volume.owner,
        "persistence_id": volume.persistence_id,
        "persistence": as_text(volume.persistence),
        "framework": volume.framework,
        "platform_id": volume.platform_id,
        "format_state": volume.format_state.value,
        "generation": volume.generation,
        "error": volume.error,
        "created": volume.created,
        "updated": volume.updated,
    }


@_readable
def to_publication(row: Row) -> Publication:
    volume, agent, host, generation, state, attachment, device, target, updated, fenced = row
    return Publication(
        volume=volume,
        agent=agent,
        host=host,
        generation=generation,
        state=PublicationState(state),
        attachment=as_json(attachment),
        device=device,
        target=target,
        fenced=bool(fenced),
        updated=updated,
    )


def from_publication(publication: Publication) -> Values:
    return {
        "volume": publication.volume,
        "agent": publication.agent,
        "host": publication.host,
        "generation": publication.generation,
        "state": publication.state.value,
        "attachment": as_text(publication.attachment),
        "device": publication.device,
        "target": publication.target,
        "updated": publication.updated,
        "fenced": int(publication.fenced),
    }


@_readable
def to_event(row: Row) -> Event:
    number, when, severity, kind, subject, message, detail = row
    return Event(
        kind=kind,
        subject=subject,
        message=message,
        severity=Severity(severity),
        detail=as_json(detail),
        time=when,
        number=number,
    )


def from_event(event: Event) -> Values:
    """All columns but ``number``, which the ledger gives."""
    return {
        "time": event.time,
        "severity": event.severity.value,
        "kind": event.kind,
        "subject": event.subject,
        "message": event.message,
        "detail": as_text(event.detail),
    }


@_readable
def to_operation(row: Row) -> Operation:
    """From the columns of ``intents``, ``verdicts`` or ``history``, and whether it was acknowledged."""
    (operation, kind, subject, state, agent, framework, detail, outcome, status, created, finished, acknowledged) = row
    return Operation(
        id=operation,
        kind=kind,
        subject=subject,
        state=OperationState(state),
        agent=agent,
        framework=framework,
        detail=as_json(detail),
        outcome=as_json(outcome),
        status_uuid=status,
        acknowledged=bool(acknowledged),
        created=created,
        finished=finished,
    )


def from_operation(operation: Operation) -> Values:
    return {
        "id": operation.id,
        "kind": operation.kind,
        "subject": operation.subject,
        "state": operation.state.value,
        "agent": operation.agent,
        "framework": operation.framework,
        "detail": as_text(operation.detail),
        "outcome": as_text(operation.outcome),
        "status_uuid": operation.status_uuid,
        "created": operation.created,
        "finished": operation.finished,
    }
