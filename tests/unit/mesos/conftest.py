"""A strict Mesos master or agent on loopback, as far as a driver sees one, and recorders for what drivers tell."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from polly_mesos.mesos.driver_process import Backoff
from polly_mesos.mesos.scheduler_driver import SchedulerDriver

# After ours, which keeps pymesos' import from replacing the handler of SIGINT.
from pymesos import MesosSchedulerDriver  # isort: skip

DEADLINE = 15.0


class Watched:
    """Something that tests wait for: conditions are looked at again whenever it changes."""

    def __init__(self) -> None:
        self.changed = threading.Condition()

    def wait_for(self, condition: Callable[[], Any], what: str = "") -> Any:
        with self.changed:
            # The time-out of one look covers conditions that also depend on something unwatched.
            for _ in range(int(DEADLINE / 0.02)):
                if value := condition():
                    return value
                self.changed.wait(0.02)
        raise AssertionError(f"did not happen within {DEADLINE} s: {what or condition}")


@dataclass(frozen=True)
class Call:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def type(self) -> str:
        return str(self.body["type"])


@dataclass(frozen=True)
class Answer:
    """A scripted answer; ``hang`` gives none until the peer is closed."""

    status: int = 202
    text: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False


class Stream:
    """An open event stream, to be written to by the test."""

    def __init__(self) -> None:
        self.pieces: queue.Queue[bytes | None] = queue.Queue()

    def raw(self, data: bytes) -> None:
        self.pieces.put(data)

    def event(self, event_type: str, payload: dict[str, Any] | None = None) -> None:
        event = {"type": event_type} if payload is None else {"type": event_type, event_type.lower(): payload}
        record = json.dumps(event).encode()
        self.raw(b"%d\n%b" % (len(record), record))

    def close(self) -> None:
        self.pieces.put(None)


class Peer(Watched):
    """Answers SUBSCRIBE with a stream that begins with SUBSCRIBED, and every well-formed call with 202.

    :param subscribed: payload of SUBSCRIBED; None: the test sends it
    :param stream_id: demanded back in every call, as masters do; empty: none, as agents do
    """

    def __init__(self, subscribed: dict[str, Any] | None, *, path: str, stream_id: str = "", port: int = 0) -> None:
        super().__init__()
        self.subscribed = subscribed
        self.path = path
        self.stream_id = stream_id
        self.authorization: str | None = None
        self.version = "1.11.0"
        self.closes_at_once = False
        self.calls: list[Call] = []
        self.streams: list[Stream] = []
        self.closing = threading.Event()
        self._answers: dict[str, list[Answer]] = {}
        self._server = Server(("127.0.0.1", port), type("Handler", (PeerHandler,), {"peer": self}))
        self.port: int = self._server.server_address[1]
        self.address = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def script(self, call_type: str, *answers: Answer) -> None:
        """Answer the next calls of this type so; afterwards as usual."""
        self._answers.setdefault(call_type, []).extend(answers)

    def answer(self, call_type: str) -> Answer | None:
        answers = self._answers.get(call_type)
        return answers.pop(0) if answers else None

    def of(self, call_type: str) -> list[Call]:
        return [call for call in self.calls if call.type == call_type]

    def call(self, call_type: str, number: int = 1) -> Call:
        """The n-th call of this type, once it has come."""
        self.wait_for(lambda: len(self.of(call_type)) >= number, f"{call_type} number {number}")
        return self.of(call_type)[number - 1]

    def stream(self, number: int = 1) -> Stream:
        """The n-th stream, once it is open."""
        self.wait_for(lambda: len(self.streams) >= number, f"stream number {number}")
        return self.streams[number - 1]

    def close(self) -> None:
        self.closing.set()
        for stream in self.streams:
            stream.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Server(ThreadingHTTPServer):
    daemon_threads = False
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Drivers under test hang up as they please."""


class PeerHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    peer: Peer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class' name
        pass

    def do_GET(self) -> None:
        self._reply(Answer(200, json.dumps({"version": self.peer.version})))

    def do_POST(self) -> None:
        peer = self.peer
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        call = Call(self.path, dict(self.headers), body)
        with peer.changed:
            peer.calls.append(call)
            peer.changed.notify_all()
        answer = peer.answer(call.type) or self._mistake(call)
        if answer is not None:
            self._reply(answer)
        elif call.type == "SUBSCRIBE":
            self._stream()
        else:
            self._reply(Answer(202))

    def _mistake(self, call: Call) -> Answer | None:
        """What a real master or agent would not accept."""
        peer = self.peer
        if call.path != peer.path:
            return Answer(404, f"no such path: {call.path}")
        if peer.authorization is not None and call.headers.get("Authorization") != peer.authorization:
            return Answer(401, "who are you?")
        if call.headers.get("Content-Type") != "application/json":
            return Answer(415, "Expecting 'Content-Type' to be application/json")
        sent_id = call.headers.get("Mesos-Stream-Id", "")
        if sent_id != ("" if call.type == "SUBSCRIBE" else peer.stream_id):
            return Answer(400, f"wrong stream id {sent_id!r}")
        acknowledgement = call.body.get("acknowledge_operation_status")
        if acknowledgement is not None and not isinstance(acknowledgement.get("uuid"), str):
            return Answer(400, "Failed to convert JSON: Not expecting a JSON object for field 'uuid'")
        return None

    def _reply(self, answer: Answer) -> None:
        self.close_connection = True
        if answer.hang:
            self.peer.closing.wait()
            return
        body = answer.text.encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        peer, stream = self.peer, Stream()
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        if peer.stream_id:
            self.send_header("Mesos-Stream-Id", peer.stream_id)
        self.end_headers()
        if peer.subscribed is not None:
            stream.event("SUBSCRIBED", peer.subscribed)
        if peer.closes_at_once or peer.closing.is_set():
            stream.close()
        with peer.changed:
            peer.streams.append(stream)
            peer.changed.notify_all()
        with contextlib.suppress(ConnectionError):
            while (piece := stream.pieces.get()) is not None:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")


class Recorder(Watched):
    """Callbacks of any name: remembers the calls, and raises in those that are named in ``raising``."""

    def __init__(self, **actions: Callable[..., None]) -> None:
        super().__init__()
        self.told: list[tuple[str, tuple[Any, ...]]] = []
        self.raising: list[str] = []
        self.actions = actions

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)

        def callback(*arguments: Any) -> None:
            with self.changed:
                self.told.append((name, arguments))
                self.changed.notify_all()
            if name in self.raising:
                self.raising.remove(name)
                raise RuntimeError(f"defect in {name}")
            if name in self.actions:
                self.actions[name](*arguments)

        return callback

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [arguments for told, arguments in self.told if told == name]

    def heard(self, name: str, number: int = 1) -> tuple[Any, ...]:
        """The arguments of the n-th call of this name, once it has come."""
        self.wait_for(lambda: len(self.of(name)) >= number, f"callback {name} number {number}")
        return self.of(name)[number - 1]


@pytest.fixture
def peers() -> Iterator[Callable[..., Peer]]:
    """Makes peers, and closes them at the end."""
    made: list[Peer] = []

    def make(*arguments: Any, **options: Any) -> Peer:
        made.append(Peer(*arguments, **options))
        return made[-1]

    yield make
    for peer in made:
        peer.close()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def answer() -> type[Answer]:
    return Answer


@pytest.fixture
def run() -> Iterator[Callable[[Any], Any]]:
    """Starts our drivers, and ends them before the peers go."""
    started: list[Any] = []

    def start(driver: Any) -> Any:
        started.append(driver)
        driver.start()
        return driver

    yield start
    for driver in started:
        driver.stop()
        driver.join()


@pytest.fixture
def run_plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], Any]]:
    """Starts pymesos' own drivers, keeps their deaths from interrupting the test run, and ends them."""
    import pymesos.process

    monkeypatch.setattr(pymesos.process.thread, "interrupt_main", lambda: None)
    monkeypatch.setattr(pymesos.process, "_exc_info", None)
    started: list[Any] = []

    def start(driver: Any) -> Any:
        started.append(driver)
        driver.start()
        return driver

    yield start
    for driver in started:
        driver._failover = True
        driver._started = False
        driver._notify()
        driver.join()
        if driver._conn is not None:
            driver._conn.close()


FRAMEWORK = {"user": "root", "name": "polly", "roles": ["polly"], "capabilities": [{"type": "MULTI_ROLE"}]}
SUBSCRIBED = {
    "framework_id": {"value": "F-1"},
    "heartbeat_interval_seconds": 15.0,
    "master_info": {"id": "m-1", "port": 5050, "version": "1.11.0-dev"},
}


@pytest.fixture
def masters(peers: Callable[..., Peer]) -> Callable[..., Peer]:
    """Makes masters; ``subscribed`` changes fields of their SUBSCRIBED event."""

    def make(port: int = 0, **subscribed: Any) -> Peer:
        return peers({**SUBSCRIBED, **subscribed}, path="/api/v1/scheduler", stream_id="stream-1", port=port)

    return make


@pytest.fixture
def master(masters: Callable[..., Peer]) -> Peer:
    return masters()


@pytest.fixture
def hardened() -> Callable[..., SchedulerDriver]:
    """Makes our scheduler drivers, quick to try again; ``framework`` adds fields to the FrameworkInfo."""

    def make(scheduler: Any, master: str, framework: dict[str, Any] | None = None, **options: Any) -> SchedulerDriver:
        quick = Backoff(initial=0.02, maximum=0.05)
        return SchedulerDriver(scheduler, {**FRAMEWORK, **(framework or {})}, master, **{"backoff": quick, **options})

    return make


@pytest.fixture
def plain() -> Callable[..., Any]:
    """Makes pymesos' own scheduler drivers."""

    def make(scheduler: Any, master: str, **options: Any) -> Any:
        return MesosSchedulerDriver(scheduler, dict(FRAMEWORK), master, **options)

    return make
