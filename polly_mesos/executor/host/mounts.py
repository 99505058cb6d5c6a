"""Mounting and unmounting by the kernel's own calls, and reading back what is mounted.

The kernel's table (``/proc/self/mountinfo``) is the only truth: nothing about mounts is remembered.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from polly_mesos.errors import MountFailed

_FLAGS_SET = {
    "ro": 0x1,
    "nosuid": 0x2,
    "nodev": 0x4,
    "noexec": 0x8,
    "sync": 0x10,
    "dirsync": 0x80,
    "noatime": 0x400,
    "nodiratime": 0x800,
    "relatime": 0x200000,
    "strictatime": 0x1000000,
    "lazytime": 0x2000000,
}
_FLAGS_CLEARED = {
    "rw": 0x1,
    "suid": 0x2,
    "dev": 0x4,
    "exec": 0x8,
    "async": 0x10,
    "atime": 0x400,
    "diratime": 0x800,
    "defaults": 0,
}
_MNT_DETACH, _UMOUNT_NOFOLLOW = 0x2, 0x8
_OCTAL = re.compile(r"\\([0-7]{3})")
_MOUNTINFO = "/proc/self/mountinfo"
_LAYERS = 16
_STOPPED = frozenset({"ro", "emergency_ro", "shutdown"})

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the kernel's table of mounts.

    :param device: device number as ``os.makedev`` gives it
    :param root: the directory of the file system that is seen at the mount point
    :param shared: whether mounts below it show in the other mount namespaces of its group
    :param failed: whether the kernel has stopped writing to the file system by itself, after an error of its device;
        mounted anew, it works again where the device does
    """

    device: int
    root: str
    mount_point: str
    filesystem: str
    source: str
    shared: bool
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Propagation:
    """Whether what is mounted below a path is seen by the host and its other processes.

    :param mount_point: the mount that the path lies on
    :param remedy: the commands that make it shared, empty where it is
    """

    mount_point: str
    shared: bool
    remedy: str


def mounts() -> tuple[Mount, ...]:
    """All mounts that this process sees, in the order in which they were made."""
    return tuple(_parse(line) for line in _lines())


def mount_at(target: str) -> Mount | None:
    """The topmost mount at exactly this path, None where nothing is mounted."""
    resolved = _resolve(target)
    escaped = "".join(f"\\{ord(char):03o}" if char in " \t\n\\" else char for char in resolved)
    found = None
    for line in _lines():
        if f" {escaped} " in line and (mount := _parse(line)).mount_point == resolved:
            found = mount
    return found


def is_mounted(target: str) -> bool:
    """Whether something is mounted at exactly this path."""
    return mount_at(target) is not None


def shared_mount_of(path: str) -> Propagation:
    """Whether the mount that holds ``path`` is shared, and how to make it so."""
    resolved = os.path.realpath(path)
    holding = max(
        (mount for mount in mounts() if _is_below(resolved, mount.mount_point)),
        key=lambda mount: len(mount.mount_point),
    )
    top = mount_at(holding.mount_point) or holding
    remedy = "" if top.shared else f"mount --bind {resolved} {resolved} && mount --make-shared {resolved}"
    return Propagation(top.mount_point, top.shared, remedy)


def mount(source: str, target: str, filesystem: str, options: Sequence[str] = ()) -> None:
    """Mount a device at a directory that exists.

    :param options: as in the fourth column of fstab, one per item
    :raises MountFailed: the kernel refused
    """
    flags, data = _flags_and_data(options)
    result = _libc.mount(
        os.fsencode(source), os.fsencode(target), filesystem.encode(), ctypes.c_ulong(flags), data.encode() or None
    )
    if result != 0:
        error = ctypes.get_errno()
        written = f" with options {','.join(options)}" if options else ""
        raise MountFailed(
            f"mounting {source} ({filesystem}) at {target}{written} failed: {os.strerror(error)}",
            remedy=_MOUNT_REMEDIES.get(error, "look at the kernel's messages with `dmesg`"),
        )


def unmount(target: str, *, lazily: bool = False) -> None:
    """Unmount all that is mounted at this path. Succeeds where nothing is.

    :param lazily: also what is in use: no path leads there any more, but what a process has open it can go on writing;
        else a file system that is in use stays mounted
    :raises MountFailed: it is in use, or the kernel refused
    """
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazily else 0)
    for _ in range(_LAYERS):
        if not is_mounted(target):
            return
        if _libc.umount2(os.fsencode(target), flags) != 0 and (error := ctypes.get_errno()) != errno.EINVAL:
            raise MountFailed(
                f"unmounting {target} failed: {os.strerror(error)}",
                remedy=f"end what uses it: `fuser -vm {target}` shows it"
                if error == errno.EBUSY
                else "run the executor as root",
            )
    raise MountFailed(f"{target} is still mounted after {_LAYERS} unmounts", remedy="something keeps mounting there")


_MOUNT_REMEDIES = {
    errno.EPERM: "run the executor as root",
    errno.EACCES: "the device is read-only, or may not be used here: see Mesos' flag --allowed_devices",
    errno.EBUSY: "the device is mounted elsewhere, or in use",
    errno.ENODEV: "the kernel does not have this file system: load its module",
    errno.EINVAL: "the profile's mount options are wrong, or the file system is damaged: see `dmesg`",
}


def _flags_and_data(options: Sequence[str]) -> tuple[int, str]:
    flags, data = 0, []
    for option in options:
        if option in _FLAGS_SET:
            flags |= _FLAGS_SET[option]
        elif option in _FLAGS_CLEARED:
            flags &= ~_FLAGS_CLEARED[option]
        else:
            data.append(option)
    return flags, ",".join(data)


def _lines() -> Iterator[str]:
    with open(_MOUNTINFO, encoding="utf-8", errors="surrogateescape") as table:
        yield from table.read().splitlines()


def _parse(line: str) -> Mount:
    """Columns as in proc(5): id, parent, device, root, mount point, options, tags, "-", type, source, options."""
    before, _, after = line.partition(" - ")
    _, _, device, root, mount_point, options, *tags = before.split(" ")
    filesystem, source, *of_superblock = after.split(" ")
    stopped = not _STOPPED.isdisjoint(",".join(of_superblock).split(","))
    major, minor = device.split(":")
    return Mount(
        os.makedev(int(major), int(minor)),
        _unescape(root),
        _unescape(mount_point),
        filesystem,
        _unescape(source),
        any(tag.startswith("shared:") for tag in tags),
        # who asks for a read-only mount gets one that says so itself, not only its superblock
        stopped and "ro" not in options.split(","),
    )


def _unescape(text: str) -> str:
    """The kernel writes blanks and backslashes as octal."""
    return _OCTAL.sub(lambda match: chr(int(match.group(1), 8)), text)


def _resolve(target: str) -> str:
    """The path as the kernel's table has it; the last part is not followed, for a mount point is no link."""
    parent, name = os.path.split(os.path.abspath(target))
    return os.path.join(os.path.realpath(parent), name)


def _is_below(path: str, mount_point: str) -> bool:
    return path == mount_point or path.startswith(mount_point.rstrip("/") + "/")
