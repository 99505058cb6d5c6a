"""Events, how long the record is kept, and which life of the ledger it is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from polly_mesos.errors import InvalidRequest
from polly_mesos.ledger import Ledger
from polly_mesos.model import MB, Event, Severity

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.ledger.conftest import Desk

GB = 1024 * MB


def record(ledger: Ledger, count: int) -> list[Event]:
    return [ledger.record_event(Event(f"kind.{number % 2}", f"v{number % 3}", str(number))) for number in range(count)]


def test_events_come_back_numbered_in_the_order_in_which_they_happened(ledger: Ledger) -> None:
    before = time.time()
    first = ledger.record_event(Event("agent.fenced", "a1", "it is off", Severity.WARNING, {"by": "operator"}))
    assert (first.number > 0, first.time >= before) == (True, True)
    second = ledger.record_event(Event("volume.moved", "v1", "it moved", time=12.5))
    assert (second.number > first.number, second.time) == (True, 12.5)
    assert ledger.events() == [first, second]


def test_readers_get_the_newest_or_follow_page_by_page(ledger: Ledger) -> None:
    told = record(ledger, 10)
    assert ledger.events(limit=3) == told[-3:]
    assert ledger.events(after=0, limit=3) == told[:3]
    assert ledger.events(after=told[2].number, limit=3) == told[3:6]
    assert ledger.events(after=told[-1].number) == []
    with pytest.raises(InvalidRequest, match="limit is 0"):
        ledger.events(limit=0)


def test_readers_choose_events_by_kind_and_subject(ledger: Ledger) -> None:
    told = record(ledger, 12)
    assert ledger.events(kinds=["kind.1"]) == told[1::2]
    assert ledger.events(kinds=["kind.0", "kind.1"]) == told
    assert ledger.events(kinds=[]) == []
    assert ledger.events(subject="v2", kinds=["kind.0"], limit=1) == [told[8]]


def test_what_is_over_is_forgotten_when_it_is_old(desk: Desk) -> None:
    ledger = desk.ledger
    desk.lease(10 * GB)
    reserved, waiting = desk.reserve(4 * GB), desk.reserve(1 * GB)
    gone, kept = desk.create(1 * GB, "gone"), desk.create(1 * GB, "kept")
    for verdict in ledger.unacknowledged("a1"):
        if verdict.id != waiting.id:
            ledger.acknowledge(verdict.id)
    begun, intended = ledger.begin("volume.create", "v1", {}), ledger.begin("volume.create", "v2", {})
    ledger.finish(begun.id, {})
    ledger.delete_volume(gone.id)
    ledger.volume_deleted(gone.id)
    told = record(ledger, 2)
    later = time.time() + 60
    assert ledger.prune(0, keep=1) == 0
    # Two volumes' CREATEs, the RESERVE and the step of ours are over, and the newest of them stays; so do events.
    assert ledger.prune(later, keep=1) == 3 + 1 + 1
    assert ledger.prune(later, keep=1) == 0
    assert {operation.id for operation in ledger.operations()} == {waiting.id, begun.id, intended.id}
    assert reserved.id not in {operation.id for operation in ledger.operations()}
    assert [volume.id for volume in ledger.volumes()] == [kept.id]
    assert ledger.events() == told[1:]
    assert ledger.record_event(Event("x", "y", "z")).number > told[1].number


def test_a_clock_that_jumped_ahead_does_not_empty_the_record(desk: Desk) -> None:
    told = record(desk.ledger, 3)
    operation = desk.ledger.begin("volume.create", "v1", {})
    desk.ledger.finish(operation.id, {})
    assert desk.ledger.prune(time.time() + 1e9) == 0
    assert (desk.ledger.events(), desk.ledger.operation(operation.id).id) == (told, operation.id)


def test_the_row_of_a_deleted_volume_stays_while_something_refers_to_it(desk: Desk) -> None:
    desk.lease(10 * GB)
    desk.reserve(4 * GB)
    gone = desk.create(1 * GB, "gone")
    begun = desk.ledger.begin("volume.delete", gone.id, {})
    desk.ledger.delete_volume(gone.id)
    desk.ledger.volume_deleted(gone.id)
    desk.ledger.prune(time.time() + 60)
    assert desk.ledger.volume(gone.id)
    desk.ledger.finish(begun.id, {})
    assert desk.ledger.prune(time.time() + 60) == 1
    assert desk.ledger.volumes() == []


def test_a_ledgers_next_life_is_remembered(path: Path) -> None:
    with Ledger.open(path, "test") as ledger:
        assert ledger.bump_epoch() == ledger.epoch == 2
        for _ in range(2):
            ledger.set_epoch(7)
        assert ledger.epoch == 7
        with pytest.raises(InvalidRequest, match="epoch 6 is over"):
            ledger.set_epoch(6)
    with Ledger.open(path, "test") as ledger:
        assert ledger.epoch == 7
