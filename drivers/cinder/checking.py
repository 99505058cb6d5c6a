"""``polly service check``: what a service needs, asked one by one, and nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from drivers.base import Check
from drivers.cinder.calls import Calls
from drivers.cinder.capacity import check_zone, find_type, measure
from drivers.cinder.settings import NOVA, CinderSettings
from polly_mesos.errors import NotFound, PlatformDenied, PollyError
from polly_mesos.model import Profile

_NOBODY = "00000000-0000-4000-8000-000000000000"
"""An id that nothing has: what may be done with it is refused for want of it, what may not for want of permission."""


def check_service(calls: Calls, settings: CinderSettings, profiles: Sequence[Profile]) -> tuple[Check, ...]:
    """All checks; where the login fails, only that one."""
    checks = [_check("credentials", lambda: _log_in(calls))]
    if not checks[0].passed:
        return tuple(checks)
    checks.append(_check("quota", lambda: _quota(calls)))
    for zone in sorted({profile.zone or settings.availability_zone for profile in profiles} - {""}):
        checks.append(_check(f"zone {zone}", lambda zone=zone: _zone(calls, zone)))  # type: ignore[misc]
    for profile in profiles:
        if profile.platform_type:
            checks.append(_check(f"type {profile.platform_type}", lambda profile=profile: _type(calls, profile)))  # type: ignore[misc]
    for name, method, path, body in (
        ("volume:get_all", "GET", "/volumes/detail?limit=1", None),
        ("volume:get_all_snapshots", "GET", "/snapshots/detail?limit=1", None),
        ("volume:extend", "POST", f"/volumes/{_NOBODY}/action", {"os-extend": {"new_size": 1}}),
        ("volume:create_snapshot", "POST", "/snapshots", {"snapshot": {"volume_id": _NOBODY, "force": True}}),
        ("volume:attachment_create", "POST", "/attachments", {"attachment": {"volume_uuid": _NOBODY}}),
    ):
        checks.append(_permission(name, lambda m=method, p=path, b=body: calls.volumes(m, p, "trying", json=b)))  # type: ignore[misc]
    if settings.attach_by == NOVA:
        checks.append(
            _permission("compute servers:show", lambda: calls.compute("GET", f"/servers/{_NOBODY}", "trying"))
        )
    return tuple(checks)


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except PollyError as error:
        return Check(name, False, error.message, error.remedy)


def _permission(name: str, ask: Callable[[], object]) -> Check:
    try:
        ask()
    except NotFound:
        pass  # it would have been done
    except PlatformDenied as error:
        return Check(f"permission {name}", False, error.message, error.remedy)
    except PollyError as error:
        return Check(f"permission {name}", None, error.message, error.remedy)
    return Check(f"permission {name}", True, "granted")


def _log_in(calls: Calls) -> str:
    major, minor = calls.microversion("logging in")
    calls.volumes("GET", "/volumes?limit=1", "logging in")
    return f"accepted; Cinder is asked in microversion {major}.{minor}"


def _quota(calls: Calls) -> str:
    capacity = measure(calls, "", "")
    if capacity.total is None:
        return "no limit of its own"
    return f"{capacity.available} of {capacity.total} bytes are left"


def _zone(calls: Calls, zone: str) -> str:
    check_zone(calls, zone)
    return "volumes can be made there"


def _type(calls: Calls, profile: Profile) -> str:
    kind = find_type(calls, profile.platform_type)
    shared = str((kind.get("extra_specs") or {}).get("multiattach", "")).lower() == "<is> true"
    if shared and not profile.options.get("multiattach"):
        return "its volumes can be attached to several hosts, which profile options must declare: {multiattach: true}"
    return "the project can use it"
