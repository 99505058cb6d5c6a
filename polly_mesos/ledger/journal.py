"""Operations: intents that are written before the change they announce, and verdicts that wait to be acknowledged."""

from __future__ import annotations

import os
import time
from typing import Any, NoReturn

from sqlalchemy import (
    ColumnElement,
    Select,
    Table,
    bindparam,
    delete,
    insert,
    literal_column,
    select,
    union_all,
    update,
)

from polly_mesos.errors import Conflict, InvalidRequest, PollyError, UnknownOperation, WrongState
from polly_mesos.faults import fault_point
from polly_mesos.ledger import rows
from polly_mesos.ledger.store import Prepared, Store, Transaction
from polly_mesos.ledger.tables import history, intents, verdicts
from polly_mesos.ledger.transitions import OPERATION, OperationEvent, Stage
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
_VERDICTS_OF = Prepared(_all_of(verdicts).where(verdicts.c.agent == bindparam("the_agent")))
_INTENTS_OF = Prepared(_all_of(intents).where(intents.c.agent == bindparam("the_agent")))
_HAND_INTENTS = Prepared(
    update(intents).where(intents.c.agent == bindparam("the_agent")).values(agent=bindparam("to_agent"))
)
_REMOVE_VERDICT = Prepared(delete(verdicts).where(verdicts.c.id == bindparam("key")))
_FIND = Prepared(union_all(*(_all_of(table).where(table.c.id == bindparam("key")) for table in _TABLES)))

_AT_STAGE = {
    Stage.INTENT: OperationState.INTENT,
    Stage.ADMITTED: OperationState.DONE,
    Stage.REFUSED: OperationState.FAILED,
    Stage.DONE: OperationState.DONE,
    Stage.FAILED: OperationState.FAILED,
}
_DECIDED = {OperationState.DONE: Stage.ADMITTED, OperationState.FAILED: Stage.REFUSED}
"""The stages of operations whose status nobody has acknowledged."""


class Journal(Store):
    """What was asked, begun, decided and done."""

    def begin(self, kind: str, subject: str, detail: Json, agent: str = "") -> Operation:
        """Write down that a change is about to be made; when this returns, the disk has it.

        :return: a new operation in state INTENT, or the unfinished one of the same kind and subject where there is one
        """
        stage = OPERATION.kept(None, OperationEvent.BEGIN, kind)
        operation_id, now = _new_id(), time.time()
        row = (subject, kind, operation_id, agent, rows.as_text(detail), now)
        fault_point("ledger.intent.before-write")
        while not self._write().add_alone(_ADD_INTENT, row):
            unfinished = self._intent(kind, subject)
            if unfinished is not None:
                OPERATION.after(Stage.INTENT, OperationEvent.BEGIN, _name(unfinished))
                return unfinished
        fault_point("ledger.intent.after-write")
        return Operation(operation_id, kind, subject, _AT_STAGE[stage], agent, detail=detail, created=now)

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
        event = OperationEvent.FINISH_FAILED if error else OperationEvent.FINISH
        outcome = {**outcome, **describe(error)} if error else outcome
        with self._write() as transaction:
            row = transaction.one(_INTENT, key=operation_id)
            if row is None:
                known, _ = _step(transaction, operation_id, event)
                _must_have_come_to(known, outcome)
                return
            stage = OPERATION.kept(Stage.INTENT, event, f"operation {operation_id}")
            values = _values(row) | {
                "state": _AT_STAGE[stage].value,
                "outcome": rows.as_text(outcome),
                "finished": time.time(),
            }
            transaction.run(_REMOVE_INTENT, the_subject=values["subject"], the_kind=values["kind"])
            transaction.run(_ADD_HISTORY, **values)

    def refuse(self, operation: Operation, error: PollyError) -> Operation:
        """Record that an operation was refused, with state FAILED and the error as its outcome.

        Idempotent by the operation's id, like :meth:`polly_mesos.ledger.Ledger.admit`.

        :raises Conflict: the id was used for something else
        """
        with self._write() as transaction:
            known, stage = step(transaction, operation, OperationEvent.REFUSE)
            if known is not None:
                return known
            return decide(transaction, operation, stage, describe(error))

    def acknowledge(self, operation_id: str) -> None:
        """Note that Mesos has the operation's status; doing so twice does no harm.

        :raises UnknownOperation: there is no such operation
        :raises WrongState: it is a step of ours, which nobody acknowledges
        """
        with self._write() as transaction:
            row = transaction.one(_VERDICT, key=operation_id)
            if row is None:
                _step(transaction, operation_id, OperationEvent.ACKNOWLEDGE)
                return
            _close(transaction, row, OperationEvent.ACKNOWLEDGE)

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


def _find(transaction: Transaction, operation_id: str) -> Operation | None:
    row = transaction.one(_FIND, key=operation_id)
    return rows.to_operation(row) if row is not None else None


def _stage(operation: Operation | None) -> Stage | None:
    if operation is None:
        return None
    if operation.state is OperationState.INTENT:
        return Stage.INTENT
    return Stage(operation.state.value) if operation.acknowledged else _DECIDED[operation.state]


def _name(operation: Operation) -> str:
    return f"operation {operation.id} ({operation.kind} of {operation.subject})"


def _step(transaction: Transaction, operation_id: str, event: OperationEvent) -> tuple[Operation, Stage]:
    """An operation as it is, and the stage at which an event leaves it."""
    operation = _find(transaction, operation_id)
    if operation is None:
        OPERATION.after(None, event, f"operation {operation_id}")
        _unknown(operation_id)
    return operation, OPERATION.kept(_stage(operation), event, _name(operation))


def step(transaction: Transaction, operation: Operation, event: OperationEvent) -> tuple[Operation | None, Stage]:
    """What the ledger decided when it was asked this before, None where it was not; and the stage that follows.

    The subject may differ: whoever asks may have made up a new volume id for the repeat.

    :raises Conflict: the id was used for something else
    """
    known = _find(transaction, operation.id)
    stage = OPERATION.kept(_stage(known), event, f"operation {operation.id}")
    if known is not None:
        asked = (operation.kind, operation.agent, rows.as_json(rows.as_text(operation.detail)))
        if (known.kind, known.agent, known.detail) != asked:
            raise Conflict(
                f"operation {operation.id} is known as {known.kind} on agent {known.agent or 'none'} with other"
                " content",
                remedy="give every operation an id of its own",
            )
    return known, stage


def _values(row: Any) -> dict[str, Any]:
    return dict(zip(_COLUMNS, row, strict=False))


def _close(transaction: Transaction, row: Any, event: OperationEvent) -> None:
    """Nobody has to acknowledge the verdict in ``row`` any more."""
    values = _values(row)
    stage = OPERATION.kept(_DECIDED[OperationState(values["state"])], event, f"operation {values['id']}")
    transaction.run(_REMOVE_VERDICT, key=values["id"])
    transaction.run(_ADD_HISTORY, **values | {"state": _AT_STAGE[stage].value})
    transaction.touch(values["agent"])


def close_agent(transaction: Transaction, agent: str, event: OperationEvent, *, to: str) -> None:
    """Close the verdicts of an agent that will never acknowledge them; its intents become those of ``to``."""
    for row in transaction.all(_VERDICTS_OF, the_agent=agent):
        _close(transaction, row, event)
    for row in transaction.all(_INTENTS_OF, the_agent=agent):
        intent = rows.to_operation(row)
        OPERATION.after(_stage(intent), event, _name(intent))
    transaction.run(_HAND_INTENTS, the_agent=agent, to_agent=to)


def _must_have_come_to(operation: Operation, outcome: Json) -> None:
    if operation.outcome != rows.as_json(rows.as_text(outcome)):
        raise WrongState(
            f"{_name(operation)} is {operation.state} already, with another outcome", remedy="begin a new operation"
        )


def decide(transaction: Transaction, operation: Operation, stage: Stage, outcome: Json) -> Operation:
    """Keep an operation with its outcome until it is acknowledged."""
    now = time.time()
    decided = Operation(
        id=operation.id,
        kind=operation.kind,
        subject=operation.subject,
        state=_AT_STAGE[stage],
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
