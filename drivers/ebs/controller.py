"""The controller side: making, finding, deleting and growing volumes.

A volume is found again by its ClientToken for as long as Amazon keeps that (a day is all that is known), and by its
tags at any time: what carries our tag when this process starts is not made again, whatever its age.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence

from drivers.base import Capability, Capacity, Check, CreateRequest, Page, PlatformState, PlatformVolume
from drivers.ebs import capacities, checks
from drivers.ebs.api import Api
from drivers.ebs.batch import MOST_KEYS, Batch
from drivers.ebs.failures import KEY_REMEDY
from drivers.ebs.host_limits import HostLimits
from drivers.ebs.settings import EbsOptions, EbsSettings
from drivers.ebs.snapshots import Snapshots
from drivers.ebs.tags import CLUSTER, VOLUME, to_platform
from drivers.ebs.volume_types import GIB, check_shape, type_named
from drivers.ebs.volumes import GONE, Ebs, is_volume_id, read_volume
from drivers.escaping import escape
from drivers.waiting import Waiter
from polly_mesos.errors import (
    AlreadyExists,
    InvalidRequest,
    NotFound,
    NotSupported,
    PlatformUnavailable,
    UnknownVolume,
)
from polly_mesos.model import HostIdentity, Json, Profile

_PAGE = 500
_LONGEST_TOKEN = 64


class EbsController(Snapshots):
    """Volumes of one cluster in one region."""

    capabilities = frozenset(Capability)

    def __init__(self, settings: EbsSettings, cluster: str) -> None:
        self._settings = settings
        self._cluster = cluster
        self._api = Api(settings)
        self._waiter = Waiter()
        self._batch: Batch[Ebs] = Batch(self._look_at)
        self._limits = HostLimits(self._api, self._our_filter(), settings.reserved_attachments)
        self._earlier: set[str] | None = None
        self._begun: dict[str, tuple[str, float]] = {}
        self._earlier_lock = threading.Lock()
        super().__init__()

    def close(self) -> None:
        self._waiter.close()

    def known_host(self, host: HostIdentity) -> HostIdentity:
        return self._limits.refine(host)

    def check(self, profiles: Sequence[Profile]) -> tuple[Check, ...]:
        found = checks.check(self._api, self._settings, self._cluster, profiles)
        return (*found, self._check_snapshots()) if found[0].passed else found

    def capacity(self, zone: str, platform_type: str) -> Capacity:
        return capacities.capacity(self._api, zone, type_named(platform_type), self._our_filter())

    def create(self, request: CreateRequest) -> PlatformVolume:
        return self._create(request, "").volume

    def _create(self, request: CreateRequest, snapshot: str) -> Ebs:
        """Make a volume, blank or from a snapshot, or find the one that the token made."""
        parameters = self._parameters(request, snapshot)
        if found := self._known(request.token, parameters.get("KmsKeyId", "")):
            return _same(found, request)
        try:
            answer = self._api.call("CreateVolume", f"making volume {request.tags.volume}", **parameters)
        except AlreadyExists:
            # Its tags may differ alone: a restored ledger writes another epoch. Or another snapshot of a clone counts.
            until = time.monotonic() + self._settings.consistency_timeout
            what = f"the volume that token {request.token!r} made"
            if found := self._eventually(lambda: self._find_token(request.token), until, what):
                return _same(found, request)
            raise
        made = read_volume(answer)
        if self._begun.get(request.token, ("", 0.0))[0] != made.volume.id:
            self._begun[request.token] = (made.volume.id, time.monotonic())
        return made

    def _known(self, token: str, key: str) -> Ebs | None:
        """What the token made, where this process knows; EC2 may tell a repeated call the first state for ever.

        :param key: what it is encrypted with
        :raises InvalidRequest: EC2 began to make it, and has taken it back
        """
        if token not in self._begun:
            return self._find_token(token) if token in self._made_earlier() else None
        volume, since = self._begun[token]
        found = self._batch.get(volume)
        if found is None and time.monotonic() - since >= self._settings.consistency_timeout:
            with_key = f" with key {key}" if key else ""
            raise InvalidRequest(
                f"EC2 began to make volume {volume}{with_key}, and took it back: it does not know it any more",
                remedy=f"{KEY_REMEDY}; then ask for another volume" if key else "ask for another volume",
                field="options.kms_key" if key else "token",
                value=key or token,
            )
        if found is not None and found.volume.state is not PlatformState.CREATING:
            self._begun.pop(token, None)
        return found

    def _parameters(self, request: CreateRequest, snapshot: str) -> Json:
        if not 0 < len(request.token) <= _LONGEST_TOKEN or not request.token.isascii():
            raise InvalidRequest(
                f"token {request.token!r} is not one that EC2 takes",
                remedy=f"it has 1 to {_LONGEST_TOKEN} ASCII characters",
                field="token",
                value=request.token,
            )
        if request.size <= 0:
            raise InvalidRequest("a volume has a size", remedy="ask for 1 GiB", field="size", value=request.size)
        kind, size = type_named(request.platform_type), -(-request.size // GIB)
        options = EbsOptions(**request.options)
        check_shape(kind, size, request.iops, options.throughput, multi_attach=options.multi_attach)
        kms_key = options.kms_key or self._settings.kms_key
        parameters: Json = {
            "AvailabilityZone": self._zone(request.zone),
            "Size": size,
            "VolumeType": kind.name,
            "ClientToken": request.token,
            "TagSpecifications": [
                {
                    "ResourceType": "volume",
                    "Tags": to_platform(request.tags, "multi-attach" if options.multi_attach else "volume", size),
                }
            ],
        }
        optional = {
            "Iops": request.iops,
            "Throughput": options.throughput,
            "SnapshotId": snapshot,
            "MultiAttachEnabled": options.multi_attach,
            "Encrypted": request.encryption,
            "KmsKeyId": kms_key if request.encryption else "",
        }
        return parameters | {key: value for key, value in optional.items() if value}

    def _zone(self, asked: str) -> str:
        zone = asked or self._settings.zone
        if not zone:
            raise NotSupported(
                "EBS makes each volume in one zone, and none is named",
                remedy="write zone in the profile or in the service",
            )
        if not zone.startswith(self._api.region):
            raise NotSupported(f"zone {zone!r} is not in region {self._api.region}", remedy="correct zone or region")
        return zone

    def get(self, platform_id: str) -> PlatformVolume:
        return self._find(platform_id).volume

    def _find(self, platform_id: str) -> Ebs:
        found = self._batch.get(platform_id) if is_volume_id(platform_id) else None
        if found is None:
            raise UnknownVolume(
                f"EBS has no volume {platform_id!r} of cluster {self._cluster} in {self._api.region}",
                remedy="see whether it was deleted behind Polly's back, and whether the region is right",
            )
        return found

    def _look_at(self, ids: Sequence[str]) -> Mapping[str, Ebs]:
        filters = [{"Name": "volume-id", "Values": list(ids)}, self._our_filter()]
        return {found.volume.id: found for found in self._described(filters)}

    def _all(self, platform_ids: Collection[str]) -> Mapping[str, Ebs]:
        ids = [one for one in platform_ids if is_volume_id(one)]
        found: dict[str, Ebs] = {}
        for first in range(0, len(ids), MOST_KEYS):
            found |= self._look_at(ids[first : first + MOST_KEYS])
        return found

    def _described(self, filters: list[Json]) -> list[Ebs]:
        """All volumes that pass the filters and are not on their way out."""
        found: list[Ebs] = []
        more: Json = {}
        while True:
            answer = self._api.call("DescribeVolumes", "looking for volumes", Filters=filters, MaxResults=_PAGE, **more)
            found += _present(answer)
            if not answer.get("NextToken"):
                return found
            more = {"NextToken": answer["NextToken"]}

    def list(self, page: str | None = None) -> Page:
        more: Json = {} if page is None else {"NextToken": page}
        answer = self._api.call(
            "DescribeVolumes", "listing volumes", Filters=[self._our_filter()], MaxResults=_PAGE, **more
        )
        return Page(tuple(found.volume for found in _present(answer)), answer.get("NextToken") or None)

    def _our_filter(self) -> Json:
        return {"Name": f"tag:{CLUSTER}", "Values": [escape(self._cluster)]}

    def _find_token(self, token: str) -> Ebs | None:
        found = self._described([self._our_filter(), {"Name": f"tag:{VOLUME}", "Values": [escape(token)]}])
        return min(found, key=lambda one: one.volume.id, default=None)

    def _made_earlier(self) -> set[str]:
        """The tokens of the volumes that were there when this process first made one."""
        with self._earlier_lock:
            if self._earlier is None:
                self._earlier = {found.volume.tags.volume for found in self._described([self._our_filter()])}
            return self._earlier

    def delete(self, platform_id: str) -> None:
        if not is_volume_id(platform_id):
            return
        try:
            self._find(platform_id)
            self._api.call("DeleteVolume", f"deleting volume {platform_id}", VolumeId=platform_id)
        except UnknownVolume:
            return

    def expand(self, platform_id: str, size: int) -> PlatformVolume:
        found, wanted = self._find(platform_id), -(-size // GIB)
        if found.volume.size >= size:
            return found.volume
        what = f"growing volume {platform_id} to {wanted} GiB"
        if self._modification(platform_id) not in ("modifying", "optimizing"):
            check_shape(type_named(found.kind), wanted, None if not type_named(found.kind).must_buy_iops else 100, None)
            self._api.call("ModifyVolume", what, VolumeId=platform_id, Size=wanted)

        def grown() -> PlatformVolume | None:
            state = self._modification(platform_id)
            if state == "failed":
                raise PlatformUnavailable(f"{what}: EC2 says that it failed", remedy="it is tried again")
            volume = self._find(platform_id).volume
            if volume.size < size and state in ("completed", ""):
                raise PlatformUnavailable(f"{what}: another change came first", remedy="it is tried again")
            return volume if volume.size >= size else None

        return self._wait(grown, f"volume {platform_id} to have {wanted} GiB")

    def _modification(self, platform_id: str) -> str:
        try:
            answer = self._api.call(
                "DescribeVolumesModifications", f"looking at volume {platform_id}", VolumeIds=[platform_id]
            )
        except NotFound:
            return ""
        changes = answer.get("VolumesModifications", [])
        return str(changes[-1].get("ModificationState", "")) if changes else ""


def _present(answer: Json) -> list[Ebs]:
    return [read_volume(one) for one in answer.get("Volumes", []) if one.get("State") not in GONE]


def _same(found: Ebs, request: CreateRequest) -> Ebs:
    asked = found.asked or found.volume.size // GIB
    wanted = type_named(request.platform_type).name
    if asked != -(-request.size // GIB) or found.kind != wanted:
        raise AlreadyExists(
            f"volume {request.tags.volume} was made as {found.volume.id} with {asked} GiB of {found.kind}",
            remedy="use another token",
        )
    return found
