"""The executor half on this very host: real drivers, real file systems, real mounts; the scheduler half is played."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.base import ControllerDriver, CreateRequest, Tags
from drivers.declaration import load_class
from drivers.directory import DRIVER as DIRECTORY
from drivers.directory.settings import DirectorySettings
from drivers.loop import DRIVER as LOOP
from drivers.loop.settings import LoopSettings
from polly_mesos.agent_api import Assignment, PublishState, PublishTarget
from polly_mesos.executor.holdings import Holdings
from polly_mesos.executor.host import mounts
from polly_mesos.executor.linux import LinuxHost
from polly_mesos.executor.mapping import Mapper
from polly_mesos.executor.publisher import Publisher
from polly_mesos.executor.scheduler_client import SchedulerClient
from polly_mesos.executor.usage import UsageWatch
from polly_mesos.mesos.resources import volume_path
from polly_mesos.model import MB, Filesystem, HostIdentity, Json
from tests.unit.executor.fakes import VOLUME, FakeAgent, FakeScheduler, path_volume

NODE = "host-a:5051"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices and mounts need root")


class RealHost:
    """One service on this host. ``restart`` begins again with nothing in memory."""

    def __init__(
        self, root: str, controller: ControllerDriver, host: Any, scheduler: FakeScheduler, client: SchedulerClient
    ) -> None:
        self.root = root
        self.controller = controller
        self.host = host
        self.scheduler = scheduler
        self.client = client
        self.agent = FakeAgent()
        self.tools = LinuxHost()
        self.restart()

    def restart(self) -> None:
        self.holdings = Holdings(self.root)
        mapper = Mapper(self.client, {"service": self.host}, self.tools, self.holdings)
        self.publisher = Publisher(self.client, mapper, self.holdings, allow_scratch=False, patience=30.0)
        self.usage = UsageWatch(
            self.agent.places_in_use,
            mapper,
            self.holdings,
            self.publisher,
            self.tools,
            volume_root=self.root,
            grace=0.0,
        )

    def attached(self, filesystem: Filesystem, size: int = 320 * MB) -> Json:
        """A volume that the platform has created and attached; the resource that names it."""
        request = CreateRequest(VOLUME, size, Tags("test", VOLUME, "gold"), filesystem=filesystem)
        self.platform_id = self.controller.create(request).id
        resource = path_volume(self.root, "data", size // MB)
        attachment = self.controller.attach(self.platform_id, HostIdentity(NODE))
        target = PublishTarget(
            volume=VOLUME,
            state=PublishState.READY,
            target=volume_path(resource),
            generation=1,
            service="service",
            filesystem=filesystem,
            attachment=attachment,
        )
        self.scheduler.show(volume_path(resource), target)
        return resource

    def end(self) -> None:
        """Let go of everything, however far the test came."""
        for target in self.tools.mounted(self.root).values():
            self.tools.unpublish(target)
        for holding in self.holdings.all():
            self.host.release(holding.attachment)


@pytest.fixture
def loop(tmp_path: Path, root: str, scheduler: FakeScheduler, client: SchedulerClient) -> Iterator[RealHost]:
    directory = str(tmp_path / "images")
    Path(directory).mkdir()
    controller = load_class(LOOP.controller)(LoopSettings(directory), "test")
    real = RealHost(root, controller, load_class(LOOP.host)({"directory": directory}, NODE), scheduler, client)
    yield real
    real.end()


@pytest.fixture
def directory(tmp_path: Path, root: str, scheduler: FakeScheduler, client: SchedulerClient) -> Iterator[RealHost]:
    path = str(tmp_path / "directories")
    Path(path).mkdir()
    controller = load_class(DIRECTORY.controller)(DirectorySettings(path), "test")
    real = RealHost(root, controller, load_class(DIRECTORY.host)({"directory": path}, NODE), scheduler, client)
    yield real
    real.end()


@needs_root
@pytest.mark.root
@pytest.mark.parametrize("filesystem", [Filesystem.EXT4, Filesystem.XFS])
def test_a_loop_volume_is_mounted_keeps_its_data_and_is_let_go_of(loop: RealHost, filesystem: Filesystem) -> None:
    resource = loop.attached(filesystem)
    target = Path(volume_path(resource))
    assert loop.publisher.publish([resource])
    mount = mounts.mount_at(str(target))
    assert mount is not None
    assert mount.filesystem == filesystem.value
    (target / "file").write_text("precious")

    loop.usage.assigned(Assignment(1, (), (), {VOLUME: 1}), asked=time.monotonic())
    loop.usage.look()
    assert not target.exists()
    assert not any("images" in path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file"))
    assert loop.scheduler.steps_of(VOLUME) == ["formatting", "formatted", "published", "unpublished"]

    assert loop.publisher.publish([resource])
    assert (target / "file").read_text() == "precious"
    loop.usage.assigned(Assignment(2, (), (), {}, {VOLUME: 1}), asked=time.monotonic())
    loop.usage.look()
    loop.controller.detach(loop.platform_id, HostIdentity(NODE))
    loop.controller.delete(loop.platform_id)


@needs_root
@pytest.mark.root
def test_a_mounted_loop_volume_needs_no_scheduler(loop: RealHost) -> None:
    resource = loop.attached(Filesystem.EXT4, 16 * MB)
    assert loop.publisher.publish([resource])
    loop.scheduler.down()
    assert loop.publisher.publish([resource])


@needs_root
@pytest.mark.root
def test_a_restarted_executor_finds_its_mount_and_can_let_go_of_it(loop: RealHost) -> None:
    resource = loop.attached(Filesystem.EXT4, 16 * MB)
    assert loop.publisher.publish([resource])
    loop.restart()
    assert loop.tools.mounted(loop.root) == {VOLUME: volume_path(resource)}
    assert loop.publisher.publish([resource])
    assert loop.scheduler.steps_of(VOLUME).count("formatting") == 1
    loop.restart()
    loop.usage.assigned(Assignment(1, (), (), {}), asked=time.monotonic())
    loop.usage.look()
    assert loop.tools.mounted(loop.root) == {}
    assert loop.holdings.all() == ()


@needs_root
@pytest.mark.root
def test_a_loop_volume_in_use_stays_mounted(loop: RealHost) -> None:
    resource = loop.attached(Filesystem.EXT4, 16 * MB)
    assert loop.publisher.publish([resource])
    target = Path(volume_path(resource))
    loop.usage.assigned(Assignment(1, (), (), {}), asked=time.monotonic())
    with open(target / "file", "w"):
        loop.usage.look()
        assert loop.tools.volume_at(str(target)) == VOLUME
    loop.usage.look()
    assert loop.tools.volume_at(str(target)) is None


def test_a_directory_is_linked_and_unlinked_by_any_user(directory: RealHost) -> None:
    resource = directory.attached(Filesystem.NONE)
    target = Path(volume_path(resource))
    assert directory.publisher.publish([resource])
    (target / "file").write_text("precious")
    directory.restart()
    assert directory.tools.mounted(directory.root) == {VOLUME: str(target)}
    directory.usage.assigned(Assignment(1, (), (), {VOLUME: 1}), asked=time.monotonic())
    directory.usage.look()
    assert not os.path.lexists(target)
    assert directory.publisher.publish([resource])
    assert (target / "file").read_text() == "precious"


def test_targets_are_named_as_the_agent_names_them_below_a_linked_root(tmp_path: Path, directory: RealHost) -> None:
    resource = directory.attached(Filesystem.NONE)
    assert directory.publisher.publish([resource])
    alias = tmp_path / "alias"
    alias.symlink_to(directory.root)
    place = os.path.relpath(volume_path(resource), directory.root)
    assert directory.tools.mounted(str(alias)) == {VOLUME: str(alias / place)}


def test_a_link_that_leads_nowhere_is_not_a_published_volume(directory: RealHost) -> None:
    resource = directory.attached(Filesystem.NONE)
    assert directory.publisher.publish([resource])
    (holding,) = directory.holdings.all()
    Path(holding.device).rename(f"{holding.device}.away")
    assert directory.tools.volume_at(volume_path(resource)) is None


def test_programs_that_the_host_lacks_are_named_with_their_packages() -> None:
    host = LinuxHost()
    assert host.lacking([Filesystem.NONE], []) == ""
    assert "no-such-program" in host.lacking([Filesystem.NONE], ["no-such-program", "sh"])


_SAY_PROBLEM = (
    "from polly_mesos.executor.linux import LinuxHost; import sys; print(LinuxHost().mount_problem(sys.argv[1]))"
)


def problem_in_a_namespace_of_its_own(root: Path, prepare: str) -> str:
    """What is said about a volume root inside a fresh mount namespace, after a shell command in there."""
    script = f'{prepare} && exec "$0" -c "$1" "$2"'
    command = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        sys.executable,
        _SAY_PROBLEM,
        str(root),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@needs_root
@pytest.mark.root
def test_in_a_container_a_root_that_is_not_shared_is_named_with_the_remedy(tmp_path: Path) -> None:
    problem = problem_in_a_namespace_of_its_own(tmp_path, "true")
    assert f"{tmp_path} lies on" in problem
    assert "not a shared mount" in problem
    assert f"mount --make-shared {tmp_path}" in problem


@needs_root
@pytest.mark.root
def test_in_a_container_a_shared_root_is_no_problem(tmp_path: Path) -> None:
    prepare = f"mount --bind {tmp_path} {tmp_path} && mount --make-shared {tmp_path}"
    assert problem_in_a_namespace_of_its_own(tmp_path, prepare) == ""


def test_outside_of_containers_mounts_need_not_be_shared(tmp_path: Path) -> None:
    assert LinuxHost().mount_problem(str(tmp_path)) == ""
