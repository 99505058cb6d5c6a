"""The platform's disks and snapshots in our words."""

from __future__ import annotations

from typing import Any

from google.cloud import compute_v1

from drivers.base import PlatformSnapshot, PlatformState, PlatformVolume, Tags
from drivers.gce.naming import partial, read_tags
from drivers.gce.settings import GIB

_STATES = {
    "CREATING": PlatformState.CREATING,
    "RESTORING": PlatformState.CREATING,
    "UPLOADING": PlatformState.CREATING,
    "READY": PlatformState.AVAILABLE,
    "DELETING": PlatformState.DELETING,
    "UNAVAILABLE": PlatformState.AVAILABLE,
}
"""A disk that is UNAVAILABLE for a while is no failed one: what is asked of it is refused until it is back."""

_DISK_METRICS = {"pd-standard": "DISKS_TOTAL_GB", "hyperdisk-throughput": "DISKS_TOTAL_GB"}
_DISK_METRICS |= dict.fromkeys(("pd-balanced", "pd-ssd", "pd-extreme", "hyperdisk-extreme"), "SSD_TOTAL_GB")
_DISK_METRICS |= dict.fromkeys(("hyperdisk-balanced", "hyperdisk-balanced-high-availability"), "HDB_TOTAL_GB")


def metric_of(platform_type: str) -> str:
    """The quota in which a type's sizes count; empty where the type is not known."""
    return _DISK_METRICS.get(platform_type, "")


def type_of(disk: Any) -> str:
    """Its type's name."""
    return str(disk.type_).rpartition("/")[2]


def zone_of(disk: Any) -> str:
    """Its zone; of a regional disk the first of both."""
    return str(disk.zone or (disk.replica_zones or [""])[0]).rpartition("/")[2]


def volume_of(disk: Any, cluster: str) -> PlatformVolume | None:
    """The volume that a disk is; None where it is not of our cluster."""
    tags = _ours(disk.description, cluster)
    if tags is None:
        return None
    return PlatformVolume(
        id=partial(disk.self_link),
        size=int(disk.size_gb) * GIB,
        state=_STATES.get(disk.status, PlatformState.ERROR),
        tags=tags,
        zone=zone_of(disk),
        attached_to=tuple(partial(user) for user in disk.users),
    )


def snapshot_of(snapshot: Any, cluster: str) -> PlatformSnapshot | None:
    """The snapshot in our words; None where it is not of our cluster."""
    tags = _ours(snapshot.description, cluster)
    if tags is None:
        return None
    state = _STATES.get(snapshot.status, PlatformState.ERROR)
    return PlatformSnapshot(snapshot.name, partial(snapshot.source_disk), int(snapshot.disk_size_gb) * GIB, state, tags)


def is_done(operation: Any) -> bool:
    """Whether nothing of it is to come."""
    return bool(operation.status == compute_v1.Operation.Status.DONE)


def _ours(description: str, cluster: str) -> Tags | None:
    tags = read_tags(description)
    return tags if tags is not None and tags.cluster == cluster else None
