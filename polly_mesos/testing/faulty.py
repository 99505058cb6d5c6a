"""A controller side that is slow, or fails before or after it has done what it was asked."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from drivers.base import Capacity, ControllerDriver, CreateRequest, Fence, Page, PlatformSnapshot, PlatformVolume, Tags
from polly_mesos.model import HostIdentity, Json

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls one call.

    :param before: raised before the platform is asked, so that nothing happens
    :param after: raised after the platform has done it, as when the answer is lost
    :param delay: seconds that the call takes longer
    """

    before: Exception | None = None
    after: Exception | None = None
    delay: float = 0.0


class FaultyController(ControllerDriver):
    """Stands before another controller side; calls without a fault go through as they are.

    ``calls`` are the names of all methods called, in order.
    """

    def __init__(self, inner: ControllerDriver) -> None:
        self._inner = inner
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._lock = threading.Lock()
        self.capabilities = inner.capabilities
        self.calls: list[str] = []

    def inject(self, method: str, fault: Fault, times: int = 1) -> None:
        """Let the next calls of a method meet a fault; faults of one method are met in the order of injection."""
        if method not in dir(ControllerDriver):
            raise ValueError(f"a driver's controller side has no method {method!r}")
        with self._lock:
            self._faults[method].extend([fault] * times)

    def capacity(self, zone: str, platform_type: str) -> Capacity:
        return self._call(self._inner.capacity, zone, platform_type)

    def create(self, request: CreateRequest) -> PlatformVolume:
        return self._call(self._inner.create, request)

    def get(self, platform_id: str) -> PlatformVolume:
        return self._call(self._inner.get, platform_id)

    def list(self, page: str | None = None) -> Page:
        return self._call(self._inner.list, page)

    def delete(self, platform_id: str) -> None:
        self._call(self._inner.delete, platform_id)

    def attach(self, platform_id: str, host: HostIdentity) -> Json:
        return self._call(self._inner.attach, platform_id, host)

    def detach(self, platform_id: str, host: HostIdentity, *, force: bool = False) -> None:
        self._call(self._inner.detach, platform_id, host, force=force)

    def known_host(self, host: HostIdentity) -> HostIdentity:
        return self._call(self._inner.known_host, host)

    def fence(self, host: HostIdentity) -> Fence:
        return self._call(self._inner.fence, host)

    def fence_from(self, host: HostIdentity, volumes: Collection[str]) -> Fence:
        return self._call(self._inner.fence_from, host, volumes)

    def snapshot(self, platform_id: str, token: str, tags: Tags) -> PlatformSnapshot:
        return self._call(self._inner.snapshot, platform_id, token, tags)

    def get_snapshot(self, snapshot_id: str) -> PlatformSnapshot:
        return self._call(self._inner.get_snapshot, snapshot_id)

    def list_snapshots(self) -> tuple[PlatformSnapshot, ...]:
        return self._call(self._inner.list_snapshots)

    def delete_snapshot(self, snapshot_id: str) -> None:
        self._call(self._inner.delete_snapshot, snapshot_id)

    def restore(self, snapshot_id: str, request: CreateRequest) -> PlatformVolume:
        return self._call(self._inner.restore, snapshot_id, request)

    def clone(self, platform_id: str, request: CreateRequest) -> PlatformVolume:
        return self._call(self._inner.clone, platform_id, request)

    def expand(self, platform_id: str, size: int) -> PlatformVolume:
        return self._call(self._inner.expand, platform_id, size)

    def _call(self, method: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        with self._lock:
            self.calls.append(method.__name__)
            waiting = self._faults[method.__name__]
            fault = waiting.popleft() if waiting else Fault()
        time.sleep(fault.delay)
        if fault.before is not None:
            raise fault.before
        result = method(*arguments, **named)
        if fault.after is not None:
            raise fault.after
        return result
