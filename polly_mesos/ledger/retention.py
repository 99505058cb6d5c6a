"""How long the record of what is over is kept."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from sqlalchemy import ColumnElement, bindparam, delete, func, literal_column, select

from polly_mesos.ledger.store import Prepared, Store
from polly_mesos.ledger.tables import events, history, intents, publications, volumes
from polly_mesos.ledger.transitions import OPERATION, VOLUME, OperationEvent, VolumeEvent

KEEP = 1000
"""As many of the newest operations and events always stay, so that a clock that jumps ahead cannot empty the record."""


def _is_in(column: ColumnElement[str], states: Iterable[StrEnum]) -> ColumnElement[bool]:
    return column.in_([literal_column(f"'{state.value}'") for state in states])


def _is_unused(reference: ColumnElement[str]) -> ColumnElement[bool]:
    return volumes.c.id.not_in(select(reference))


_PRUNE_VOLUMES = Prepared(
    delete(volumes).where(
        _is_in(volumes.c.state, VOLUME.leading_to(None, VolumeEvent.PRUNED)),
        volumes.c.updated < bindparam("before"),
        _is_unused(publications.c.volume),
        _is_unused(intents.c.subject),
    )
)
_PRUNE_HISTORY = Prepared(
    delete(history).where(
        _is_in(history.c.state, OPERATION.leading_to(None, OperationEvent.PRUNED)),
        history.c.finished < bindparam("before"),
        history.c.created
        < select(history.c.created)
        .order_by(history.c.created.desc())
        .offset(bindparam("keep"))
        .limit(literal_column("1"))
        .scalar_subquery(),
    )
)
_PRUNE_EVENTS = Prepared(
    delete(events).where(
        events.c.time < bindparam("before"),
        events.c.number <= select(func.max(events.c.number)).scalar_subquery() - bindparam("keep"),
    )
)


class Retention(Store):
    """Forgetting what is over."""

    def prune(self, before: float, *, keep: int = KEEP) -> int:
        """Remove finished operations, events and the rows of deleted volumes that are older than ``before``.

        An operation without outcome, or whose status nobody has acknowledged, stays however old it is.

        :param before: seconds since the epoch
        :param keep: how many of the newest operations and events stay however old they are, at least 1
        :return: how many rows were removed
        """
        with self._write() as transaction:
            removed = transaction.run(_PRUNE_HISTORY, before=before, keep=max(keep, 1) - 1)
            removed += transaction.run(_PRUNE_EVENTS, before=before, keep=max(keep, 1))
            return removed + transaction.run(_PRUNE_VOLUMES, before=before)
