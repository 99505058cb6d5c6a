"""The SDK's errors in our words. A change that may have happened is never called one that did not."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import requests
from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError, TransportError
from google.protobuf.json_format import ParseError

from polly_mesos.errors import (
    AlreadyExists,
    InvalidRequest,
    NotFound,
    NotSupported,
    PlatformDenied,
    PlatformError,
    PlatformFull,
    PlatformThrottled,
    PlatformUnavailable,
    PollyError,
    VolumeInUse,
)

SDK_ERRORS = (GoogleAPICallError, GoogleAuthError, requests.RequestException, ParseError, ValueError)

_FULL = {"quotaExceeded", "QUOTA_EXCEEDED", "ZONE_RESOURCE_POOL_EXHAUSTED", "RESOURCE_POOL_EXHAUSTED"}
_FULL |= {"limitExceeded", "LIMIT_EXCEEDED", "STOCKOUT", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"}
_UNSUPPORTED = "UNSUPPORTED_OPERATION"
"""Among others, more hyperdisks of a type than the machine can have."""
_IN_USE = {"resourceInUseByAnotherResource", "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "RESOURCE_IN_USE"}
_SOON = {"resourceNotReady", "RESOURCE_NOT_READY", "conditionNotMet", "CONDITION_NOT_MET"}
_THROTTLED = {"rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED"}

_REFUSED = (
    "see whether key_file, or the Application Default Credentials, are those of a living account; "
    "a person's own are renewed by `gcloud auth application-default login`"
)
_NO_ACCOUNT = "give the instance a service account with the scope cloud-platform, or write key_file"
_SCOPES = "give the instance's service account the scope cloud-platform, or write key_file"


class Missing(NotFound):
    """Something that was named is not there; the caller knows what it was."""


def translate(error: Exception, what: str, *, changing: bool, request_id: str = "") -> PollyError:
    """Our error for one that the SDK raised.

    :param what: what was tried, as ``creating disk x``
    :param changing: whether something was asked to be changed
    """
    if isinstance(error, GoogleAuthError):
        return of_credentials(error, what)
    if not isinstance(error, GoogleAPICallError) or error.code is None or _is_silent(int(error.code)):
        why = f"{what}: no answer that can be used: {_brief(error)}"
        return PlatformUnavailable(why, outcome_unknown=changing, request_id=request_id)
    return by_reason(int(error.code), _reason(error), f"{what}: {error.message}", request_id)


def _is_silent(status: int) -> bool:
    """Whether an answer tells nothing of what became of the request: it comes from between, or from a server's end."""
    return status >= 500 or status == HTTPStatus.REQUEST_TIMEOUT


def of_credentials(error: GoogleAuthError, what: str) -> PollyError:
    """Our error where no token was got, so that nothing was sent.

    The libraries raise one class for a refusal and for a service that does not answer.
    """
    known = (error, error.__cause__, *error.args)
    lost = next((one for one in known if isinstance(one, TransportError)), None)
    answer = next((one for one in getattr(lost, "args", ()) if hasattr(one, "status")), None)
    if error.retryable or (lost is not None and (answer is None or answer.status >= 500)):
        return PlatformUnavailable(f"{what}: no token could be got: {_brief(error)}")
    message = f"{what}: the credentials are refused: {_brief(error)}"
    return PlatformDenied(message, remedy=_NO_ACCOUNT if lost is not None else _REFUSED)


def by_reason(status: int, reason: str, message: str, request_id: str) -> PollyError:
    """Our error for a refusal, of a request or of an operation, by Google's status and reason."""
    if "maximum_persistent_disks" in message or (reason == _UNSUPPORTED and "disks count" in message):
        remedy = "use a larger machine type, detach disks that are not needed, or write a lower attach_limit"
        return PlatformFull(message, remedy=remedy, request_id=request_id)
    if reason in _FULL:
        remedy = "ask Google for more quota, or delete what is not needed"
        return PlatformFull(message, remedy=remedy, request_id=request_id)
    if status == 429 or reason in _THROTTLED:
        return PlatformThrottled(message, request_id=request_id)
    if reason in _IN_USE:
        return VolumeInUse(message)
    if reason in _SOON or status == 412:
        return PlatformUnavailable(message, request_id=request_id)
    if status == 401:
        return PlatformDenied(message, remedy=_REFUSED, request_id=request_id)
    if status == 403 and "scopes" in message:
        return PlatformDenied(message, remedy=_SCOPES, request_id=request_id)
    if status == 403:
        remedy = "give the account the role of examples/gce-role.yml; `polly service check` names what is missing"
        return PlatformDenied(message, remedy=remedy, request_id=request_id)
    if status == 404:
        return Missing(message)
    if status == 409:
        return AlreadyExists(message)
    if "diskType" in message or "Unknown zone" in message or "Unknown region" in message:
        return NotSupported(message)
    if status == 400:
        return InvalidRequest(message)
    if status >= 500:
        return PlatformUnavailable(message, request_id=request_id)
    return PlatformError(message, request_id=request_id)


def of_operation(operation: Any, what: str) -> PollyError | None:
    """The error with which a finished operation ended, None where it succeeded."""
    if not operation.error.errors:
        return None
    told = operation.error.errors[0]
    status = int(operation.http_error_status_code or 400)
    return by_reason(status, told.code, f"{what}: {told.code}: {told.message}", operation.name)


def _reason(error: GoogleAPICallError) -> str:
    for told in error.errors or ():
        if isinstance(told, dict) and told.get("reason"):
            return str(told["reason"])
    return ""


def _brief(error: Exception) -> str:
    text = str(error.args[0] if isinstance(error, GoogleAuthError) and error.args else error)
    return f"{type(error).__name__}: {text.splitlines()[0][:300] if text else ''}"
