"""How Alembic runs here: on the connection that :mod:`polly_mesos.ledger.migrate` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from polly_mesos.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite cannot alter most things of a table: Alembic then makes a new one and moves the rows.
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
