"""Operations: intents that are written before the change they announce, and verdicts that wait to be acknowledged."""

from __future__ import annotations

import os
import time
from typing import Any, NoReturn

from sqlalchemy import ColumnElement, Select, Table, bindparam, delete, insert, literal_column, select, union_all

from polly_mesos.errors import Conflict, InvalidRequest, PollyError, UnknownOperation, WrongState
from polly_mesos.faults import fault_point
from polly_mesos.ledger import rows
from polly_mesos.ledger.store import Prepared, Store, Transaction
from polly_mesos.ledger.tables import history, intents, verdicts
from polly_mesos.model import Json, Operation, OperationState


def _all_of(table: Table) -> Select[Any]:
    """Operations in one shape, wherever they are."""
    known: dict[str, ColumnElement[Any]] = {column.name: column for column in table.c}
    shape = [known.get(name, literal_column(constant).label(name)) for name, constant in _SHAPE.items()]
    return select(*shape, literal_column("1" if table is history else "0").label("acknowledged"))


_TABLES = (intents, verdicts, history)
_COLUMNS = tuple(column.name for column in history.c)
_SHAPE = dict.fromkeys(_COLUMNS, "''") | {"state": "'intent'", "outcome": "'{}'", "finished": "0.0"}
"""The columns of an operation, and what those are that an intent has not."""

_ADD_INTENT = Prepared(insert(intents))
_ADD_VERDICT = Prepared(insert(verdicts))
_ADD_HISTORY = Prepared(insert(history))
_INTENT = Prepared(_all_of(intents).where(intents.c.id == bindparam("key")))
_REMOVE_INTENT = Prepared(
    delete(intents).where(intents.c.subject == bindparam("the_subject"), intents.c.kind == bindparam("the_kind"))
)
_VERDICT = Prepared(_all_of(verdicts).where(verdicts.c.id == bindparam("key")))
_REMOVE_VERDICT = Prepared(delete(verdicts).where(verdicts.c.id == bindparam("key")))
_FIND = Prepared(union_all(*(_all_of(table).where(table.c.id == bindparam("key")) for table in _TABLES)))
_FIND_DECIDED = Prepared(
    union_all(*(_all_of(table).where(table.c.id == bindparam("key")) for table in (verdicts, history)))
)


class Journal(Store):
    """What was asked, begun, decided and done."""

    def begin(self, kind: str, subject: str, detail: Json, agent: str = "") -> Operation:
        """Write down that a change is about to be made; when this returns, the disk has it.

        :return: a new operation in state INTENT, or the unfinished one of the same kind and subject where there is one
        """
        operation_id, now = _new_id(), time.time()
        row = (subject, kind, operation_id, agent, rows.as_text(detail), now)
        fault_point("ledger.intent.before-write")
        while not self._write().add_alone(_ADD_INTENT, row):
            unfinished = self._intent(kind, subject)
            if unfinished is not None:
                return unfinished
        fault_point("ledger.intent.after-write")
        return Operation(operation_id, kind, subject, OperationState.INTENT, agent, detail=detail, created=now)

    def _intent(self, kind: str, subject: str) -> Operation | None:
        query = _all_of(intents).where(intents.c.subject == subject, intents.c.kind == kind)
        with self.reading() as connection:
            row = connection.execute(query).first()
        return rows.to_operation(row) if row else None

    def finish(self, operation_id: str, outcome: Json, error: PollyError | None = None) -> None:
        """Write down what came of an intent: DONE, or FAILED where there is an ``error``.

        :raises UnknownOperation: there is no such operation
        :raises WrongState: it is no intent, or was finished with another result
        """
        state = OperationState.FAILED if error else OperationState.DONE
        outcome = {**outcome, **describe(error)} if error else outcome
        with self._write() as transaction:
            row = transaction.one(_INTENT, key=operation_id)
            if row is None:
                _must_be_finished(transaction, operation_id, state, outcome)
                return
            values = _values(row) | {"state": state.value, "outcome": rows.as_text(outcome), "finished": time.time()}
            transaction.run(_REMOVE_INTENT, the_subject=values["subject"], the_kind=values["kind"])
            transaction.run(_ADD_HISTORY, **values)

    def refuse(self, operation: Operation, error: PollyError) -> Operation:
        """Record that an operation was refused, with state FAILED and the error as its outcome.

        Idempotent by the operation's id, like :meth:`polly_mesos.ledger.Ledger.admit`.

        :raises Conflict: the id was used for something else
        """
        with self._write() as transaction:
            known = repeated(transaction, operation)
            if known is not None:
                return known
            return decide(transaction, operation, OperationState.FAILED, describe(error))

    def acknowledge(self, operation_id: str) -> None:
        """Note that Mesos has the operation's status; doing so twice does no harm.

        :raises UnknownOperation: there is no such operation
        :raises WrongState: it is a step of ours, which nobody acknowledges
        """
        with self._write() as transaction:
            row = transaction.one(_VERDICT, key=operation_id)
            if row is None:
                _must_be_acknowledged(transaction, operation_id)
                return
            values = _values(row)
            transaction.run(_REMOVE_VERDICT, key=operation_id)
            transaction.run(_ADD_HISTORY, **values)
            transaction.touch(values["agent"])

    def unacknowledged(self, agent: str) -> list[Operation]:
        """The agent's decided operations whose status Mesos has not acknowledged, oldest first."""
        query = _all_of(verdicts).where(verdicts.c.agent == agent).order_by(verdicts.c.finished)
        with self.reading() as connection:
            return [rows.to_operation(row) for row in connection.execute(query)]

    def operation(self, operation_id: str) -> Operation:
        """One operation.

        :raises UnknownOperation: there is none of that id
        """
        query = union_all(*(_all_of(table).where(table.c.id == operation_id) for table in _TABLES))
        with self.reading() as connection:
            row = connection.execute(query).first()
        if row is None:
            _unknown(operation_id)
        return rows.to_operation(row)

    def operations(
        self,
        *,
        agent: str | None = None,
        subject: str | None = None,
        state: OperationState | None = None,
        limit: int = 100,
    ) -> list[Operation]:
        """The newest operations of an agent, on a subject, in a state; newest first, ``limit`` at most.

        :raises InvalidRequest: the limit is not positive
        """
        if limit <= 0:
            raise InvalidRequest(f"limit is {limit}", remedy="give a positive number", field="limit", value=limit)
        parts = []
        for table in _TABLES:
            query = _all_of(table)
            for name, value in (("agent", agent), ("subject", subject), ("state", state)):
                if value is not None:
                    query = query.where(query.selected_columns[name] == str(value))
            newest = query.order_by(table.c.created.desc(), table.c.id.desc()).limit(limit).subquery()
            parts.append(select(newest))
        both = union_all(*parts).subquery()
        with self.reading() as connection:
            found = connection.execute(select(both).order_by(both.c.created.desc(), both.c.id.desc()).limit(limit))
            return [rows.to_operation(row) for row in found]


def _new_id() -> str:
    """A random UUID (version 4) as text, in a third of the time that the uuid module takes."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def describe(error: PollyError) -> Json:
    """An error as an operation's outcome keeps it."""
    return {"code": error.code, "message": error.message, "remedy": error.remedy}


def _must_find(transaction: Transaction, operation_id: str) -> Operation:
    row = transaction.one(_FIND, key=operation_id)
    if row is None:
        _unknown(operation_id)
    return rows.to_operation(row)


def repeated(transaction: Transaction, operation: Operation) -> Operation | None:
    """What the ledger decided when it was asked this before, None where it was not.

    The subject may differ: whoever asks may have made up a new volume id for the repeat.

    :raises Conflict: the id was used for something else
    """
    row = transaction.one(_FIND_DECIDED, key=operation.id)
    if row is None:
        return None
    known = rows.to_operation(row)
    asked = (operation.kind, operation.agent, rows.as_json(rows.as_text(operation.detail)))
    if (known.kind, known.agent, known.detail) != asked:
        raise Conflict(
            f"operation {operation.id} is known as {known.kind} on agent {known.agent or 'none'} with other content",
            remedy="give every operation an id of its own",
        )
    return known


def _values(row: Any) -> dict[str, Any]:
    return dict(zip(_COLUMNS, row, strict=False))


def _must_be_finished(transaction: Transaction, operation_id: str, state: OperationState, outcome: Json) -> None:
    operation = _must_find(transaction, operation_id)
    if operation.state is not state or operation.outcome != rows.as_json(rows.as_text(outcome)):
        raise WrongState(
            f"operation {operation_id} ({operation.kind} of {operation.subject}) is {operation.state} already",
            remedy="begin a new operation",
        )


def _must_be_acknowledged(transaction: Transaction, operation_id: str) -> None:
    operation = _must_find(transaction, operation_id)
    if not operation.acknowledged:
        raise WrongState(
            f"operation {operation_id} ({operation.kind} of {operation.subject}) has no outcome yet",
            remedy="acknowledge operations that came through an agent only",
        )


def decide(transaction: Transaction, operation: Operation, state: OperationState, outcome: Json) -> Operation:
    """Keep an operation with its outcome until it is acknowledged."""
    now = time.time()
    decided = Operation(
        id=operation.id,
        kind=operation.kind,
        subject=operation.subject,
        state=state,
        agent=operation.agent,
        framework=operation.framework,
        detail=operation.detail,
        outcome=outcome,
        status_uuid=operation.status_uuid,
        created=operation.created or now,
        finished=now,
    )
    transaction.run(_ADD_VERDICT, **rows.from_operation(decided))
    transaction.touch(operation.agent)
    return decided


def _unknown(operation_id: str) -> NoReturn:
    raise UnknownOperation(
        f"the ledger has no operation {operation_id!r}", remedy="see the newest ones: polly ledger show"
    )
