"""How many disks an instance can have, by its machine type. Standard library only: hosts have no credentials to ask.

Sources: https://docs.cloud.google.com/compute/docs/general-purpose-machines for the series of the fourth generation, as
Google's driver for Kubernetes has its figures (``pkg/constants/constants.go``, the boot disk taken off);
https://docs.cloud.google.com/kubernetes-engine/docs/concepts/persistent-volume-attach-limits for those before;
https://docs.cloud.google.com/compute/docs/disks#pdnumberlimits for shared cores. What is not known is taken low.
"""

from __future__ import annotations

import re

_BY_CPUS = {
    "c4": ((2, 8), (4, 16), (24, 32), (48, 64), (288, 128)),
    "c4a": ((2, 8), (8, 16), (48, 32), (72, 64)),
    "c4d": ((2, 4), (4, 8), (8, 16), (96, 32), (192, 64), (384, 128)),
    "n4": ((8, 16), (80, 32)),
    "n4a": ((8, 16), (64, 32)),
    "n4d": ((8, 16), (96, 32)),
}
"""Series that take hyperdisks alone: up to so many virtual CPUs, so many disks."""
_LOWEST = _BY_CPUS["c4d"]
"""The fewest that any series has for its number of virtual CPUs."""
_MANY = 128
_MANY_DISKS = frozenset("a2 c2 c2d custom e2 g2 m1 m2 n1 n2 n2d t2a t2d".split())  # noqa: SIM905
"""Series of the first and second generation."""
_FEW = 16
_FEW_DISKS = frozenset("a3 c3 c3d h3 m3 z3".split())  # noqa: SIM905
"""Series of the third generation: 128 persistent disks, but hyperdisks by their type and the number of virtual CPUs."""
_SHARED_CORE = re.compile(r"(f1-micro|g1-small|e2-(custom-)?(micro|small|medium)(-\d+)?)")
_CPUS = re.compile(r"[a-z][a-z0-9]*-(?:[a-z]+-)?(\d+)(?=-|$)")


def disks_of(machine_type: str) -> int:
    """Disks that an instance can have in all, its boot disk included and local SSDs not."""
    series, match = machine_type.partition("-")[0], _CPUS.match(machine_type)
    cpus = int(match[1]) if match else 0
    if _SHARED_CORE.fullmatch(machine_type) or machine_type.endswith("-metal") or series in _FEW_DISKS:
        return _FEW
    if series in _MANY_DISKS:
        return _MANY
    known = _BY_CPUS.get(series)
    found = next((disks for most, disks in known or _LOWEST if cpus <= most), _FEW)
    return found if known else min(found, _FEW)
