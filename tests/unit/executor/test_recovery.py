"""A new executor process finishes or undoes whatever the one before it left, wherever that one ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from polly_mesos import faults
from polly_mesos.mesos.resources import volume_path
from polly_mesos.model import Json
from tests.unit.executor.conftest import Mappings
from tests.unit.executor.fakes import OTHER, VOLUME, path_volume

DEVICE = "/dev/6f1d2c1e"
MAPPING = (
    "holding.write.before-replace",
    "holding.write.after-replace",
    "volume.locate.before-call",
    "volume.locate.after-call",
    "volume.format.before-intent",
    "volume.format.after-intent",
    "volume.format.after-mkfs",
    "volume.format.after-outcome",
    "volume.mount.after-call",
    "publication.report.before-send",
    "publication.report.after-answer",
)
UNMAPPING = (
    "volume.unmount.before-call",
    "volume.unmount.after-call",
    "volume.release.after-call",
    "unpublication.report.before-send",
    "unpublication.report.after-answer",
    "holding.drop.after-unlink",
)


@pytest.fixture
def resource(mappings: Mappings) -> Json:
    made = path_volume(mappings.root)
    mappings.ready(made)
    return made


def forget_records(mappings: Mappings) -> None:
    for record in Path(mappings.root, ".polly").iterdir():
        record.unlink()
    mappings.restart()


def let_go(mappings: Mappings) -> None:
    """The grace time passes with nobody using anything."""
    mappings.usage.look()
    mappings.pass_time(60.0)
    mappings.usage.look()


def nothing_is_left(mappings: Mappings) -> bool:
    return not (mappings.host.mounts or mappings.driver.attached or mappings.holdings.all())


@pytest.mark.parametrize("point", MAPPING)
def test_a_crash_while_mapping_is_finished_when_the_volume_is_wanted_again(
    mappings: Mappings, resource: Json, point: str
) -> None:
    with faults.armed(point, "raise*1"):
        assert not mappings.publisher.publish([resource])
    mappings.restart()
    mappings.recover(keep={VOLUME: 1})
    assert mappings.publisher.publish([resource])
    assert mappings.host.mounts == {volume_path(resource): (VOLUME, DEVICE)}
    assert mappings.scheduler.steps_of(VOLUME)[-1] == "published"
    let_go(mappings)
    assert nothing_is_left(mappings)


@pytest.mark.parametrize("point", MAPPING)
def test_and_undone_when_it_is_not(mappings: Mappings, resource: Json, point: str) -> None:
    with faults.armed(point, "raise*1"):
        assert not mappings.publisher.publish([resource])
    mappings.restart()
    mappings.recover(keep={VOLUME: 1})
    let_go(mappings)
    assert nothing_is_left(mappings)
    assert mappings.scheduler.steps_of(VOLUME)[-1] == "unpublished"


@pytest.mark.parametrize("point", UNMAPPING)
@pytest.mark.parametrize("keep", [{VOLUME: 1}, {}])
def test_a_crash_while_letting_go_is_finished(
    mappings: Mappings, resource: Json, point: str, keep: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    assert mappings.publisher.publish([resource])
    mappings.recover(keep={VOLUME: 1})
    with faults.armed(point, "raise*1"):
        let_go(mappings)
    assert "InjectedFault" in caplog.text
    mappings.restart()
    mappings.recover(keep=keep)
    let_go(mappings)
    assert nothing_is_left(mappings)
    assert mappings.scheduler.steps_of(VOLUME)[-1] == "unpublished"


def test_a_mount_without_a_record_is_kept_and_let_go_of_like_any_other(mappings: Mappings, resource: Json) -> None:
    assert mappings.publisher.publish([resource])
    mappings.agent.in_use = {volume_path(resource)}
    forget_records(mappings)
    mappings.recover(keep={VOLUME: 1})
    let_go(mappings)
    assert mappings.host.mounts
    (holding,) = mappings.holdings.all()
    assert (holding.generation, holding.service, holding.device) == (1, "block", DEVICE)
    mappings.agent.in_use = set()
    let_go(mappings)
    assert nothing_is_left(mappings)
    assert mappings.scheduler.steps_of(VOLUME)[-1] == "unpublished"


def test_a_mount_that_nobody_knows_anything_of_is_let_go_of_when_it_is_idle(mappings: Mappings, resource: Json) -> None:
    assert mappings.publisher.publish([resource])
    forget_records(mappings)
    mappings.recover()
    assert mappings.holdings.all()[0].generation == 0
    let_go(mappings)
    assert nothing_is_left(mappings)


def test_a_record_without_a_mount_is_undone(mappings: Mappings, resource: Json) -> None:
    assert mappings.publisher.publish([resource])
    mappings.host.mounts.clear()
    mappings.restart()
    mappings.recover(keep={VOLUME: 1})
    let_go(mappings)
    assert nothing_is_left(mappings)


def test_a_device_without_mount_and_record_is_let_go_of_at_once(mappings: Mappings) -> None:
    mappings.driver.attached = {"/dev/a": {"device": "/dev/a"}}
    mappings.recover()
    assert mappings.driver.released == [{"device": "/dev/a"}]


def test_but_not_one_that_a_record_names(mappings: Mappings, resource: Json) -> None:
    with faults.armed("volume.locate.after-call", "raise*1"):
        assert not mappings.publisher.publish([resource])
    mappings.restart()
    mappings.recover(keep={VOLUME: 1})
    assert mappings.driver.attached
    assert mappings.driver.released == []


def test_and_not_one_that_is_mounted_elsewhere(mappings: Mappings) -> None:
    mappings.driver.attached = {"/dev/a": {"device": "/dev/a"}}
    mappings.host.mounts["/mnt/by-hand"] = (OTHER, "/dev/a")
    mappings.recover()
    assert mappings.driver.released == []


@pytest.mark.parametrize("fail", ["held", "release"])
def test_a_driver_that_fails_keeps_nobody_from_starting(
    mappings: Mappings, caplog: pytest.LogCaptureFixture, fail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise ValueError("a mistake of the driver's")

    mappings.driver.attached = {"/dev/a": {"device": "/dev/a"}}
    monkeypatch.setattr(mappings.driver, fail, broken)
    mappings.recover()
    assert "a mistake of the driver's" in caplog.text


def test_a_volume_that_changed_hands_while_the_executor_was_away_is_mapped_anew(
    mappings: Mappings, resource: Json
) -> None:
    assert mappings.publisher.publish([resource])
    mappings.restart()
    mappings.recover(keep={VOLUME: 2})
    mappings.usage.look()
    assert nothing_is_left(mappings), "what is cached of it may be older than what is on it"
