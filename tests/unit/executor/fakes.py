"""Stand-ins for what is around the executor half: the scheduler half (over real HTTP), the host, agent and provider.

They are strict: what the real ones refuse, they refuse, and what was not prepared is an error.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from drivers.base import HostDriver
from polly_mesos.agent_api import (
    Application,
    Assignment,
    Hello,
    HostReport,
    HostService,
    Progress,
    ProviderReport,
    PublishAnswer,
    PublishRequest,
    PublishState,
    PublishTarget,
    Verdict,
    Welcome,
    decode,
    encode,
)
from polly_mesos.errors import (
    AgentUnreachable,
    HostError,
    InvalidRequest,
    MountFailed,
    NotFound,
    PollyError,
    StaleGeneration,
    Unauthenticated,
    UnsafeFormat,
)
from polly_mesos.mesos.resources import persistence_of, volume_path
from polly_mesos.model import Filesystem, FormatState, HostIdentity, Json

AGENT = "8d8a9ab3-S0"
TOKEN = "a-token-that-must-not-be-seen"
VOLUME = "6f1d2c1e-7b3a-4a5c-9a55-0d7f6c1b2a90"
OTHER = "0b0c5a52-13b5-4c0e-8a8e-5f6f0f7a1d11"


def eventually(condition: Callable[[], Any], *, within: float = 5.0, what: str = "the condition") -> Any:
    """Wait until the condition holds and return its value."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within} seconds")
        time.sleep(0.005)
    return value


def path_volume(root: str, persistence: str = "data", size: int = 64) -> Json:
    """A persistent volume of role ``team`` on the pool ``gold``, as PUBLISH_RESOURCES shows it."""
    return {
        "provider_id": {"value": "provider-1"},
        "name": "disk",
        "type": "SCALAR",
        "scalar": {"value": size},
        "reservations": [{"type": "DYNAMIC", "role": "team", "principal": "p"}],
        "allocation_info": {"role": "team"},
        "disk": {
            "persistence": {"id": persistence},
            "volume": {"mode": "RW", "container_path": "data"},
            "source": {"type": "PATH", "path": {"root": f"{root}/gold"}, "profile": "gold", "vendor": "polly.gold"},
        },
    }


def mount_volume(root: str, volume: str, size: int = 64) -> Json:
    """A persistent volume on a MOUNT disk."""
    resource = path_volume(root, "whole", size)
    resource["disk"]["source"] = {
        "type": "MOUNT",
        "mount": {"root": f"{root}/gold"},
        "id": volume,
        "profile": "gold",
        "vendor": "polly.gold",
    }
    return resource


def scratch(root: str) -> Json:
    """A part of the pool that is no volume."""
    resource = path_volume(root)
    del resource["disk"]["persistence"], resource["disk"]["volume"], resource["reservations"]
    return resource


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that a test cuts end in errors here, which are meant."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class FakeScheduler:
    """A scheduler half on a loopback port; :meth:`show` says how the volume that belongs to a path stands."""

    def __init__(self, welcome: Welcome) -> None:
        self.welcome = welcome
        self.token = TOKEN
        self.volumes: dict[str, PublishTarget] = {}
        self.assignment = Assignment(1, (), (), {})
        self.requests: list[tuple[str, str]] = []
        self.steps: list[tuple[str, str, Progress]] = []
        self.hellos: list[Hello] = []
        self.reports: list[HostReport] = []
        self.providers: list[ProviderReport] = []
        self.acknowledged: list[str] = []
        self.verdicts: dict[str, Verdict] = {}
        self.failures: list[tuple[int, Json | None]] = []
        self.stale: set[str] = set()
        self.forgotten = False
        self._changed = threading.Condition()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self._connections: set[Any] = set()
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def up(self) -> None:
        """Begin to listen; after :meth:`down` on the same port."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                fake._connections.add(self.connection)

            def do_GET(self) -> None:
                fake._serve(self)

            def do_POST(self) -> None:
                fake._serve(self)

            def log_message(self, *args: Any) -> None:
                """Tests read ``requests`` instead."""

        self._server = _Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def down(self) -> None:
        """Stop listening and cut every connection."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        with self._changed:
            self._changed.notify_all()
        for connection in list(self._connections):
            try:
                connection.shutdown(2)
            except OSError:
                pass
        self._connections.clear()

    def assign(self, assignment: Assignment) -> None:
        """Show another assignment to those who wait for one."""
        with self._changed:
            self.assignment = replace(assignment, version=self.assignment.version + 1)
            self._changed.notify_all()

    def steps_of(self, volume: str) -> list[str]:
        return [step for name, step, _ in self.steps if name == volume]

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", "0")))
        parts = urlsplit(handler.path)
        self.requests.append((handler.command, parts.path))
        try:
            if handler.headers.get("Authorization") != f"Bearer {self.token}":
                raise Unauthenticated("the executor's token is missing or unknown")
            if self.failures:
                status, answer = self.failures.pop(0)
            else:
                answer = self._answer(handler.command, parts.path, parse_qs(parts.query), json.loads(body or b"null"))
                status = 204 if answer is None else 200
        except PollyError as error:
            status, answer = error.http_status, error.as_json()
        data = b"" if answer is None else json.dumps(answer).encode()
        try:
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)
        except OSError:
            handler.close_connection = True

    def _answer(self, method: str, path: str, query: Mapping[str, list[str]], data: Any) -> Json | None:
        match [method, *path.removeprefix("/agent/v1/").split("/")]:
            case ["POST", "hello"]:
                self.hellos.append(decode(Hello, data))
                self.forgotten = False
                return encode(self.welcome)
            case ["POST", "host"]:
                self.reports.append(decode(HostReport, data))
            case ["POST", "provider"]:
                self.providers.append(decode(ProviderReport, data))
            case ["GET", "assignment"]:
                return self._assignment(int(query["after"][0]), float(query["wait"][0]))
            case ["POST", "operations"]:
                application = decode(Application, data)
                if application.id not in self.verdicts:
                    raise InvalidRequest(f"operation {application.id} was not prepared")
                return encode(self.verdicts[application.id])
            case ["POST", "operations", operation, "acknowledged"]:
                self.acknowledged.append(operation)
            case ["POST", "publications"]:
                request = decode(PublishRequest, data)
                return encode(PublishAnswer(tuple(self._target(one, request.wait) for one in request.resources)))
            case ["POST", "publications", volume, step]:
                self._step(volume, step, decode(Progress, data))
            case _:
                raise NotFound(f"no route {method} {path}")
        return None

    def _assignment(self, after: int, wait: float) -> Json:
        with self._changed:
            self._changed.wait_for(lambda: self._server is None or self.assignment.version != after, wait)
            if self.forgotten:
                raise NotFound("no such agent")
            return encode(self.assignment)

    def _target(self, resource: Json, wait: float) -> PublishTarget:
        if not persistence_of(resource):
            raise InvalidRequest("not a volume")
        place = volume_path(resource)
        with self._changed:
            self._changed.wait_for(lambda: self.volumes[place].state is not PublishState.WAIT, wait)
            return self.volumes[place]

    def show(self, place: str, target: PublishTarget) -> None:
        """Let a volume stand as ``target`` says from now on."""
        with self._changed:
            self.volumes[place] = target
            self._changed.notify_all()

    def _step(self, volume: str, step: str, progress: Progress) -> None:
        if step not in ("formatting", "formatted", "published", "unpublished"):
            raise InvalidRequest(f"unknown step {step}")
        if volume in self.stale:
            self.stale.discard(volume)
            raise StaleGeneration(f"volume {volume} is on another host now")
        self.steps.append((volume, step, progress))
        if step in ("formatting", "formatted"):
            for place, target in self.volumes.items():
                if target.volume == volume:
                    self.volumes[place] = replace(target, format_state=FormatState(step))


class FakeHostDriver(HostDriver):
    """Attachments name their device."""

    def __init__(self, settings: Mapping[str, Any], node: str) -> None:
        self.settings = settings
        self.node = node
        self.located: list[Json] = []
        self.attached: dict[str, Json] = {}
        self.stuck: list[Json] = []
        self.released: list[Json] = []

    def identify(self) -> HostIdentity:
        return HostIdentity(self.node)

    def locate(self, attachment: Json, timeout: float) -> str:
        assert timeout > 0
        self.located.append(attachment)
        self.attached[str(attachment["device"])] = attachment
        return str(attachment["device"])

    def release(self, attachment: Json) -> None:
        if attachment in self.stuck:
            raise HostError(f"{attachment['device']} is in use")
        self.released.append(attachment)
        self.attached.pop(str(attachment["device"]), None)

    def held(self) -> Mapping[str, Json]:
        return dict(self.attached)


class FakeHost:
    """A host's mount table and devices."""

    def __init__(self) -> None:
        self.mounts: dict[str, tuple[str, str]] = {}
        self.formatted: dict[str, str] = {}
        self.busy: set[str] = set()
        self.detached: list[str] = []
        self.missing = ""
        self.unshared = ""
        self.unpublished: list[str] = []
        self.published: list[str] = []

    def publish(
        self,
        target: str,
        volume: str,
        located: str,
        filesystem: Filesystem,
        options: Sequence[str],
        *,
        format_state: FormatState,
        begin: Callable[[], None],
        done: Callable[[], None],
    ) -> None:
        if target in self.mounts:
            if self.mounts[target][0] != volume:
                raise MountFailed(f"{target} is taken")
            return
        self._prepare(located, volume, format_state, begin, done)
        self.mounts[target] = (volume, located)
        self.published.append(target)

    def _prepare(
        self,
        device: str,
        volume: str,
        format_state: FormatState,
        begin: Callable[[], None],
        done: Callable[[], None],
    ) -> None:
        if format_state is FormatState.FORMATTED:
            if self.formatted.get(device) != volume:
                raise UnsafeFormat(f"{device} does not hold volume {volume}", found="nothing of it")
            return
        if device in self.formatted and self.formatted[device] != volume:
            raise UnsafeFormat(f"{device} is not blank", found=self.formatted[device])
        if format_state is FormatState.NEVER:
            if device in self.formatted:
                raise UnsafeFormat(f"{device} is not blank", found=self.formatted[device])
            begin()
        self.formatted[device] = volume
        done()

    def unpublish(self, target: str, *, lazily: bool = False) -> None:
        if target in self.busy:
            if not lazily:
                raise MountFailed(f"{target} is busy")
            self.detached.append(target)
        if self.mounts.pop(target, None):
            self.unpublished.append(target)

    def volume_at(self, target: str) -> str | None:
        return self.mounts[target][0] if target in self.mounts else None

    def mounted(self, volume_root: str) -> Mapping[str, str]:
        return {volume: target for target, (volume, _) in self.mounts.items() if target.startswith(volume_root)}

    def device_at(self, target: str) -> str:
        return self.mounts[target][1] if target in self.mounts else ""

    def is_device_mounted(self, device: str) -> bool:
        return any(source == device for _, source in self.mounts.values())

    def lacking(self, filesystems: Sequence[Filesystem], tools: Sequence[str]) -> str:
        return self.missing

    def mount_problem(self, volume_root: str) -> str:
        return self.unshared


class FakeAgent:
    """A Mesos agent: the paths that its tasks use."""

    def __init__(self) -> None:
        self.id = AGENT
        self.reachable = True
        self.in_use: set[str] = set()
        self.asked = 0
        self.killed: list[str] = []
        self.immortal = False
        self.drained = False

    def draining(self) -> bool:
        self._check()
        return self.drained

    def identity(self) -> tuple[str, str]:
        self._check()
        return self.id, "host-a"

    def places_in_use(self) -> set[str]:
        self._check()
        self.asked += 1
        return set(self.in_use)

    def end_users(self, place: str, reason: str) -> int:
        self._check()
        if place not in self.in_use:
            return 0
        self.killed.append(place)
        if not self.immortal:
            self.in_use.discard(place)
        return 1

    def _check(self) -> None:
        if not self.reachable:
            raise AgentUnreachable("agent 127.0.0.1:5051 does not answer")


class FakeProvider:
    """A resource provider that is subscribed as soon as it is started."""

    def __init__(self, handler: Any, welcome: Welcome, agent: FakeAgent) -> None:
        self.handler = handler
        self.welcome = welcome
        self.agent = agent
        self.failed = False
        self.desired: Sequence[Json] | None = None
        self.unacknowledged: Sequence[Verdict] = ()
        self.running = False
        self.stopped = False

    def start(self) -> None:
        assert self.desired is not None, "a provider's first words are its totals"
        self.running = True
        # As the real one: what was desired before the agent gave a new id is forgotten.
        self.desired = None
        self.handler.subscribed(self.agent.id, "provider-1")
        assert self.desired is not None

    def stop(self) -> None:
        self.running, self.stopped = False, True

    def set_desired(self, resources: Sequence[Json], *, version: int) -> None:
        self.desired = resources

    def set_unacknowledged(self, verdicts: Sequence[Verdict]) -> None:
        self.unacknowledged = verdicts


def welcome_to(root: str, **changes: Any) -> Welcome:
    """A welcome with one service on the fake driver."""
    service = HostService("block", f"{__name__}:FakeHostDriver", {}, (Filesystem.EXT4,))
    return replace(Welcome("org.polly.mesos", "test", "", (service,), root, unpublish_grace=0.2), **changes)
