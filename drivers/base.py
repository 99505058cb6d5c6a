"""The contract of a storage driver.

A driver is a package with two sides, as in CSI and libStorage. The **controller side** runs in the scheduler half and
alone has credentials; the **host side** runs on the agents, has none, and imports nothing but the standard library,
:mod:`polly_mesos.model` and :mod:`polly_mesos.errors`.

The caller of every method here is a loop that journals, retries and converges. So a method does not retry on its own,
must cope with its own half-done earlier calls, must return what it found rather than what it hoped for, and must not
loop for ever. Where a call may have taken effect it raises :class:`~polly_mesos.errors.PlatformError` with
``outcome_unknown=True``.

Sizes are bytes. A driver is done when :func:`polly_mesos.testing.driver_suite` passes on it.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from polly_mesos.errors import NotSupported
from polly_mesos.model import Filesystem, HostIdentity, Json, Profile


class Capability(enum.StrEnum):
    """What not every platform can do. Everything else every driver can."""

    SNAPSHOT = "snapshot"
    CLONE = "clone"
    EXPAND = "expand"
    ENFORCES_SIZE = "enforces-size"
    FENCE = "fence"


class PlatformState(enum.StrEnum):
    """State of a volume or snapshot on its platform, in our words."""

    CREATING = "creating"
    AVAILABLE = "available"
    DELETING = "deleting"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Tags:
    """What is written on every platform volume, so that the ledger can be rebuilt from the platforms.

    :param volume: our volume id, or our snapshot id on a snapshot
    :param epoch: the ledger's epoch; a restored ledger has a higher one
    :param user: more facts about the volume; they come back as they were given
    :param labels: the user's own, written as plainly as the platform can; they need not come back
    """

    cluster: str
    volume: str
    profile: str
    epoch: int = 1
    user: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """A volume to be made.

    :param token: idempotency token: a second call with the same token returns the volume of the first
    :param zone: empty where the platform has none
    :param options: what the profile says in the words of :attr:`Driver.options`, without what it leaves out
    """

    token: str
    size: int
    tags: Tags
    zone: str = ""
    platform_type: str = ""
    iops: int | None = None
    encryption: bool = False
    filesystem: Filesystem = Filesystem.EXT4
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlatformVolume:
    """A volume as the platform has it.

    :param size: bytes; at least what was asked for
    :param attached_to: hosts that hold it, as :attr:`HostIdentity.host`
    :param reason: why it is in state ERROR, where that is known
    """

    id: str
    size: int
    state: PlatformState
    tags: Tags
    zone: str = ""
    attached_to: tuple[str, ...] = ()
    reason: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class PlatformSnapshot:
    """A snapshot as the platform has it."""

    id: str
    volume: str
    size: int
    state: PlatformState
    tags: Tags


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list; ``next`` is the token for the following part, None on the last."""

    volumes: tuple[PlatformVolume, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a pool can hold.

    :param total: bytes that volumes of ours may take in all, those that exist included; None where the platform does
        not say, so that the configured limit alone counts
    :param available: bytes that can be created now, None where unknown
    """

    total: int | None
    available: int | None = None


@dataclass(frozen=True, slots=True)
class Fence:
    """What a platform says of a host that may still write.

    :param proven: True where it cannot write to this platform's volumes any more: it is stopped, or cut off for good
    :param reason: by what that is known, or what speaks against it; one sentence for people
    """

    proven: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a service needs, and whether it is there.

    :param name: what, as ``credentials``, ``permission ec2:CreateVolume`` or ``zone eu-west-1a``
    :param passed: None where it could not be found out
    :param detail: what was seen; one sentence for people
    """

    name: str
    passed: bool | None
    detail: str
    remedy: str = ""


class ControllerDriver(ABC):
    """The controller side. Methods may be called from several threads, never at once for one volume.

    A method waits for the platform only as long as its settings say.
    """

    capabilities: frozenset[Capability] = frozenset()

    @abstractmethod
    def __init__(self, settings: Any, cluster: str) -> None:
        """``settings`` is an instance of the driver's settings type; ``cluster`` limits what we see to what is ours."""

    @abstractmethod
    def capacity(self, zone: str, platform_type: str) -> Capacity:
        """What volumes of this type can take in this zone.

        :raises NotSupported: the platform has no such zone or type
        """

    @abstractmethod
    def create(self, request: CreateRequest) -> PlatformVolume:
        """Make a volume, idempotent by ``request.token``; may return it while it is still CREATING.

        The caller looks with :meth:`get` until it is AVAILABLE. A platform that does not know it yet may say so.

        :raises PlatformFull: no space; nothing was made
        :raises AlreadyExists: the token was used with another size or type
        :raises NotSupported: the request asks for something that the platform does not have; nothing was made
        :raises InvalidRequest: the token or the size is not one that the platform can take
        """

    @abstractmethod
    def get(self, platform_id: str) -> PlatformVolume:
        """One volume of our cluster.

        :raises UnknownVolume: it does not exist, or is not ours
        """

    @abstractmethod
    def list(self, page: str | None = None) -> Page:
        """The volumes that carry our cluster's tag, a page at a time."""

    @abstractmethod
    def delete(self, platform_id: str) -> None:
        """Delete a volume, so that nobody can attach it any more. Succeeds where it is gone already.

        :raises VolumeInUse: a host holds it
        """

    @abstractmethod
    def attach(self, platform_id: str, host: HostIdentity) -> Json:
        """Give the volume to one host and return what its host side needs to find it.

        Returns the same when the host has it already; may return before the device has appeared.

        :raises VolumeInUse: another host holds it
        :raises UnknownVolume: it does not exist
        :raises UnknownHost: the platform has no such host
        """

    @abstractmethod
    def detach(self, platform_id: str, host: HostIdentity, *, force: bool = False) -> None:
        """Take the volume from a host that has let go of it. Succeeds where it is not attached there, or gone.

        :param force: the host was fenced and cannot let go by itself: take the volume as it is
        :raises VolumeInUse: the platform sees that the host runs and uses the volume, whoever said that it cannot
        """

    def secrets(self, platform_id: str, attachment: Json) -> Json:
        """What :meth:`HostDriver.locate` needs beside ``attachment``, and no ledger, file or log may hold: passwords.

        Asked before each such call, whatever else is done with the volume then; merged in for that call alone.
        """
        return {}

    def check(self, profiles: Sequence[Profile]) -> tuple[Check, ...]:
        """Whether the service can do what these profiles need, without changing anything on the platform.

        An error that a driver raises here stands for a check that did not pass.
        """
        checks = []
        for profile in profiles:
            capacity = self.capacity(profile.zone, profile.platform_type)
            told = "no limit of its own" if capacity.total is None else f"{capacity.total} bytes in all"
            checks.append(Check(f"capacity of profile {profile.name}", True, told))
        found = len(self.list().volumes)
        return (*checks, Check("list volumes", True, f"the first page has {found} volumes of this cluster"))

    def close(self) -> None:
        """Wait for nothing any more: calls that wait raise PlatformUnavailable soon, with their outcome unknown."""

    def known_host(self, host: HostIdentity) -> HostIdentity:
        """A host as the platform knows it, given what it said of itself. Answers soon: with that, where need be."""
        return host

    def fence(self, host: HostIdentity) -> Fence:
        """Tell whether a host is proven unable to write to any volume of this platform, without changing anything.

        Where the platform does not know, or the host runs, the answer is not proven.
        """
        raise NotSupported(f"{type(self).__name__} cannot tell whether a host is stopped")

    def fence_from(self, host: HostIdentity, volumes: Collection[str]) -> Fence:
        """Like :meth:`fence`, where it is enough that the host cannot write to these volumes: all that it may hold.

        :param volumes: platform ids
        """
        return self.fence(host)

    def snapshot(self, platform_id: str, token: str, tags: Tags) -> PlatformSnapshot:
        """Take a snapshot, idempotent by token.

        It holds what a host that lost power would find on the volume.

        :raises VolumeInUse: a host holds it, and the platform cannot take it at one point in time
        """
        raise NotSupported(f"{type(self).__name__} cannot take snapshots")

    def get_snapshot(self, snapshot_id: str) -> PlatformSnapshot:
        """One snapshot of our cluster."""
        raise NotSupported(f"{type(self).__name__} cannot take snapshots")

    def list_snapshots(self) -> tuple[PlatformSnapshot, ...]:
        """The snapshots that carry our cluster's tag."""
        raise NotSupported(f"{type(self).__name__} cannot take snapshots")

    def delete_snapshot(self, snapshot_id: str) -> None:
        """Delete a snapshot. Succeeds where it is gone already."""
        raise NotSupported(f"{type(self).__name__} cannot take snapshots")

    def restore(self, snapshot_id: str, request: CreateRequest) -> PlatformVolume:
        """Make a volume from a snapshot; ``request.size`` may be larger than the snapshot."""
        raise NotSupported(f"{type(self).__name__} cannot restore snapshots")

    def clone(self, platform_id: str, request: CreateRequest) -> PlatformVolume:
        """Make a copy of a volume; ``request.size`` may be larger than the source."""
        raise NotSupported(f"{type(self).__name__} cannot clone volumes")

    def expand(self, platform_id: str, size: int) -> PlatformVolume:
        """Grow a volume to ``size`` bytes. Succeeds where it is that large already; never shrinks."""
        raise NotSupported(f"{type(self).__name__} cannot expand volumes")


class HostDriver(ABC):
    """The host side. One object per service and executor; called from several threads, never at once for one volume."""

    tools: ClassVar[tuple[str, ...]] = ()
    """Programs that must be on the host's PATH besides those that its file systems need."""

    block: ClassVar[bool] = True
    """Whether :meth:`locate` gives a block device that Polly formats and mounts, or (False) a directory."""

    @abstractmethod
    def __init__(self, settings: Mapping[str, Any], node: str) -> None:
        """``settings`` is what the controller side allowed the hosts to know; ``node`` names this agent (host:port)."""

    @abstractmethod
    def identify(self) -> HostIdentity:
        """Who this host is to the platform."""

    @abstractmethod
    def locate(self, attachment: Json, timeout: float) -> str:
        """The path of the attached volume on this host: a block device, or a directory where ``block`` is False.

        Waits up to ``timeout`` seconds, verifies that it is the right one, and gives the same answer when asked again.

        :param attachment: what ``attach`` returned, with the controller side's ``secrets`` for this call alone
        :raises DeviceNotFound: it did not appear
        """

    @abstractmethod
    def release(self, attachment: Json) -> None:
        """Let go of the device after unmounting, before the controller side detaches. Succeeds where it is gone."""

    def held(self) -> Mapping[str, Json]:
        """Device path -> attachment of what this host holds of the service, from the kernel's tables, not from memory.

        An executor that lost its records lets go by it. Empty where a platform leaves nothing on hosts to be read.
        """
        return {}

    def rescan(self, attachment: Json) -> None:
        """Make the host see a size that the platform has changed."""
