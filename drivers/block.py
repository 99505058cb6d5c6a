"""The host's block devices by their serials, as the kernel tells them: no udev, no device names that only hint.

Where each kind of device has its serial: ``serial`` (virtio-blk, ``Documentation/ABI/testing/sysfs-block``),
``device/serial`` (NVMe), ``device/vpd_pg80`` and ``device/vpd_pg83`` (SCSI: the pages Unit Serial Number and Device
Identification of SPC), ``device/wwid``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from polly_mesos.errors import DeviceNotFound, HostError

Found = TypeVar("Found")

_SECTOR = 512
_PAGE_HEADER = 4
_DESCRIPTOR_HEADER = 4
_BLKFLSBUF = 0x1261
"""``linux/fs.h``"""

_POLL = 0.05


@dataclass(frozen=True, slots=True)
class BlockDevice:
    """A whole disk.

    :param name: the kernel's, as ``nvme1n1``
    :param path: its node, whose number is the one that the kernel gave it
    :param serials: all serials and identifiers that it has, without padding
    :param size: bytes
    :param number: major and minor
    """

    name: str
    path: str
    serials: tuple[str, ...]
    size: int
    number: tuple[int, int]


class BlockDevices:
    """The disks of a host.

    :param root: where the host's ``/sys`` and ``/dev`` are seen
    """

    def __init__(self, root: str = "/") -> None:
        self._root = Path(root)

    def with_serial(self, accepts: Callable[[str], bool]) -> list[BlockDevice]:
        """The disks of which a serial is accepted, in the order of their names; more than one with several paths.

        :raises HostError: the kernel's list cannot be read, or a disk that was asked for has no node of its own
        """
        found = [self._describe(entry) for entry in self._entries() if any(map(accepts, serials_of(entry)))]
        return [device for device in found if device is not None]

    def named(self, name: str) -> BlockDevice | None:
        """The disk of that name, None where there is none.

        :raises HostError: it has no node of its own
        """
        entry = self._root / "sys/block" / name
        return self._describe(entry) if "/" not in name and (entry / "dev").exists() else None

    def _entries(self) -> list[Path]:
        try:
            return sorted((self._root / "sys/block").iterdir())
        except OSError as error:
            raise HostError(
                f"this host's disks cannot be seen: {error}", remedy="let host_root name where its /sys and /dev are"
            ) from error

    def _describe(self, entry: Path) -> BlockDevice | None:
        """The disk, None where it was unplugged meanwhile: that must not keep other disks from being found."""
        before = _dev_of(entry)
        try:
            return self._examine(entry, before)
        except HostError:
            if before == "" or _dev_of(entry) != before:
                return None
            raise

    def _examine(self, entry: Path, dev: str) -> BlockDevice:
        path = self._root / "dev" / entry.name.replace("!", "/")
        try:
            major, minor = map(int, dev.split(":"))
            size = int((entry / "size").read_text()) * _SECTOR
            found = path.stat()
        except (OSError, ValueError) as error:
            raise HostError(
                f"disk {entry.name} is there, and {path} cannot be used: {error}",
                remedy="let the executor see the host's /dev",
            ) from error
        if not stat.S_ISBLK(found.st_mode) or found.st_rdev != os.makedev(major, minor):
            raise HostError(
                f"{path} is not disk {entry.name} ({major}:{minor})",
                remedy="let the executor see the host's own /dev",
            )
        return BlockDevice(entry.name, str(path), tuple(serials_of(entry)), size, (major, minor))


def wait_for(look: Callable[[], Found | None], timeout: float, missing: str, remedy: str) -> Found:
    """What is found by looking until it is there; a platform that has attached a disk does not show it at once.

    :param timeout: seconds; it is looked for once at least
    :raises DeviceNotFound: ``missing``, with the remedy: it has not appeared in time
    """
    deadline = time.monotonic() + timeout
    while (found := look()) is None:
        if time.monotonic() >= deadline:
            raise DeviceNotFound(missing, remedy=remedy)
        time.sleep(_POLL)
    return found


def only(found: Sequence[BlockDevice], what: str) -> BlockDevice | None:
    """The one disk that is meant, None where there is none.

    :raises HostError: there are several, and to guess could be to take another's data
    """
    if len(found) > 1:
        raise HostError(
            f"{', '.join(device.path for device in found)} all say that they are {what}",
            remedy="detach those that are not; which one is meant cannot be known: see `lsblk -o NAME,SERIAL,SIZE`",
        )
    return found[0] if found else None


def _dev_of(entry: Path) -> str:
    """Major and minor as the kernel tells them; empty where the disk is gone."""
    with contextlib.suppress(OSError):
        return (entry / "dev").read_text().strip()
    return ""


def serials_of(entry: Path) -> Iterator[str]:
    """All serials and identifiers of a disk, given its directory in /sys/block."""
    for name in ("serial", "device/serial", "wwid", "device/wwid"):
        with contextlib.suppress(OSError):
            if text := (entry / name).read_text(errors="replace").strip(" \t\n\0"):
                yield text
    with contextlib.suppress(OSError):
        if text := _text((entry / "device/vpd_pg80").read_bytes()[_PAGE_HEADER:]):
            yield text
    with contextlib.suppress(OSError):
        yield from _identifiers((entry / "device/vpd_pg83").read_bytes()[_PAGE_HEADER:])


def _identifiers(page: bytes) -> Iterator[str]:
    """The identifiers of page 83 that are text."""
    while len(page) > _DESCRIPTOR_HEADER:
        end = _DESCRIPTOR_HEADER + page[3]
        if text := _text(page[_DESCRIPTOR_HEADER:end]):
            yield text
        page = page[end:]


def _text(data: bytes) -> str:
    try:
        text = data.decode("ascii").strip(" \t\n\0")
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() else ""


def flush(path: str) -> None:
    """Bring all that was written to a device to it; the last thing before it is taken away.

    :raises HostError: the device refused
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
            fcntl.ioctl(descriptor, _BLKFLSBUF)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostError(f"{path} could not be flushed: {error}", remedy="see the kernel's log") from error
