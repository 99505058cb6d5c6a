"""What the project may still make, and where the credentials are an administrator's, what the pools can hold."""

from __future__ import annotations

from drivers.base import Capacity
from drivers.cinder import GIB
from drivers.cinder.calls import Calls
from drivers.cinder.pools import pooled
from drivers.cinder.shown import member
from polly_mesos.errors import NotSupported
from polly_mesos.model import Json


def measure(calls: Calls, zone: str, platform_type: str) -> Capacity:
    """The project's quota of gigabytes, cut down to what the pools of the type have where they can be seen.

    :raises NotSupported: there is no such zone or type
    """
    doing = "asking for the project's limits"
    if zone:
        check_zone(calls, zone)
    kind = find_type(calls, platform_type) if platform_type else None
    limits: Json = member(member(calls.volumes("GET", "/limits", doing), "limits", doing), "absolute", doing)
    most, used = int(limits.get("maxTotalVolumeGigabytes", -1)), int(limits.get("totalGigabytesUsed", 0))
    total, available = (None, None) if most < 0 else (float(most), max(0.0, float(most - used)))
    if (pools := pooled(calls, zone, kind)) is not None:
        total, available = _least(total, pools[0]), _least(available, pools[1])
    return Capacity(_bytes(total), _bytes(_least(available, total)))


def _least(one: float | None, other: float | None) -> float | None:
    known = [number for number in (one, other) if number is not None]
    return min(known) if known else None


def _bytes(gigabytes: float | None) -> int | None:
    """Whole GiB, in bytes: Cinder gives no others."""
    return None if gigabytes is None else int(gigabytes) * GIB


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
