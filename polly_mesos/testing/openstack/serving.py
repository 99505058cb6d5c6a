"""The small HTTP servers of the tests: one function from request to answer, on a free port of 127.0.0.1."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked.

    :param target: path and query as they came
    :param headers: names in lower case
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        """The path without the query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The last value of each part of the query."""
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.target).query).items()}

    def json(self) -> Any:
        """The body as JSON; an empty object where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return {}


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered; ``cut_at`` ends the connection after so many bytes of the body, below zero before any.

    :param garbled: bytes of anybody's that come in place of an answer, below TLS where there is TLS
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_at: int | None = None
    garbled: bytes = b""


def as_json(status: int, value: object, **headers: str) -> Answer:
    """An answer in JSON."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **named})


class Server:
    """Serves until it is closed.

    :param certificate: with which it serves by https
    :ivar url: without a slash at its end
    """

    def __init__(
        self, answer: Callable[[Request], Answer], name: str, certificate: ssl.SSLContext | None = None
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                headers = {key.lower(): value for key, value in self.headers.items()}
                given = answer(Request(self.command, self.path, headers, self.rfile.read(length)))
                if given.garbled or (given.cut_at is not None and given.cut_at < 0):
                    self.close_connection = True
                    with socket.socket(fileno=os.dup(self.connection.fileno())) as bare:
                        bare.sendall(given.garbled)
                    return
                self.send_response(given.status)
                for key, value in given.headers.items():
                    self.send_header(key, value)
                if given.status != 204:
                    self.send_header("Content-Length", str(len(given.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(given.body[: given.cut_at])
                self.close_connection = self.close_connection or given.cut_at is not None

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = _serve  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Nobody reads it."""

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: object, client_address: object) -> None:
                """Clients that went away are part of the tests."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        if certificate is not None:
            # Hands are shaken when a request is read, by that connection's own thread.
            self._server.socket = certificate.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more requests."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
