"""Disks and snapshots: made, grown, copied, deleted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from polly_mesos.model import Json
from polly_mesos.testing.gce.catalogue import DISK_TYPES, REGIONS, ZONES, DiskType
from polly_mesos.testing.gce.errors import ApiError, OperationError, invalid, invalid_field
from polly_mesos.testing.gce.operations import Operations
from polly_mesos.testing.gce.schema import Call
from polly_mesos.testing.gce.state import GIB, World, check_labels, fingerprint, page_of

_MOST_REPLICAS = 2
_SOURCES = {"sourceSnapshot": "compute#snapshot", "sourceDisk": "compute#disk"}
_KNOWN = {
    *("name", "description", "labels", "sizeGb", "type", "replicaZones", "provisionedIops", "provisionedThroughput"),
    *("diskEncryptionKey", "accessMode", "physicalBlockSizeBytes", *_SOURCES),
}


class Disks:
    """The methods of ``disks``, ``regionDisks`` and ``snapshots``."""

    def __init__(self, world: World, operations: Operations, resized: Callable[[Json], None]) -> None:
        self._world = world
        self._operations = operations
        self._resized = resized

    def insert(self, call: Call) -> Json:
        """Make a disk: it is there at once as CREATING, and READY when the operation is done."""
        body, regional = call.body, "region" in call.path
        if unknown := set(body) - _KNOWN:
            raise invalid_field("resource", sorted(unknown), "The counterpart does not know this; nothing is ignored.")
        place = f"regions/{call.path['region']}" if regional else f"zones/{call.path['zone']}"
        self._world.check_place(place)
        source = self._source(body, place, regional=regional)
        least = int(source.get("sizeGb") or source.get("diskSizeGb") or 0)
        size = int(body.get("sizeGb", least))
        type_name = self._type_name(body.get("type", ""), place)
        _check_size(type_name, size, regional=regional)
        if size < least:
            raise invalid_field(
                "resource.sizeGb", size, f"Requested disk size cannot be smaller than the source ({least})."
            )
        disk = self._world.new("disk", f"{place}/disks/{body['name']}", body)
        disk |= {"sizeGb": str(size), "type": self._world.link(f"{place}/diskTypes/{type_name}"), "status": "CREATING"}
        disk |= {"physicalBlockSizeBytes": "4096", _kind(place): self._world.link(place)}
        disk |= _provisioned(DISK_TYPES[type_name], body)
        if regional:
            disk["replicaZones"] = self._replicas(body, call.path["region"])
        elif "replicaZones" in body:
            raise invalid_field("resource.replicaZones", body["replicaZones"], "Only regional disks have replicas.")
        self._check_key(body)
        disk |= {f"{name}Id": source["id"] for name in _SOURCES if name in body}
        disk |= {name: self._world.link(self._world.partial(body[name])) for name in _SOURCES if name in body}
        self._check_quota(DISK_TYPES[type_name].metric, place, size)
        partial = f"{place}/disks/{body['name']}"
        self._world.resources[partial] = disk
        data = self._world.image(source) if source else None

        def work() -> None:
            _copy(data, self._world.image(disk))
            os.truncate(self._world.image(disk), size * GIB)
            disk["status"] = "READY"

        return self._operations.begin(call, "insert", disk, work, lambda: self._forget(partial))

    def get(self, call: Call) -> Json:
        """One disk."""
        return self._disk(call)[1]

    def list_place(self, call: Call) -> Json:
        """The disks of one zone or region."""
        place = f"regions/{call.path['region']}" if "region" in call.path else f"zones/{call.path['zone']}"
        self._world.check_place(place)
        part, token = page_of(
            [one for one in self._all("/disks/") if one[0].startswith(f"{place}/")], call.query, self._world.page
        )
        answer: Json = {"kind": "compute#diskList", "id": place, "items": [one for _, one in part]}
        return answer | ({"nextPageToken": token} if token else {})

    def aggregated(self, call: Call) -> Json:
        """The disks of all zones and regions; those of a zone that is down are missing, and that is said."""
        here = [one for one in self._all("/disks/") if one[0].split("/")[1] not in self._world.down]
        part, token = page_of(here, call.query, self._world.page)
        scopes: dict[str, Json] = {}
        for partial, disk in part:
            scopes.setdefault("/".join(partial.split("/")[:2]), {"disks": []})["disks"].append(disk)
        answer: Json = {"kind": "compute#diskAggregatedList", "id": "disks", "items": scopes}
        if self._world.down:
            answer["unreachables"] = [self._world.link(f"zones/{zone}") for zone in sorted(self._world.down)]
        return answer | ({"nextPageToken": token} if token else {})

    def delete(self, call: Call) -> Json:
        """Delete a disk that no instance has."""
        partial, disk = self._disk(call)
        if disk.get("users"):
            raise _in_use(disk)
        if disk["status"] == "CREATING":
            raise _not_ready(disk)
        before, disk["status"] = disk["status"], "DELETING"

        def work() -> None:
            if any(
                one.get("sourceDisk") == disk["selfLink"] and one["status"] == "CREATING" for _, one in self._all("/")
            ):
                raise OperationError(400, "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", f"{disk['selfLink']} is being copied")
            self._forget(partial)

        return self._operations.begin(call, "delete", disk, work, lambda: disk.update(status=before))

    def resize(self, call: Call) -> Json:
        """Make a disk larger, in use or not."""
        _, disk = self._disk(call)
        size = int(call.body.get("sizeGb", 0))
        if size < int(disk["sizeGb"]):
            have = disk["sizeGb"]
            raise invalid_field("sizeGb", size, f"The new size must be larger than the current size ({have} GB).")
        type_name = disk["type"].rpartition("/")[2]
        _check_size(type_name, size, regional="region" in disk)
        place = "/".join(self._world.partial(disk["selfLink"]).split("/")[:2])
        self._check_quota(DISK_TYPES[type_name].metric, place, size - int(disk["sizeGb"]))
        before, disk["sizeGb"] = disk["sizeGb"], str(size)

        def work() -> None:
            os.truncate(self._world.image(disk), size * GIB)
            self._resized(disk)

        return self._operations.begin(call, "resizeDisk", disk, work, lambda: disk.update(sizeGb=before))

    def create_snapshot(self, call: Call) -> Json:
        """Take a snapshot of what the disk holds when the operation is carried out."""
        _, disk = self._disk(call)
        if disk["status"] != "READY":
            raise _not_ready(disk)
        if unknown := set(call.body) - {"name", "description", "labels", "storageLocations"}:
            raise invalid_field("resource", sorted(unknown), "The counterpart does not know this; nothing is ignored.")
        partial = f"global/snapshots/{call.body['name']}"
        snapshot = self._world.new("snapshot", partial, call.body)
        limit = self._world.quotas.project["SNAPSHOTS"]
        if len(list(self._all("global/snapshots/"))) >= limit:
            raise ApiError(403, "quotaExceeded", f"Quota 'SNAPSHOTS' exceeded. Limit: {limit} globally.")
        snapshot |= {"status": "CREATING", "diskSizeGb": disk["sizeGb"], "sourceDisk": disk["selfLink"]}
        snapshot |= {"sourceDiskId": disk["id"], "storageBytes": "0", "storageBytesStatus": "UP_TO_DATE"}
        self._world.resources[partial] = snapshot

        def work() -> None:
            _copy(self._world.image(disk), self._world.image(snapshot))
            snapshot["status"] = "READY"

        return self._operations.begin(call, "createSnapshot", disk, work, lambda: self._forget(partial))

    def get_snapshot(self, call: Call) -> Json:
        """One snapshot."""
        return self._world.find(f"global/snapshots/{call.path['snapshot']}")

    def list_snapshots(self, call: Call) -> Json:
        """All snapshots, a page at a time."""
        part, token = page_of(list(self._all("global/snapshots/")), call.query, self._world.page)
        answer: Json = {"kind": "compute#snapshotList", "id": "snapshots", "items": [one for _, one in part]}
        return answer | ({"nextPageToken": token} if token else {})

    def delete_snapshot(self, call: Call) -> Json:
        """Delete a snapshot; disks that were made from it stay."""
        partial = f"global/snapshots/{call.path['snapshot']}"
        snapshot = self._world.find(partial)
        before, snapshot["status"] = snapshot["status"], "DELETING"
        undo = lambda: snapshot.update(status=before)  # noqa: E731
        return self._operations.begin(call, "delete", snapshot, lambda: self._forget(partial), undo)

    def set_labels(self, call: Call) -> Json:
        """Replace the labels, if they are those that the caller has seen."""
        place = f"regions/{call.path['region']}" if "region" in call.path else f"zones/{call.path['zone']}"
        disk = self._world.find(f"{place}/disks/{call.path['resource']}")
        labels = call.body.get("labels", {})
        check_labels(labels)
        if call.body.get("labelFingerprint") != disk["labelFingerprint"]:
            raise ApiError(412, "conditionNotMet", "Labels fingerprint either invalid or resource labels have changed")
        after = {"labels": labels, "labelFingerprint": fingerprint(labels)}
        return self._operations.begin(call, "setLabels", disk, lambda: disk.update(after), lambda: None)

    def used(self, metric: str, region: str) -> float:
        """GiB of the region's disks that count in a quota; a regional disk counts once for each replica."""
        total = 0
        for partial, disk in self._all("/disks/"):
            kind, place, *_ = partial.split("/")
            if DISK_TYPES[disk["type"].rpartition("/")[2]].metric == metric:
                where = place if kind == "regions" else ZONES[place]
                total += int(disk["sizeGb"]) * len(disk.get("replicaZones", [1])) if where == region else 0
        return float(total)

    def _check_quota(self, metric: str, place: str, more: int) -> None:
        kind, name = place.split("/")
        region = name if kind == "regions" else ZONES[name]
        limit = self._world.quotas.region[metric]
        if self.used(metric, region) + more * (_MOST_REPLICAS if kind == "regions" else 1) > limit:
            raise ApiError(403, "quotaExceeded", f"Quota '{metric}' exceeded.  Limit: {limit} in region {region}.")

    def _check_key(self, body: Json) -> None:
        key = body.get("diskEncryptionKey", {}).get("kmsKeyName", "")
        if key and key not in self._world.keys:
            raise invalid(f"Cloud KMS error when using key {key}: Key was not found, or permission is denied on it.")

    def _replicas(self, body: Json, region: str) -> list[str]:
        zones = [self._world.partial(url).partition("/")[2] for url in body.get("replicaZones", [])]
        if len(set(zones)) != _MOST_REPLICAS or not set(zones) <= set(REGIONS[region]):
            raise invalid_field("resource.replicaZones", zones, f"Two zones of {region} are needed.")
        return [self._world.link(f"zones/{zone}") for zone in zones]

    def _source(self, body: Json, place: str, *, regional: bool) -> Json:
        given = [name for name in _SOURCES if name in body]
        if len(given) > 1:
            raise invalid("A disk has at most one source")
        if not given:
            return {}
        partial = self._world.partial(body[given[0]])
        source = self._world.find(partial)
        if source["kind"] != _SOURCES[given[0]]:
            raise invalid_field(f"resource.{given[0]}", partial, "It is of another kind.")
        same = partial.startswith(f"{place}/") or (regional and ZONES.get(partial.split("/")[1]) == place[8:])
        if given[0] == "sourceDisk" and not same:
            raise invalid_field("resource.sourceDisk", partial, f"The source disk must be in {place}.")
        if source["status"] != "READY":
            raise _not_ready(source)
        return source

    def _type_name(self, url: str, place: str) -> str:
        name = url.rpartition("/")[2] or "pd-standard"
        regional = place.startswith("regions/")
        kind = DISK_TYPES.get(name)
        if kind is None or (regional and kind.smallest_regional is None) or (not regional and kind.only_regional):
            link = f"projects/{self._world.project}/{place}/diskTypes/{name}"
            raise invalid_field("resource.type", url, f"The referenced diskType resource '{link}' cannot be found.")
        if url and self._world.partial(url) != f"{place}/diskTypes/{name}":
            raise invalid_field("resource.type", url, f"It must be of {place}.")
        return name

    def _disk(self, call: Call) -> tuple[str, Json]:
        place = f"regions/{call.path['region']}" if "region" in call.path else f"zones/{call.path['zone']}"
        partial = f"{place}/disks/{call.path['disk']}"
        return partial, self._world.find(partial)

    def _all(self, part: str) -> Iterator[tuple[str, Json]]:
        wanted = [(partial, one) for partial, one in self._world.resources.items() if part in partial]
        return ((partial, one) for partial, one in wanted if one["kind"] in ("compute#disk", "compute#snapshot"))

    def _forget(self, partial: str) -> None:
        gone = self._world.resources.pop(partial)
        self._world.image(gone).unlink(missing_ok=True)


def _copy(source: Path | None, target: Path) -> None:
    if source is None:
        target.touch()
    else:
        subprocess.run(["/bin/cp", "--sparse=always", "--reflink=auto", str(source), str(target)], check=True)


def _check_size(type_name: str, size: int, *, regional: bool) -> None:
    kind = DISK_TYPES[type_name]
    smallest = kind.smallest_regional if regional and kind.smallest_regional is not None else kind.smallest
    if not smallest <= size <= kind.largest:
        why = f"Disk size of {type_name} must be between {smallest} GB and {kind.largest} GB, inclusive."
        raise invalid_field("resource.sizeGb", size, why)


def _provisioned(kind: DiskType, body: Json) -> Json:
    told: Json = {}
    for name, bounds in (("provisionedIops", kind.iops), ("provisionedThroughput", kind.throughput)):
        if bounds is None and name in body:
            raise invalid_field(f"resource.{name}", body[name], "It cannot be provisioned for disks of this type.")
        if bounds is not None:
            value = int(body.get(name, max(bounds[0], 3000 if name == "provisionedIops" else 140)))
            if not bounds[0] <= value <= bounds[1]:
                raise invalid_field(f"resource.{name}", value, f"It must be between {bounds[0]} and {bounds[1]}.")
            told[name] = str(value)
    return told


def _kind(place: str) -> str:
    return place.partition("/")[0].removesuffix("s")


def _in_use(disk: Json) -> ApiError:
    message = f"The disk resource '{disk['selfLink']}' is already being used by '{disk['users'][0]}'"
    return ApiError(400, "resourceInUseByAnotherResource", message)


def _not_ready(resource: Json) -> ApiError:
    return ApiError(400, "resourceNotReady", f"The resource '{resource['selfLink']}' is not ready")
