"""What is there: disks, snapshots and instances, by their links."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from polly_mesos.model import Json
from polly_mesos.testing.gce.catalogue import REGIONS, ZONES, Quotas
from polly_mesos.testing.gce.errors import ApiError, invalid, invalid_field, not_found
from polly_mesos.testing.gce.filters import parse_filter

GIB = 1024**3

_LABEL_KEY = re.compile(r"[^\W\d_][\w-]*")
_LABEL_VALUE = re.compile(r"[\w-]*")
_LONGEST_DESCRIPTION = 2048
_LARGEST_PAGE = 500


class World:
    """Everything that the platform holds for one project. All access is under ``lock``.

    :param directory: where the disks' images are
    :ivar keys: names of the customer's keys that there are
    :ivar down: zones that do not answer lists
    :ivar lost: zones in which nothing is carried out; what is asked of them is accepted
    :ivar page: how many disks and snapshots a list has at most on one page; Google may give fewer than it is asked for
    """

    def __init__(self, project: str, base: str, directory: Path) -> None:
        self.project = project
        self.base = base
        self.directory = directory
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.resources: dict[str, Json] = {}
        self.quotas = Quotas()
        self.keys: set[str] = set()
        self.down: set[str] = set()
        self.lost: set[str] = set()
        self.page = _LARGEST_PAGE
        self._number = 1_000_000_000

    def next_number(self) -> str:
        """An id, or part of a name, that nothing else has."""
        with self.lock:
            self._number += 1
            return str(self._number)

    def link(self, partial: str) -> str:
        """The full URL of ``zones/ZONE/disks/NAME``."""
        return f"{self.base}/compute/v1/projects/{self.project}/{partial}"

    def partial(self, url: str) -> str:
        """``zones/ZONE/disks/NAME`` of a full or partial URL, which may name no other project."""
        path = urlsplit(url).path.removeprefix("/compute/v1/") if "://" in url else url
        match = re.fullmatch(r"(?:projects/(?P<project>[^/]+)/)?(?P<rest>(?:zones|regions|global)/.+)", path)
        if match is None:
            raise invalid(f"Invalid value '{url}'. The URL is malformed.")
        if match["project"] not in (None, self.project):
            raise ApiError(403, "forbidden", f"Required permission for '{url}'")
        return match["rest"]

    def find(self, partial: str) -> Json:
        """A resource.

        :raises ApiError: it is not there
        """
        self.check_place(partial)
        if partial not in self.resources:
            raise not_found(f"projects/{self.project}/{partial}")
        return self.resources[partial]

    def check_place(self, partial: str) -> None:
        """The zone or region must be one that there is."""
        kind, _, rest = partial.partition("/")
        known: Iterable[str] = {"zones": ZONES, "regions": REGIONS}.get(kind, ())
        name = rest.partition("/")[0]
        if kind != "global" and name not in known:
            what = kind.removesuffix("s")
            message = f"Invalid value for field '{what}': '{name}'. Unknown {what}."
            raise invalid(message) if kind == "zones" else not_found(f"projects/{self.project}/regions/{name}")

    def image(self, resource: Json) -> Path:
        """The file with a disk's or snapshot's data."""
        return self.directory / f"{resource['kind'].partition('#')[2]}-{resource['id']}.img"

    def new(self, kind: str, partial: str, body: Json) -> Json:
        """A resource with what every one has, not yet there."""
        resource: Json = {
            **body,
            "kind": f"compute#{kind}",
            "id": self.next_number(),
            "creationTimestamp": now(),
            "selfLink": self.link(partial),
        }
        if "labels" in body:
            check_labels(body["labels"])
        if len(body.get("description", "")) > _LONGEST_DESCRIPTION:
            raise invalid_field("resource.description", "...", f"At most {_LONGEST_DESCRIPTION} characters.")
        if partial in self.resources:
            raise ApiError(409, "alreadyExists", f"The resource 'projects/{self.project}/{partial}' already exists")
        resource["labelFingerprint"] = fingerprint(body.get("labels", {}))
        return resource


def now() -> str:
    """The time as Google writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def fingerprint(labels: Json) -> str:
    """Of labels: another one for others."""
    return base64.urlsafe_b64encode(hashlib.sha256(repr(sorted(labels.items())).encode()).digest()[:8]).decode()


def check_labels(labels: Json) -> None:
    """At most 64; keys of small letters, digits, ``_`` and ``-`` that begin with a letter; values the same, or empty.

    :raises ApiError: they are not like that (https://cloud.google.com/compute/docs/labeling-resources)
    """
    if len(labels) > 64:
        raise invalid_field("resource.labels", len(labels), "At most 64 labels.")
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key) or key != key.lower() or len(key) > 63:
            raise invalid_field("resource.labels", key, "Label keys begin with a small letter; [a-z0-9_-], at most 63.")
        if not _LABEL_VALUE.fullmatch(value) or value != value.lower() or len(value) > 63:
            raise invalid_field("resource.labels", value, "Label values are of [a-z0-9_-], at most 63 characters.")


def page_of(
    found: list[tuple[str, Json]], query: Json, most: int = _LARGEST_PAGE
) -> tuple[list[tuple[str, Json]], str]:
    """The part of a list that a request asks for, and the token for the next one.

    :param found: places and resources
    :param most: how many are given at most, however many are asked for
    """
    chosen = parse_filter(query.get("filter", ""))
    size = query.get("maxResults", _LARGEST_PAGE)
    if not 0 <= size <= _LARGEST_PAGE:
        raise invalid(f"Invalid value for field 'maxResults': '{size}'. It is 0 to 500.", location="maxResults")
    if "orderBy" in query:
        raise invalid("orderBy is not known here", location="orderBy")
    after = _decode_token(query.get("pageToken", ""), query.get("filter", ""))
    matching = sorted((place, one) for place, one in found if chosen(one) and place > after)
    part = matching[: min(size or most, most)]
    if len(part) == len(matching):
        return part, ""
    token = f"{fingerprint({'filter': query.get('filter', '')})} {part[-1][0]}"
    return part, base64.urlsafe_b64encode(token.encode()).decode()


def _decode_token(token: str, written: str) -> str:
    if not token:
        return ""
    try:
        of_filter, place = base64.urlsafe_b64decode(token).decode().split(" ", 1)
    except ValueError:
        raise invalid(f"Invalid value for field 'pageToken': '{token}'.", location="pageToken") from None
    if of_filter != fingerprint({"filter": written}):
        raise invalid("The page token belongs to a list with another filter", location="pageToken")
    return place
