"""Making disks, once for each token, whatever became of an earlier answer.

The name keeps the platform from making a second disk. The request id, derived from the whole request, lets it answer a
repeat with the operation that the first one began.
"""

from __future__ import annotations

import uuid
from typing import Any

from google.cloud import compute_v1

from drivers.base import CreateRequest, PlatformState, PlatformVolume
from drivers.gce.api import Api, after_change, request_id
from drivers.gce.errors import Missing, of_operation
from drivers.gce.naming import DiskId, describe, labels_for, name_for, read_asked
from drivers.gce.reading import is_done, type_of, volume_of, zone_of
from drivers.gce.settings import GIB, LARGEST, GceSettings
from polly_mesos.errors import AlreadyExists, InvalidRequest, NotSupported, PlatformUnavailable


class Maker:
    """Makes the disks of one service."""

    def __init__(self, api: Api, settings: GceSettings, cluster: str) -> None:
        self._api = api
        self._settings = settings
        self._cluster = cluster

    def make(self, request: CreateRequest, *, snapshot: str = "", disk: str = "") -> PlatformVolume:
        """Make a disk, blank or from one of both sources.

        :param snapshot: a snapshot's name
        :param disk: our id of the disk to be cloned
        """
        where = self._place(request)
        wanted = self._wanted(request, where, snapshot, disk)
        what = f"creating disk {where}"
        try:
            operation = self._insert(where, wanted, request_id("insert", str(where), repr(wanted)), what)
            if not is_done(operation):
                return self._promised(request, where, wanted)
            if of_operation(operation, what) is None:
                with after_change():
                    found = self._find(where)
                if found is not None:
                    return self._same(found, request, wanted)
            # An earlier attempt has failed, or its disk was deleted. The name still lets only one be made.
            self._api.wait(self._insert(where, wanted, str(uuid.uuid4()), what), what)
        except AlreadyExists:
            pass
        except Missing as error:
            raise NotSupported(str(error), remedy="see whether project, zone and key_file are right") from error
        with after_change():
            found = self._find(where)
        if found is None:
            raise PlatformUnavailable(f"{what}: it is neither there nor not there", outcome_unknown=True)
        return self._same(found, request, wanted)

    def _insert(self, where: DiskId, wanted: Any, identity: str, what: str) -> Any:
        kind = compute_v1.InsertRegionDiskRequest if where.regional else compute_v1.InsertDiskRequest
        request = kind(project=self._api.project, disk_resource=wanted, request_id=identity, **where.place)
        return self._api.call(where.client, "insert_unary", request, what, changing=True)

    def _place(self, request: CreateRequest) -> DiskId:
        name = name_for(request.token)
        if not 0 < request.size <= LARGEST or request.size % GIB:
            message = f"a disk cannot have {request.size} bytes: disks have whole GiB, at most {LARGEST // GIB}"
            raise InvalidRequest(message, field="size", value=request.size)
        if replicas := request.options.get("replica_zones"):
            return DiskId("regions", replicas[0].rpartition("-")[0], name)
        zone = request.zone or self._settings.zone
        if not zone:
            raise InvalidRequest("no zone is given, by the profile or the service", field="zone", value="")
        return DiskId("zones", zone, name)

    def _wanted(self, request: CreateRequest, where: DiskId, snapshot: str, disk: str) -> Any:
        kind = request.platform_type or self._settings.default_type
        asked = {"token": request.token, "size": request.size, "source": snapshot or disk}
        base = f"projects/{self._api.project}"
        wanted = compute_v1.Disk(
            name=where.name,
            size_gb=request.size // GIB,
            type_=f"{base}/{where.kind}/{where.where}/diskTypes/{kind}",
            description=describe(request.tags, asked),
            labels=labels_for(request.tags),
        )
        if snapshot:
            wanted.source_snapshot = f"{base}/global/snapshots/{snapshot}"
        if disk:
            wanted.source_disk = f"{base}/{disk}"
        if where.regional:
            wanted.replica_zones = [f"{base}/zones/{zone}" for zone in request.options["replica_zones"]]
        if request.iops is not None:
            wanted.provisioned_iops = request.iops
        if request.options.get("throughput") is not None:
            wanted.provisioned_throughput = request.options["throughput"]
        key = request.options.get("kms_key") or (self._settings.kms_key if request.encryption else "")
        if key:
            wanted.disk_encryption_key = compute_v1.CustomerEncryptionKey(kms_key_name=key)
        return wanted

    def _promised(self, request: CreateRequest, where: DiskId, wanted: Any) -> PlatformVolume:
        zone = where.where if not where.regional else zone_of(wanted)
        return PlatformVolume(str(where), request.size, PlatformState.CREATING, request.tags, zone)

    def _find(self, where: DiskId) -> Any:
        kind = compute_v1.GetRegionDiskRequest if where.regional else compute_v1.GetDiskRequest
        request = kind(project=self._api.project, disk=where.name, **where.place)
        try:
            return self._api.call(where.client, "get", request, f"looking at disk {where}")
        except Missing:
            return None

    def _same(self, found: Any, request: CreateRequest, wanted: Any) -> PlatformVolume:
        """The disk that is there, if it is what was asked for."""
        volume = volume_of(found, self._cluster)
        asked, before = read_asked(wanted.description), read_asked(found.description)
        if volume is None or before.get("token") != request.token:
            raise AlreadyExists(
                f"disk {found.name} is there, and this cluster did not make it",
                remedy="see who did, by its description and labels; delete or rename it if nobody needs it",
            )
        if volume.state is PlatformState.DELETING:
            raise PlatformUnavailable(f"disk {found.name} is still being deleted")
        if asked != before or type_of(found) != type_of(wanted):
            message = f"disk {found.name} was made with {before['size']} bytes as {type_of(found)}"
            raise AlreadyExists(f"{message}, and now {request.size} bytes as {type_of(wanted)} are asked for")
        return volume
