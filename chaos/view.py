"""One look at everything after a round: what the ledger, Polly, the Mesos master and the storage say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from chaos.disks import loop_devices
from chaos.stage import Stage
from polly_mesos.errors import PollyError
from polly_mesos.ledger import Ledger
from polly_mesos.ledger.check import check
from polly_mesos.mesos.local.mounts import mounts_below
from polly_mesos.mesos.resources import persistence_of, role_of
from polly_mesos.model import (
    Json,
    Lease,
    Operation,
    OperationState,
    Publication,
    Reservation,
    Volume,
    VolumeState,
)

_SECONDS = 10.0
_CHECK_PAUSE = 0.5
_MANY = 10_000


class NoAnswer(Exception):
    """Something could not be asked; the message says what."""


@dataclass(frozen=True, slots=True)
class Books:
    """The ledger at one moment.

    :param volumes: all but the deleted
    :param capacity: bytes of all pools together, as their platforms say
    :param open: operations without outcome
    """

    capacity: int
    volumes: list[Volume]
    publications: list[Publication]
    reservations: list[Reservation]
    leases: list[Lease]
    open: list[Operation]

    @property
    def promised(self) -> int:
        """Bytes that leases, reservations and volumes have together."""
        held = sum(volume.size for volume in self.volumes) + sum(lease.size for lease in self.leases)
        return held + sum(reservation.backed for reservation in self.reservations)


@dataclass(frozen=True, slots=True)
class Disk:
    """One of Polly's disks in the master's view.

    :param role: empty where it is unreserved
    :param persistence_id: empty where it is no volume
    """

    agent: str
    size_mb: float
    role: str
    persistence_id: str


@dataclass(frozen=True, slots=True)
class View:
    """Everything at about one moment.

    :param registered: whether the master has Polly
    :param serving: ids of the agents whose executor serves them, as Polly says
    :param active: ids of the agents that the master offers
    :param pending: ids of the operations that the master waits for
    :param images: names of the volumes that the platform holds
    :param loops: image files that are attached to loop devices
    :param mounted: targets of what is mounted for tasks
    """

    registered: bool
    serving: set[str]
    active: set[str]
    disks: list[Disk]
    pending: list[str]
    books: Books
    images: set[str]
    loops: set[str]
    mounted: set[str]


class Viewer:
    """Looks, as often as is asked."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._http = httpx.Client(timeout=_SECONDS, trust_env=False, headers={"Accept": "application/json"})

    def close(self) -> None:
        """Close idle connections."""
        self._http.close()

    def look(self) -> View:
        """Ask them all.

        :raises NoAnswer: one of them did not answer
        """
        polly, master = self._stage.url, f"http://{self._stage.cluster.master}"
        health = self._get("polly serve", f"{polly}/health")
        agents = self._get("polly serve", f"{polly}/v1/agents")
        slaves = self._get("the master", f"{master}/slaves")
        books = self._books()
        # After the books: a host unmounts first and reports it then, and what is in no book must not be seen any more.
        volumes = self._stage.cluster.volumes
        mounted = {str(mount.target) for mount in mounts_below(volumes) if mount.target != volumes}
        platform = self._stage.platform_disk.directory
        return View(
            registered=bool(health["registered"]),
            serving={agent["id"] for agent in agents if agent["state"] == "connected" and agent["provider"]},
            active={slave["id"] for slave in slaves["slaves"] if slave["active"]},
            disks=list(_disks(slaves)),
            pending=list(self._pending(master)),
            books=books,
            images={path.name.removesuffix(".img") for path in _volume_files(platform)},
            loops={file.name for file in loop_devices(platform).values()},
            mounted=mounted,
        )

    def check(self) -> list[str]:
        """What ``polly check`` and ``polly ledger check`` find, in words.

        :raises NoAnswer: one of them did not answer
        """
        report = self._get("polly check", f"{self._stage.url}/v1/check?pause={_CHECK_PAUSE}")
        found = [f"polly check: {one['severity']} {one['code']}: {one['what']}" for one in report["findings"]]
        found += [f"polly check could not look: {what}" for what in report["unseen"]]
        with self._ledger() as ledger:
            return found + [f"polly ledger check: {one.severity} {one.code}: {one.what}" for one in check(ledger)]

    @contextmanager
    def _ledger(self) -> Iterator[Ledger]:
        try:
            with Ledger.open(self._stage.ledger, None, read_only=True) as ledger:
                yield ledger
        except PollyError as error:
            raise NoAnswer(f"the ledger cannot be read: {error}") from error

    def _get(self, whom: str, url: str) -> Any:
        try:
            return self._http.get(url).raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise NoAnswer(f"{whom} does not answer: {error or type(error).__name__}") from error

    def _pending(self, master: str) -> Iterator[str]:
        try:
            answer = self._http.post(f"{master}/api/v1", json={"type": "GET_OPERATIONS"}).raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise NoAnswer(f"the master does not answer: {error or type(error).__name__}") from error
        for operation in answer["get_operations"].get("operations", ()):
            state = operation["latest_status"]["state"]
            if state in ("OPERATION_PENDING", "OPERATION_RECOVERING", "OPERATION_UNREACHABLE"):
                yield f"{operation['info']['type']} {operation['uuid']['value']} is {state}"

    def _books(self) -> Books:
        with self._ledger() as ledger, ledger.snapshot():
            return Books(
                capacity=sum(pool.capacity for pool in ledger.pools().values()),
                volumes=ledger.volumes(states=set(VolumeState) - {VolumeState.DELETED}),
                publications=ledger.publications(),
                reservations=ledger.reservations(),
                leases=ledger.leases(),
                open=ledger.operations(state=OperationState.INTENT, limit=_MANY),
            )


def _volume_files(platform: Path) -> Iterator[Path]:
    """Images of the ``loop`` driver, directories of the ``directory`` driver; both under the volume's token."""
    for path in (platform / "volumes").glob("*"):
        if path.suffix == ".img" or (path.is_dir() and not path.name.startswith(".")):
            yield path


def _disks(slaves: Json) -> Iterator[Disk]:
    """The master's ``/slaves`` (src/master/readonly_handler.cpp): reservations are listed by role."""
    for slave in slaves["slaves"]:
        reserved = [disk for disks in slave.get("reserved_resources_full", {}).values() for disk in disks]
        for disk in slave.get("unreserved_resources_full", []) + reserved:
            if str(disk.get("disk", {}).get("source", {}).get("vendor", "")).startswith("polly."):
                yield Disk(slave["id"], float(disk["scalar"]["value"]), role_of(disk), persistence_of(disk))
