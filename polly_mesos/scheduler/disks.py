"""Polly's disks as Mesos writes them, and as we do.

Sources: Mesos ``DiskInfo`` and ``ReservationInfo`` (mesos.proto).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from polly_mesos.errors import InvalidRequest, UnknownProfile
from polly_mesos.mesos.resources import megabytes, normalise, owner_of
from polly_mesos.model import MB, Json, Offering, Profile, Volume, VolumeKind

_VENDOR = "polly."


@dataclass(frozen=True, slots=True)
class Disk:
    """One disk of an operation in our words. ``size`` is bytes; ``volume_id`` is set on MOUNT disks only."""

    resource: Json
    pool: str
    profile: Profile
    owner: str
    size: int
    volume_id: str

    @property
    def persistence(self) -> Json:
        """DiskInfo without its source: what the ledger keeps to advertise it again as it was."""
        return {key: value for key, value in self.resource["disk"].items() if key != "source"}

    @property
    def persistence_id(self) -> str:
        """Mesos' DiskInfo.Persistence.id, empty where the disk holds no persistent volume."""
        return str(self.resource["disk"].get("persistence", {}).get("id", ""))


def parse_disk(resource: Json, profiles: Mapping[str, Profile]) -> Disk:
    """A Mesos resource as one of our disks.

    :raises InvalidRequest: not a disk of ours, or not a whole number of MB
    :raises UnknownProfile: the profile is not configured (any more)
    """
    resource = normalise(resource)
    source = resource.get("disk", {}).get("source")
    if resource.get("name") != "disk" or source is None:
        raise InvalidRequest(
            f"resource {resource.get('name')!r} is not a disk of this provider",
            field="resources",
            value=resource.get("name"),
            remedy="use the disks that carry this provider's id",
        )
    name, pool = source.get("profile", ""), pool_of(source)
    profile = profiles.get(pool)
    if profile is None or profile.name != name:
        where = "" if pool == name else f" with pool {pool!r}"
        raise UnknownProfile(
            f"profile {name!r} is not configured{where}", remedy="add it to polly.yml or use another profile"
        )
    size_mb = megabytes(resource)
    if size_mb != int(size_mb) or size_mb <= 0:
        raise InvalidRequest(
            f"size {size_mb} MB is not a positive whole number of MB",
            field="scalar.value",
            value=size_mb,
            remedy=f"ask for {max(1, int(size_mb) + 1)}",
        )
    return Disk(resource, pool, profile, owner_of(resource), int(size_mb) * MB, source.get("id", ""))


def outer_owner(owner: str) -> str:
    """The owner one reservation less deep: what UNRESERVE gives back to, what RESERVE takes from."""
    stack = json.loads(owner)[:-1] if owner else []
    return json.dumps(stack, sort_keys=True, separators=(",", ":")) if stack else ""


def static_owner(role: str) -> str:
    """The owner of a disk that is granted to one role for good: frameworks cannot unreserve it."""
    return json.dumps([{"role": role, "type": "STATIC"}], sort_keys=True, separators=(",", ":"))


def pool_of(source: Json) -> str:
    """The pool that a disk's source names in its vendor.

    :raises InvalidRequest: the disk is not Polly's
    """
    vendor = str(source.get("vendor", ""))
    if not vendor.startswith(_VENDOR):
        raise InvalidRequest(
            f"vendor {vendor!r} is not Polly's",
            field="disk.source.vendor",
            value=vendor,
            remedy="use the disk's source as it was offered",
        )
    return vendor.removeprefix(_VENDOR)


def source_of(kind: VolumeKind | None, profile: Profile, volume_root: str, volume_id: str) -> Json:
    """DiskInfo.Source of a pool (``kind`` None) or of a volume."""
    common: Json = {"profile": profile.name, "vendor": _VENDOR + profile.pool}
    root = {"root": f"{volume_root}/{profile.pool}"}
    if kind is VolumeKind.MOUNT:
        return {"type": "MOUNT", "mount": root, "id": volume_id, **common}
    if kind is None and profile.offering is Offering.RAW:
        return {"type": "RAW", **common}
    return {"type": "PATH", "path": root, **common}


def disk(source: Json, size: int, owner: str, persistence: Mapping[str, object] | None = None) -> Json:
    """A Mesos disk resource of ``size`` bytes, without the provider's id."""
    resource: Json = {
        "name": "disk",
        "type": "SCALAR",
        "scalar": {"value": float(size // MB)},
        "disk": {"source": source, **(persistence or {})},
    }
    if owner:
        resource["reservations"] = json.loads(owner)
    return resource


def converted_disk(resource: Json, *, owner: str) -> Json:
    """What DESTROY and UNRESERVE leave of a disk: no persistence, and ``owner``'s reservations."""
    return disk(resource["disk"]["source"], int(megabytes(resource)) * MB, owner)


def volume_disk(volume: Volume, profile: Profile, volume_root: str) -> Json:
    """The disk of one volume."""
    source = source_of(volume.kind, profile, volume_root, volume.id)
    return disk(source, volume.size, volume.owner, volume.persistence)
