"""The controller side: snapshots, and volumes made from them.

EC2's CreateSnapshot has no ClientToken: what a token took already is found by the tags that it has from its first
moment. A new snapshot may not be listed yet. So whatever may have been taken a short time ago is looked for until EC2
must show it: what this process asked for, and in its first minute what a process before it may have asked for.
"""

from __future__ import annotations

import datetime
import logging
import time
from abc import abstractmethod
from collections import defaultdict
from dataclasses import replace

from drivers.base import Check, CreateRequest, PlatformSnapshot, PlatformState, PlatformVolume, Tags
from drivers.ebs.attachments import Attachments
from drivers.ebs.tags import CLUSTER, KIND, VOLUME, from_platform, plain, to_platform
from drivers.ebs.volume_types import GIB
from drivers.ebs.volumes import Ebs
from drivers.escaping import escape
from polly_mesos.errors import (
    AlreadyExists,
    InvalidRequest,
    NotFound,
    PlatformError,
    PlatformUnavailable,
    PollyError,
)
from polly_mesos.model import Json

log = logging.getLogger(__name__)

_NEVER = datetime.datetime.max.replace(tzinfo=datetime.UTC)
_STATES = {"pending": PlatformState.CREATING, "completed": PlatformState.AVAILABLE}


class Snapshots(Attachments):
    """snapshot, restore, clone and what belongs to them."""

    _cluster: str

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()
        self._asked: dict[str, float] = {}

    @abstractmethod
    def _create(self, request: CreateRequest, snapshot: str) -> Ebs:
        """Make a volume, from a snapshot where one is named."""

    @abstractmethod
    def _find_token(self, token: str) -> Ebs | None:
        """The volume that the token made."""

    def snapshot(self, platform_id: str, token: str, tags: Tags) -> PlatformSnapshot:
        return self._take(platform_id, replace(tags, volume=token), "snapshot")

    def _take(self, platform_id: str, tags: Tags, kind: str) -> PlatformSnapshot:
        token = tags.volume
        if taken := self._taken(platform_id, token, kind):
            return taken
        found = self._find(platform_id)
        tag_list = to_platform(tags, kind, found.volume.size // GIB)
        refused = False
        try:
            answer = self._api.call(
                "CreateSnapshot",
                f"taking a snapshot of volume {platform_id}",
                VolumeId=platform_id,
                Description=f"Polly, cluster {self._cluster}"[:255],
                TagSpecifications=[{"ResourceType": "snapshot", "Tags": tag_list}],
            )
        except PollyError as error:
            refused = not getattr(error, "outcome_unknown", False)
            raise
        finally:
            if not refused:
                self._asked[token] = time.monotonic()
        return _read(answer)

    def _taken(self, platform_id: str, token: str, kind: str) -> PlatformSnapshot | None:
        """What the token took, however short a time ago, and whichever process asked for it."""
        patience = self._settings.consistency_timeout
        now = time.monotonic()
        self._asked = {name: asked for name, asked in self._asked.items() if asked + patience > now}
        taken = self._eventually(
            lambda: self._listed(kind, token),
            max(self._began, self._asked.get(token, 0.0)) + patience,
            f"a snapshot of {platform_id} that may have been taken",
        )
        if not taken:
            return None
        first, *others = taken
        if first.volume != platform_id:
            raise AlreadyExists(
                f"token {token!r} has taken {first.id}, a snapshot of volume {first.volume}", remedy="use another token"
            )
        if others:
            names = ", ".join(other.id for other in others)
            log.warning("token %s has taken more than one snapshot: %s counts, and not %s", token, first.id, names)
        return first

    def get_snapshot(self, snapshot_id: str) -> PlatformSnapshot:
        return _read(self._snapshot(snapshot_id))

    def _snapshot(self, snapshot_id: str) -> Json:
        for found in self._described_snapshots([{"Name": "snapshot-id", "Values": [snapshot_id]}]):
            return found
        raise NotFound(f"EBS has no snapshot {snapshot_id!r} of cluster {self._cluster} in {self._api.region}")

    def list_snapshots(self) -> tuple[PlatformSnapshot, ...]:
        return self._listed("snapshot")

    def _listed(self, kind: str, token: str = "") -> tuple[PlatformSnapshot, ...]:
        filters: list[Json] = [{"Name": f"tag:{KIND}", "Values": [kind]}]
        if token:
            filters.append({"Name": f"tag:{VOLUME}", "Values": [escape(token)]})
        return tuple(map(_read, self._described_snapshots(filters)))

    def _described_snapshots(self, filters: list[Json]) -> list[Json]:
        """The oldest first: of several that one token took it counts."""
        ours = {"Name": f"tag:{CLUSTER}", "Values": [escape(self._cluster)]}
        found: list[Json] = []
        more: Json = {}
        while True:
            answer = self._api.call(
                "DescribeSnapshots",
                "looking for snapshots",
                OwnerIds=["self"],
                Filters=[ours, *filters],
                MaxResults=500,
                **more,
            )
            found += answer.get("Snapshots", [])
            if not answer.get("NextToken"):
                return sorted(found, key=_age)
            more = {"NextToken": answer["NextToken"]}

    def _check_snapshots(self) -> Check:
        """Whether a token took more than one: an operator alone can tell which of them nothing refers to."""
        taken: defaultdict[str, list[str]] = defaultdict(list)
        try:
            for one in self.list_snapshots():
                taken[one.tags.volume].append(one.id)
        except PollyError as error:
            return Check("snapshots", None, error.message, error.remedy)
        twins = [f"{', '.join(later)} beside {first}" for first, *later in taken.values() if later]
        if not twins:
            return Check("snapshots", True, f"{len(taken)} of this cluster, each of them once")
        remedy = "the older one counts; delete the other where nothing refers to it"
        return Check("snapshots", False, f"taken twice after a lost answer: {'; '.join(twins)}", remedy)

    def delete_snapshot(self, snapshot_id: str) -> None:
        try:
            self.get_snapshot(snapshot_id)
        except NotFound:
            return
        self._delete_snapshot(snapshot_id)

    def _delete_snapshot(self, snapshot_id: str) -> None:
        try:
            self._api.call("DeleteSnapshot", f"deleting snapshot {snapshot_id}", SnapshotId=snapshot_id)
        except NotFound:
            return

    def restore(self, snapshot_id: str, request: CreateRequest) -> PlatformVolume:
        _refuse_smaller(self.get_snapshot(snapshot_id).size, request.size, "snapshot")
        return self._create(request, snapshot_id).volume

    def clone(self, platform_id: str, request: CreateRequest) -> PlatformVolume:
        """By a snapshot that is deleted afterwards; the same call again goes on where an earlier one ended."""
        made = self._find_token(request.token)
        if made is None:
            source = self._find(platform_id)
            _refuse_smaller(source.volume.size, request.size, "volume")
            snapshot = self._take(platform_id, request.tags, "clone")
            self._wait(lambda: self._completed(snapshot.id), f"snapshot {snapshot.id} to be completed")
            made = self._create(request, snapshot.id)
        made_id = made.volume.id
        volume = self._wait(lambda: self._ready(made_id), f"volume {made_id} to be available")
        for left in self._listed("clone"):
            if left.tags.volume == request.tags.volume or self._is_cloned(left.tags.volume):
                self._delete_snapshot(left.id)
        return volume

    def _is_cloned(self, token: str) -> bool:
        """Whether the volume of a clone is whole, so that nobody needs a snapshot of it that came to light late."""
        made = self._find_token(token)
        return made is not None and made.volume.state is PlatformState.AVAILABLE

    def _ready(self, volume: str) -> PlatformVolume | None:
        try:
            found = self.get(volume)
        except NotFound:
            return None  # what was just made may not be known yet
        return None if found.state is PlatformState.CREATING else found

    def _completed(self, snapshot: str) -> bool | None:
        try:
            answer = self._snapshot(snapshot)
        except NotFound:
            return None
        found = _read(answer)
        if found.state is PlatformState.ERROR:
            # It would be found again by the next attempt, for ever.
            self._delete_snapshot(snapshot)
            told = answer.get("StateMessage") or "it does not say why"
            remedy = "clone the volume again; where it is encrypted, see whether its KMS key is enabled"
            raise PlatformError(f"EC2 could not complete snapshot {snapshot}: {told}", remedy=remedy)
        return True if found.state is PlatformState.AVAILABLE else None


def _refuse_smaller(least: int, size: int, what: str) -> None:
    if size < least:
        raise InvalidRequest(
            f"the {what} has {least // GIB} GiB, and a copy of it cannot have {size} bytes",
            remedy=f"ask for {least // GIB} GiB or more",
            field="size",
            value=size,
        )


def _age(answer: Json) -> tuple[datetime.datetime, str]:
    started = answer.get("StartTime")
    return (started if isinstance(started, datetime.datetime) else _NEVER, str(answer.get("SnapshotId", "")))


def _read(answer: Json) -> PlatformSnapshot:
    try:
        return PlatformSnapshot(
            id=str(answer["SnapshotId"]),
            volume=str(answer["VolumeId"]),
            size=int(answer["VolumeSize"]) * GIB,
            state=_STATES.get(str(answer["State"]), PlatformState.ERROR),
            tags=from_platform(plain(answer.get("Tags", []))),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PlatformUnavailable(
            f"EC2's description of a snapshot lacks what is documented: {error}",
            remedy="it is asked again",
            outcome_unknown=True,
        ) from error
