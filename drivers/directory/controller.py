"""The controller side: one directory per volume. Sizes are promises that nothing enforces."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from drivers.base import (
    Capability,
    Capacity,
    ControllerDriver,
    CreateRequest,
    Fence,
    Page,
    PlatformSnapshot,
    PlatformState,
    PlatformVolume,
    Tags,
)
from drivers.directory.settings import DirectorySettings
from drivers.directory.usage import task_of, user_of
from drivers.fencing import CannotLook, Finding, Sight, look_for_host
from drivers.hosts import read_lease, this_boot
from drivers.records import (
    Record,
    Records,
    check_token,
    platform_errors,
    refuse_other_zone,
    refuse_what_directories_lack,
    sync_directory,
)
from polly_mesos.errors import (
    AlreadyExists,
    InvalidRequest,
    NotSupported,
    PlatformError,
    PlatformFull,
    PollyError,
    UnknownVolume,
    VolumeInUse,
    WrongState,
)
from polly_mesos.model import MB, Filesystem, HostIdentity, Json


class DirectoryController(ControllerDriver):
    """Volumes and snapshots are directories named by their token: ``volumes/TOKEN/data``, ``snapshots/TOKEN/data``.

    Copies are made by ``cp --archive --reflink=auto``, of volumes that no host holds.
    """

    capabilities = frozenset({Capability.SNAPSHOT, Capability.CLONE, Capability.EXPAND, Capability.FENCE})
    page_size = 100

    def __init__(self, settings: DirectorySettings, cluster: str) -> None:
        self._settings = settings
        self._cluster = cluster
        directory = Path(settings.directory)
        self._volumes = Records(directory, "volumes")
        self._snapshots = Records(directory, "snapshots")

    def capacity(self, zone: str, platform_type: str) -> Capacity:
        refuse_other_zone(zone, self._settings.zone)
        if platform_type:
            raise NotSupported(f"this driver has no platform types, and {platform_type!r} was asked for")
        with platform_errors("measuring the free space"), self._volumes.lock():
            total, ours = self._total(), self._size_of_ours()
            return Capacity(total, max(0, min(total - ours, self._free())))

    def create(self, request: CreateRequest) -> PlatformVolume:
        self._check(request)
        data = _data(self._volumes, request.token)
        with platform_errors(f"making volume {request.token}"), self._volumes.lock():
            if self._exists(self._volumes, request.token, request.size, source=""):
                return self.get(request.token)
            self._refuse_if_full(request.size)
            try:
                data.mkdir(parents=True, exist_ok=True)
                sync_directory(data.parent)
                self._volumes.store(request.token, self._record(request))
            except OSError:
                self._erase(self._volumes, request.token)
                raise
        return self.get(request.token)

    def get(self, platform_id: str) -> PlatformVolume:
        return self._describe(platform_id, self._volumes.find_ours(platform_id, self._cluster))

    def list(self, page: str | None = None) -> Page:
        found: list[PlatformVolume] = []
        for name in self._volumes.names():
            if page is not None and name <= page:
                continue
            if len(found) == self.page_size:
                return Page(tuple(found), found[-1].id)
            record = self._volumes.find(name)
            if record is not None and record.tags.cluster == self._cluster:
                found.append(self._describe(name, record))
        return Page(tuple(found))

    def delete(self, platform_id: str) -> None:
        self._delete(self._volumes, platform_id)

    def attach(self, platform_id: str, host: HostIdentity) -> Json:
        with platform_errors(f"attaching volume {platform_id}"), self._volumes.lock():
            self._refuse_unless_available(self._volumes, platform_id)
            self._volumes.hold(platform_id, host.host)
        return {"data": str(_data(self._volumes, platform_id))}

    def detach(self, platform_id: str, host: HostIdentity, *, force: bool = False) -> None:
        with platform_errors(f"detaching volume {platform_id}"), self._volumes.lock():
            record = self._volumes.find(platform_id)
            if record is not None and record.tags.cluster == self._cluster:
                if force and self._volumes.holder(platform_id) == host.host:
                    self._cut_off(platform_id, host.host)
                self._volumes.let_go(platform_id, host.host)

    def fence(self, host: HostIdentity) -> Fence:
        with platform_errors(f"looking for {host.host}"):
            return self._look_for(host.host).as_fence()

    def snapshot(self, platform_id: str, token: str, tags: Tags) -> PlatformSnapshot:
        check_token(token)
        source = f"volume:{platform_id}"
        with platform_errors(f"taking snapshot {token}"), self._volumes.lock():
            size = self._refuse_unless_available(self._volumes, platform_id).size
            if self._exists(self._snapshots, token, None, source):
                return self.get_snapshot(token)
            self._refuse_if_held(platform_id)
            record = Record(size, replace(tags, cluster=self._cluster), PlatformState.CREATING, source=source)
            self._snapshots.store(token, record)
        self._copy(_data(self._volumes, platform_id), self._snapshots, token, record)
        return self.get_snapshot(token)

    def get_snapshot(self, snapshot_id: str) -> PlatformSnapshot:
        record = self._snapshots.find_ours(snapshot_id, self._cluster)
        volume = record.source.removeprefix("volume:")
        return PlatformSnapshot(
            snapshot_id, volume, record.size, _state(self._snapshots, snapshot_id, record), record.tags
        )

    def list_snapshots(self) -> tuple[PlatformSnapshot, ...]:
        records = self._snapshots.all().items()
        return tuple(self.get_snapshot(name) for name, record in records if record.tags.cluster == self._cluster)

    def delete_snapshot(self, snapshot_id: str) -> None:
        self._delete(self._snapshots, snapshot_id)

    def restore(self, snapshot_id: str, request: CreateRequest) -> PlatformVolume:
        return self._make_from(self._snapshots, snapshot_id, f"snapshot:{snapshot_id}", request)

    def clone(self, platform_id: str, request: CreateRequest) -> PlatformVolume:
        return self._make_from(self._volumes, platform_id, f"volume:{platform_id}", request)

    def expand(self, platform_id: str, size: int) -> PlatformVolume:
        with platform_errors(f"expanding volume {platform_id}"), self._volumes.lock():
            record = self._refuse_unless_available(self._volumes, platform_id)
            if size > record.size:
                self._refuse_if_full(size - record.size)
                self._volumes.store(platform_id, replace(record, size=size, made_with=record.first_size))
        return self.get(platform_id)

    def _look_for(self, host: str) -> Finding:
        found = look_for_host(self._settings.directory, host)
        if found.lease is None:
            return found
        held = [_data(self._volumes, name) for name in self._volumes.held_by(host)]
        try:
            if user := user_of(held, found.lease) or task_of(found.lease):
                return Finding(Sight.THERE, f"{user}, though {host} is gone")
        except CannotLook as error:
            return Finding(Sight.UNKNOWN, f"{error}, so nobody knows whether a task of {host} runs")
        return found

    def _cut_off(self, name: str, host: str) -> None:
        """Give the volume's directory another path, so that only what has it open already could still write there.

        :raises VolumeInUse: something has it open; the directory is where it was
        """
        before = _data(self._volumes, name)
        self._refuse_if_open(before, host)
        after = before.with_name(f"data.{int(before.suffix[1:] or 0) + 1}")
        os.rename(before, after)
        try:
            self._refuse_if_open(after, host)
        except BaseException:
            os.rename(after, before)
            raise
        sync_directory(after.parent)

    def _refuse_if_open(self, data: Path, host: str) -> None:
        """What cannot be looked at is no reason to refuse: the caller says that the host is fenced."""
        lease = read_lease(self._settings.directory, host)
        if lease is None or lease.boot != this_boot():
            return
        with contextlib.suppress(CannotLook):
            if user := user_of([data], lease):
                raise VolumeInUse(f"{data} cannot be taken by force: {user}", remedy="end that process, then try again")

    def _make_from(self, records: Records, name: str, source: str, request: CreateRequest) -> PlatformVolume:
        self._check(request)
        with platform_errors(f"making volume {request.token} from {source}"), self._volumes.lock():
            size = self._refuse_unless_available(records, name).size
            if request.size < size:
                raise InvalidRequest(
                    f"a copy of {source} needs {size} bytes, and {request.size} were asked for",
                    field="size",
                    value=request.size,
                )
            if self._exists(self._volumes, request.token, request.size, source):
                return self.get(request.token)
            if records is self._volumes:
                self._refuse_if_held(name)
            self._refuse_if_full(request.size)
            record = replace(self._record(request), state=PlatformState.CREATING, source=source)
            self._volumes.store(request.token, record)
        self._copy(_data(records, name), self._volumes, request.token, record)
        return self.get(request.token)

    def _copy(self, source: Path, records: Records, name: str, record: Record) -> None:
        """Fill the record's directory and make it available, or leave nothing of either."""
        part = _part(records, name)
        with platform_errors(f"copying {source} to {name}"):
            try:
                for half_made in (part, records.path / name):
                    _remove(half_made)
                part.mkdir()
                _copy_tree(source, part / "data")
                with self._volumes.lock():
                    os.rename(part, records.path / name)
                    sync_directory(records.path)
                    records.store(name, replace(record, state=PlatformState.AVAILABLE))
            except (OSError, PollyError):
                self._erase(records, name)
                raise

    def _delete(self, records: Records, name: str) -> None:
        with platform_errors(f"deleting {name}"), self._volumes.lock():
            record = records.find(name)
            if record is None:
                return
            if record.tags.cluster != self._cluster:
                raise UnknownVolume(f"{name} belongs to cluster {record.tags.cluster!r}, not to {self._cluster!r}")
            if holder := records.holder(name):
                raise VolumeInUse(f"volume {name} is attached to {holder}", remedy=f"detach it from {holder} first")
            self._erase(records, name)

    def _erase(self, records: Records, name: str) -> None:
        records.begin_deletion(name)
        _remove(records.path / name)
        _remove(_part(records, name))
        records.forget(name)

    def _exists(self, records: Records, token: str, size: int | None, source: str) -> bool:
        """Whether an earlier call with this token is done; what one left half-made is to be made again.

        :raises AlreadyExists: the token was used for something else
        """
        record = records.find(token)
        if record is None:
            return False
        if record.state is PlatformState.DELETING and record.tags.cluster == self._cluster:
            self._erase(records, token)
            return False
        same = record.tags.cluster == self._cluster and record.source == source and size in (None, record.first_size)
        if not same:
            raise AlreadyExists(
                f"{token} exists with {record.size} bytes, {record.source or 'empty at first'}, for cluster "
                f"{record.tags.cluster!r}; it was asked for with {size} bytes, {source or 'empty'}"
            )
        return record.state is PlatformState.AVAILABLE

    def _check(self, request: CreateRequest) -> None:
        check_token(request.token)
        refuse_what_directories_lack(request, self._settings.zone)
        if request.filesystem is not Filesystem.NONE:
            raise NotSupported(
                f"a directory cannot be formatted with {request.filesystem}",
                remedy=f"let the profile {request.tags.profile!r} say `filesystem: none`",
            )
        if request.size <= 0:
            raise InvalidRequest(f"a volume cannot have {request.size} bytes", field="size", value=request.size)

    def _record(self, request: CreateRequest) -> Record:
        return Record(request.size, replace(request.tags, cluster=self._cluster), zone=self._settings.zone)

    def _describe(self, name: str, record: Record) -> PlatformVolume:
        holder = self._volumes.holder(name)
        state = _state(self._volumes, name, record)
        return PlatformVolume(name, record.size, state, record.tags, record.zone, (holder,) if holder else ())

    def _refuse_if_held(self, name: str) -> None:
        if holder := self._volumes.holder(name):
            raise VolumeInUse(
                f"volume {name} is attached to {holder}: its directory cannot be copied as it is at one moment",
                remedy=f"detach it from {holder} first",
            )

    def _refuse_unless_available(self, records: Records, name: str) -> Record:
        record = records.find_ours(name, self._cluster)
        state = _state(records, name, record)
        if state is PlatformState.ERROR:
            raise WrongState(
                f"the directory of {name} is gone from {records.path}", remedy="restore it, or delete the volume"
            )
        if state is not PlatformState.AVAILABLE:
            raise WrongState(f"{name} is {state}", remedy="wait until it is available")
        return record

    def _refuse_if_full(self, size: int) -> None:
        total, ours, free = self._total(), self._size_of_ours(), self._free()
        if size > (room := max(0, min(total - ours, free))):
            raise PlatformFull(
                f"{size} bytes were asked for; of {total} bytes {ours} are promised, and the file system of "
                f"{self._settings.directory} has {free} free: {room} can be given",
                remedy="delete volumes, free space there, or raise the service's capacity",
            )

    def _total(self) -> int:
        if self._settings.capacity is not None:
            return self._settings.capacity
        return (self._free() + _bytes_below(self._volumes.path)) // MB * MB

    def _free(self) -> int:
        below = os.statvfs(self._settings.directory)
        return below.f_bavail * below.f_frsize

    def _size_of_ours(self) -> int:
        return sum(record.size for record in self._volumes.all().values() if record.tags.cluster == self._cluster)


def _data(records: Records, name: str) -> Path:
    """Where the files are: ``data``, and after the volume was taken from its n-th host by force ``data.n``."""
    volume = records.path / name
    return next(volume.glob("data.*"), volume / "data")


def _part(records: Records, name: str) -> Path:
    return records.path / f"{name}.part"


def _state(records: Records, name: str, record: Record) -> PlatformState:
    if record.state is PlatformState.AVAILABLE and not _data(records, name).is_dir():
        return PlatformState.ERROR
    return record.state


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)


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
