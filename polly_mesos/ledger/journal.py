"""Operations: intents that are written before the change they announce, and verdicts that wait to be acknowledged."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import Any, NoReturn

from sqlalchemy import Select, bindparam, delete, insert, literal_column, select, union_all

from polly_mesos.errors import Conflict, InvalidRequest, PollyError, UnknownOperation, WrongState
from polly_mesos.ledger import rows
from polly_mesos.ledger.store import Prepared, Store, Transaction
from polly_mesos.ledger.tables import history, journal
from polly_mesos.model import Json, Operation, OperationState

_open: Select[Any] = select(journal, literal_column("0").label("acknowledged"))
_over: Select[Any] = select(history, literal_column("1").label("acknowledged"))
_intent = journal.c.state == literal_column("'intent'")

_FIND = Prepared(
    union_all(_open.where(journal.c.id == bindparam("key")), _over.where(history.c.id == bindparam("key")))
)
_FIND_INTENT = Prepared(
    _open.where(journal.c.subject == bindparam("the_subject"), journal.c.kind == bindparam("the_kind"), _intent)
)
_ADD = Prepared(insert(journal))
_ADD_TO_HISTORY = Prepared(insert(history))
_REMOVE = Prepared(delete(journal).where(journal.c.id == bindparam("key")))


class Journal(Store):
    """What was asked, begun, decided and done."""

    def begin(self, kind: str, subject: str, detail: Json, agent: str = "") -> Operation:
        """Write down that a change is about to be made; when this returns, the disk has it.

        :return: a new operation in state INTENT, or the unfinished one of the same kind and subject where there is one
        """
        with self._write() as transaction:
            row = transaction.one(_FIND_INTENT, the_subject=subject, the_kind=kind)
            if row is not None:
                return rows.to_operation(row)
            operation = Operation(
                id=str(uuid.uuid4()),
                kind=kind,
                subject=subject,
                state=OperationState.INTENT,
                agent=agent,
                detail=detail,
                created=time.time(),
            )
            transaction.run(_ADD, **rows.from_operation(operation))
        return operation

    def finish(self, operation_id: str, outcome: Json, error: PollyError | None = None) -> None:
        """Write down what came of an intent: DONE, or FAILED where there is an ``error``.

        :raises UnknownOperation: there is no such operation
        :raises WrongState: it is no intent, or was finished with another result
        """
        state = OperationState.FAILED if error else OperationState.DONE
        outcome = {**outcome, **describe(error)} if error else outcome
        with self._write() as transaction:
            operation = must_find(transaction, operation_id)
            if operation.state is OperationState.INTENT:
                _over_with(transaction, replace(operation, state=state, outcome=outcome, finished=time.time()))
            elif operation.state is not state or operation.outcome != rows.as_json(rows.as_text(outcome)):
                raise WrongState(
                    f"operation {operation_id} ({operation.kind} of {operation.subject}) is {operation.state} already",
                    remedy="begin a new operation",
                )

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
            operation = must_find(transaction, operation_id)
            if operation.acknowledged:
                return
            if operation.state is OperationState.INTENT:
                raise WrongState(
                    f"operation {operation_id} ({operation.kind} of {operation.subject}) has no outcome yet",
                    remedy="acknowledge operations that came through an agent only",
                )
            _over_with(transaction, operation)
            transaction.touch(operation.agent)

    def unacknowledged(self, agent: str) -> list[Operation]:
        """The agent's decided operations whose status Mesos has not acknowledged, oldest first."""
        query = _open.where(journal.c.agent == agent, journal.c.state != OperationState.INTENT.value)
        with self.reading() as connection:
            return [rows.to_operation(row) for row in connection.execute(query.order_by(journal.c.created))]

    def operation(self, operation_id: str) -> Operation:
        """One operation.

        :raises UnknownOperation: there is none of that id
        """
        query = union_all(_open.where(journal.c.id == operation_id), _over.where(history.c.id == operation_id))
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
        for table, query in ((journal, _open), (history, _over)):
            for column, value in (("agent", agent), ("subject", subject), ("state", state)):
                if value is not None:
                    query = query.where(table.c[column] == str(value))
            newest = query.order_by(table.c.created.desc(), table.c.id.desc()).limit(limit).subquery()
            parts.append(select(newest))
        both = union_all(*parts).subquery()
        with self.reading() as connection:
            found = connection.execute(select(both).order_by(both.c.created.desc(), both.c.id.desc()).limit(limit))
            return [rows.to_operation(row) for row in found]


def describe(error: PollyError) -> Json:
    """An error as an operation's outcome keeps it."""
    return {"code": error.code, "message": error.message, "remedy": error.remedy}


def must_find(transaction: Transaction, operation_id: str) -> Operation:
    """:raises UnknownOperation: there is none of that id"""
    row = transaction.one(_FIND, key=operation_id)
    if row is None:
        _unknown(operation_id)
    return rows.to_operation(row)


def repeated(transaction: Transaction, operation: Operation) -> Operation | None:
    """What the ledger decided when it was asked this before, None where it was not.

    The subject may differ: whoever asks may have made up a new volume id for the repeat.

    :raises Conflict: the id was used for something else
    """
    row = transaction.one(_FIND, key=operation.id)
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
    transaction.run(_ADD, **rows.from_operation(decided))
    transaction.touch(operation.agent)
    return decided


def _over_with(transaction: Transaction, operation: Operation) -> None:
    transaction.run(_REMOVE, key=operation.id)
    transaction.run(_ADD_TO_HISTORY, **rows.from_operation(operation))


def _unknown(operation_id: str) -> NoReturn:
    raise UnknownOperation(
        f"the ledger has no operation {operation_id!r}", remedy="see the newest ones: polly ledger show"
    )
