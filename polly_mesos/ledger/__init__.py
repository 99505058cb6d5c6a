"""The ledger: the durable record of pools, leases, reservations, volumes, publications and operations.

It is the only judge of what is free, and it knows neither Mesos nor HTTP. See :class:`Ledger`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from polly_mesos.ledger.admission import Admission
from polly_mesos.ledger.adoption import Adoption
from polly_mesos.ledger.changes import (
    AdoptVolume,
    Balance,
    Change,
    ClearPersistence,
    CreateDisk,
    CreateVolume,
    DestroyDisk,
    DestroyVolume,
    Reserve,
    SetOwner,
    SetPersistence,
    Unreserve,
)
from polly_mesos.ledger.events import Events
from polly_mesos.ledger.inventory import Inventory
from polly_mesos.ledger.journal import Journal
from polly_mesos.ledger.leases import Leases
from polly_mesos.ledger.publications import Publications
from polly_mesos.ledger.retention import Retention
from polly_mesos.ledger.takeover import Takeover
from polly_mesos.ledger.volumes import Volumes
from polly_mesos.model import LeaseChange

__all__ = [
    "AdoptVolume",
    "Balance",
    "Change",
    "ClearPersistence",
    "CreateDisk",
    "CreateVolume",
    "DestroyDisk",
    "DestroyVolume",
    "LeaseChange",
    "Ledger",
    "Reserve",
    "SetOwner",
    "SetPersistence",
    "Unreserve",
]


class Ledger(Inventory, Leases, Admission, Journal, Volumes, Publications, Takeover, Adoption, Events, Retention):
    """An open ledger. May be used from several threads; a context manager that closes it.

    Every method is one transaction: when it returns, the disk has what it changed, and when it raises, nothing was
    changed. A method that can be asked for again after a crash gives the same answer again.

    :ivar cluster: whose ledger it is
    :ivar epoch: which life of the ledger this is; one restored from the platforms has a higher one
    """

    @classmethod
    def open(cls, path: Path | str, cluster: str | None, *, read_only: bool = False) -> Self:
        """Open the ledger at ``path``; one that is missing is made, and an older one is brought up to date.

        :param cluster: whose ledger it has to be; None to look at any, reading only
        :param read_only: only look; possible while a scheduler has the ledger open
        :raises LedgerLocked: another scheduler has it open
        :raises LedgerTooNew: a newer Polly wrote it
        :raises LedgerOfAnotherCluster: it is not this cluster's
        :raises LedgerCorrupt: the file is damaged, or no ledger
        :raises LedgerError: there is none, or it is older, and it may not be changed; or the disk fails
        """
        if cluster is None and not read_only:
            raise ValueError("a ledger is opened for writing for one cluster")
        return cls(Path(path).absolute(), cluster, read_only=read_only)
