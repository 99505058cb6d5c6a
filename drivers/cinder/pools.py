"""What the back ends behind a volume type have. Cinder shows it to its administrators, and to nobody else."""

from __future__ import annotations

import math
from typing import Any

from drivers.cinder.calls import Calls
from drivers.cinder.shown import member
from polly_mesos.errors import NotFound, PlatformDenied
from polly_mesos.model import Json

_BACKEND = "volume_backend_name"
_OPERATORS = ("<", "=", "!", ">", "s==", "s!=", "s<", "s>")
"""How the value of an extra spec begins that is more than a text: ``<or> one <or> other``, ``s== name``."""

Size = tuple[float | None, float | None]
"""GiB in all and still free; None where there is no limit, or none is told."""


def pooled(calls: Calls, zone: str, kind: Json | None) -> Size | None:
    """What all pools together have that volumes of the type go to; None where that cannot be found out.

    :param zone: empty for all zones
    :param kind: the volume type as Cinder shows it; None for the cloud's choice
    """
    if not calls.sees_pools:
        return None
    doing = "asking for the pools"
    try:
        answer = calls.volumes("GET", "/scheduler-stats/get_pools", doing, query={"detail": "true"})
    except (PlatformDenied, NotFound):
        calls.sees_pools = False
        return None
    pools: list[Json] = member(answer, "pools", doing)
    backend = _backend_of(kind)
    if backend is None:
        return None
    elsewhere = _of_other_zones(calls, zone)
    found = [
        one.get("capabilities") or {}
        for one in pools
        if str(one.get("name")).partition("#")[0] not in elsewhere
        and backend in ("", (one.get("capabilities") or {}).get(_BACKEND))
    ]
    if not found:
        return None, 0.0  # the back end is down or disabled: what exists stays, and nothing can be added
    return sum_of([size_of(one, thick=_is_thick(kind)) for one in found])


def size_of(pool: Json, *, thick: bool = False) -> Size:
    """One pool, as Cinder's scheduler reckons: less what is reserved, and where it is thin, more by its ratio.

    The scheduler lets a thin pool promise more also when its disks are full. Here such a pool has nothing left.

    :param pool: its capabilities
    :param thick: whether the volume type has its space at once
    """
    total, free = _number(pool.get("total_capacity_gb")), _number(pool.get("free_capacity_gb"))
    percent = _number(pool.get("reserved_percentage")) or 0.0
    if str(pool.get("backend_state", "up")) == "down":
        return None, 0.0
    if total is None:
        # Cinder cannot reserve a part of what it does not know, and uses no such pool.
        return (None, None) if free is None or not percent else (None, 0.0)
    usable = max(0.0, total - math.floor(total * percent / 100))
    thin = not thick and str(pool.get("thin_provisioning_support")).lower() == "true"
    ratio = (_number(pool.get("max_over_subscription_ratio")) or 1.0) if thin else 1.0
    if ratio < 1:
        return usable, 0.0
    if free is None:
        return usable * ratio, None
    promised = _number(pool.get("provisioned_capacity_gb"))
    left = usable * ratio - (promised if promised is not None else total - free)
    return usable * ratio, max(0.0, min(left, (free - (total - usable)) * ratio if thin else free))


def sum_of(sizes: list[Size]) -> Size:
    """All together; one without a limit makes the whole without."""
    totals, frees = zip(*sizes, strict=True)
    return _sum(totals), _sum(frees)


def _sum(numbers: tuple[float | None, ...]) -> float | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def _backend_of(kind: Json | None) -> str | None:
    """The name of the back end that a type asks for; empty for any, None where it asks for more than a name."""
    specs = (kind or {}).get("extra_specs") or {}
    name = str(specs.get(_BACKEND) or specs.get(f"capabilities:{_BACKEND}") or "")
    return None if name.startswith(_OPERATORS) else name


def _is_thick(kind: Json | None) -> bool:
    return str(((kind or {}).get("extra_specs") or {}).get("provisioning:type")) == "thick"


def _of_other_zones(calls: Calls, zone: str) -> set[str]:
    """``host@backend`` of the volume services of other zones than this; none where they may not be listed."""
    if not zone:
        return set()
    doing = "listing the volume services"
    try:
        answer = calls.volumes("GET", "/os-services", doing, query={"binary": "cinder-volume"})
    except (PlatformDenied, NotFound):
        return set()
    return {str(one["host"]) for one in member(answer, "services", doing) if one.get("zone") != zone}


def _number(value: Any) -> float | None:
    """None for ``infinite`` and ``unknown``, and what else is no number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
