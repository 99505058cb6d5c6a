"""Which instance has a disk. An instance's name to us is ``zones/ZONE/instances/NAME``."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from google.cloud import compute_v1

from drivers.base import Fence
from drivers.gce.api import Api
from drivers.gce.errors import Missing
from drivers.gce.naming import DiskId, parse_host, partial
from polly_mesos.errors import InvalidRequest, PlatformUnavailable, UnknownHost, VolumeInUse
from polly_mesos.model import HostIdentity, Json

_STOPPED = {"TERMINATED", "STOPPED", "SUSPENDED"}
"""Statuses in which no virtual CPU runs (https://cloud.google.com/compute/docs/instances/instance-lifecycle)."""
_RUNS = {"RUNNING", "STAGING", "PROVISIONING"}


class Attacher:
    """Attaches and detaches the disks of one service."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def attach(self, where: DiskId, disk: Any, host: HostIdentity, look: Callable[[], Any]) -> Json:
        """Give a disk to a host.

        :param look: reads the disk anew
        """
        zone, name = self._instance(host)
        users = [partial(user) for user in disk.users]
        if host.host in users:
            return {"device_name": self._device_name(where, zone, name)}
        force = bool(users) and where.regional and all(self.fence(HostIdentity(user)).proven for user in users)
        if users and not force:
            raise VolumeInUse(f"disk {where} is attached to {', '.join(users)}")
        wanted = compute_v1.AttachedDisk(
            source=f"projects/{self._api.project}/{where}",
            device_name=where.name,
            mode="READ_WRITE",
            auto_delete=False,
        )
        request = compute_v1.AttachDiskInstanceRequest(
            project=self._api.project,
            zone=zone,
            instance=name,
            attached_disk_resource=wanted,
            request_id=str(uuid.uuid4()),
        )
        if force:
            request.force_attach = True
        try:
            self._api.change("Instances", "attach_disk_unary", request, f"attaching {where} to {host.host}")
        except Missing as error:
            look()
            raise UnknownHost(f"there is no instance {host.host}") from error
        except (VolumeInUse, InvalidRequest):
            # An earlier call whose answer was lost may have given it to this host meanwhile.
            if host.host not in [partial(user) for user in look().users]:
                raise
            return {"device_name": self._device_name(where, zone, name)}
        return {"device_name": where.name}

    def detach(self, where: DiskId, disk: Any, host: HostIdentity, *, force: bool, look: Callable[[], Any]) -> None:
        """Take a disk from a host, if that has it or is about to get it."""
        place = parse_host(host.host)
        if place is None:
            return
        zone, name = place
        users = [partial(user) for user in disk.users]
        if host.host not in users and self._finish_pending(zone, name):
            users = [partial(user) for user in look().users]
        if host.host not in users:
            return
        if force and (status := self._status(zone, name)) in _RUNS:
            raise VolumeInUse(f"instance {host.host} is {status} and has disk {where}: it may still write")
        device = self._device_name(where, zone, name)
        request = compute_v1.DetachDiskInstanceRequest(
            project=self._api.project, zone=zone, instance=name, device_name=device, request_id=str(uuid.uuid4())
        )
        try:
            self._api.change("Instances", "detach_disk_unary", request, f"detaching {where} from {host.host}")
        except (Missing, InvalidRequest):
            if host.host in [partial(user) for user in look().users]:
                raise
        except PlatformUnavailable:
            # The zone of a fenced host may be gone for long. The next attach takes a regional disk from it by force.
            if not (force and where.regional and self.fence(host).proven):
                raise

    def fence(self, host: HostIdentity) -> Fence:
        """Whether the instance is stopped or gone."""
        place = parse_host(host.host)
        if place is None:
            return Fence(False, f"{host.host!r} is not the name of an instance, so nothing is known of it")
        status = self._status(*place)
        if not status:
            return Fence(True, f"instance {host.host} does not exist any more")
        return Fence(status in _STOPPED, f"instance {host.host} is {status}")

    def _status(self, zone: str, name: str) -> str:
        try:
            return str(self._read(zone, name).status)
        except Missing:
            return ""

    def _read(self, zone: str, name: str) -> Any:
        request = compute_v1.GetInstanceRequest(project=self._api.project, zone=zone, instance=name)
        return self._api.call("Instances", "get", request, f"looking at instance {name}")

    def _instance(self, host: HostIdentity) -> tuple[str, str]:
        place = parse_host(host.host)
        if place is None:
            raise UnknownHost(f"{host.host!r} is not the name of an instance")
        return place

    def _device_name(self, where: DiskId, zone: str, name: str) -> str:
        """By which name the instance has the disk: ours, unless somebody else attached it."""
        for attached in self._read(zone, name).disks:
            if partial(attached.source) == str(where):
                return str(attached.device_name)
        return where.name

    def _finish_pending(self, zone: str, name: str) -> bool:
        """Wait for attachments to the instance that are under way; an answer may have been lost. Whether any was."""
        request = compute_v1.ListZoneOperationsRequest(
            project=self._api.project, zone=zone, filter='operationType = "attachDisk" AND status != "DONE"'
        )
        answer = next(iter(self._api.call("ZoneOperations", "list", request, "looking for operations").pages))
        pending = [one for one in answer.items if partial(one.target_link) == f"zones/{zone}/instances/{name}"]
        for operation in pending:
            try:
                self._api.wait(operation, f"an attachment to {name}")
            except (Missing, VolumeInUse, InvalidRequest):
                continue
        return bool(pending)
