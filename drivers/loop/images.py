"""Image files: how much of them is real, how to make all of it real, and how to copy them."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

FICLONE = 0x40049409
_FIEMAP = 0xC020660B
_FIEMAP_HEADER = struct.Struct("=QQIIII")
_FIEMAP_EXTENT = struct.Struct("=QQQ16xI12x")
_EXTENTS_AT_ONCE = 256
_EXTENT_LAST, _EXTENT_SHARED = 0x1, 0x2000
_NO_REFLINK = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS)
_COPY_AT_ONCE = 1 << 30


def make_sparse(path: Path, size: int) -> None:
    """Make a file of ``size`` bytes that takes no space yet, or bring one that is there to that size."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def allocate(path: Path, start: int = 0) -> None:
    """Give the whole file its space, from ``start`` on; what it holds stays as it is.

    Linux' loop device takes a write for done of which only a part found space in the file system below (seen on 6.18):
    the task is told that its data is safe, and it is not. What has its space already cannot be written short.

    :raises OSError: ENOSPC, the file system has not that much space
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        if start < size:
            os.posix_fallocate(descriptor, start, size - start)
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def data_bytes(path: Path) -> int:
    """How much of the file was ever written."""
    with open(path, "rb") as file:
        return sum(end - start for start, end in _data_ranges(file.fileno()))


def allocated_bytes(path: Path, *, shared_too: bool = True) -> int:
    """How much of the file takes space now; 0 where there is no such file.

    :param shared_too: count the blocks that the file shares with others; they are to be found anew when written
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        allocated = os.fstat(descriptor).st_blocks * 512
        return allocated if shared_too else allocated - _shared_bytes(descriptor)
    finally:
        os.close(descriptor)


def reflink(source: Path, target: Path) -> bool:
    """Make ``target`` a copy that shares all blocks with ``source``: at once, and as it is at one moment.

    :returns: False where the file system cannot do this; ``target`` is empty then
    """
    with open(source, "rb") as original, open(target, "wb") as copy:
        try:
            fcntl.ioctl(copy, FICLONE, original.fileno())
        except OSError as error:
            if error.errno in _NO_REFLINK:
                return False
            raise
        os.fsync(copy.fileno())
    return True


def sparse_copy(source: Path, target: Path) -> None:
    """Copy the parts of ``source`` that hold data; what is a hole there is one in ``target``."""
    with open(source, "rb") as original, open(target, "wb") as copy:
        size = os.fstat(original.fileno()).st_size
        os.ftruncate(copy.fileno(), size)
        for start, end in _data_ranges(original.fileno()):
            _copy_range(original.fileno(), copy.fileno(), start, end)
        os.fsync(copy.fileno())


def _data_ranges(descriptor: int) -> Iterator[tuple[int, int]]:
    end = 0
    while (start := _next_data(descriptor, end)) is not None:
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end


def _next_data(descriptor: int, offset: int) -> int | None:
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    while start < end:
        copied = os.copy_file_range(source, target, min(end - start, _COPY_AT_ONCE), start, start)
        if copied == 0:
            raise OSError(errno.EIO, "the file became shorter while it was copied")
        start += copied


def _shared_bytes(descriptor: int) -> int:
    """The bytes in extents that other files use too, by the kernel's FS_IOC_FIEMAP."""
    shared = start = 0
    while True:
        header = _FIEMAP_HEADER.pack(start, (1 << 64) - 1 - start, 0, 0, _EXTENTS_AT_ONCE, 0)
        buffer = bytearray(header + bytes(_EXTENTS_AT_ONCE * _FIEMAP_EXTENT.size))
        fcntl.ioctl(descriptor, _FIEMAP, buffer)
        mapped = _FIEMAP_HEADER.unpack_from(buffer)[3]
        for index in range(mapped):
            logical, _, length, flags = _FIEMAP_EXTENT.unpack_from(
                buffer, _FIEMAP_HEADER.size + index * _FIEMAP_EXTENT.size
            )
            if flags & _EXTENT_SHARED:
                shared += length
            start = logical + length
            if flags & _EXTENT_LAST:
                return shared
        if mapped == 0:
            return shared
