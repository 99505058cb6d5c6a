"""What Polly writes on a platform volume, beside cluster, volume, profile and epoch, so that a ledger can be rebuilt.

Each fact stands there twice: readable, one tag each, for people in the platform's console; and all together in one
packed record (JSON, deflated, base64) in the tags ``record``, ``record-2`` and so on, exact and with a checksum. What
is too long for a readable tag is only in the record; where even the record is too long, it is left out, and the reader
is told by None what is not known.

Every platform can take this: keys are lower-case letters, digits and dashes; values at most 200 letters, digits and
``+-=._:/@`` (EBS tags: 256; Cinder metadata: 255); all of it as one JSON text is below the 2,048 characters of a
description on Google's disks, whose labels can take too little. The tags say how the volume was when it was made.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from drivers.escaping import escape, unescape
from polly_mesos.model import Json, Volume, VolumeKind

LONGEST_VALUE = 200
"""Characters in one tag's value."""

_LONGEST_READABLE = 110
_MOST_PIECES = 5
_LARGEST_RECORD = 64 * 1024
_RECORD = "record"
_READABLE = {
    "kind": "kind",
    "size": "size",
    "agent": "agent",
    "node": "node",
    "role": "role",
    "persistence-id": "persistence_id",
    "framework": "framework",
}
"""Tag -> field of :class:`Origin`."""


@dataclass(frozen=True, slots=True)
class Origin:
    """How a volume was when it was made.

    :param size: bytes that were asked for; 0 where that is not known
    :param agent: Mesos' id of the agent that offered it
    :param node: ``host:port`` of that agent
    :param role: the role that held it, empty where it was unreserved
    :param owner: the reservation stack as the ledger compares it; None where that is not known
    :param persistence: DiskInfo without its source; None where that is not known
    """

    kind: VolumeKind
    size: int
    agent: str = ""
    node: str = ""
    role: str = ""
    persistence_id: str = ""
    framework: str = ""
    owner: str | None = None
    persistence: Json | None = field(default=None)


def origin_of(volume: Volume, node: str) -> Origin:
    """What is to be written on a volume that is about to be made."""
    return Origin(
        kind=volume.kind,
        size=volume.size,
        agent=volume.agent,
        node=node,
        role=_role_of(volume.owner),
        persistence_id=volume.persistence_id,
        framework=volume.framework,
        owner=volume.owner,
        persistence=volume.persistence,
    )


def encode(origin: Origin) -> dict[str, str]:
    """The tags that say this."""
    tags = {}
    for tag, name in _READABLE.items():
        text = escape(str(getattr(origin, name)))
        if text and len(text) <= _LONGEST_READABLE:
            tags[tag] = text
    packed = _pack(asdict(origin))
    pieces = [packed[start : start + LONGEST_VALUE] for start in range(0, len(packed), LONGEST_VALUE)]
    if len(pieces) <= _MOST_PIECES:
        tags |= {_RECORD if number == 1 else f"{_RECORD}-{number}": piece for number, piece in enumerate(pieces, 1)}
    return tags


def decode(tags: Mapping[str, str]) -> Origin | None:
    """What tags say; None where they say nothing of this, as those of volumes that an older Polly made."""
    record = _unpack("".join(tags[key] for key in _record_keys(tags)))
    if record is not None:
        try:
            return Origin(**{**record, "kind": VolumeKind(record["kind"])})
        except (ValueError, TypeError, KeyError):
            pass  # another version's record: what stands in the readable tags is still understood
    readable: dict[str, Any] = {name: unescape(tags.get(tag, "")) for tag, name in _READABLE.items()}
    try:
        kind = VolumeKind(readable.pop("kind"))
    except ValueError:
        return None
    size = readable.pop("size")
    return Origin(**readable, kind=kind, size=int(size) if re.fullmatch("[0-9]{1,19}", size) else 0)


def _record_keys(tags: Mapping[str, str]) -> list[str]:
    keys = [_RECORD, *(f"{_RECORD}-{number}" for number in range(2, _MOST_PIECES + 1))]
    return [key for key in keys if key in tags]


def _pack(record: Json) -> str:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode()


def _unpack(packed: str) -> Json | None:
    try:
        inflater = zlib.decompressobj()
        text = inflater.decompress(base64.b64decode(packed, altchars=b"-_", validate=True), _LARGEST_RECORD)
        if not inflater.eof:  # cut off, so that its checksum was not looked at
            return None
        record = json.loads(text)
    except (binascii.Error, zlib.error, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _role_of(owner: str) -> str:
    try:
        return str(json.loads(owner)[-1]["role"])
    except (ValueError, LookupError, TypeError):
        return ""
