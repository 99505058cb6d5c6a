"""What EC2 and its SDK raise, in our words, with Amazon's own request id.

Source: the EC2 API reference, "Error codes for the Amazon EC2 API".
"""

from __future__ import annotations

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    SSLError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

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
    UnknownHost,
    UnknownVolume,
    VolumeInUse,
)

LOST = (BotoCoreError, ResponseParserError, HTTPError, OSError, ValueError, KeyError)
"""All that a call can raise beside :class:`ClientError`."""

KEY_REMEDY = "enable the KMS key, and allow Polly to use it, as examples/ebs-iam-policy.json does"

_CREDENTIALS = {
    **dict.fromkeys(
        ("RequestExpired", "ExpiredToken", "ExpiredTokenException"),
        "renew the credentials; see also whether this machine's clock is right",
    ),
    **dict.fromkeys(
        (
            "AuthFailure",
            "SignatureDoesNotMatch",
            "InvalidClientTokenId",
            "UnrecognizedClientException",
            "MissingAuthenticationToken",
            "IncompleteSignature",
        ),
        "correct access_key and secret_key, and see whether they belong to this region",
    ),
    **dict.fromkeys(
        ("OptInRequired", "Blocked", "PendingVerification"), "activate the account or the region with Amazon"
    ),
    **dict.fromkeys(
        ("UnauthorizedOperation", "AccessDenied", "AccessDeniedException"),
        "allow it in the policy; examples/ebs-iam-policy.json has all that Polly needs",
    ),
    "CustomerKeyHasBeenRevoked": f"{KEY_REMEDY}, kms:CreateGrant above all",
}
_THROTTLED = {
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "EC2ThrottledException",
    "SnapshotCreationPerVolumeRateExceeded",
}
_FULL = {
    "VolumeLimitExceeded": "delete volumes, or ask Amazon for a higher quota of this volume type",
    "MaxIOPSLimitExceeded": "delete volumes with provisioned iops, or ask Amazon for a higher quota",
    "InsufficientVolumeCapacity": "try again later, or use another zone or type",
    "AttachmentLimitExceeded": "detach volumes from the instance, or use a larger instance type",
    "ResourceLimitExceeded": "ask Amazon for a higher quota",
    "SnapshotLimitExceeded": "delete snapshots, or ask Amazon for a higher quota",
    "ConcurrentSnapshotLimitExceeded": "wait for the snapshots that are being taken",
    "PendingSnapshotLimitExceeded": "wait for the snapshots that are being taken",
}
_PLAIN: dict[str, type[PollyError]] = {
    "InvalidVolume.NotFound": UnknownVolume,
    "InvalidVolumeID.Malformed": UnknownVolume,
    "InvalidInstanceID.NotFound": UnknownHost,
    "InvalidInstanceID.Malformed": UnknownHost,
    "InvalidSnapshot.NotFound": NotFound,
    "InvalidSnapshotID.Malformed": NotFound,
    "InvalidAttachment.NotFound": NotFound,
    "InvalidVolumeModification.NotFound": NotFound,
    "NoSuchResourceException": NotFound,
    "VolumeInUse": VolumeInUse,
    "IdempotentParameterMismatch": AlreadyExists,
    "InvalidZone.NotFound": NotSupported,
    "InvalidVolume.ZoneMismatch": NotSupported,
    "UnsupportedOperation": NotSupported,
    "Unsupported": NotSupported,
}
_WRONG = ("InvalidParameter", "MissingParameter", "UnknownParameter", "InvalidKmsKey", "TagLimitExceeded", "InvalidTag")
_SIX_HOURS = "EBS changes a volume once in six hours; it is tried again until then"


def code_of(error: ClientError) -> str:
    """EC2's own word for an error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def refused(error: ClientError, what: str, *, changes: bool) -> PollyError:
    """The error for what EC2 answered.

    :param changes: whether the call would change something
    """
    answer = error.response
    code, message = code_of(error), str(answer.get("Error", {}).get("Message", ""))
    metadata = answer.get("ResponseMetadata", {})
    request_id = str(metadata.get("RequestId", ""))
    text = f"{what}: {code}: {message}"
    if code in _CREDENTIALS:
        return PlatformDenied(text, remedy=_CREDENTIALS[code], request_id=request_id)
    if code in _THROTTLED:
        return PlatformThrottled(text, remedy="lower requests_per_second if this goes on", request_id=request_id)
    if code == "VolumeModificationRateExceeded":
        return PlatformThrottled(text, remedy=_SIX_HOURS, request_id=request_id)
    if code in _FULL:
        return PlatformFull(text, remedy=_FULL[code], request_id=request_id)
    named = f"{text} [request {request_id}]"
    if code in _PLAIN:
        return _PLAIN[code](named)
    if code.startswith(_WRONG):
        return InvalidRequest(named, remedy="change the profile or the size")
    if code in ("IncorrectState", "IncorrectModificationState", "IncorrectInstanceState"):
        return PlatformUnavailable(text, remedy="it is tried again", request_id=request_id)
    if int(metadata.get("HTTPStatusCode", 500)) >= 500:
        return PlatformUnavailable(text, remedy="it is tried again", outcome_unknown=changes, request_id=request_id)
    return PlatformError(text, outcome_unknown=changes, request_id=request_id)


def lost(error: Exception, what: str, *, changes: bool) -> PollyError:
    """The error for a call without an answer, or with one that cannot be understood."""
    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return PlatformDenied(
            f"{what}: {error}", remedy="give access_key and secret_key, or a role to the machine that Polly runs on"
        )
    if isinstance(error, ParamValidationError):
        return InvalidRequest(f"{what}: {error}", remedy="change the profile or the size")
    unsent = isinstance(error, EndpointConnectionError | ConnectTimeoutError | SSLError)
    return PlatformUnavailable(
        f"{what}: no answer that can be understood: {type(error).__name__}: {error}",
        remedy="see whether EC2's endpoint can be reached from here",
        outcome_unknown=changes and not unsent,
    )
