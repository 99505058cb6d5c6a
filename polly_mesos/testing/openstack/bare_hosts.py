"""Hosts that are no instances: they reach Cinder's share by themselves, with the os-brick that Cinder has.

The kernel of a test's machine may have no NFS. os-brick takes a share for mounted that is mounted where it would mount
it; so the file system behind Cinder's share is shown to each host there.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from drivers.loop_devices import bindings
from polly_mesos.testing.openstack.environment import search_path


class BareHosts:
    """The hosts' directories below ``root``, by node.

    :param share: where the share is mounted for Cinder, under the name that os-brick gives it too
    :param python: the interpreter with os-brick
    """

    def __init__(self, root: Path, share: Path, python: str) -> None:
        self.root = root
        self.python = python
        self._share = share
        self._mounted: list[Path] = []
        root.mkdir()

    def add(self, *nodes: str) -> None:
        """Let hosts reach the share; those that do already stay as they are."""
        for node in nodes:
            place = self.root / node / "mounts" / self._share.name
            if place not in self._mounted:
                place.mkdir(parents=True)
                self._run("mount", "--bind", str(self._share), str(place))
                self._mounted.append(place)

    def settings(self, **changes: Any) -> dict[str, Any]:
        """What a service's settings have beside the login."""
        return {
            "attach_by": "cinder",
            "os_brick_python": self.python,
            "host_directory": f"{self.root}/{{node}}",
            "host_root": "/",
            **changes,
        }

    def bound(self) -> list[Path]:
        """The loop devices that hosts have bound to volumes, by their directories in /sys/block."""
        return [binding.entry for binding in bindings() if Path(binding.file).is_relative_to(self.root)]

    def close(self) -> None:
        """Take the share away from all hosts, and from what a test that failed left bound."""
        for entry in self.bound():
            self._run("losetup", "--detach", f"/dev/{entry.name}")
        while self._mounted:
            self._run("umount", str(self._mounted.pop()))

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PATH": search_path()})
