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
"""An id that nothing has."""


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
    for name, path in (("volume:get_all", "/volumes/detail"), ("volume:get_all_snapshots", "/snapshots/detail")):
        checks.append(_permission(name, lambda path=path: calls.volumes("GET", path, "trying", query={"limit": "1"})))  # type: ignore[misc]
    checks.append(
        Check(
            "permission volume:create",
            None,
            "Cinder tells of permissions to change something only when it is asked to",
            "see that the role has what examples/cinder-policy.yaml lists",
        )
    )
    if settings.attach_by == NOVA:
        checks.append(_check("compute service", lambda: _nova(calls)))
    return tuple(checks)


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except PollyError as error:
        return Check(name, False, error.message, error.remedy)


def _permission(name: str, ask: Callable[[], object]) -> Check:
    try:
        ask()
    except PlatformDenied as error:
        return Check(f"permission {name}", False, error.message, error.remedy)
    except PollyError as error:
        return Check(f"permission {name}", None, error.message, error.remedy)
    return Check(f"permission {name}", True, "granted")


def _log_in(calls: Calls) -> str:
    major, minor = calls.microversion("logging in")
    calls.volumes("GET", "/volumes?limit=1", "logging in")
    roles = ", ".join(calls.roles()) or "none"
    return f"accepted, with the roles {roles}; Cinder is asked in microversion {major}.{minor}"


def _nova(calls: Calls) -> str:
    try:
        calls.compute("GET", f"/servers/{_NOBODY}", "looking for an instance that is not there")
    except NotFound:
        return "answers, and knows the credentials"
    return "answers"


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
