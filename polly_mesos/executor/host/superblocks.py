"""The first bytes of ext4 and XFS: whose file system it is, read without starting a program."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass

from polly_mesos.model import Filesystem

_READ = 4096
_EXT4 = 1024
_EXT4_MAGIC, _EXT4_UUID, _EXT4_MOUNTED, _EXT4_MOUNTS = _EXT4 + 56, _EXT4 + 104, _EXT4 + 44, _EXT4 + 52
_XFS_UUID, _XFS_IN_PROGRESS = 32, 126


@dataclass(frozen=True, slots=True)
class Superblock:
    """What a file system says of itself.

    :param complete: True where the making of it surely ended, False where it surely did not, None where only a check
        of the whole can tell. mkfs.xfs clears a flag at its end; a mounted ext4 has the time of the mount in it
    """

    filesystem: Filesystem
    uuid: str
    complete: bool | None


def read(device: str) -> Superblock | None:
    """The superblock of an ext4 or XFS device, None where there is neither.

    :raises OSError: the device cannot be read
    """
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(descriptor, _READ, 0)
    finally:
        os.close(descriptor)
    if data[:4] == b"XFSB":
        return Superblock(Filesystem.XFS, _uuid(data, _XFS_UUID), data[_XFS_IN_PROGRESS] == 0)
    if data[_EXT4_MAGIC : _EXT4_MAGIC + 2] == b"\x53\xef":
        was_mounted = any(data[_EXT4_MOUNTED : _EXT4_MOUNTED + 4]) or any(data[_EXT4_MOUNTS : _EXT4_MOUNTS + 2])
        return Superblock(Filesystem.EXT4, _uuid(data, _EXT4_UUID), True if was_mounted else None)
    return None


def _uuid(data: bytes, offset: int) -> str:
    return str(uuid.UUID(bytes=data[offset : offset + 16]))
