"""The host side: who the instance is, by the metadata server, and which of its disks is the one that was attached.

A disk is known by the identifier that Google's virtual SCSI hardware gives it, ``Google PersistentDisk NAME``, or on
NVMe by the vendor's part of its namespace's description. udev's links in /dev/disk/by-id are made of the same; they
may be stale, so they are not asked.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import time
from collections.abc import Mapping
from ctypes import addressof, create_string_buffer
from pathlib import Path
from typing import Any

from drivers.base import HostDriver
from drivers.block import BlockDevice, BlockDevices, flush
from drivers.metadata import fetch, fill
from polly_mesos.errors import DeviceNotFound, HostError
from polly_mesos.model import HostIdentity, Json

_POLL = 0.05
_NVME_CONTROLLER = "nvme_card-pd"
_NVME_ADMIN_COMMAND = 0xC0484E41
"""``NVME_IOCTL_ADMIN_CMD`` of ``linux/nvme_ioctl.h``"""
_IDENTIFY = 0x06
_PAGE = 4096
_VENDOR_PART = 384
_FEWEST = 15
_MOST = 127
_FEW_DISKS = ("e2-micro", "e2-small", "e2-medium", "f1-micro", "g1-small")
"""Shared-core machine types have 16 disks, the boot disk among them; others 128, where their page names no fewer."""
_LIMITED = ("c4-", "c4a-", "c4d-", "n4-")
"""Families whose limit depends on the size of the machine; the smallest ones have 16."""


class GceHost(HostDriver):
    """An instance of Compute Engine."""

    def __init__(self, settings: Mapping[str, Any], node: str) -> None:
        self._metadata = fill(str(settings.get("metadata_endpoint", "http://metadata.google.internal")), node)
        self._root = fill(str(settings.get("host_root", "/")), node)
        self._devices = BlockDevices(self._root)

    def identify(self) -> HostIdentity:
        """By instance/name, instance/zone and instance/machine-type.

        :raises HostError: the metadata server does not answer
        """
        zone = self._ask("instance/zone").rpartition("/")[2]
        name, machine = self._ask("instance/name"), self._ask("instance/machine-type").rpartition("/")[2]
        details = {"machine_type": machine, "project": self._ask("project/project-id")}
        return HostIdentity(f"zones/{zone}/instances/{name}", zone, attach_limit(machine), details)

    def locate(self, attachment: Json, timeout: float) -> str:
        name = str(attachment["device_name"])
        deadline = time.monotonic() + timeout
        while not (found := self._named(name)):
            if time.monotonic() >= deadline:
                raise DeviceNotFound(
                    f"no disk of this instance says that it is {name}",
                    remedy="see `ls -l /dev/disk/by-id/google-*` and the instance's disks in Google's console",
                )
            time.sleep(_POLL)
        if len(found) > 1:
            raise HostError(f"several disks say that they are {name}: {', '.join(one.path for one in found)}")
        return found[0].path

    def release(self, attachment: Json) -> None:
        for device in self._named(str(attachment["device_name"])):
            flush(device.path)

    def held(self) -> Mapping[str, Json]:
        """The disks with names of ours."""
        found = {}
        for device in self._devices.with_serial(_is_google):
            name = self._name_of(device)
            if name.startswith("polly-"):
                found[device.path] = {"device_name": name}
        return found

    def rescan(self, attachment: Json) -> None:
        """Ask the kernel to read the size again; virtio-scsi hears of it by itself, NVMe too."""
        for device in self._named(str(attachment["device_name"])):
            switch = Path(self._root) / "sys/block" / device.name / "device/rescan"
            if switch.exists():
                try:
                    switch.write_text("1")
                except OSError as error:
                    raise HostError(f"the size of {device.path} cannot be read again: {error}") from error

    def _named(self, name: str) -> list[BlockDevice]:
        return [device for device in self._devices.with_serial(_is_google) if self._name_of(device) == name]

    def _name_of(self, device: BlockDevice) -> str:
        if _NVME_CONTROLLER in device.serials:
            return nvme_name(device.path)
        return next(filter(None, map(_scsi_name, device.serials)), "")

    def _ask(self, key: str) -> str:
        url = f"{self._metadata}/computeMetadata/v1/{key}"
        return fetch(url, headers={"Metadata-Flavor": "Google"}).decode(errors="replace").strip()


def attach_limit(machine_type: str) -> int:
    """How many disks the machine can have beside its boot disk; too few rather than too many."""
    few = machine_type in _FEW_DISKS or machine_type.startswith(_LIMITED)
    return _FEWEST if few else _MOST


def nvme_name(path: str) -> str:
    """The device name in the vendor's part of an NVMe namespace's description; empty where there is none."""
    page = create_string_buffer(_PAGE)
    namespace = _namespace_of(path)
    command = struct.pack(
        "<BBHIIIQQIIIIIIIIII", _IDENTIFY, 0, 0, namespace, 0, 0, 0, addressof(page), 0, _PAGE, *([0] * 8)
    )
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, _NVME_ADMIN_COMMAND, command)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise HostError(f"{path} does not say which disk it is: {error}", remedy="run the executor as root") from error
    return parse_nvme(page.raw)


def parse_nvme(page: bytes) -> str:
    """The name in the JSON text that Google writes from byte 384 on."""
    text = page[_VENDOR_PART:].split(b"\0", 1)[0]
    try:
        return str(json.loads(text)["device_name"])
    except (ValueError, LookupError, TypeError):
        return ""


def _namespace_of(path: str) -> int:
    number = os.path.basename(path).rpartition("n")[2]
    return int(number) if number.isdigit() else 1


def _is_google(serial: str) -> bool:
    return serial == _NVME_CONTROLLER or bool(_scsi_name(serial))


def _scsi_name(serial: str) -> str:
    """``my-disk`` of ``t10.Google  PersistentDisk  my-disk``, in which blanks may be one or many."""
    words = serial.removeprefix("t10.").split()
    return words[2] if len(words) == 3 and words[:2] == ["Google", "PersistentDisk"] else ""
