"""An instance metadata service of version 2 for many instances: ``/NODE/latest/...``.

Source: the EC2 user guide, "Use the Instance Metadata Service".
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

from polly_mesos.testing.ec2.server import HttpServer
from polly_mesos.testing.ec2.state import Cloud, Instance

_LONGEST = 21600


class MetadataService:
    """Answers for instances; a node that is not known yet gets one.

    :param find: the instance of a node, None where there is none
    :ivar enabled: what IMDS answers where it is switched off is 403
    """

    def __init__(self, cloud: Cloud, find: Callable[[str], Instance | None]) -> None:
        self._cloud = cloud
        self._find = find
        self._tokens: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self.enabled = True
        self.server = HttpServer(self._handle)

    def _handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        node, _, path = request.path.removeprefix("/").partition("/")
        instance = self._find(node)
        if not self.enabled:
            self._answer(request, 403, b"")
        elif instance is None:
            self._answer(request, 404, b"")
        elif request.command == "PUT" and path == "latest/api/token":
            self._give_token(request, node)
        elif request.command != "GET":
            self._answer(request, 405, b"")
        elif not self._is_valid(node, request.headers.get("X-aws-ec2-metadata-token", "")):
            self._answer(request, 401, b"")
        else:
            found = self._look(instance, path)
            self._answer(request, 404 if found is None else 200, (found or "").encode())

    def _give_token(self, request: BaseHTTPRequestHandler, node: str) -> None:
        seconds = request.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if not seconds.isdigit() or not 1 <= int(seconds) <= _LONGEST:
            self._answer(request, 400, b"")
            return
        if request.headers.get("X-Forwarded-For"):
            self._answer(request, 403, b"")
            return
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._tokens[token] = (node, time.monotonic() + int(seconds))
        self._answer(request, 200, token.encode(), seconds)

    def _is_valid(self, node: str, token: str) -> bool:
        with self._lock:
            owner, until = self._tokens.get(token, ("", 0.0))
        return owner == node and time.monotonic() < until

    def forget_tokens(self) -> None:
        """As when the service is started anew: every token has ended."""
        with self._lock:
            self._tokens.clear()

    def _look(self, instance: Instance, path: str) -> str | None:
        region = self._cloud.region
        document = {
            "instanceId": instance.id,
            "instanceType": instance.kind,
            "availabilityZone": instance.zone,
            "region": region,
            "accountId": "123456789012",
        }
        macs = [f"02:00:00:00:00:{number:02x}" for number in range(instance.interfaces)]
        known = {
            "latest/dynamic/instance-identity/document": json.dumps(document),
            "latest/meta-data/instance-id": instance.id,
            "latest/meta-data/instance-type": instance.kind,
            "latest/meta-data/placement/availability-zone": instance.zone,
            "latest/meta-data/placement/region": region,
            "latest/meta-data/network/interfaces/macs/": "\n".join(f"{mac}/" for mac in macs),
            "latest/meta-data/block-device-mapping/": "\n".join(["ami", *instance.mapping, "root"]),
        }
        return known.get(path)

    def _answer(self, request: BaseHTTPRequestHandler, status: int, body: bytes, ttl: str = "") -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        if ttl:
            request.send_header("X-aws-ec2-metadata-token-ttl-seconds", ttl)
        request.end_headers()
        request.wfile.write(body)
