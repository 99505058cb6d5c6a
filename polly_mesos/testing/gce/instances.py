"""Instances and the disks that they have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from polly_mesos.model import Json
from polly_mesos.testing.gce.catalogue import MACHINE_TYPES, ZONES, MachineType
from polly_mesos.testing.gce.errors import ApiError, OperationError, invalid, invalid_field
from polly_mesos.testing.gce.operations import Operations
from polly_mesos.testing.gce.schema import Call
from polly_mesos.testing.gce.state import World
from polly_mesos.testing.gce.tokens import CLOUD_PLATFORM

_CAN_CHANGE = {"RUNNING", "TERMINATED", "STOPPED", "SUSPENDED"}
_AUTO_DELETED = {"kind": "compute#attachedDisk", "mode": "READ_WRITE", "autoDelete": True}
_KNOWN = {"source", "deviceName", "mode", "autoDelete", "boot", "type", "kind"}


class Plugs(Protocol):
    """What makes disks visible to the guests."""

    def plug(self, instance: Json, attached: Json, disk: Json) -> None:
        """The guest gets the device."""

    def unplug(self, instance: Json, attached: Json) -> None:
        """The guest loses the device."""

    def resized(self, instance: Json, attached: Json) -> None:
        """The device has grown."""


class Instances:
    """The methods of ``instances``, and the tests' own hands on them."""

    def __init__(self, world: World, operations: Operations, plugs: Plugs, account: str) -> None:
        self._world = world
        self._account = account
        self._operations = operations
        self._plugs = plugs

    def launch(
        self,
        name: str,
        zone: str,
        machine_type: str = "n2-standard-4",
        *,
        scopes: Sequence[str] = (CLOUD_PLATFORM,),
        local_ssds: int = 0,
    ) -> Json:
        """An instance that runs, with its boot disk.

        :param scopes: of its service account's tokens; without any it has no account
        """
        with self._world.lock:
            partial = f"zones/{zone}/instances/{name}"
            interface = "NVME" if MACHINE_TYPES[machine_type].nvme else "SCSI"
            instance = self._world.new("instance", partial, {"name": name})
            instance |= {
                "zone": self._world.link(f"zones/{zone}"),
                "machineType": self._world.link(f"zones/{zone}/machineTypes/{machine_type}"),
                "status": "RUNNING",
                "serviceAccounts": [{"email": self._account, "scopes": list(scopes)}] if scopes else [],
                "disks": [
                    {**_AUTO_DELETED, "boot": True, "index": 0, "deviceName": "persistent-disk-0", "type": "PERSISTENT"}
                    | {"source": self._world.link(f"zones/{zone}/disks/{name}"), "interface": interface},
                    *(
                        {**_AUTO_DELETED, "boot": False, "index": number, "type": "SCRATCH", "interface": "NVME"}
                        | {"deviceName": f"local-ssd-{number - 1}"}
                        for number in range(1, local_ssds + 1)
                    ),
                ],
            }
            self._world.resources[partial] = instance
            return instance

    def set_status(self, name: str, zone: str, status: str) -> None:
        """The instance is stopped or started, by somebody else than Polly: its guest sees disks only while it runs."""
        with self._world.lock:
            instance = self._world.find(f"zones/{zone}/instances/{name}")
            ran, instance["status"] = instance["status"] == "RUNNING", status
            for attached in _attached(instance):
                disk = self._world.find(self._world.partial(attached["source"]))
                if ran and status != "RUNNING":
                    self._plugs.unplug(instance, attached)
                elif not ran and status == "RUNNING":
                    self._plugs.plug(instance, attached, disk)

    def remove(self, name: str, zone: str) -> None:
        """The instance is deleted by somebody else; its disks stay, and nobody has them."""
        with self._world.lock:
            instance = self._world.find(f"zones/{zone}/instances/{name}")
            for attached in _attached(instance):
                self._let_go(instance, attached)
            del self._world.resources[f"zones/{zone}/instances/{name}"]

    def get(self, call: Call) -> Json:
        """One instance."""
        return self._instance(call)

    def attach(self, call: Call) -> Json:
        """Give a disk to an instance. Whether somebody else has it is found out when the operation is carried out."""
        instance, body = self._instance(call), call.body
        if unknown := set(body) - _KNOWN:
            raise invalid_field("resource", sorted(unknown), "The counterpart does not know this; nothing is ignored.")
        if not body.get("source"):
            raise ApiError(400, "required", "Required field 'resource.source' not specified")
        partial = self._world.partial(body["source"])
        disk = self._world.find(partial)
        force = call.query.get("forceAttach", False)
        self._check_attach(instance, disk, partial, call)
        attached = {
            "kind": "compute#attachedDisk",
            "mode": "READ_WRITE",
            "autoDelete": False,
            "boot": False,
            "type": "PERSISTENT",
            **body,
            "source": disk["selfLink"],
            "deviceName": body.get("deviceName") or f"persistent-disk-{len(instance['disks'])}",
            "diskSizeGb": disk["sizeGb"],
            "interface": "NVME" if self._machine(instance).nvme else "SCSI",
        }

        def work() -> None:
            self._take(instance, attached, partial, disk, force=force)

        return self._operations.begin(call, "attachDisk", instance, work, lambda: None)

    def detach(self, call: Call) -> Json:
        """Take a disk from an instance, by its device name."""
        instance, name = self._instance(call), call.query["deviceName"]
        attached = next((one for one in instance["disks"] if one["deviceName"] == name), None)
        if attached is None:
            raise invalid(f"No attached disk found with device name '{name}'")
        if attached["boot"] and instance["status"] == "RUNNING":
            raise invalid("The boot disk of a running instance cannot be detached")
        self._check_status(instance)

        def work() -> None:
            if attached in instance["disks"]:
                self._let_go(instance, attached)

        return self._operations.begin(call, "detachDisk", instance, work, lambda: None)

    def resized(self, disk: Json) -> None:
        """Tell the guests that have it."""
        self._each_user(disk, self._plugs.resized)

    def _check_attach(self, instance: Json, disk: Json, partial: str, call: Call) -> None:
        self._check_status(instance)
        zone, machine = call.path["zone"], self._machine(instance)
        zones = [url.rpartition("/")[2] for url in disk.get("replicaZones", [disk.get("zone", "")])]
        if zone not in zones:
            raise invalid_field("resource.source", partial, f"The disk is in {zones}, and the instance in {zone}.")
        if call.query.get("forceAttach") and "replicaZones" not in disk:
            raise invalid("Force attach is only possible with regional disks")
        if partial.startswith("regions/") and partial.split("/")[1] != ZONES[zone]:
            raise invalid_field("resource.source", partial, "The disk is in another region.")
        kind = disk["type"].rpartition("/")[2]
        if (kind.startswith("hyperdisk") and not machine.hyperdisks) or (
            kind.startswith("pd-") and not machine.persistent
        ):
            raise invalid(f"[{kind}] features are not compatible for creating instance of this machine type")
        if disk["status"] != "READY":
            raise ApiError(400, "resourceNotReady", f"The resource '{disk['selfLink']}' is not ready")
        if _places_taken(instance) >= machine.disks:
            message = (
                f"Exceeded limit 'maximum_persistent_disks' on resource '{instance['name']}'. Limit: {machine.disks}.0"
            )
            raise ApiError(400, "limitExceeded", message)
        if any(one["deviceName"] == call.body.get("deviceName") for one in instance["disks"]):
            raise invalid_field("resource.deviceName", call.body["deviceName"], "It is used by another disk.")

    def _take(self, instance: Json, attached: Json, partial: str, disk: Json, *, force: bool) -> None:
        if self._world.resources.get(partial) is not disk or disk["status"] != "READY":
            raise OperationError(404, "RESOURCE_NOT_FOUND", f"The resource '{partial}' was not found")
        others = [user for user in disk.get("users", []) if user != instance["selfLink"]]
        several = disk.get("accessMode") == "READ_WRITE_MANY"
        if instance["selfLink"] in disk.get("users", []) or (others and not force and not several):
            message = f"The disk resource '{disk['selfLink']}' is already being used by '{disk['users'][0]}'"
            raise OperationError(400, "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", message)
        self._check_limits(instance, disk)
        if others and not several:
            self._each_user(disk, self._let_go)
        taken = {one["index"] for one in instance["disks"]}
        attached["index"] = min(set(range(len(taken) + 1)) - taken)
        instance["disks"].append(attached)
        disk["users"] = [*disk.get("users", []), instance["selfLink"]]
        if instance["status"] == "RUNNING":
            self._plugs.plug(instance, attached, disk)

    def _check_limits(self, instance: Json, disk: Json) -> None:
        """That of all disks, and that of hyperdisks of one type, which is found out only here."""
        machine, kind = self._machine(instance), disk["type"].rpartition("/")[2]
        if _places_taken(instance) >= machine.disks:
            raise OperationError(400, "LIMIT_EXCEEDED", "Exceeded limit 'maximum_persistent_disks'")
        if kind.startswith("hyperdisk-"):
            had = [self._world.find(self._world.partial(one["source"])) for one in _attached(instance)]
            count = sum(one["type"].rpartition("/")[2] == kind for one in had) + (not machine.persistent) + 1
            if count > machine.hyperdisks:
                most = f"Maximum {kind} disks count should be less than or equal to [{machine.hyperdisks}]"
                raise OperationError(400, "UNSUPPORTED_OPERATION", f"{most}, Requested : [{count}]")

    def _let_go(self, instance: Json, attached: Json) -> None:
        instance["disks"].remove(attached)
        disk = self._world.find(self._world.partial(attached["source"]))
        left = [user for user in disk["users"] if user != instance["selfLink"]]
        disk.update(users=left) if left else disk.pop("users")
        if instance["status"] == "RUNNING":
            self._plugs.unplug(instance, attached)

    def _each_user(self, disk: Json, do: Callable[[Json, Json], None]) -> None:
        for user in list(disk.get("users", [])):
            instance = self._world.find(self._world.partial(user))
            do(instance, next(one for one in instance["disks"] if one.get("source") == disk["selfLink"]))

    def _instance(self, call: Call) -> Json:
        return self._world.find(f"zones/{call.path['zone']}/instances/{call.path['instance']}")

    def _machine(self, instance: Json) -> MachineType:
        return MACHINE_TYPES[instance["machineType"].rpartition("/")[2]]

    def _check_status(self, instance: Json) -> None:
        if instance["status"] not in _CAN_CHANGE:
            raise ApiError(400, "resourceNotReady", f"The resource '{instance['selfLink']}' is not ready")


def _places_taken(instance: Json) -> int:
    return sum(one["type"] != "SCRATCH" for one in instance["disks"])


def _attached(instance: Json) -> list[Json]:
    """The disks that were attached to an instance, beside those that it was launched with."""
    return [one for one in instance["disks"] if not one["boot"] and one["type"] != "SCRATCH"]
