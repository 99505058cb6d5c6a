"""The disks of instances: volumes as Cinder's NFS driver has them, plugged into made-up hosts as virtio disks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polly_mesos.testing.block_hosts import HostTree
from polly_mesos.testing.openstack.configuration import FIXED_KEY

_SERIAL_LENGTH = 20
"""Characters of the volume's id that a virtio disk can show (Nova sets the whole id; virtio-blk has 20 bytes)."""

_KEY = ("--object", f"secret,id=key,data={FIXED_KEY}")
"""What the hypervisor gets of the key manager."""


@dataclass
class _Disk:
    name: str
    image: Path
    format: str
    raw: Path | None = None
    """The contents of an image that is not raw, while an instance has it."""

    @property
    def opened(self) -> str:
        """How QEMU opens the image, as ``--image-opts`` has it. Each encrypted layer of qcow2 wants the key."""
        if self.format == "raw":
            return f"driver=luks,key-secret=key,file.filename={self.image}"
        chain = json.loads(_qemu("info", "--backing-chain", "--output", "json", str(self.image)))
        keys = [f"{'backing.' * depth}encrypt.key-secret=key" for depth, one in enumerate(chain) if _has_key(one)]
        return ",".join([f"driver=qcow2,file.filename={self.image}", *keys])


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

        What is not raw is unpacked for that time: the kernel here cannot map qcow2. What is encrypted is decrypted:
        a hypervisor does that, and its guest sees none of it.

        :param connection: what Cinder told Nova: the NFS share's file its format, and whether it is encrypted
        """
        with self._lock:
            tree = self._trees[node]
            image = self._share / str(connection["name"])
            disk = _Disk(_free_name(tree.names()), image, str(connection.get("format")))
            if disk.format == "qcow2" or connection.get("encrypted"):
                disk.raw = self.root / f"{volume}.raw"
                _qemu("convert", *_KEY, "--image-opts", disk.opened, "-O", "raw", str(disk.raw))
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
                _qemu("convert", "-n", *_KEY, "-f", "raw", str(disk.raw), "--target-image-opts", disk.opened)
                disk.raw.unlink()

    def resize(self, node: str, volume: str) -> None:
        """Let the host see the size that the volume has now."""
        with self._lock:
            disk = self._disks[node, volume]
            if disk.raw is not None:
                shown = json.loads(_qemu("info", *_KEY, "--output", "json", "--image-opts", disk.opened))
                os.truncate(disk.raw, shown["virtual-size"])
            self._trees[node].resize(disk.name)

    def close(self) -> None:
        """Unplug everything."""
        with self._lock:
            for node, volume in list(self._disks):
                self.unplug(node, volume)
            for tree in self._trees.values():
                tree.close()


def _has_key(layer: Mapping[str, Any]) -> bool:
    return "encrypt" in layer.get("format-specific", {}).get("data", {})


def _free_name(taken: list[str]) -> str:
    return next(name for letter in "bcdefghijklmnopqrstuvwxyz" if (name := f"vd{letter}") not in taken)


def _qemu(*arguments: str) -> bytes:
    program = shutil.which("qemu-img", path=os.environ.get("PATH", os.defpath) + ":/usr/bin") or "qemu-img"
    return subprocess.run([program, *arguments], check=True, capture_output=True).stdout
