"""Who may ask, and for what: the scopes of tokens, and permissions."""

from __future__ import annotations

from collections.abc import Iterator

from polly_mesos.model import Json
from polly_mesos.testing.gce.errors import ApiError
from polly_mesos.testing.gce.schema import Call
from polly_mesos.testing.gce.tokens import READ_ONLY, Tokens

_NAMES = {
    "disks.insert": ("disks.create",),
    "disks.aggregatedList": ("disks.list",),
    "disks.createSnapshot": ("disks.createSnapshot", "snapshots.create"),
    "instances.attachDisk": ("instances.attachDisk", "disks.use"),
    "zoneOperations.wait": ("zoneOperations.get",),
    "regionOperations.wait": ("regionOperations.get",),
    "globalOperations.wait": ("globalOperations.get",),
    "regionDiskTypes.get": ("diskTypes.get",),
    "regionDiskTypes.list": ("diskTypes.list",),
}
"""Where the permission is not called as the method (https://cloud.google.com/compute/docs/access/iam-permissions)."""


class Access:
    """What a project's service account may do.

    :ivar permissions: what it may, as ``compute.disks.create``; everything where None
    :ivar used: the permissions that calls needed so far
    """

    def __init__(self, project: str, endpoint: str) -> None:
        self.email = f"polly@{project}.iam.gserviceaccount.com"
        self.tokens = Tokens(self.email, project, endpoint)
        self.permissions: frozenset[str] | None = None
        self.used: set[str] = set()

    def check_scopes(self, call: Call, scopes: frozenset[str]) -> None:
        """Refuse a change to a token that is for reading."""
        if scopes == {READ_ONLY} and call.method.verb != "GET":
            raise ApiError(403, "insufficientPermissions", "Request had insufficient authentication scopes.")

    def check(self, call: Call) -> None:
        """Refuse what the account may not do."""
        for permission in _needed(call):
            self.used.add(permission)
            if self.permissions is not None and permission not in self.permissions:
                where = "/".join(f"{name}s/{value}" for name, value in call.path.items())
                raise ApiError(403, "forbidden", f"Required '{permission}' permission for '{where}'")

    def granted(self, asked: list[str]) -> Json:
        """The answer of testIamPermissions."""
        held = [one for one in asked if self.permissions is None or one in self.permissions]
        return {"permissions": held} if held else {}


def _needed(call: Call) -> Iterator[str]:
    name = call.method.id.removeprefix("compute.").replace("regionDisks.", "disks.")
    if name.endswith("testIamPermissions"):
        return
    for permission in _NAMES.get(name, (name,)):
        yield f"compute.{permission}"
    if call.body.get("labels"):
        yield "compute.snapshots.setLabels" if name == "disks.createSnapshot" else "compute.disks.setLabels"
    if "sourceSnapshot" in call.body:
        yield "compute.snapshots.useReadOnly"
    if "sourceDisk" in call.body:
        yield "compute.disks.useReadOnly"
