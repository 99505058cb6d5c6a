"""Copies of the ledger: taken while it is in use, looked at, and put back.

A restored ledger is older than what it describes. What it says of hosts and of Mesos operations may be over, so
:func:`restore` changes what would be dangerous to believe, in the same step that puts the copy in place:

* The epoch rises, and with it the first generation that a new publication can get
  (:func:`polly_mesos.ledger.publications.first_generation`): it is above all that hosts can hold from before, so no
  number is given twice. A host that holds a newer publication than the ledger knows says so, and it is adopted.
* The executors' tokens are forgotten, so that each greets anew and says what it holds before it is told what to keep.
* A volume whose format had been begun counts as formatted: it may hold data since, and nothing formats it again. One
  that was never formatted stays so: the host formats a blank device only, and takes the volume's own file system, which
  it knows by its UUID, for what it is.
* What a platform has attached may have been detached since: nothing of it is believed, and the volume controller
  attaches again, which changes nothing where it still is.
* Verdicts that wait for Mesos' acknowledgement go to the history: Mesos has dealt with them long since, or asks again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Table, delete, func, insert, select, update

from polly_mesos.errors import AlreadyExists, LedgerCorrupt, LedgerError, LedgerOfAnotherCluster, PollyError
from polly_mesos.ledger import migrate, rows, sqlite, tables
from polly_mesos.ledger.lock import LedgerLock
from polly_mesos.model import Event, FormatState, PublicationState, Severity, VolumeState

UNSEEN_EPOCHS = 16
"""How much the epoch rises where it cannot be known how often the ledger was restored before."""

_ONLY_OWNER = 0o600
_LEDGER = tables.ledger.c


@dataclass(frozen=True, slots=True)
class Contents:
    """What a ledger's file holds.

    :param newest: time of the newest change that it knows of, 0 where there is none
    :param volumes: state -> number of volumes, those that were deleted left out
    """

    cluster: str
    revision: str
    epoch: int
    framework_id: str
    newest: float
    pools: int
    agents: int
    reservations: int
    publications: int
    unfinished: int
    volumes: dict[str, int]


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of a restoration.

    :param contents: what the copy held
    :param epoch: of the restored ledger
    :param kept: where the ledger is that was there before; None where there was none
    """

    contents: Contents
    epoch: int
    kept: Path | None


@dataclass(frozen=True, slots=True)
class _Present:
    """What is still known of the ledger that a restored one takes the place of."""

    cluster: str
    epoch: int
    framework_id: str


def backup(path: Path, target: Path, cluster: str | None, *, force: bool = False) -> Contents:
    """Copy the ledger, of one moment, whether or not a scheduler has it open; the copy is one file.

    It is written to ``<target>.new``, looked at as :func:`inspect` does, synced, and renamed.

    :param cluster: whose ledger it has to be, None to take any
    :param force: whether a file at ``target`` may be replaced
    :raises AlreadyExists: there is one, and it may not
    :raises LedgerError: the ledger is missing, damaged, another cluster's or of a newer Polly; or the disk fails
    """
    _refuse_target(path, target, force=force)
    inspect(path, cluster)
    made = target.with_name(target.name + ".new")
    _copy(path, made)
    try:
        contents = inspect(made, cluster)
    except PollyError:
        made.unlink()
        raise
    sqlite.put_in_place(made, target)
    return contents


def inspect(path: Path, cluster: str | None) -> Contents:
    """Look thoroughly at a ledger's file and say what is in it. One of an earlier version will do.

    :raises LedgerCorrupt: it is damaged or no ledger, or rows refer to rows that are not there
    :raises LedgerTooNew, LedgerOfAnotherCluster: as :meth:`polly_mesos.ledger.Ledger.open`
    :raises LedgerError: there is none, or it cannot be read
    """
    if not path.is_file():
        raise LedgerError(f"there is no ledger at {path}", remedy="name the file of a ledger or of its copy")
    with sqlite.errors_explained(path):
        sqlite.refuse_damaged(path)
        engine = sqlite.engine(path, mode="ro")
        try:
            with engine.begin() as connection:
                _refuse_damage(connection, path)
                migrate.refuse_unknown(connection, str(path))
                contents = _contents(connection)
        finally:
            engine.dispose()
    if cluster not in (None, contents.cluster):
        raise LedgerOfAnotherCluster(
            f"the ledger {path} belongs to the cluster {contents.cluster!r}, not to {cluster!r}",
            remedy="name the right file, or correct `cluster`; two clusters must never share a ledger",
        )
    return contents


def restore(copy: Path, path: Path, cluster: str) -> Restored:
    """Put a copy in the place of the ledger at ``path``, made safe as the module says; no scheduler may have it open.

    It can be asked for again after a crash: ``copy`` is only read, and the ledger's name always has a whole ledger, the
    old one or the new one.

    :raises LedgerLocked: a scheduler has it open
    :raises LedgerOfAnotherCluster, LedgerTooNew, LedgerCorrupt: the copy is not to be used
    :raises LedgerError: the copy is missing, is the ledger itself, or the disk fails
    """
    contents = inspect(copy, cluster)
    if path.exists() and copy.samefile(path):
        raise LedgerError(f"{copy} is the ledger itself", remedy="name a copy, as polly ledger backup makes them")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = LedgerLock(path)
    try:
        present = _look_at_present(path, cluster)
        made = path.with_name(path.name + ".new")
        with sqlite.errors_explained(path):
            _copy(copy, made)
            epoch = _make_safe(made, contents, present)
        kept = keep_aside(path, "before-restore")
        sqlite.put_in_place(made, path)
    finally:
        lock.release()
    return Restored(contents, epoch, kept)


def keep_aside(path: Path, why: str) -> Path | None:
    """Give the file at ``path`` a second name, ``<path>.<why>-<N>``, and take its log away, so that it can be replaced.

    A log stays beside a file that is too damaged to take it in.

    :returns: the second name; None where there is no file and no log
    :raises LedgerLocked: somebody is reading it
    """
    log = sqlite.log_of(path)
    if not path.exists() and not log.exists():
        return None
    with contextlib.suppress(LedgerCorrupt), sqlite.errors_explained(path):
        _take_in_log(path)
    number = 1
    while (kept := path.with_name(f"{path.name}.{why}-{number}")).exists() or sqlite.log_of(kept).exists():
        number += 1
    for old, new in ((path, kept), (log, sqlite.log_of(kept))):
        if old.exists():
            _second_name(old, new)
    sync(path.parent)
    # Only now: a log that stayed would be replayed onto the new file and ruin it.
    log.unlink(missing_ok=True)
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    return kept


def _refuse_target(path: Path, target: Path, *, force: bool) -> None:
    if not target.exists():
        return
    if path.exists() and target.samefile(path):
        raise AlreadyExists(f"{target} is the ledger itself", remedy="name another file")
    if target.is_dir():
        raise AlreadyExists(f"{target} is a directory", remedy="name a file in it")
    if not force:
        raise AlreadyExists(f"{target} is there already; nothing was written", remedy="name another, or give --force")


def _take_in_log(path: Path) -> None:
    if not path.exists():
        return
    sqlite.refuse_damaged(path)
    engine = sqlite.engine(path, mode="ro")
    try:
        with engine.begin() as connection:
            _refuse_damage(connection, path)  # a damaged file is kept as it is
    finally:
        engine.dispose()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=sqlite.BUSY_SECONDS)) as writer:
        # The file is one again, and SQLite itself removes the log.
        writer.execute("PRAGMA journal_mode = DELETE")


def _second_name(old: Path, new: Path) -> None:
    try:
        os.link(old, new)
    except OSError:  # a file system without hard links
        shutil.copy2(old, new)
        sync(new)


def _copy(path: Path, made: Path) -> None:
    """Write the committed state of the ledger at ``path``, of one moment, to one new file that only we may read."""
    try:
        made.unlink(missing_ok=True)
        os.close(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _ONLY_OWNER))
    except OSError as error:
        raise LedgerError(f"{made} cannot be written: {error}", remedy="name a file in a directory of yours") from error
    engine = sqlite.engine(path, mode="ro")
    try:
        with sqlite.errors_explained(path), contextlib.closing(engine.raw_connection()) as pooled:
            pooled.cursor().execute("VACUUM INTO ?", (str(made),))
        sync(made)
    except BaseException:
        made.unlink(missing_ok=True)
        raise
    finally:
        engine.dispose()


def sync(path: Path) -> None:
    """Make a file, or the names in a directory, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_damage(connection: Connection, path: Path) -> None:
    found = sqlite.damage(connection, thorough=True) or sqlite.broken_references(connection)
    if found:
        raise LedgerCorrupt(f"the ledger {path} is damaged: {found[0]}", remedy="use another copy")


def _contents(connection: Connection) -> Contents:
    volumes = tables.volumes.c
    states = select(volumes.state, func.count()).where(volumes.state != VolumeState.DELETED.value)
    own = connection.execute(select(_LEDGER.cluster, _LEDGER.epoch, _LEDGER.framework_id)).one()
    owned = tables.holdings.c.owner != ""
    times = [
        volumes.updated,
        tables.publications.c.updated,
        tables.intents.c.created,
        tables.verdicts.c.created,
        tables.history.c.created,
    ]
    newest = [connection.execute(select(func.max(column))).scalar() or 0.0 for column in times]
    return Contents(
        cluster=own.cluster,
        revision=migrate.current(connection) or "",
        epoch=own.epoch,
        framework_id=own.framework_id,
        newest=max(newest),
        pools=_count(connection, tables.pools),
        agents=_count(connection, tables.agents),
        reservations=connection.execute(select(func.count()).select_from(tables.holdings).where(owned)).scalar_one(),
        publications=_count(connection, tables.publications),
        unfinished=_count(connection, tables.intents),
        volumes={row[0]: row[1] for row in connection.execute(states.group_by(volumes.state))},
    )


def _count(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def _look_at_present(path: Path, cluster: str) -> _Present | None:
    """What can still be told of the ledger that is there, None where it is too damaged to tell."""
    if not path.exists():
        return None
    engine = sqlite.engine(path, mode="ro")
    try:
        with sqlite.errors_explained(path), engine.begin() as connection:
            found = connection.execute(select(_LEDGER.cluster, _LEDGER.epoch, _LEDGER.framework_id)).one()
    except Exception:  # noqa: BLE001 - damage has many faces, and any of them only means that nothing can be told
        return None
    finally:
        engine.dispose()
    if found.cluster != cluster:
        raise LedgerOfAnotherCluster(
            f"the ledger {path}, which would be replaced, belongs to the cluster {found.cluster!r}, not to {cluster!r}",
            remedy="correct `cluster` or `ledger.path`",
        )
    return _Present(*found)


def _make_safe(made: Path, contents: Contents, present: _Present | None) -> int:
    """Bring a copy up to date and change what must not be believed; returns its epoch."""
    epoch = max(contents.epoch, present.epoch) + 1 if present else contents.epoch + UNSEEN_EPOCHS
    with _whole_file(made) as connection:
        migrate.upgrade(connection)
        framework_id = (present.framework_id if present else "") or contents.framework_id
        connection.execute(update(tables.ledger).values(epoch=epoch, framework_id=framework_id))
        agents, volumes = tables.agents, tables.volumes
        # One that is started by hand cannot ask for another token.
        connection.execute(update(agents).where(agents.c.standalone == 0).values(token_hash=""))
        begun = volumes.c.format_state == FormatState.FORMATTING.value
        connection.execute(update(volumes).where(begun).values(format_state=FormatState.FORMATTED.value))
        _doubt_attachments(connection)
        names = [column.name for column in tables.history.c]
        waiting = select(*(tables.verdicts.c[name] for name in names))
        connection.execute(insert(tables.history).from_select(names, waiting))
        connection.execute(delete(tables.verdicts))
        record_event(
            connection,
            Event(
                "ledger.restored",
                contents.cluster,
                f"the ledger was restored from a copy that ends {moment(contents.newest)}; its epoch is {epoch} now",
                Severity.WARNING,
                {"epoch": epoch, "epoch_of_copy": contents.epoch, "newest": contents.newest},
            ),
        )
    return epoch


def _doubt_attachments(connection: Connection) -> None:
    publications = tables.publications
    attached = publications.c.state == PublicationState.ATTACHED.value
    connection.execute(update(publications).where(attached).values(state=PublicationState.ATTACHING.value))
    connection.execute(update(publications).values(attachment=rows.as_text({}), device=""))


@contextlib.contextmanager
def _whole_file(made: Path) -> Iterator[Connection]:
    """One transaction on a file without a log, synced when it is over."""
    engine = sqlite.engine(made, mode="rw", write_ahead=False)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()
    sync(made)


def record_event(connection: Connection, event: Event) -> None:
    """Keep an event in a ledger that is not open yet."""
    stamped = {**rows.from_event(event), "time": event.time or time.time()}
    connection.execute(insert(tables.events).values(**stamped))


def moment(seconds: float) -> str:
    """A time as people read it, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds)) if seconds else "with nothing in it"
