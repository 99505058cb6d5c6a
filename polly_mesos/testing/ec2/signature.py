"""Who asks: AWS Signature Version 4, verified.

Source: the IAM user guide, "Create a signed AWS API request".
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass

from polly_mesos.testing.ec2.answers import Refusal
from polly_mesos.testing.ec2.policy import Policy

_HEADER = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/([0-9]{8})/([^/]+)/([^/]+)/aws4_request, ?"
    r"SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})"
)
_LATEST = 15 * 60.0
_WRONG = "AWS was not able to validate the provided access credentials"


@dataclass(frozen=True, slots=True)
class Account:
    """One key that may ask.

    :param token: the session token that has to come with it, empty for none
    :param policy: what may be done with it; None for everything
    :param expired: whether its time is over
    """

    secret: str
    token: str = ""
    policy: Policy | None = None
    expired: bool = False

    def __repr__(self) -> str:
        return f"Account(policy={self.policy!r}, expired={self.expired})"


def verified(
    accounts: Mapping[str, Account], region: str, path: str, headers: Mapping[str, str], body: bytes
) -> tuple[Account, str]:
    """The account that signed a POST, and the service that it signed it for.

    :raises Refusal: nobody that is known did
    """
    found = _HEADER.fullmatch(headers.get("authorization", ""))
    if found is None:
        raise Refusal("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
    key, date, scope_region, service, signed, signature = found.groups()
    account = accounts.get(key)
    if account is None or account.token != headers.get("x-amz-security-token", ""):
        raise Refusal("AuthFailure", _WRONG)
    if scope_region != region:
        raise Refusal("AuthFailure", "Credential should be scoped to a valid region.")
    stamp = headers.get("x-amz-date", "")
    canonical = "\n".join(
        [
            "POST",
            path,
            "",
            *(f"{name}:{' '.join(headers.get(name, '').split())}" for name in signed.split(";")),
            "",
            signed,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    scope = f"{date}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    secret = f"AWS4{account.secret}".encode()
    for part in (date, region, service, "aws4_request"):
        secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
    if not hmac.compare_digest(hmac.new(secret, text.encode(), hashlib.sha256).hexdigest(), signature):
        raise Refusal("AuthFailure", _WRONG)
    if account.expired or _age(stamp) > _LATEST:
        raise Refusal("RequestExpired", "Request has expired.")
    return account, service


def _age(stamp: str) -> float:
    try:
        signed = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    except ValueError as error:
        raise Refusal("IncompleteSignature", f"{stamp!r} is not a date") from error
    return abs((datetime.datetime.now(datetime.UTC) - signed).total_seconds())
