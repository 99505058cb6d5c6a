"""Attachments where the agents reach the storage themselves: Cinder's own attachments, without Nova.

A host says with what it connects (as os-brick's connector does); Cinder opens the way for that connector alone. Which
host an attachment is for is noted with it as its mount point, which Cinder shows as the device.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from drivers.base import Fence
from drivers.cinder import GIB
from drivers.cinder.calls import Calls
from drivers.cinder.connections import VALUES, WITHHELD, kept, withheld
from drivers.cinder.metadata import HOST, coded, value_of
from drivers.cinder.settings import CinderSettings
from drivers.cinder.shown import HOST_DEVICE, hosts_of, member
from drivers.waiting import Waiter
from polly_mesos.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    NotSupported,
    UnknownVolume,
    VolumeInUse,
    WrongState,
)
from polly_mesos.model import HostIdentity, Json


class HostAttachments:
    """Hosts are named by the name that they gave."""

    def __init__(self, calls: Calls, waiter: Waiter, settings: CinderSettings, find: Callable[[str], Json]) -> None:
        self._calls, self._find = calls, find

    def attach(self, volume: str, host: HostIdentity) -> Json:
        """See :meth:`drivers.base.ControllerDriver.attach`.

        Before Cinder is asked, the host is noted in the volume's metadata: an attachment that was begun and not
        completed does not tell by itself for whom it was.
        """
        shown = self._find(volume)
        if shown.get("encrypted"):
            raise NotSupported(
                f"volume {volume} is encrypted by the host that has it, and only Nova has its key",
                remedy="let profiles of this service name a type that its back end encrypts, or none that encrypts",
            )
        others = [held for held in hosts_of(shown) if held != host.host]
        if others:
            raise VolumeInUse(f"volume {volume} is attached to {', '.join(others)}", remedy="detach it there first")
        known = self._known(volume)
        if known and value_of(shown.get("metadata") or {}, HOST) != host.host:
            raise VolumeInUse(f"volume {volume} is being attached to another host", remedy="it is tried again")
        doing = f"attaching volume {volume} to {host.host}"
        if not known:
            self._calls.volumes(
                "POST", f"/volumes/{volume}/metadata", doing, json={"metadata": {HOST: coded(host.host)}}
            )
            asked = {"volume_uuid": volume, "connector": _connector(host)}
            try:
                answer = self._calls.volumes("POST", "/attachments", doing, json={"attachment": asked})
            except (InvalidRequest, Conflict) as error:
                raise VolumeInUse(error.message, remedy="it is tried again") from error
            known = [member(answer, "attachment", doing, change=True)]
        attachment = self._complete(known[0], host, doing)
        connection = attachment.get("connection_info") or {}
        return {
            "volume": volume,
            "attachment": str(attachment["id"]),
            "size": int(shown["size"]) * GIB,
            "connection": kept(connection),
            WITHHELD: sorted(withheld(connection)),
        }

    def secrets(self, volume: str, attachment: Json) -> Json:
        """See :meth:`drivers.base.ControllerDriver.secrets`. Cinder is asked only where something was withheld."""
        if not attachment.get(WITHHELD):
            return {}
        doing = f"looking at the attachment of volume {volume}"
        try:
            answer = self._calls.volumes("GET", f"/attachments/{attachment['attachment']}", doing)
        except NotFound as error:
            raise UnknownVolume(f"{doing}: Cinder has it no more", remedy="detach the volume by hand") from error
        return {VALUES: withheld(member(answer, "attachment", doing).get("connection_info") or {})}

    def detach(self, shown: Json, host: HostIdentity, *, force: bool) -> None:
        """See :meth:`drivers.base.ControllerDriver.detach`. Cinder takes the way away from the connector."""
        volume = str(shown["id"])
        noted = value_of(shown.get("metadata") or {}, HOST)
        holders = hosts_of(shown)
        if host.host not in holders and (holders or noted != host.host):
            return  # what is noted counts only while nobody holds it: another host's attempt may have noted itself
        for attachment in self._known(volume):
            try:
                self._calls.volumes("DELETE", f"/attachments/{attachment['id']}", f"detaching volume {volume}")
            except NotFound:
                continue

    def fence(self, host: HostIdentity) -> Fence:
        """Cinder does not watch over hosts."""
        raise NotSupported(f"Cinder does not know whether {host.host} runs")

    def before_expanding(self, shown: Json) -> None:
        """The host side looks by itself."""

    def after_expanding(self, shown: Json, before: set[str] | None) -> None:
        """The host side looks by itself."""

    def _known(self, volume: str) -> list[Json]:
        doing = f"listing the attachments of volume {volume}"
        answer = self._calls.volumes("GET", "/attachments/detail", doing, query={"volume_id": volume})
        found: list[Json] = member(answer, "attachments", doing)
        return found

    def _complete(self, attachment: Json, host: HostIdentity, doing: str) -> Json:
        if not attachment.get("connection_info"):
            asked = {"attachment": {"connector": _connector(host)}}
            answer = self._calls.volumes("PUT", f"/attachments/{attachment['id']}", doing, json=asked)
            attachment = {**attachment, **member(answer, "attachment", doing, change=True)}
        if attachment.get("status") != "attached":
            try:
                self._calls.volumes("POST", f"/attachments/{attachment['id']}/action", doing, json={"os-complete": {}})
            except (InvalidRequest, Conflict) as error:
                raise WrongState(error.message, remedy="it is tried again") from error
        return attachment


def _connector(host: HostIdentity) -> Json:
    told = json.loads(host.details.get("connector") or "{}")
    return {**told, "host": host.host, "mountpoint": f"{HOST_DEVICE}{host.host}"}
