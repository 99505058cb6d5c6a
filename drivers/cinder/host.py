"""The host side: who the instance is, and which of its disks is a volume. Standard library only: it travels.

Agents that are no instances have another way: :mod:`drivers.cinder.reaching`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from drivers.base import HostDriver
from drivers.block import BlockDevice, BlockDevices, flush, only, wait_for
from drivers.cinder.identifiers import IDENTIFIER, is_identifier
from drivers.cinder.reaching import ReachingHost, volume_of
from drivers.metadata import fetch, fill
from polly_mesos.errors import HostError
from polly_mesos.model import HostIdentity, Json

_DOCUMENT = "openstack/latest/meta_data.json"
_VIRTIO_SERIAL = 20
"""Bytes of a virtio disk's serial: Nova sets the volume's id, and the device shows its beginning."""

_DMI = ("sys/class/dmi/id/product_uuid", "sys/devices/virtual/dmi/id/product_uuid")


class CinderHost(HostDriver):
    """Finds the disks of an instance by their serials; Nova's device names are only a guess and are not used."""

    def __init__(self, settings: Mapping[str, Any], node: str) -> None:
        self._node = node
        self._reaching = ReachingHost(settings, node) if settings.get("attach_by", "nova") == "cinder" else None
        self._endpoint = fill(str(settings.get("metadata_endpoint", "http://169.254.169.254")), node)
        self._root = fill(str(settings.get("host_root", "/")), node)
        self._config_drive = fill(str(settings.get("config_drive", "")), node)
        self._devices = BlockDevices(self._root)

    def identify(self) -> HostIdentity:
        """The instance's id by the metadata service, else by the config drive, else by DMI.

        :raises HostError: none of them tells
        """
        if self._reaching:
            return self._reaching.identify()
        told = []
        for source in (self._from_service, self._from_config_drive, self._from_dmi):
            try:
                return source()
            except (HostError, OSError, ValueError, KeyError) as error:
                told.append(str(error))
        raise HostError(
            f"this host does not know which instance it is: {'; '.join(told)}",
            remedy="let it reach its metadata service, or give it a config drive; or write attach_by: cinder",
        )

    def locate(self, attachment: Json, timeout: float) -> str:
        if self._reaching:
            return self._reaching.locate(attachment, timeout)
        volume = volume_of(attachment)
        found = wait_for(
            lambda: only(self._disks_of(volume), f"volume {volume}"),
            timeout,
            f"no disk of this host has the serial of volume {volume}",
            "see /sys/block/*/serial, and whether the volume is attached to this very instance",
        )
        return found.path

    def release(self, attachment: Json) -> None:
        if self._reaching:
            self._reaching.release(attachment)
            return
        volume = volume_of(attachment)
        for device in self._disks_of(volume):
            flush(device.path)

    def held(self) -> Mapping[str, Json]:
        """Disks whose serial is a whole volume id; virtio shows too little of it to name the volume."""
        if self._reaching:
            return self._reaching.held()
        found: dict[str, Json] = {}
        for device in self._devices.with_serial(lambda serial: bool(IDENTIFIER.search(serial))):
            for serial in device.serials:
                if match := IDENTIFIER.search(serial):
                    found[device.path] = {"volume": match.group()}
        return found

    def rescan(self, attachment: Json) -> None:
        """Instances see it by themselves: Nova tells their guests."""
        if self._reaching:
            self._reaching.rescan(attachment)

    def _disks_of(self, volume: str) -> list[BlockDevice]:
        return self._devices.with_serial(lambda serial: is_serial_of(serial, volume))

    def _from_service(self) -> HostIdentity:
        return _identity(json.loads(fetch(f"{self._endpoint}/{_DOCUMENT}")))

    def _from_config_drive(self) -> HostIdentity:
        if not self._config_drive:
            raise HostError("no config_drive is configured")
        return _identity(json.loads((Path(self._config_drive) / _DOCUMENT).read_text()))

    def _from_dmi(self) -> HostIdentity:
        return HostIdentity(_first_line(Path(self._root) / path for path in _DMI).lower())


def is_serial_of(serial: str, volume: str) -> bool:
    """Whether a disk with this serial is the volume: the whole id, or as much of it as virtio shows, and no less."""
    return serial in (volume, volume[:_VIRTIO_SERIAL]) or bool(re.search(rf"(^|[ _-]){re.escape(volume)}$", serial))


def _identity(document: Mapping[str, Any]) -> HostIdentity:
    server = str(document["uuid"])
    if not is_identifier(server):
        raise ValueError(f"the metadata names {server!r}, which is no id of an instance")
    return HostIdentity(server, str(document.get("availability_zone") or ""))


def _first_line(paths: Iterable[Path]) -> str:
    told: list[str] = []
    for path in paths:
        try:
            if is_identifier(text := path.read_text().strip().lower()):
                return text
            told.append(f"{path} has {text!r}")
        except OSError as error:
            told.append(str(error))
    raise HostError("; ".join(told))
