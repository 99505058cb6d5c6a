"""How many volumes an instance can have, by its type, for as long as EC2 has not been asked. Standard library only.

Hosts have no credentials to ask. What they say of themselves is careful: never more than EC2 says of the type.
Source: the EC2 user guide, "Amazon EBS volume limits for Amazon EC2 instances", and what DescribeInstanceTypes tells.
"""

from __future__ import annotations

import re

_XEN = frozenset(
    "c1 c3 c4 d2 f1 g2 g3 g3s h1 hs1 i2 i3 m1 m2 m3 m4 p2 p3 r3 r4 t1 t2 x1 x1e".split()  # noqa: SIM905
)
_XEN_LIMIT = 39
_NITRO_LIMIT = 28
_BARE_METAL_LIMIT = 31
_MAC_LIMIT = 10
_ACCELERATORS = dict.fromkeys(("g4dn", "g5", "g5g", "inf1", "inf2", "trn1", "vt1"), 4)
"""Places that accelerators take on the sizes that have most of them."""
_DEDICATED = {"16xlarge": 48, "18xlarge": 48, "24xlarge": 64, "32xlarge": 88, "48xlarge": 128, "96xlarge": 128}
_SMALLEST_DEDICATED = 32
_DEDICATED_METAL = {"metal-16xl": 39, "metal-24xl": 39, "metal-32xl": 79, "metal-48xl": 64, "metal-96xl": 78}
_DEDICATED_FAMILY = re.compile(r"(?:[cm]7(?:i|a|i-flex)|r7(?:i|a|iz)|[cmr][89][a-z-]+|x8[gi]|i7ie?|i8ge?|u7in?-.*)")
_ODD = {
    "d3.8xlarge": 3,
    "d3en.12xlarge": 3,
    "d3.4xlarge": 15,
    "d3en.6xlarge": 15,
    "d3en.8xlarge": 11,
    "dl2q.24xlarge": 19,
    "g5.48xlarge": 9,
    "inf1.24xlarge": 11,
    "p3dn.24xlarge": 17,
}
"""With one network interface."""


def is_nitro(instance_type: str) -> bool:
    """Whether its volumes are NVMe disks. Of the family i3 the metal one alone is."""
    family, _, size = instance_type.partition(".")
    return family not in _XEN or size.startswith("metal")


def attach_limit(instance_type: str, interfaces: int, instance_stores: int) -> int:
    """Volumes that an instance of this type can have in all, the root volume included.

    :param interfaces: its network interfaces, which take the same places on most Nitro types
    :param instance_stores: its NVMe disks that are not volumes, which do too
    """
    family, _, size = instance_type.partition(".")
    if instance_type in _ODD:
        return max(1, _ODD[instance_type] - interfaces + 1)
    if family.startswith("mac"):
        return _MAC_LIMIT
    if not is_nitro(instance_type):
        return _XEN_LIMIT
    if _DEDICATED_FAMILY.fullmatch(family):
        if size.startswith("metal"):
            return _DEDICATED_METAL.get(size, _SMALLEST_DEDICATED)
        return 128 if family.startswith("u7") else _DEDICATED.get(size, _SMALLEST_DEDICATED)
    limit = _BARE_METAL_LIMIT if size.startswith("metal") else _NITRO_LIMIT - _ACCELERATORS.get(family, 0)
    return max(1, limit - interfaces - instance_stores)
