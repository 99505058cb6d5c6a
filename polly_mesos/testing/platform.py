"""A storage platform in memory, for tests: outside of everything that a test kills, and as strict as a real one.

It is slow to make volumes and to list them, where it is told so; it throttles, fails, and loses answers of calls that
took effect. It counts time in steps: each call is one, and a test that waits calls :meth:`Platform.wait`. What no
platform should ever be asked is not only refused but noted in :attr:`Platform.violations`.

A configuration names a platform, so that every controller side that is made anew speaks to the same one::

    platform = Platform.named("rack")
    controller = PlatformController(PlatformSettings("rack"), "my-cluster")
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from drivers.base import (
    Capability,
    Capacity,
    ControllerDriver,
    CreateRequest,
    Fence,
    HostDriver,
    Page,
    PlatformState,
    PlatformVolume,
    Tags,
)
from drivers.declaration import Driver
from polly_mesos.errors import (
    AlreadyExists,
    DeviceNotFound,
    InvalidRequest,
    NotSupported,
    PlatformFull,
    PlatformUnavailable,
    PollyError,
    UnknownVolume,
    VolumeInUse,
)
from polly_mesos.model import MB, Filesystem, HostIdentity, Json
from polly_mesos.testing.faulty import Fault

_PAGE = 2
_POLL_SECONDS = 0.01
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class PlatformSettings:
    """What polly.yml would say.

    :param name: which platform
    :param directory: where volumes are directories, for host sides; none where the hosts are simulated too
    """

    name: str
    directory: str = ""


@dataclass(slots=True)
class _Volume:
    id: str
    token: str
    size: int
    tags: Tags
    zone: str
    ready_at: int
    listed_at: int
    unlisted_at: float = float("inf")
    attached_to: str = ""
    deleted: bool = False


@dataclass
class Platform:
    """The platform itself.

    :param capacity: bytes
    :param zones: what may be asked for, as ``types``; the empty name means the only or any one
    :param create_steps: steps that a volume is CREATING
    :param list_lag: steps at most after which a list shows what was made or deleted; how many is drawn each time
    :ivar busy: (volume, host) of what a host has mounted or is writing to
    :ivar stopped: hosts that are known to be unable to write
    :ivar made: token -> how many volumes were ever made for it
    :ivar violations: what should never have been asked, in words
    """

    capacity: int = 1 << 40
    zones: tuple[str, ...] = ("",)
    types: tuple[str, ...] = ("",)
    create_steps: int = 0
    list_lag: int = 0
    seed: int = 0
    busy: set[tuple[str, str]] = field(default_factory=set)
    stopped: set[str] = field(default_factory=set)
    made: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    _named: ClassVar[dict[str, Platform]] = {}

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._random = random.Random(self.seed)
        self._volumes: dict[str, _Volume] = {}
        self._numbers = itertools.count(1)
        self._steps = 0
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)

    @classmethod
    def named(cls, name: str, **properties: Any) -> Platform:
        """The platform of that name, which is made, with these properties, where there is none."""
        return cls._named.setdefault(name, cls(**properties))

    @classmethod
    def forget(cls, name: str) -> None:
        """Let the next :meth:`named` begin with an empty one."""
        cls._named.pop(name, None)

    def inject(self, method: str, fault: Fault, times: int = 1) -> None:
        """Let the next calls of a method of the controller side meet a fault, in the order of injection."""
        if method not in dir(ControllerDriver):
            raise ValueError(f"a driver's controller side has no method {method!r}")
        with self._lock:
            self._faults[method].extend([fault] * times)

    def heal(self) -> None:
        """Take back all faults that nobody has met yet."""
        with self._lock:
            self._faults.clear()

    def wait(self, steps: int = 1) -> None:
        """Let time pass."""
        with self._lock:
            self._steps += steps

    def volumes(self, cluster: str | None = None) -> tuple[PlatformVolume, ...]:
        """What there really is, without any lag; of one cluster or of all."""
        with self._lock:
            live = [volume for volume in self._volumes.values() if not volume.deleted]
            return tuple(self._shown(volume) for volume in live if cluster in (None, volume.tags.cluster))

    # What the controller side asks ------------------------------------------------------------------------------

    def call(self, method: str, act: Callable[[], Answer]) -> Answer:
        """One call over the network: a step of time, and perhaps a fault before or after it."""
        with self._lock:
            self._steps += 1
            waiting = self._faults[method]
            fault = waiting.popleft() if waiting else Fault()
        if fault.delay:
            time.sleep(fault.delay)
        if fault.before is not None:
            raise fault.before
        with self._lock:
            answer = act()
        if fault.after is not None:
            raise fault.after
        return answer

    def tell_capacity(self, zone: str, platform_type: str) -> Capacity:
        """See :meth:`ControllerDriver.capacity`."""
        self._check_place(zone, platform_type)
        return Capacity(self.capacity, self._free())

    def create(self, request: CreateRequest, cluster: str) -> PlatformVolume:
        """See :meth:`ControllerDriver.create`."""
        if not request.token or request.size <= 0 or request.size % MB:
            raise InvalidRequest(f"a volume of {request.size} bytes with token {request.token!r}", field="size")
        if request.tags.cluster != cluster:
            raise self._violation(InvalidRequest(f"a volume of cluster {request.tags.cluster}", field="tags"))
        self._check_place(request.zone, request.platform_type)
        for known in self._volumes.values():
            if known.token == request.token and known.tags.cluster == cluster:
                return self._made_before(known, request)
        if request.size > self._free():
            raise PlatformFull(f"{request.size} bytes are asked for and {self._free()} are free")
        volume = _Volume(
            id=f"vol-{next(self._numbers):04x}",
            token=request.token,
            size=request.size,
            tags=request.tags,
            zone=request.zone,
            ready_at=self._steps + self.create_steps,
            listed_at=self._steps + self._lag(),
        )
        self._volumes[volume.id] = volume
        self.made[request.token] += 1
        return self._shown(volume)

    def _made_before(self, known: _Volume, request: CreateRequest) -> PlatformVolume:
        if known.deleted:
            raise self._violation(AlreadyExists(f"the volume of token {request.token} was deleted"))
        if (known.size, known.zone) != (request.size, request.zone):
            raise AlreadyExists(f"token {request.token} was used for another volume")
        return self._shown(known)

    def get(self, platform_id: str, cluster: str) -> PlatformVolume:
        """See :meth:`ControllerDriver.get`."""
        return self._shown(self._find(platform_id, cluster))

    def list(self, page: str | None, cluster: str) -> Page:
        """See :meth:`ControllerDriver.list`; what was just made may be missing, what was just deleted still there."""
        if page is not None and page not in self._volumes:
            raise self._violation(InvalidRequest(f"page {page!r} was never given", field="page", value=page))
        visible = [
            self._shown(volume)
            for volume in self._volumes.values()
            if volume.tags.cluster == cluster and volume.listed_at <= self._steps < volume.unlisted_at
        ]
        rest = [volume for volume in visible if page is None or volume.id > page]
        return Page(tuple(rest[:_PAGE]), rest[_PAGE - 1].id if len(rest) > _PAGE else None)

    def delete(self, platform_id: str, cluster: str) -> None:
        """See :meth:`ControllerDriver.delete`."""
        try:
            volume = self._find(platform_id, cluster)
        except UnknownVolume:
            return
        if volume.attached_to:
            raise self._violation(VolumeInUse(f"{platform_id} is attached to {volume.attached_to}"))
        volume.deleted, volume.unlisted_at = True, self._steps + self._lag()

    def attach(self, platform_id: str, host: HostIdentity, cluster: str) -> Json:
        """See :meth:`ControllerDriver.attach`."""
        volume = self._find(platform_id, cluster)
        if self._steps < volume.ready_at:
            raise self._violation(PlatformUnavailable(f"{platform_id} is still being made"))
        if volume.attached_to not in ("", host.host):
            raise VolumeInUse(f"{platform_id} is attached to {volume.attached_to}")
        if host.host in self.stopped:
            raise PlatformUnavailable(f"host {host.host} is stopped")
        volume.attached_to = host.host
        return {"volume": platform_id}

    def detach(self, platform_id: str, host: HostIdentity, cluster: str, *, force: bool) -> None:
        """See :meth:`ControllerDriver.detach`. A host keeps what it uses, unless it is stopped and force is used."""
        try:
            volume = self._find(platform_id, cluster)
        except UnknownVolume:
            return
        if volume.attached_to != host.host:
            return
        taken_from_the_dead = force and host.host in self.stopped
        if (platform_id, host.host) in self.busy and not taken_from_the_dead:
            raise self._violation(VolumeInUse(f"{platform_id} is in use on {host.host}"))
        volume.attached_to = ""

    def is_attached(self, platform_id: str, host: str) -> bool:
        """Whether that host has the volume: what its device's being there tells it."""
        with self._lock:
            volume = self._volumes.get(platform_id)
            return volume is not None and not volume.deleted and volume.attached_to == host

    def fence(self, host: HostIdentity) -> Fence:
        """See :meth:`ControllerDriver.fence`."""
        if host.host in self.stopped:
            return Fence(True, f"host {host.host} is stopped")
        return Fence(False, f"host {host.host} runs, as far as the platform knows")

    def _check_place(self, zone: str, platform_type: str) -> None:
        for value, known, what in ((zone, self.zones, "zone"), (platform_type, self.types, "type")):
            if value not in known:
                raise NotSupported(f"there is no {what} {value!r}")

    def _find(self, platform_id: str, cluster: str) -> _Volume:
        volume = self._volumes.get(platform_id)
        if volume is None or volume.deleted or volume.tags.cluster != cluster:
            raise UnknownVolume(f"cluster {cluster} has no volume {platform_id!r}")
        return volume

    def _shown(self, volume: _Volume) -> PlatformVolume:
        if volume.deleted:
            state = PlatformState.DELETING
        else:
            state = PlatformState.AVAILABLE if self._steps >= volume.ready_at else PlatformState.CREATING
        attached_to = (volume.attached_to,) if volume.attached_to else ()
        return PlatformVolume(volume.id, volume.size, state, volume.tags, volume.zone, attached_to)

    def _free(self) -> int:
        return self.capacity - sum(volume.size for volume in self._volumes.values() if not volume.deleted)

    def _lag(self) -> int:
        return self._random.randint(0, self.list_lag)

    def _violation(self, error: PollyError) -> PollyError:
        self.violations.append(error.message)
        return error


class PlatformController(ControllerDriver):
    """The controller side; see :class:`Platform` for what it meets there."""

    capabilities = frozenset({Capability.FENCE})

    def __init__(self, settings: PlatformSettings, cluster: str) -> None:
        self._platform = Platform.named(settings.name)
        self._cluster = cluster

    def capacity(self, zone: str, platform_type: str) -> Capacity:
        return self._platform.call("capacity", lambda: self._platform.tell_capacity(zone, platform_type))

    def create(self, request: CreateRequest) -> PlatformVolume:
        return self._platform.call("create", lambda: self._platform.create(request, self._cluster))

    def get(self, platform_id: str) -> PlatformVolume:
        return self._platform.call("get", lambda: self._platform.get(platform_id, self._cluster))

    def list(self, page: str | None = None) -> Page:
        return self._platform.call("list", lambda: self._platform.list(page, self._cluster))

    def delete(self, platform_id: str) -> None:
        self._platform.call("delete", lambda: self._platform.delete(platform_id, self._cluster))

    def attach(self, platform_id: str, host: HostIdentity) -> Json:
        return self._platform.call("attach", lambda: self._platform.attach(platform_id, host, self._cluster))

    def detach(self, platform_id: str, host: HostIdentity, *, force: bool = False) -> None:
        self._platform.call("detach", lambda: self._platform.detach(platform_id, host, self._cluster, force=force))

    def fence(self, host: HostIdentity) -> Fence:
        return self._platform.call("fence", lambda: self._platform.fence(host))


class PlatformHost(HostDriver):
    """The host side: a volume is a directory of the settings' ``directory``."""

    block = False

    def __init__(self, settings: Mapping[str, Any], node: str) -> None:
        self._platform = Platform.named(settings["name"])
        self._directory = Path(settings["directory"])
        self._node = node

    def identify(self) -> HostIdentity:
        return HostIdentity(self._node)

    def locate(self, attachment: Json, timeout: float) -> str:
        deadline = time.monotonic() + timeout
        platform_id = str(attachment["volume"])
        while not self._platform.is_attached(platform_id, self._node):
            if time.monotonic() >= deadline:
                raise DeviceNotFound(f"{platform_id} did not appear on {self._node} in {timeout} seconds")
            time.sleep(_POLL_SECONDS)
        path = self._directory / platform_id
        os.makedirs(path, exist_ok=True)
        return str(path)

    def release(self, attachment: Json) -> None:
        """A directory needs no letting go of."""


DRIVER = Driver(
    name="platform-in-memory",
    controller=f"{__name__}:PlatformController",
    host=f"{__name__}:PlatformHost",
    settings=f"{__name__}:PlatformSettings",
    host_settings=("name", "directory"),
    filesystems=(Filesystem.NONE,),
)
