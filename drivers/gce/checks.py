"""``polly service check``: whether the credentials, permissions, zones, types and quotas are there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google.cloud import compute_v1

from drivers.base import Check, ControllerDriver
from drivers.gce.api import Api
from drivers.gce.settings import GIB, GceSettings
from polly_mesos.errors import NotFound, NotSupported, PlatformDenied, PollyError
from polly_mesos.model import Profile

PERMISSIONS = (
    "compute.disks.create",
    "compute.disks.createSnapshot",
    "compute.disks.delete",
    "compute.disks.get",
    "compute.disks.list",
    "compute.disks.resize",
    "compute.disks.setLabels",
    "compute.disks.use",
    "compute.disks.useReadOnly",
    "compute.diskTypes.get",
    "compute.globalOperations.get",
    "compute.instances.attachDisk",
    "compute.instances.detachDisk",
    "compute.instances.get",
    "compute.regionOperations.get",
    "compute.regions.get",
    "compute.snapshots.create",
    "compute.snapshots.delete",
    "compute.snapshots.get",
    "compute.snapshots.list",
    "compute.snapshots.setLabels",
    "compute.snapshots.useReadOnly",
    "compute.zoneOperations.get",
    "compute.zoneOperations.list",
    "compute.zones.get",
)
"""All that the driver ever needs; examples/gce-role.yml grants them."""


def check_service(
    api: Api, settings: GceSettings, controller: ControllerDriver, profiles: Sequence[Profile]
) -> tuple[Check, ...]:
    """All checks, in the order in which one needs the other."""
    try:
        controller.list()
    except PlatformDenied as error:
        if error.message.count("compute.") == 0:
            return (Check("credentials", False, error.message, error.remedy),)
    except PollyError as error:
        return (Check("credentials", None, error.message, error.remedy),)
    return (
        Check("credentials", True, f"project {api.project} answers"),
        *_permissions(api),
        *(one for profile in profiles for one in _profile(api, settings, controller, profile)),
    )


def _permissions(api: Api) -> Iterator[Check]:
    try:
        held = api.test_permissions(list(PERMISSIONS))
    except PollyError as error:
        remedy = "enable the Cloud Resource Manager API in the project, or compare the role with examples/gce-role.yml"
        yield Check("permissions", None, f"cannot be found out: {error.message}", remedy)
        return
    for permission in PERMISSIONS:
        good = permission in held
        remedy = "" if good else "give the account the role of examples/gce-role.yml"
        yield Check(f"permission {permission}", good, "is there" if good else "is missing", remedy)


def _profile(api: Api, settings: GceSettings, controller: ControllerDriver, profile: Profile) -> Iterator[Check]:
    zone, kind = settings.zone_of(profile), profile.platform_type or settings.default_type
    replicas = tuple(profile.options.get("replica_zones", ()))
    left: int | None = None
    for each in dict.fromkeys((zone, *replicas)):
        try:
            found = controller.capacity(each, kind)
        except (NotSupported, NotFound) as error:
            yield Check(f"zone {each}", False, error.message, error.remedy)
            return
        except PollyError as error:
            yield Check(f"quota of profile {profile.name}", None, error.message, error.remedy)
            return
        left = found.available
        yield Check(f"zone {each}", True, "is there")
    yield _type(api, zone, kind, regional=bool(replicas))
    if left is not None:
        needed = profile.minimum_size * max(1, len(replicas))
        detail = f"{left // GIB} GiB are left of the quota, and the smallest volume takes {needed // GIB}"
        yield Check(
            f"quota of profile {profile.name}",
            left >= needed,
            detail,
            "" if left >= needed else "ask Google for more quota",
        )


def _type(api: Api, zone: str, kind: str, *, regional: bool) -> Check:
    client, where = ("RegionDiskTypes", "region") if regional else ("DiskTypes", "zone")
    request_type = compute_v1.GetRegionDiskTypeRequest if regional else compute_v1.GetDiskTypeRequest
    place = zone.rpartition("-")[0] if regional else zone
    request = request_type(project=api.project, disk_type=kind, **{where: place})
    try:
        sizes = api.call(client, "get", request, f"looking at type {kind}").valid_disk_size
    except PollyError as error:
        return Check(f"type {kind}", False if isinstance(error, NotFound | NotSupported) else None, error.message)
    return Check(f"type {kind}", True, f"is there in {place}, with sizes of {sizes}")
