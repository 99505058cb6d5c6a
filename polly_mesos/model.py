"""The words of Polly as types: frozen records, no input or output, no import of ours.

Sizes are bytes unless a name ends in ``_mb``; MB is Mesos' word for 1,048,576 bytes. Times are seconds since the
epoch. Runs on the agents' Python, so only the standard library is used.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MB = 1024 * 1024
"""Bytes in the unit that Mesos calls MB."""

UNRESERVED = ""
"""The owner of the part of a lease that nobody reserved."""

Json = dict[str, Any]
"""A JSON object."""


class Reclaim(enum.StrEnum):
    """What becomes of a volume's data when its framework destroys it."""

    DELETE = "delete"
    RETAIN = "retain"


class Filesystem(enum.StrEnum):
    """What a block volume is formatted with; NONE for drivers that give a directory."""

    EXT4 = "ext4"
    XFS = "xfs"
    NONE = "none"

    @property
    def minimum_size(self) -> int:
        """Bytes below which the file system's own tools refuse to make one."""
        return {"ext4": 2 * MB, "xfs": 300 * MB}.get(self.value, 0)


class Offering(enum.StrEnum):
    """How a pool shows in Mesos offers: a divisible PATH disk, or a RAW disk for CREATE_DISK."""

    PATH = "path"
    RAW = "raw"


class VolumeKind(enum.StrEnum):
    """PATH volumes come and go with their persistence id; MOUNT volumes exist as disks of their own."""

    PATH = "path"
    MOUNT = "mount"


class VolumeState(enum.StrEnum):
    """Life of a volume on its platform. DELETED rows are kept for the record and count for nothing."""

    CREATING = "creating"
    READY = "ready"
    FAILED = "failed"
    RELEASED = "released"
    DELETING = "deleting"
    DELETED = "deleted"


class FormatState(enum.StrEnum):
    """Whether the volume was ever formatted. FORMATTING is written before mkfs starts."""

    NEVER = "never"
    FORMATTING = "formatting"
    FORMATTED = "formatted"


class PublicationState(enum.StrEnum):
    """Life of one volume's mapping to one host. The record goes when the platform has detached it."""

    ATTACHING = "attaching"
    ATTACHED = "attached"
    PUBLISHED = "published"
    DETACHING = "detaching"


class OperationState(enum.StrEnum):
    """INTENT is stored before the change is made; the rest are outcomes."""

    INTENT = "intent"
    DONE = "done"
    FAILED = "failed"


class AgentState(enum.StrEnum):
    """What the scheduler half knows of an agent and the executor half on it.

    UNREACHABLE: the master cannot reach it. LOST: Mesos will never have this agent id again. In both the host may go
    on writing. Only FENCED, which a platform has proven or an operator has said, means that it cannot.
    """

    CHOSEN = "chosen"
    CONNECTED = "connected"
    UNREACHABLE = "unreachable"
    LOST = "lost"
    FENCED = "fenced"

    @property
    def is_over(self) -> bool:
        """Whether the agent never advertises anything again, by the word of Mesos, a platform or an operator."""
        return self in (AgentState.LOST, AgentState.FENCED)


class Severity(enum.StrEnum):
    """How much an event or a finding should worry an operator."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Profile:
    """A class of volume that people ask for by name; one for each zone where it is made in several.

    :param iops: provisioned operations per second where the platform sells them, else None
    :param adopt: whether a CREATE by the owner of an abandoned volume gets that volume instead of an empty one
    :param zone: the platform's zone where its volumes are made, or empty where the platform has none
    :param reach: zones whose hosts can have its volumes; empty where every host of the service can
    :param granularity: bytes; every volume's size is a multiple, so that the platform makes what the ledger counts
    :param options: settings of the platform that are not in the common words, as its driver names them
    :param tags: the user's own, written on every volume
    """

    name: str
    service: str
    filesystem: Filesystem = Filesystem.EXT4
    mount_options: tuple[str, ...] = ()
    reclaim: Reclaim = Reclaim.DELETE
    offering: Offering = Offering.PATH
    minimum_size: int = MB
    maximum_size: int | None = None
    zone: str = ""
    reach: tuple[str, ...] = ()
    platform_type: str = ""
    iops: int | None = None
    encryption: bool = False
    adopt: bool = False
    granularity: int = MB
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def pool(self) -> str:
        """The name of the pool behind this profile."""
        return f"{self.name}.{self.zone}" if self.zone else self.name

    def is_reached_from(self, zone: str) -> bool:
        """Whether a host in this zone can have the profile's volumes."""
        return not self.reach or zone in self.reach


def profile_of(profiles: Mapping[str, Profile], name: str, zone: str) -> Profile | None:
    """The profile of a volume that is in this zone of its platform, None where it is not configured (there).

    :param profiles: pool -> profile
    """
    named = [profile for profile in profiles.values() if profile.name == name]
    if len(named) == 1:
        return named[0]
    return next((profile for profile in named if profile.zone == zone), None)


@dataclass(frozen=True, slots=True)
class Pool:
    """The capacity behind one profile in one zone.

    :param capacity: bytes that may be promised in all: leases, reservations and volumes together
    """

    name: str
    profile: str
    service: str
    zone: str
    capacity: int
    updated: float = 0.0


@dataclass(frozen=True, slots=True)
class Lease:
    """The unreserved part of a pool that one agent advertises."""

    pool: str
    agent: str
    size: int


@dataclass(frozen=True, slots=True)
class LeaseChange:
    """One step of a plan: a lease of ``before`` bytes is to be ``after`` bytes.

    It is refused where the lease is not ``before`` any more, or where the pool cannot hold the growth.
    """

    pool: str
    agent: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """Space that a framework reserved on an agent and has not made into a volume.

    :param owner: the canonical JSON of the Mesos reservation stack; the ledger only compares it
    :param size: bytes reserved and not in a volume
    :param backed: how many of those bytes the pool really holds; less than ``size`` only while the volume that was
        destroyed there is being deleted, or where it was retained
    """

    pool: str
    agent: str
    owner: str
    size: int
    backed: int


@dataclass(frozen=True, slots=True)
class Volume:
    """A piece of storage on a platform, known to the ledger.

    :param id: a UUID as text; also the platform's idempotency token and the file system's UUID
    :param agent: the agent whose provider advertises the volume, empty where none does
    :param owner: as in :class:`Reservation`
    :param persistence_id: Mesos' DiskInfo.Persistence.id, empty while the disk holds no persistent volume
    :param persistence: the whole DiskInfo of the CREATE (persistence and volume), to be advertised again as it was
    :param platform_id: the platform's own name of the volume, empty until it is created
    :param framework: the Mesos framework id that made it, empty where unknown
    """

    id: str
    pool: str
    profile: str
    service: str
    kind: VolumeKind
    size: int
    state: VolumeState
    agent: str = ""
    owner: str = UNRESERVED
    persistence_id: str = ""
    persistence: Json = field(default_factory=dict)
    framework: str = ""
    platform_id: str = ""
    format_state: FormatState = FormatState.NEVER
    generation: int = 0
    error: str = ""
    created: float = 0.0
    updated: float = 0.0


@dataclass(frozen=True, slots=True)
class Publication:
    """One volume mapped to one host.

    :param generation: grows by one with every new publication of the volume; a host that holds an older one has lost it
    :param attachment: what the driver's controller side handed to its host side
    :param fenced: whether the host is known to be unable to write, so that the platform may take the volume by force
    """

    volume: str
    agent: str
    host: str
    generation: int
    state: PublicationState
    attachment: Json = field(default_factory=dict)
    device: str = ""
    target: str = ""
    fenced: bool = False
    updated: float = 0.0


@dataclass(frozen=True, slots=True)
class Operation:
    """One journaled change, from intent to outcome.

    :param id: a UUID as text; for Mesos operations the one that Mesos gave
    :param kind: ``mesos.RESERVE`` ... for those that came through an agent, ``volume.create``, ``volume.attach`` ...
        for ours
    :param subject: the volume or agent that it changes
    :param detail: what was asked
    :param outcome: what came of it
    :param status_uuid: for Mesos operations, the UUID of the status that is sent until acknowledged
    """

    id: str
    kind: str
    subject: str
    state: OperationState
    agent: str = ""
    framework: str = ""
    detail: Json = field(default_factory=dict)
    outcome: Json = field(default_factory=dict)
    status_uuid: str = ""
    acknowledged: bool = False
    created: float = 0.0
    finished: float = 0.0


@dataclass(frozen=True, slots=True)
class HostIdentity:
    """Who a host is to one platform.

    :param host: the platform's name of the host (instance id, initiator, host name)
    :param attach_limit: how many volumes the host can have attached through this service, None where there is no limit
    """

    host: str
    zone: str = ""
    attach_limit: int | None = None
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Agent:
    """A Mesos agent and the executor half on it.

    :param id: Mesos' agent id
    :param endpoint: ``host:port`` of the agent's HTTP API
    :param identities: service name -> who the host is to it; empty until the executor said hello
    :param problems: service name -> what the host lacks for it; it gets no lease there
    :param token_hash: SHA-256 of the executor's token, hex; empty where none was issued
    :param standalone: True where the executor half runs without Mesos launching it
    """

    id: str
    hostname: str
    endpoint: str
    state: AgentState
    attributes: Mapping[str, str] = field(default_factory=dict)
    identities: Mapping[str, HostIdentity] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    volume_root: str = ""
    token_hash: str = ""
    standalone: bool = False
    seen: float = 0.0


@dataclass(frozen=True, slots=True)
class Provider:
    """An agent's resource provider as the agent knows it."""

    agent: str
    id: str
    type: str
    name: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that operators want to know of, kept in the ledger.

    :param kind: dotted words, for example ``agent.fenced`` or ``volume.adopted``
    :param subject: the id of the volume, agent or service that it is about
    :param message: one sentence for people
    :param number: grows with every event; 0 where it is not stored yet
    """

    kind: str
    subject: str
    message: str
    severity: Severity = Severity.INFO
    detail: Json = field(default_factory=dict)
    time: float = 0.0
    number: int = 0
