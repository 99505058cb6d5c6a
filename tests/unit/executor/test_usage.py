"""Volumes are let go of after their last task, or when they are wanted back; never from under a task."""

from __future__ import annotations

from pathlib import Path

import pytest

from polly_mesos.agent_api import PublishState
from polly_mesos.mesos.resources import volume_path
from polly_mesos.model import Json
from tests.unit.executor.conftest import Mappings
from tests.unit.executor.fakes import OTHER, VOLUME, eventually, path_volume
from tests.unit.executor.test_publisher import publishing


@pytest.fixture
def resource(mappings: Mappings) -> Json:
    """A volume that is mounted and that the scheduler half lets this host keep."""
    made = path_volume(mappings.root)
    mappings.ready(made)
    assert mappings.publisher.publish([made])
    mappings.assign(keep={VOLUME: 1})
    return made


def test_an_unused_volume_is_unmounted_released_and_reported_after_the_grace_time(
    mappings: Mappings, resource: Json
) -> None:
    mappings.usage.look()
    mappings.pass_time(9.0)
    mappings.usage.look()
    assert mappings.host.mounts
    mappings.pass_time(2.0)
    mappings.usage.look()
    assert not mappings.host.mounts
    assert mappings.driver.released == [{"device": "/dev/6f1d2c1e"}]
    assert mappings.scheduler.steps_of(VOLUME)[-1] == "unpublished"
    assert mappings.holdings.all() == ()


def test_a_used_volume_stays(mappings: Mappings, resource: Json) -> None:
    mappings.agent.in_use = {volume_path(resource)}
    for _ in range(3):
        mappings.pass_time(60.0)
        mappings.usage.look()
    assert mappings.host.mounts


def test_the_grace_time_begins_when_the_last_task_has_gone(mappings: Mappings, resource: Json) -> None:
    mappings.agent.in_use = {volume_path(resource)}
    mappings.pass_time(60.0)
    mappings.usage.look()
    mappings.agent.in_use = set()
    mappings.pass_time(5.0)
    mappings.usage.look()
    assert mappings.host.mounts
    mappings.pass_time(6.0)
    mappings.usage.look()
    assert not mappings.host.mounts


def test_nothing_is_unmounted_while_the_agent_cannot_be_asked(
    mappings: Mappings, resource: Json, caplog: pytest.LogCaptureFixture
) -> None:
    mappings.usage.look()
    mappings.agent.reachable = False
    mappings.pass_time(3600.0)
    mappings.usage.look()
    mappings.assign(keep={})
    mappings.usage.look()
    mappings.usage.look()
    assert mappings.host.mounts
    assert caplog.text.count("nothing is unmounted while the agent cannot be asked") == 1
    mappings.agent.reachable = True
    mappings.usage.look()
    assert not mappings.host.mounts


def test_a_task_that_came_between_two_questions_keeps_its_volume(mappings: Mappings, resource: Json) -> None:
    mappings.usage.look()
    mappings.pass_time(60.0)
    first = mappings.agent.places_in_use

    def then_used() -> set[str]:
        before = first()
        mappings.agent.in_use = {volume_path(resource)}
        return before

    mappings.usage._places_in_use = then_used
    mappings.usage.look()
    assert mappings.host.mounts


def test_a_volume_that_is_asked_for_again_gets_its_grace_anew(mappings: Mappings, resource: Json) -> None:
    mappings.usage.look()
    mappings.pass_time(-60.0)
    assert mappings.publisher.publish([resource])
    mappings.pass_time(60.0 + 5.0)
    mappings.usage.look()
    assert mappings.host.mounts


def test_a_volume_that_a_task_waits_for_is_not_taken_for_unused(mappings: Mappings) -> None:
    resource = path_volume(mappings.root)
    mappings.ready(resource, state=PublishState.WAIT)
    mappings.assign(keep={VOLUME: 1})
    answers = publishing(mappings, resource)
    eventually(lambda: mappings.publisher.awaits(VOLUME))
    mappings.pass_time(60.0)
    mappings.usage.look()
    assert mappings.scheduler.steps_of(VOLUME) == []
    mappings.ready(resource)
    eventually(lambda: answers)
    assert answers == [True]


def test_a_revoked_volume_goes_at_once(mappings: Mappings, resource: Json) -> None:
    mappings.assign(revoke={VOLUME: 1})
    mappings.usage.look()
    assert not mappings.host.mounts
    assert mappings.scheduler.steps_of(VOLUME)[-1] == "unpublished"


def test_but_not_from_under_a_task(mappings: Mappings, resource: Json) -> None:
    mappings.agent.in_use = {volume_path(resource)}
    mappings.assign(keep={})
    mappings.usage.look()
    assert mappings.host.mounts
    mappings.agent.in_use = set()
    mappings.usage.look()
    assert not mappings.host.mounts


def test_a_revoked_volume_that_was_never_mounted_is_reported(mappings: Mappings) -> None:
    mappings.assign(revoke={VOLUME: 4})
    mappings.usage.look()
    assert [(volume, step, progress.generation) for volume, step, progress in mappings.scheduler.steps] == [
        (VOLUME, "unpublished", 4)
    ]
    mappings.usage.look()
    assert len(mappings.scheduler.steps) == 1


def test_a_volume_that_was_given_after_the_question_is_not_missing_in_the_answer(mappings: Mappings) -> None:
    mappings.assign(keep={})
    resource = path_volume(mappings.root)
    mappings.ready(resource)
    assert mappings.publisher.publish([resource])
    mappings.usage.look()
    assert mappings.host.mounts


def test_a_volume_that_another_publication_replaced_goes(mappings: Mappings, resource: Json) -> None:
    mappings.assign(keep={VOLUME: 2})
    mappings.usage.look()
    assert not mappings.host.mounts


def test_a_revoked_volume_is_not_published_from_memory(mappings: Mappings, resource: Json) -> None:
    mappings.host.busy = {volume_path(resource)}
    mappings.assign(keep={})
    mappings.usage.look()
    assert mappings.host.mounts
    mappings.ready(resource, state=PublishState.REFUSED, reason="revoked")
    assert not mappings.publisher.publish([resource])


def test_a_busy_mount_is_tried_again_and_told_once(
    mappings: Mappings, resource: Json, caplog: pytest.LogCaptureFixture
) -> None:
    mappings.host.busy = {volume_path(resource)}
    mappings.assign(keep={})
    mappings.usage.look()
    mappings.usage.look()
    assert caplog.text.count("is busy") == 1
    assert mappings.driver.released == [], "a device that is mounted is not let go of"
    mappings.host.busy = set()
    mappings.usage.look()
    assert not mappings.host.mounts


def test_the_scheduler_is_told_when_it_is_back(mappings: Mappings, resource: Json) -> None:
    mappings.scheduler.down()
    mappings.assign(keep={})
    mappings.usage.look()
    assert not mappings.host.mounts
    mappings.scheduler.up()
    mappings.usage.look()
    assert mappings.scheduler.steps_of(VOLUME)[-1] == "unpublished"
    assert mappings.holdings.all() == ()


def test_after_a_restart_what_is_mounted_is_known_and_released(mappings: Mappings, resource: Json) -> None:
    mappings.restart()
    mappings.assign(keep={})
    mappings.usage.look()
    assert not mappings.host.mounts
    assert mappings.driver.released == [{"device": "/dev/6f1d2c1e"}]


def test_after_a_restart_with_a_lost_record_the_mount_table_tells(mappings: Mappings, resource: Json) -> None:
    for record in Path(mappings.root, ".polly").iterdir():
        record.unlink()
    mappings.restart()
    mappings.assign(keep={VOLUME: 1})
    mappings.usage.look()
    assert mappings.host.mounts
    mappings.assign(keep={OTHER: 1})
    mappings.usage.look()
    assert not mappings.host.mounts


def test_a_damaged_record_is_left_aside(mappings: Mappings, resource: Json, caplog: pytest.LogCaptureFixture) -> None:
    (record,) = Path(mappings.root, ".polly").iterdir()
    record.write_text('{"volume": ')
    mappings.restart()
    assert mappings.holdings.all() == ()
    assert str(record) in caplog.text


def test_a_publication_that_was_never_used_is_given_back_after_the_grace_time(mappings: Mappings) -> None:
    mappings.assign(keep={VOLUME: 3})
    mappings.usage.look()
    assert mappings.scheduler.steps == []
    mappings.pass_time(11.0)
    mappings.usage.look()
    assert [(volume, step, progress.generation) for volume, step, progress in mappings.scheduler.steps] == [
        (VOLUME, "unpublished", 3)
    ]


def test_nothing_is_touched_before_the_scheduler_has_spoken(mappings: Mappings) -> None:
    mappings.host.mounts[f"{mappings.root}/gold/volumes/roles/team/old"] = (OTHER, "/dev/old")
    mappings.pass_time(3600.0)
    mappings.usage.look()
    assert mappings.host.mounts
    assert mappings.agent.asked == 0
