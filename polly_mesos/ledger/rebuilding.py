"""Writing a whole new ledger at once, from what was gathered elsewhere: it exists whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sqlalchemy import Connection, Table, insert

from polly_mesos.errors import AlreadyExists, LedgerCorrupt
from polly_mesos.ledger import Ledger, migrate, rows, sqlite, tables
from polly_mesos.ledger.backup import keep_aside, record_event, sync
from polly_mesos.ledger.check import Finding, check
from polly_mesos.ledger.lock import LedgerLock
from polly_mesos.model import Agent, Event, Pool, Provider, Publication, Reservation, Severity, Volume


@dataclass(frozen=True, slots=True)
class NewLedger:
    """All that a new ledger is to hold.

    :param reservations: what is reserved and in no volume; leases are planned anew
    """

    cluster: str
    epoch: int
    framework_id: str
    pools: Sequence[Pool]
    agents: Sequence[Agent]
    providers: Sequence[Provider]
    reservations: Sequence[Reservation]
    volumes: Sequence[Volume]
    publications: Sequence[Publication]
    event: Event


@dataclass(frozen=True, slots=True)
class Written:
    """What became of it.

    :param kept: where the ledger is that was there before; None where there was none
    :param findings: what :func:`polly_mesos.ledger.check.check` says of the new one
    """

    kept: Path | None
    findings: Sequence[Finding]


def write(new: NewLedger, path: Path, *, force: bool = False) -> Written:
    """Make a ledger at ``path``; no scheduler may have one open there.

    :param force: whether one that is there is kept aside as ``<path>.before-rebuild-<N>``
    :raises AlreadyExists: there is one, and it may not be
    :raises LedgerLocked: a scheduler has it open
    :raises LedgerCorrupt: what was gathered contradicts itself; nothing was changed
    :raises LedgerError: the disk fails
    """
    if (path.exists() or sqlite.log_of(path).exists()) and not force:
        raise AlreadyExists(
            f"there is a ledger at {path}; nothing was changed",
            remedy="restore a copy of it (polly ledger restore), or give --force: it is kept aside then",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = LedgerLock(path)
    try:
        made = path.with_name(path.name + ".new")
        made.unlink(missing_ok=True)
        try:
            with sqlite.errors_explained(made):
                _fill(new, made)
            findings = _look(made, new.cluster)
        except BaseException:
            made.unlink(missing_ok=True)
            raise
        kept = keep_aside(path, "before-rebuild")
        sqlite.put_in_place(made, path)
    finally:
        lock.release()
    return Written(kept, findings)


def _look(made: Path, cluster: str) -> list[Finding]:
    with Ledger.open(made, cluster, read_only=True) as ledger:
        findings = check(ledger)
    broken = [finding for finding in findings if finding.severity is Severity.ERROR]
    if broken:
        raise LedgerCorrupt(
            f"what was gathered makes no ledger: {broken[0].what}; nothing was changed", remedy="report this"
        )
    return findings


def _fill(new: NewLedger, made: Path) -> None:
    engine = sqlite.engine(made, mode="rwc", write_ahead=False)
    now = time.time()
    try:
        with engine.begin() as connection:
            migrate.upgrade(connection)
            row = {"id": 1, "cluster": new.cluster, "epoch": new.epoch, "framework_id": new.framework_id}
            _insert(connection, tables.ledger, [row])
            _insert(
                connection, tables.pools, [asdict(replace(pool, updated=pool.updated or now)) for pool in new.pools]
            )
            _insert(connection, tables.agents, [rows.from_agent(agent) for agent in new.agents])
            _insert(connection, tables.providers, [asdict(provider) for provider in new.providers])
            _insert(connection, tables.holdings, [asdict(reservation) for reservation in new.reservations])
            volumes = [replace(volume, created=volume.created or now, updated=now) for volume in new.volumes]
            _insert(connection, tables.volumes, [rows.from_volume(volume) for volume in volumes])
            held = [rows.from_publication(replace(publication, updated=now)) for publication in new.publications]
            _insert(connection, tables.publications, held)
            record_event(connection, new.event)
    finally:
        engine.dispose()
    sync(made)


def _insert(connection: Connection, table: Table, values: Sequence[dict[str, object]]) -> None:
    if values:
        connection.execute(insert(table), values)
