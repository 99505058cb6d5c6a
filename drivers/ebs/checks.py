"""``polly service check``: proves a configuration without changing anything, by EC2's dry runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from drivers.base import Check
from drivers.ebs.api import Api
from drivers.ebs.capacities import quota, zones
from drivers.ebs.settings import EbsSettings
from drivers.ebs.tags import CLUSTER
from drivers.ebs.volume_types import GIB, type_named
from drivers.escaping import escape
from polly_mesos.errors import PlatformDenied, PollyError
from polly_mesos.model import Json, Profile

_NOBODY = "vol-ffffffffffffffff0"
_REMEDY = "allow it in the policy; examples/ebs-iam-policy.json has all that Polly needs"


def check(api: Api, settings: EbsSettings, cluster: str, profiles: Sequence[Profile]) -> tuple[Check, ...]:
    """Everything that this service and these profiles need."""
    first = _credentials(api)
    if not first.passed:
        return (first,)
    return (first, *_permissions(api, settings, cluster), *_zones(api, settings, profiles), *_quotas(api, profiles))


def _credentials(api: Api) -> Check:
    try:
        code = api.dry_run("DescribeAvailabilityZones")
    except PollyError as error:
        return Check("credentials", False, error.message, error.remedy)
    if code in ("DryRunOperation", "UnauthorizedOperation"):
        return Check("credentials", True, f"EC2 in {api.region} knows them")
    return Check("credentials", False, f"EC2 in {api.region} answers {code}", "correct the keys and the region")


def _permissions(api: Api, settings: EbsSettings, cluster: str) -> Iterator[Check]:
    """By dry runs that would do no harm if they were none.

    A policy may ask for the cluster's tag, so a volume of the cluster has to be named: for DeleteVolume one that an
    instance has, and for the others no instance that there is. No snapshot is named.
    """
    zone = settings.zone or f"{api.region}a"
    tags = [{"ResourceType": "volume", "Tags": [{"Key": CLUSTER, "Value": escape(cluster)}]}]
    snapshot_tags = [{**tags[0], "ResourceType": "snapshot"}]
    size, some, held = _volumes(api, cluster)
    host: Json = {"InstanceId": "i-ffffffffffffffff0"}
    asked: dict[str, Json] = {
        "CreateVolume": {"AvailabilityZone": zone, "Size": 1, "VolumeType": "gp3", "TagSpecifications": tags},
        "DescribeVolumes": {},
        "DeleteVolume": {"VolumeId": held},
        "AttachVolume": {"VolumeId": some, **host, "Device": "/dev/sdf"},
        "DetachVolume": {"VolumeId": some, **host},
        "ModifyVolume": {"VolumeId": some, "Size": size},
        "DescribeVolumesModifications": {},
        "CreateSnapshot": {"VolumeId": some, "TagSpecifications": snapshot_tags},
        "DescribeSnapshots": {},
        "DeleteSnapshot": {"SnapshotId": "snap-ffffffffffffffff0"},
        "DescribeInstances": {},
        "DescribeInstanceTypes": {},
        "DescribeAvailabilityZones": {},
    }
    for action, parameters in asked.items():
        name = f"permission ec2:{action}"
        try:
            code = api.dry_run(action, **parameters)
        except PollyError as error:
            yield Check(name, None, error.message, error.remedy)
            continue
        yield _permission(name, code, parameters)


def _permission(name: str, code: str, parameters: Json) -> Check:
    if code == "DryRunOperation" or code.endswith(".NotFound"):
        return Check(name, True, "allowed")
    if code != "UnauthorizedOperation":
        return Check(name, None, f"EC2 answers {code}")
    if _NOBODY in parameters.values() or "SnapshotId" in parameters:
        detail = "EC2 refuses it for what is not there, as a policy does that asks for the cluster's tag"
        return Check(name, None, detail, "check again when an instance has a volume of this cluster")
    needed = " (with ec2:CreateTags)" if "TagSpecifications" in parameters else ""
    return Check(name, False, f"EC2 refuses it{needed}", _REMEDY)


def _volumes(api: Api, cluster: str) -> tuple[int, str, str]:
    """The size of a volume of the cluster, its id, and the id of one that an instance has."""
    ours = [{"Name": f"tag:{CLUSTER}", "Values": [escape(cluster)]}]
    try:
        answer = api.call("DescribeVolumes", "looking for a volume to ask about", Filters=ours, MaxResults=500)
    except PollyError:
        answer = {}
    found = [one for one in answer.get("Volumes", []) if one.get("State") in ("available", "in-use")]
    held = [one for one in found if one["State"] == "in-use"]
    if not found:
        return 1, _NOBODY, _NOBODY
    some = (held or found)[0]
    return int(some["Size"]), str(some["VolumeId"]), str(held[0]["VolumeId"]) if held else _NOBODY


def _zones(api: Api, settings: EbsSettings, profiles: Sequence[Profile]) -> Iterator[Check]:
    wanted = sorted({profile.zone or settings.zone for profile in profiles})
    try:
        there = zones(api)
    except PollyError as error:
        yield from (Check(f"zone {zone}", None, error.message, error.remedy) for zone in wanted)
        return
    for zone in wanted:
        remedy = "" if zone in there else f"use one of {', '.join(there)}"
        yield Check(f"zone {zone}", zone in there, "there" if zone in there else f"not in {api.region}", remedy)


def _quotas(api: Api, profiles: Sequence[Profile]) -> Iterator[Check]:
    for name in sorted({profile.platform_type for profile in profiles}):
        try:
            kind = type_named(name)
            limit = quota(api, kind)
        except PlatformDenied as error:
            yield Check(f"quota {name}", None, error.message, error.remedy)
        except PollyError as error:
            yield Check(f"type {name}", False, error.message, error.remedy)
        else:
            told = "Service Quotas does not tell" if limit is None else f"{limit // GIB} GiB in {api.region}"
            yield Check(f"quota {kind.name}", None if limit is None else limit > 0, told)
