"""The volume controller makes the platform what the ledger says, whatever happens between two lines."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.base import ControllerDriver, CreateRequest, PlatformState, PlatformVolume
from drivers.directory.controller import DirectoryController
from drivers.directory.settings import DirectorySettings
from polly_mesos.errors import PlatformError, PlatformUnavailable, UnknownVolume
from polly_mesos.ledger import DestroyVolume, Ledger
from polly_mesos.model import (
    MB,
    Filesystem,
    FormatState,
    Operation,
    OperationState,
    Profile,
    Publication,
    PublicationState,
    Reclaim,
    Volume,
    VolumeKind,
    VolumeState,
)
from polly_mesos.scheduler.controller import VolumeController
from polly_mesos.scheduler.tags import decode
from polly_mesos.testing.platform import Platform as SlowPlatform
from polly_mesos.testing.platform import PlatformController, PlatformSettings
from tests.unit.scheduler.conftest import GOLD

DEADLINE = 10.0


class Platform:
    """The services of a configuration with one service, whose calls can be made to fail."""

    def __init__(self, directory: Path) -> None:
        self.driver = DirectoryController(DirectorySettings(str(directory)), "test")
        self.profiles: dict[str, Profile] = {"gold": dataclasses.replace(GOLD, filesystem=Filesystem.NONE)}
        self.before: dict[str, list[Exception]] = {}
        self.after: dict[str, list[Exception]] = {}
        self.calls: list[str] = []

    def controller(self, service: str) -> ControllerDriver:
        return self  # type: ignore[return-value]

    def __getattr__(self, name: str) -> Callable[..., object]:
        real = getattr(self.driver, name)

        def call(*arguments: object, **named: object) -> object:
            self.calls.append(name)
            if self.before.get(name):
                raise self.before[name].pop(0)
            answer = real(*arguments, **named)
            if self.after.get(name):
                raise self.after[name].pop(0)
            return answer

        return call


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    (tmp_path / "platform").mkdir()
    return Platform(tmp_path / "platform")


@pytest.fixture
def start(ledger: Ledger, platform: Platform) -> Iterator[Callable[[], VolumeController]]:
    running: list[VolumeController] = []

    def begin() -> VolumeController:
        controller = VolumeController(ledger, platform, cluster="test", workers=2)  # type: ignore[arg-type]
        controller.start()
        running.append(controller)
        return controller

    yield begin
    for controller in running:
        controller.stop()


@pytest.fixture
def volume(ledger: Ledger) -> Volume:
    return ledger.add_volume(
        Volume(
            id="5e2b9c10-1111-4c6e-8a53-7a0a8e8b0d01",
            pool="gold",
            profile="gold",
            service="local",
            kind=VolumeKind.MOUNT,
            size=64 * MB,
            state=VolumeState.CREATING,
            agent="a1",
        )
    )


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        pause.wait(0.005)


def open_intents(ledger: Ledger) -> list[Operation]:
    return ledger.operations(state=OperationState.INTENT)


def publication_is(ledger: Ledger, volume: Volume, state: PublicationState | None) -> Callable[[], bool]:
    def check() -> bool:
        found: Publication | None = ledger.publication(volume.id)
        return (found.state if found else None) is state

    return check


def test_a_volume_is_created_attached_detached_and_deleted(
    ledger: Ledger, platform: Platform, volume: Volume, start: Callable[[], VolumeController]
) -> None:
    controller = start()
    until(lambda: ledger.volume(volume.id).state is VolumeState.READY)
    publication = ledger.publish(volume.id, "a1", "127.0.0.1:5051")
    controller.look_at(volume.id)
    until(publication_is(ledger, volume, PublicationState.ATTACHED))
    held = platform.driver.get(ledger.volume(volume.id).platform_id)
    assert held.attached_to == ("127.0.0.1:5051",)
    ledger.unpublished(volume.id, publication.generation)
    controller.look_at(volume.id)
    until(publication_is(ledger, volume, None))
    ledger.delete_volume(volume.id)
    controller.look_at(volume.id)
    until(lambda: ledger.volume(volume.id).state is VolumeState.DELETED)
    assert not platform.driver.list().volumes
    assert not open_intents(ledger)


def test_a_platform_that_is_away_only_delays(
    ledger: Ledger, platform: Platform, volume: Volume, start: Callable[[], VolumeController]
) -> None:
    platform.before["create"] = [PlatformUnavailable("away"), PlatformUnavailable("still away")]
    start()
    until(lambda: ledger.volume(volume.id).state is VolumeState.READY)
    assert len(platform.driver.list().volumes) == 1
    assert not open_intents(ledger)


def test_an_answer_that_is_lost_makes_no_second_volume(
    ledger: Ledger, platform: Platform, volume: Volume, start: Callable[[], VolumeController]
) -> None:
    platform.after["create"] = [PlatformError("lost", outcome_unknown=True)]
    start()
    until(lambda: ledger.volume(volume.id).state is VolumeState.READY)
    assert platform.calls.count("create") == 2
    assert len(platform.driver.list().volumes) == 1


def test_what_an_earlier_process_began_is_finished(
    ledger: Ledger, platform: Platform, volume: Volume, start: Callable[[], VolumeController]
) -> None:
    ledger.begin("volume.create", volume.id, {})
    start()
    until(lambda: ledger.volume(volume.id).state is VolumeState.READY)
    until(lambda: not open_intents(ledger))


def test_a_volume_that_is_destroyed_before_it_was_heard_of_leaves_nothing_on_the_platform(
    ledger: Ledger, platform: Platform, volume: Volume, start: Callable[[], VolumeController]
) -> None:
    platform.after["create"] = [PlatformError("lost", outcome_unknown=True)]
    controller = VolumeController(ledger, platform, cluster="test")  # type: ignore[arg-type]
    controller.step(volume.id)
    assert len(platform.driver.list().volumes) == 1
    ledger.delete_volume(volume.id)
    start()
    until(lambda: ledger.volume(volume.id).state is VolumeState.DELETED)
    assert not platform.driver.list().volumes
    until(lambda: not open_intents(ledger))


def test_a_volume_is_not_deleted_while_a_host_has_it(
    ledger: Ledger, platform: Platform, volume: Volume, start: Callable[[], VolumeController]
) -> None:
    controller = start()
    until(lambda: ledger.volume(volume.id).state is VolumeState.READY)
    publication = ledger.publish(volume.id, "a1", "127.0.0.1:5051")
    controller.look_at(volume.id)
    until(publication_is(ledger, volume, PublicationState.ATTACHED))
    ledger.published(volume.id, publication.generation, "/dev/x", "/t")
    ledger.delete_volume(volume.id)
    controller.look_at(volume.id)
    controller.stop()
    assert "detach" not in platform.calls
    assert "delete" not in platform.calls


def test_a_bug_in_a_driver_is_told_and_tried_again(
    ledger: Ledger,
    platform: Platform,
    volume: Volume,
    start: Callable[[], VolumeController],
    caplog: pytest.LogCaptureFixture,
) -> None:
    platform.before["create"] = [ZeroDivisionError("bug")]
    start()
    until(lambda: ledger.volume(volume.id).state is VolumeState.READY)
    assert "ZeroDivisionError" in caplog.text


def test_a_profile_that_is_gone_keeps_the_volume_waiting_with_the_reason(
    ledger: Ledger, platform: Platform, volume: Volume, start: Callable[[], VolumeController]
) -> None:
    platform.profiles = {}
    start()
    until(lambda: "gold" in ledger.volume(volume.id).error)
    assert ledger.volume(volume.id).state is VolumeState.CREATING


def test_a_new_volume_was_never_formatted(ledger: Ledger, volume: Volume) -> None:
    assert ledger.volume(volume.id).format_state is FormatState.NEVER


def test_retained_data_stays_on_the_platform(
    ledger: Ledger, platform: Platform, start: Callable[[], VolumeController]
) -> None:
    from polly_mesos.ledger import CreateVolume, Reserve

    def operation(number: int) -> Operation:
        return Operation(f"00000000-0000-4000-8000-00000000000{number}", "mesos.X", "a1", OperationState.DONE, "a1")

    ledger.admit(operation(1), Reserve("gold", "a1", "", "[1]", 64 * MB))
    made = Volume(
        "5e2b9c10-1111-4c6e-8a53-7a0a8e8b0d02",
        "gold",
        "gold",
        "local",
        VolumeKind.PATH,
        64 * MB,
        VolumeState.CREATING,
        agent="a1",
        owner="[1]",
        persistence_id="p",
    )
    ledger.admit(operation(2), CreateVolume(made))
    controller = start()
    until(lambda: ledger.volume(made.id).state is VolumeState.READY)
    ledger.admit(operation(3), DestroyVolume(made.id, Reclaim.RETAIN))
    controller.look_at(made.id)
    controller.stop()
    assert ledger.volume(made.id).state is VolumeState.RELEASED
    assert len(platform.driver.list().volumes) == 1


def test_a_platform_volume_says_whose_it_is(
    ledger: Ledger, platform: Platform, volume: Volume, start: Callable[[], VolumeController]
) -> None:
    start()
    until(lambda: ledger.volume(volume.id).state is VolumeState.READY)
    tags = platform.driver.get(volume.id).tags
    origin = decode(tags.user)
    assert (tags.cluster, tags.volume, tags.profile, tags.epoch) == ("test", volume.id, "gold", ledger.epoch)
    assert origin is not None
    assert origin.node == "127.0.0.1:5051"
    assert (origin.owner, origin.persistence_id, origin.persistence, origin.agent, origin.framework) == (
        volume.owner,
        volume.persistence_id,
        volume.persistence,
        volume.agent,
        volume.framework,
    )


def test_what_a_host_needs_for_a_publication_that_it_told_of_is_learnt_from_the_platform(
    ledger: Ledger, platform: Platform, volume: Volume, start: Callable[[], VolumeController]
) -> None:
    """The ledger was restored: that the host has the volume is known from its word alone."""
    controller = start()
    until(lambda: ledger.volume(volume.id).state is VolumeState.READY)
    ledger.adopt_publication(volume.id, "a1", "127.0.0.1:5051", 7, "/polly/target")
    controller.look_at(volume.id)
    until(lambda: (found := ledger.publication(volume.id)) is not None and found.attachment)
    publication = ledger.publication(volume.id)
    assert publication is not None
    assert (publication.state, publication.generation) == (PublicationState.PUBLISHED, 7)


@pytest.fixture
def slow(platform: Platform, tmp_path: Path) -> Platform:
    """A platform that takes three calls to make a volume."""
    SlowPlatform.named(str(tmp_path), create_steps=3)
    platform.driver = PlatformController(PlatformSettings(str(tmp_path)), "test")  # type: ignore[assignment]
    return platform


def test_a_volume_that_is_being_made_is_looked_at_and_asked_for_once(
    ledger: Ledger, slow: Platform, volume: Volume
) -> None:
    controller = VolumeController(ledger, slow, cluster="test")  # type: ignore[arg-type]
    pauses = [controller.step(volume.id) for _ in range(4)]
    assert ledger.volume(volume.id).state is VolumeState.READY
    assert slow.calls == ["create", "get", "get", "get"]
    assert all(pause is not None and pause > 0 for pause in pauses[:3])
    assert not open_intents(ledger)


def test_the_longer_it_takes_the_less_often_it_is_looked_at(
    ledger: Ledger, slow: Platform, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = VolumeController(ledger, slow, cluster="test")  # type: ignore[arg-type]
    first = controller.step(volume.id)
    now = time.time()
    monkeypatch.setattr("polly_mesos.scheduler.controller.time.time", lambda: now + 10)
    second = controller.step(volume.id)
    monkeypatch.setattr("polly_mesos.scheduler.controller.time.time", lambda: now + 3600)
    third = controller.step(volume.id)
    assert first is not None
    assert second is not None
    assert third is not None
    assert first < second < third <= 5.0


def test_a_platform_that_does_not_know_yet_what_it_makes_is_waited_for_and_then_asked_again(
    ledger: Ledger, slow: Platform, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = VolumeController(ledger, slow, cluster="test")  # type: ignore[arg-type]
    controller.step(volume.id)
    slow.before["get"] = [UnknownVolume("not known yet") for _ in range(2)]
    assert controller.step(volume.id)
    assert slow.calls == ["create", "get"]
    now = time.time()
    monkeypatch.setattr("polly_mesos.scheduler.controller.time.time", lambda: now + 61)
    controller.step(volume.id)
    assert slow.calls == ["create", "get", "get", "create"]
    controller.step(volume.id)
    controller.step(volume.id)
    assert ledger.volume(volume.id).state is VolumeState.READY
    assert len(slow.driver.list().volumes) == 1


def test_a_volume_is_made_with_its_profiles_options_and_tags(
    ledger: Ledger, platform: Platform, volume: Volume
) -> None:
    asked: list[CreateRequest] = []
    real = platform.driver.create

    def create(request: CreateRequest) -> PlatformVolume:
        asked.append(request)
        return real(dataclasses.replace(request, options={}))

    platform.driver.create = create  # type: ignore[method-assign]
    platform.profiles["gold"] = dataclasses.replace(
        platform.profiles["gold"], options={"throughput": 250}, tags={"team": "storage"}
    )
    VolumeController(ledger, platform, cluster="test").step(volume.id)  # type: ignore[arg-type]
    assert asked[0].options == {"throughput": 250}
    assert asked[0].tags.labels == {"team": "storage"}
    assert platform.driver.get(volume.id).tags.labels == {"team": "storage"}


def test_a_volume_that_its_platform_could_not_make_says_why(
    ledger: Ledger, volume: Volume, platform: Platform, start: Callable[[], VolumeController]
) -> None:
    real = platform.driver.create

    def create(request: CreateRequest) -> PlatformVolume:
        return dataclasses.replace(real(request), state=PlatformState.ERROR, reason="its key is disabled")

    platform.driver.create = create  # type: ignore[method-assign]
    start()
    until(lambda: ledger.volume(volume.id).state is VolumeState.FAILED)
    assert "its key is disabled" in ledger.volume(volume.id).error
