"""The controller side: image files, and the promise that what was created can also be filled.

A new image takes all its space at once, so that no write to it can find the file system below full: the kernel's loop
device loses a part of such a write without a word. A copy takes it before it is first attached. Until then its bytes
are promised, and a volume is refused unless the bytes that are free now also hold what all other images have been
promised. An image that shares blocks with another (a clone on XFS or Btrfs) is not that safe: each of its blocks is
found anew when it is first written.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from drivers.base import Capability, Capacity, CreateRequest, PlatformState, PlatformVolume
from drivers.fencing import Finding, Sight, look_for_host
from drivers.loop.images import allocate, allocated_bytes, data_bytes, make_sparse, reflink, sparse_copy
from drivers.loop.settings import LoopSettings
from drivers.loop_devices import SYSFS, locked, possible_user
from drivers.recorded import RecordedController
from drivers.records import Record, Records, platform_errors
from polly_mesos.errors import InvalidRequest, NotSupported, PlatformFull, VolumeInUse
from polly_mesos.model import MB, Filesystem, Json

_OVERHEAD = 128
"""One byte in so many is left for what the file system below needs to find the images' blocks."""


class LoopController(RecordedController):
    """Volumes and snapshots are files named by their token: ``volumes/TOKEN.img``, ``snapshots/TOKEN.img``."""

    capabilities = frozenset(Capability)

    def __init__(self, settings: LoopSettings, cluster: str) -> None:
        super().__init__(settings.directory, settings.zone, cluster)
        self._limit = settings.capacity
        self._remove_blank_images_without_record()

    def expand(self, platform_id: str, size: int) -> PlatformVolume:
        image = self._place(self._volumes, platform_id)
        with platform_errors(f"expanding volume {platform_id}"), self._volumes.lock():
            self._find_available(self._volumes, platform_id)
            before = image.stat().st_size
            if size > before:
                self._refuse_if_full(size - before)
                make_sparse(image, size)
                allocate(image, before)
        return self.get(platform_id)

    def _prepare(self, name: str) -> None:
        allocate(self._place(self._volumes, name))

    def _check(self, request: CreateRequest) -> None:
        super()._check(request)
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

    def _place(self, records: Records, name: str) -> Path:
        return records.path / f"{name}.img"

    def _make(self, request: CreateRequest) -> None:
        image = self._place(self._volumes, request.token)
        make_sparse(image, request.size)
        allocate(image)

    def _fill(self, part: Path, source: Records, source_name: str, record: Record) -> bool:
        image = self._place(source, source_name)
        shares_blocks = reflink(image, part)
        if not shares_blocks:
            self._refuse_if_held(source, source_name)
            sparse_copy(image, part)
        make_sparse(part, record.size)
        return shares_blocks

    def _attachment(self, name: str) -> Json:
        return {"image": str(self._place(self._volumes, name))}

    def _refuse_copy(self, records: Records, name: str) -> None:
        """Where blocks can be shared, an image is copied at one moment even while a host writes to it."""

    def _look_for(self, host: str) -> Finding:
        found = look_for_host(self._directory, host)
        if not SYSFS.is_dir():
            return Finding(Sight.UNKNOWN, f"{SYSFS} is not there, so nobody knows which images are bound")
        for name in () if found.sight is Sight.THERE else self._volumes.held_by(host):
            if user := possible_user(str(self._place(self._volumes, name))):
                return Finding(Sight.THERE, f"{user}, a volume that {host} holds")
        return found

    @contextlib.contextmanager
    def _cut_off(self, name: str, host: str) -> Iterator[None]:
        """Hosts bind an image under the same lock, and only while they are its holder."""
        image = str(self._place(self._volumes, name))
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(FileNotFoundError):
                try:
                    stack.enter_context(locked(image, wait=False))
                except BlockingIOError as error:
                    raise VolumeInUse(f"{image} is being bound or released now", remedy="try again") from error
            if user := possible_user(image):
                raise VolumeInUse(
                    f"volume {name} cannot be taken from {host} by force: {user}",
                    remedy="end what uses it, unmount it, and free the device with `losetup --detach`",
                )
            yield

    def _size(self, records: Records, name: str, record: Record) -> int:
        """An image may have grown since it was recorded."""
        with contextlib.suppress(FileNotFoundError):
            return max(record.size, self._place(records, name).stat().st_size)
        return record.size

    def _measure(self) -> Capacity:
        ours = self._size_of_ours()
        total = ours + max(0, self._room()) // MB * MB
        if self._limit is not None:
            total = min(total, self._limit)
        return Capacity(total, max(0, total - ours))

    def _refuse_if_full(self, size: int) -> None:
        if self._limit is not None and (used := self._size_of_ours()) + size > self._limit:
            raise PlatformFull(
                f"{size} bytes were asked for, and {self._limit - used} of the {self._limit} configured for this "
                "service are left",
                remedy="delete volumes, or raise the service's capacity",
            )
        self._refuse_without_room(size)

    def _refuse_if_full_for_snapshot(self, name: str) -> None:
        """A snapshot takes what was written to its volume by now, and does not count as a volume."""
        self._refuse_without_room(data_bytes(self._place(self._volumes, name)))

    def _refuse_without_room(self, size: int) -> None:
        if size > (room := self._room()):
            raise PlatformFull(
                f"{size} bytes were asked for, and the file system of {self._directory} has {max(0, room)} "
                "that no volume was promised",
                remedy="free space there, or delete volumes",
            )

    def _size_of_ours(self) -> int:
        records = self._volumes.all().items()
        ours = ((name, record) for name, record in records if record.tags.cluster == self._cluster)
        return sum(self._size(self._volumes, name, record) for name, record in ours)

    def _room(self) -> int:
        """The free bytes that no image was promised; below zero where others took what was promised."""
        below = os.statvfs(self._directory)
        free = below.f_bavail * below.f_frsize
        volumes = self._volumes.all().items()
        promised = sum(self._still_to_come(self._volumes, name, record) for name, record in volumes)
        for name, record in self._snapshots.all().items():
            if record.state is PlatformState.CREATING:
                promised += self._still_to_come(self._snapshots, name, record)
            elif record.shares_blocks:
                image = self._place(self._snapshots, name)
                promised += allocated_bytes(image) - allocated_bytes(image, shared_too=False)
        return free - free // _OVERHEAD - promised

    def _still_to_come(self, records: Records, name: str, record: Record) -> int:
        """The bytes that the file system below has promised and not given yet."""
        if record.state is PlatformState.DELETING:
            return 0
        shared_too = record.state is PlatformState.AVAILABLE and not record.shares_blocks
        places = (self._place(records, name), self._part(records, name))
        given = sum(allocated_bytes(place, shared_too=shared_too) for place in places)
        return max(0, self._size(records, name, record) - given)

    def _remove_blank_images_without_record(self) -> None:
        """Remove what a crash left between an image and its record. An image that was ever written is kept."""
        with platform_errors("looking for what a crash left"), self._volumes.lock():
            known = set(self._volumes.names())
            for image in self._volumes.path.glob("*.img"):
                if image.stem not in known and data_bytes(image) == 0:
                    image.unlink()
