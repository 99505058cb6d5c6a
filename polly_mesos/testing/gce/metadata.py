"""The metadata server of each instance (https://docs.cloud.google.com/compute/docs/metadata/predefined-metadata-keys)."""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from polly_mesos.model import Json
from polly_mesos.testing.gce.tokens import Tokens

_TEXT, _JSON, _HTML = "application/text", "application/json", "text/html; charset=UTF-8"
_NUMBER = "123456789"
"""The number of the project."""

Answer = tuple[int, str, str]


class Metadata:
    """All instances' metadata servers.

    :param instance_of: the instance that a node is
    :param kind_of: the kind of an attached disk
    :ivar broken: while true, it answers with 503
    """

    def __init__(
        self, project: str, tokens: Tokens, instance_of: Callable[[str], Json], kind_of: Callable[[Json], str]
    ) -> None:
        self.broken = False
        self._project, self._tokens, self._instance_of, self._kind_of = project, tokens, instance_of, kind_of

    def answer(self, node: str, path: str, query: dict[str, str], flavour: str) -> Answer:
        """Status, content type and text."""
        if self.broken:
            return HTTPStatus.SERVICE_UNAVAILABLE, _HTML, "<html>"
        if path in ("", "/"):
            return HTTPStatus.OK, _TEXT, "computeMetadata/\n"
        if flavour != "Google":
            return HTTPStatus.FORBIDDEN, _HTML, "Missing required header: Metadata-Flavor"
        if not node:
            return HTTPStatus.NOT_FOUND, _HTML, "no instance"
        found = self._find(self._instance_of(node), path.removeprefix("/computeMetadata/v1/"), query)
        if found is None:
            return HTTPStatus.NOT_FOUND, _HTML, "not found"
        return HTTPStatus.OK, *((_TEXT, found) if isinstance(found, str) else (_JSON, json.dumps(found)))

    def _find(self, instance: Json, key: str, query: dict[str, str]) -> Any:
        zone = instance["zone"].rpartition("/")[2]
        known = {
            "instance/name": instance["name"],
            "instance/id": instance["id"],
            "instance/zone": f"projects/{_NUMBER}/zones/{zone}",
            "instance/machine-type": f"projects/{_NUMBER}/machineTypes/{instance['machineType'].rpartition('/')[2]}",
            "project/project-id": self._project,
        }
        if key in known:
            return known[key]
        recursive = query.get("recursive", "").lower() == "true"
        if key == "instance/disks/":
            names = ("deviceName", "index", "interface", "mode")
            disks = [
                {**{name: attached[name] for name in names}, "type": self._kind_of(attached)}
                for attached in instance["disks"]
            ]
            return disks if recursive else "".join(f"{number}/\n" for number in range(len(disks)))
        for account in instance["serviceAccounts"]:
            for name in ("default", account["email"]):
                place = f"instance/service-accounts/{name}"
                if key == f"{place}/" and recursive:
                    return {"aliases": ["default"], "email": account["email"], "scopes": account["scopes"]}
                if key == f"{place}/token":
                    return self._tokens.of_instance(account["scopes"])
        return None
