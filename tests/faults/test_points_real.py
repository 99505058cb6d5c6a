"""The most dangerous fault points on a real Mesos: the process dies there for good, and the task finds its volume."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.base import PlatformVolume
from drivers.directory.controller import DirectoryController
from drivers.directory.settings import DirectorySettings
from drivers.loop.controller import LoopController
from drivers.loop.settings import LoopSettings
from polly_mesos.faults import EXIT_STATUS, VARIABLE
from polly_mesos.mesos.local.cluster import LocalCluster
from tests.mesos.conftest import cluster_factory, mesos
from tests.mesos.framework import Framework, wait_until
from tests.mesos.operations import create, launch, reserve
from tests.mesos.polly import Polly

__all__ = ["cluster_factory", "mesos"]
pytestmark = [pytest.mark.mesos, pytest.mark.timeout(300)]

Json = dict[str, Any]
SIZE_MB = 64.0
SCHEDULER_POINTS = (
    "operation.admit.after-ledger",
    "volume.create.after-call",
    "volume.attach.after-call",
    "publication.step.after-ledger",
)
EXECUTOR_POINTS = ("volume.format.after-mkfs", "volume.mount.after-call")


class Faults:
    """The file that all processes of a test follow."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.arm("")

    def arm(self, text: str) -> None:
        draft = self.path.with_suffix(".new")
        draft.write_text(text)
        draft.replace(self.path)


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    return Faults(tmp_path / "faults")


@pytest.fixture
def polly(cluster_factory: Callable[..., LocalCluster], faults: Faults, tmp_path: Path) -> Iterator[Polly]:
    cluster = cluster_factory(agents=1)
    made = Polly(cluster, tmp_path)
    made.environment[VARIABLE] = f"@{faults.path}"
    with made:
        made.connected(1)
        yield made


@pytest.fixture
def framework(polly: Polly) -> Iterator[Framework]:
    master = polly.get("/health")["master"]
    with Framework(master) as subscribed:
        yield subscribed


def disk_of(framework: Framework, fits: Callable[[Json], bool]) -> tuple[Json, Json]:
    """An offer with such a disk."""

    def look() -> tuple[Json, Json] | None:
        offer = framework.offer()
        for resource in offer["resources"]:
            if resource["name"] == "disk" and "source" in resource.get("disk", {}) and fits(resource):
                return offer, resource
        framework.accept(offer)
        return None

    found: tuple[Json, Json] = wait_until(look)
    return found


def make_volume(framework: Framework) -> None:
    """RESERVE and CREATE in one go."""
    offer, disk = disk_of(framework, lambda resource: "persistence" not in resource["disk"])
    framework.accept(offer, reserve(disk, SIZE_MB), create(disk, SIZE_MB, "data"))


def launch_on_volume(framework: Framework, name: str, command: str) -> None:
    offer, volume = disk_of(framework, lambda resource: "persistence" in resource["disk"])
    framework.accept(offer, launch(offer, name, volume, command))


def run_until_finished(framework: Framework, name: str, command: str) -> None:
    """Launch the task on the volume until it once has finished: it may be lost with the executor half."""

    def finished() -> bool:
        number = len(launched)
        launched.append(f"{name}-{number}")
        launch_on_volume(framework, launched[-1], command)
        ends = ("TASK_FINISHED", "TASK_FAILED", "TASK_LOST", "TASK_DROPPED", "TASK_ERROR")
        state = wait_until(lambda: [u["state"] for u in framework.updates(launched[-1]) if u["state"] in ends])
        return bool(state[0] == "TASK_FINISHED")

    launched: list[str] = []
    wait_until(finished)


def on_platform(directory: Path) -> tuple[PlatformVolume, ...]:
    """What there really is."""
    path = str(directory / "platform")
    if os.geteuid() == 0:
        return LoopController(LoopSettings(path), "test").list().volumes
    return DirectoryController(DirectorySettings(path), "test").list().volumes


def nothing_is_lost(polly: Polly, directory: Path) -> None:
    """One volume in the ledger, the same one on the platform, and nothing left to do."""
    (volume,) = polly.get("/v1/volumes")
    assert volume["state"] == "ready"
    assert [found.tags.volume for found in on_platform(directory)] == [volume["id"]]
    wait_until(lambda: polly.get("/v1/operations", state="intent") == [])
    wait_until(lambda: polly.get(f"/v1/volumes/{volume['id']}")["publication"] is None)


@pytest.mark.parametrize("point", SCHEDULER_POINTS)
def test_polly_serve_dies_there_and_the_task_finds_its_volume(
    polly: Polly, framework: Framework, faults: Faults, tmp_path: Path, point: str
) -> None:
    faults.arm(f"{point}=exit")
    make_volume(framework)
    if point.startswith(("volume.attach.", "publication.")):
        launch_on_volume(framework, "first", "true")
    assert polly.wait_for_end() == EXIT_STATUS
    faults.arm("")
    polly.start()
    run_until_finished(framework, "writer", "echo kept > data/file")
    run_until_finished(framework, "reader", "grep kept data/file")
    nothing_is_lost(polly, tmp_path)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only block devices are formatted")
@pytest.mark.parametrize("point", EXECUTOR_POINTS)
def test_the_executor_dies_there_and_the_task_finds_its_volume(
    polly: Polly, framework: Framework, faults: Faults, tmp_path: Path, point: str
) -> None:
    faults.arm(f"{point}=exit")
    make_volume(framework)
    launch_on_volume(framework, "first", "true")
    # The framework is told with which status the executor ended, as waitpid() gives it.
    wait_until(lambda: f"executor polly ended with status {EXIT_STATUS << 8}" in polly.log.read_text())
    faults.arm("")
    run_until_finished(framework, "writer", "echo kept > data/file")
    run_until_finished(framework, "reader", "grep kept data/file")
    nothing_is_lost(polly, tmp_path)
