"""A volume that this host has lost ends at once, with the tasks that use it; but only where that is said by name."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from polly_mesos.agent_api import PublishState
from polly_mesos.mesos.resources import volume_path
from polly_mesos.model import FormatState, Json
from tests.unit.executor.conftest import Mappings
from tests.unit.executor.fakes import OTHER, VOLUME, eventually, path_volume
from tests.unit.executor.test_publisher import publishing


@pytest.fixture
def resource(mappings: Mappings) -> Json:
    """A volume that a task uses on this host, held under generation 1."""
    made = path_volume(mappings.root)
    mappings.ready(made)
    assert mappings.publisher.publish([made])
    mappings.agent.in_use = {volume_path(made)}
    return made


def lose(mappings: Mappings, generation: int = 1) -> None:
    """The scheduler half says that the volume was taken from this host, and the executor does what it can at once."""
    mappings.evictions._over = {VOLUME: generation}
    mappings.publisher.refuse({VOLUME: generation})


def test_its_tasks_are_killed_then_it_is_unmounted_released_and_reported(mappings: Mappings, resource: Json) -> None:
    mappings.evictions.assigned({VOLUME: 1})
    eventually(lambda: mappings.holdings.all() == ())
    assert mappings.agent.killed == [volume_path(resource)]
    assert not mappings.host.mounts
    assert mappings.driver.released == [{"device": "/dev/6f1d2c1e"}]
    volume, step, progress = mappings.scheduler.steps[-1]
    assert (volume, step, progress.generation) == (VOLUME, "unpublished", 1)


def test_the_log_names_the_volume_that_a_task_was_killed_for(
    mappings: Mappings, resource: Json, caplog: pytest.LogCaptureFixture
) -> None:
    reasons = []
    mappings.evictions._end_users = lambda place, reason: reasons.append(reason) or 0
    lose(mappings)
    assert mappings.evictions.attempt(VOLUME)
    assert f"this host has lost volume {VOLUME}, which it held as generation 1" in reasons[0]


def test_a_newer_generation_is_left_alone(mappings: Mappings, resource: Json) -> None:
    lose(mappings, generation=0)
    assert mappings.evictions.attempt(VOLUME)
    assert mappings.agent.killed == []
    assert mappings.host.mounts


@pytest.mark.parametrize("keep", [{}, {OTHER: 1}])
def test_a_ledger_that_does_not_know_the_volume_makes_nobody_kill_its_tasks(
    mappings: Mappings, resource: Json, keep: dict[str, int]
) -> None:
    mappings.evictions.assigned({})
    for _ in range(3):
        mappings.assign(keep=keep)
        mappings.pass_time(3600.0)
        mappings.usage.look()
    assert mappings.agent.killed == []
    assert mappings.host.mounts


def test_it_is_not_over_before_no_task_is_left(mappings: Mappings, resource: Json) -> None:
    mappings.agent.immortal = True
    lose(mappings)
    assert not mappings.evictions.attempt(VOLUME)
    assert not mappings.host.mounts, "no task can open another file"
    assert mappings.scheduler.steps_of(VOLUME)[-1] == "published"
    assert not mappings.evictions.attempt(VOLUME)
    mappings.agent.in_use.clear()
    assert mappings.evictions.attempt(VOLUME)
    assert mappings.scheduler.steps_of(VOLUME)[-1] == "unpublished"
    assert len(mappings.driver.released) == 1


def test_nor_while_the_agent_cannot_be_asked(
    mappings: Mappings, resource: Json, caplog: pytest.LogCaptureFixture
) -> None:
    mappings.agent.reachable = False
    lose(mappings)
    assert not mappings.evictions.attempt(VOLUME)
    assert not mappings.evictions.attempt(VOLUME)
    assert caplog.text.count("cannot be killed") == 1
    assert not mappings.host.mounts
    mappings.agent.reachable = True
    assert not mappings.evictions.attempt(VOLUME)
    assert mappings.agent.killed == [volume_path(resource)]
    assert mappings.evictions.attempt(VOLUME)


def test_what_keeps_a_mount_busy_is_given_ten_seconds(
    mappings: Mappings, resource: Json, caplog: pytest.LogCaptureFixture
) -> None:
    place = volume_path(resource)
    mappings.host.busy = {place}
    lose(mappings)
    assert not mappings.evictions.attempt(VOLUME)
    mappings.pass_time(9.0)
    assert not mappings.evictions.attempt(VOLUME)
    assert mappings.host.mounts
    assert mappings.driver.released == [], "a device that is mounted is not let go of"
    mappings.pass_time(2.0)
    with caplog.at_level(logging.ERROR):
        assert mappings.evictions.attempt(VOLUME)
    assert mappings.host.detached == [place]
    assert "taken out of the tree of files as it is" in caplog.text
    assert mappings.driver.released


def test_a_device_that_is_not_let_go_of_is_tried_again(mappings: Mappings, resource: Json) -> None:
    mappings.driver.stuck = [{"device": "/dev/6f1d2c1e"}]
    lose(mappings)
    assert not mappings.evictions.attempt(VOLUME)
    mappings.restart()
    lose(mappings)
    mappings.driver.stuck = []
    assert mappings.evictions.attempt(VOLUME)
    assert mappings.driver.released


def test_a_lost_volume_is_published_neither_from_memory_nor_while_it_is_being_ended(
    mappings: Mappings, resource: Json, caplog: pytest.LogCaptureFixture
) -> None:
    lose(mappings)
    assert not mappings.publisher.publish([resource])
    assert "was taken from this host" in caplog.text
    assert mappings.host.mounts


def test_a_generation_that_was_over_here_is_given_back_and_the_next_one_is_published(mappings: Mappings) -> None:
    """A restored ledger does not know that it was over, and the scheduler half has not been told yet what is held."""
    resource = path_volume(mappings.root)
    mappings.publisher.refuse({VOLUME: 1})
    mappings.ready(resource)
    answers = publishing(mappings, resource)
    eventually(lambda: "unpublished" in mappings.scheduler.steps_of(VOLUME))
    assert not answers
    assert not mappings.host.mounts
    mappings.ready(resource, generation=2)
    eventually(lambda: answers)
    assert answers == [True]
    assert mappings.host.mounts


def test_a_publish_that_waits_for_the_volume_is_refused_when_it_is_lost(mappings: Mappings, resource: Json) -> None:
    mappings.host.mounts.clear()
    mappings.ready(resource, state=PublishState.WAIT, reason="another host holds it")
    answers = publishing(mappings, resource)
    eventually(lambda: mappings.publisher.awaits(VOLUME))
    mappings.evictions.assigned({VOLUME: 1})
    mappings.ready(resource, state=PublishState.WAIT, reason="another host still holds it")
    eventually(lambda: answers, within=15.0)
    assert answers == [False]
    eventually(lambda: mappings.holdings.all() == ())


def test_an_attachment_that_is_over_is_not_used(mappings: Mappings) -> None:
    resource = path_volume(mappings.root)
    mappings.ready(resource)
    lose(mappings)
    assert not mappings.publisher.publish([resource])
    assert mappings.driver.located == []


def test_the_volume_is_published_again_under_a_newer_generation(mappings: Mappings, resource: Json) -> None:
    lose(mappings)
    assert not mappings.evictions.attempt(VOLUME)
    assert mappings.evictions.attempt(VOLUME)
    mappings.ready(resource, generation=3, format_state=FormatState.FORMATTED)
    assert mappings.publisher.publish([resource])
    assert mappings.evictions.attempt(VOLUME)
    assert mappings.host.mounts
    (holding,) = mappings.holdings.all()
    assert holding.generation == 3


def test_a_lost_volume_without_a_record_is_found_in_the_mount_table(mappings: Mappings, resource: Json) -> None:
    for record in Path(mappings.root, ".polly").iterdir():
        record.unlink()
    mappings.restart()
    mappings.recover(stop={VOLUME: 1})
    lose(mappings)
    mappings.evictions.attempt(VOLUME)
    assert mappings.evictions.attempt(VOLUME)
    assert mappings.agent.killed == [volume_path(resource)]
    assert not mappings.host.mounts
    assert mappings.driver.released == [{"device": "/dev/6f1d2c1e"}]


def test_the_scheduler_is_told_when_it_is_back(mappings: Mappings, resource: Json) -> None:
    mappings.agent.in_use.clear()
    mappings.scheduler.down()
    lose(mappings)
    assert not mappings.evictions.attempt(VOLUME)
    assert not mappings.host.mounts
    mappings.scheduler.up()
    assert mappings.evictions.attempt(VOLUME)
    assert mappings.scheduler.steps_of(VOLUME)[-1] == "unpublished"


def test_a_mapping_that_was_overtaken_is_undone_at_once(mappings: Mappings) -> None:
    resource = path_volume(mappings.root)
    mappings.ready(resource)
    step, mounted = mappings.client.step, []

    def overtaken(volume: str, name: str, progress: object, patience: float) -> None:
        if name == "published" and not mounted:
            mounted.append(dict(mappings.host.mounts))
            mappings.scheduler.stale.add(VOLUME)
            mappings.ready(resource, state=PublishState.REFUSED, reason="another host has it")
        step(volume, name, progress, patience)  # type: ignore[arg-type]

    mappings.client.step = overtaken  # type: ignore[method-assign]
    assert not mappings.publisher.publish([resource])
    assert mounted[0], "it had been mounted"
    assert not mappings.host.mounts
    assert mappings.driver.released
    assert mappings.holdings.all() == ()
