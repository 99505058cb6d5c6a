"""What went wrong at an OpenStack service, in our words.

A change whose answer did not arrive, or that a gateway or a failing service answered, may have happened.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

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

Found = TypeVar("Found")
_QUOTA = ("quota", "maximum number of", "limitexceeded", "allowed gigabytes")
_MANY_DISKS = "maximum allowed number of disk devices"
_LONGEST_TOLD = 300
_OTHER_NAME, _WRONG_TIME = (62, 64), (9, 10)
"""Of OpenSSL's codes of verification (``X509_V_ERR_*``): for another host or address; not valid yet or any more."""


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
    if status == 403 and _MANY_DISKS in told:
        return PlatformFull(what, remedy="detach a volume from the instance, or use another one", request_id=number)
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


def failed(
    error: exceptions.ClientException, doing: str, *, change: bool, look_at: str = "the credentials"
) -> PollyError:
    """The error for a request that got no answer, or that was not sent for want of a login.

    :param look_at: what the login is made of. Keystone never says what of it is wrong
    """
    if isinstance(error, exceptions.SSLError) and (distrust := _distrust(error)) is not None:
        return _untrusted(error, distrust, doing)
    told = f"{doing}: {str(error)[:_LONGEST_TOLD]}"
    number = str(getattr(error, "request_id", "") or "")
    match error:
        case exceptions.Unauthorized() | exceptions.Forbidden():
            return PlatformDenied(told, remedy=f"see whether {look_at} are right and valid", request_id=number)
        case exceptions.EndpointNotFound() | exceptions.EmptyCatalog() | exceptions.MissingAuthPlugin():
            return PlatformError(told, remedy="correct region_name or interface; the catalogue has no such service")
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


def absent(error: Exception, doing: str, *, otherwise: str = "") -> PollyError:
    """The error for a service that the catalogue does not have; nothing was asked.

    :param otherwise: what else than a wrong region it can be
    """
    return PlatformError(
        f"{doing}: {str(error)[:_LONGEST_TOLD]}", remedy=f"correct region_name or interface{otherwise}"
    )


def _distrust(error: BaseException) -> ssl.SSLCertVerificationError | None:
    """Why a certificate was refused. TLS can also break later, when the request was sent: that is no such thing."""
    reason: BaseException | None = error
    while reason is not None and not isinstance(reason, ssl.SSLCertVerificationError):
        reason = reason.__cause__ or reason.__context__
    return reason


def _untrusted(error: BaseException, distrust: ssl.SSLCertVerificationError, doing: str) -> PollyError:
    """Nothing was sent, and trying again is in vain until somebody does something about it."""
    asked = urlsplit(str(getattr(getattr(error.__context__, "request", None), "url", "")))
    if distrust.verify_code in _OTHER_NAME:
        remedy = "correct auth_url; where it is right, the catalogue or the certificate has a name that is not"
    elif distrust.verify_code in _WRONG_TIME:
        remedy = "have the cloud's operator renew the certificate, and see whether the clock here is right"
    else:
        remedy = "let ca_cert name a bundle with the certificate of the authority that the cloud has its own from"
    told = distrust.verify_message.rstrip(".")
    return PlatformError(
        f"{doing}: the certificate of {asked.scheme}://{asked.netloc} is not trusted: {told}", remedy=remedy
    )


def after_a_change(look: Callable[[], Found]) -> Callable[[], Found]:
    """A look whose own failure does not say that the change before it did not happen."""

    def looked() -> Found:
        try:
            return look()
        except (PlatformUnavailable, PlatformThrottled, PlatformDenied) as error:
            error.outcome_unknown = True
            raise

    return looked


def is_state_conflict(error: PollyError) -> bool:
    """Whether the service refuses because of the volume's state now: it says so by 409, and Cinder often by 400."""
    return isinstance(error, (InvalidRequest, Conflict))
