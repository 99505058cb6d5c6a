"""Steps are recognised by what is so, in whatever order it was seen."""

from __future__ import annotations

from typing import Any

from polly_mesos.demo.observe import Observation
from polly_mesos.demo.report import Report
from polly_mesos.demo.steps import STEPS, World
from polly_mesos.model import MB

BY_NAME = {step.name: step for step in STEPS}
VOLUME = "demo#data#1"


def disk(size_mb: int, *, reserved: bool = False) -> dict[str, Any]:
    return {"scalar": {"value": float(size_mb)}, **({"reservations": [{"role": "marathon"}]} if reserved else {})}


def pool(leased: int, reserved: int = 0, volumes: int = 0) -> dict[str, Any]:
    parts = {"leased": leased * MB, "reserved": reserved * MB, "volumes": volumes * MB, "free": 0}
    return {"name": "gold", "capacity": sum(parts.values()), **parts}


def volume(state: str | None) -> dict[str, Any]:
    publication = None if state is None else {"state": state, "device": "/dev/loop0", "target": "/v"}
    return {"id": "1", "persistence_id": VOLUME, "size": 256 * MB, "publication": publication}


def world(**facts: Any) -> World:
    return World("http://polly", "http://master", 2, **facts)


def at_rest() -> Observation:
    return Observation(pools=[pool(4096)], disks=[("a", disk(1024)), ("b", disk(3072))])


def test_the_pool_is_on_offer_once_the_master_shows_all_that_was_leased() -> None:
    seen = world()
    seen.see(Observation(pools=[pool(4096)], disks=[("a", disk(1024)), ("b", disk(1024))]))
    assert BY_NAME["offered"].reached(seen) is None
    seen.see(at_rest())
    assert BY_NAME["offered"].reached(seen) == "1024 MB + 3072 MB"
    assert seen.before is not None
    assert seen.before.offered == 4096 * MB


def test_a_published_volume_is_remembered_after_it_was_unpublished() -> None:
    seen = world()
    seen.hear({"event": "reserving", "volume": VOLUME})
    seen.see(Observation(volumes=[volume(None)]))
    assert BY_NAME["mapped"].reached(seen) is None
    seen.see(Observation(volumes=[volume("published")]))
    seen.see(Observation(volumes=[volume(None)]))
    assert BY_NAME["mapped"].reached(seen) == "/dev/loop0 at /v"


def test_a_volume_that_a_task_has_used_was_mapped_even_if_nobody_saw_it() -> None:
    seen = world()
    seen.hear({"event": "task-finished", "run": 1, "lines": ["written by a"]})
    assert BY_NAME["mapped"].reached(seen) == "seen by the task"


def test_a_volume_of_a_reservation_that_was_given_up_is_not_shown() -> None:
    seen = world()
    seen.hear({"event": "reserving", "volume": "demo#data#0"})
    seen.hear({"event": "reserving", "volume": VOLUME})
    seen.see(Observation(volumes=[{**volume(None), "id": "0", "persistence_id": "demo#data#0"}]))
    assert BY_NAME["reserved"].reached(seen) is None


def test_capacity_is_back_only_when_ledger_master_and_machine_agree() -> None:
    seen = world()
    seen.see(at_rest())
    assert BY_NAME["offered"].reached(seen)
    gone = BY_NAME["returned"].reached
    seen.see(Observation(pools=[pool(3840, volumes=256)], disks=[("a", disk(4096))]))
    assert gone(seen) is None, "the ledger still has the volume"
    seen.see(Observation(pools=[pool(4096)], disks=[("a", disk(3840)), ("b", disk(256, reserved=True))]))
    assert gone(seen) is None, "the master still has the reservation"
    seen.see(at_rest())
    seen.left = "mount /v"
    assert gone(seen) is None, "the machine still has the mount"
    seen.left = ""
    assert gone(seen) == "4096 MB on offer, as before"


def test_while_nobody_answers_nothing_is_reached() -> None:
    seen = world()
    seen.see(at_rest())
    BY_NAME["offered"].reached(seen)
    seen.see(Observation())
    assert [step.name for step in STEPS if step.reached(seen) is not None] == []


def test_the_report_counts_from_step_to_step() -> None:
    report = Report()
    report.reach("mesos", "Mesos", "up", 1.5)
    report.reach("registered", "Polly", "registered", 4.0)
    assert [(step["at"], step["took"]) for step in report.as_json()["steps"]] == [(1.5, 1.5), (4.0, 2.5)]
    assert report.as_json()["seconds"] == 4.0
