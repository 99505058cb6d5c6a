"""One snapshot for one token on a platform whose CreateSnapshot knows no tokens."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from drivers.base import CreateRequest, PlatformVolume
from drivers.ebs.controller import EbsController
from polly_mesos.errors import AlreadyExists, PlatformThrottled, PlatformUnavailable
from polly_mesos.testing.ec2 import Ec2, Fault
from tests.drivers.ebs_platform import CLUSTER, controller, ec2, request, wire

__all__ = ["ec2", "wire"]

LATE = 60.0
"""Seconds after which the counterpart lists what is new; time passes when a test says so."""


def while_it_waits(ec2: Ec2, driver: EbsController, volume: str) -> str:
    """The id of the snapshot of ``token`` when the driver has to wait for EC2 to show it, and EC2 does."""
    with ThreadPoolExecutor(1) as pool:
        before = ec2.calls["DescribeSnapshots"]
        waiting = pool.submit(lambda: driver.snapshot(volume, "token", driver.get(volume).tags).id)
        while ec2.calls["DescribeSnapshots"] < before + 2 and not waiting.done():
            time.sleep(0)
        ec2.cloud.advance(LATE + 1)
        return waiting.result(30)


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.CUT, Fault.HTML_AFTER, Fault.NONSENSE])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_snapshot_is_taken_once_though_its_answer_was_lost_and_it_is_listed_late(
    ec2: Ec2, fault: Fault, restarted: bool
) -> None:
    driver = controller(ec2, consistency_timeout=30.0)
    volume = controller(ec2).create(request())
    driver._began -= 30.0
    ec2.delays.visible = LATE
    ec2.faults.plan("CreateSnapshot", fault)
    with pytest.raises(PlatformUnavailable) as error:
        driver.snapshot(volume.id, "token", volume.tags)
    assert error.value.outcome_unknown
    (taken,) = ec2.cloud.snapshots
    after = controller(ec2, consistency_timeout=30.0) if restarted else driver
    assert while_it_waits(ec2, after, volume.id) == taken
    assert list(ec2.cloud.snapshots) == [taken]


def test_a_snapshot_whose_answer_came_is_taken_once_though_it_is_listed_late(ec2: Ec2) -> None:
    driver = controller(ec2, consistency_timeout=30.0)
    volume = controller(ec2).create(request())
    driver._began -= 30.0
    ec2.delays.visible = LATE
    taken = driver.snapshot(volume.id, "token", volume.tags).id
    assert while_it_waits(ec2, driver, volume.id) == taken
    assert list(ec2.cloud.snapshots) == [taken]


def test_what_nobody_can_have_asked_for_is_taken_at_once(ec2: Ec2) -> None:
    driver = controller(ec2, consistency_timeout=3600.0)
    volume = driver.create(request())
    driver._began -= 3600.0
    driver.snapshot(volume.id, "token", volume.tags)
    assert ec2.calls["DescribeSnapshots"] == 1


def test_a_refused_snapshot_is_taken_again_at_once(ec2: Ec2) -> None:
    driver = controller(ec2, consistency_timeout=3600.0)
    volume = driver.create(request())
    driver._began -= 3600.0
    ec2.faults.plan("CreateSnapshot", Fault.THROTTLED)
    with pytest.raises(PlatformThrottled):
        driver.snapshot(volume.id, "token", volume.tags)
    assert driver.snapshot(volume.id, "token", volume.tags).id in ec2.cloud.snapshots


def test_a_wait_for_a_snapshot_that_may_be_there_ends_when_polly_does(ec2: Ec2) -> None:
    driver = controller(ec2, consistency_timeout=3600.0)
    volume = driver.create(request())
    driver.close()
    with pytest.raises(PlatformUnavailable) as error:
        driver.snapshot(volume.id, "token", volume.tags)
    assert error.value.outcome_unknown
    assert not ec2.calls["CreateSnapshot"]


def twins(ec2: Ec2) -> tuple[EbsController, str, list[str]]:
    """A volume of which EC2 showed a snapshot so late that there are two of one token, the older one first."""
    driver = controller(ec2)
    volume = driver.create(request())
    ec2.delays.visible = LATE
    taken = []
    for _ in range(2):
        ec2.cloud.advance(1.0)
        taken.append(controller(ec2).snapshot(volume.id, "token", volume.tags).id)
    return driver, volume.id, taken


def test_of_two_snapshots_of_one_token_the_older_counts_and_the_check_names_the_other(ec2: Ec2) -> None:
    driver, volume, _ = twins(ec2)
    ec2.cloud.advance(LATE + 1)
    first, second = sorted(ec2.cloud.snapshots, key=lambda one: ec2.cloud.snapshots[one].started)
    for _ in range(2):
        assert controller(ec2).snapshot(volume, "token", driver.get(volume).tags).id == first
    assert {one.id for one in driver.list_snapshots()} == {first, second}
    (check,) = (check for check in driver.check([]) if check.name == "snapshots")
    assert (check.passed, second in check.detail) == (False, True)
    driver.delete_snapshot(second)
    (check,) = (check for check in driver.check([]) if check.name == "snapshots")
    assert check.passed


def test_the_older_one_counts_whatever_its_id(ec2: Ec2) -> None:
    driver, volume, _ = twins(ec2)
    ec2.cloud.advance(LATE + 1)
    for older, later in (("one", "two"), ("two", "one")):
        names = dict(zip(("one", "two"), sorted(ec2.cloud.snapshots), strict=True))
        ec2.cloud.snapshots[names[older]].started = "2026-01-01T00:00:00.000Z"
        ec2.cloud.snapshots[names[later]].started = "2026-01-01T00:00:00.001Z"
        assert driver.snapshot(volume, "token", driver.get(volume).tags).id == names[older]


def test_a_snapshot_is_found_again_also_without_its_volume(ec2: Ec2) -> None:
    driver = controller(ec2)
    volume = driver.create(request())
    taken = driver.snapshot(volume.id, "token", volume.tags)
    driver.delete(volume.id)
    assert controller(ec2).snapshot(volume.id, "token", volume.tags).id == taken.id


def test_a_token_of_another_volumes_snapshot_is_refused(ec2: Ec2) -> None:
    driver = controller(ec2)
    volume, other = driver.create(request()), driver.create(request())
    driver.snapshot(volume.id, "token", volume.tags)
    with pytest.raises(AlreadyExists):
        driver.snapshot(other.id, "token", other.tags)


def clone_with_two_snapshots(ec2: Ec2, driver: EbsController, volume: PlatformVolume, asked: CreateRequest) -> None:
    """A first attempt's snapshot shows itself too late, and the answer to the second attempt's volume is lost."""
    ec2.delays.visible = LATE
    ec2.faults.plan("CreateSnapshot", Fault.LOST)
    with pytest.raises(PlatformUnavailable):
        driver.clone(volume.id, asked)
    ec2.delays.visible = 0.0
    ec2.faults.plan("CreateVolume", Fault.LOST)
    with pytest.raises(PlatformUnavailable):
        controller(ec2).clone(volume.id, asked)


def test_a_clone_of_two_snapshots_is_one_volume_and_leaves_none_of_them(ec2: Ec2) -> None:
    driver, asked = controller(ec2), request()
    volume = driver.create(request())
    clone_with_two_snapshots(ec2, driver, volume, asked)
    assert len(ec2.cloud.snapshots) == 2
    made = controller(ec2).clone(volume.id, asked)
    assert {one.id for one in driver.list().volumes} == {volume.id, made.id}
    assert len(ec2.cloud.snapshots) == 1, "the first one has not come to light yet"
    ec2.cloud.advance(LATE + 1)
    controller(ec2).clone(volume.id, request())
    assert not ec2.cloud.snapshots


def test_a_clone_that_was_made_of_the_snapshot_that_does_not_count_is_found(ec2: Ec2) -> None:
    driver, asked = controller(ec2), request()
    volume = driver.create(request())
    clone_with_two_snapshots(ec2, driver, volume, asked)
    (made,) = set(ec2.cloud.volumes) - {volume.id}
    ec2.cloud.volumes[made].visible = ec2.cloud.now() + 2 * LATE
    ec2.cloud.advance(LATE + 1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(controller(ec2, consistency_timeout=30.0).clone, volume.id, asked)
        while ec2.calls["CreateVolume"] < 3:
            time.sleep(0)
        ec2.cloud.advance(LATE)
        assert waiting.result(30).id == made
    assert {one.id for one in driver.list().volumes} == {volume.id, made}
    assert driver.get(made).tags.cluster == CLUSTER
