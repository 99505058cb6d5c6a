"""The host side: who the instance is, by the metadata server, and which of its disks is the one that was attached.

A disk is known by the identifier that Google's virtual SCSI hardware gives it, ``Google PersistentDisk NAME``, or on
NVMe by the vendor's part of its namespace's description. udev's links in /dev/disk/by-id are made of the same; they
may be stale, so they are not asked.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drivers.base import HostDriver
from drivers.block import BlockDevice, BlockDevices, flush, only, wait_for
from drivers.gce import nvme
from drivers.gce.attach_limits import disks_of
from drivers.metadata import fetch, fill
from polly_mesos.errors import HostError
from polly_mesos.model import HostIdentity, Json

_OURS = "polly-"
_LOCAL = "LOCAL-SSD"
"""As the metadata server calls disks that belong to the machine, and count in no limit."""


class GceHost(HostDriver):
    """An instance of Compute Engine."""

    def __init__(self, settings: Mapping[str, Any], node: str) -> None:
        self._metadata = fill(str(settings.get("metadata_endpoint", "http://metadata.google.internal")), node)
        self._root = fill(str(settings.get("host_root", "/")), node)
        self._limit: int | None = settings.get("attach_limit")
        self._devices = BlockDevices(self._root)

    def identify(self) -> HostIdentity:
        """By instance/name, instance/zone, instance/machine-type and instance/disks.

        :raises HostError: the metadata server does not answer
        """
        zone = self._ask("instance/zone").rpartition("/")[2]
        name, machine = self._ask("instance/name"), self._ask("instance/machine-type").rpartition("/")[2]
        details = {"machine_type": machine, "project": self._ask("project/project-id")}
        limit = self._limit
        if limit is None:
            limit = max(0, disks_of(machine) - self._disks_of_others())
        return HostIdentity(f"zones/{zone}/instances/{name}", zone, limit, details)

    def locate(self, attachment: Json, timeout: float) -> str:
        name = str(attachment["device_name"])
        found = wait_for(
            lambda: only(self._named(name), name),
            timeout,
            f"no disk of this instance says that it is {name}",
            "see `ls -l /dev/disk/by-id/google-*` and the instance's disks in Google's console",
        )
        return found.path

    def release(self, attachment: Json) -> None:
        for device in self._named(str(attachment["device_name"])):
            flush(device.path)

    def held(self) -> Mapping[str, Json]:
        """The disks with names of ours."""
        found = {}
        for device in self._devices.with_serial(_is_google):
            name = self._name_of(device)
            if name.startswith(_OURS):
                found[device.path] = {"device_name": name}
        return found

    def rescan(self, attachment: Json) -> None:
        """Ask the kernel to read the size again; virtio-scsi hears of it by itself, NVMe too."""
        for device in self._named(str(attachment["device_name"])):
            for switch in ("rescan", "rescan_controller"):
                path = Path(self._root) / "sys/block" / device.name / "device" / switch
                if path.exists():
                    try:
                        path.write_text("1")
                    except OSError as error:
                        raise HostError(f"the size of {device.path} cannot be read again: {error}") from error

    def _named(self, name: str) -> list[BlockDevice]:
        """The disks of that name: one, unless something is wrong.

        :raises HostError: it is empty, and so would be that of every disk that has none
        """
        if not name:
            raise HostError("an attachment without a device name fits no disk", remedy="this is a defect of Polly's")
        return [device for device in self._devices.with_serial(_is_google) if self._name_of(device) == name]

    def _name_of(self, device: BlockDevice) -> str:
        if nvme.CONTROLLER in device.serials:
            try:
                return nvme.name_of(device.path, self._namespace_of(device))
            except HostError:
                if self._devices.named(device.name) == device:
                    raise
                return ""  # It was unplugged meanwhile.
        return next(filter(None, map(_scsi_name, device.serials)), "")

    def _namespace_of(self, device: BlockDevice) -> str:
        with contextlib.suppress(OSError):
            return (Path(self._root) / "sys/block" / device.name / "nsid").read_text().strip()
        return ""

    def _disks_of_others(self) -> int:
        """The disks that take places and are not volumes: the boot disk, and those that somebody else attached."""
        answer = self._ask("instance/disks/?recursive=true")
        try:
            told = [(str(disk["deviceName"]), str(disk["type"])) for disk in json.loads(answer)]
        except (ValueError, TypeError, LookupError) as error:
            raise HostError(
                f"the metadata server's list of disks cannot be understood: {error!r}",
                remedy="correct metadata_endpoint, or write attach_limit",
            ) from error
        return max(1, sum(kind != _LOCAL and not name.startswith(_OURS) for name, kind in told))

    def _ask(self, key: str) -> str:
        url = f"{self._metadata}/computeMetadata/v1/{key}"
        return fetch(url, headers={"Metadata-Flavor": "Google"}).decode(errors="replace").strip()


def _is_google(serial: str) -> bool:
    return serial == nvme.CONTROLLER or bool(_scsi_name(serial))


def _scsi_name(serial: str) -> str:
    """``my-disk`` of ``t10.Google  PersistentDisk  my-disk``, in which blanks may be one or many."""
    words = serial.removeprefix("t10.").split()
    return words[2] if len(words) == 3 and words[:2] == ["Google", "PersistentDisk"] else ""
