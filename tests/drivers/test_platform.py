"""The platform in memory is a driver as every other, and as unreliable as it is told to be."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from drivers.base import CreateRequest, PlatformState, Tags
from polly_mesos.errors import PlatformThrottled, PlatformUnavailable, VolumeInUse
from polly_mesos.model import MB, HostIdentity, Json
from polly_mesos.testing import Fault, Machine, driver_suite
from polly_mesos.testing.platform import DRIVER, Platform, PlatformController, PlatformSettings


class SimulatedMachine(Machine):
    """A host of the platform in memory."""

    def __init__(self, platform: Platform, node: str) -> None:
        self.identity = HostIdentity(node)
        self._platform = platform

    def use(self, attachment: Json) -> None:
        self._platform.busy.add((str(attachment["volume"]), self.identity.host))

    def stop(self) -> None:
        self._platform.stopped.add(self.identity.host)


@contextlib.contextmanager
def machine(settings: Mapping[str, Any], node: str) -> Iterator[Machine]:
    simulated = SimulatedMachine(Platform.named(settings["name"]), node)
    yield simulated
    simulated.stop()


@contextlib.contextmanager
def lost_answers(settings: Mapping[str, Any]) -> Iterator[None]:
    platform = Platform.named(settings["name"])
    for method in ("create", "attach", "detach", "delete"):
        platform.inject(method, Fault(after=PlatformUnavailable("no answer", outcome_unknown=True)))
    yield
    platform.heal()


TestPlatform = driver_suite(
    DRIVER,
    lambda tmp_path: {"name": str(tmp_path), "directory": str(tmp_path / "volumes")},
    machines=machine,
    many=100,
    lost_answers=lost_answers,
)

HOST, OTHER = HostIdentity("host-a"), HostIdentity("host-b")


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    yield Platform.named(str(tmp_path), create_steps=3, list_lag=5, seed=1)
    Platform.forget(str(tmp_path))


@pytest.fixture
def controller(platform: Platform, tmp_path: Path) -> PlatformController:
    return PlatformController(PlatformSettings(str(tmp_path)), "ours")


def request() -> CreateRequest:
    token = str(uuid.uuid4())
    return CreateRequest(token, MB, Tags("ours", token, "gold"))


def listed(controller: PlatformController) -> set[str]:
    page = controller.list()
    found = {volume.id for volume in page.volumes}
    while page.next is not None:
        page = controller.list(page.next)
        found |= {volume.id for volume in page.volumes}
    return found


def test_a_volume_takes_its_time_to_be_made_and_to_be_listed(
    platform: Platform, controller: PlatformController
) -> None:
    made = []
    missing_at_first = set()
    for _ in range(8):
        made.append(controller.create(request()))
        missing_at_first |= {made[-1].id} - listed(controller)
    assert made[0].state is PlatformState.CREATING
    assert missing_at_first
    platform.wait(5)
    assert {controller.get(volume.id).state for volume in made} == {PlatformState.AVAILABLE}
    assert listed(controller) == {volume.id for volume in made}


def test_what_was_deleted_is_listed_for_a_while(platform: Platform, controller: PlatformController) -> None:
    made = {controller.create(request()).id for _ in range(8)}
    platform.wait(5)
    for volume in made:
        controller.delete(volume)
    assert listed(controller)
    platform.wait(5)
    assert listed(controller) == set()


def test_a_lost_answer_has_taken_effect_and_a_throttled_call_has_not(
    platform: Platform, controller: PlatformController
) -> None:
    asked = request()
    platform.inject("create", Fault(before=PlatformThrottled("slow down")))
    platform.inject("create", Fault(after=PlatformUnavailable("no answer", outcome_unknown=True)))
    with pytest.raises(PlatformThrottled):
        controller.create(asked)
    assert platform.volumes() == ()
    with pytest.raises(PlatformUnavailable):
        controller.create(asked)
    assert [volume.tags.volume for volume in platform.volumes()] == [asked.token]
    assert controller.create(asked).id == platform.volumes()[0].id
    assert platform.made == {asked.token: 1}


def test_a_volume_in_use_is_taken_by_force_from_a_stopped_host_alone(
    platform: Platform, controller: PlatformController
) -> None:
    volume = controller.create(request()).id
    platform.wait(3)
    controller.attach(volume, HOST)
    platform.busy.add((volume, HOST.host))
    assert not controller.fence(HOST).proven
    with pytest.raises(VolumeInUse):
        controller.detach(volume, HOST)
    assert platform.violations
    platform.violations.clear()
    platform.stopped.add(HOST.host)
    assert controller.fence(HOST).proven
    controller.detach(volume, HOST, force=True)
    controller.attach(volume, OTHER)
    assert platform.violations == []


def test_taking_a_volume_by_force_from_a_host_that_writes_is_a_violation(
    platform: Platform, controller: PlatformController
) -> None:
    volume = controller.create(request()).id
    platform.wait(3)
    controller.attach(volume, HOST)
    platform.busy.add((volume, HOST.host))
    with pytest.raises(VolumeInUse):
        controller.detach(volume, HOST, force=True)
    assert platform.violations == [f"{volume} is in use on host-a"]


def test_a_fault_of_a_method_that_is_not_there_is_a_mistake(platform: Platform) -> None:
    with pytest.raises(ValueError, match="no method 'creat'"):
        platform.inject("creat", Fault())
