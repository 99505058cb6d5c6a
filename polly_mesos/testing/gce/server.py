"""The counterpart itself: Compute Engine, its token service and its metadata server, on one port of 127.0.0.1."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, parse_qsl, urlsplit

from polly_mesos.model import Json
from polly_mesos.testing.gce.access import Access
from polly_mesos.testing.gce.catalogue import DISK_TYPES, REGIONS, ZONES
from polly_mesos.testing.gce.disks import Disks
from polly_mesos.testing.gce.errors import ApiError, not_found
from polly_mesos.testing.gce.faults import Faults, Kind
from polly_mesos.testing.gce.guests import Guests
from polly_mesos.testing.gce.instances import Instances
from polly_mesos.testing.gce.operations import Operations
from polly_mesos.testing.gce.schema import Call, SchemaViolation, discovery
from polly_mesos.testing.gce.state import World

_HTML = (
    b"<!DOCTYPE html><html><title>Error 502 (Server Error)</title><p>The server encountered a temporary error.</html>"
)


class FakeCompute:
    """A project of Compute Engine. A context manager.

    :param directory: where the data of disks, and the trees of the guests, are
    :param plug: whether guests get real block devices, which needs root
    :ivar violations: answers of its own that Google's document does not allow; a test asserts that there are none
    """

    def __init__(self, directory: Path, project: str = "acme-storage", *, plug: bool = False) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.compute = self
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.project = project
        self.world = World(project, "https://www.googleapis.com", directory)
        self.access = Access(project, self.endpoint)
        self.faults = Faults()
        self.operations = Operations(self.world, self.access.email)
        self.guests = Guests(self.world, self.access.tokens, directory / "hosts", plug=plug)
        self.instances = Instances(self.world, self.operations, self.guests, self.access.email)
        self.guests.instances = self.instances
        self.disks = Disks(self.world, self.operations, self.instances.resized)
        self.violations: list[str] = []
        self._compute = discovery("compute.v1")
        self._manager = discovery("cloudresourcemanager.v1")
        self._methods = self._all_methods()
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def key_file(self, path: Path) -> Path:
        """A key file with which the driver comes in."""
        return self.access.tokens.write_key(path)

    def close(self) -> None:
        """End, with every device unplugged."""
        self.faults.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.operations.close()
        self.guests.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def answer(self, call: Call) -> Json:
        """Carry out a call.

        :raises ApiError: it is refused
        """
        self.access.check(call)
        if call.path.get("project", self.project) != self.project:
            raise not_found(f"projects/{call.path['project']}")
        name = call.method.id.removeprefix("compute.")
        if name not in self._methods:
            raise ApiError(501, "notImplemented", f"The counterpart has no {name}")
        with self.world.lock:
            replayed = self.operations.replay(call) if call.query.get("requestId") else None
            answer = dict(self._methods[name](call) if replayed is None else replayed)
            try:
                (self._compute if "compute." in call.method.id else self._manager).check_answer(call.method, answer)
            except SchemaViolation as violation:
                self.violations.append(str(violation))
                raise
            return answer

    def accept(self, verb: str, path: str, query: dict[str, list[str]], body: bytes) -> Call:
        """The call that a request means."""
        document = self._compute if path.startswith(self._compute.service_path) else self._manager
        return document.accept(verb, path, query, body)

    def _all_methods(self) -> dict[str, Callable[[Call], Json]]:
        disks, instances, operations = self.disks, self.instances, self.operations
        methods: dict[str, Callable[[Call], Json]] = {
            "disks.aggregatedList": disks.aggregated,
            "snapshots.get": disks.get_snapshot,
            "snapshots.list": disks.list_snapshots,
            "snapshots.delete": disks.delete_snapshot,
            "instances.get": instances.get,
            "instances.attachDisk": instances.attach,
            "instances.detachDisk": instances.detach,
            "zones.get": lambda call: self._zone(call.path["zone"]),
            "regions.get": lambda call: self._region(call.path["region"]),
            "diskTypes.get": lambda call: self._type(f"zones/{call.path['zone']}", call.path["diskType"]),
            "regionDiskTypes.get": lambda call: self._type(f"regions/{call.path['region']}", call.path["diskType"]),
            "cloudresourcemanager.projects.testIamPermissions": self._permissions,
            "zoneOperations.list": lambda call: operations.list(f"zones/{call.path['zone']}", call.query),
        }
        for kind in ("disks", "regionDisks"):
            methods |= {f"{kind}.insert": disks.insert, f"{kind}.get": disks.get, f"{kind}.delete": disks.delete}
            methods |= {
                f"{kind}.list": disks.list_place,
                f"{kind}.resize": disks.resize,
                f"{kind}.setLabels": disks.set_labels,
            }
            methods[f"{kind}.createSnapshot"] = disks.create_snapshot
            methods[f"{kind}.testIamPermissions"] = self._permissions
        for kind, place in (("zone", "zones/{zone}"), ("region", "regions/{region}"), ("global", "global")):
            methods[f"{kind}Operations.get"] = lambda call, place=place: self.world.find(_operation(call, place))  # type: ignore[misc]
            methods[f"{kind}Operations.wait"] = lambda call, place=place: operations.wait(_operation(call, place))  # type: ignore[misc]
        return methods

    def _zone(self, name: str) -> Json:
        if name not in ZONES:
            raise not_found(f"projects/{self.project}/zones/{name}")
        return {
            "kind": "compute#zone",
            "name": name,
            "status": "UP",
            "region": self.world.link(f"regions/{ZONES[name]}"),
        }

    def _region(self, name: str) -> Json:
        if name not in REGIONS:
            raise not_found(f"projects/{self.project}/regions/{name}")
        quotas = [
            {"metric": metric, "limit": limit, "usage": self.disks.used(metric, name)}
            for metric, limit in self.world.quotas.region.items()
        ]
        zones = [self.world.link(f"zones/{zone}") for zone in REGIONS[name]]
        return {"kind": "compute#region", "name": name, "status": "UP", "zones": zones, "quotas": quotas}

    def _type(self, place: str, name: str) -> Json:
        self.world.check_place(place)
        kind, regional = DISK_TYPES.get(name), place.startswith("regions/")
        if kind is None or (kind.smallest_regional is None if regional else kind.only_regional):
            raise not_found(f"projects/{self.project}/{place}/diskTypes/{name}")
        smallest = kind.smallest_regional if regional else kind.smallest
        return {"kind": "compute#diskType", "name": name, "validDiskSize": f"{smallest}GB-{kind.largest}GB"}

    def _permissions(self, call: Call) -> Json:
        return self.access.granted(call.body.get("permissions", []))


def _operation(call: Call, place: str) -> str:
    return f"{place.format(**call.path)}/operations/{call.path['operation']}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    compute: FakeCompute

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no error of ours; everything else is recorded by the handler."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def log_message(self, *arguments: object) -> None:
        """Nothing on the terminal."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if match := re.fullmatch(r"(?:/node/(?P<node>[^/]+))?(?P<path>/computeMetadata/.*|/?)", parts.path):
            flavour = self.headers.get("Metadata-Flavor", "")
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            metadata = self.server.compute.guests.metadata
            status, content, text = metadata.answer(match["node"] or "", match["path"], query, flavour)
            self._send(status, text.encode(), content, {"Metadata-Flavor": "Google"})
        else:
            self._api("GET")

    def do_POST(self) -> None:
        if self.path in ("/token", "/sts"):
            content = self.headers.get("Content-Type", "")
            if self.server.compute.faults.meet(self.path) is not None:
                self.server.compute.faults.hold()
            status, answer = self.server.compute.access.tokens.grant(self.path, content, self._body())
            self._send(status, json.dumps(answer).encode())
        else:
            self._api("POST")

    def do_DELETE(self) -> None:
        self._api("DELETE")

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _api(self, verb: str) -> None:
        compute, body, parts = self.server.compute, self._body(), urlsplit(self.path)
        try:
            scopes = compute.access.tokens.check(self.headers.get("Authorization", ""))
            call = compute.accept(verb, parts.path, parse_qs(parts.query, keep_blank_values=True), body)
            compute.access.check_scopes(call, scopes)
            changing = verb != "GET" and not call.method.id.endswith((".wait", ".testIamPermissions"))
            fault = compute.faults.meet(call.method.id.removeprefix("compute."), changing=changing)
            kind = fault.kind if fault else None
            if kind is Kind.THROTTLED:
                raise ApiError(
                    429, "rateLimitExceeded", "Quota exceeded for quota metric 'Queries' of service 'compute'."
                )
            if kind is Kind.NEVER:
                self.close_connection = True
                return
            if kind is Kind.HTML:
                self._send(502, _HTML, "text/html; charset=UTF-8")
                return
            answer = json.dumps(compute.answer(call)).encode()
            if fault is not None and kind is Kind.SLOW:
                time.sleep(fault.seconds)
            if kind is Kind.HELD:
                compute.faults.hold()
        except ApiError as error:
            self._send(error.status, json.dumps(error.as_json()).encode())
            return
        except SchemaViolation as violation:
            self._send(500, json.dumps(ApiError(500, "internalError", str(violation)).as_json()).encode())
            return
        except Exception as error:
            compute.violations.append(repr(error))
            raise
        if kind is Kind.LOST:
            self.close_connection = True
        elif kind is Kind.HTML_AFTER:
            self._send(502, _HTML, "text/html; charset=UTF-8")
        elif kind is Kind.CUT_OFF:
            self._send(200, answer, cut=len(answer) // 2)
        else:
            self._send(200, answer)

    def _send(
        self,
        status: int,
        body: bytes,
        content: str = "application/json; charset=UTF-8",
        headers: dict[str, str] | None = None,
        cut: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": content, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:cut])
        self.close_connection = self.close_connection or cut is not None
