"""The controller side: image files, and the promise that what was created can also be filled.

An image is sparse, so the file system below could be promised many times over. Each volume is therefore refused unless
the bytes that are free now also hold what all other images have been promised and have not taken yet.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
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
from drivers.fencing import Finding, Sight, look_for_host
from drivers.loop.devices import SYSFS, locked, possible_user
from drivers.loop.images import allocated_bytes, make_blank, reflink, sparse_copy
from drivers.loop.settings import LoopSettings
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
    PlatformFull,
    PollyError,
    UnknownVolume,
    VolumeInUse,
    WrongState,
)
from polly_mesos.model import MB, Filesystem, HostIdentity, Json

_OVERHEAD = 128
"""One byte in so many is left for what the file system below needs to find the images' blocks."""


class LoopController(ControllerDriver):
    """Volumes and snapshots are files named by their token: ``volumes/TOKEN.img``, ``snapshots/TOKEN.img``."""

    capabilities = frozenset(Capability)
    page_size = 100

    def __init__(self, settings: LoopSettings, cluster: str) -> None:
        self._settings = settings
        self._cluster = cluster
        directory = Path(settings.directory)
        self._volumes = Records(directory, "volumes")
        self._snapshots = Records(directory, "snapshots")
        self._remove_blank_images_without_record()

    def capacity(self, zone: str, platform_type: str) -> Capacity:
        refuse_other_zone(zone, self._settings.zone)
        if platform_type:
            raise NotSupported(f"this driver has no platform types, and {platform_type!r} was asked for")
        with platform_errors("measuring the free space"), self._volumes.lock():
            ours = self._size_of_ours()
            total = ours + max(0, self._room()) // MB * MB
        if self._settings.capacity is not None:
            total = min(total, self._settings.capacity)
        return Capacity(total, max(0, total - ours))

    def create(self, request: CreateRequest) -> PlatformVolume:
        self._check(request)
        image = _image(self._volumes, request.token)
        with platform_errors(f"making volume {request.token}"), self._volumes.lock():
            if self._exists(self._volumes, request.token, request.size, source=""):
                return self.get(request.token)
            self._refuse_if_full(request.size, counts_as_volume=True)
            try:
                make_blank(image, request.size)
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
        return {"image": str(_image(self._volumes, platform_id))}

    def detach(self, platform_id: str, host: HostIdentity, *, force: bool = False) -> None:
        with platform_errors(f"detaching volume {platform_id}"), self._volumes.lock():
            record = self._volumes.find(platform_id)
            if record is not None and record.tags.cluster == self._cluster:
                with self._unused(platform_id) if force else contextlib.nullcontext():
                    self._volumes.let_go(platform_id, host.host)

    def fence(self, host: HostIdentity) -> Fence:
        with platform_errors(f"looking for {host.host}"):
            return self._look_for(host.host).as_fence()

    def snapshot(self, platform_id: str, token: str, tags: Tags) -> PlatformSnapshot:
        check_token(token)
        image = _image(self._volumes, platform_id)
        with platform_errors(f"taking snapshot {token}"), self._volumes.lock():
            self._refuse_unless_available(self._volumes, platform_id)
            size = image.stat().st_size
            if self._exists(self._snapshots, token, None, source=f"volume:{platform_id}"):
                return self.get_snapshot(token)
            self._refuse_if_full(allocated_bytes(image), counts_as_volume=False)
            record = Record(
                size, replace(tags, cluster=self._cluster), PlatformState.CREATING, source=f"volume:{platform_id}"
            )
            self._snapshots.store(token, record)
        self._copy(image, self._volumes.holder(platform_id), self._snapshots, token, record)
        return self.get_snapshot(token)

    def get_snapshot(self, snapshot_id: str) -> PlatformSnapshot:
        record = self._snapshots.find_ours(snapshot_id, self._cluster)
        volume = record.source.removeprefix("volume:")
        return PlatformSnapshot(
            snapshot_id, volume, record.size, self._state(self._snapshots, snapshot_id), record.tags
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
        image = _image(self._volumes, platform_id)
        with platform_errors(f"expanding volume {platform_id}"), self._volumes.lock():
            self._refuse_unless_available(self._volumes, platform_id)
            if (growth := size - image.stat().st_size) > 0:
                self._refuse_if_full(growth, counts_as_volume=True)
                make_blank(image, size)
        return self.get(platform_id)

    def _look_for(self, host: str) -> Finding:
        found = look_for_host(self._settings.directory, host)
        if not SYSFS.is_dir():
            return Finding(Sight.UNKNOWN, f"{SYSFS} is not there, so nobody knows which images are bound")
        for name in () if found.sight is Sight.THERE else self._volumes.held_by(host):
            if user := possible_user(str(_image(self._volumes, name))):
                return Finding(Sight.THERE, f"{user}, a volume that {host} holds")
        return found

    @contextlib.contextmanager
    def _unused(self, name: str) -> Iterator[None]:
        """Make sure that nothing writes to the image, and hold off its host for the length of a block.

        Hosts bind an image under the same lock, and only while they are its holder: so a host that comes back, or was
        never gone, cannot begin to write after the block.

        :raises VolumeInUse: something writes to it, or may
        """
        image = str(_image(self._volumes, name))
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(FileNotFoundError):
                try:
                    stack.enter_context(locked(image, wait=False))
                except BlockingIOError as error:
                    raise VolumeInUse(f"{image} is being bound or released now", remedy="try again") from error
            if user := possible_user(image):
                raise VolumeInUse(
                    f"volume {name} cannot be taken by force: {user}",
                    remedy="end what uses it, unmount it, and free the device with `losetup --detach`",
                )
            yield

    def _make_from(self, records: Records, name: str, source: str, request: CreateRequest) -> PlatformVolume:
        self._check(request)
        image = _image(records, name)
        with platform_errors(f"making volume {request.token} from {source}"), self._volumes.lock():
            self._refuse_unless_available(records, name)
            if request.size < image.stat().st_size:
                raise InvalidRequest(
                    f"a copy of {source} needs {image.stat().st_size} bytes, and {request.size} were asked for",
                    field="size",
                    value=request.size,
                )
            if self._exists(self._volumes, request.token, request.size, source):
                return self.get(request.token)
            self._refuse_if_full(request.size, counts_as_volume=True)
            record = replace(self._record(request), state=PlatformState.CREATING, source=source)
            self._volumes.store(request.token, record)
        self._copy(image, records.holder(name), self._volumes, request.token, record)
        return self.get(request.token)

    def _copy(self, source: Path, holder: str, records: Records, name: str, record: Record) -> None:
        """Fill the record's image and make it available, or leave nothing of either."""
        part = _part(records, name)
        with platform_errors(f"copying {source.name} to {name}"):
            try:
                shares_blocks = reflink(source, part)
                if not shares_blocks:
                    if holder:
                        raise VolumeInUse(
                            f"{source.stem} is attached to {holder}, and the file system below {source.parent} cannot "
                            "copy it as it is at one moment",
                            remedy="detach it first, or keep the directory on XFS or Btrfs",
                        )
                    sparse_copy(source, part)
                if records is self._volumes:
                    make_blank(part, record.size)
                with self._volumes.lock():
                    os.rename(part, _image(records, name))
                    sync_directory(records.path)
                    records.store(name, replace(record, state=PlatformState.AVAILABLE, shares_blocks=shares_blocks))
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
        _image(records, name).unlink(missing_ok=True)
        _part(records, name).unlink(missing_ok=True)
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

    def _check(self, request: CreateRequest) -> None:
        check_token(request.token)
        refuse_what_directories_lack(request, self._settings.zone)
        if request.filesystem is Filesystem.NONE:
            raise NotSupported("a loop volume needs a file system", remedy="let the profile say ext4 or xfs")
        if request.size < max(1, request.filesystem.minimum_size) or request.size % 512:
            raise InvalidRequest(
                f"{request.size} bytes cannot hold {request.filesystem}: it takes a multiple of 512, and at least "
                f"{request.filesystem.minimum_size // MB} MB",
                remedy="ask for more, or set the profile's minimum size and file system accordingly",
                field="size",
                value=request.size,
            )

    def _record(self, request: CreateRequest) -> Record:
        tags = replace(request.tags, cluster=self._cluster)
        return Record(request.size, tags, zone=self._settings.zone)

    def _describe(self, name: str, record: Record) -> PlatformVolume:
        state = self._state(self._volumes, name)
        size = _size(self._volumes, name, record) if state is PlatformState.AVAILABLE else record.size
        holder = self._volumes.holder(name)
        return PlatformVolume(name, size, state, record.tags, record.zone, (holder,) if holder else ())

    def _state(self, records: Records, name: str) -> PlatformState:
        record = records.find_ours(name, self._cluster)
        if record.state is PlatformState.AVAILABLE and not _image(records, name).exists():
            return PlatformState.ERROR
        return record.state

    def _refuse_unless_available(self, records: Records, name: str) -> None:
        records.find_ours(name, self._cluster)
        state = self._state(records, name)
        if state is PlatformState.ERROR:
            raise WrongState(
                f"the image of {name} is gone from {records.path}", remedy="restore the file, or delete the volume"
            )
        if state is not PlatformState.AVAILABLE:
            raise WrongState(f"{name} is {state}", remedy="wait until it is available")

    def _refuse_if_full(self, size: int, *, counts_as_volume: bool) -> None:
        limit = self._settings.capacity
        if counts_as_volume and limit is not None and (used := self._size_of_ours()) + size > limit:
            raise PlatformFull(
                f"{size} bytes were asked for, and {limit - used} of the {limit} configured for this service are left",
                remedy="delete volumes, or raise the service's capacity",
            )
        if size > (room := self._room()):
            raise PlatformFull(
                f"{size} bytes were asked for, and the file system of {self._settings.directory} has {max(0, room)} "
                "that no volume was promised",
                remedy="free space there, or delete volumes",
            )

    def _size_of_ours(self) -> int:
        records = self._volumes.all().items()
        return sum(_size(self._volumes, name, record) for name, record in records if self._is_ours(record))

    def _is_ours(self, record: Record) -> bool:
        return record.tags.cluster == self._cluster

    def _room(self) -> int:
        """The free bytes that no image was promised; below zero where others took what was promised."""
        below = os.statvfs(self._settings.directory)
        free = below.f_bavail * below.f_frsize
        promised = sum(_still_to_come(self._volumes, name, record) for name, record in self._volumes.all().items())
        for name, record in self._snapshots.all().items():
            if record.state is PlatformState.CREATING:
                promised += _still_to_come(self._snapshots, name, record)
            elif record.shares_blocks:
                image = _image(self._snapshots, name)
                promised += allocated_bytes(image) - allocated_bytes(image, shared_too=False)
        return free - free // _OVERHEAD - promised

    def _remove_blank_images_without_record(self) -> None:
        """Remove what a crash left between an image and its record. An image that was ever written is kept."""
        with platform_errors("looking for what a crash left"), self._volumes.lock():
            known = set(self._volumes.names())
            for image in self._volumes.path.glob("*.img"):
                if image.stem not in known and allocated_bytes(image) == 0:
                    image.unlink()


def _image(records: Records, name: str) -> Path:
    return records.path / f"{name}.img"


def _part(records: Records, name: str) -> Path:
    return records.path / f"{name}.img.part"


def _size(records: Records, name: str, record: Record) -> int:
    """The size that the volume has grown to."""
    with contextlib.suppress(FileNotFoundError):
        return max(record.size, _image(records, name).stat().st_size)
    return record.size


def _still_to_come(records: Records, name: str, record: Record) -> int:
    """The bytes that the file system below has promised and not given yet."""
    if record.state is PlatformState.DELETING:
        return 0
    shared_too = record.state is PlatformState.AVAILABLE and not record.shares_blocks
    given = sum(allocated_bytes(path(records, name), shared_too=shared_too) for path in (_image, _part))
    return max(0, _size(records, name, record) - given)
