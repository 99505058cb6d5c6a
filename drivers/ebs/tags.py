"""Polly's facts as EC2 tags, in the characters that all of Amazon's services take.

Source: the EC2 user guide, "Tag your Amazon EC2 resources": 50 tags, keys of 128 and values of 256 characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from drivers.base import Tags
from drivers.escaping import escape, unescape
from polly_mesos.errors import InvalidRequest
from polly_mesos.model import Json

CLUSTER, VOLUME, SIZE, KIND = "polly:cluster", "polly:volume", "polly:size", "polly:kind"
_PROFILE, _EPOCH, _USER = "polly:profile", "polly:epoch", "polly:user:"
_MOST, _LONGEST_KEY, _LONGEST_VALUE = 50, 128, 256


def to_platform(tags: Tags, kind: str, size: int) -> list[dict[str, str]]:
    """Tags as EC2 takes them.

    :param kind: ``volume``, ``snapshot`` or ``clone``
    :param size: GiB that were asked for
    :raises InvalidRequest: they are too many or too long
    """
    found = {
        **tags.labels,
        CLUSTER: escape(tags.cluster),
        VOLUME: escape(tags.volume),
        _PROFILE: escape(tags.profile),
        _EPOCH: str(tags.epoch),
        SIZE: str(size),
        KIND: kind,
        **{_USER + escape(key): escape(value) for key, value in tags.user.items()},
    }
    found.setdefault("Name", escape(f"{tags.profile}-{tags.volume}"))
    for key, value in found.items():
        if len(key) > _LONGEST_KEY or len(value) > _LONGEST_VALUE:
            raise InvalidRequest(
                f"tag {key!r} is too long for EC2: {len(key)} and {len(value)} characters",
                remedy=f"keys have at most {_LONGEST_KEY}, values {_LONGEST_VALUE}",
                field="tags",
                value=key,
            )
    if len(found) > _MOST:
        raise InvalidRequest(
            f"{len(found)} tags are too many for EC2", remedy=f"{_MOST} are possible", field="tags", value=len(found)
        )
    return [{"Key": key, "Value": value} for key, value in sorted(found.items())]


def plain(tags: Iterable[Json]) -> dict[str, str]:
    """EC2's list as a mapping."""
    return {str(tag["Key"]): str(tag["Value"]) for tag in tags}


def from_platform(tags: Mapping[str, str]) -> Tags:
    """What :func:`to_platform` wrote."""
    epoch = tags.get(_EPOCH, "1")
    user = {unescape(key.removeprefix(_USER)): unescape(value) for key, value in tags.items() if key.startswith(_USER)}
    return Tags(
        cluster=unescape(tags.get(CLUSTER, "")),
        volume=unescape(tags.get(VOLUME, "")),
        profile=unescape(tags.get(_PROFILE, "")),
        epoch=int(epoch) if epoch.isdigit() else 1,
        user=user,
    )
