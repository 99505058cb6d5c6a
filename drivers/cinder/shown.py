"""Volumes and snapshots as Cinder shows them, in our words."""

from __future__ import annotations

from typing import Any

from drivers.base import PlatformSnapshot, PlatformState, PlatformVolume
from drivers.cinder import GIB
from drivers.cinder.metadata import CLUSTER, DELETED, decode
from polly_mesos.errors import PlatformUnavailable
from polly_mesos.model import Json

_STATES = {
    "creating": PlatformState.CREATING,
    "downloading": PlatformState.CREATING,
    "deleting": PlatformState.DELETING,
    "unmanaging": PlatformState.DELETING,
    "deleted": PlatformState.DELETING,
}
HOST_DEVICE = "polly:"
"""Where hosts attach by themselves, the device that Cinder notes is this and the host's name."""


def is_ours(shown: Json, cluster: str) -> bool:
    """Whether it carries our cluster's mark, and was not given up already."""
    metadata = shown.get("metadata") or {}
    return decode({CLUSTER: metadata.get(CLUSTER, "")}).cluster == cluster and DELETED not in metadata


def state_of(shown: Json) -> PlatformState:
    """What Cinder calls it is busy with counts as available: it exists and is not broken."""
    status = str(shown.get("status", ""))
    return PlatformState.ERROR if status.startswith("error") else _STATES.get(status, PlatformState.AVAILABLE)


def hosts_of(shown: Json) -> tuple[str, ...]:
    """Who holds it: instances by their id, other hosts by the name that we noted."""
    found = []
    for attachment in shown.get("attachments") or ():
        device = str(attachment.get("device") or "")
        noted = device.removeprefix(HOST_DEVICE) if device.startswith(HOST_DEVICE) else ""
        found.append(str(noted or attachment.get("server_id") or attachment.get("host_name") or "unknown"))
    return tuple(sorted(set(found)))


def volume_from(shown: Json) -> PlatformVolume:
    """A volume.

    :raises PlatformUnavailable: what was shown lacks what every volume has
    """
    with_all = _required(shown, "id", "size", "status")
    return PlatformVolume(
        id=str(with_all["id"]),
        size=int(with_all["size"]) * GIB,
        state=state_of(shown),
        tags=decode(shown.get("metadata") or {}),
        zone=str(shown.get("availability_zone") or ""),
        attached_to=hosts_of(shown),
    )


def snapshot_from(shown: Json) -> PlatformSnapshot:
    """A snapshot."""
    with_all = _required(shown, "id", "size", "status", "volume_id")
    return PlatformSnapshot(
        id=str(with_all["id"]),
        volume=str(with_all["volume_id"]),
        size=int(with_all["size"]) * GIB,
        state=state_of(shown),
        tags=decode(shown.get("metadata") or {}),
    )


def member(answer: Json, name: str, doing: str, *, change: bool = False) -> Any:
    """The part of an answer that must be there."""
    if name not in answer:
        raise PlatformUnavailable(f"{doing}: the answer has no {name!r}", outcome_unknown=change)
    return answer[name]


def _required(shown: Json, *names: str) -> Json:
    for name in names:
        member(shown, name, "reading what Cinder shows")
    return shown
