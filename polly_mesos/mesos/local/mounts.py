"""Mounts, by system call, so that nothing but the kernel is needed."""

from __future__ import annotations

import ctypes
import os
import re
from dataclasses import dataclass
from pathlib import Path

_MS_BIND = 0x1000
_MS_PRIVATE = 1 << 18
_MS_SHARED = 1 << 20
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Mount:
    """A mount that this process sees.

    :param target: where
    :param source: of what: a device, or a name
    :param kind: the file system's type
    :param options: those of the file system itself, for a cgroup v1 hierarchy with its controllers
    """

    target: Path
    source: str
    kind: str
    options: frozenset[str]


def mounts() -> list[Mount]:
    """All mounts that this process sees, in the kernel's order (``/proc/self/mountinfo``, see proc(5))."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place, _, file_system = line.partition(" - ")
        kind, source, options = file_system.split(" ", 2)
        target = Path(_unescape(place.split(" ")[4]))
        found.append(Mount(target, _unescape(source), kind, frozenset(options.split(","))))
    return found


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda escape: chr(int(escape[1], 8)), field)


def mounts_below(directory: Path) -> list[Mount]:
    """The mounts on a directory and below it, in the order in which they can be unmounted."""
    return [mount for mount in reversed(mounts()) if mount.target.is_relative_to(directory)]


def mount_freezer(target: Path) -> None:
    """Mount a cgroup v1 hierarchy with the freezer as its only controller.

    :raises OSError: the kernel does not allow it or has no such controller
    """
    _mount("freezer", target, "cgroup", 0, "freezer")


def mount_shared(target: Path) -> None:
    """Turn a directory into a shared mount of its own: what is mounted below it in one mount namespace shows in others.

    :raises OSError: the kernel does not allow it
    """
    _mount(str(target), target, None, _MS_BIND)
    # private first: a bind mount joins its parent's peer group, and this one shall have its own
    _mount("none", target, None, _MS_PRIVATE)
    _mount("none", target, None, _MS_SHARED)


def unmount(target: Path) -> None:
    """Unmount; a mount that is still in use disappears from sight now and goes when its last user does.

    :raises OSError: it is no mount, or the kernel does not allow it
    """
    path = os.fsencode(target)
    if _libc.umount2(path, 0) != 0 and _libc.umount2(path, _MNT_DETACH) != 0:
        _fail(target)


def _mount(source: str, target: Path, kind: str | None, flags: int, options: str | None = None) -> None:
    result = _libc.mount(
        source.encode(),
        os.fsencode(target),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode() if options else None,
    )
    if result != 0:
        _fail(target)


def _fail(target: Path) -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), str(target))
