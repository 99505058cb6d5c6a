"""The contract itself: finding a driver's classes, their settings, and injecting faults."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from drivers.base import CreateRequest, Tags
from drivers.declaration import Driver, load_class
from drivers.directory import DRIVER as DIRECTORY
from drivers.directory.controller import DirectoryController
from drivers.directory.settings import DirectorySettings
from drivers.loop import DRIVER as LOOP
from drivers.loop.controller import LoopController
from drivers.loop.settings import LoopSettings
from polly_mesos.errors import PlatformUnavailable, UnknownDriver
from polly_mesos.model import MB, Filesystem
from polly_mesos.testing import Fault, FaultyController


def test_a_class_is_found_by_its_name() -> None:
    assert load_class(LOOP.controller) is LoopController


@pytest.mark.parametrize("driver", [LOOP, DIRECTORY])
def test_all_that_a_driver_names_is_there(driver: Driver) -> None:
    assert set(driver.host_settings) <= set(load_class(driver.settings).__slots__)
    assert load_class(driver.host).block == (driver.filesystems != (Filesystem.NONE,))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("drivers.loop", "does not name a class"),
        (":LoopHost", "does not name a class"),
        ("drivers.nothing:LoopHost", "drivers.nothing.*cannot be imported"),
        ("drivers.loop.host:Missing", "no class 'Missing'"),
        ("drivers.loop.host:os", "no class 'os'"),
    ],
)
def test_what_is_not_there_is_named(spec: str, said: str) -> None:
    with pytest.raises(UnknownDriver, match=said):
        load_class(spec)


@pytest.mark.parametrize("settings", [LoopSettings, DirectorySettings])
def test_settings_that_cannot_work_are_refused(settings: type[LoopSettings]) -> None:
    with pytest.raises(ValueError, match="absolute path"):
        settings("relative")
    with pytest.raises(ValueError, match="more than 0"):
        settings("/absolute", 0)


@pytest.fixture
def faulty(tmp_path: Path) -> FaultyController:
    return FaultyController(DirectoryController(DirectorySettings(str(tmp_path / "platform")), "test"))


def request() -> CreateRequest:
    token = str(uuid.uuid4())
    return CreateRequest(token, MB, Tags("test", token, "gold"), filesystem=Filesystem.NONE)


def test_a_fault_before_the_effect_leaves_nothing(faulty: FaultyController) -> None:
    faulty.inject("create", Fault(before=PlatformUnavailable("down")), times=2)
    for _ in range(2):
        with pytest.raises(PlatformUnavailable):
            faulty.create(request())
    assert faulty.list().volumes == ()
    assert faulty.list().volumes == () != (faulty.create(request()),)


def test_a_fault_after_the_effect_loses_the_answer_alone(faulty: FaultyController) -> None:
    faulty.inject("create", Fault(after=PlatformUnavailable("no answer", outcome_unknown=True)))
    asked = request()
    with pytest.raises(PlatformUnavailable):
        faulty.create(asked)
    assert [volume.id for volume in faulty.list().volumes] == [asked.token]
    assert faulty.calls == ["create", "list"]


def test_a_fault_of_a_method_that_is_not_there_is_a_mistake(faulty: FaultyController) -> None:
    with pytest.raises(ValueError, match="no method 'creat'"):
        faulty.inject("creat", Fault())
