"""What the suite's tests stand on: a driver under test, and the cleaning up of all that they made with it."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from drivers.base import (
    Capability,
    ControllerDriver,
    CreateRequest,
    HostDriver,
    PlatformSnapshot,
    PlatformState,
    PlatformVolume,
    Tags,
)
from drivers.declaration import Driver, load_class
from polly_mesos.errors import HostError, PlatformError, UnknownVolume
from polly_mesos.model import HostIdentity, Json
from polly_mesos.testing.driver_suite.machines import Machine, Machines, ProcessMachine

NODE, OTHER_NODE = "192.0.2.1:5051", "192.0.2.2:5051"
MACHINE, OTHER_MACHINE = "192.0.2.3:1", "192.0.2.4:1"
"""Nodes of hosts that can be stopped; nothing on the test's machine listens on their port."""

OURS, OTHERS = "conformance", "conformance-others"

_Made = TypeVar("_Made", PlatformVolume, PlatformSnapshot)

LostAnswers = Callable[[Mapping[str, Any]], AbstractContextManager[None]]
"""Given the service's settings: in the block, the answer to the next change of the platform is lost."""

Settings = Callable[[Path], Mapping[str, Any]]
"""The service's settings as polly.yml would have them, given an empty directory."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A volume on a host, and the path where the host has it."""

    volume: PlatformVolume
    node: str
    attachment: Json
    path: str


class Harness:
    """One driver with one service's settings.

    :param size: bytes of the volumes that are made
    :param timeout: seconds that the platform may take for one step
    :param machines: starts hosts that can be stopped; processes of this machine where None
    :ivar many: how many volumes are listed together
    :ivar lost_answers: makes the platform lose an answer; None where no network lies between
    :ivar platform_sees_hosts: whether the platform itself knows that a host runs
    """

    many = 12
    lost_answers: LostAnswers | None = None
    platform_sees_hosts = False

    def __init__(
        self, driver: Driver, settings: Mapping[str, Any], size: int, timeout: float, machines: Machines | None = None
    ) -> None:
        self.driver = driver
        self.size = size
        self._settings = settings
        self.timeout = timeout
        self._machines = machines
        self._attached: list[tuple[str, Json]] = []
        self.controller = self.new_controller()

    def new_controller(self, cluster: str = OURS) -> ControllerDriver:
        """A fresh object of the controller side, as after a restart."""
        controller: ControllerDriver = load_class(self.driver.controller)(
            load_class(self.driver.settings)(**self._settings), cluster
        )
        return controller

    def new_host(self, node: str = NODE) -> HostDriver:
        """A fresh object of the host side, which knows only what hosts may know."""
        host: HostDriver = load_class(self.driver.host)(self._known_to_hosts(), node)
        return host

    @contextlib.contextmanager
    def machine(self, node: str = MACHINE) -> Iterator[Machine]:
        """A host that can be stopped, and is after the block."""
        if self._machines is not None:
            with self._machines(self._settings, node) as machine:
                yield machine
            return
        machine = ProcessMachine(self.driver, self._known_to_hosts(), node)
        try:
            yield machine
        finally:
            machine.stop()

    def identity(self, node: str = NODE) -> HostIdentity:
        """Who that host says that it is."""
        return self.new_host(node).identify()

    def can(self, capability: Capability) -> bool:
        """Whether the driver declares the capability."""
        return capability in self.controller.capabilities

    def request(self, size: int | None = None, cluster: str = OURS) -> CreateRequest:
        """A request that nobody made before."""
        token = str(uuid.uuid4())
        tags = Tags(cluster, token, "gold", epoch=7, user={"team": "storage", "note": 'ä "quoted" word'})
        return CreateRequest(token, size or self.size, tags, filesystem=self.driver.filesystems[0])

    def create(self, request: CreateRequest | None = None) -> PlatformVolume:
        """A volume that is available."""
        return self.when_available(self.controller.create(request or self.request()))

    def when_available(self, volume: PlatformVolume) -> PlatformVolume:
        """The volume once the platform has it ready."""
        return self._wait(lambda: self.controller.get(volume.id), f"volume {volume.id}")

    def snapshot(self, volume: PlatformVolume) -> PlatformSnapshot:
        """A snapshot that is available."""
        token = str(uuid.uuid4())
        tags = replace(volume.tags, volume=token)
        taken = self.controller.snapshot(volume.id, token, tags)
        return self._wait(lambda: self.controller.get_snapshot(taken.id), f"snapshot {taken.id}")

    def attach(self, volume: PlatformVolume, node: str = NODE) -> Attached:
        """Attach the volume and find it on the host."""
        attachment = self.controller.attach(volume.id, self.identity(node))
        self._attached.append((node, attachment))
        return Attached(volume, node, attachment, self.new_host(node).locate(attachment, self.timeout))

    def detach(self, attached: Attached) -> None:
        """Let go of the volume on the host, then detach it."""
        self.new_host(attached.node).release(attached.attachment)
        self.controller.detach(attached.volume.id, self.identity(attached.node))

    @contextlib.contextmanager
    def on_host(self, volume: PlatformVolume, node: str = NODE) -> Iterator[Attached]:
        """The volume attached for the length of a block."""
        attached = self.attach(volume, node)
        yield attached
        self.detach(attached)

    def write(self, path: str, data: bytes, offset: int = 0) -> None:
        """Write to the device, or to a file in the directory, and make it durable."""
        descriptor = os.open(self._file(path), os.O_RDWR | (0 if self._is_block else os.O_CREAT), 0o600)
        try:
            os.pwrite(descriptor, data, offset)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self, path: str, length: int, offset: int = 0) -> bytes:
        """What :meth:`write` wrote; no bytes where the directory has no such file."""
        try:
            descriptor = os.open(self._file(path), os.O_RDONLY)
        except FileNotFoundError:
            return b""
        try:
            return os.pread(descriptor, length, offset)
        finally:
            os.close(descriptor)

    def device_size(self, path: str) -> int:
        """Bytes of the device as the host sees it."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return os.lseek(descriptor, 0, os.SEEK_END)
        finally:
            os.close(descriptor)

    def volumes(self, controller: ControllerDriver | None = None) -> dict[str, PlatformVolume]:
        """All volumes by id, from all pages."""
        found: list[PlatformVolume] = []
        page = (controller or self.controller).list()
        found.extend(page.volumes)
        while page.next is not None:
            page = (controller or self.controller).list(page.next)
            found.extend(page.volumes)
        by_id = {volume.id: volume for volume in found}
        assert len(by_id) == len(found), "a volume is on two pages"
        return by_id

    def clean(self) -> None:
        """Remove all that was made, and show that the driver left nothing behind.

        What a test has let go of itself is gone already, and a host may refuse what it was never given.
        """
        for node, attachment in self._attached:
            with contextlib.suppress(HostError):
                self.new_host(node).release(attachment)
        for cluster in (OURS, OTHERS):
            controller = self.new_controller(cluster)
            if self.can(Capability.SNAPSHOT):
                for snapshot in controller.list_snapshots():
                    controller.delete_snapshot(snapshot.id)
            for volume in self.volumes(controller).values():
                for host in volume.attached_to:
                    controller.detach(volume.id, HostIdentity(host))
                controller.delete(volume.id)
            assert self.volumes(controller) == {}, "a deleted volume is still listed"

    @contextlib.contextmanager
    def losing_an_answer(self) -> Iterator[None]:
        """The platform does what it is asked next, and nobody hears of it: the call says that this may be so."""
        assert self.lost_answers is not None
        with self.lost_answers(self._settings), pytest.raises(PlatformError) as caught:
            yield
        assert caught.value.outcome_unknown, "a call whose answer was lost may have taken effect"

    def _known_to_hosts(self) -> dict[str, Any]:
        return {name: value for name, value in self._settings.items() if name in self.driver.host_settings}

    @property
    def _is_block(self) -> bool:
        host: type[HostDriver] = load_class(self.driver.host)
        return host.block

    def _file(self, path: str) -> str:
        return path if self._is_block else os.path.join(path, "written-by-the-suite")

    def _look(self, look: Callable[[], _Made]) -> _Made | None:
        """A platform may not know everywhere yet what it was just asked for."""
        try:
            return look()
        except UnknownVolume:
            return None

    def _wait(self, look: Callable[[], _Made], what: str) -> _Made:
        deadline = time.monotonic() + self.timeout
        while (found := self._look(look)) is None or found.state is PlatformState.CREATING:
            assert time.monotonic() < deadline, f"{what} is still being made after {self.timeout} seconds"
            time.sleep(0.05)
        assert found.state is PlatformState.AVAILABLE, f"{what} is {found.state}"
        return found
