"""Volumes as EC2 describes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from drivers.base import PlatformState, PlatformVolume
from drivers.ebs.failures import KEY_REMEDY
from drivers.ebs.tags import KIND, SIZE, from_platform, plain
from drivers.ebs.volume_types import GIB
from polly_mesos.errors import PlatformUnavailable
from polly_mesos.model import Json

GONE = ("deleting", "deleted")
_STATES = {
    "creating": PlatformState.CREATING,
    "available": PlatformState.AVAILABLE,
    "in-use": PlatformState.AVAILABLE,
    "deleting": PlatformState.DELETING,
    "deleted": PlatformState.DELETING,
}
_ID = re.compile(r"vol-[0-9a-f]{8}(?:[0-9a-f]{9})?")


@dataclass(frozen=True, slots=True)
class Ebs:
    """One volume.

    :param asked: GiB that were asked for when it was made, 0 where that is not known
    :param attachments: instance -> device name and state
    :param multi_attach: whether several instances can have it; ``declared`` whether a profile said so
    """

    volume: PlatformVolume
    kind: str
    asked: int
    attachments: Mapping[str, tuple[str, str]]
    multi_attach: bool
    declared: bool


def is_volume_id(text: str) -> bool:
    """Whether EC2 could have a volume of that id; it refuses a whole call for one that it could not."""
    return _ID.fullmatch(text) is not None


def _reason(answer: Json) -> str:
    """EC2 gives none; of a volume with a key it is nearly always the key."""
    if answer["State"] != "error" or not answer.get("KmsKeyId"):
        return ""
    return f"EC2 could not encrypt it with key {answer['KmsKeyId']}, it seems; {KEY_REMEDY}"


def read_volume(answer: Json) -> Ebs:
    """A volume from an answer of CreateVolume or DescribeVolumes.

    :raises PlatformUnavailable: it is not of the form that is documented
    """
    try:
        tags = plain(answer.get("Tags", []))
        attachments = {
            str(one["InstanceId"]): (str(one["Device"]), str(one["State"]))
            for one in answer.get("Attachments", [])
            if one.get("State") != "detached"
        }
        size = tags.get(SIZE, "")
        return Ebs(
            PlatformVolume(
                id=str(answer["VolumeId"]),
                size=int(answer["Size"]) * GIB,
                state=_STATES.get(str(answer["State"]), PlatformState.ERROR),
                tags=from_platform(tags),
                zone=str(answer["AvailabilityZone"]),
                attached_to=tuple(attachments),
                reason=_reason(answer),
            ),
            kind=str(answer.get("VolumeType", "")),
            asked=int(size) if size.isdigit() else 0,
            attachments=attachments,
            multi_attach=bool(answer.get("MultiAttachEnabled", False)),
            declared=tags.get(KIND, "") == "multi-attach",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PlatformUnavailable(
            f"EC2's description of a volume lacks what is documented: {error}",
            remedy="it is asked again",
            outcome_unknown=True,
        ) from error
