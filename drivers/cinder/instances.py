"""Attachments where the agents are instances: Nova attaches and detaches, Cinder tells what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from drivers.base import Fence
from drivers.cinder.calls import Calls
from drivers.cinder.failures import after_a_change
from drivers.cinder.identifiers import is_identifier
from drivers.cinder.settings import CinderSettings
from drivers.cinder.shown import hosts_of, member
from drivers.waiting import Waiter
from polly_mesos.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    PlatformDenied,
    PlatformError,
    PlatformUnavailable,
    UnknownHost,
    UnknownVolume,
    VolumeInUse,
    WrongState,
)
from polly_mesos.model import HostIdentity, Json

Found = TypeVar("Found")
_ON_THE_WAY = frozenset({"attaching", "reserved", "detaching"})
_POWERED_OFF = 4
"""``nova.objects.fields.InstancePowerState``"""


class InstanceAttachments:
    """Hosts are instances, named by their id.

    :param find: a volume of ours as Cinder shows it; raises UnknownVolume
    """

    def __init__(self, calls: Calls, waiter: Waiter, settings: CinderSettings, find: Callable[[str], Json]) -> None:
        self._calls, self._waiter, self._settings, self._find = calls, waiter, settings, find

    def attach(self, volume: str, host: HostIdentity) -> Json:
        """See :meth:`drivers.base.ControllerDriver.attach`."""
        shown = self._find(volume)
        if self._is_attached(shown, host) and shown["status"] == "detaching":
            shown = self._wait(lambda: self._at_rest(volume), f"volume {volume} to be detached, or not")
        if not self._is_attached(shown, host) or shown["status"] in _ON_THE_WAY:
            self._refuse_others(shown, host)
            if not self._is_ours_on_the_way(shown, host):
                self._ask(volume, host)
            self._wait(lambda: self._arrived(volume, host), f"volume {volume} to be attached to {host.host}")
        return {"volume": volume}

    def detach(self, shown: Json, host: HostIdentity, *, force: bool) -> None:
        """See :meth:`drivers.base.ControllerDriver.detach`. Nova asks the guest, forced or not, and it may refuse."""
        volume = str(shown["id"])
        if not self._is_attached(shown, host) and not self._is_ours_on_the_way(shown, host):
            return
        if not self._begins_to_detach(shown, host):
            # It is still being attached, and Nova refuses to detach it until it is.
            what = f"volume {volume} to be attached, so that it can be detached from {host.host}"
            shown = self._wait(lambda: self._at_rest(volume), what)
            if not self._is_attached(shown, host):
                return
            if not self._begins_to_detach(shown, host):
                raise WrongState(f"volume {volume} does not come to rest", remedy="it is tried again")
        self._wait(lambda: self._gone(volume, host), f"volume {volume} to be detached from {host.host}")

    def secrets(self, volume: str, attachment: Json) -> Json:
        """Instances need none: Nova connects."""
        return {}

    def fence(self, host: HostIdentity) -> Fence:
        """Stopped with its power off and nothing under way; or deleted by its hypervisor. All else may write."""
        if not is_identifier(host.host):
            return Fence(False, f"{host.host} is no id of an instance")
        try:
            answer = self._calls.compute("GET", f"/servers/{host.host}", f"looking at instance {host.host}")
        except NotFound:
            return self._fence_missing(host.host)
        server: Json = member(answer, "server", f"looking at instance {host.host}")
        status, task = str(server.get("status")), server.get("OS-EXT-STS:task_state")
        power = server.get("OS-EXT-STS:power_state")
        named = f"instance {host.host} is {status}"
        if task:
            return Fence(False, f"{named}, and {task} is under way")
        if status == "SHELVED_OFFLOADED":
            return Fence(True, f"{named}: no hypervisor has it")
        if status == "SHUTOFF" and power == _POWERED_OFF:
            return Fence(True, f"{named}, and its power is off")
        return Fence(False, f"{named}; its host answers: {server.get('host_status') or 'not told'}")

    def before_expanding(self, shown: Json) -> set[str] | None:
        """What Nova was told of growth before, of the instance that holds the volume."""
        hosts = hosts_of(shown)
        return self._growth(hosts[0]) if hosts else None

    def after_expanding(self, shown: Json, before: set[str] | None) -> None:
        """Wait until Nova has shown the guest the new size. A Nova that keeps no account of it is not waited for."""
        hosts = hosts_of(shown)
        if before is None or not hosts:
            return

        def seen() -> bool | None:
            now = self._growth(hosts[0])
            return True if now is None or now - before else None

        self._wait(seen, f"instance {hosts[0]} to see volume {shown['id']} grow")

    def _growth(self, server: str) -> set[str] | None:
        try:
            answer = self._calls.compute(
                "GET", f"/servers/{server}/os-instance-actions", f"looking what was done with instance {server}"
            )
        except (NotFound, PlatformDenied, InvalidRequest):
            return None
        actions = answer.get("instanceActions", ())
        return {str(one["request_id"]) for one in actions if one.get("action") == "extend_volume"}

    def _ask(self, volume: str, host: HostIdentity) -> None:
        if not is_identifier(host.host):
            raise UnknownHost(f"{host.host} is no id of an instance", remedy="see metadata_endpoint of the service")
        doing = f"attaching volume {volume} to instance {host.host}"
        asked = {"volumeAttachment": {"volumeId": volume}}
        try:
            self._calls.compute("POST", f"/servers/{host.host}/os-volume_attachments", doing, json=asked)
        except NotFound as error:
            self._find(volume)
            raise UnknownHost(error.message, remedy="the instance was deleted, or is another project's") from error
        except (InvalidRequest, Conflict) as error:
            shown = self._find(volume)
            if self._is_attached(shown, host):
                return
            self._refuse_others(shown, host)
            if not self._is_ours_on_the_way(shown, host):
                raise WrongState(error.message, remedy="see what the instance does; it is tried again") from error

    def _wait(self, look: Callable[[], Found | None], what: str) -> Found:
        """Wait for what Nova was asked to do, and may have done also where a look at it fails.

        :raises PlatformUnavailable: it did not end in time
        """
        return self._waiter.until(after_a_change(look), self._settings.attach_timeout, what, first=0.1)

    def _arrived(self, volume: str, host: HostIdentity) -> bool | None:
        shown = self._find(volume)
        if self._is_attached(shown, host) and shown["status"] == "in-use":
            return True
        if shown["status"] in _ON_THE_WAY:
            return None
        self._refuse_others(shown, host)
        if self._nova_knows(volume, host):
            return None  # what Cinder showed was from before
        raise PlatformError(
            f"Nova did not attach volume {volume} to {host.host}: the volume is {shown['status']} again",
            remedy="see the log of the instance's hypervisor; it is tried again when asked again",
        )

    def _begins_to_detach(self, shown: Json, host: HostIdentity) -> bool:
        """Ask Nova to detach; False where it cannot yet, because it is still attaching.

        :raises WrongState: something else goes on with the volume
        """
        if shown["status"] == "detaching":
            return True
        try:
            self._ask_to_detach(shown, host)
        except (InvalidRequest, Conflict) as error:
            now = self._find(str(shown["id"]))
            if now["status"] == "detaching" or (now["status"] not in _ON_THE_WAY and not self._is_attached(now, host)):
                return True
            if now["status"] in _ON_THE_WAY or shown["status"] in _ON_THE_WAY:
                return False
            raise WrongState(error.message, remedy="see what the instance does; it is tried again") from error
        return True

    def _at_rest(self, volume: str) -> Json | None:
        shown = self._find(volume)
        return None if shown["status"] in _ON_THE_WAY else shown

    def _gone(self, volume: str, host: HostIdentity) -> bool | None:
        try:
            shown = self._find(volume)
        except UnknownVolume:
            return True
        if shown["status"] in _ON_THE_WAY:
            return None
        if not self._is_attached(shown, host):
            return True
        raise VolumeInUse(
            f"instance {host.host} did not let go of volume {volume}",
            remedy="unmount it there; where the instance hangs, stop it, and ask again",
        )

    def _ask_to_detach(self, shown: Json, host: HostIdentity) -> None:
        volume = str(shown["id"])
        doing = f"detaching volume {volume} from instance {host.host}"
        try:
            self._calls.compute("DELETE", f"/servers/{host.host}/os-volume_attachments/{volume}", doing)
        except NotFound:
            # Nova knows of no such attachment. What Cinder has left of it goes there: Cinder asks Nova by itself first.
            for attachment in shown.get("attachments") or ():
                if attachment.get("server_id") == host.host:
                    self._revoke(str(attachment["attachment_id"]), doing)

    def _revoke(self, attachment: str, doing: str) -> None:
        try:
            self._calls.volumes("DELETE", f"/attachments/{attachment}", doing)
        except NotFound:
            return

    def _is_attached(self, shown: Json, host: HostIdentity) -> bool:
        return host.host in hosts_of(shown)

    def _is_ours_on_the_way(self, shown: Json, host: HostIdentity) -> bool:
        """Whether Nova is attaching or detaching the volume at this very host."""
        return shown["status"] in _ON_THE_WAY and self._nova_knows(str(shown["id"]), host)

    def _nova_knows(self, volume: str, host: HostIdentity) -> bool:
        """Whether the volume is at this host in Nova's books, attached or on its way."""
        if not is_identifier(host.host):
            return False
        path = f"/servers/{host.host}/os-volume_attachments/{volume}"
        try:
            self._calls.compute("GET", path, f"looking for volume {volume} at instance {host.host}")
        except NotFound:
            return False
        return True

    def _refuse_others(self, shown: Json, host: HostIdentity) -> None:
        others = [held for held in hosts_of(shown) if held != host.host]
        if others:
            raise VolumeInUse(
                f"volume {shown['id']} is attached to {', '.join(others)}", remedy="detach it there first"
            )
        if shown["status"] in _ON_THE_WAY and not self._is_ours_on_the_way(shown, host):
            raise VolumeInUse(
                f"volume {shown['id']} is {shown['status']}, and Nova has no attachment of it to {host.host}",
                remedy="it is tried again; where it stays so, let an operator see which instance it is for",
            )
        if shown["status"] in ("creating", "downloading", "extending"):
            raise PlatformUnavailable(f"volume {shown['id']} is {shown['status']}", remedy="it is tried again")
        if str(shown["status"]).startswith("error"):
            raise PlatformError(f"volume {shown['id']} is {shown['status']}", remedy="see its user messages in Cinder")

    def _fence_missing(self, server: str) -> Fence:
        """Nova shows no such instance: was it one of the project's, and did a hypervisor carry out its deletion?"""
        path = f"/servers/{server}/os-instance-actions"
        doing = f"looking how instance {server} ended"
        try:
            actions: list[Json] = self._calls.compute("GET", path, doing).get("instanceActions", [])
            for action in actions:
                if action.get("action") == "delete":
                    told = self._calls.compute("GET", f"{path}/{action['request_id']}", doing)
                    events: list[dict[str, Any]] = (told.get("instanceAction") or {}).get("events") or []
                    if any(_ended(event) for event in events):
                        return Fence(True, f"instance {server} was deleted, and its hypervisor has ended it")
        except NotFound:
            return Fence(False, f"Nova knows of no instance {server}")
        except (InvalidRequest, PlatformDenied) as error:
            return Fence(False, f"Nova does not tell how instance {server} ended: {error.message}")
        return Fence(False, f"instance {server} was deleted in Nova's books, and no hypervisor said that it has ended")


def _ended(event: Json) -> bool:
    return event.get("event") == "compute_terminate_instance" and event.get("result") == "Success"
