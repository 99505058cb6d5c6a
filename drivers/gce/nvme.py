"""Which disk an NVMe namespace is: Google writes it in the vendor's part of the namespace's description.

No file of ``/sys`` has it. ``google_nvme_id``, by which udev names its links, asks for the same.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
from ctypes import addressof, create_string_buffer

from polly_mesos.errors import HostError

CONTROLLER = "nvme_card-pd"
"""The serial number of the controller that has persistent disks and hyperdisks; that of local SSDs is another."""

_GET_ID = 0x4E40
_ADMIN_COMMAND = 0xC0484E41
"""``NVME_IOCTL_ID`` and ``NVME_IOCTL_ADMIN_CMD`` of ``linux/nvme_ioctl.h``"""
_COMMAND = "<BBHIIIQQIIIIIIIIII"
_IDENTIFY = 0x06
_PAGE = 4096
_VENDOR_PART = 384


def name_of(path: str, namespace: str) -> str:
    """The device name of an attached disk; empty where its description has none, or where it is gone.

    The number of the namespace is asked of the node itself. That in its name is only the kernel's count, and the
    controller would answer for any other namespace as readily.

    :param namespace: its number as ``/sys/block/…/nsid`` has it, empty where the kernel does not tell
    :raises HostError: the disk does not answer, or is not the one that ``/sys`` tells of
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise _unreadable(path, str(error)) from error
    try:
        number = fcntl.ioctl(descriptor, _GET_ID)
        if namespace not in ("", str(number)):
            raise _unreadable(path, f"it is namespace {number}, and /sys says {namespace}")
        return parse(_describe(descriptor, path, number))
    except OSError as error:
        raise _unreadable(path, str(error)) from error
    finally:
        os.close(descriptor)


def parse(page: bytes) -> str:
    """The name in the JSON text that Google writes from byte 384 on."""
    text = page[_VENDOR_PART:].split(b"\0", 1)[0]
    try:
        return str(json.loads(text)["device_name"])
    except (ValueError, LookupError, TypeError):
        return ""


def _describe(descriptor: int, path: str, namespace: int) -> bytes:
    """The namespace's description, by the admin command Identify."""
    page = create_string_buffer(_PAGE)
    # A bytearray, because with bytes the status that the controller returns is not seen.
    command = bytearray(
        struct.pack(_COMMAND, _IDENTIFY, 0, 0, namespace, 0, 0, 0, addressof(page), 0, _PAGE, *([0] * 8))
    )
    if status := fcntl.ioctl(descriptor, _ADMIN_COMMAND, command, True):
        raise _unreadable(path, f"its controller answers with NVMe status {status:#x}")
    return page.raw


def _unreadable(path: str, why: str) -> HostError:
    return HostError(f"{path} does not say which disk it is: {why}", remedy="run the executor as root")
