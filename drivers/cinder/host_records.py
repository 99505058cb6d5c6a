"""What a host that reaches its storage by itself has of a service: one small file for each volume, for root alone.

A record is written before os-brick is asked to connect, and removed when it has disconnected; so whatever ends in
between, what may be left on the host has a record. Nothing secret is in it. Records outlive a restart of the host: an
iSCSI session may come back with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from polly_mesos.errors import HostError
from polly_mesos.model import Json


@dataclass(frozen=True, slots=True)
class HostRecord:
    """One volume that this host has, or was about to have.

    :param node: the agent that has it; others may share the directory
    :param attachment: as the controller side gave it
    :param device: what os-brick said of it; empty until it did
    :param path: the block device that was given out; empty until it was
    :param image: the file on the share that is bound to it; empty where it is no file
    :param serials: what identified the device
    """

    node: str
    attachment: Json
    device: Json = field(default_factory=dict)
    path: str = ""
    image: str = ""
    serials: tuple[str, ...] = ()

    @property
    def volume(self) -> str:
        """Cinder's id of the volume."""
        return str(self.attachment["volume"])


class HostRecords:
    """The records in one directory, which is made when the first is written."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def all(self) -> list[HostRecord]:
        """Every record, of other agents on this machine too."""
        found = (self._read(path) for path in sorted(self._directory.glob("*.json")))
        return [record for record in found if record is not None]

    def get(self, volume: str) -> HostRecord | None:
        """The record of one volume."""
        return self._read(self.place(volume))

    def place(self, volume: str) -> Path:
        """The record's file."""
        return self._directory / f"{volume}.json"

    def put(self, record: HostRecord) -> None:
        """Write a record, whole or not at all."""
        place = self.place(record.volume)
        draft = place.with_suffix(".new")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            json.dump(asdict(record), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(place)

    def drop(self, volume: str) -> None:
        """Forget a volume that this host has let go of."""
        self.place(volume).unlink(missing_ok=True)

    @contextlib.contextmanager
    def alone(self, volume: str) -> Iterator[None]:
        """Hold off every other thread and process that would connect or disconnect the volume.

        :raises HostError: the directory cannot be used
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = self._directory / f"{volume[:2]}.lock"  # few volumes share one, and few files are left
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HostError(
                f"the records of volumes cannot be kept: {error}",
                remedy="let host_directory name a directory of this host's root, on a file system of its own disks",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _read(self, place: Path) -> HostRecord | None:
        try:
            data: dict[str, Any] = json.loads(place.read_text())
            record = HostRecord(**{**data, "serials": tuple(data["serials"])})
            return record if self.place(record.volume) == place else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            # Written whole or not at all: somebody else did this, and guessing could let go of the wrong volume.
            raise HostError(f"the record {place} cannot be read: {error}", remedy="restore it, or remove it") from error
