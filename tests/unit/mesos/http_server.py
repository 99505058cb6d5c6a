"""A server that says what a Mesos master or agent would say, for the tests of the clients."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from polly_mesos.mesos.recordio import encode_record

Answer = tuple[int, object] | tuple[int, object, dict[str, str]]


class Server(ThreadingHTTPServer):
    """Answers calls by their type and remembers them.

    ``answers[type]`` is (status, body) or (status, body, headers); a list of records as body is streamed, and the
    stream then stays open until :attr:`release` is set.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.answers: dict[str, Answer | Callable[[], Answer]] = {}
        self.calls: list[tuple[str, dict, dict[str, str]]] = []
        self.release = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.calls.append((self.path, call, dict(self.headers)))
        answer = self.server.answers[call["type"]]
        status, body, headers = (*(answer() if callable(answer) else answer), {})[:3]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if isinstance(body, list):
            self._stream(body)
            return
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, records: list[dict]) -> None:
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for record in records:
            data = encode_record(record)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.server.release.wait(30)
        self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        """Tests need no access log."""


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.release.set()
            server.shutdown()
            thread.join()
