"""What may be asked of the ledger's space, and what it says about it. Sizes are bytes.

Each change is what one Mesos operation means for the record; :meth:`polly_mesos.ledger.Ledger.admit` judges it. An
``owner`` is compared and never interpreted, except that :data:`~polly_mesos.model.UNRESERVED` is nobody.
"""

from __future__ import annotations

from dataclasses import dataclass

from polly_mesos.model import Json, Reclaim, Volume


@dataclass(frozen=True, slots=True)
class Reserve:
    """RESERVE: bytes go from ``before_owner`` to ``after_owner``.

    :param shared: unreserved bytes come out of what is free in the pool rather than out of the agent's lease
    """

    pool: str
    agent: str
    before_owner: str
    after_owner: str
    size: int
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Unreserve:
    """UNRESERVE: bytes go back from ``before_owner`` to ``after_owner``.

    :param shared: unreserved bytes go back to the pool rather than to the agent's lease
    """

    pool: str
    agent: str
    before_owner: str
    after_owner: str
    size: int
    shared: bool = False


@dataclass(frozen=True, slots=True)
class CreateVolume:
    """CREATE on a PATH disk: a volume is made out of the reservation of ``volume.owner``.

    Bytes that the reservation has but the pool does not hold for it are backed from what is free in the pool.
    """

    volume: Volume


@dataclass(frozen=True, slots=True)
class DestroyVolume:
    """DESTROY on a PATH disk: the reservation has the space again, though unbacked until the data is really gone."""

    volume_id: str
    reclaim: Reclaim


@dataclass(frozen=True, slots=True)
class CreateDisk:
    """CREATE_DISK on a RAW disk: a MOUNT disk is made out of ``volume.owner``'s reservation, or out of the lease.

    :param shared: an unreserved disk comes out of what is free in the pool rather than out of the agent's lease
    """

    volume: Volume
    shared: bool = False


@dataclass(frozen=True, slots=True)
class DestroyDisk:
    """DESTROY_DISK: the MOUNT disk becomes RAW space of its owner again, unbacked until the data is really gone.

    :param shared: an unreserved disk goes back to the pool rather than to the agent's lease
    """

    volume_id: str
    shared: bool = False


@dataclass(frozen=True, slots=True)
class SetPersistence:
    """CREATE on a MOUNT disk: it becomes a persistent volume of its owner."""

    volume_id: str
    persistence_id: str
    persistence: Json
    owner: str


@dataclass(frozen=True, slots=True)
class ClearPersistence:
    """DESTROY on a MOUNT disk: by ``reclaim`` it is deleted, or stays as a disk without persistent volume."""

    volume_id: str
    reclaim: Reclaim


@dataclass(frozen=True, slots=True)
class SetOwner:
    """RESERVE or UNRESERVE on a MOUNT disk, which goes to its new owner whole."""

    volume_id: str
    owner: str


@dataclass(frozen=True, slots=True)
class AdoptVolume:
    """CREATE on a PATH disk that gets a volume which its owner has abandoned, with its data, instead of an empty one.

    The volume's size goes out of the reservation of ``owner`` on ``agent``; the volume has its own bytes, so what the
    pool held for the reservation becomes free. The volume gets these names and this agent, and stays all else that it
    is. It has to be parked, or on an agent that is LOST or FENCED, and no host may have it.

    :param persistence: as in :class:`~polly_mesos.model.Volume`
    """

    volume_id: str
    agent: str
    owner: str
    persistence_id: str
    persistence: Json
    framework: str


Change = (
    Reserve
    | Unreserve
    | CreateVolume
    | DestroyVolume
    | CreateDisk
    | DestroyDisk
    | SetPersistence
    | ClearPersistence
    | SetOwner
    | AdoptVolume
)
"""All that :meth:`polly_mesos.ledger.Ledger.admit` understands."""


@dataclass(frozen=True, slots=True)
class Balance:
    """Where a pool's bytes are. ``free`` is what may still be promised; negative where the platform shrank.

    :param reserved: bytes that the pool holds for reservations
    :param unbacked: bytes promised to reservations and leases that are still inside volumes being deleted or retained
    :param volumes: bytes in volumes, those being made and those being deleted included
    """

    pool: str
    capacity: int
    leased: int
    reserved: int
    unbacked: int
    volumes: int

    @property
    def free(self) -> int:
        return self.capacity - self.leased - self.reserved - self.volumes
