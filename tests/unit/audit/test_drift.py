"""What drifts is told once when it comes and once when it goes."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator

import pytest

from polly_mesos.audit.drift import DriftLoop
from polly_mesos.model import Event, Severity, Volume
from tests.unit.audit.conftest import Cluster

DAY = 86400.0


@pytest.fixture
def drift(cluster: Cluster) -> DriftLoop:
    return DriftLoop(cluster.audit, cluster.ledger, interval=60.0, retention=30 * DAY, clock=lambda: cluster.now)


def told(cluster: Cluster) -> list[tuple[str, str]]:
    """Kind and code of the events of drift."""
    return [(event.kind, event.detail["code"]) for event in cluster.ledger.events() if event.kind.startswith("drift.")]


def test_a_difference_is_an_event_when_it_comes_and_when_it_goes(
    cluster: Cluster, drift: DriftLoop, volume: Volume
) -> None:
    drift.once()
    assert told(cluster) == []
    cluster.says("a1", mounted={})
    drift.once()
    drift.once()
    assert told(cluster) == [("drift.found", "mount.missing")]
    assert drift.codes() == {"mount.missing": 1}
    cluster.agree()
    drift.once()
    drift.once()
    assert told(cluster) == [("drift.found", "mount.missing"), ("drift.gone", "mount.missing")]
    assert drift.codes() == {}
    assert drift.rounds == 5


def test_the_event_says_what_and_what_to_do(cluster: Cluster, drift: DriftLoop) -> None:
    made = cluster.platform_volume(str(uuid.uuid4()))
    drift.once()
    (event,) = cluster.ledger.events()
    assert event.subject == f"local/{made.id}"
    assert event.severity is Severity.WARNING
    assert made.id in event.message
    assert "polly volume adopt" in event.detail["remedy"]


def test_old_records_are_pruned_once_an_hour(
    cluster: Cluster, drift: DriftLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    monkeypatch.setattr(cluster.ledger, "prune", lambda before: asked.append(before) or 0)
    start = cluster.now
    drift.once()
    drift.once()
    cluster.now += 3601
    drift.once()
    assert asked[0] == start - 30 * DAY
    assert len(asked) == 2


@pytest.fixture
def running(cluster: Cluster) -> Iterator[DriftLoop]:
    loop = DriftLoop(cluster.audit, cluster.ledger, interval=0.01, retention=DAY, clock=lambda: cluster.now)
    loop.start()
    yield loop
    loop.stop()


def test_it_goes_on_by_itself_also_after_an_unexpected_failure(
    cluster: Cluster, running: DriftLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def fail(event: Event) -> Event:
        failed.set()
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(cluster.ledger, "record_event", fail)
        cluster.platform_volume(str(uuid.uuid4()))
        assert failed.wait(10)
    deadline = time.monotonic() + 10
    pause = threading.Event()
    while told(cluster) != [("drift.found", "volume.orphan")]:
        assert time.monotonic() < deadline
        pause.wait(0.01)


def test_without_an_interval_it_never_looks(cluster: Cluster) -> None:
    loop = DriftLoop(cluster.audit, cluster.ledger, interval=0.0, retention=DAY)
    loop.start()
    loop._thread.join(10)
    assert not loop._thread.is_alive()
    loop.stop()
    assert loop.rounds == 0


def test_what_cannot_be_seen_is_not_gone(cluster: Cluster, drift: DriftLoop, volume: Volume) -> None:
    platform = cluster.drivers
    cluster.platform_volume(str(uuid.uuid4()))
    cluster.says("a1", mounted={})
    cluster.register(cluster.ledger.agent("a2"), [])
    drift.once()
    before = dict(drift.codes())
    assert before == {"volume.orphan": 1, "mount.missing": 1, "provider.totals": 1}
    cluster.drivers = {"local": object()}  # type: ignore[dict-item]
    report = cluster.reports.pop("a1")
    cluster.master.away = True
    drift.once()
    assert drift.codes() == {**before, "platform.unreachable": 1, "master.unreachable": 1}
    assert "drift.gone" not in {kind for kind, _ in told(cluster)}
    cluster.drivers, cluster.reports["a1"], cluster.master.away = platform, report, False
    drift.once()
    assert drift.codes() == before
