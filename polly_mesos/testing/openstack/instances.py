"""The disks of instances: volumes as Cinder's NFS driver has them, plugged into made-up hosts as virtio disks."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polly_mesos.testing.block_hosts import HostTree

_SERIAL_LENGTH = 20
"""Characters of the volume's id that a virtio disk can show (Nova sets the whole id; virtio-blk has 20 bytes)."""


@dataclass
class _Disk:
    name: str
    image: Path
    raw: Path | None = None
    """The contents of an image that is not raw, while an instance has it."""


class Instances:
    """The hosts' trees of /sys and /dev, below ``root`` by node."""

    def __init__(self, root: Path, share: Path) -> None:
        self.root = root
        self._share = share
        self._lock = threading.RLock()
        self._trees: dict[str, HostTree] = {}
        self._disks: dict[tuple[str, str], _Disk] = {}
        root.mkdir()

    def boot(self, node: str) -> None:
        """Make the tree of a host."""
        with self._lock:
            if node not in self._trees:
                self._trees[node] = HostTree(self.root / node)

    def plug(self, node: str, volume: str, connection: Mapping[str, Any]) -> None:
        """Let the volume appear in the host under the next free name.

        What is not raw is unpacked for that time: the kernel here cannot map qcow2.

        :param connection: what Cinder told Nova: the NFS share's file and its format
        """
        with self._lock:
            tree = self._trees[node]
            image = self._share / str(connection["name"])
            disk = _Disk(_free_name(tree.names()), image)
            if connection.get("format") == "qcow2":
                disk.raw = self.root / f"{volume}.raw"
                _qemu("convert", "-f", "qcow2", "-O", "raw", str(image), str(disk.raw))
            tree.plug(disk.name, disk.raw or image, {"serial": volume[:_SERIAL_LENGTH]})
            self._disks[node, volume] = disk

    def in_use(self, node: str, volume: str) -> bool:
        """Whether a file system on the disk is mounted, or something else has it for itself."""
        with self._lock:
            disk = self._disks.get((node, volume))
            if disk is None:
                return False
            try:
                os.close(os.open(self.root / node / "dev" / disk.name, os.O_RDONLY | os.O_EXCL))
            except OSError:
                return True
            return False

    def unplug(self, node: str, volume: str) -> None:
        """Take the disk out of the host; succeeds where it has none."""
        with self._lock:
            disk = self._disks.pop((node, volume), None)
            if disk is None:
                return
            self._trees[node].unplug(disk.name)
            if disk.raw is not None:
                _qemu("convert", "-n", "-f", "raw", "-O", "qcow2", str(disk.raw), str(disk.image))
                disk.raw.unlink()

    def resize(self, node: str, volume: str) -> None:
        """Let the host see the size that the volume has now."""
        with self._lock:
            self._trees[node].resize(self._disks[node, volume].name)

    def close(self) -> None:
        """Unplug everything."""
        with self._lock:
            for node, volume in list(self._disks):
                self.unplug(node, volume)
            for tree in self._trees.values():
                tree.close()


def _free_name(taken: list[str]) -> str:
    return next(name for letter in "bcdefghijklmnopqrstuvwxyz" if (name := f"vd{letter}") not in taken)


def _qemu(*arguments: str) -> None:
    program = shutil.which("qemu-img", path=os.environ.get("PATH", os.defpath) + ":/usr/bin") or "qemu-img"
    subprocess.run([program, *arguments], check=True, capture_output=True)
