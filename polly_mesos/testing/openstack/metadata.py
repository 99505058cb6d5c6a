"""The OpenStack metadata service of every instance, each below the name of its node.

``/NODE/openstack/latest/meta_data.json`` is what ``http://169.254.169.254/openstack/latest/meta_data.json`` answers
in an instance. A node that nobody booted is booted by asking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from polly_mesos.testing.openstack.serving import Answer, Request, Server, as_json

if TYPE_CHECKING:
    from polly_mesos.testing.openstack.nova import Nova

_DOCUMENT = "/openstack/latest/meta_data.json"


class MetadataService:
    """One server for all instances."""

    def __init__(self, nova: Nova) -> None:
        self._nova = nova
        self._server = Server(self._answer, "openstack-metadata")
        self.url = self._server.url

    def close(self) -> None:
        """Serve no more."""
        self._server.close()

    def _answer(self, request: Request) -> Answer:
        node = unquote(request.path).removeprefix("/").removesuffix(_DOCUMENT)
        if not request.path.endswith(_DOCUMENT) or request.method != "GET" or not node or "/" in node:
            return Answer(404, b"<html><body>404 Not Found</body></html>", {"Content-Type": "text/html"})
        server = self._nova.server_of(node)
        return as_json(
            200,
            {
                "uuid": server.id,
                "name": server.name,
                "hostname": f"{server.name}.novalocal",
                "availability_zone": server.zone,
                "project_id": server.project,
                "launch_index": 0,
                "devices": [],
            },
        )
