"""The kernel's table of loop devices: which image is bound where.

The kernel keeps a device bound while a mount or a process uses it, even after it was told to let go and after the
mount was hidden by a lazy unmount: so an image without a device is written by nobody. The requests to the kernel are
those of ``linux/loop.h``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import stat
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from polly_mesos.errors import DeviceNotFound, HostError

log = logging.getLogger(__name__)

SYSFS = Path("/sys/block")

_LOOP_SET_FD = 0x4C00
_LOOP_CLR_FD = 0x4C01
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_SET_CAPACITY = 0x4C07
_LOOP_CTL_GET_FREE = 0x4C82
_STATUS64_SIZE = 232
_DEVICE_AND_INODE = struct.Struct("=QQ")
_DELETED = " (deleted)"
_POLL = 0.01


@dataclass(frozen=True, slots=True)
class Binding:
    """One line of the table.

    :param entry: the device's directory in /sys/block
    :param file: the path of the file that is bound, as it was when it was bound
    """

    entry: Path
    file: str

    @property
    def name(self) -> str:
        """The file's name without its directory."""
        return os.path.basename(self.file.removesuffix(_DELETED))


def bindings() -> list[Binding]:
    """All devices that are bound now."""
    found = []
    for backing in SYSFS.glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            found.append(Binding(backing.parent.parent, backing.read_text().rstrip("\n")))
    return found


def bound_device(image: str) -> str | None:
    """The loop device that is bound to this very file, not only to one of the same name.

    :raises HostError: the kernel refused to tell
    """
    for binding in bindings():
        if binding.name == os.path.basename(image) and is_bound_to(binding, image):
            return device_node(binding.entry)
    return None


def is_bound_to(binding: Binding, image: str) -> bool:
    """Whether it is this very file that is bound, not only one of the same name.

    :raises HostError: the kernel refused to tell
    """
    device = device_node(binding.entry)
    status = bytearray(_STATUS64_SIZE)
    try:
        with opened(device) as descriptor:
            fcntl.ioctl(descriptor, _LOOP_GET_STATUS64, status)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):
            return False
        raise refused(device, error) from error
    try:
        found = os.stat(image)
    except FileNotFoundError:
        return binding.file == f"{os.path.realpath(image)}{_DELETED}"
    return _DEVICE_AND_INODE.unpack_from(status) == (found.st_dev, found.st_ino)


def possible_user(image: str) -> str:
    """What may write to the image now, in words; empty where nothing can.

    Changes nothing, and needs no right to use devices: where only one's name is known, it counts as a user.
    """
    for binding in bindings():
        if binding.name != os.path.basename(image):
            continue
        device = f"/dev/{binding.entry.name}"
        with contextlib.suppress(HostError):
            if os.path.exists(device) and not is_bound_to(binding, image):
                continue
        place = _mount_point(binding.entry)
        return f"{device} is bound to {image}" + (f" and mounted at {place}" if place else "")
    return ""


def _mount_point(entry: Path) -> str:
    """Where the device is mounted, in whatever namespace of a process that can be seen; empty where nowhere."""
    try:
        number = (entry / "dev").read_text().strip()
    except OSError:
        return ""
    for table in Path("/proc").glob("[0-9]*/mountinfo"):
        with contextlib.suppress(OSError):
            for fields in map(str.split, table.read_text().splitlines()):
                if fields[2] == number:
                    return f"{fields[4]} (seen by process {table.parent.name})"
    return ""


def keep_discarded(device: str) -> None:
    """Let blocks that are discarded, or zeroed by the file system, keep their space in the file system below.

    Else they have to be found anew when they are written (:func:`drivers.loop.images.allocate`). The kernel has no way
    back: whatever is bound to the device next cannot discard either. Source: ``queue/discard_max_bytes`` in
    ``Documentation/ABI/stable/sysfs-block``.
    """
    try:
        (SYSFS / os.path.basename(device) / "queue" / "discard_max_bytes").write_text("0")
    except OSError as error:
        log.warning("%s: blocks that are discarded lose their space in the image: %s", device, error)


def bind(image: str, deadline: float) -> str:
    """Bind the image to a free device; others may take the one that the kernel calls free before we do.

    The caller holds off all others who would bind the image, and has seen that it is not bound yet.

    :param deadline: monotonic time at which to give up
    :raises DeviceNotFound: others took each free device first
    :raises HostError: the kernel refused
    """
    while True:
        try:
            with opened("/dev/loop-control", os.O_RDWR) as control:
                number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            device = device_node(SYSFS / f"loop{number}")
            with opened(device, os.O_RDWR) as descriptor, opened(image, os.O_RDWR) as image_descriptor:
                fcntl.ioctl(descriptor, _LOOP_SET_FD, image_descriptor)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise refused("a loop device", error) from error
            if time.monotonic() >= deadline:
                raise DeviceNotFound(
                    f"no free loop device for {image}: others took each one first", remedy="try again"
                ) from error
        else:
            return device


def unbind(image: str, timeout: float, bound: Callable[[str], str | None] = bound_device) -> None:
    """Let no device be bound to the image any more; succeeds where none is.

    :param timeout: seconds for which what still uses a device may keep it
    :param bound: gives the device of an image; another than the usual one knows which of several are meant
    :raises HostError: it was kept for longer, or the kernel refused
    """
    deadline = time.monotonic() + timeout
    while device := bound(image):
        _ask_to_let_go(device)
        if not bound(image):
            return
        if time.monotonic() >= deadline:
            raise HostError(
                f"{device} did not let go of {image} in {timeout:.0f} seconds",
                remedy=f"something holds it open: look with `fuser -v {device}` and in /proc/mounts",
            )
        time.sleep(_POLL)


def _ask_to_let_go(device: str) -> None:
    try:
        with opened(device) as descriptor:
            fcntl.ioctl(descriptor, _LOOP_CLR_FD)
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.ENOENT, errno.EBUSY):
            raise refused(device, error) from error


def take_size_of_image(device: str) -> None:
    """Let a device be as large as its image is now."""
    with opened(device) as descriptor:
        fcntl.ioctl(descriptor, _LOOP_SET_CAPACITY)


@contextlib.contextmanager
def opened(path: str, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A file descriptor for the length of a block."""
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(image: str, *, wait: bool = True) -> Iterator[None]:
    """Hold off every other process that would bind or release the image, or take it from its host.

    The lock lives as long as the open file it was taken on, and a bound device keeps its file open: so the file that is
    locked here is never the one that is bound.

    :raises BlockingIOError: another process has it, and ``wait`` is False
    """
    with opened(image) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def device_node(entry: Path) -> str:
    """The device's path in /dev, made where nobody made it (a container with its own /dev has no udev)."""
    device = f"/dev/{entry.name}"
    if not os.path.exists(device):
        major, minor = (entry / "dev").read_text().strip().split(":")
        with contextlib.suppress(FileExistsError):
            os.mknod(device, stat.S_IFBLK | 0o600, os.makedev(int(major), int(minor)))
    return device


def refused(what: str, error: OSError) -> HostError:
    """The error for what the kernel does not allow."""
    return HostError(
        f"the kernel refused {what}: {error}",
        remedy="run the executor as root, and let Mesos' cgroups/devices isolator allow the loop devices"
        if error.errno in (errno.EPERM, errno.EACCES)
        else "look at the kernel's messages with `dmesg`",
    )
