"""The controller side: one directory per volume. Sizes are promises that nothing enforces."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from drivers.base import Capability, Capacity, CreateRequest, PlatformVolume
from drivers.directory.settings import DirectorySettings
from drivers.directory.usage import task_of, user_of
from drivers.fencing import CannotLook, Finding, Sight, look_for_host
from drivers.hosts import read_lease, this_boot
from drivers.recorded import RecordedController
from drivers.records import Record, Records, platform_errors, sync_directory
from polly_mesos.errors import InvalidRequest, NotSupported, PlatformError, PlatformFull, VolumeInUse
from polly_mesos.model import MB, Filesystem, Json


class DirectoryController(RecordedController):
    """Volumes and snapshots are directories named by their token: ``volumes/TOKEN/data``, ``snapshots/TOKEN/data``.

    Copies are made by ``cp --archive --reflink=auto``, of volumes that no host holds. A volume that was taken from a
    host by force has another path from then on: what remembers the old one finds nothing there.
    """

    capabilities = frozenset({Capability.SNAPSHOT, Capability.CLONE, Capability.EXPAND, Capability.FENCE})

    def __init__(self, settings: DirectorySettings, cluster: str) -> None:
        super().__init__(settings.directory, settings.zone, cluster)
        self._limit = settings.capacity

    def expand(self, platform_id: str, size: int) -> PlatformVolume:
        with platform_errors(f"expanding volume {platform_id}"), self._volumes.lock():
            record = self._find_available(self._volumes, platform_id)
            if size > record.size:
                self._refuse_if_full(size - record.size)
                self._volumes.store(platform_id, replace(record, size=size, made_with=record.first_size))
        return self.get(platform_id)

    def _check(self, request: CreateRequest) -> None:
        super()._check(request)
        if request.filesystem is not Filesystem.NONE:
            raise NotSupported(
                f"a directory cannot be formatted with {request.filesystem}",
                remedy=f"let the profile {request.tags.profile!r} say `filesystem: none`",
            )
        if request.size <= 0:
            raise InvalidRequest(f"a volume cannot have {request.size} bytes", field="size", value=request.size)

    def _place(self, records: Records, name: str) -> Path:
        return records.path / name

    def _data(self, records: Records, name: str) -> Path:
        """Where the files are: ``data``, and after the volume was taken from its n-th host by force ``data.n``."""
        place = self._place(records, name)
        return next(place.glob("data.*"), place / "data")

    def _is_whole(self, records: Records, name: str) -> bool:
        return self._data(records, name).is_dir()

    def _make(self, request: CreateRequest) -> None:
        data = self._data(self._volumes, request.token)
        data.mkdir(parents=True, exist_ok=True)
        sync_directory(data.parent)

    def _fill(self, part: Path, source: Records, source_name: str, record: Record) -> bool:
        part.mkdir()
        _copy_tree(self._data(source, source_name), part / "data")
        return False

    def _attachment(self, name: str) -> Json:
        return {"data": str(self._data(self._volumes, name))}

    def _refuse_copy(self, records: Records, name: str) -> None:
        self._refuse_if_held(records, name)

    def _look_for(self, host: str) -> Finding:
        found = look_for_host(self._directory, host)
        if found.lease is None:
            return found
        held = [self._data(self._volumes, name) for name in self._volumes.held_by(host)]
        try:
            if user := user_of(held, found.lease) or task_of(found.lease):
                return Finding(Sight.THERE, f"{user}, though {host} is gone")
        except CannotLook as error:
            return Finding(Sight.UNKNOWN, f"{error}, so nobody knows whether a task of {host} runs")
        return found

    @contextlib.contextmanager
    def _cut_off(self, name: str, host: str) -> Iterator[None]:
        """Give the volume's directory another path, so that only what has it open already could still write there."""
        before = self._data(self._volumes, name)
        self._refuse_if_open(before, host)
        after = before.with_name(f"data.{int(before.suffix[1:] or 0) + 1}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(before, after)
            try:
                self._refuse_if_open(after, host)
            except BaseException:
                os.rename(after, before)
                raise
            sync_directory(after.parent)
        yield

    def _refuse_if_open(self, data: Path, host: str) -> None:
        """What cannot be looked at is no reason to refuse: the caller says that the host is fenced."""
        lease = read_lease(self._directory, host)
        if lease is None or lease.boot != this_boot():
            return
        with contextlib.suppress(CannotLook):
            if user := user_of([data], lease):
                raise VolumeInUse(f"{data} cannot be taken by force: {user}", remedy="end that process, then try again")

    def _measure(self) -> Capacity:
        total, ours = self._total(), self._size_of_ours()
        return Capacity(total, max(0, min(total - ours, self._free())))

    def _refuse_if_full(self, size: int) -> None:
        total, ours, free = self._total(), self._size_of_ours(), self._free()
        if size > (room := max(0, min(total - ours, free))):
            raise PlatformFull(
                f"{size} bytes were asked for; of {total} bytes {ours} are promised, and the file system of "
                f"{self._directory} has {free} free: {room} can be given",
                remedy="delete volumes, free space there, or raise the service's capacity",
            )

    def _total(self) -> int:
        if self._limit is not None:
            return self._limit
        return (self._free() + _bytes_below(self._volumes.path)) // MB * MB

    def _free(self) -> int:
        below = os.statvfs(self._directory)
        return below.f_bavail * below.f_frsize

    def _size_of_ours(self) -> int:
        return sum(record.size for record in self._volumes.all().values() if record.tags.cluster == self._cluster)


def _copy_tree(source: Path, target: Path) -> None:
    copied = subprocess.run(
        ["cp", "--archive", "--reflink=auto", "--no-target-directory", "--", str(source), str(target)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    if copied.returncode == 0:
        return
    message = f"copying {source} failed: {copied.stderr.strip()}"
    if "No space left" in message or "quota exceeded" in message:
        raise PlatformFull(message, remedy="free space in the driver's directory")
    raise PlatformError(message)


def _bytes_below(path: Path) -> int:
    """What the files below a directory take; those that vanish meanwhile do not count."""
    taken = 0
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                taken += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except OSError:
                continue
    return taken
