"""One look at a time for each name, side by side for different ones."""

from __future__ import annotations

import threading

from polly_mesos.scheduler.worker import KeyedWorkers

DEADLINE = 10.0


def test_different_names_are_looked_at_side_by_side() -> None:
    together = threading.Barrier(2)

    def look(key: str) -> float | None:
        together.wait(DEADLINE)
        return None

    workers = KeyedWorkers(look, workers=2, name="test")
    workers.start()
    workers.put("a")
    workers.put("b")
    workers.stop()
    assert not together.broken


def test_one_name_is_never_looked_at_twice_at_once_and_no_call_is_lost() -> None:
    begun, go_on, twice = threading.Event(), threading.Event(), threading.Event()
    inside: list[int] = []
    most = 0

    def look(key: str) -> float | None:
        nonlocal most
        inside.append(1)
        most = max(most, len(inside))
        if begun.is_set():
            twice.set()
        begun.set()
        assert go_on.wait(DEADLINE)
        inside.pop()
        return None

    workers = KeyedWorkers(look, workers=3, name="test")
    workers.start()
    workers.put("a")
    assert begun.wait(DEADLINE)
    workers.put("a")
    workers.put("a")
    go_on.set()
    assert twice.wait(DEADLINE)
    workers.stop()
    assert most == 1


def test_a_look_that_asks_for_it_is_repeated() -> None:
    looks: list[str] = []
    done = threading.Event()

    def look(key: str) -> float | None:
        looks.append(key)
        if len(looks) == 3:
            done.set()
            return None
        return 0.001

    workers = KeyedWorkers(look, workers=1, name="test")
    workers.start()
    workers.put("a")
    assert done.wait(DEADLINE)
    workers.stop()
    assert looks == ["a"] * 3


def test_an_earlier_look_replaces_a_later_one() -> None:
    done = threading.Event()

    def look(key: str) -> float | None:
        done.set()
        return None

    workers = KeyedWorkers(look, workers=1, name="test")
    workers.start()
    workers.put("a", delay=3600.0)
    workers.put("a")
    assert done.wait(DEADLINE)
    workers.stop()
