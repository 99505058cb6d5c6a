"""The ledger's tables, as SQLAlchemy Core sees them. The migrations make them; a test keeps the two equal.

Two choices are for speed, since every change waits for the disk and each page touched lengthens that wait:

* ``holdings`` has an agent's lease and the reservations on it beside each other, because RESERVE moves bytes between
  the two. The lease is the row of the owner :data:`~polly_mesos.model.UNRESERVED`.
* An operation about which something is still to be done is in ``intents`` or ``verdicts``, and in ``history``
  afterwards. The first two stay so small that they need no index beside their key: writing an intent touches one page.

JSON is kept as text and sizes as 64-bit integers: both mean the same on every database.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _time(name: str) -> Column[float]:
    return Column(name, Float, nullable=False)


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


ledger = Table(
    "ledger",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("cluster", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    _text("framework_id"),
    CheckConstraint("id = 1", name="single"),
)
"""One row: whose ledger this is."""

pools = Table(
    "pools",
    metadata,
    Column("name", Text, primary_key=True),
    Column("profile", Text, nullable=False),
    Column("service", Text, nullable=False),
    _text("zone"),
    Column("capacity", BigInteger, nullable=False),
    _time("updated"),
    CheckConstraint("capacity >= 0", name="capacity"),
)

agents = Table(
    "agents",
    metadata,
    Column("id", Text, primary_key=True),
    Column("hostname", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attributes", Text, nullable=False),
    Column("identities", Text, nullable=False),
    Column("problems", Text, nullable=False),
    _text("volume_root"),
    _text("token_hash"),
    Column("standalone", Integer, nullable=False),
    _time("seen"),
    Index(None, "token_hash"),
)

providers = Table(
    "providers",
    metadata,
    Column("agent", Text, ForeignKey(agents.c.id), primary_key=True),
    Column("id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("name", Text, nullable=False),
)

holdings = Table(
    "holdings",
    metadata,
    Column("pool", Text, ForeignKey(pools.c.name), nullable=False),
    Column("agent", Text, ForeignKey(agents.c.id), nullable=False),
    Column("owner", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("backed", BigInteger, nullable=False),
    PrimaryKeyConstraint("pool", "agent", "owner"),
    CheckConstraint("backed >= 0 AND backed <= size", name="backed"),
    sqlite_with_rowid=False,
)
"""What each agent holds of each pool and for whom: the lease (no owner) and the reservations.

``size - backed`` bytes are promised but still inside a volume that is being deleted or was retained.
"""

volumes = Table(
    "volumes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("pool", Text, ForeignKey(pools.c.name), nullable=False),
    Column("profile", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("agent", Text, ForeignKey(agents.c.id)),
    _text("owner"),
    _text("persistence_id"),
    Column("persistence", Text, nullable=False),
    _text("framework"),
    _text("platform_id"),
    Column("format_state", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    _text("error"),
    _time("created"),
    _time("updated"),
    CheckConstraint("size > 0", name="size"),
    Index("ix_volumes_pool", "pool", **_where("state <> 'deleted'")),
    Index("ix_volumes_agent", "agent", "persistence_id", **_where("state <> 'deleted'")),
    sqlite_with_rowid=False,
)
"""DELETED rows stay for the record; the indexes leave them out, so that they cost nothing."""

publications = Table(
    "publications",
    metadata,
    Column("volume", Text, ForeignKey(volumes.c.id), primary_key=True),
    Column("agent", Text, ForeignKey(agents.c.id), nullable=False),
    Column("host", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("attachment", Text, nullable=False),
    _text("device"),
    _text("target"),
    _time("updated"),
    Column("fenced", Integer, nullable=False, server_default="0"),
    Index(None, "agent"),
)

events = Table(
    "events",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    _time("time"),
    _text("severity"),
    _text("kind"),
    _text("subject"),
    _text("message"),
    _text("detail"),
)
"""What operators want to know of, numbered in the order in which it happened."""


def _operation_columns() -> list[Column[str] | Column[float]]:
    return [
        Column("id", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("subject", Text, nullable=False),
        Column("state", Text, nullable=False),
        _text("agent"),
        _text("framework"),
        Column("detail", Text, nullable=False),
        Column("outcome", Text, nullable=False),
        _text("status_uuid"),
        _time("created"),
        _time("finished"),
    ]


intents = Table(
    "intents",
    metadata,
    Column("subject", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("created", Float, nullable=False),
    PrimaryKeyConstraint("subject", "kind"),
    sqlite_with_rowid=False,
)
"""Our own steps that were begun and have no outcome: one of a kind for each subject at most."""

verdicts = Table(
    "verdicts",
    metadata,
    *_operation_columns(),
    PrimaryKeyConstraint("id"),
    sqlite_with_rowid=False,
)
"""Mesos operations that were admitted or refused, until Mesos acknowledges their status."""

history = Table(
    "history",
    metadata,
    *_operation_columns(),
    PrimaryKeyConstraint("created", "id"),
    Index(None, "id", unique=True),
    sqlite_with_rowid=False,
)
"""Operations that are over, kept for the record and so that a late repeat gets the same answer."""
