"""The host side: the loop device of an image, found anew from the kernel's tables each time.

Nothing is remembered between calls, so a restarted executor finds what the one before it bound. The image itself is
locked while a device is looked for or bound, so that two processes never bind it twice. The requests to the kernel are
those of ``linux/loop.h``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from drivers.base import HostDriver
from polly_mesos.errors import DeviceNotFound, HostError
from polly_mesos.model import HostIdentity, Json

_LOOP_SET_FD = 0x4C00
_LOOP_CLR_FD = 0x4C01
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_SET_CAPACITY = 0x4C07
_LOOP_CTL_GET_FREE = 0x4C82
_STATUS64_SIZE = 232
_DEVICE_AND_INODE = struct.Struct("=QQ")

_SYSFS = Path("/sys/block")
_POLL = 0.01
_RELEASE_TIMEOUT = 10.0


class LoopHost(HostDriver):
    """Binds images to loop devices and lets go of them. Needs root and /dev/loop-control."""

    def __init__(self, settings: Mapping[str, Any], node: str) -> None:
        self._directory = str(settings["directory"])
        self._zone = str(settings.get("zone", ""))
        self._node = node

    def identify(self) -> HostIdentity:
        """The host is named by its agent's host and port.

        :raises HostError: this host does not see the directory, or its user may not use loop devices
        """
        if not os.path.isdir(os.path.join(self._directory, "volumes")):
            raise HostError(
                f"this host does not see the loop service's directory {self._directory}",
                remedy="mount it here at the same path as on the scheduler's machine",
            )
        if not os.access("/dev/loop-control", os.R_OK | os.W_OK):
            raise HostError(
                "/dev/loop-control cannot be used",
                remedy="run the executor as root, load the kernel's module with `modprobe loop`, and let Mesos' "
                "cgroups/devices isolator allow it",
            )
        return HostIdentity(self._node, self._zone)

    def locate(self, attachment: Json, timeout: float) -> str:
        image = _image(attachment)
        deadline = time.monotonic() + timeout
        while not os.path.exists(image):
            if time.monotonic() >= deadline:
                raise DeviceNotFound(
                    f"the image {image} is not on this host",
                    remedy=f"mount {self._directory} here at the same path as on the scheduler's machine",
                )
            time.sleep(_POLL)
        with _locked(image):
            return _bound_device(image) or _bind(image, deadline)

    def release(self, attachment: Json) -> None:
        image = _image(attachment)
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(FileNotFoundError):
                stack.enter_context(_locked(image))
            deadline = time.monotonic() + _RELEASE_TIMEOUT
            while device := _bound_device(image):
                _unbind(device)
                if not _bound_device(image):
                    return
                if time.monotonic() >= deadline:
                    raise HostError(
                        f"{device} did not let go of {image} in {_RELEASE_TIMEOUT:.0f} seconds",
                        remedy=f"something holds it open: look with `fuser -v {device}` and in /proc/mounts",
                    )
                time.sleep(_POLL)

    def rescan(self, attachment: Json) -> None:
        if device := _bound_device(_image(attachment)):
            with _opened(device) as descriptor:
                fcntl.ioctl(descriptor, _LOOP_SET_CAPACITY)


def _image(attachment: Json) -> str:
    return str(attachment["image"])


@contextlib.contextmanager
def _opened(path: str, flags: int = os.O_RDONLY) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(image: str) -> Iterator[None]:
    """Hold off every other process that would bind or release the image.

    The lock lives as long as the open file it was taken on, and a bound device keeps its file open: so the file that is
    locked here is never the one that is bound.
    """
    with _opened(image) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _bound_device(image: str) -> str | None:
    """The loop device that is bound to this very file, not only to one of the same name."""
    for backing in _SYSFS.glob("loop*/loop/backing_file"):
        try:
            bound = backing.read_text().rstrip("\n")
        except OSError:
            continue
        if os.path.basename(bound.removesuffix(" (deleted)")) != os.path.basename(image):
            continue
        device = _device_node(backing.parent.parent)
        if _is_bound_to(device, image, bound):
            return device
    return None


def _is_bound_to(device: str, image: str, bound: str) -> bool:
    status = bytearray(_STATUS64_SIZE)
    try:
        with _opened(device) as descriptor:
            fcntl.ioctl(descriptor, _LOOP_GET_STATUS64, status)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):
            return False
        raise _refused(device, error) from error
    try:
        found = os.stat(image)
    except FileNotFoundError:
        return bound == f"{os.path.realpath(image)} (deleted)"
    return _DEVICE_AND_INODE.unpack_from(status) == (found.st_dev, found.st_ino)


def _bind(image: str, deadline: float) -> str:
    """Bind the image to a free device; others may take the one that the kernel calls free before we do."""
    while True:
        try:
            with _opened("/dev/loop-control", os.O_RDWR) as control:
                number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            device = _device_node(_SYSFS / f"loop{number}")
            with _opened(device, os.O_RDWR) as descriptor, _opened(image, os.O_RDWR) as image_descriptor:
                fcntl.ioctl(descriptor, _LOOP_SET_FD, image_descriptor)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise _refused("a loop device", error) from error
            if time.monotonic() >= deadline:
                raise DeviceNotFound(
                    f"no free loop device for {image}: others took each one first", remedy="try again"
                ) from error
        else:
            return device


def _unbind(device: str) -> None:
    try:
        with _opened(device) as descriptor:
            fcntl.ioctl(descriptor, _LOOP_CLR_FD)
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.ENOENT, errno.EBUSY):
            raise _refused(device, error) from error


def _device_node(entry: Path) -> str:
    """The device's path in /dev, made where nobody made it (a container with its own /dev has no udev)."""
    device = f"/dev/{entry.name}"
    if not os.path.exists(device):
        major, minor = (entry / "dev").read_text().strip().split(":")
        with contextlib.suppress(FileExistsError):
            os.mknod(device, stat.S_IFBLK | 0o600, os.makedev(int(major), int(minor)))
    return device


def _refused(what: str, error: OSError) -> HostError:
    return HostError(
        f"the kernel refused {what}: {error}",
        remedy="run the executor as root, and let Mesos' cgroups/devices isolator allow the loop devices"
        if error.errno in (errno.EPERM, errno.EACCES)
        else "look at the kernel's messages with `dmesg`",
    )
