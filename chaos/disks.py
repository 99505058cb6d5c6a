"""Small file systems of the campaign's own, which can be full and empty again; and loop devices that are left."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import suppress
from pathlib import Path

from drivers.loop_devices import Binding, bindings, is_bound_to
from polly_mesos.errors import HostError, LocalMesosError

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
    images = {image.name: image for image in below.rglob("*.img")}
    found = {}
    for binding in bindings():
        file = Path(binding.file.removesuffix(" (deleted)"))
        if not file.is_relative_to(below):
            # Of a file that was bound in a mount namespace which is gone, the kernel shows only the end of the path.
            if (image := images.get(binding.name)) is None or not _is_bound_to(binding, image):
                continue
            file = image
        found[Path("/dev") / binding.entry.name] = file
    return found


def _is_bound_to(binding: Binding, image: Path) -> bool:
    with suppress(HostError):  # it was let go of meanwhile
        return is_bound_to(binding, str(image))
    return False


def detach(device: Path) -> None:
    """Let go of a loop device; one that is mounted goes with its last mount."""
    subprocess.run(["losetup", "--detach", str(device)], check=False, capture_output=True)


def _run(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise LocalMesosError(f"{' '.join(command)}: {ran.stderr.strip()}")
