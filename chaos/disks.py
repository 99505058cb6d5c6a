"""Small file systems of the campaign's own, which can be full and empty again; and loop devices that are left."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import suppress
from pathlib import Path

from polly_mesos.errors import LocalMesosError

_BALLOON = ".balloon"
_SMALLEST = 4096


class SmallDisk:
    """A file system in memory, of a fixed size, mounted on a directory. Needs root."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def mount(self, size_mb: int) -> None:
        """Make the directory, and mount it.

        :raises LocalMesosError: the kernel does not allow it
        """
        self.directory.mkdir(parents=True)
        options = f"size={size_mb}m,mode=0755"
        _run("mount", "-t", "tmpfs", "-o", options, "polly-chaos", str(self.directory))

    def fill(self) -> None:
        """Take all that is free, to the last block."""
        descriptor = os.open(self.directory / _BALLOON, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            step = 1 << 30
            while step >= _SMALLEST:
                try:
                    os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, step)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    step //= 2
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """Give it back."""
        (self.directory / _BALLOON).unlink(missing_ok=True)


def loop_devices(below: Path) -> dict[Path, Path]:
    """The loop devices whose file lies below a directory, with that file; also where the file was deleted."""
    found = {}
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):  # it was let go of meanwhile
            file = Path(backing.read_text().rstrip("\n").removesuffix(" (deleted)"))
            if file.is_relative_to(below):
                found[Path("/dev") / backing.parent.parent.name] = file
    return found


def detach(device: Path) -> None:
    """Let go of a loop device; one that is mounted goes with its last mount."""
    subprocess.run(["losetup", "--detach", str(device)], check=False, capture_output=True)


def _run(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise LocalMesosError(f"{' '.join(command)}: {ran.stderr.strip()}")
