"""Tags as metadata of Cinder's volumes and snapshots.

Names have at most 255 of ``A-Za-z0-9-_:.`` and space; values at most 255 characters. Many installations keep them in
a database that refuses characters beyond the Basic Multilingual Plane, so what is not plain is written in percent code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from drivers.base import Tags
from polly_mesos.errors import InvalidRequest

CLUSTER, VOLUME, PROFILE, EPOCH = "polly:cluster", "polly:volume", "polly:profile", "polly:epoch"
TOKEN, DELETED, SIZE = "polly:token", "polly:deleted", "polly:size"
HOST = "polly:host"
_TAG = "polly:tag:"
_CODED = "percent:"
_LONGEST = 255
_PLAIN = re.compile(r"[ -~¡-\ud7ff\ue000-\uffef]*")
_NAME = re.compile(r"[A-Za-z0-9.\-]")


def encode(tags: Tags, token: str, size: int) -> dict[str, str]:
    """The metadata of a new volume or snapshot.

    :raises InvalidRequest: a value is too long for Cinder
    """
    ours = {CLUSTER: tags.cluster, VOLUME: tags.volume, PROFILE: tags.profile, EPOCH: str(tags.epoch)}
    ours |= {TOKEN: token, SIZE: str(size)} | {_TAG + _code_name(name): text for name, text in tags.user.items()}
    plain = {_label(name): text[:_LONGEST] for name, text in tags.labels.items()}
    made = {**plain, **ours}
    coded = {
        name: text if name in plain and name not in ours and _is_plain(text) else _code(text)
        for name, text in made.items()
    }
    for name, text in coded.items():
        if max(len(name), len(text)) > _LONGEST:
            raise InvalidRequest(
                f"tag {name!r} takes {max(len(name), len(text))} characters, and Cinder's metadata has {_LONGEST}",
                remedy="use shorter names",
                field="tags",
                value=name,
            )
    return coded


def decode(metadata: Mapping[str, Any]) -> Tags:
    """The tags that stand in metadata of ours."""
    text = {name: _decode(str(value)) for name, value in metadata.items()}
    epoch = text.get(EPOCH, "")
    user = {_decode_name(name.removeprefix(_TAG)): value for name, value in text.items() if name.startswith(_TAG)}
    return Tags(
        text.get(CLUSTER, ""),
        text.get(VOLUME, ""),
        text.get(PROFILE, ""),
        int(epoch) if re.fullmatch("[0-9]{1,18}", epoch) else 1,
        user,
    )


def value_of(metadata: Mapping[str, Any], name: str) -> str:
    """One value as it was given; empty where it is not there."""
    return _decode(str(metadata.get(name, "")))


def coded(text: str) -> str:
    """A value as it stands in the metadata, to look for it."""
    return _code(text)


def _is_plain(text: str) -> bool:
    return bool(_PLAIN.fullmatch(text))


def _code(text: str) -> str:
    if _is_plain(text) and not text.startswith(_CODED) and text == text.strip():
        return text
    return _CODED + quote(text, safe=" ", errors="surrogatepass")


def _decode(text: str) -> str:
    return unquote(text.removeprefix(_CODED), errors="surrogatepass") if text.startswith(_CODED) else text


def _code_name(name: str) -> str:
    return "".join(c if _NAME.fullmatch(c) else "".join(f"_{byte:02X}" for byte in c.encode()) for c in name)


def _decode_name(name: str) -> str:
    return unquote(name.replace("_", "%"))


def _label(name: str) -> str:
    """A label's name in the characters that Cinder takes."""
    return re.sub(r"[^A-Za-z0-9\-_:. ]", "_", name)[:_LONGEST]
