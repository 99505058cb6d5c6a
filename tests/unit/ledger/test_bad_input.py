"""Files that were damaged and clocks that jump: a clear word, nothing lost, nothing changed."""

from __future__ import annotations

import contextlib
import random
import time
from pathlib import Path

import pytest

from polly_mesos.errors import LedgerCorrupt, LedgerError
from polly_mesos.ledger import Ledger
from polly_mesos.ledger.check import check
from polly_mesos.model import MB, Event, OperationState
from tests.unit.ledger.conftest import Desk

GB = 1024 * MB
YEARS = 40 * 365 * 86400.0
PAGE = 4096


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, empty_ledger: bytes) -> bytes:
    """A ledger's file with something of everything in it, on many pages."""
    path = tmp_path_factory.mktemp("full") / "ledger.sqlite"
    path.write_bytes(empty_ledger)
    with Ledger.open(path, "test") as ledger:
        desk = Desk(ledger)
        desk.furnish()
        desk.lease(50 * GB)
        desk.reserve(40 * GB)
        for number in range(20):
            volume = desk.create(GB, f"volume-{number}")
            ledger.volume_created(volume.id, f"vol-{number}")
            ledger.publish(volume.id, "a1", "host1")
            ledger.finish(ledger.begin("volume.attach", volume.id, {}).id, {})
            ledger.begin("volume.detach", volume.id, {})
            ledger.record_event(Event("volume.moved", volume.id, "it moved"))
    return path.read_bytes()


def read_everything(ledger: Ledger) -> None:
    check(ledger)
    for read in (ledger.pools, ledger.agents, ledger.holdings, ledger.volumes, ledger.publications, ledger.balance):
        read()
    ledger.operations(limit=1000)
    ledger.events(limit=1000)
    ledger.unacknowledged("a1")


@pytest.mark.parametrize("read_only", [False, True])
def test_a_ledger_that_ends_too_early_is_refused_and_left_as_it_is(
    tmp_path: Path, full: bytes, read_only: bool
) -> None:
    path = tmp_path / "ledger.sqlite"
    for keep in (1, 15, 16, 99, PAGE - 1, PAGE, PAGE + 1, len(full) // 2, len(full) - PAGE, len(full) - 1):
        path.write_bytes(full[:keep])
        with pytest.raises(LedgerCorrupt, match="ledger") as refusal:
            Ledger.open(path, "test", read_only=read_only)
        assert "restore it from a backup" in refusal.value.remedy
        assert path.read_bytes() == full[:keep], keep


@pytest.mark.parametrize("seed", range(8))
def test_a_ledger_with_flipped_bytes_says_so_or_reads_on_but_never_fails_otherwise(
    tmp_path: Path, full: bytes, seed: int
) -> None:
    chance = random.Random(seed)
    path = tmp_path / "ledger.sqlite"
    for _ in range(6):
        damaged = bytearray(full)
        for _ in range(chance.choice((1, 4, 64))):
            damaged[chance.randrange(100, len(full))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with contextlib.suppress(LedgerError), Ledger.open(path, None, read_only=True) as ledger:
            read_everything(ledger)
        assert path.read_bytes() == damaged


@pytest.mark.parametrize(
    ("original", "instead"),
    [
        (b"marathon", b"mar\xffthon"),
        (b"creating", b"creatinh"),
        (b"connected", b"cpnnected"),
        (b'{"device"', b'["device"'),
    ],
)
def test_a_row_that_polly_never_wrote_is_named(tmp_path: Path, full: bytes, original: bytes, instead: bytes) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(full)
    with Ledger.open(path, "test") as ledger:
        volume = ledger.volumes()[0].id
        ledger.attached(volume, 1, {"device": "/dev/loop1"})
        ledger.volume_failed(Desk(ledger).create(GB, "creating").id, "later", final=False)
    path.write_bytes(path.read_bytes().replace(original, instead))
    with pytest.raises(LedgerCorrupt, match="damaged") as refusal, Ledger.open(path, None, read_only=True) as ledger:
        read_everything(ledger)
    assert "backup" in refusal.value.remedy


class Clock:
    """What time.time() says."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        self.now += 1e-3
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


@pytest.mark.parametrize("jump", [YEARS, -YEARS])
def test_events_keep_their_order_whatever_the_clock_says(desk: Desk, clock: Clock, jump: float) -> None:
    told = [desk.ledger.record_event(Event("x", "before", ""))]
    clock.now += jump
    told.append(desk.ledger.record_event(Event("x", "after", "")))
    clock.now -= jump
    told.append(desk.ledger.record_event(Event("x", "later", "")))
    assert desk.ledger.events() == told
    assert desk.ledger.events(after=told[0].number) == told[1:]


@pytest.mark.parametrize("jump", [YEARS, -YEARS])
def test_nothing_that_waits_is_lost_when_the_clock_jumps(desk: Desk, clock: Clock, jump: float) -> None:
    ledger = desk.ledger
    desk.lease(20 * GB)
    before, begun = desk.reserve(2 * GB), ledger.begin("volume.create", "v1", {})
    clock.now += jump
    after, begun_after = desk.reserve(2 * GB), ledger.begin("volume.create", "v2", {})
    volume = desk.create(GB)
    ledger.prune(time.time(), keep=1)
    clock.now -= jump
    ledger.prune(time.time(), keep=1)
    waiting = {operation.id for operation in ledger.unacknowledged("a1")}
    assert {before.id, after.id} < waiting
    assert {operation.id for operation in ledger.operations(state=OperationState.INTENT)} == {begun.id, begun_after.id}
    assert ledger.begin("volume.create", "v1", {}) == begun
    assert ledger.volume(volume.id) == volume
    assert desk.reserved() == (3 * GB, 3 * GB)


def test_a_clock_that_was_set_back_is_said_instead_of_an_age(desk: Desk, clock: Clock) -> None:
    desk.ledger.begin("volume.create", "v1", {})
    clock.now -= 3600
    (finding,) = check(desk.ledger)
    assert (finding.code, finding.subject) == ("clock.set-back", "v1")
    assert "60 minutes from now" in finding.what
    clock.now += 3600 + 590
    assert check(desk.ledger) == []
    clock.now += 20
    assert [found.code for found in check(desk.ledger)] == ["operation.unfinished"]
