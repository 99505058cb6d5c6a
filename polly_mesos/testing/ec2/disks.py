"""The blocks behind the volumes: one sparse file each, seen by instances as a disk in a made-up host tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from polly_mesos.testing.block_hosts import HostTree

_GIB = 1 << 30
_XEN_MAJOR, _EXTENDED = 202, 1 << 28


class Disks:
    """Images below a directory, and the trees of the hosts that have them.

    :param directory: holds ``images`` and, for each node, ``hosts/NODE``; None where nothing is to be plugged in
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._trees: dict[str, HostTree] = {}
        self._names: dict[tuple[str, str], str] = {}
        if directory is not None:
            (directory / "images").mkdir(parents=True, exist_ok=True)

    def root_of(self, node: str) -> Path:
        """Where the host's ``/sys`` and ``/dev`` are."""
        if self._directory is None:
            raise RuntimeError("this counterpart was started without a directory for its disks")
        return self._directory / "hosts" / node

    def create(self, volume: str, size: int, snapshot: str = "") -> None:
        """The blocks of a new volume of ``size`` GiB."""
        if self._directory is None:
            return
        image = self._image(volume)
        if snapshot:
            self._copy(self._image(snapshot), image)
        with image.open("ab") as file:
            file.truncate(size * _GIB)

    def copy(self, volume: str, snapshot: str) -> None:
        """The blocks of a new snapshot, as they are now."""
        if self._directory is not None:
            os.sync()
            self._copy(self._image(volume), self._image(snapshot))

    def delete(self, name: str) -> None:
        """The blocks of a volume or snapshot are no longer needed."""
        if self._directory is not None:
            self._image(name).unlink(missing_ok=True)

    def resize(self, volume: str, size: int) -> None:
        """More blocks, which the hosts that have the volume see at once."""
        if self._directory is None:
            return
        with self._image(volume).open("ab") as file:
            file.truncate(size * _GIB)
        for (node, plugged), name in self._names.items():
            if plugged == volume:
                self._trees[node].resize(name)

    def plug(self, node: str, volume: str, device: str, *, nitro: bool) -> None:
        """Show a volume to a host: as an NVMe disk with its serial number, or by its name on Xen."""
        if self._directory is None or (node, volume) in self._names:
            return
        tree = self._tree(node)
        if nitro:
            name = next(name for number in range(1, 1000) if (name := f"nvme{number}n1") not in tree.names())
            files = {
                "device/serial": f"{volume.replace('-', ''):<20}\n",
                "device/model": "Amazon Elastic Block Store\n",
            }
        else:
            name = xen_name(device)
            files = {"device/nodename": f"device/vbd/{xen_number(device)}\n"}
        tree.plug(name, self._image(volume), files)
        self._names[node, volume] = name

    def unplug(self, node: str, volume: str) -> None:
        """Take a volume from a host, which may be using it."""
        if (name := self._names.pop((node, volume), None)) is not None:
            self._tree(node).unplug(name)

    def is_used(self, node: str, volume: str) -> bool:
        """Whether a process or a mount on the host has the disk open."""
        name = self._names.get((node, volume))
        return name is not None and is_open(self.root_of(node) / "dev" / name)

    def close(self) -> None:
        """Unplug everything, and remove the images."""
        for tree in self._trees.values():
            tree.close()
        self._trees.clear()
        self._names.clear()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _tree(self, node: str) -> HostTree:
        if node not in self._trees:
            self._trees[node] = HostTree(self.root_of(node))
        return self._trees[node]

    def _image(self, name: str) -> Path:
        assert self._directory is not None
        return self._directory / "images" / f"{name}.img"

    def _copy(self, source: Path, target: Path) -> None:
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", str(source), str(target)], check=True)


def xen_name(device: str) -> str:
    """The kernel's name for an attachment point on Xen: /dev/sdf becomes xvdf."""
    return re.sub(r"^/dev/(sd|xvd)", "xvd", device)


def xen_number(device: str) -> int:
    """The virtual device's number that Xen gives an attachment point.

    Source: ``docs/man/xen-vbd-interface.7`` of Xen.
    """
    letters = re.sub(r"^/dev/(sd|xvd)", "", device)
    index = 0
    for letter in letters:
        index = index * 26 + ord(letter) - ord("a") + 1
    index -= 1
    return _XEN_MAJOR << 8 | index << 4 if index < 16 else _EXTENDED | index << 8


def is_open(device: Path, proc: Path = Path("/proc")) -> bool:
    """Whether any process has the block device open, or any mount stands on it."""
    try:
        number = os.stat(device).st_rdev
    except FileNotFoundError:
        return False
    mounted = f" {os.major(number)}:{os.minor(number)} "
    checks: tuple[Callable[[Path], bool], ...] = (
        lambda process: any(_is_number(link, number) for link in (process / "fd").iterdir()),
        lambda process: mounted in (process / "mountinfo").read_text(),
    )
    for process in proc.glob("[0-9]*"):
        for check in checks:
            try:
                if check(process):
                    return True
            except OSError:
                continue
    return False


def _is_number(link: Path, number: int) -> bool:
    try:
        return os.stat(link).st_rdev == number
    except OSError:
        return False
