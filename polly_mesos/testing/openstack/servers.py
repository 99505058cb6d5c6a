"""The instances that the stand-in for Nova knows, and how it shows them."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from polly_mesos.testing.openstack.serving import Answer, as_json

ACTIVE, SHUTOFF, DELETED = "ACTIVE", "SHUTOFF", "DELETED"
PAUSED, SUSPENDED, RESCUE, RESIZED, ERROR = "PAUSED", "SUSPENDED", "RESCUE", "VERIFY_RESIZE", "ERROR"
_VM_STATES = {
    ACTIVE: "active",
    SHUTOFF: "stopped",
    PAUSED: "paused",
    SUSPENDED: "suspended",
    RESCUE: "rescued",
    RESIZED: "resized",
    ERROR: "error",
}
_POWER = {SHUTOFF: 4, PAUSED: 3, SUSPENDED: 4, ERROR: 0}
"""Nova's power states where it is not running, as in ``nova.objects.fields.InstancePowerState``."""

_RUNNING = 1
ATTACHABLE = frozenset({ACTIVE, PAUSED, SHUTOFF, RESIZED})
DETACHABLE = ATTACHABLE | {SUSPENDED}
"""In which states Nova's API takes the order (``check_instance_state`` of ``nova.compute.api``)."""


@dataclass
class Attachment:
    """A volume at an instance, with Cinder's id of the attachment."""

    volume: str
    id: str
    device: str
    connection: dict[str, Any] = field(default_factory=dict)


@dataclass
class Server:
    """One instance.

    :ivar held: volumes that its guest does not let go of
    :ivar host: the hypervisor that it runs on
    :ivar host_up: whether that hypervisor answers
    :ivar hangs: whether it takes orders and carries none of them out; they are in ``orders``
    :ivar grown: how often a volume of its was extended
    :ivar ended: whether the hypervisor has carried out its deletion
    """

    name: str
    project: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    zone: str = "nova"
    status: str = ACTIVE
    task: str | None = None
    host: str = "hypervisor-1"
    host_up: bool = True
    hangs: bool = False
    orders: list[Callable[[], None]] = field(default_factory=list)
    ended: bool = False
    attachments: dict[str, Attachment] = field(default_factory=dict)
    grown: int = 0
    held: set[str] = field(default_factory=set)

    def show(self) -> dict[str, Any]:
        """As ``GET /servers/ID`` shows it to its project."""
        return {
            "id": self.id,
            "name": self.name,
            "status": self.status,
            "tenant_id": self.project,
            "OS-EXT-STS:task_state": self.task,
            "OS-EXT-STS:power_state": _POWER.get(self.status, _RUNNING),
            "OS-EXT-STS:vm_state": _VM_STATES[self.status],
            "OS-EXT-AZ:availability_zone": self.zone,
            "os-extended-volumes:volumes_attached": [{"id": volume} for volume in self.attachments],
        }

    def refuses(self, what: str, states: frozenset[str]) -> Answer | None:
        """Nova's refusal of an order that the instance's state does not allow."""
        if self.status in states and self.task is None:
            return None
        state = f"task_state {self.task}" if self.task else f"vm_state {_VM_STATES[self.status]}"
        return refusal(409, f"Cannot '{what}' instance {self.id} while it is in {state}")

    def show_attachment(self, attachment: Attachment) -> dict[str, Any]:
        """As the API shows it. The device is where Nova believes that the guest has it."""
        return {
            "id": attachment.volume,
            "volumeId": attachment.volume,
            "serverId": self.id,
            "device": attachment.device,
            "attachment_id": attachment.id,
            "bdm_uuid": attachment.id,
            "tag": None,
            "delete_on_termination": False,
        }

    def actions(self) -> list[dict[str, Any]]:
        """What was done with it, as ``os-instance-actions`` has it."""
        done = [{"action": "create", "request_id": f"req-create-{self.id}", "message": None}]
        for number in range(self.grown):
            done.insert(0, {"action": "extend_volume", "request_id": f"req-extend-{number}-{self.id}", "message": None})
        if self.status == DELETED:
            done.insert(0, {"action": "delete", "request_id": f"req-delete-{self.id}", "message": None})
        return done

    def events(self, request: str) -> list[dict[str, Any]]:
        """What the hypervisor did for one action; nothing where it was not there."""
        if request == f"req-delete-{self.id}" and self.ended:
            return [{"event": "compute_terminate_instance", "result": "Success"}]
        return []


def believed_device() -> str:
    """A device name that is seldom the one that the guest has."""
    return f"/dev/vd{random.choice('bcdefghijklm')}"


def refusal(status: int, message: str, name: str = "") -> Answer:
    """An error as Nova writes it."""
    names = {400: "badRequest", 403: "forbidden", 404: "itemNotFound", 409: "conflictingRequest", 401: "unauthorized"}
    names[500] = "computeFault"
    request = f"req-{uuid.uuid4()}"
    headers = {"x_openstack_request_id": request, "x_compute_request_id": request}
    return as_json(status, {name or names[status]: {"code": status, "message": message}}, **headers)
