"""Where a disk is plugged in on Xen. Standard library only.

The number of a virtual device is made of the name by which it was attached. Source: ``xen-vbd-interface(7)`` of Xen;
the kernel shows it as the attribute ``nodename`` of the device, ``device/vbd/51792`` for /dev/xvdf.
"""

from __future__ import annotations

import re
from pathlib import Path

_XVD, _SD, _EXTENDED = 202, 8, 1 << 28
_NODENAME = re.compile(r"device/vbd/([0-9]+)")


def is_plugged_at(entry: Path, name: str) -> bool:
    """Whether a disk, given its directory in /sys/block, is the one that was attached by this name."""
    try:
        found = _NODENAME.fullmatch((entry / "device/nodename").read_text().strip())
    except OSError:
        return False
    return found is not None and int(found[1]) in numbers_of(name)


def numbers_of(name: str) -> set[int]:
    """The virtual device numbers that a name can stand for; EC2 takes /dev/sdf and /dev/xvdf for the same place."""
    letters = re.sub(r"^(/dev/)?(xvd|sd)", "", name)
    if not re.fullmatch("[a-z]{1,2}", letters):
        return set()
    index = 0
    for letter in letters:
        index = index * 26 + ord(letter) - ord("a") + 1
    index -= 1
    if index < 16:
        return {_XVD << 8 | index << 4, _SD << 8 | index << 4, _EXTENDED | index << 8}
    return {_EXTENDED | index << 8}
