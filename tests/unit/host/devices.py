"""Things to find on a device, written by hand so that no test depends on who has which tools installed."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import struct
import subprocess
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path

MB = 1024 * 1024
_BLOCK = 4096
FOREIGN = "9d4c1f6e-3a57-4a0e-8a4f-6f2f2c1d7b11"


def blank(path: Path, size: int = 32 * MB) -> Path:
    """A sparse file that stands for a blank device."""
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def write(path: Path, offset: int, data: bytes) -> None:
    """Write in the middle of a file."""
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def digest(path: Path) -> str:
    """All bytes of the device, to see that nothing was changed; holes count as the zeros that they read as."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        end = 0
        while (start := _next_data(file.fileno(), end)) is not None:
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            for offset in range(start, end, _BLOCK):
                if any(block := os.pread(file.fileno(), min(_BLOCK, end - offset), offset)):
                    digest.update(offset.to_bytes(8) + block)
    return digest.hexdigest()


def _next_data(descriptor: int, offset: int) -> int | None:
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise


def ext4(path: Path) -> None:
    """Somebody else's ext4."""
    subprocess.run(["/sbin/mkfs.ext4", "-q", "-U", FOREIGN, str(path)], check=True)


def xfs(path: Path) -> None:
    """Somebody else's XFS: its superblock, as the file would have to be 300 MB for mkfs.xfs."""
    superblock = bytearray(512)
    struct.pack_into(">4sIQQQ16s", superblock, 0, b"XFSB", 4096, 8192, 0, 0, uuid.UUID(FOREIGN).bytes)
    struct.pack_into(">QQQQIIIII", superblock, 48, 8, 64, 65, 66, 1, 2048, 4, 0, 1605)
    struct.pack_into(">HHHH", superblock, 100, 0xB4A4, 512, 512, 8)
    superblock[120:128] = bytes([12, 9, 9, 3, 11, 0, 0, 25])
    write(path, 0, bytes(superblock))


def lvm(path: Path) -> None:
    """A label as pvcreate writes it, with its checksum."""
    body = struct.pack("<I8s32s", 32, b"LVM2 001", b"o7nz8fKEGAWaPXEf1O38JEFDs6GTQC1d").ljust(512 - 20, b"\0")
    checksum = zlib.crc32(body, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    write(path, 512, struct.pack("<8sQI", b"LABELONE", 1, checksum) + body)


def luks(path: Path) -> None:
    """The header of LUKS 1."""
    header = bytearray(592)
    struct.pack_into(">6sH32s32s32s", header, 0, b"LUKS\xba\xbe", 1, b"aes", b"xts-plain64", b"sha256")
    header[168 : 168 + 36] = FOREIGN.encode()
    write(path, 0, bytes(header))


def swap(path: Path) -> None:
    """The first page of swap space."""
    page = bytearray(4096)
    struct.pack_into("<III16s", page, 1024, 1, 8191, 0, uuid.UUID(FOREIGN).bytes)
    page[4086:4096] = b"SWAPSPACE2"
    write(path, 0, bytes(page))


def partitions(path: Path) -> None:
    """A DOS partition table with one Linux partition."""
    entry = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0x83, b"\0\0\0", 2048, 32768)
    write(path, 446, entry)
    write(path, 510, b"\x55\xaa")


def garbage(path: Path) -> None:
    """What an encrypted or damaged device looks like: no signature at all."""
    write(path, 64 * 1024, random.Random(7).randbytes(64 * 1024))


def garbage_at_the_end(path: Path) -> None:
    """Data in the last sectors alone, where RAID keeps its own."""
    write(path, path.stat().st_size - 4096, random.Random(8).randbytes(4096))


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "ext4": (ext4, f"ext4 data {FOREIGN}"),
    "xfs": (xfs, f"xfs data {FOREIGN}"),
    "lvm": (lvm, "an LVM physical volume"),
    "luks": (luks, "a LUKS encrypted volume"),
    "swap": (swap, "swap space"),
    "partition table": (partitions, "a DOS partition table"),
    "garbage": (garbage, "data of no known kind, beginning at byte 65536"),
    "garbage at the end": (garbage_at_the_end, "data of no known kind, beginning at byte 33550336"),
}
"""What may be on a device: how it gets there, and the words for it."""
