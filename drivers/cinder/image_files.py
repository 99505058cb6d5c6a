"""Volumes that are files on a share, as NFS has them: raw ones are bound to a loop device, others are refused."""

from __future__ import annotations

import os
import time
from pathlib import Path

from drivers.block import flush
from drivers.loop_devices import bind, bindings, device_node, is_bound_to, opened, take_size_of_image, unbind
from polly_mesos.errors import DeviceNotFound, HostError
from polly_mesos.model import Json

_MAGIC = {
    b"QFI\xfb": "qcow2",
    b"KDMV": "vmdk",
    b"COWD": "vmdk",
    b"vhdxfile": "vhdx",
    b"conectix": "vhd",
    b"WithoutFreeSpace": "ploop",
    b"WithouFreSpacExt": "ploop",
}
"""How images begin that are more than the contents of a disk. Sources: QEMU's docs/interop, the makers' own formats."""

_LONGEST_MAGIC = max(map(len, _MAGIC))
_POLL = 0.05
_UNBIND_SECONDS = 10.0
_REMEDY = (
    "only raw volumes can be used without Nova: delete the snapshots of the volume, which turn it into another format "
    "on NFS, and let the back end make raw volumes (nfs_qcow2_volumes = False)"
)


def wait_for(image: str, deadline: float) -> None:
    """Wait until the share shows the file.

    :param deadline: monotonic time at which to give up
    :raises DeviceNotFound: it did not come
    """
    while not os.path.isfile(image):
        if time.monotonic() >= deadline:
            raise DeviceNotFound(
                f"the share has no file {image}", remedy="see whether the volume exists, and whether the share is whole"
            )
        time.sleep(_POLL)


def check(image: str, connection: Json, mounts: Path, size: int) -> None:
    """Refuse what must not be used as a disk: another format than raw, by Cinder's word and by the file itself.

    :param size: bytes that it has at least
    :raises HostError: it is not raw, not large enough, or not below the mounted shares
    """
    if not Path(os.path.realpath(image)).is_relative_to(os.path.realpath(mounts)):
        raise HostError(f"{image} is not on a share below {mounts}", remedy="see what the share has under that name")
    told = str(connection.get("format") or "raw")
    with open(image, "rb") as file:
        begin = file.read(_LONGEST_MAGIC)
    found = next((name for magic, name in _MAGIC.items() if begin.startswith(magic)), "raw")
    if (told, found) != ("raw", "raw"):
        raise HostError(f"{image} is {told} by Cinder's word, and begins like {found}", remedy=_REMEDY)
    if (has := os.stat(image).st_size) < size:
        raise HostError(
            f"{image} has {has} bytes, and the volume has {size}",
            remedy="if the volume is a larger copy of another one, expand it once more: Cinder's NFS driver leaves the "
            "files of copies at the size of their source. Else it may be another volume's file",
        )


def device_of(image: str, deadline: float) -> str:
    """The loop device of the file, bound where it is not yet."""
    return bound_to(image) or bind(image, deadline)


def bound_to(image: str) -> str | None:
    """The loop device that is bound to this very file by this path; others may have it by a path of their own.

    Of a mount that is gone, with the container that it was made in, the kernel tells the path from its root alone.
    """
    directories = (os.path.dirname(image), "/")
    for binding in bindings():
        has_path = binding.name == os.path.basename(image) and os.path.dirname(binding.file) in directories
        if has_path and is_bound_to(binding, image):
            return device_node(binding.entry)
    return None


def let_go(image: str) -> None:
    """Bring what was written to the share, and take the file from its device; succeeds where it has none.

    :raises HostError: something still uses the device, or the share does not take what was written
    """
    if device := bound_to(image):
        flush(device)
        unbind(image, _UNBIND_SECONDS, bound_to)


def grown(image: str) -> None:
    """Let the device have the size of the file."""
    with opened(image):
        pass  # NFS looks anew at what it opens; else the old size may be believed for a while
    if device := bound_to(image):
        take_size_of_image(device)


def bound_below(mounts: Path) -> dict[str, str]:
    """Device -> file of all that is bound from the shares mounted there, by the kernel's table."""
    below = os.path.realpath(mounts)
    return {
        device_node(binding.entry): binding.file for binding in bindings() if Path(binding.file).is_relative_to(below)
    }
