"""The controller side: snapshots, and volumes that are made of others."""

from __future__ import annotations

from collections.abc import Callable

from drivers.base import ControllerDriver, CreateRequest, PlatformSnapshot, PlatformState, PlatformVolume, Tags
from drivers.cinder import GIB
from drivers.cinder.calls import Calls
from drivers.cinder.identifiers import is_identifier
from drivers.cinder.metadata import CLUSTER, DELETED, coded, encode
from drivers.cinder.settings import CinderSettings
from drivers.cinder.shown import is_ours, member, snapshot_from, state_of
from polly_mesos.errors import Conflict, InvalidRequest, NotFound, UnknownVolume, VolumeInUse, WrongState
from polly_mesos.model import Json

_PAGE = "1000"
_DELETED = "when its snapshots are"


class Copies(ControllerDriver):
    """What :class:`~drivers.cinder.controller.CinderController` does with snapshots."""

    _calls: Calls
    _cluster: str
    _settings: CinderSettings

    def _our(self, platform_id: str) -> Json:
        raise NotImplementedError

    def _make(self, request: CreateRequest, source: Json) -> PlatformVolume:
        raise NotImplementedError

    def _with_token(self, kind: str, token: str) -> Json | None:
        raise NotImplementedError

    def _when_made(self, find: Callable[[], Json], what: str) -> Json:
        raise NotImplementedError

    def _wait_until_gone(self, path: str, kind: str, platform_id: str) -> None:
        raise NotImplementedError

    def snapshot(self, platform_id: str, token: str, tags: Tags) -> PlatformSnapshot:
        volume = self._our(platform_id)
        if (found := self._with_token("snapshots", token)) is not None:
            return snapshot_from(found)
        doing = f"taking snapshot {token} of volume {platform_id}"
        # `force` means: also of a volume that is in use. Cinder takes it at one moment, as a lost host leaves it.
        asked = {
            "volume_id": platform_id,
            "name": f"polly-{token}"[:255],
            "force": True,
            "metadata": encode(tags, token, int(volume["size"]) * GIB),
        }
        try:
            answer = self._calls.volumes("POST", "/snapshots", doing, json={"snapshot": asked})
        except NotFound as error:
            raise UnknownVolume(error.message) from error
        except (InvalidRequest, Conflict) as error:
            if volume.get("attachments"):
                raise VolumeInUse(error.message, remedy="detach the volume first") from error
            raise WrongState(error.message, remedy="let the volume come to rest, and try again") from error
        return snapshot_from(member(answer, "snapshot", doing, change=True))

    def get_snapshot(self, snapshot_id: str) -> PlatformSnapshot:
        return snapshot_from(self._our_snapshot(snapshot_id))

    def list_snapshots(self) -> tuple[PlatformSnapshot, ...]:
        wanted = str({CLUSTER: coded(self._cluster)})
        return tuple(snapshot_from(one) for one in self._all("snapshots", wanted) if is_ours(one, self._cluster))

    def delete_snapshot(self, snapshot_id: str) -> None:
        try:
            if state_of(self._our_snapshot(snapshot_id)) is PlatformState.CREATING:
                self._when_made(lambda: self._our_snapshot(snapshot_id), f"snapshot {snapshot_id}")
        except NotFound:
            self._delete_what_waited()  # an earlier call may have come as far as this, and no further
            return
        doing = f"deleting snapshot {snapshot_id}"
        try:
            self._calls.volumes("DELETE", f"/snapshots/{snapshot_id}", doing)
        except NotFound:
            pass
        except (InvalidRequest, Conflict) as error:
            if self._our_snapshot(snapshot_id).get("status") != "deleting":
                raise WrongState(error.message, remedy="let what is made of it be finished, and try again") from error
        self._wait_until_gone(f"/snapshots/{snapshot_id}", "snapshot", snapshot_id)
        self._delete_what_waited()

    def restore(self, snapshot_id: str, request: CreateRequest) -> PlatformVolume:
        snapshot = self._our_snapshot(snapshot_id)
        _refuse_smaller(request, int(snapshot["size"]), f"snapshot {snapshot_id}")
        return self._make(request, {"snapshot_id": snapshot_id})

    def clone(self, platform_id: str, request: CreateRequest) -> PlatformVolume:
        source = self._our(platform_id)
        _refuse_smaller(request, int(source["size"]), f"volume {platform_id}")
        return self._make(request, {"source_volid": platform_id})

    def _our_snapshot(self, snapshot_id: str) -> Json:
        return self._ours("snapshot", snapshot_id)

    def _ours(self, kind: str, identifier: str) -> Json:
        """A ``volume`` or ``snapshot`` of our cluster as Cinder shows it."""
        if not is_identifier(identifier):
            raise UnknownVolume(f"{identifier!r} is no id of a {kind} of Cinder's")
        doing = f"looking at {kind} {identifier}"
        try:
            shown: Json = member(self._calls.volumes("GET", f"/{kind}s/{identifier}", doing), kind, doing)
        except NotFound as error:
            raise UnknownVolume(f"there is no {kind} {identifier}: {error.message}") from error
        if not is_ours(shown, self._cluster):
            raise UnknownVolume(f"{kind} {identifier} is not one of cluster {self._cluster}, or was deleted")
        return shown

    def _has_snapshots(self, platform_id: str) -> bool:
        doing = f"looking for snapshots of volume {platform_id}"
        answer = self._calls.volumes("GET", "/snapshots/detail", doing, query={"volume_id": platform_id})
        return bool(member(answer, "snapshots", doing))

    def _delete_what_waited(self) -> None:
        """Volumes that were deleted while they had snapshots go when they have none. Cinder keeps those that have."""
        wanted = str({CLUSTER: coded(self._cluster), DELETED: _DELETED})
        for one in self._all("volumes", wanted):
            if (one.get("metadata") or {}).get(DELETED) == _DELETED and one["status"] != "deleting":
                try:
                    self._calls.volumes("DELETE", f"/volumes/{one['id']}", f"deleting volume {one['id']} at last")
                except (NotFound, InvalidRequest, Conflict):
                    continue  # it has other snapshots, or is gone

    def _all(self, kind: str, metadata: str) -> list[Json]:
        found: list[Json] = []
        query = {"limit": _PAGE, "metadata": metadata}
        while True:
            answer = self._calls.volumes("GET", f"/{kind}/detail", f"listing the {kind}", query=query)
            page: list[Json] = member(answer, kind, f"listing the {kind}")
            found += page
            if not page or not any(link.get("rel") == "next" for link in answer.get(f"{kind}_links", ())):
                return found
            query["marker"] = str(page[-1]["id"])


def _refuse_smaller(request: CreateRequest, gigabytes: int, what: str) -> None:
    if request.size < gigabytes * GIB:
        raise InvalidRequest(
            f"{what} has {gigabytes * GIB} bytes, and a copy cannot be smaller",
            remedy=f"ask for {gigabytes * GIB} bytes or more",
            field="size",
            value=request.size,
        )
