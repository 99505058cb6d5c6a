"""What went wrong at an OpenStack service, in our words.

A change whose answer did not arrive, or that a gateway or a failing service answered, may have happened.
"""

from __future__ import annotations

from typing import Any

from keystoneauth1 import exceptions

from polly_mesos.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    PlatformDenied,
    PlatformError,
    PlatformFull,
    PlatformThrottled,
    PlatformUnavailable,
    PollyError,
    WrongState,
)

_QUOTA = ("quota", "maximum number of", "limitexceeded", "allowed gigabytes")
_LONGEST_TOLD = 300


def request_id_of(answer: Any) -> str:
    """The service's own name of the request."""
    headers = getattr(answer, "headers", None) or {}
    return str(headers.get("x-openstack-request-id") or headers.get("x-compute-request-id") or "")


def told_by(answer: Any) -> str:
    """What the service says went wrong; empty where that is not in its format."""
    try:
        body = answer.json()
    except ValueError:
        return ""
    for told in body.values() if isinstance(body, dict) else ():
        if isinstance(told, dict) and isinstance(told.get("message"), str):
            return str(told["message"])[:_LONGEST_TOLD]
    return ""


def refused(answer: Any, doing: str, *, change: bool) -> PollyError:
    """The error for an answer that is none of success."""
    told, number, status = told_by(answer), request_id_of(answer), answer.status_code
    what = f"{doing}: {told or 'no reason that can be read'} (HTTP {status})"
    named = f"{what} [request {number}]" if number else what
    if status in (401, 403):
        remedy = (
            "see whether the credentials are right and have not expired"
            if status == 401
            else "give the user's role this permission; examples/cinder-policy.yaml has all that are needed"
        )
        return PlatformDenied(what, remedy=remedy, request_id=number)
    if status in (413, 429):
        if any(word in told.lower() for word in _QUOTA):
            return PlatformFull(what, remedy="delete volumes, or have the project's quota raised", request_id=number)
        return PlatformThrottled(what, remedy="it is tried again, more slowly", request_id=number)
    if status == 404:
        return NotFound(named)
    if status == 409:
        return WrongState(named)
    if 400 <= status < 500:
        return InvalidRequest(named)
    if status >= 500:
        return PlatformUnavailable(what, outcome_unknown=change, request_id=number)
    return PlatformUnavailable(what, outcome_unknown=change, request_id=number)


def failed(error: exceptions.ClientException, doing: str, *, change: bool) -> PollyError:
    """The error for a request that got no answer, or that was not sent for want of a login."""
    told = f"{doing}: {str(error)[:_LONGEST_TOLD]}"
    number = str(getattr(error, "request_id", "") or "")
    match error:
        case exceptions.Unauthorized() | exceptions.Forbidden():
            return PlatformDenied(told, remedy="see whether the credentials are right and valid", request_id=number)
        case exceptions.EndpointNotFound() | exceptions.EmptyCatalog() | exceptions.MissingAuthPlugin():
            return PlatformError(told, remedy="correct region_name or interface; the catalogue has no such service")
        case exceptions.SSLError():
            return PlatformError(told, remedy="let ca_cert name the certificates of the cloud's own authority")
        case exceptions.AuthorizationFailure() | exceptions.MissingRequiredOptions():
            return PlatformDenied(told, remedy="correct auth_url and the credentials", request_id=number)
        case exceptions.NotFound() if "token" in told.lower():  # so Keystone answers to one that is not valid
            return PlatformDenied(told, remedy="give a token that is valid", request_id=number)
        case exceptions.NotFound() | exceptions.BadRequest():
            return PlatformError(told, remedy="correct auth_url", request_id=number)
        case _:
            return PlatformUnavailable(
                told, remedy="see whether the cloud can be reached", outcome_unknown=change, request_id=number
            )


def is_state_conflict(error: PollyError) -> bool:
    """Whether the service refuses because of the volume's state now: it says so by 409, and Cinder often by 400."""
    return isinstance(error, (InvalidRequest, Conflict))
