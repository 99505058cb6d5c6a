"""Stands in front of Cinder or Nova, counts what is asked of it, and makes it as unpleasant as a test wants it."""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from polly_mesos.testing.openstack.serving import Answer, Request, Server

Kind = Literal[
    "lost",
    "lost-request",
    "cut",
    "html",
    "not-json",
    "garbled",
    "throttle",
    "overlimit",
    "unavailable",
    "conflict",
    "failure",
    "missing",
    "slow",
]
_IDENTIFIER = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")
_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "server", "date", "content-encoding"}
_UNTIL_CINDER_ANSWERS = 60.0


@dataclass
class Fault:
    """What happens to requests of a method whose path pattern ends in ``path``, the next ``times`` times.

    ``lost``: carried out, and the answer does not arrive. ``lost-request``: not carried out either. ``cut``: carried
    out, half of the answer arrives. ``html`` and ``not-json``: carried out, and a gateway's page comes instead.
    ``throttle`` (429), ``overlimit`` (413, as Cinder's rate limit has it) and ``unavailable`` (503): refused.
    ``conflict`` (409) and ``failure`` (500): refused. ``missing``: what is there is not found (404), as where a
    database lags behind. ``slow``: answered ``seconds`` later. ``garbled``: carried out, and what comes back is no
    HTTP, and no TLS either.
    """

    kind: Kind
    method: str
    """``change`` stands for every method but GET."""
    path: str
    times: int = 1
    seconds: float = 1.0
    after: int = 0
    """How many of them pass before it happens."""


class Proxy:
    """Passes on what it is asked, to one server.

    :param certificate: with which it serves by https, and says so to that server
    :ivar calls: method and path pattern (``POST /v3/{project}/volumes``) -> how often it was asked
    :ivar connection: what every attachment's way to its volume has besides, as that of another back end would; None
        takes away what it has
    """

    def __init__(self, target: str, certificate: ssl.SSLContext | None = None) -> None:
        self._client = httpx.Client(base_url=target, timeout=_UNTIL_CINDER_ANSWERS, trust_env=False)
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self.calls: Counter[str] = Counter()
        self.connection: dict[str, Any] = {}
        self._secured = certificate is not None
        self._server = Server(self._answer, "proxy", certificate)
        self.url = self._server.url

    def close(self) -> None:
        """Serve no more."""
        self._server.close()
        self._client.close()

    def inject(
        self, kind: Kind, method: str, path: str, *, times: int = 1, seconds: float = 1.0, after: int = 0
    ) -> None:
        """Let this happen to the next requests that are meant, or to those after so many more."""
        with self._lock:
            self._faults.append(Fault(kind, method, path, times, seconds, after))

    def clear(self) -> None:
        """Forget faults that did not happen, and what was counted."""
        with self._lock:
            self._faults.clear()
            self.calls.clear()
            self.connection = {}

    def _answer(self, request: Request) -> Answer:
        pattern = _pattern(request.path)
        with self._lock:
            self.calls[f"{request.method} {pattern}"] += 1
            fault = self._due(request.method, pattern)
        if fault is None:
            return self._pass_on(request)
        match fault.kind:
            case "lost-request":
                return Answer(0, cut_at=-1)
            case "throttle":
                return _refusal(429, "Too Many Requests", {"Retry-After": "1"})
            case "overlimit":
                return _refusal(413, "This request was rate-limited.", {"Retry-After": "1"}, name="overLimit")
            case "unavailable":
                return _refusal(503, "The service is busy.")
            case "conflict":
                return _refusal(409, "It is in a task state that does not allow this.", name="conflictingRequest")
            case "failure":
                return _refusal(500, "Unexpected API Error.", name="computeFault")
            case "missing":
                return _refusal(404, "It could not be found.", name="itemNotFound")
            case "slow":
                time.sleep(fault.seconds)
                return self._pass_on(request)
        answer = self._pass_on(request)
        if fault.kind == "lost":
            return Answer(0, cut_at=-1)
        if fault.kind == "garbled":
            return Answer(0, garbled=b"\0" * 64)
        if fault.kind == "cut":
            return Answer(answer.status, answer.body, answer.headers, cut_at=len(answer.body) // 2)
        page = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
        return Answer(502 if fault.kind == "html" else 200, page, {"Content-Type": "text/html"})

    def _due(self, method: str, pattern: str) -> Fault | None:
        for fault in self._faults:
            if (
                fault.times > 0
                and fault.method in (method, method != "GET" and "change")
                and pattern.endswith(fault.path)
            ):
                if fault.after == 0:
                    fault.times -= 1
                    return fault
                fault.after -= 1
        return None

    def _pass_on(self, request: Request) -> Answer:
        # Cinder builds its links with the host that it was asked for, so the client's own stays.
        headers = {name: value for name, value in request.headers.items() if name not in _HOP | {"accept-encoding"}}
        if self._secured:
            headers["x-forwarded-proto"] = "https"
        got = self._client.request(request.method, request.target, headers=headers, content=request.body)
        return Answer(
            got.status_code,
            self._with_connection(got),
            {name: value for name, value in got.headers.items() if name not in _HOP},
        )

    def _with_connection(self, got: httpx.Response) -> bytes:
        if not self.connection or "/attachments" not in got.request.url.path or got.status_code != 200:
            return got.content
        body = got.json()
        for attachment in body.get("attachments", [body.get("attachment")]):
            if attachment and attachment.get("connection_info"):
                changed = {**attachment["connection_info"], **self.connection}
                attachment["connection_info"] = {name: value for name, value in changed.items() if value is not None}
        return json.dumps(body).encode()


def _pattern(path: str) -> str:
    parts = path.split("/")
    if len(parts) > 2 and _IDENTIFIER.fullmatch(parts[2]):
        parts[2] = "{project}"
    return "/".join("{id}" if _IDENTIFIER.fullmatch(part) else part for part in parts)


def _refusal(status: int, message: str, headers: dict[str, str] | None = None, name: str = "error") -> Answer:
    text = f'{{"{name}": {{"code": {status}, "message": "{message}"}}}}'
    request_id = {"x-openstack-request-id": f"req-of-the-proxy-{status}"}
    return Answer(status, text.encode(), {"Content-Type": "application/json", **request_id, **(headers or {})})
