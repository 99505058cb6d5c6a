"""The controller side: snapshots, and volumes made from them.

EC2's CreateSnapshot has no ClientToken: what a token took already is found by its tag. After a lost answer the look is
repeated for a while before another snapshot is taken, as a new one may not be listed yet.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import replace

from drivers.base import CreateRequest, PlatformSnapshot, PlatformState, PlatformVolume, Tags
from drivers.ebs.attachments import Attachments
from drivers.ebs.tags import CLUSTER, KIND, VOLUME, escape, from_platform, plain, to_platform
from drivers.ebs.volume_types import GIB
from drivers.ebs.volumes import Ebs
from polly_mesos.errors import InvalidRequest, NotFound, PlatformError, PlatformUnavailable
from polly_mesos.model import Json

_SEEN_BY_THEN = 10.0
_STATES = {"pending": PlatformState.CREATING, "completed": PlatformState.AVAILABLE}


class Snapshots(Attachments):
    """snapshot, restore, clone and what belongs to them."""

    _cluster: str

    def __init__(self) -> None:
        super().__init__()
        self._doubtful: dict[str, float] = {}

    @abstractmethod
    def _create(self, request: CreateRequest, snapshot: str) -> Ebs:
        """Make a volume, from a snapshot where one is named."""

    @abstractmethod
    def _find_token(self, token: str) -> Ebs | None:
        """The volume that the token made."""

    def snapshot(self, platform_id: str, token: str, tags: Tags) -> PlatformSnapshot:
        return self._take(platform_id, replace(tags, volume=token), "snapshot")

    def _take(self, platform_id: str, tags: Tags, kind: str) -> PlatformSnapshot:
        found = self._find(platform_id)
        token = tags.volume
        taken = self._listed(kind, token)
        while not taken and time.monotonic() < self._doubtful.get(token, 0.0):
            taken = self._waiter.until(
                lambda: self._listed(kind, token) or (() if time.monotonic() >= self._doubtful[token] else None),
                _SEEN_BY_THEN + 1.0,
                f"a snapshot of {platform_id} that may have been taken",
            )
        if taken:
            return taken[0]
        size = found.volume.size // GIB
        tag_list = to_platform(tags, kind, size)
        try:
            answer = self._api.call(
                "CreateSnapshot",
                f"taking a snapshot of volume {platform_id}",
                VolumeId=platform_id,
                Description=f"Polly, cluster {self._cluster}"[:255],
                TagSpecifications=[{"ResourceType": "snapshot", "Tags": tag_list}],
            )
        except PlatformError as error:
            if error.outcome_unknown:
                self._doubtful[token] = time.monotonic() + _SEEN_BY_THEN
            raise
        return _read(answer)

    def get_snapshot(self, snapshot_id: str) -> PlatformSnapshot:
        for found in self._described_snapshots([{"Name": "snapshot-id", "Values": [snapshot_id]}]):
            return found
        raise NotFound(f"EBS has no snapshot {snapshot_id!r} of cluster {self._cluster} in {self._api.region}")

    def list_snapshots(self) -> tuple[PlatformSnapshot, ...]:
        return self._listed("snapshot")

    def _listed(self, kind: str, token: str = "") -> tuple[PlatformSnapshot, ...]:
        filters: list[Json] = [{"Name": f"tag:{KIND}", "Values": [kind]}]
        if token:
            filters.append({"Name": f"tag:{VOLUME}", "Values": [escape(token)]})
        found = self._described_snapshots(filters)
        return tuple(sorted(found, key=lambda one: one.id))

    def _described_snapshots(self, filters: list[Json]) -> list[PlatformSnapshot]:
        ours = {"Name": f"tag:{CLUSTER}", "Values": [escape(self._cluster)]}
        found: list[PlatformSnapshot] = []
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
            found += map(_read, answer.get("Snapshots", []))
            if not answer.get("NextToken"):
                return found
            more = {"NextToken": answer["NextToken"]}

    def delete_snapshot(self, snapshot_id: str) -> None:
        try:
            self.get_snapshot(snapshot_id)
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
        for left in self._listed("clone", request.tags.volume):
            self._api.call("DeleteSnapshot", f"deleting snapshot {left.id} of a clone", SnapshotId=left.id)
        return volume

    def _ready(self, volume: str) -> PlatformVolume | None:
        try:
            found = self.get(volume)
        except NotFound:
            return None  # what was just made may not be known yet
        return None if found.state is PlatformState.CREATING else found

    def _completed(self, snapshot: str) -> bool | None:
        try:
            found = self.get_snapshot(snapshot)
        except NotFound:
            return None
        if found.state is PlatformState.ERROR:
            raise PlatformError(f"EC2 could not complete snapshot {snapshot}", remedy="clone the volume again")
        return True if found.state is PlatformState.AVAILABLE else None


def _refuse_smaller(least: int, size: int, what: str) -> None:
    if size < least:
        raise InvalidRequest(
            f"the {what} has {least // GIB} GiB, and a copy of it cannot have {size} bytes",
            remedy=f"ask for {least // GIB} GiB or more",
            field="size",
            value=size,
        )


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
