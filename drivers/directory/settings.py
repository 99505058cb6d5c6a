"""What polly.yml says about a service of this driver."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DirectorySettings:
    """Where the volumes' directories are.

    :param directory: absolute path; the same directory on the scheduler's machine and on every host
    :param capacity: bytes that volumes may be promised in all; None for the free space of the file system below and
        what the volumes have in them, which is measured by looking at every file
    :param zone: the zone that the directory stands in, empty for none
    """

    directory: str
    capacity: int | None = None
    zone: str = ""

    def __post_init__(self) -> None:
        if not os.path.isabs(self.directory):
            raise ValueError(f"directory must be an absolute path, and {self.directory!r} is not")
        if self.capacity is not None and self.capacity <= 0:
            raise ValueError(f"capacity must be more than 0 bytes, and {self.capacity} is not")
