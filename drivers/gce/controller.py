"""The controller side: disks by the Compute Engine API. The API's methods are named where they are called."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from google.cloud import compute_v1

from drivers.base import (
    Capability,
    Capacity,
    Check,
    ControllerDriver,
    CreateRequest,
    Fence,
    Page,
    PlatformSnapshot,
    PlatformState,
    PlatformVolume,
    Tags,
)
from drivers.gce.api import Api, after_change, request_id
from drivers.gce.attaching import Attacher
from drivers.gce.checks import check_service
from drivers.gce.errors import Missing
from drivers.gce.making import Maker
from drivers.gce.naming import DiskId, cluster_filter, describe, label, name_for, own_labels, parse_disk
from drivers.gce.reading import is_done, metric_of, snapshot_of, type_of, volume_of
from drivers.gce.settings import GIB, GceSettings
from polly_mesos.errors import AlreadyExists, InvalidRequest, NotFound, NotSupported, PlatformUnavailable, UnknownVolume
from polly_mesos.model import HostIdentity, Json, Profile

_PAGE = 500


class GceController(ControllerDriver):
    """One project. A volume's id is ``zones/ZONE/disks/NAME`` or ``regions/REGION/disks/NAME``."""

    capabilities = frozenset(Capability)

    def __init__(self, settings: GceSettings, cluster: str) -> None:
        self._settings = settings
        self._cluster = cluster
        self._api = Api(settings)
        self._maker = Maker(self._api, settings, cluster)
        self._attacher = Attacher(self._api)

    def capacity(self, zone: str, platform_type: str) -> Capacity:
        """By the region's quota for the type (regions.get, disks.aggregatedList)."""
        kind, zone = platform_type or self._settings.default_type, zone or self._settings.zone
        metric, region = metric_of(kind), zone.rpartition("-")[0]
        if not metric:
            raise NotSupported(f"{kind!r} is not a type of disk that is known here")
        self._check_zone(zone)
        request = compute_v1.GetRegionRequest(project=self._api.project, region=region)
        found = self._api.call("Regions", "get", request, f"reading the quotas of {region}")
        quota = next((one for one in found.quotas if one.metric == metric), None)
        limit = self._settings.capacity
        if quota is None and limit is None:
            return Capacity(None)
        ours = self._ours(metric, region)
        left = max(0, int(quota.limit - quota.usage)) * GIB if quota is not None else None
        limits = [one for one in (limit, None if left is None else left + ours) if one is not None]
        total = min(limits)
        return Capacity(total, max(0, min(total - ours, total if left is None else left)))

    def create(self, request: CreateRequest) -> PlatformVolume:
        """disks.insert or regionDisks.insert."""
        return self._maker.make(request)

    def get(self, platform_id: str) -> PlatformVolume:
        """disks.get or regionDisks.get."""
        return self._look(platform_id)[2]

    def list(self, page: str | None = None) -> Page:
        """disks.aggregatedList: zonal and regional disks of all zones, 500 a page."""
        request = compute_v1.AggregatedListDisksRequest(
            project=self._api.project, filter=cluster_filter(self._cluster), max_results=_PAGE, page_token=page or ""
        )
        pager = self._api.call("Disks", "aggregated_list", request, "listing disks")
        answer = next(iter(pager.pages))
        silent = list(answer.unreachables) + [
            place for place, scope in answer.items.items() if scope.warning.code == "UNREACHABLE"
        ]
        if silent:
            message = f"the disks of {', '.join(silent)} cannot be listed now, so the list is not whole"
            raise PlatformUnavailable(message, remedy="see Google's status page")
        found = (volume_of(disk, self._cluster) for scope in answer.items.values() for disk in scope.disks)
        volumes = tuple(one for one in found if one is not None)
        return Page(volumes, answer.next_page_token or None)

    def delete(self, platform_id: str) -> None:
        """disks.delete, waited for: until then it may fail."""
        try:
            where, _, _ = self._look(platform_id)
        except UnknownVolume:
            return
        kind = compute_v1.DeleteRegionDiskRequest if where.regional else compute_v1.DeleteDiskRequest
        request = kind(project=self._api.project, disk=where.name, request_id=str(uuid.uuid4()), **where.place)
        try:
            self._api.change(where.client, "delete_unary", request, f"deleting disk {where}")
        except Missing:
            return

    def attach(self, platform_id: str, host: HostIdentity) -> Json:
        """disks.get, then instances.attachDisk where the host does not have it."""
        where, disk, _ = self._look(platform_id)
        return self._attacher.attach(where, disk, host, lambda: self._look(platform_id)[1])

    def detach(self, platform_id: str, host: HostIdentity, *, force: bool = False) -> None:
        """disks.get, then instances.detachDisk where the host has it."""
        try:
            where, disk, _ = self._look(platform_id)
        except UnknownVolume:
            return
        self._attacher.detach(where, disk, host, force=force, look=lambda: self._look(platform_id)[1])

    def fence(self, host: HostIdentity) -> Fence:
        """By the instance's status (instances.get)."""
        return self._attacher.fence(host)

    def snapshot(self, platform_id: str, token: str, tags: Tags) -> PlatformSnapshot:
        """disks.createSnapshot."""
        where, disk, volume = self._look(platform_id)
        name = name_for(token)
        wanted = compute_v1.Snapshot(
            name=name,
            description=describe(tags, {"token": token, "source": platform_id}),
            labels={
                **own_labels(tags.labels),
                "polly_cluster": label(tags.cluster),
                "polly_volume": label(tags.volume),
            },
        )
        kind = compute_v1.CreateSnapshotRegionDiskRequest if where.regional else compute_v1.CreateSnapshotDiskRequest
        identity = request_id("snapshot", str(where), disk.id, repr(wanted))
        request = kind(
            project=self._api.project, disk=where.name, snapshot_resource=wanted, request_id=identity, **where.place
        )
        what = f"taking snapshot {name} of {where}"
        try:
            operation = self._api.call(where.client, "create_snapshot_unary", request, what, changing=True)
            if not is_done(operation):
                return PlatformSnapshot(name, volume.id, volume.size, PlatformState.CREATING, tags)
            self._api.wait(operation, what)
        except AlreadyExists:
            pass
        with after_change():
            found = self._snapshot(name)
        if found is None or found.volume != volume.id:
            raise AlreadyExists(f"snapshot {name} is there, and it is not of {where} or not this cluster's")
        return found

    def get_snapshot(self, snapshot_id: str) -> PlatformSnapshot:
        """snapshots.get."""
        found = self._snapshot(snapshot_id)
        if found is None:
            raise NotFound(f"there is no snapshot {snapshot_id!r} of this cluster")
        return found

    def list_snapshots(self) -> tuple[PlatformSnapshot, ...]:
        """snapshots.list, 500 a page."""
        found: list[PlatformSnapshot] = []
        token = ""
        while True:
            request = compute_v1.ListSnapshotsRequest(
                project=self._api.project, filter=cluster_filter(self._cluster), max_results=_PAGE, page_token=token
            )
            answer = next(iter(self._api.call("Snapshots", "list", request, "listing snapshots").pages))
            found.extend(one for item in answer.items if (one := snapshot_of(item, self._cluster)) is not None)
            token = answer.next_page_token
            if not token:
                return tuple(found)

    def delete_snapshot(self, snapshot_id: str) -> None:
        """snapshots.delete, waited for."""
        if self._snapshot(snapshot_id) is None:
            return
        request = compute_v1.DeleteSnapshotRequest(
            project=self._api.project, snapshot=snapshot_id, request_id=str(uuid.uuid4())
        )
        try:
            self._api.change("Snapshots", "delete_unary", request, f"deleting snapshot {snapshot_id}")
        except Missing:
            return

    def restore(self, snapshot_id: str, request: CreateRequest) -> PlatformVolume:
        """disks.insert with sourceSnapshot."""
        source = self.get_snapshot(snapshot_id)
        _check_room(request, source.size, f"snapshot {snapshot_id}")
        return self._maker.make(request, snapshot=snapshot_id)

    def clone(self, platform_id: str, request: CreateRequest) -> PlatformVolume:
        """disks.insert with sourceDisk: a copy of one point in time, in the same zone."""
        source = self.get(platform_id)
        _check_room(request, source.size, f"volume {platform_id}")
        return self._maker.make(request, disk=source.id)

    def expand(self, platform_id: str, size: int) -> PlatformVolume:
        """disks.resize or regionDisks.resize, in use or not."""
        where, _, volume = self._look(platform_id)
        if size <= volume.size:
            return volume
        body, name = compute_v1.DisksResizeRequest, "disks_resize_request_resource"
        kind: Any = compute_v1.ResizeDiskRequest
        if where.regional:
            body, name = compute_v1.RegionDisksResizeRequest, "region_disks_resize_request_resource"
            kind = compute_v1.ResizeRegionDiskRequest
        arguments = {name: body(size_gb=-(-size // GIB)), **where.place}
        request = kind(project=self._api.project, disk=where.name, request_id=str(uuid.uuid4()), **arguments)
        self._api.change(where.client, "resize_unary", request, f"growing disk {where}")
        with after_change():
            return self.get(platform_id)

    def check(self, profiles: Sequence[Profile]) -> tuple[Check, ...]:
        """Credentials, permissions, zones, types and quotas; nothing is changed."""
        return check_service(self._api, self._settings, self, profiles)

    def close(self) -> None:
        self._api.close()

    def _look(self, platform_id: str) -> tuple[DiskId, Any, PlatformVolume]:
        where = parse_disk(platform_id)
        if where is None or str(where) != platform_id:
            raise UnknownVolume(f"{platform_id!r} is not the id of a disk")
        kind = compute_v1.GetRegionDiskRequest if where.regional else compute_v1.GetDiskRequest
        request = kind(project=self._api.project, disk=where.name, **where.place)
        try:
            disk = self._api.call(where.client, "get", request, f"looking at disk {where}")
        except (Missing, NotSupported) as error:
            raise UnknownVolume(f"there is no disk {where}") from error
        volume = volume_of(disk, self._cluster)
        if volume is None:
            raise UnknownVolume(f"disk {where} is not of cluster {self._cluster}")
        return where, disk, volume

    def _snapshot(self, name: str) -> PlatformSnapshot | None:
        if not name or parse_disk(f"zones/z/disks/{name}") is None:
            return None
        request = compute_v1.GetSnapshotRequest(project=self._api.project, snapshot=name)
        try:
            found = self._api.call("Snapshots", "get", request, f"looking at snapshot {name}")
        except Missing:
            return None
        return snapshot_of(found, self._cluster)

    def _check_zone(self, zone: str) -> None:
        request = compute_v1.GetZoneRequest(project=self._api.project, zone=zone)
        try:
            self._api.call("Zones", "get", request, f"looking at zone {zone}")
        except (Missing, InvalidRequest) as error:
            raise NotSupported(f"there is no zone {zone!r}", remedy="write one as europe-west3-a") from error

    def _ours(self, metric: str, region: str) -> int:
        """Bytes of our disks that count in a quota."""
        total, page = 0, ""
        while True:
            request = compute_v1.AggregatedListDisksRequest(
                project=self._api.project, filter=cluster_filter(self._cluster), max_results=_PAGE, page_token=page
            )
            answer = next(iter(self._api.call("Disks", "aggregated_list", request, "listing disks").pages))
            for scope in answer.items.values():
                for disk in scope.disks:
                    where = parse_disk(disk.self_link)
                    here = where is not None and where.where.startswith(region)
                    if here and metric_of(type_of(disk)) == metric and volume_of(disk, self._cluster) is not None:
                        total += disk.size_gb * GIB * max(1, len(disk.replica_zones))
            page = answer.next_page_token
            if not page:
                return total


def _check_room(request: CreateRequest, least: int, source: str) -> None:
    if request.size < least:
        message = f"{request.size} bytes are less than the {least} of {source}"
        raise InvalidRequest(message, field="size", value=request.size)
