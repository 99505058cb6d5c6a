"""The guests' view: a metadata server for each instance, and the disks that its kernel shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from polly_mesos.model import Json
from polly_mesos.testing.gce.guest_disks import GuestDisks
from polly_mesos.testing.gce.metadata import Metadata
from polly_mesos.testing.gce.state import World
from polly_mesos.testing.gce.tokens import Tokens

if TYPE_CHECKING:
    from polly_mesos.testing.gce.instances import Instances


class Guests:
    """The guests of one project.

    :param root: the tree of the guest of node N is ``root/N``, as a driver's ``host_root`` may name it
    :param plug: whether they get real block devices
    :ivar metadata: their metadata servers
    :ivar zone: where the instances of nodes that ask for the first time are launched
    :ivar machine_type: of which kind they are
    """

    instances: Instances

    def __init__(self, world: World, tokens: Tokens, root: Path, *, plug: bool) -> None:
        self._world = world
        self.metadata = Metadata(world.project, tokens, self.instance_of, self._kind_of)
        self.root = root
        self._plug = plug
        self._disks: dict[str, GuestDisks] = {}
        self.zone = "europe-west3-a"
        self.machine_type = "n2-standard-4"

    def instance_of(self, node: str) -> Json:
        """The instance that a node is, launched when it asks first."""
        name = instance_name(node)
        with self._world.lock:
            found = [one for one in self._world.resources.values() if one["kind"] == "compute#instance"]
            instance = next((one for one in found if one["name"] == name), None)
            instance = instance or self.instances.launch(name, self.zone, self.machine_type)
            (self.root / node / "dev").mkdir(parents=True, exist_ok=True)
            (self.root / node / "sys/block").mkdir(parents=True, exist_ok=True)
            if not (self.root / name).is_symlink():
                (self.root / name).symlink_to(node)
            return instance

    def _kind_of(self, attached: Json) -> str:
        """A disk's kind, as the metadata server calls it."""
        if attached["type"] == "SCRATCH":
            return "LOCAL-SSD"
        disk = self._world.resources.get(self._world.partial(attached["source"]), {})
        return str(disk.get("type", "pd-balanced")).rpartition("/")[2].replace("pd-", "persistent-").upper()

    def plug(self, instance: Json, attached: Json, disk: Json) -> None:
        """A disk appears."""
        if self._plug:
            self._disks_of(instance).plug(attached, self._world.image(disk))

    def unplug(self, instance: Json, attached: Json) -> None:
        """The disk is gone from the guest's kernel."""
        if self._plug:
            self._disks_of(instance).unplug(attached["deviceName"])

    def resized(self, instance: Json, attached: Json) -> None:
        """The guest's kernel sees the size that the disk has now."""
        if self._plug and instance["status"] == "RUNNING":
            self._disks_of(instance).resize(attached["deviceName"])

    def close(self) -> None:
        """All disks are unplugged."""
        for disks in self._disks.values():
            disks.tree.close()

    def _disks_of(self, instance: Json) -> GuestDisks:
        name = instance["name"]
        if name not in self._disks:
            (self.root / name).mkdir(parents=True, exist_ok=True)
            self._disks[name] = GuestDisks((self.root / name).resolve())
        return self._disks[name]


def instance_name(node: str) -> str:
    """The instance of a node ``host:port``."""
    return f"node-{re.sub('[^a-z0-9]', '-', node.lower())}"
