"""What the project may still make, and where the credentials are an administrator's, what the pools can hold."""

from __future__ import annotations

from typing import Any

from drivers.base import Capacity
from drivers.cinder import GIB
from drivers.cinder.calls import Calls
from drivers.cinder.shown import member
from polly_mesos.errors import NotFound, NotSupported, PlatformDenied
from polly_mesos.model import Json

_BACKEND = "volume_backend_name"


def measure(calls: Calls, zone: str, platform_type: str) -> Capacity:
    """The project's quota of gigabytes, cut down to the pools where they can be seen.

    :raises NotSupported: there is no such zone or type
    """
    doing = "asking for the project's limits"
    if zone:
        check_zone(calls, zone)
    backend = _backend_of(find_type(calls, platform_type)) if platform_type else ""
    limits: Json = member(member(calls.volumes("GET", "/limits", doing), "limits", doing), "absolute", doing)
    most, used = int(limits.get("maxTotalVolumeGigabytes", -1)), int(limits.get("totalGigabytesUsed", 0))
    total = None if most < 0 else most
    available = None if total is None else max(0, total - used)
    if (pools := _pools(calls, backend)) is not None:
        pooled, free = pools
        total = pooled if total is None else min(total, pooled)
        available = free if available is None else min(available, free)
    return Capacity(
        None if total is None else total * GIB, None if available is None else min(available, total or 0) * GIB
    )


def check_zone(calls: Calls, zone: str) -> None:
    """:raises NotSupported: volumes cannot be made in that zone."""
    doing = "listing the availability zones"
    zones: list[Json] = member(calls.volumes("GET", "/os-availability-zone", doing), "availabilityZoneInfo", doing)
    there = [str(one["zoneName"]) for one in zones if one.get("zoneState", {}).get("available", True)]
    if zone not in there:
        raise NotSupported(
            f"availability zone {zone!r} is not one of this Cinder's", remedy=f"use one of {', '.join(there)}"
        )


def find_type(calls: Calls, name: str) -> Json:
    """A volume type by its name.

    :raises NotSupported: the project sees none of that name
    """
    doing = "listing the volume types"
    query = {"limit": "1000"}
    seen: list[str] = []
    while True:
        answer = calls.volumes("GET", "/types", doing, query=query)
        types: list[Json] = member(answer, "volume_types", doing)
        for one in types:
            if one["name"] == name:
                return one
        seen += [str(one["name"]) for one in types]
        if not types or not answer.get("volume_type_links"):
            raise NotSupported(
                f"volume type {name!r} is not one that the project can see", remedy=f"use one of {', '.join(seen)}"
            )
        query["marker"] = str(types[-1]["id"])


def _backend_of(kind: Json) -> str:
    return str((kind.get("extra_specs") or {}).get(_BACKEND, ""))


def _pools(calls: Calls, backend: str) -> tuple[int, int] | None:
    """GiB in all and still free, of the pools that a type can use; None where they cannot be seen."""
    if not calls.sees_pools:
        return None
    doing = "asking for the pools"
    try:
        answer = calls.volumes("GET", "/scheduler-stats/get_pools", doing, query={"detail": "true"})
    except (PlatformDenied, NotFound):
        calls.sees_pools = False
        return None
    found = [one.get("capabilities", {}) for one in member(answer, "pools", doing)]
    found = [one for one in found if not backend or one.get(_BACKEND) == backend]
    if not found or not all(_is_number(one.get("total_capacity_gb")) for one in found):
        return None
    return int(sum(_size_of(one)[0] for one in found)), int(sum(_size_of(one)[1] for one in found))


def _size_of(pool: Json) -> tuple[float, float]:
    """As Cinder's scheduler reckons: a thin pool promises more than it has, by its ratio."""
    total, free = float(pool["total_capacity_gb"]), pool.get("free_capacity_gb", 0)
    if not _is_number(free):
        free = total
    kept = total * float(pool.get("reserved_percentage") or 0) / 100
    told = pool.get("max_over_subscription_ratio")
    if str(pool.get("thin_provisioning_support")).lower() == "true" and _is_number(told):
        ratio = float(str(told))
        promised = float(pool.get("provisioned_capacity_gb") or 0)
        return total * ratio, max(0.0, (total - kept) * ratio - promised)
    return total, max(0.0, float(free) - kept)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
