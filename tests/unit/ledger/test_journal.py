"""Operations: intents and outcomes, verdicts and acknowledgements."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from polly_mesos.errors import Conflict, InvalidRequest, PlatformFull, UnknownOperation, WrongState
from polly_mesos.ledger import Ledger, Reserve
from polly_mesos.model import Operation, OperationState

if TYPE_CHECKING:
    from tests.unit.ledger.conftest import Desk

OWNER = '[{"role":"marathon","type":"DYNAMIC"}]'


def test_an_intent_is_there_before_anything_else_and_stays_until_its_outcome(ledger: Ledger) -> None:
    begun = ledger.begin("volume.create", "v1", {"size": 5}, "a1")
    assert (begun.state, begun.kind, begun.subject, begun.agent, begun.detail) == (
        OperationState.INTENT,
        "volume.create",
        "v1",
        "a1",
        {"size": 5},
    )
    assert uuid.UUID(begun.id).version == 4
    assert ledger.operation(begun.id) == begun
    ledger.finish(begun.id, {"platform_id": "vol-1"})
    done = ledger.operation(begun.id)
    assert (done.state, done.outcome, done.detail) == (OperationState.DONE, {"platform_id": "vol-1"}, {"size": 5})
    assert done.finished >= done.created == begun.created


def test_beginning_again_gives_the_unfinished_operation(ledger: Ledger) -> None:
    first = ledger.begin("volume.create", "v1", {"attempt": 1})
    assert ledger.begin("volume.create", "v1", {"attempt": 2}) == first
    assert ledger.begin("volume.attach", "v1", {}) != first
    ledger.finish(first.id, {})
    assert ledger.begin("volume.create", "v1", {"attempt": 3}).id != first.id


def test_a_failed_step_keeps_the_error(ledger: Ledger) -> None:
    begun = ledger.begin("volume.create", "v1", {})
    ledger.finish(begun.id, {"tried": "once"}, PlatformFull("no space left", remedy="buy disks"))
    failed = ledger.operation(begun.id)
    assert failed.state is OperationState.FAILED
    assert failed.outcome == {
        "tried": "once",
        "code": "platform-full",
        "message": "no space left",
        "remedy": "buy disks",
    }


def test_finishing_twice_does_no_harm_but_two_results_are_refused(ledger: Ledger) -> None:
    begun = ledger.begin("volume.create", "v1", {})
    ledger.finish(begun.id, {"platform_id": "vol-1"})
    ledger.finish(begun.id, {"platform_id": "vol-1"})
    with pytest.raises(WrongState, match="done already, with another outcome"):
        ledger.finish(begun.id, {"platform_id": "vol-2"})
    with pytest.raises(WrongState, match="is done: it was finished otherwise"):
        ledger.finish(begun.id, {}, PlatformFull("no"))


def test_verdicts_are_repeated_to_their_agent_until_acknowledged(desk: Desk) -> None:
    desk.lease(1 << 30)
    first, second = desk.reserve(1 << 20, OWNER), desk.reserve(1 << 20, OWNER)
    assert desk.ledger.unacknowledged("a1") == [first, second]
    assert desk.ledger.unacknowledged("a2") == []
    desk.ledger.acknowledge(first.id)
    desk.ledger.acknowledge(first.id)
    assert desk.ledger.unacknowledged("a1") == [second]
    assert desk.ledger.operation(first.id).acknowledged
    assert not desk.ledger.operation(second.id).acknowledged


def test_our_own_steps_are_nobodys_to_acknowledge(desk: Desk) -> None:
    begun = desk.ledger.begin("volume.create", "v1", {}, "a1")
    assert desk.ledger.unacknowledged("a1") == []
    with pytest.raises(WrongState, match="no outcome yet"):
        desk.ledger.acknowledge(begun.id)


def test_unknown_operations_are_named(ledger: Ledger) -> None:
    for ask in (ledger.operation, ledger.acknowledge, lambda name: ledger.finish(name, {})):
        with pytest.raises(UnknownOperation, match="nothing"):
            ask("nothing")


def test_the_newest_operations_come_first_wherever_they_are_kept(desk: Desk) -> None:
    desk.lease(1 << 30)
    finished = desk.ledger.begin("volume.create", "v1", {}, "a1")
    desk.ledger.finish(finished.id, {})
    admitted = desk.reserve(1 << 20, OWNER)
    begun = desk.ledger.begin("volume.attach", "v1", {}, "a2")
    ledger = desk.ledger
    assert [found.id for found in ledger.operations()] == [begun.id, admitted.id, finished.id]
    assert [found.id for found in ledger.operations(limit=2)] == [begun.id, admitted.id]
    assert [found.id for found in ledger.operations(subject="v1")] == [begun.id, finished.id]
    assert [found.id for found in ledger.operations(agent="a1")] == [admitted.id, finished.id]
    assert [found.id for found in ledger.operations(state=OperationState.INTENT)] == [begun.id]
    assert [found.id for found in ledger.operations(state=OperationState.DONE, agent="a1", limit=1)] == [admitted.id]
    with pytest.raises(InvalidRequest, match="limit is 0"):
        ledger.operations(limit=0)


def test_a_refusal_with_a_known_id_and_other_content_is_a_conflict(desk: Desk) -> None:
    desk.lease(1 << 30)
    done = desk.reserve(1 << 20, OWNER)
    other = Operation(done.id, "mesos.CREATE", "a1", OperationState.INTENT, "a1")
    with pytest.raises(Conflict, match=done.id):
        desk.ledger.refuse(other, InvalidRequest("no"))
    with pytest.raises(Conflict, match=done.id):
        desk.ledger.admit(other, Reserve("gold", "a1", "", OWNER, 1 << 20))
