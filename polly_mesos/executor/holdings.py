"""The volumes that this host holds: one small file each, below the volume root.

Whether a volume is mounted is always read from the host's mount table. The files say only what the mount table cannot:
through which service a volume came, and what its driver needs to let go of it. Each is written before the device is
touched, so a crash at any point leaves a trace by which the next start finishes or undoes the work.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cattrs

from polly_mesos.agent_api import decode, encode
from polly_mesos.faults import fault_point
from polly_mesos.model import Json

log = logging.getLogger(__name__)

_DIRECTORY = ".polly"


def records_below(volume_root: str) -> Path:
    """The directory in which the executor half keeps what must outlive its process."""
    return Path(volume_root, _DIRECTORY)


@dataclass(frozen=True, slots=True)
class Holding:
    """One volume that this host holds or is about to hold.

    :param target: absolute path where it is mounted, or would be
    :param device: what the driver located: a block device or a directory; empty until then
    :param attachment: what the driver's host side needs to find the volume and to let go of it
    """

    volume: str
    target: str
    service: str
    generation: int
    attachment: Json = field(default_factory=dict)
    device: str = ""


class Holdings:
    """The record of holdings, and the locks by which publishing and unpublishing never race.

    :param volume_root: absolute path below which the pools have their roots
    :raises OSError: the directory of the files cannot be made or read
    """

    def __init__(self, volume_root: str) -> None:
        self._directory = records_below(volume_root)
        # Attachments tell what only root should know, for example the name by which an initiator is let in.
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._by_volume = {holding.volume: holding for holding in self._read()}
        self._since = dict.fromkeys(self._by_volume, time.monotonic())
        self._revision = 0

    @property
    def revision(self) -> int:
        """Grows whenever what this host holds, or has mounted of it, has changed."""
        return self._revision

    def note_change(self) -> None:
        """A mount was made or ended, of which the records tell nothing."""
        with self._guard:
            self._revision += 1

    def all(self) -> tuple[Holding, ...]:
        """Every holding."""
        with self._guard:
            return tuple(self._by_volume.values())

    def get(self, volume: str) -> Holding | None:
        """The holding of one volume."""
        with self._guard:
            return self._by_volume.get(volume)

    def at(self, target: str) -> Holding | None:
        """The holding whose place is ``target``."""
        with self._guard:
            return next((holding for holding in self._by_volume.values() if holding.target == target), None)

    def since(self, volume: str) -> float:
        """Monotonic time at which the holding was last recorded, minus infinity where there is none."""
        with self._guard:
            return self._since.get(volume, float("-inf"))

    def put(self, holding: Holding) -> None:
        """Record a holding before anything is done about it."""
        path = self._path(holding.volume)
        draft = path.with_suffix(".new")
        with self._guard:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump(encode(holding), file)
            fault_point("holding.write.before-replace")
            draft.replace(path)
            fault_point("holding.write.after-replace")
            self._by_volume[holding.volume] = holding
            self._since[holding.volume] = time.monotonic()
            self._revision += 1

    def drop(self, volume: str) -> None:
        """Forget a volume that this host has let go of."""
        with self._guard:
            self._path(volume).unlink(missing_ok=True)
            fault_point("holding.drop.after-unlink")
            self._by_volume.pop(volume, None)
            self._since.pop(volume, None)
            self._revision += 1

    @contextmanager
    def lock(self, target: str, timeout: float) -> Iterator[bool]:
        """Hold the place ``target`` alone; gives False where others kept it for ``timeout`` seconds."""
        with self._guard:
            lock = self._locks.setdefault(target, threading.Lock())
        taken = lock.acquire(timeout=max(timeout, 0.0))
        try:
            yield taken
        finally:
            if taken:
                lock.release()

    def _path(self, volume: str) -> Path:
        # A volume's id is a UUID: anything else must not become a file's name.
        return self._directory / f"{uuid.UUID(volume)}.json"

    def _read(self) -> Iterator[Holding]:
        for path in sorted(self._directory.glob("*.json")):
            try:
                holding = decode(Holding, json.loads(path.read_text()))
                if self._path(holding.volume) == path:
                    yield holding
            except (ValueError, cattrs.BaseValidationError) as error:
                # Written whole or not at all, so only the host's own crash leaves this, and that ended the mount too.
                log.warning("the record %s cannot be read (%r) and is left aside", path, error)
