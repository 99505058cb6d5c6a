"""All that is particular to SQLite: connections, durability, looking for damage, and what its errors mean.

Durability: with a write-ahead log and ``synchronous=FULL`` a commit returns when the disk has it. Writers begin with
``BEGIN IMMEDIATE``, so that a transaction that has read never finds, when it writes, that another wrote meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event

from polly_mesos.errors import InvalidRequest, LedgerCorrupt, LedgerError, LedgerLocked, PollyError

BEGIN_WRITE = "BEGIN IMMEDIATE"
MAGIC = b"SQLite format 3\0"
HEADER_BYTES = 100
BUSY_SECONDS = 10.0
CHECKPOINT_PAGES = 1000
LARGEST = 2**63 - 1
"""The largest size in bytes that a row can hold."""


def engine(path: Path, *, mode: str, write_ahead: bool = True) -> Engine:
    """Connections to the file at ``path``.

    :param mode: SQLite's words: ``ro``, ``rw``, or ``rwc`` to make the file
    :param write_ahead: False while a new ledger is made, which must be one file that can be renamed
    """

    def connect() -> sqlite3.Connection:
        connection = _connect(path, mode)
        connection.execute("PRAGMA foreign_keys = ON")
        if mode != "ro":
            connection.execute(f"PRAGMA journal_mode = {'WAL' if write_ahead else 'DELETE'}")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        return connection

    made = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=8, max_overflow=-1)
    event.listen(made, "begin", _begin)
    return made


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    address = f"file:{quote(str(path))}?mode={mode}"
    connection = _open(address)
    try:
        connection.execute("PRAGMA schema_version")
    except sqlite3.OperationalError:
        connection.close()
        if mode != "ro" or log_of(path).exists():
            raise
        # A reader who may not write beside the file cannot make the log's index; without a log there is no writer.
        return _open(address + "&immutable=1")
    return connection


def _open(address: str) -> sqlite3.Connection:
    # isolation_level=None: we begin transactions ourselves, because Python's module would begin them too late.
    return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS)


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def log_of(path: Path) -> Path:
    """Where SQLite keeps the write-ahead log of the file at ``path``."""
    return path.with_name(path.name + "-wal")


def refuse_damaged(path: Path) -> None:
    """Look at the file before SQLite does, which would take an empty one for a new database.

    :raises LedgerCorrupt: it is no SQLite file, or ends too early
    """
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
        size = file.seek(0, os.SEEK_END)
    if not header.startswith(MAGIC):
        what = "is empty" if not header else "is not an SQLite file"
        raise LedgerCorrupt(
            f"the ledger {path} {what}",
            remedy="restore it from a backup; remove the file only if it was never a ledger",
        )
    _refuse_truncated(path, header, size)


def _refuse_truncated(path: Path, header: bytes, size: int) -> None:
    # SQLite takes what is missing of the last page for zeros. A log may still bring pages that the file lacks.
    log = log_of(path)
    if log.exists() and log.stat().st_size:
        return
    page = int.from_bytes(header[16:18], "big")
    expected = int.from_bytes(header[28:32], "big") * (page if page > 1 else 65536)
    if size < max(expected, HEADER_BYTES):
        raise LedgerCorrupt(
            f"the ledger {path} is damaged: it has {size} bytes, and had {expected}",
            remedy="restore it from a backup: polly ledger restore",
        )


def damage(connection: Connection, *, thorough: bool) -> list[str]:
    """What SQLite finds wrong with the file's structure; ``thorough`` compares indexes with tables too."""
    check = "integrity_check" if thorough else "quick_check"
    found = [str(row[0]) for row in connection.exec_driver_sql(f"PRAGMA {check}")]
    return [] if found == ["ok"] else found


def refuse_damage(connection: Connection, path: Path) -> None:
    """Look at the whole structure, once, when a ledger is opened.

    :raises LedgerCorrupt: SQLite finds something wrong
    """
    found = damage(connection, thorough=False)
    if found:
        raise LedgerCorrupt(f"the ledger {path} is damaged: {found[0]}", remedy="restore it from a backup")


def refuse_orphaned_log(path: Path) -> None:
    """A log without its file would be replayed onto a new ledger and ruin it.

    :raises LedgerCorrupt: there is such a log
    """
    if log_of(path).exists():
        raise LedgerCorrupt(
            f"the ledger {path} is gone, but its write-ahead log {log_of(path)} is there",
            remedy="put the file back, or move the log away if the ledger is really to begin anew",
        )


def broken_references(connection: Connection) -> list[str]:
    """Rows that refer to rows that do not exist."""
    rows = connection.exec_driver_sql("PRAGMA foreign_key_check")
    return [f"row {row[1]} of {row[0]} refers to {row[2]}, which does not exist" for row in rows]


def put_in_place(made: Path, path: Path) -> None:
    """Give a finished new ledger its name, so that a ledger exists whole or not at all."""
    made.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextlib.contextmanager
def errors_explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors, wrapped by SQLAlchemy or not, into ours."""
    try:
        yield
    except PollyError:
        raise
    except Exception as error:
        explained = explain(error, path)
        if explained is None:
            raise
        raise explained from error


def is_duplicate(error: BaseException) -> bool:
    """Whether an insert failed because there is a row with its key."""
    return str(getattr(error, "sqlite_errorname", "")) in ("SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_UNIQUE")


def explain(error: BaseException, path: Path) -> PollyError | None:
    """What an exception means for the ledger at ``path``; None where it means nothing in particular."""
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, UnicodeEncodeError):
        return InvalidRequest(
            f"{cause.object!r} is not valid Unicode text",
            remedy="send text without lone surrogates",
            value=cause.object,
        )
    if not isinstance(cause, sqlite3.Error | UnicodeDecodeError):
        return None
    name = str(getattr(cause, "sqlite_errorname", ""))
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or _is_of_damage(cause):
        return LedgerCorrupt(f"the ledger {path} is damaged: {cause}", remedy="restore it from a backup")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return LedgerLocked(
            f"another program keeps the ledger {path} locked", remedy="find it with: fuser -v " + str(path)
        )
    if name.startswith("SQLITE_FULL"):
        return LedgerError(f"the disk of the ledger {path} is full; nothing was changed", remedy="make room on it")
    if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
        return LedgerError(
            f"the ledger {path} cannot be read or written: {cause}",
            remedy="look at the file's and its directory's permissions, and at the health of the disk",
        )
    return None


def _is_of_damage(error: BaseException) -> bool:
    """Whether bytes changed where SQLite does not look: in a text, or in the names of tables and columns."""
    text = str(error)
    return isinstance(error, UnicodeDecodeError) or "decode to UTF-8" in text or text.startswith("no such ")
