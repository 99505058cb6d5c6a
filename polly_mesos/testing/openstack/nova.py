"""A strict stand-in for Nova's API: instances, and their volumes by way of Cinder's attachments as Nova does it.

What it does with Cinder is what Nova's API and compute services do: an attachment is reserved in the name of whoever
asked, with a service token beside; the hypervisor gives its connector, plugs the disk, and completes. A detach goes the
other way, and where the guest does not let go, Nova takes it back. It knows no other calls than those that are here.
"""

from __future__ import annotations

import logging
import re
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from polly_mesos.testing.openstack.instances import Instances
from polly_mesos.testing.openstack.servers import (
    ACTIVE,
    ATTACHABLE,
    DELETED,
    DETACHABLE,
    PAUSED,
    SHUTOFF,
    Attachment,
    Server,
    believed_device,
    refusal,
)
from polly_mesos.testing.openstack.serving import Answer, Request, as_json
from polly_mesos.testing.openstack.serving import Server as HttpServer

log = logging.getLogger(__name__)

_VERSION = "3.50"
_MOST_VOLUMES = 26
_Caller = dict[str, Any]
_CONNECTOR = {"initiator": "iqn.1993-08.org.debian:01:hypervisor", "ip": "127.0.0.1", "multipath": False}


class Nova:
    """Knows the instances of one project.

    :ivar project: Keystone's id of the project that instances are booted in
    :ivar calls: what was asked, as method and path
    :ivar patience: seconds that the guest is given to let go of a disk
    """

    def __init__(self, identity_url: str, cinder_url: str, password: str, instances: Instances) -> None:
        self._identity = httpx.Client(base_url=identity_url + "/", timeout=60.0, trust_env=False)
        self._cinder = httpx.Client(base_url=cinder_url, timeout=60.0, trust_env=False)
        self._password, self._instances = password, instances
        self._lock = threading.RLock()
        self._servers: dict[str, Server] = {}
        self._tokens: dict[str, tuple[float, _Caller]] = {}
        self._workers = ThreadPoolExecutor(4, "nova-compute")
        self._own = ""
        self.project = ""
        self.patience = 0.3
        self.calls: list[str] = []
        self._server = HttpServer(self._answer, "nova")
        self.url = self._server.url

    def close(self) -> None:
        """Serve no more, and finish what was begun."""
        self._server.close()
        self._workers.shutdown()
        self._identity.close()
        self._cinder.close()

    def server_of(self, node: str) -> Server:
        """The instance of a node; it is booted where there is none."""
        with self._lock:
            for server in self._servers.values():
                if server.name == node and server.status != DELETED:
                    return server
            self._instances.boot(node)
            server = Server(node, self.project)
            self._servers[server.id] = server
            return server

    def start(self, server: Server) -> None:
        """The instance runs again, with the volumes that are attached to it."""
        with self._lock:
            if server.status == SHUTOFF:
                server.status = ACTIVE
                for attachment in server.attachments.values():
                    self._instances.plug(server.name, attachment.volume, attachment.connection)

    def resume(self, server: Server) -> None:
        """The hypervisor hangs no more, and carries out what it was told."""
        with self._lock:
            server.hangs = False
            orders, server.orders = server.orders, []
        for order in orders:
            self._workers.submit(order)

    def stop(self, server: Server) -> None:
        """The instance is shut off; its volumes stay attached."""
        with self._lock:
            server.status = SHUTOFF
            server.held.clear()
            for volume in server.attachments:
                self._instances.unplug(server.name, volume)

    def delete(self, server: Server) -> None:
        """The instance is deleted by its hypervisor, or (where that is down) in Nova's books only."""
        with self._lock:
            server.status, server.ended = DELETED, server.host_up
            attachments = list(server.attachments.values())
            server.attachments.clear()
            for attachment in attachments:
                self._instances.unplug(server.name, attachment.volume)
        for attachment in attachments:
            self._call("DELETE", f"/attachments/{attachment.id}", None)

    def _answer(self, request: Request) -> Answer:
        path = request.path.rstrip("/")
        if path in ("", "/v2.1"):
            return self._versions(path)
        caller = self._caller(request.headers.get("x-auth-token", ""))
        if caller is None:
            return refusal(401, "The request you have made requires authentication.")
        self.calls.append(f"{request.method} {path}")
        for method, pattern, handler in self._routes():
            if method == request.method and (found := re.fullmatch(pattern, path)):
                return handler(request, caller, *found.groups())
        return refusal(403, f"Policy doesn't allow {request.method} {path} to be performed.")

    def _routes(self) -> list[tuple[str, str, Callable[..., Answer]]]:
        server = "/v2.1/servers/([^/]+)"
        attachments = f"{server}/os-volume_attachments"
        return [
            ("GET", server, self._show),
            ("GET", attachments, self._list),
            ("GET", f"{attachments}/([^/]+)", self._show_attachment),
            ("POST", attachments, self._attach),
            ("DELETE", f"{attachments}/([^/]+)", self._detach),
            ("GET", f"{server}/os-instance-actions", self._actions),
            ("GET", f"{server}/os-instance-actions/([^/]+)", self._action),
            ("POST", "/v2.1/os-server-external-events", self._events),
        ]

    def _versions(self, path: str) -> Answer:
        version = {"id": "v2.1", "status": "CURRENT", "version": "2.96", "min_version": "2.1", "updated": ""}
        version["links"] = [{"rel": "self", "href": f"{self.url}/v2.1/"}]  # type: ignore[assignment]
        return as_json(200, {"version": version} if path else {"versions": [version]})

    def _caller(self, token: str) -> _Caller | None:
        known = self._tokens.get(token)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        headers = {"X-Auth-Token": self._service_token(), "X-Subject-Token": token}
        answer = self._identity.get("auth/tokens", headers=headers)
        if answer.status_code != 200:
            return None
        caller: _Caller = {**answer.json()["token"], "given": token}
        caller["roles"] = {role["name"] for role in caller["roles"]}
        self._tokens[token] = (time.monotonic() + 10.0, caller)
        return caller

    def _service_token(self) -> str:
        if not self._own:
            default = {"id": "default"}
            user = {"name": "nova", "domain": default, "password": self._password}
            asked = {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": {"name": "service", "domain": default}},
            }
            answer = self._identity.post("auth/tokens", json={"auth": asked})
            answer.raise_for_status()
            self._own = answer.headers["X-Subject-Token"]
        return self._own

    def _call(self, method: str, path: str, caller: _Caller | None, body: object = None) -> httpx.Response:
        """Ask Cinder in the name of the caller, and as the service that Nova is."""
        headers = {"OpenStack-API-Version": f"volume {_VERSION}", "X-Service-Token": self._service_token()}
        headers["X-Auth-Token"] = caller["given"] if caller is not None else self._service_token()
        return self._cinder.request(method, f"/v3/{self.project}{path}", headers=headers, json=body)

    def _find(self, caller: _Caller, server_id: str) -> Server | None:
        server = self._servers.get(server_id)
        if server is None or server.status == DELETED:
            return None
        return server if caller["project"]["id"] == server.project or "admin" in caller["roles"] else None

    def _show(self, _request: Request, caller: _Caller, server_id: str) -> Answer:
        server = self._find(caller, server_id)
        if server is None:
            return refusal(404, f"Instance {server_id} could not be found.")
        shown = server.show()
        if "admin" in caller["roles"]:
            shown["host_status"] = "UP" if server.host_up else "DOWN"
            shown["OS-EXT-SRV-ATTR:host"] = server.host
        return as_json(200, {"server": shown})

    def _list(self, _request: Request, caller: _Caller, server_id: str) -> Answer:
        server = self._find(caller, server_id)
        if server is None:
            return refusal(404, f"Instance {server_id} could not be found.")
        return as_json(200, {"volumeAttachments": [server.show_attachment(one) for one in server.attachments.values()]})

    def _show_attachment(self, _request: Request, caller: _Caller, server_id: str, volume: str) -> Answer:
        server = self._find(caller, server_id)
        attachment = None if server is None else server.attachments.get(volume)
        if server is None or attachment is None:
            return refusal(404, f"Instance {server_id} is not attached to volume {volume}.")
        return as_json(200, {"volumeAttachment": server.show_attachment(attachment)})

    def _attach(self, request: Request, caller: _Caller, server_id: str) -> Answer:
        asked = request.json().get("volumeAttachment") or {}
        volume = asked.get("volumeId")
        if not isinstance(volume, str) or set(asked) - {"volumeId", "device", "tag", "delete_on_termination"}:
            return refusal(400, f"Invalid input for field/attribute volumeAttachment. Value: {asked}.")
        with self._lock:
            server = self._find(caller, server_id)
            if server is None:
                return refusal(404, f"Instance {server_id} could not be found.")
            if (refused := server.refuses("attach_volume", ATTACHABLE)) is not None:
                return refused
            if volume in server.attachments:
                return refusal(400, f"Invalid volume: volume {volume} already attached")
            if not server.host_up:
                return refusal(500, "Unexpected API Error. <class 'oslo_messaging.exceptions.MessagingTimeout'>")
            if len(server.attachments) >= _MOST_VOLUMES:
                return refusal(403, f"The maximum allowed number of disk devices ({_MOST_VOLUMES}) is exceeded.")
            body = {"attachment": {"volume_uuid": volume, "instance_uuid": server_id}}
            made = self._call("POST", "/attachments", caller, body)
            if made.status_code == 404:
                return refusal(404, f"Volume {volume} could not be found.")
            if made.status_code != 200:
                return refusal(400, f"Invalid volume: {made.text} (HTTP {made.status_code})")
            attachment = Attachment(volume, made.json()["attachment"]["id"], believed_device())
            server.attachments[volume] = attachment
        self._order(server, lambda: self._plug(server, attachment, caller))
        return as_json(200, {"volumeAttachment": server.show_attachment(attachment)})

    def _order(self, server: Server, order: Callable[[], None]) -> None:
        """Have the hypervisor do something."""
        with self._lock:
            if server.hangs:
                server.orders.append(order)
                return
        self._workers.submit(order)

    def _plug(self, server: Server, attachment: Attachment, caller: _Caller) -> None:
        """What the hypervisor does of an attachment; where it cannot, nothing is left of it."""
        try:
            done = self._connect(server, attachment, caller)
        except (OSError, subprocess.CalledProcessError):
            log.exception("volume %s cannot be plugged into %s", attachment.volume, server.name)
            done = False
        if not done:
            self._call("DELETE", f"/attachments/{attachment.id}", caller)
            with self._lock:
                server.attachments.pop(attachment.volume, None)

    def _connect(self, server: Server, attachment: Attachment, caller: _Caller) -> bool:
        connector = {"connector": {**_CONNECTOR, "host": server.host}}
        asked = self._call("PUT", f"/attachments/{attachment.id}", caller, {"attachment": connector})
        if asked.status_code != 200:
            return False
        attachment.connection = asked.json()["attachment"]["connection_info"]
        if not self._may_decrypt(attachment, caller):
            return False
        with self._lock:
            if server.status != SHUTOFF:
                self._instances.plug(server.name, attachment.volume, attachment.connection)
        self._call("POST", f"/attachments/{attachment.id}/action", caller, {"os-complete": None})
        return True

    def _may_decrypt(self, attachment: Attachment, caller: _Caller) -> bool:
        """Nova asks in the name of the caller how a volume is encrypted, before it asks for the key."""
        if not attachment.connection.get("encrypted"):
            return True
        told = self._call("GET", f"/volumes/{attachment.volume}/encryption", caller)
        return told.status_code == 200 and told.json().get("provider") == "luks"

    def _detach(self, _request: Request, caller: _Caller, server_id: str, volume: str) -> Answer:
        with self._lock:
            server = self._find(caller, server_id)
            attachment = None if server is None else server.attachments.get(volume)
            if server is None or attachment is None:
                return refusal(404, f"Instance {server_id} is not attached to volume {volume}.")
            if (refused := server.refuses("detach_volume", DETACHABLE)) is not None:
                return refused
            begun = self._call("POST", f"/volumes/{volume}/action", caller, {"os-begin_detaching": None})
            if begun.status_code != 202:
                return refusal(400, f"Invalid volume: {begun.text} (HTTP {begun.status_code})")
        if server.host_up:
            self._order(server, lambda: self._unplug(server, attachment, caller))
        return Answer(202)

    def _unplug(self, server: Server, attachment: Attachment, caller: _Caller) -> None:
        deadline = time.monotonic() + self.patience
        while (
            attachment.volume in server.held
            or server.status == PAUSED
            or self._instances.in_use(server.name, attachment.volume)
        ):
            if time.monotonic() > deadline:
                self._call("POST", f"/volumes/{attachment.volume}/action", caller, {"os-roll_detaching": None})
                return
            time.sleep(0.02)
        with self._lock:
            self._instances.unplug(server.name, attachment.volume)
            self._call("DELETE", f"/attachments/{attachment.id}", caller)
            server.attachments.pop(attachment.volume, None)

    def _actions(self, _request: Request, caller: _Caller, server_id: str) -> Answer:
        server = self._servers.get(server_id)
        if server is None or caller["project"]["id"] != server.project:
            return refusal(404, f"Instance {server_id} could not be found.")
        return as_json(200, {"instanceActions": server.actions()})

    def _action(self, _request: Request, caller: _Caller, server_id: str, action: str) -> Answer:
        server = self._servers.get(server_id)
        if server is None or caller["project"]["id"] != server.project:
            return refusal(404, f"Instance {server_id} could not be found.")
        for one in server.actions():
            if one["request_id"] == action:
                return as_json(200, {"instanceAction": {**one, "events": server.events(action)}})
        return refusal(404, f"Action for request_id {action} on instance {server_id} not found")

    def _events(self, request: Request, caller: _Caller) -> Answer:
        if "admin" not in caller["roles"]:
            return refusal(403, "Policy doesn't allow os_compute_api:os-server-external-events:create.")
        told = request.json()["events"]
        for event in told:
            server = self._servers.get(event["server_uuid"])
            if event["name"] == "volume-extended" and server is not None and event["tag"] in server.attachments:
                self._instances.resize(server.name, event["tag"])
                server.grown += 1
        return as_json(200, {"events": [{**event, "status": "completed", "code": 200} for event in told]})
