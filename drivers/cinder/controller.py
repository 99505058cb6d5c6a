"""The controller side: volumes.

Cinder has no idempotency token. So ours is written in the metadata of what is made, and looked for before anything is
made. Where a lost request was carried out late there can be two; the one that is attached, or was made first, is meant
from then on, and the other one is left for the audit to name: to delete what may have been given out is never right.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from drivers.base import Capability, Capacity, Check, CreateRequest, Fence, Page, PlatformState, PlatformVolume
from drivers.cinder import GIB
from drivers.cinder.attachments import HostAttachments
from drivers.cinder.calls import Calls
from drivers.cinder.capacity import measure
from drivers.cinder.checking import check_service
from drivers.cinder.copies import Copies
from drivers.cinder.failures import after_a_change
from drivers.cinder.instances import InstanceAttachments
from drivers.cinder.metadata import CLUSTER, DELETED, SIZE, TOKEN, coded, encode, value_of
from drivers.cinder.settings import NOVA, CinderSettings
from drivers.cinder.shown import is_ours, member, state_of, volume_from
from drivers.waiting import Waiter
from polly_mesos.errors import (
    AlreadyExists,
    InvalidRequest,
    NotFound,
    NotSupported,
    PlatformError,
    PlatformFull,
    PollyError,
    UnknownVolume,
    VolumeInUse,
    WrongState,
)
from polly_mesos.model import HostIdentity, Json, Profile

log = logging.getLogger(__name__)

_PAGE = "1000"
"""Cinder gives fewer where its ``osapi_max_limit`` says so, and a link to the rest."""


class CinderController(Copies):
    """One service in one project."""

    capabilities = frozenset(Capability)

    def __init__(self, settings: CinderSettings, cluster: str) -> None:
        self._settings = settings
        self._cluster = cluster
        self._calls = Calls(settings)
        self._waiter = Waiter()
        kind = InstanceAttachments if settings.attach_by == NOVA else HostAttachments
        self._attachments = kind(self._calls, self._waiter, settings, self._our)
        if settings.attach_by != NOVA:
            self.capabilities = self.capabilities - {Capability.FENCE}

    def capacity(self, zone: str, platform_type: str) -> Capacity:
        return measure(self._calls, zone or self._settings.availability_zone, platform_type)

    def create(self, request: CreateRequest) -> PlatformVolume:
        return self._make(request, {})

    def get(self, platform_id: str) -> PlatformVolume:
        return volume_from(self._our(platform_id))

    def list(self, page: str | None = None) -> Page:
        query = {"limit": _PAGE, "metadata": str({CLUSTER: coded(self._cluster)})}
        if page is not None:
            query["marker"] = page
        doing = "listing the volumes"
        answer = self._calls.volumes("GET", "/volumes/detail", doing, query=query)
        shown: list[Json] = member(answer, "volumes", doing)
        has_more = any(link.get("rel") == "next" for link in answer.get("volumes_links", ()))
        found = tuple(volume_from(one) for one in shown if is_ours(one, self._cluster))
        return Page(found, str(shown[-1]["id"]) if shown and has_more else None)

    def delete(self, platform_id: str) -> None:
        try:
            shown = self._our(platform_id)
        except UnknownVolume:
            return
        if shown.get("attachments") or shown.get("status") in ("in-use", "attaching", "reserved", "detaching"):
            raise VolumeInUse(f"volume {platform_id} is {shown.get('status')}", remedy="detach it first")
        if state_of(shown) is PlatformState.CREATING:
            shown = self._when_made(lambda: self._our(platform_id), f"volume {platform_id}")
        self._remove(shown)
        self._wait_until_gone(f"/volumes/{platform_id}", "volume", platform_id)

    def attach(self, platform_id: str, host: HostIdentity) -> Json:
        return self._attachments.attach(platform_id, host)

    def secrets(self, platform_id: str, attachment: Json) -> Json:
        return self._attachments.secrets(platform_id, attachment)

    def detach(self, platform_id: str, host: HostIdentity, *, force: bool = False) -> None:
        try:
            shown = self._our(platform_id)
        except UnknownVolume:
            return
        self._attachments.detach(shown, host, force=force)

    def fence(self, host: HostIdentity) -> Fence:
        return self._attachments.fence(host)

    def expand(self, platform_id: str, size: int) -> PlatformVolume:
        shown = self._our(platform_id)
        wanted = _in_gib(size)
        if int(shown["size"]) >= wanted:
            return volume_from(shown)
        doing = f"expanding volume {platform_id}"
        if shown.get("attachments") and self._calls.microversion(doing) < (3, 42):
            raise VolumeInUse(f"{doing}: this Cinder cannot while a host holds it", remedy="detach it first")
        if shown.get("status") != "extending":
            seen = self._attachments.before_expanding(shown)
            try:
                self._calls.volumes(
                    "POST", f"/volumes/{platform_id}/action", doing, json={"os-extend": {"new_size": wanted}}
                )
            except (InvalidRequest, WrongState) as error:
                raise WrongState(error.message, remedy="let the volume come to rest, and try again") from error
        else:
            seen = None
        grown = self._waiter.until(
            after_a_change(lambda: self._grown(platform_id, wanted)),
            self._settings.expand_timeout,
            f"volume {platform_id} to grow",
        )
        self._attachments.after_expanding(grown, seen)
        return volume_from(grown)

    def check(self, profiles: Sequence[Profile]) -> tuple[Check, ...]:
        return check_service(self._calls, self._settings, profiles)

    def close(self) -> None:
        self._waiter.close()

    def _make(self, request: CreateRequest, source: Json) -> PlatformVolume:
        size = _in_gib(request.size)
        metadata = encode(request.tags, request.token, request.size)
        if (found := self._with_token("volumes", request.token)) is not None:
            return self._same(found, request)
        volume: Json = {"size": size, "name": f"polly-{request.token}"[:255], "metadata": metadata, **source}
        if request.platform_type:
            volume["volume_type"] = request.platform_type
        if zone := request.zone or self._settings.availability_zone:
            volume["availability_zone"] = zone
        doing = f"making volume {request.token}"
        try:
            answer = self._calls.volumes("POST", "/volumes", doing, json={"volume": volume})
        except NotFound as error:
            if "type" in error.message.lower():
                raise NotSupported(error.message, remedy="name a volume type that the project can see") from error
            raise UnknownVolume(error.message) from error
        made: Json = member(answer, "volume", doing, change=True)
        if refusal := _refusal(made, request):
            self._remove(made)
            raise refusal
        return volume_from(made)

    def _same(self, found: Json, request: CreateRequest) -> PlatformVolume:
        kind = str(found.get("volume_type") or "")
        if value_of(found["metadata"], SIZE) != str(request.size) or request.platform_type not in ("", kind):
            raise AlreadyExists(
                f"token {request.token} was used for volume {found['id']} of {found['size']} GiB and type {kind!r}",
                remedy="ask for the same, or use another token",
            )
        if (refusal := _refusal(found, request)) and not found.get("attachments"):
            raise refusal
        return volume_from(found)

    def _with_token(self, kind: str, token: str) -> Json | None:
        """What carries the token; of several the one that is meant, always the same."""
        wanted = str({CLUSTER: coded(self._cluster), TOKEN: coded(token)})
        doing = f"looking for {kind} of token {token}"
        answer = self._calls.volumes("GET", f"/{kind}/detail", doing, query={"metadata": wanted})
        found = [
            one
            for one in member(answer, kind, doing)
            if is_ours(one, self._cluster)
            and value_of(one["metadata"], TOKEN) == token
            and state_of(one) is not PlatformState.DELETING
        ]
        found.sort(key=_preference)
        for surplus in found[1:]:
            log.warning(
                "%s carries the token of %s: it was made by a request that came late", surplus["id"], found[0]["id"]
            )
        return found[0] if found else None

    def _our(self, platform_id: str) -> Json:
        return self._ours("volume", platform_id)

    def _grown(self, platform_id: str, wanted: int) -> Json | None:
        shown = self._our(platform_id)
        if shown["status"] == "error_extending":
            raise PlatformFull(
                f"Cinder could not expand volume {platform_id} to {wanted} GiB",
                remedy="see `openstack volume message list`; then reset its state and try again",
            )
        if shown["status"] == "extending":
            return None
        if int(shown["size"]) >= wanted:
            return shown
        raise PlatformError(f"Cinder let volume {platform_id} at {shown['size']} GiB", remedy="see its user messages")

    def _remove(self, shown: Json) -> None:
        """Have Cinder delete a volume; one that has snapshots is hidden, and goes with the last of them."""
        platform_id = str(shown["id"])
        doing = f"deleting volume {platform_id}"
        if shown.get("status") == "deleting":
            return
        try:
            self._calls.volumes("DELETE", f"/volumes/{platform_id}", doing)
        except NotFound:
            return
        except (InvalidRequest, WrongState) as error:
            if self._has_snapshots(platform_id):
                mark = {"metadata": {DELETED: "when its snapshots are"}}
                self._calls.volumes("POST", f"/volumes/{platform_id}/metadata", doing, json=mark)
                return
            raise self._undeletable(platform_id, error) from error

    def _undeletable(self, platform_id: str, error: PollyError) -> PollyError:
        shown = self._our(platform_id)
        if shown.get("attachments"):
            return VolumeInUse(f"volume {platform_id} is attached: {error.message}", remedy="detach it first")
        return WrongState(error.message, remedy="let the volume come to rest, and try again")

    def _when_made(self, find: Callable[[], Json], what: str) -> Json:
        """Cinder deletes nothing that it is still making."""

        def look() -> Json | None:
            shown = find()
            return None if state_of(shown) is PlatformState.CREATING else shown

        return self._waiter.until(look, self._settings.delete_timeout, f"{what} to be made", first=0.1)

    def _wait_until_gone(self, path: str, kind: str, platform_id: str) -> None:
        def look() -> bool | None:
            try:
                shown: Any = member(self._calls.volumes("GET", path, f"looking at {kind} {platform_id}"), kind, path)
            except NotFound:
                return True
            if str(shown["status"]).startswith("error"):
                raise PlatformError(
                    f"Cinder could not delete {kind} {platform_id}: its status is {shown['status']}",
                    remedy="see the log of the volume service; it is tried again when asked again",
                )
            return True if DELETED in shown.get("metadata", {}) else None

        what = f"{kind} {platform_id} to be gone"
        self._waiter.until(after_a_change(look), self._settings.delete_timeout, what, first=0.1)


def _in_gib(size: int) -> int:
    if size <= 0:
        raise InvalidRequest(f"a volume has more than {size} bytes", remedy="ask for 1 GiB", field="size", value=size)
    return -(-size // GIB)


def _refusal(shown: Json, request: CreateRequest) -> NotSupported | None:
    """Why a volume is not what was asked for: what a type means is seen on what was made of it."""
    kind = shown.get("volume_type") or "of the cloud's choice"
    if request.encryption and not shown.get("encrypted"):
        return NotSupported(f"volumes of type {kind} are not encrypted", remedy="name a volume type that is")
    if shown.get("multiattach") and not request.options.get("multiattach"):
        return NotSupported(
            f"volumes of type {kind} can be attached to several hosts at once",
            remedy="name another volume type, or declare it in the profile with options: {multiattach: true}",
        )
    return None


def _preference(shown: Json) -> tuple[bool, bool, str, str]:
    return (
        not shown.get("attachments"),
        str(shown["status"]).startswith("error"),
        str(shown["created_at"]),
        str(shown["id"]),
    )
