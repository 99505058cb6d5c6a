"""Who may ask, and for what: service accounts, tokens, permissions."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt
from google.auth.exceptions import GoogleAuthError

from polly_mesos.model import Json
from polly_mesos.testing.gce.errors import ApiError
from polly_mesos.testing.gce.schema import Call

_LIFETIME = 3600
_NAMES = {
    "disks.insert": ("disks.create",),
    "disks.aggregatedList": ("disks.list",),
    "disks.createSnapshot": ("disks.createSnapshot", "snapshots.create"),
    "instances.attachDisk": ("instances.attachDisk", "disks.use"),
    "zoneOperations.wait": ("zoneOperations.get",),
    "regionOperations.wait": ("regionOperations.get",),
    "globalOperations.wait": ("globalOperations.get",),
    "regionDiskTypes.get": ("diskTypes.get",),
    "regionDiskTypes.list": ("diskTypes.list",),
}
"""Where the permission is not called as the method (https://cloud.google.com/compute/docs/access/iam-permissions)."""


class Access:
    """A project's one service account.

    :ivar permissions: what it may, as ``compute.disks.create``; everything where None
    :ivar used: the permissions that calls needed so far
    """

    def __init__(self, project: str) -> None:
        self.email = f"polly@{project}.iam.gserviceaccount.com"
        self.permissions: frozenset[str] | None = None
        self.used: set[str] = set()
        self._project = project
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._tokens: dict[str, float] = {}
        self._revoked = False

    def write_key(self, path: Path, token_uri: str) -> Path:
        """The account's key file, as Google gives it out."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        known = {"type": "service_account", "project_id": self._project, "client_email": self.email}
        path.write_text(json.dumps({**known, "private_key": pem, "private_key_id": "1", "token_uri": token_uri}))
        path.chmod(0o600)
        return path

    def grant(self, body: bytes) -> tuple[int, Json]:
        """Answer a signed request for a token (RFC 7523)."""
        assertion = parse_qs(body.decode()).get("assertion", [""])[0]
        if self._revoked or not self._signed(assertion):
            return 400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
        return 200, {"access_token": self.issue(), "expires_in": _LIFETIME, "token_type": "Bearer"}

    def _signed(self, text: str) -> bool:
        """Whether it is a JWT that the account has signed and that has not expired."""
        public = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        try:
            claims: dict[str, Any] = dict(jwt.decode(text, public))  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, AttributeError, GoogleAuthError):
            return False
        return bool(claims["iss"] == self.email)

    def issue(self, lifetime: float = _LIFETIME) -> str:
        """A token."""
        token = f"ya29.{secrets.token_urlsafe(24)}"
        self._tokens[token] = time.monotonic() + lifetime
        return token

    def expire_all(self) -> None:
        """No token that was given out or signed is good any more, nor will one be: the key was revoked."""
        self._revoked = True
        self._tokens.clear()

    def check_token(self, header: str) -> None:
        """Refuse who brings no good token."""
        token = header.removeprefix("Bearer ")
        if token not in self._tokens and not self._revoked and self._signed(token):
            # What the SDK does for Google's own APIs: the account's key signs, and no token is asked for.
            self._tokens[token] = time.monotonic() + _LIFETIME
        if self._tokens.get(token, 0.0) < time.monotonic():
            message = "Request had invalid authentication credentials. Expected OAuth 2 access token."
            raise ApiError(401, "authError", message)

    def check(self, call: Call) -> None:
        """Refuse what the account may not do."""
        for permission in _needed(call):
            self.used.add(permission)
            if self.permissions is not None and permission not in self.permissions:
                where = "/".join(f"{name}s/{value}" for name, value in call.path.items())
                raise ApiError(403, "forbidden", f"Required '{permission}' permission for '{where}'")

    def granted(self, asked: list[str]) -> Json:
        """The answer of testIamPermissions."""
        held = [one for one in asked if self.permissions is None or one in self.permissions]
        return {"permissions": held} if held else {}


def _needed(call: Call) -> Iterator[str]:
    name = call.method.id.removeprefix("compute.").replace("regionDisks.", "disks.")
    if name.endswith("testIamPermissions"):
        return
    for permission in _NAMES.get(name, (name,)):
        yield f"compute.{permission}"
    if call.body.get("labels"):
        yield "compute.snapshots.setLabels" if name == "disks.createSnapshot" else "compute.disks.setLabels"
    if "sourceSnapshot" in call.body:
        yield "compute.snapshots.useReadOnly"
    if "sourceDisk" in call.body:
        yield "compute.disks.useReadOnly"
