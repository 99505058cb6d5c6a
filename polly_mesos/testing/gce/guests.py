"""The guests' view: a metadata server for each instance, and the disks that its kernel shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from polly_mesos.model import Json
from polly_mesos.testing.gce.guest_disks import GuestDisks
from polly_mesos.testing.gce.state import World

if TYPE_CHECKING:
    from polly_mesos.testing.gce.instances import Instances


class Guests:
    """The guests of one project.

    :param root: the tree of the guest of node N is ``root/N``, as a driver's ``host_root`` may name it
    :param plug: whether they get real block devices
    :ivar zone: where the instances of nodes that ask for the first time are launched
    :ivar machine_type: of which kind they are
    """

    instances: Instances

    def __init__(self, world: World, root: Path, *, plug: bool) -> None:
        self._world = world
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

    def metadata(self, node: str, path: str, flavour: str) -> tuple[int, str]:
        """Status and text of an answer of the metadata server (https://cloud.google.com/compute/docs/metadata)."""
        if flavour != "Google":
            return 403, "Missing required header: Metadata-Flavor"
        if not node:
            return 404, "no instance"
        instance = self.instance_of(node)
        zone = instance["zone"].rpartition("/")[2]
        known = {
            "instance/name": instance["name"],
            "instance/id": instance["id"],
            "instance/zone": f"projects/123456789/zones/{zone}",
            "instance/machine-type": f"projects/123456789/machineTypes/{instance['machineType'].rpartition('/')[2]}",
            "project/project-id": self._world.project,
        }
        key = path.removeprefix("/computeMetadata/v1/")
        return (200, known[key]) if key in known else (404, "not found")

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
