"""A task starts when its volumes are mounted where it will look for them, and not before."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest

from polly_mesos.agent_api import PublishState
from polly_mesos.errors import MountFailed
from polly_mesos.mesos.resources import volume_path
from polly_mesos.model import FormatState, Json
from tests.unit.executor.conftest import MakeMappings, Mappings
from tests.unit.executor.fakes import OTHER, VOLUME, eventually, mount_volume, path_volume, scratch


def publishing(mappings: Mappings, *resources: Json) -> list[bool]:
    """Begin to publish; the answer lands in the list."""
    answers: list[bool] = []
    threading.Thread(target=lambda: answers.append(mappings.publisher.publish(resources)), daemon=True).start()
    return answers


def test_a_new_volume_is_formatted_under_a_journaled_intent_and_mounted(mappings: Mappings) -> None:
    resource = path_volume(mappings.root)
    mappings.ready(resource)
    assert mappings.publisher.publish([resource])
    place = f"{mappings.root}/gold/volumes/roles/team/data"
    assert mappings.host.mounts == {place: (VOLUME, "/dev/6f1d2c1e")}
    assert mappings.scheduler.steps_of(VOLUME) == ["formatting", "formatted", "published"]
    _, _, published = mappings.scheduler.steps[-1]
    assert (published.generation, published.device, published.target) == (1, "/dev/6f1d2c1e", place)


def test_a_secret_reaches_the_driver_once_and_is_in_no_record(mappings: Mappings) -> None:
    resource = path_volume(mappings.root)
    attachment = {"device": "/dev/6f1d2c1e"}
    mappings.ready(resource, attachment=attachment, secrets={"password": "only-once"})
    assert mappings.publisher.publish([resource])
    assert mappings.driver.located == [{**attachment, "password": "only-once"}]
    (holding,) = mappings.holdings.all()
    assert holding.attachment == attachment
    kept = [path.read_text() for path in Path(mappings.root).rglob("*.json")]
    assert kept
    assert not any("only-once" in text for text in kept)


def test_a_mount_disk_is_published_below_its_id(mappings: Mappings) -> None:
    resource = mount_volume(mappings.root, VOLUME)
    mappings.ready(resource)
    assert mappings.publisher.publish([resource])
    assert list(mappings.host.mounts) == [f"{mappings.root}/gold/{VOLUME}/target"]


def test_it_waits_for_a_volume_that_is_still_being_created(mappings: Mappings) -> None:
    resource = path_volume(mappings.root)
    mappings.ready(resource, state=PublishState.WAIT, reason="being created by the platform")
    answers = publishing(mappings, resource)
    eventually(lambda: mappings.publisher.awaits(VOLUME))
    assert not answers
    assert not mappings.host.mounts
    mappings.ready(resource)
    eventually(lambda: answers)
    assert answers == [True]
    assert mappings.host.mounts
    assert not mappings.publisher.awaits(VOLUME)


def test_it_waits_no_longer_than_its_patience(make_mappings: MakeMappings, caplog: pytest.LogCaptureFixture) -> None:
    mappings = make_mappings(patience=0.3)
    resource = path_volume(mappings.root)
    mappings.ready(resource, state=PublishState.WAIT, reason="being created by the platform")
    assert not mappings.publisher.publish([resource])
    assert "being created by the platform" in caplog.text


def test_what_the_scheduler_refuses_is_refused_with_its_reason(
    mappings: Mappings, caplog: pytest.LogCaptureFixture
) -> None:
    resource = path_volume(mappings.root)
    mappings.ready(resource, state=PublishState.REFUSED, reason="volume is failed: the platform is full")
    assert not mappings.publisher.publish([resource])
    assert "the platform is full" in caplog.text
    assert not mappings.host.mounts


def test_one_volume_that_cannot_be_had_is_a_no_for_all(mappings: Mappings) -> None:
    good, bad = path_volume(mappings.root, "good"), path_volume(mappings.root, "bad")
    mappings.ready(good)
    mappings.ready(bad, OTHER, state=PublishState.REFUSED)
    assert not mappings.publisher.publish([good, bad])


def test_volumes_are_mapped_side_by_side(mappings: Mappings) -> None:
    slow, fast = path_volume(mappings.root, "slow"), path_volume(mappings.root, "fast")
    mappings.ready(slow, state=PublishState.WAIT)
    mappings.ready(fast, OTHER)
    answers = publishing(mappings, slow, fast)
    eventually(lambda: volume_path(fast) in mappings.host.mounts)
    assert not answers
    mappings.ready(slow)
    eventually(lambda: answers)
    assert answers == [True]


def test_what_is_mounted_needs_no_scheduler_and_little_time(mappings: Mappings) -> None:
    resources = [path_volume(mappings.root, "one"), path_volume(mappings.root, "two")]
    mappings.ready(resources[0])
    mappings.ready(resources[1], OTHER)
    assert mappings.publisher.publish(resources)
    mappings.scheduler.down()
    begun = time.perf_counter()
    assert mappings.publisher.publish(resources)
    assert time.perf_counter() - begun < 1.0, "an answer from local knowledge does not wait for anybody"


def test_a_mount_that_vanished_is_made_again(mappings: Mappings) -> None:
    resource = path_volume(mappings.root)
    mappings.ready(resource)
    assert mappings.publisher.publish([resource])
    mappings.host.mounts.clear()
    assert mappings.publisher.publish([resource])
    assert mappings.host.mounts


def test_a_volume_that_is_mounted_but_not_known_is_asked_for(mappings: Mappings) -> None:
    resource = path_volume(mappings.root)
    mappings.ready(resource)
    assert mappings.publisher.publish([resource])
    mappings.restart()
    assert mappings.publisher.publish([resource])
    assert mappings.scheduler.requests.count(("POST", "/agent/v1/publications")) == 2


def test_a_device_with_something_on_it_is_not_formatted(mappings: Mappings, caplog: pytest.LogCaptureFixture) -> None:
    resource = path_volume(mappings.root)
    mappings.ready(resource)
    mappings.host.formatted["/dev/6f1d2c1e"] = OTHER
    assert not mappings.publisher.publish([resource])
    assert "is not blank" in caplog.text
    assert mappings.scheduler.steps_of(VOLUME) == []


def test_a_formatted_volume_is_mounted_as_it_is(mappings: Mappings) -> None:
    resource = path_volume(mappings.root)
    mappings.ready(resource, format_state=FormatState.FORMATTED)
    mappings.host.formatted["/dev/6f1d2c1e"] = VOLUME
    assert mappings.publisher.publish([resource])
    assert mappings.scheduler.steps_of(VOLUME) == ["published"]


def test_another_file_system_at_the_place_is_a_no(mappings: Mappings) -> None:
    resource = path_volume(mappings.root)
    mappings.ready(resource)
    mappings.host.mounts[volume_path(resource)] = (OTHER, "/dev/other")
    assert not mappings.publisher.publish([resource])


def test_a_target_that_is_not_where_the_agent_looks_is_a_no(mappings: Mappings) -> None:
    resource = path_volume(mappings.root)
    mappings.ready(resource, target=f"{mappings.root}/gold/elsewhere")
    assert not mappings.publisher.publish([resource])
    assert not mappings.host.mounts


def test_a_volume_that_changed_hands_is_asked_for_again(mappings: Mappings) -> None:
    resource = path_volume(mappings.root)
    mappings.ready(resource)
    mappings.scheduler.stale.add(VOLUME)
    assert mappings.publisher.publish([resource])
    assert mappings.scheduler.requests.count(("POST", "/agent/v1/publications")) == 2


def test_a_volume_that_is_attached_in_another_way_is_mapped_anew(mappings: Mappings) -> None:
    resource = path_volume(mappings.root)
    mappings.ready(resource)
    assert mappings.publisher.publish([resource])
    mappings.publisher.forget(next(iter(mappings.holdings.all())))
    mappings.host.formatted["/dev/other"] = VOLUME
    mappings.ready(resource, generation=2, attachment={"device": "/dev/other"}, format_state=FormatState.FORMATTED)
    assert mappings.publisher.publish([resource])
    assert mappings.driver.released == [{"device": "/dev/6f1d2c1e"}], "by the attachment that it had come with"
    assert mappings.host.mounts == {volume_path(resource): (VOLUME, "/dev/other")}
    assert [(one.generation, one.device) for one in mappings.holdings.all()] == [(2, "/dev/other")]


def test_a_destroyed_volume_in_the_way_is_let_go_of_first(mappings: Mappings) -> None:
    resource = path_volume(mappings.root)
    mappings.ready(resource)
    assert mappings.publisher.publish([resource])
    mappings.ready(resource, OTHER)
    mappings.publisher.forget(next(iter(mappings.holdings.all())))
    assert mappings.publisher.publish([resource])
    assert mappings.host.mounts[volume_path(resource)] == (OTHER, "/dev/0b0c5a52")
    assert mappings.scheduler.steps_of(VOLUME)[-1] == "unpublished"
    assert mappings.driver.released == [{"device": "/dev/6f1d2c1e"}]


def test_one_volume_is_mapped_once_however_many_ask(mappings: Mappings) -> None:
    resource = path_volume(mappings.root)
    mappings.ready(resource, state=PublishState.WAIT)
    first, second = publishing(mappings, resource), publishing(mappings, resource)
    eventually(lambda: mappings.publisher.awaits(VOLUME))
    mappings.ready(resource)
    eventually(lambda: first and second)
    assert (first, second) == ([True], [True])
    assert len(mappings.host.published) == 1


def test_a_task_that_uses_the_pool_without_a_volume_is_refused(
    mappings: Mappings, caplog: pytest.LogCaptureFixture
) -> None:
    assert not mappings.publisher.publish([scratch(mappings.root)])
    assert "64 MB of profile 'gold' without a volume" in caplog.text
    assert "allow_scratch" in caplog.text


def test_unless_that_is_allowed(make_mappings: MakeMappings) -> None:
    mappings = make_mappings(allow_scratch=True)
    assert mappings.publisher.publish([scratch(mappings.root)])
    assert not mappings.host.mounts


def test_a_malformed_disk_is_a_no(mappings: Mappings, caplog: pytest.LogCaptureFixture) -> None:
    resource = path_volume(mappings.root, "../../etc")
    assert not mappings.publisher.publish([resource])
    assert "cannot be part of a path" in caplog.text


def test_the_record_is_there_before_the_device_is_touched(mappings: Mappings) -> None:
    resource = path_volume(mappings.root)
    mappings.ready(resource)

    def crash(attachment: Json, timeout: float) -> str:
        raise MountFailed("the host broke off")

    mappings.driver.locate = crash  # type: ignore[method-assign]
    assert not mappings.publisher.publish([resource])
    mappings.restart()
    (holding,) = mappings.holdings.all()
    assert (holding.volume, holding.service, holding.attachment) == (VOLUME, "block", {"device": "/dev/6f1d2c1e"})


def test_a_mistake_in_a_driver_is_a_no_and_not_a_hang(mappings: Mappings, caplog: pytest.LogCaptureFixture) -> None:
    resource = path_volume(mappings.root)
    mappings.ready(resource, attachment={})
    with caplog.at_level(logging.ERROR):
        assert not mappings.publisher.publish([resource])
    assert "KeyError" in caplog.text


def test_records_are_for_root_alone(mappings: Mappings) -> None:
    resource = path_volume(mappings.root)
    mappings.ready(resource)
    assert mappings.publisher.publish([resource])
    directory = Path(mappings.root, ".polly")
    assert directory.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in directory.iterdir()] == [0o600]
