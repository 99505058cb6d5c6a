"""The host side: who this instance is, and which of its disks is which volume.

On Nitro a volume's id is the serial number of its NVMe disk. Xen knows no serial numbers: there the number of the
virtual device says where it is plugged in, and that is compared with the name by which it was attached. A disk that
cannot be told for certain is not taken.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drivers.base import HostDriver
from drivers.block import BlockDevice, BlockDevices, flush, only, serials_of, wait_for
from drivers.ebs.attach_limits import attach_limit
from drivers.ebs.xen import is_plugged_at
from drivers.metadata import fetch, fill
from polly_mesos.errors import HostError
from polly_mesos.model import HostIdentity, Json

_SESSION_SECONDS = "300"
_STORE_MODEL = "Amazon EC2 NVMe Instance Storage"


class EbsHost(HostDriver):
    """Asks the instance's metadata service, and the kernel."""

    def __init__(self, settings: Mapping[str, Any], node: str) -> None:
        endpoint = str(settings.get("metadata_endpoint") or "http://169.254.169.254")
        self._endpoint = fill(endpoint, node).rstrip("/")
        self._root = Path(fill(str(settings.get("host_root") or "/"), node))
        self._reserved: int | None = settings.get("reserved_attachments")
        self._disks = BlockDevices(str(self._root))

    def identify(self) -> HostIdentity:
        """The instance, by its metadata service of version 2.

        :raises HostError: this is no instance, or its metadata service is switched off
        """
        ttl = {"X-aws-ec2-metadata-token-ttl-seconds": _SESSION_SECONDS}
        token = fetch(f"{self._endpoint}/latest/api/token", method="PUT", headers=ttl).decode()
        headers = {"X-aws-ec2-metadata-token": token}

        def ask(path: str) -> str:
            return fetch(f"{self._endpoint}/latest/{path}", headers=headers).decode()

        try:
            document = json.loads(ask("dynamic/instance-identity/document"))
            instance, kind = str(document["instanceId"]), str(document["instanceType"])
            zone, region = str(document["availabilityZone"]), str(document["region"])
        except (ValueError, KeyError, TypeError) as error:
            raise HostError(
                f"the instance's identity document cannot be understood: {error}", remedy="correct metadata_endpoint"
            ) from error
        interfaces = len(ask("meta-data/network/interfaces/macs/").split())
        mapping = ask("meta-data/block-device-mapping/").split()
        limit = attach_limit(kind, interfaces, self._instance_stores())
        used = self._reserved
        if used is None:
            used = 1 + sum(name.startswith("ebs") for name in mapping)
        details = {"instance_type": kind, "region": region, "interfaces": str(interfaces)}
        return HostIdentity(instance, zone, max(0, limit - used), details)

    def locate(self, attachment: Json, timeout: float) -> str:
        device = wait_for(
            lambda: self._find(attachment),
            timeout,
            f"no disk of this host is volume {attachment['volume']}, attached as {attachment['device']}",
            "see `lsblk -o NAME,SERIAL,SIZE`, and whether EC2 says that it is attached to this instance",
        )
        return device.path

    def release(self, attachment: Json) -> None:
        """EC2 takes a disk only when nothing uses it; what was written is on it before."""
        device = self._find(attachment)
        if device is None:
            return
        try:
            os.close(os.open(device.path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
        except FileNotFoundError:
            return
        except OSError as error:
            raise HostError(
                f"{device.path} (volume {attachment['volume']}) is still in use: {error}",
                remedy=f"see `lsblk {device.path}` and `fuser -v {device.path}`",
            ) from error
        flush(device.path)

    def held(self) -> Mapping[str, Json]:
        """The volumes without partitions that this instance has; whose they are no host can know."""
        found: dict[str, Json] = {}
        for device in self._disks.with_serial(lambda serial: serial.startswith("vol")):
            if not list((self._root / "sys/block" / device.name).glob("*/partition")):
                volume = next(serial for serial in device.serials if serial.startswith("vol"))
                found[device.path] = {"volume": f"vol-{volume.removeprefix('vol')}", "device": "", "size": 0}
        return found

    def rescan(self, attachment: Json) -> None:
        device = self._find(attachment)
        if device is None:
            return
        rescan = self._root / "sys/block" / device.name / "device/rescan_controller"
        if rescan.exists():
            try:
                rescan.write_text("1")
            except OSError as error:
                raise HostError(f"{rescan} cannot be written: {error}", remedy="run the executor as root") from error

    def _find(self, attachment: Json) -> BlockDevice | None:
        """The one disk that is the volume.

        :raises HostError: two disks say that they are
        """
        serial = str(attachment["volume"]).replace("-", "")
        found = self._disks.with_serial(lambda told: told == serial)
        if not found and attachment["device"]:
            found = self._plugged_at(str(attachment["device"]), int(attachment["size"]))
        return only(found, f"volume {attachment['volume']}")

    def _plugged_at(self, name: str, size: int) -> list[BlockDevice]:
        """Xen's disk at a place, if it has no serial number and is no smaller than the volume was."""
        blocks = self._root / "sys/block"
        entries = sorted(blocks.iterdir()) if blocks.is_dir() else []
        plugged = [entry.name for entry in entries if is_plugged_at(entry, name) and not list(serials_of(entry))]
        devices = [self._disks.named(entry) for entry in plugged]
        return [device for device in devices if device is not None and device.size >= size]

    def _instance_stores(self) -> int:
        """NVMe disks that belong to the instance itself."""
        blocks = self._root / "sys/block"
        models = blocks.glob("nvme*/device/model") if blocks.is_dir() else []
        return sum(model.read_text(errors="replace").strip() == _STORE_MODEL for model in models)
