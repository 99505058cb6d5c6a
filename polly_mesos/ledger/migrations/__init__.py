"""Alembic migrations of the ledger, from the first table on."""
