"""How our volumes are named and marked on the platform, and read back.

A disk's name comes from the volume's token, so that one token is one disk. Labels carry what lists are filtered by;
the description has all tags, exactly.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from drivers.base import Tags
from drivers.gce.settings import LABEL_VALUE
from polly_mesos.errors import InvalidRequest, NotSupported

_LONGEST_DESCRIPTION = 2048
_TOKEN = re.compile(r"[a-z0-9]([-a-z0-9]{0,54}[a-z0-9])?")
_PLACE = re.compile(r"(?P<kind>zones|regions)/(?P<where>[a-z0-9-]+)/disks/(?P<name>[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)")
_HOST = re.compile(r"zones/(?P<zone>[a-z0-9-]+)/instances/(?P<name>[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)")


@dataclass(frozen=True, slots=True)
class DiskId:
    """A disk's place and name: our platform id is ``zones/ZONE/disks/NAME`` or ``regions/REGION/disks/NAME``."""

    kind: str
    where: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.where}/disks/{self.name}"

    @property
    def regional(self) -> bool:
        """Whether it has a replica in a second zone."""
        return self.kind == "regions"

    @property
    def client(self) -> str:
        """The SDK's client for it."""
        return "RegionDisks" if self.regional else "Disks"

    @property
    def place(self) -> dict[str, str]:
        """The parameter that says where it is."""
        return {"region" if self.regional else "zone": self.where}


def parse_disk(platform_id: str) -> DiskId | None:
    """A disk's id, of ours or of a resource's URL; None where it is none."""
    match = _PLACE.fullmatch(partial(platform_id))
    return DiskId(**match.groupdict()) if match else None


def parse_host(host: str) -> tuple[str, str] | None:
    """Zone and name of an instance."""
    match = _HOST.fullmatch(partial(host))
    return (match["zone"], match["name"]) if match else None


def partial(url: str) -> str:
    """``zones/…`` of a full URL."""
    return re.sub(r"^https?://.*?/projects/[^/]+/", "", url)


def name_for(token: str) -> str:
    """The name of a disk or snapshot, of at most 63 small letters, digits and hyphens."""
    if not token:
        raise InvalidRequest("the token is empty", field="token", value=token)
    if _TOKEN.fullmatch(token):
        return f"polly-{token}"
    return f"polly-{hashlib.sha256(token.encode()).hexdigest()[:48]}"


def label(text: str) -> str:
    """Text as a label's value; what cannot be one is known by its hash."""
    return text if LABEL_VALUE.fullmatch(text) else f"x{hashlib.sha256(text.encode()).hexdigest()[:40]}"


def labels_for(tags: Tags) -> dict[str, str]:
    """The labels of a volume: the user's own, in the letters that labels have, and ours."""
    ours = {"polly_cluster": label(tags.cluster), "polly_volume": label(tags.volume)}
    return {**own_labels(tags.labels), **ours, "polly_profile": label(tags.profile)}


def own_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels as Google takes them: small letters, digits, ``_`` and ``-``; at most 60, as ours come beside them."""
    found = {}
    for key, value in labels.items():
        name = re.sub(r"[^a-z0-9_-]", "_", key.lower()).lstrip("0123456789_-")[:63]
        if name:
            found[name] = re.sub(r"[^a-z0-9_-]", "_", value.lower())[:63]
    return dict(list(found.items())[:60])


def cluster_filter(cluster: str) -> str:
    """The expression that lists are filtered by."""
    return f'labels.polly_cluster = "{label(cluster)}"'


def describe(tags: Tags, asked: Mapping[str, object]) -> str:
    """All tags in one text, and what was asked for.

    :raises NotSupported: they are longer than a description can be
    """
    told = {"cluster": tags.cluster, "volume": tags.volume, "profile": tags.profile, "epoch": tags.epoch}
    text = json.dumps({"polly": {**told, "user": dict(tags.user), "asked": asked}}, separators=(",", ":"))
    if len(text) > _LONGEST_DESCRIPTION:
        message = f"the tags take {len(text)} characters, and a description has room for {_LONGEST_DESCRIPTION}"
        raise NotSupported(message, remedy="use shorter tags")
    return text


def read_tags(description: str) -> Tags | None:
    """What :func:`describe` wrote; None where it is not ours."""
    try:
        told = json.loads(description)["polly"]
        return Tags(told["cluster"], told["volume"], told["profile"], told["epoch"], _texts(told["user"]))
    except (ValueError, TypeError, LookupError):
        return None


def read_asked(description: str) -> Mapping[str, object]:
    """What was asked for when the disk was made."""
    try:
        return dict(json.loads(description)["polly"]["asked"])
    except (ValueError, TypeError, LookupError):
        return {}


def _texts(found: Mapping[str, str]) -> dict[str, str]:
    return {str(key): str(value) for key, value in found.items()}
