"""A host's disks for tests: a tree of ``/sys`` and ``/dev`` whose disks are real block devices. Needs root.

A simulated platform plugs a volume in as a loop device under the name and the serial that the real one would give it.
The host side of a driver is told where the tree is (``host_root``), and works on it as on a host's own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

_SECTOR = 512
_LOOP_SET_CAPACITY = 0x4C07


class HostTree:
    """The disks of one simulated host below ``root``. Safe to use from several threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._devices: dict[str, str] = {}
        for directory in ("sys/block", "dev"):
            (root / directory).mkdir(parents=True, exist_ok=True)

    def plug(
        self, name: str, image: Path, files: Mapping[str, str | bytes], links: Mapping[str, str] | None = None
    ) -> None:
        """Let a disk appear, all at once.

        :param image: its contents, which stay when it is unplugged
        :param files: what is in its directory of /sys/block beside ``dev`` and ``size``, as ``device/serial``
        :param links: symbolic links that udev would make below /dev, and where they lead, as ``disk/by-id/x`` and
            ``../../sdb``
        """
        with self._lock:
            if name in self._devices:
                raise ValueError(f"{self.root} has a disk {name} already")
            device = subprocess.run(
                ["losetup", "--find", "--show", str(image)], check=True, capture_output=True, text=True
            ).stdout.strip()
            self._devices[name] = device
            number = os.stat(device).st_rdev
            node = self.root / "dev" / name
            os.mknod(node, 0o600 | stat.S_IFBLK, number)
            for link, target in (links or {}).items():
                (self.root / "dev" / link).parent.mkdir(parents=True, exist_ok=True)
                (self.root / "dev" / link).symlink_to(target)
            made = self.root / "sys" / f".{name}"
            contents: dict[str, str | bytes] = {
                **files,
                "dev": f"{os.major(number)}:{os.minor(number)}\n",
                "size": f"{image.stat().st_size // _SECTOR}\n",
            }
            for path, content in contents.items():
                (made / path).parent.mkdir(parents=True, exist_ok=True)
                (made / path).write_bytes(content.encode() if isinstance(content, str) else content)
            made.rename(self.root / "sys/block" / name)

    def unplug(self, name: str) -> None:
        """Let a disk go; one that is mounted goes with its last mount, as the kernel has it. Succeeds without one."""
        with self._lock:
            self._unplug(name)

    def resize(self, name: str) -> None:
        """Show the size that its image has now."""
        with self._lock:
            device = self._devices[name]
            descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(descriptor, _LOOP_SET_CAPACITY)
                size = os.lseek(descriptor, 0, os.SEEK_END)
            finally:
                os.close(descriptor)
            (self.root / "sys/block" / name / "size").write_text(f"{size // _SECTOR}\n")

    def names(self) -> list[str]:
        """The disks that are plugged in, in order."""
        with self._lock:
            return sorted(self._devices)

    def close(self) -> None:
        """Unplug everything."""
        with self._lock:
            for name in list(self._devices):
                self._unplug(name)

    def _unplug(self, name: str) -> None:
        device = self._devices.pop(name, None)
        if device is None:
            return
        shutil.rmtree(self.root / "sys/block" / name, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            (self.root / "dev" / name).unlink()
        for link in (self.root / "dev").rglob("*"):
            if link.is_symlink() and Path(os.readlink(link)).name == name:
                link.unlink()
        subprocess.run(["losetup", "--detach", device], check=True, capture_output=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
