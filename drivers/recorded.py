"""What the drivers that keep volumes in a directory do alike: records, locks, tokens, copies that are whole or gone.

A driver adds what a volume is made of. Its *place* is one file or directory named by the volume; what is half made
stands beside it under a name of its own until one rename puts it there, so that a place that has a record is whole.
"""

from __future__ import annotations

import os
import shutil
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from drivers.base import (
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
from drivers.fencing import Finding
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
    PollyError,
    UnknownVolume,
    VolumeInUse,
    WrongState,
)
from polly_mesos.model import HostIdentity, Json


class RecordedController(ControllerDriver):
    """The calls of the contract; what differs between drivers is in the methods at the end."""

    page_size = 100

    def __init__(self, directory: str, zone: str, cluster: str) -> None:
        self._directory = directory
        self._zone = zone
        self._cluster = cluster
        self._volumes = Records(Path(directory), "volumes")
        self._snapshots = Records(Path(directory), "snapshots")

    def capacity(self, zone: str, platform_type: str) -> Capacity:
        refuse_other_zone(zone, self._zone)
        if platform_type:
            raise NotSupported(f"this driver has no platform types, and {platform_type!r} was asked for")
        with platform_errors("measuring the free space"), self._volumes.lock():
            return self._measure()

    def create(self, request: CreateRequest) -> PlatformVolume:
        self._check(request)
        with platform_errors(f"making volume {request.token}"), self._volumes.lock():
            if self._exists(self._volumes, request.token, request.size, source=""):
                return self.get(request.token)
            self._refuse_if_full(request.size)
            with self._whole_or_gone(self._volumes, request.token):
                self._make(request)
                self._volumes.store(request.token, self._record(request))
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
            self._find_available(self._volumes, platform_id)
            if not self._volumes.holder(platform_id):
                self._prepare(platform_id)
            self._volumes.hold(platform_id, host.host)
            return self._attachment(platform_id)

    def detach(self, platform_id: str, host: HostIdentity, *, force: bool = False) -> None:
        with platform_errors(f"detaching volume {platform_id}"), self._volumes.lock():
            record = self._volumes.find(platform_id)
            if record is None or record.tags.cluster != self._cluster:
                return
            if not force:
                self._volumes.let_go(platform_id, host.host)
            elif self._volumes.holder(platform_id) == host.host:
                with self._cut_off(platform_id, host.host):
                    self._volumes.let_go(platform_id, host.host)

    def fence(self, host: HostIdentity) -> Fence:
        with platform_errors(f"looking for {host.host}"):
            return self._look_for(host.host).as_fence()

    def snapshot(self, platform_id: str, token: str, tags: Tags) -> PlatformSnapshot:
        check_token(token)
        source = f"volume:{platform_id}"
        with platform_errors(f"taking snapshot {token}"), self._volumes.lock():
            volume = self._find_available(self._volumes, platform_id)
            if self._exists(self._snapshots, token, None, source):
                return self.get_snapshot(token)
            self._refuse_copy(self._volumes, platform_id)
            self._refuse_if_full_for_snapshot(platform_id)
            size = self._size(self._volumes, platform_id, volume)
            record = Record(size, replace(tags, cluster=self._cluster), PlatformState.CREATING, source=source)
            with self._whole_or_gone(self._snapshots, token):
                self._snapshots.store(token, record)
        self._copy(self._volumes, platform_id, self._snapshots, token, record)
        return self.get_snapshot(token)

    def get_snapshot(self, snapshot_id: str) -> PlatformSnapshot:
        return self._describe_snapshot(snapshot_id, self._snapshots.find_ours(snapshot_id, self._cluster))

    def list_snapshots(self) -> tuple[PlatformSnapshot, ...]:
        records = self._snapshots.all().items()
        ours = ((name, record) for name, record in records if record.tags.cluster == self._cluster)
        return tuple(self._describe_snapshot(name, record) for name, record in ours)

    def delete_snapshot(self, snapshot_id: str) -> None:
        self._delete(self._snapshots, snapshot_id)

    def restore(self, snapshot_id: str, request: CreateRequest) -> PlatformVolume:
        return self._make_from(self._snapshots, snapshot_id, f"snapshot:{snapshot_id}", request)

    def clone(self, platform_id: str, request: CreateRequest) -> PlatformVolume:
        return self._make_from(self._volumes, platform_id, f"volume:{platform_id}", request)

    def _make_from(self, records: Records, name: str, source: str, request: CreateRequest) -> PlatformVolume:
        self._check(request)
        with platform_errors(f"making volume {request.token} from {source}"), self._volumes.lock():
            size = self._size(records, name, self._find_available(records, name))
            if request.size < size:
                raise InvalidRequest(
                    f"a copy of {source} needs {size} bytes, and {request.size} were asked for",
                    field="size",
                    value=request.size,
                )
            if self._exists(self._volumes, request.token, request.size, source):
                return self.get(request.token)
            self._refuse_copy(records, name)
            self._refuse_if_full(request.size)
            record = replace(self._record(request), state=PlatformState.CREATING, source=source)
            with self._whole_or_gone(self._volumes, request.token):
                self._volumes.store(request.token, record)
        self._copy(records, name, self._volumes, request.token, record)
        return self.get(request.token)

    def _copy(self, source: Records, source_name: str, records: Records, name: str, record: Record) -> None:
        """Fill the record's place and make it available, without the lock while it takes long."""
        part, place = self._part(records, name), self._place(records, name)
        with platform_errors(f"copying {source_name} to {name}"), self._whole_or_gone(records, name):
            remove(part)
            shares_blocks = self._fill(part, source, source_name, record)
            with self._volumes.lock():
                if not shares_blocks:
                    self._refuse_if_held(source, source_name)
                remove(place)
                os.rename(part, place)
                sync_directory(records.path)
                records.store(name, replace(record, state=PlatformState.AVAILABLE, shares_blocks=shares_blocks))

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

    def _refuse_if_held(self, records: Records, name: str) -> None:
        """Refuse to copy bit by bit what a host may be writing to.

        :raises VolumeInUse: a host holds it
        """
        if holder := records.holder(name):
            raise VolumeInUse(
                f"volume {name} is attached to {holder}, and cannot be copied here as it is at one moment",
                remedy=f"detach it from {holder} first, or keep the images of a loop service on XFS or Btrfs",
            )

    @contextmanager
    def _whole_or_gone(self, records: Records, name: str) -> Iterator[None]:
        """Leave nothing of the volume where making it fails."""
        try:
            yield
        except (OSError, PollyError):
            self._erase(records, name)
            raise

    def _erase(self, records: Records, name: str) -> None:
        records.begin_deletion(name)
        remove(self._place(records, name))
        remove(self._part(records, name))
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
                f"{token} exists with {record.size} bytes, {record.source or 'blank at first'}, for cluster "
                f"{record.tags.cluster!r}; it was asked for with {size} bytes, {source or 'blank'}"
            )
        return record.state is PlatformState.AVAILABLE

    def _find_available(self, records: Records, name: str) -> Record:
        """The record of a volume or snapshot that can be used.

        :raises UnknownVolume: there is none of our cluster
        :raises WrongState: it is not ready, or its place is gone
        """
        record = records.find_ours(name, self._cluster)
        state = self._state(records, name, record)
        if state is PlatformState.ERROR:
            raise WrongState(
                f"{self._place(records, name)} is gone", remedy="restore it, or delete the volume or snapshot"
            )
        if state is not PlatformState.AVAILABLE:
            raise WrongState(f"{name} is {state}", remedy="wait until it is available")
        return record

    def _record(self, request: CreateRequest) -> Record:
        return Record(request.size, replace(request.tags, cluster=self._cluster), zone=self._zone)

    def _describe(self, name: str, record: Record) -> PlatformVolume:
        holder = self._volumes.holder(name)
        return PlatformVolume(
            id=name,
            size=self._size(self._volumes, name, record),
            state=self._state(self._volumes, name, record),
            tags=record.tags,
            zone=record.zone,
            attached_to=(holder,) if holder else (),
        )

    def _describe_snapshot(self, name: str, record: Record) -> PlatformSnapshot:
        state = self._state(self._snapshots, name, record)
        return PlatformSnapshot(name, record.source.removeprefix("volume:"), record.size, state, record.tags)

    def _state(self, records: Records, name: str, record: Record) -> PlatformState:
        if record.state is PlatformState.AVAILABLE and not self._is_whole(records, name):
            return PlatformState.ERROR
        return record.state

    def _is_whole(self, records: Records, name: str) -> bool:
        """Whether a volume or snapshot that was made is still there."""
        return self._place(records, name).exists()

    def _part(self, records: Records, name: str) -> Path:
        place = self._place(records, name)
        return place.with_name(f"{place.name}.part")

    def _check(self, request: CreateRequest) -> None:
        """Refuse what this driver cannot make; drivers add their own reasons.

        :raises NotSupported: what is asked for is nothing that a directory has
        :raises InvalidRequest: the token is no name
        """
        check_token(request.token)
        refuse_what_directories_lack(request, self._zone)

    def _size(self, records: Records, name: str, record: Record) -> int:
        """The bytes that a volume or snapshot has by now."""
        return record.size

    def _prepare(self, name: str) -> None:
        """Make a volume ready to be held, where a driver has something left to do until then; the lock is held."""

    def _refuse_if_full_for_snapshot(self, name: str) -> None:
        """Refuse a snapshot of a volume that there is no room for, where the driver promises room.

        :raises PlatformFull: as it says
        """

    @abstractmethod
    def _refuse_if_full(self, size: int) -> None:
        """Refuse volumes of ``size`` more bytes.

        :raises PlatformFull: there is no room for them, or they are more than was configured
        """

    @abstractmethod
    def _refuse_copy(self, records: Records, name: str) -> None:
        """Refuse to copy what would not be copied as it is at one moment, where that is known beforehand.

        :raises VolumeInUse: a host writes to it
        """

    @abstractmethod
    def _place(self, records: Records, name: str) -> Path:
        """The file or directory that a volume or snapshot is."""

    @abstractmethod
    def _make(self, request: CreateRequest) -> None:
        """Make a new volume's place, or bring one that was left half-made to what it should be."""

    @abstractmethod
    def _fill(self, part: Path, source: Records, source_name: str, record: Record) -> bool:
        """Make a copy at ``part``, where nothing is, durable; whether it shares blocks with its source."""

    @abstractmethod
    def _attachment(self, name: str) -> Json:
        """What the host side needs to find a volume."""

    @abstractmethod
    def _measure(self) -> Capacity:
        """The capacity; the lock is held."""

    @abstractmethod
    def _look_for(self, host: str) -> Finding:
        """Whether anything of a host is there that could write to a volume that it holds."""

    @abstractmethod
    def _cut_off(self, name: str, host: str) -> AbstractContextManager[None]:
        """Make sure that the host does not write to a volume, and cannot begin to as soon as it is not its holder.

        :raises VolumeInUse: something uses the volume
        """


def remove(path: Path) -> None:
    """Remove a file, or a directory with all in it. Succeeds where there is nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
