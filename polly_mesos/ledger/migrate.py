"""Bringing a ledger's tables to what this version needs. Runs whenever a ledger is opened for writing."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from polly_mesos.errors import LedgerCorrupt, LedgerError, LedgerTooNew
from polly_mesos.ledger import tables

MIGRATIONS = Path(__file__).parent / "migrations"

# Alembic hands its context to the migrations through module globals.
_alembic = threading.Lock()


@cache
def revisions() -> tuple[str, ...]:
    """The revisions that this version knows, oldest first."""
    script = ScriptDirectory(str(MIGRATIONS))
    return tuple(reversed([revision.revision for revision in script.walk_revisions()]))


def configuration(connection: Connection) -> Config:
    """Alembic's configuration for the ledger behind ``connection``."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def current(connection: Connection) -> str | None:
    """The revision of the ledger behind ``connection``; None where it has no tables yet."""
    return MigrationContext.configure(connection).get_current_revision()


def refuse_unknown(connection: Connection, where: str) -> None:
    """Make sure that this version may touch the ledger.

    :raises LedgerTooNew: a newer Polly wrote it
    :raises LedgerCorrupt: it is an SQLite file, but not a ledger
    """
    revision = current(connection)
    if revision is None or not inspect(connection).has_table(tables.ledger.name):
        raise LedgerCorrupt(
            f"{where} is an SQLite file, but not a Polly ledger", remedy="name the right file in ledger.path"
        )
    if revision not in revisions():
        raise LedgerTooNew(
            f"the ledger {where} was written by a newer Polly: it has revision {revision}, and this version knows"
            f" {revisions()[-1]} at most",
            remedy="run that version again; nothing was changed",
        )


def upgrade(connection: Connection, to: str = "head") -> None:
    """Run the migrations that the ledger has not seen, in the transaction of ``connection``: all or none."""
    if to == "head" and current(connection) == revisions()[-1]:
        return
    with _alembic:
        command.upgrade(configuration(connection), to)


def refuse_outdated(connection: Connection, where: str) -> None:
    """For readers, which cannot migrate.

    :raises LedgerError: the ledger is of an older version
    """
    revision = current(connection)
    if revision != revisions()[-1]:
        raise LedgerError(
            f"the ledger {where} is of an older Polly (revision {revision})",
            remedy="start polly serve with this version once: it brings the ledger up to date",
        )
