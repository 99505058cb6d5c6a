"""Google's token services: who gets a token, for which scopes, for how long; and the files that people are given.

https://developers.google.com/identity/protocols/oauth2/service-account, .../oauth2/web-server#offline and
https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token
"""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt
from google.auth.exceptions import GoogleAuthError

from polly_mesos.model import Json
from polly_mesos.testing.gce.errors import ApiError

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
READ_ONLY = "https://www.googleapis.com/auth/compute.readonly"
_SCOPES = {CLOUD_PLATFORM, READ_ONLY, "https://www.googleapis.com/auth/compute"}
_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS = "urn:ietf:params:oauth:token-type:access_token"
_SUBJECT = "urn:ietf:params:oauth:token-type:jwt"
_FORM = "application/x-www-form-urlencoded"
_LIFETIME = 3600
_SKEW = 60
_EXCHANGE_AUDIENCE = "https://oauth2.googleapis.com/token"
"""Of what is exchanged for a token, whatever address the service is asked at."""
_API_AUDIENCE = "https://compute.googleapis.com/"


class Refused(Exception):
    """A token is not given (RFC 6749, 5.2)."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.answer = (status, {"error": error, "error_description": description})


class Tokens:
    """A project's one service account, one user and one identity from elsewhere.

    :ivar asked: how often tokens were asked for, by the kind of grant
    :ivar broken: while true, the token services answer with 503
    :ivar secrets: what may be seen nowhere
    """

    def __init__(self, email: str, project: str, endpoint: str) -> None:
        self.email = email
        self.asked: Counter[str] = Counter()
        self.broken = False
        self._project, self._endpoint = project, endpoint
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._key_id = secrets.token_hex(20)
        self._user = {
            "client_id": "764086051850.apps.googleusercontent.com",
            "client_secret": f"d-{secrets.token_hex(8)}",
            "refresh_token": f"1//{secrets.token_urlsafe(32)}",
        }
        self._subject = secrets.token_urlsafe(32)
        self._provider = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/mesos"
        self._tokens: dict[str, tuple[float, frozenset[str]]] = {}
        self._revoked = False

    @property
    def secrets(self) -> set[str]:
        pem = self._pem().splitlines()
        return {*pem[1:-1], self._user["client_secret"], self._user["refresh_token"], self._subject, *self._tokens}

    def write_key(self, path: Path) -> Path:
        """The service account's key file."""
        known = {"type": "service_account", "project_id": self._project, "client_email": self.email}
        key = {"private_key": self._pem(), "private_key_id": self._key_id}
        return _write(path, {**known, **key, "token_uri": f"{self._endpoint}/token"})

    def write_user(self, path: Path) -> Path:
        """What ``gcloud auth application-default login`` writes."""
        return _write(path, {"type": "authorized_user", **self._user})

    def write_external(self, path: Path) -> Path:
        """What ``gcloud iam workload-identity-pools create-cred-config`` writes, and the identity that it names."""
        subject = path.with_suffix(".subject")
        subject.write_text(self._subject)
        told = {"type": "external_account", "audience": self._provider, "subject_token_type": _SUBJECT}
        source = {"credential_source": {"file": str(subject)}, "token_url": f"{self._endpoint}/sts"}
        return _write(path, {**told, **source})

    def issue(self, lifetime: float = _LIFETIME, scopes: frozenset[str] = frozenset({CLOUD_PLATFORM})) -> str:
        """A token."""
        token = f"ya29.{secrets.token_urlsafe(24)}"
        self._tokens[token] = (time.monotonic() + lifetime, scopes)
        return token

    def expire(self) -> None:
        """No token that was given out is good any more; new ones are given."""
        self._tokens.update(dict.fromkeys(self._tokens, (0.0, frozenset())))

    def revoke(self) -> None:
        """Nor will a token be given: the key, the user's consent and the identity are revoked."""
        self._revoked = True
        self.expire()

    def grant(self, path: str, content: str, body: bytes) -> tuple[int, Json]:
        """Answer a request for a token: of ``/token`` or ``/sts``."""
        if self.broken:
            return 503, {"error": "internal_failure", "error_description": "Backend Error"}
        try:
            if content.partition(";")[0].strip() != _FORM:
                raise Refused("invalid_request", f"The content type is not {_FORM}")
            form = {name: values[-1] for name, values in parse_qs(body.decode()).items()}
            kind = form.get("grant_type", "")
            self.asked[kind] += 1
            known = {_EXCHANGE: self._exchange} if path == "/sts" else {_JWT_BEARER: self._signed_grant}
            known |= {} if path == "/sts" else {"refresh_token": self._refresh}
            if kind not in known:
                raise Refused("unsupported_grant_type", f"Invalid grant_type: {kind}")
            return 200, known[kind](form)
        except Refused as refused:
            return refused.answer

    def of_instance(self, scopes: list[str]) -> Json:
        """The token that an instance's metadata server gives."""
        self.asked["metadata"] += 1
        return self._answer(frozenset(scopes))

    def check(self, header: str) -> frozenset[str]:
        """Refuse who brings no good token; its scopes."""
        scheme, _, token = header.partition(" ")
        if scheme == "Bearer":
            if token not in self._tokens and not self._revoked and (scopes := self._self_signed(token)):
                # What the SDK does for Google's own APIs: the account's key signs, and no token is asked for.
                self._tokens[token] = (time.monotonic() + _LIFETIME, scopes)
            until, scopes = self._tokens.get(token, (0.0, frozenset()))
            if until > time.monotonic():
                return scopes
        message = "Request had invalid authentication credentials. Expected OAuth 2 access token."
        raise ApiError(401, "authError", message)

    def _signed_grant(self, form: dict[str, str]) -> Json:
        claims = self._claims(form.get("assertion", ""))
        if claims.get("aud") != _EXCHANGE_AUDIENCE:
            raise Refused("invalid_grant", "Invalid JWT: Failed audience check.")
        return self._answer(_known(claims.get("scope", "")))

    def _refresh(self, form: dict[str, str]) -> Json:
        if (form.get("client_id"), form.get("client_secret")) != (self._user["client_id"], self._user["client_secret"]):
            raise Refused("invalid_client", "The OAuth client was not found.", 401)
        if self._revoked or form.get("refresh_token") != self._user["refresh_token"]:
            raise Refused("invalid_grant", "Token has been expired or revoked.")
        return {**self._answer(frozenset({CLOUD_PLATFORM})), "scope": CLOUD_PLATFORM}

    def _exchange(self, form: dict[str, str]) -> Json:
        wanted = {"requested_token_type": _ACCESS, "subject_token_type": _SUBJECT, "audience": self._provider}
        for name, value in wanted.items():
            if form.get(name) != value:
                raise Refused("invalid_request", f"Invalid value for {name}.")
        if self._revoked or form.get("subject_token") != self._subject:
            raise Refused("invalid_grant", "The given credential is rejected by the attribute condition.")
        return {**self._answer(_known(form.get("scope", ""))), "issued_token_type": _ACCESS}

    def _answer(self, scopes: frozenset[str]) -> Json:
        return {"access_token": self.issue(scopes=scopes), "expires_in": _LIFETIME - 1, "token_type": "Bearer"}

    def _self_signed(self, text: str) -> frozenset[str]:
        """The scopes of a JWT that the account has signed for the API itself; none where it is not that."""
        try:
            claims = self._claims(text)
            if claims.get("sub") != self.email or claims.get("aud", _API_AUDIENCE) != _API_AUDIENCE:
                return frozenset()
            return _known(claims["scope"]) if "scope" in claims else frozenset({CLOUD_PLATFORM})
        except Refused:
            return frozenset()

    def _claims(self, text: str) -> Json:
        """What a JWT says that the account has signed and that is good now."""
        public = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        try:
            header: Json = jwt.decode_header(text)  # type: ignore[no-untyped-call]
            claims: Json = dict(jwt.decode(text, public))  # type: ignore[no-untyped-call]
            lifetime, issued = claims["exp"] - claims["iat"], claims["iat"]
        except (ValueError, TypeError, AttributeError, LookupError, GoogleAuthError):
            raise Refused("invalid_grant", "Invalid JWT Signature.") from None
        if self._revoked or header.get("kid") != self._key_id or header.get("alg") != "RS256":
            raise Refused("invalid_grant", "Invalid JWT Signature.")
        if claims.get("iss") != self.email:
            raise Refused("invalid_grant", "Invalid grant: account not found")
        if not 0 < lifetime <= _LIFETIME or issued > time.time() + _SKEW:
            raise Refused("invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes).")
        return claims

    def _pem(self) -> str:
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()


def _known(text: str) -> frozenset[str]:
    scopes = frozenset(text.split())
    if not scopes or not scopes <= _SCOPES:
        raise Refused("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
    return scopes


def _write(path: Path, told: dict[str, Any]) -> Path:
    path.write_text(json.dumps(told))
    path.chmod(0o600)
    return path
