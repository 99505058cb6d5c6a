"""The program that the workload's tasks run: check what a volume must hold, then add to it. Standard library only.

``writer.py ACKS ROUND WRITES PAUSE TASK VOLUME=PATH [VOLUME=PATH ...]``

A record is acknowledged by a line in ``ACKS/VOLUME/acked`` only after it and its name were synced on the volume. The
directory ``ACKS`` lies outside of all volumes and outside of what the campaign breaks: whatever is acknowledged there
must be found by every later task, for ever.

Exit status: 0 all well, 3 acknowledged data is missing or damaged, 4 the volume belongs to somebody else, 5 the volume
cannot be written or read at the moment, which says nothing about its data.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path

LOST, FOREIGN, TROUBLE = 3, 4, 5
_RECORD_BYTES = 32 * 1024
_IDENTITY = "identity"


class DataLost(Exception):
    """Something that was acknowledged is not there."""


class ForeignVolume(Exception):
    """The volume holds what was written to another one."""


def content(volume: str, token: str) -> bytes:
    """What the record of that name on that volume holds."""
    return hashlib.shake_128(f"{volume}/{token}".encode()).digest(_RECORD_BYTES)


def acknowledged(acks: Path, volume: str) -> list[str]:
    """The names of the records that were acknowledged, oldest first; a line that is not complete yet is none."""
    try:
        lines = (acks / volume / "acked").read_text().split("\n")
    except FileNotFoundError:
        return []
    return lines[:-1]


def note(acks: Path, volume: str, kind: str, line: str) -> None:
    """Add a line to one of a volume's files; lines of several writers do not mix."""
    (acks / volume).mkdir(parents=True, exist_ok=True)
    with open(acks / volume / kind, "a") as file:
        file.write(f"{line}\n")


def check(path: Path, acks: Path, volume: str) -> None:
    """Compare a volume with what was acknowledged; a volume without any acknowledgement is made ours.

    :raises DataLost: it does not hold all of it
    :raises ForeignVolume: it holds somebody else's data
    :raises OSError: it cannot be read or written
    """
    expected = acknowledged(acks, volume)
    try:
        owner = (path / _IDENTITY).read_text()
    except FileNotFoundError:
        owner = ""
    if owner not in ("", volume):
        raise ForeignVolume(f"it holds the data of {owner!r}")
    for token in expected:
        try:
            found = (path / token).read_bytes()
        except FileNotFoundError:
            raise DataLost(f"{token} is missing; there are {sorted(os.listdir(path))}") from None
        if found != content(volume, token):
            raise DataLost(f"{token} has {len(found)} bytes, and not those that were written")
    if not owner:
        if expected:
            raise DataLost("its identity is missing")
        store(path, _IDENTITY, volume.encode())


def store(path: Path, name: str, data: bytes) -> None:
    """Write a file so that it is there, whole and synced, when this returns."""
    new = path / f".{name}.new"
    with open(new, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, path / name)
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def work(acks: Path, round_number: str, writes: int, pause: float, task: str, volumes: dict[str, Path]) -> int:
    """Check all volumes, then write to them in turns; returns the exit status."""
    try:
        for volume, path in volumes.items():
            check(path, acks, volume)
            note(acks, volume, "verified", round_number)
        for number in range(writes):
            for volume, path in volumes.items():
                token = f"{task}-{number}"
                store(path, token, content(volume, token))
                note(acks, volume, "acked", token)
            time.sleep(pause)
    except DataLost as error:
        note(acks, volume, "violations", f"data lost, found by {task}: {error}")
        return LOST
    except ForeignVolume as error:
        note(acks, volume, "violations", f"foreign data, found by {task}: {error}")
        return FOREIGN
    except OSError as error:
        sys.stderr.write(f"{volume}: {error}\n")
        return TROUBLE
    return 0


def main(arguments: list[str]) -> int:
    """Read the command line and work."""
    acks, round_number, writes, pause, task, *named = arguments
    pairs = (one.partition("=") for one in named)
    return work(
        Path(acks), round_number, int(writes), float(pause), task, {name: Path(path) for name, _, path in pairs}
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
