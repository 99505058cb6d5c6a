"""The controller side: which instance has a volume."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from drivers.base import ControllerDriver, Fence
from drivers.ebs.api import Api
from drivers.ebs.attach_limits import is_nitro
from drivers.ebs.forgotten import Forgotten
from drivers.ebs.names import DeviceNames
from drivers.ebs.settings import EbsSettings
from drivers.ebs.volumes import Ebs, is_volume_id
from drivers.waiting import Waiter
from polly_mesos.errors import (
    InvalidRequest,
    NotFound,
    PlatformUnavailable,
    UnknownHost,
    UnknownVolume,
    VolumeInUse,
)
from polly_mesos.model import HostIdentity, Json

Answer = TypeVar("Answer")

_INSTANCE = re.compile(r"i-[0-9a-f]{8}(?:[0-9a-f]{9})?")
_ATTEMPTS = 5
_LONGEST_PAUSE = 5.0
_POWERLESS = ("stopped", "terminated")
_LEAVING = ("detaching", "busy")


class Attachments(ControllerDriver, ABC):
    """attach, detach and fence."""

    _api: Api
    _settings: EbsSettings
    _waiter: Waiter

    def __init__(self) -> None:
        self._names = DeviceNames()
        self._forgotten = Forgotten(self._settings.consistency_timeout)

    @abstractmethod
    def _find(self, platform_id: str) -> Ebs:
        """One volume of our cluster."""

    @abstractmethod
    def _all(self, platform_ids: Collection[str]) -> Mapping[str, Ebs]:
        """Those of our cluster's volumes that there are, looked for now."""

    def _wait(self, look: Callable[[], Answer | None], what: str) -> Answer:
        return self._waiter.until(look, self._settings.status_timeout, what, first=self._settings.status_first_delay)

    def _eventually(self, look: Callable[[], Answer | None], until: float, what: str) -> Answer | None:
        """What is there, looked for at least once and until a time when EC2 must show it; None where it is not.

        :param until: of the monotonic clock
        """

        def once() -> tuple[Answer | None] | None:
            last = time.monotonic() >= until
            found = look()
            return (found,) if found or last else None

        deadline = self._settings.consistency_timeout + 2 * _LONGEST_PAUSE
        first = self._settings.status_first_delay
        return self._waiter.until(once, deadline, what, first=first, longest=_LONGEST_PAUSE)[0]

    def attach(self, platform_id: str, host: HostIdentity) -> Json:
        found = self._find(platform_id)
        looked = [found]
        if host.host not in found.attachments:
            self._refuse_if_held(found, host.host)
            self._attach(found, host.host)
            looked.clear()

        def attached() -> Json | None:
            current = looked.pop() if looked else self._find(platform_id)
            device, state = current.attachments.get(host.host, ("", ""))
            if state == "attached":
                return {"volume": platform_id, "device": device, "size": current.volume.size}
            if state in _LEAVING:
                raise PlatformUnavailable(
                    f"volume {platform_id} is {state} at {host.host}", remedy="it is attached once it is detached"
                )
            self._refuse_if_held(current, host.host)
            return None

        return self._wait(attached, f"volume {platform_id} to be attached to {host.host}")

    def _refuse_if_held(self, found: Ebs, host: str) -> None:
        """One volume has one host; several only where the profile that made it declared that."""
        others = [other for other in found.attachments if other != host]
        if others and not (found.multi_attach and found.declared):
            raise VolumeInUse(f"volume {found.volume.id} is attached to {others[0]}", remedy="detach it there first")
        if found.multi_attach and not found.declared:
            raise VolumeInUse(
                f"volume {found.volume.id} can be attached to several instances, and no profile of Polly's said so",
                remedy="switch Multi-Attach off with ModifyVolume",
            )

    def _attach(self, found: Ebs, host: str) -> None:
        volume = found.volume.id
        instance = self._instance(host)
        used = {str(one.get("DeviceName", "")) for one in instance.get("BlockDeviceMappings", [])}
        large = self._settings.large_device_range or is_nitro(str(instance.get("InstanceType", "")))
        for attempt in range(1, _ATTEMPTS + 1):
            with self._names.free(host, used, large=large) as device:
                try:
                    self._api.call(
                        "AttachVolume",
                        f"attaching volume {volume} to {host}",
                        VolumeId=volume,
                        InstanceId=host,
                        Device=device,
                    )
                    return
                except InvalidRequest as error:
                    # The name was given away since the instance was described, by another than this process.
                    if "already in use" not in error.message or attempt == _ATTEMPTS:
                        raise
                    used.add(device)
                except VolumeInUse:
                    # An earlier call of ours whose answer was lost, or another host that was faster.
                    if host not in self._find(volume).attachments:
                        raise
                    return

    def _instance(self, host: str) -> Json:
        if not _INSTANCE.fullmatch(host):
            raise UnknownHost(f"{host!r} is not the id of an EC2 instance", remedy="see what the host says that it is")
        answer = self._api.call("DescribeInstances", f"looking at instance {host}", InstanceIds=[host])
        for reservation in answer.get("Reservations", []):
            for instance in reservation.get("Instances", []):
                if instance.get("InstanceId") == host:
                    found: Json = instance
                    return found
        raise UnknownHost(f"EC2 has no instance {host} in {self._api.region}", remedy="see whether the region is right")

    def detach(self, platform_id: str, host: HostIdentity, *, force: bool = False) -> None:
        if not is_volume_id(platform_id):
            return
        try:
            state = self._find(platform_id).attachments.get(host.host, ("", ""))[1]
            if state:
                self._detach(platform_id, host, state, force=force)
        except UnknownVolume:
            return

    def _detach(self, platform_id: str, host: HostIdentity, state: str, *, force: bool) -> None:
        # A host that runs lets go by itself or not at all: torn from it, a volume may lose what it just wrote.
        powerless = force and self.fence(host).proven
        if state not in _LEAVING or powerless:
            what = f"detaching volume {platform_id} from {host.host}"
            try:
                self._api.call("DetachVolume", what, VolumeId=platform_id, InstanceId=host.host, Force=powerless)
            except UnknownVolume:
                raise
            except (NotFound, PlatformUnavailable) as error:
                if getattr(error, "outcome_unknown", False):
                    raise
                # It was detached since it was described; the look below tells.

        def gone() -> bool | None:
            now = self._find(platform_id).attachments.get(host.host, ("", ""))[1]
            if now == "busy" and force:
                raise VolumeInUse(
                    f"instance {host.host} runs and uses volume {platform_id}: EC2 says busy",
                    remedy="stop the instance, or unmount the volume there; then EC2 detaches it",
                )
            return None if now else True

        self._wait(gone, f"volume {platform_id} to be detached from {host.host}")

    def fence(self, host: HostIdentity) -> Fence:
        return self.fence_from(host, ())

    def fence_from(self, host: HostIdentity, volumes: Collection[str]) -> Fence:
        try:
            state = str(self._instance(host.host).get("State", {}).get("Name", "unknown"))
        except UnknownHost as error:
            if not _INSTANCE.fullmatch(host.host):
                return Fence(False, error.message)
            return self._forgotten.judge(host.host, volumes, self._all(volumes))
        self._forgotten.known(host.host)
        return Fence(state in _POWERLESS, f"EC2 says that instance {host.host} is {state}")
