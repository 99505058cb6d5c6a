"""Events: what operators want to know of, kept in the same transaction as the change that they tell of."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace

from sqlalchemy import bindparam, insert, select

from polly_mesos.errors import InvalidRequest
from polly_mesos.ledger import rows
from polly_mesos.ledger.store import Prepared, Store, Transaction
from polly_mesos.ledger.tables import events
from polly_mesos.model import Event

_ADD = Prepared(
    insert(events)
    .values({column.name: bindparam(column.name) for column in events.c if not column.primary_key})
    .returning(events.c.number)
)


class Events(Store):
    """The numbered list of events."""

    def record_event(self, event: Event) -> Event:
        """Keep an event; returns it with its number, and with the time where it had none."""
        with self._write() as transaction:
            return record(transaction, event)

    def events(
        self,
        *,
        after: int | None = None,
        limit: int = 100,
        kinds: Collection[str] | None = None,
        subject: str | None = None,
    ) -> list[Event]:
        """Events in the order in which they happened, the newest last, whatever their times say.

        :param after: the first ``limit`` events with a larger number than this, for readers that follow; None for the
            newest ``limit``
        :param kinds: only these kinds
        :param subject: only those about this volume, agent or service
        :raises InvalidRequest: the limit is not positive
        """
        if limit <= 0:
            raise InvalidRequest(f"limit is {limit}", remedy="give a positive number", field="limit", value=limit)
        query = select(events).limit(limit)
        if after is None:
            query = query.order_by(events.c.number.desc())
        else:
            query = query.where(events.c.number > after).order_by(events.c.number)
        if kinds is not None:
            query = query.where(events.c.kind.in_(kinds))
        if subject is not None:
            query = query.where(events.c.subject == subject)
        with self.reading() as connection:
            found = [rows.to_event(row) for row in connection.execute(query)]
        return found if after is not None else found[::-1]


def record(transaction: Transaction, event: Event) -> Event:
    """Keep an event as part of a larger change."""
    stamped = event if event.time else replace(event, time=time.time())
    # All rows are fetched, or the statement would still be running when the transaction commits.
    ((number,),) = transaction.all(_ADD, **rows.from_event(stamped))
    return replace(stamped, number=int(number))
