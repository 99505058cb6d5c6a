"""The host side on agents that are no instances: os-brick brings volumes here, over Cinder's own attachments."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from drivers.base import HostDriver
from drivers.block import BlockDevices, flush
from drivers.cinder import image_files
from drivers.cinder.brick import Brick, BrickMissing
from drivers.cinder.connections import VALUES, WITHHELD
from drivers.cinder.host_records import HostRecord, HostRecords
from drivers.cinder.identifiers import IDENTIFIER, is_identifier
from drivers.metadata import fill
from polly_mesos.errors import DeviceNotFound, HostError
from polly_mesos.model import HostIdentity, Json

_CONNECTOR_SECONDS = 600.0
_NAMED = {"uuid": "vol_uuid", "nguid": "volume_nguid"}
"""What the kernel shows of an NVMe namespace -> what Cinder calls it. Source: os-brick's nvmeof connector."""


class ReachingHost(HostDriver):
    """Connects and disconnects by os-brick; a volume that is a file on a share gets a loop device. Needs root."""

    def __init__(self, settings: Mapping[str, Any], node: str) -> None:
        self._node = node
        directory = Path(fill(str(settings.get("host_directory", "/var/lib/polly/cinder")), node))
        self._ask_again, self._details = float("-inf"), {"connector": "{}"}
        self._root = fill(str(settings.get("host_root", "/")), node)
        self._devices = BlockDevices(self._root)
        self._records = HostRecords(directory / "records")
        self._brick = Brick(fill(str(settings.get("os_brick_python", "/usr/bin/python3")), node), directory)

    def identify(self) -> HostIdentity:
        """The agent's host name, and os-brick's connector; os-brick is asked for it now and then only.

        :raises HostError: there is no os-brick, without which no volume can be brought here
        """
        name = self._node.rpartition(":")[0] or socket.gethostname()
        if time.monotonic() >= self._ask_again:
            connector = self._brick.connector(name, _address(name))
            self._details = {"connector": json.dumps(connector, sort_keys=True)}
            self._ask_again = time.monotonic() + _CONNECTOR_SECONDS
        return HostIdentity(name, details=self._details)

    def locate(self, attachment: Json, timeout: float) -> str:
        known = {name: value for name, value in attachment.items() if name != VALUES}
        connection = _connection(known)
        deadline = time.monotonic() + timeout
        volume = volume_of(known)
        with self._records.alone(volume):
            earlier = self._records.get(volume)
            if earlier is not None and earlier.attachment.get("attachment") != known.get("attachment"):
                self._let_go(earlier)  # of an attachment that is over, nothing is as it was
                earlier = None
            begun = replace(earlier or HostRecord(self._node, known), node=self._node, attachment=known)
            if begun.path and (begun.image or begun.serials) and self._is_same(begun):
                # It may be in use: os-brick takes away what it cannot connect again.
                self._records.put(begun)
                return begun.path
            secret = _secret(known, attachment)
            self._records.put(begun)
            try:
                device = self._brick.connect(connection, secret, timeout)
            except BrickMissing:
                if earlier is None:
                    self._records.drop(volume)
                raise
            connected = replace(begun, device=device)
            self._records.put(connected)
            located = self._located(connected, deadline)
            self._records.put(located)
            return located.path

    def release(self, attachment: Json) -> None:
        volume = volume_of(attachment)
        with self._records.alone(volume):
            if (record := self._records.get(volume)) is not None:
                self._let_go(record)
            else:
                self._let_go_without_record(volume, attachment.get("connection") or {})

    def held(self) -> Mapping[str, Json]:
        """What has a record, by its device as the kernel shows it now; by the record itself where it shows none.

        And files of shares that are bound without a record.
        """
        records = self._records.all()
        found: dict[str, Json] = {}
        for record in records:
            if record.node == self._node:
                device = image_files.bound_to(record.image) if record.image else self._is_same(record) and record.path
                found[device or str(self._records.place(record.volume))] = record.attachment
        recorded = {record.image for record in records}
        for device, image in image_files.bound_below(self._brick.mounts).items():
            if image not in recorded and (match := IDENTIFIER.search(os.path.basename(image))):
                found[device] = {"volume": match.group()}
        return found

    def rescan(self, attachment: Json) -> None:
        record = self._records.get(volume_of(attachment))
        if record is None:
            return
        if record.image:
            image_files.grown(record.image)
        else:
            self._brick.extend(_connection(record.attachment))

    def _let_go(self, record: HostRecord) -> None:
        if record.image:
            image_files.let_go(record.image)
        elif self._is_same(record):
            _check_unused(record.path)
            flush(record.path)
        self._brick.disconnect(record.attachment["connection"], record.device)
        if record.serials and self._is_same(record):
            raise HostError(
                f"os-brick has disconnected volume {record.volume}, and {record.path} is still there",
                remedy="see whether `iscsiadm -m session` and `nvme list` work here; it is tried again",
            )
        self._records.drop(record.volume)

    def _let_go_without_record(self, volume: str, connection: Json) -> None:
        """Let go by the kernel's table, and by what Cinder told: a record that is lost tells nothing."""
        for image in image_files.bound_below(self._brick.mounts).values():
            if volume in os.path.basename(image):
                image_files.let_go(image)
        if connection and not connection.get("export"):
            self._brick.disconnect(connection, {})

    def _located(self, record: HostRecord, deadline: float) -> HostRecord:
        """The record with a block device that was verified."""
        path, connection = str(record.device["path"]), record.attachment["connection"]
        size = int(record.attachment.get("size") or 0)
        if connection.get("export"):
            image_files.wait_for(path, deadline)
            image_files.check(path, connection, self._brick.mounts, size)
            bound = replace(record, image=os.path.realpath(path))
            self._records.put(bound)  # before it is: whoever lets go must know of it
            located = replace(bound, path=image_files.device_of(bound.image, deadline))
        else:
            located = self._verified(record, os.path.join(self._root, path.lstrip("/")), size)
        for other in self._records.all():
            if other.volume != record.volume and other.path == located.path and self._is_same(other):
                raise HostError(
                    f"{located.path} is volume {other.volume} here, and cannot be {record.volume} too",
                    remedy="disconnect one of them by hand: the back end has mixed them up, or a path is out of date",
                )
        return located

    def _verified(self, record: HostRecord, path: str, size: int) -> HostRecord:
        """The record of a disk: it is what it was the last time, what Cinder calls it, and large enough."""
        device = self._devices.named(os.path.basename(os.path.realpath(path)))
        if device is None:
            raise DeviceNotFound(f"os-brick gives {path}, which is no disk of this host", remedy="see `lsblk`")
        if record.serials and record.serials != device.serials:
            raise _another(device.path, device.serials, "was", record.serials)
        for file, name in _NAMED.items():
            told, shown = record.attachment["connection"].get(name), self._shown(device.name, file)
            if told and shown and _plain(shown) != _plain(str(told)):
                raise _another(device.path, (shown,), "should be", told)
        if device.size < size:
            raise HostError(
                f"{device.path} has {device.size} bytes, and volume {record.volume} has {size}",
                remedy="let the host look at the sizes of its disks anew; else it is another disk",
            )
        return replace(record, path=device.path, serials=device.serials)

    def _shown(self, disk: str, file: str) -> str:
        with contextlib.suppress(OSError):
            return (Path(self._root) / "sys/block" / disk / file).read_text().strip()
        return ""

    def _is_same(self, record: HostRecord) -> bool:
        """Whether the kernel still has the recorded device for this volume."""
        if record.image:
            return image_files.bound_to(record.image) == record.path
        device = self._devices.named(os.path.basename(record.path)) if record.path else None
        return device is not None and device.serials == record.serials


def volume_of(attachment: Json) -> str:
    """The volume's id, which becomes the name of a file.

    :raises HostError: it is none of Cinder's
    """
    volume = str(attachment["volume"])
    if not is_identifier(volume):
        raise HostError(f"{volume!r} is no id of a volume of Cinder's", remedy="this is a defect of Polly's")
    return volume


def _connection(attachment: Json) -> Json:
    connection: Json = attachment.get("connection") or {}
    if not connection.get("driver_volume_type"):
        raise HostError(
            f"Cinder told no way to volume {attachment['volume']}", remedy="detach the volume, and attach it again"
        )
    if connection.get("encrypted"):
        raise HostError(
            f"volume {attachment['volume']} is encrypted by the host that has it, and only Nova has its key",
            remedy="use a type that its back end encrypts, or none",
        )
    return connection


def _secret(known: Json, attachment: Json) -> Json:
    """What of the connection came for this call alone; all of it must have come."""
    secret = dict(attachment.get(VALUES) or {})
    if missing := sorted(set(known.get(WITHHELD) or ()) - set(secret)):
        raise HostError(
            f"Cinder did not tell {', '.join(missing)} again", remedy="detach the volume, and attach it anew"
        )
    return secret


def _check_unused(path: str) -> None:
    """Refuse to take a disk away while a file system is on it, mounted or open without a path to it.

    os-brick does not look; a loop device stays by itself.
    """
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise HostError(
                f"{path} is in use", remedy=f"see /proc/mounts, and `fuser -vm {path}`; it is tried again"
            ) from error


def _address(name: str) -> str:
    """The address that back ends are to know this host by."""
    try:
        return str(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        pass
    try:
        return str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return ""


def _plain(identifier: str) -> str:
    return identifier.replace("-", "").lower()


def _another(path: str, serials: tuple[str, ...], verb: str, expected: object) -> HostError:
    return HostError(
        f"{path} identifies itself as {', '.join(serials)}, and {verb} {expected}",
        remedy="it is another disk: disconnect it by hand, and see the kernel's messages with `dmesg`",
    )
