"""What is on a device: by what ``blkid`` and ``wipefs`` recognise, and by looking at the bytes.

Both programs know signatures; data without any (random garbage, a file system half made) is only found by its bytes.
The library that both are made of is asked directly; where it is not installed, the programs are.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from polly_mesos.errors import HostError
from polly_mesos.executor.host import libblkid, programs

EDGE = 1024 * 1024
"""Bytes at the device's beginning and at its end that must be zero: all known signatures lie there."""

_ZEROS = bytes(EDGE)
_TIMEOUT = 60.0
_BLKID_NOTHING = 2
_BLKID_CONTRADICTORY = 8
_WORDS = {
    "LVM2_member": "an LVM physical volume",
    "crypto_LUKS": "a LUKS encrypted volume",
    "swap": "swap space",
    "dos": "a DOS partition table",
    "gpt": "a GPT partition table",
    "PMBR": "the protective record of a GPT partition table",
    "linux_raid_member": "a member of a Linux RAID",
}


@dataclass(frozen=True, slots=True)
class Signature:
    """One thing that the programs recognised."""

    type: str
    uuid: str

    def __str__(self) -> str:
        words = _WORDS.get(self.type, f"{self.type} data" if self.type else "a signature without a name")
        return f"{words} {self.uuid}".rstrip()


@dataclass(frozen=True, slots=True)
class Found:
    """All that is on a device.

    :param data_at: offset of the first byte that is not zero within the first and last :data:`EDGE` bytes, None where
        there is none
    """

    signatures: tuple[Signature, ...]
    data_at: int | None

    @property
    def blank(self) -> bool:
        """Whether there is nothing at all."""
        return not self.signatures and self.data_at is None

    def __str__(self) -> str:
        if self.signatures:
            return " and ".join(str(signature) for signature in self.signatures)
        if self.data_at is not None:
            return f"data of no known kind, beginning at byte {self.data_at}"
        return "nothing"


def probe(device: str) -> Found:
    """Look at a device in every way.

    :raises HostError: it cannot be looked at
    :raises MissingTool: neither libblkid nor blkid and wipefs are installed
    """
    data_at = first_data(device)
    signatures = _by_library(device) if libblkid.is_installed() else _by_programs(device)
    return Found(tuple(dict.fromkeys(signatures)), data_at)


def first_data(device: str) -> int | None:
    """The offset of the first byte that is not zero at the device's beginning or end, None where there is none.

    :raises HostError: the device cannot be read
    """
    try:
        descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.lseek(descriptor, 0, os.SEEK_END)
            for start in sorted({0, max(0, size - EDGE)}):
                data = os.pread(descriptor, EDGE, start)
                # Comparing is many times quicker than looking for the first byte, and the device mostly is blank.
                if data != _ZEROS[: len(data)]:
                    return start + len(data) - len(data.lstrip(b"\0"))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise HostError(f"{device} cannot be read: {error}") from error
    return None


def _by_library(device: str) -> list[Signature]:
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return [Signature(*found) for found in libblkid.signatures(descriptor)]
    finally:
        os.close(descriptor)


def _by_programs(device: str) -> list[Signature]:
    # Each takes longer to start than to look, so both start before either is waited for.
    blkid = programs.start("blkid", "-p", "-o", "export", device)
    wipefs = programs.start("wipefs", "--no-act", "--json", "--output", "TYPE,UUID", device)
    by_blkid = programs.finish(blkid, _TIMEOUT, (0, _BLKID_NOTHING, _BLKID_CONTRADICTORY))
    by_wipefs = programs.finish(wipefs, _TIMEOUT)
    signatures = [*_read_wipefs(by_wipefs), *_read_blkid(by_blkid)]
    if blkid.returncode != _BLKID_NOTHING and not signatures:
        signatures.append(Signature("", ""))
    return signatures


def _read_wipefs(output: str) -> list[Signature]:
    entries = json.loads(output)["signatures"] if output.strip() else []
    return [Signature(entry["type"] or "", entry["uuid"] or "") for entry in entries]


def _read_blkid(output: str) -> list[Signature]:
    fields = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    found = []
    if "TYPE" in fields:
        found.append(Signature(fields["TYPE"], fields.get("UUID", "")))
    if "PTTYPE" in fields:
        found.append(Signature(fields["PTTYPE"], fields.get("PTUUID", "")))
    return found
