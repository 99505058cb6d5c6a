"""``polly service check``: proves a configuration without changing anything, by EC2's dry runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from drivers.base import Check
from drivers.ebs.api import Api
from drivers.ebs.capacities import quota, zones
from drivers.ebs.settings import EbsSettings
from drivers.ebs.volume_types import GIB, type_named
from polly_mesos.errors import PlatformDenied, PollyError
from polly_mesos.model import Json, Profile

_NOBODY = {"VolumeId": "vol-ffffffffffffffff0"}
_REMEDY = "allow it in the policy; examples/ebs-iam-policy.json has all that Polly needs"


def check(api: Api, settings: EbsSettings, cluster: str, profiles: Sequence[Profile]) -> tuple[Check, ...]:
    """Everything that this service and these profiles need."""
    first = _credentials(api)
    if not first.passed:
        return (first,)
    return (first, *_permissions(api, settings), *_zones(api, settings, profiles), *_quotas(api, profiles))


def _credentials(api: Api) -> Check:
    try:
        code = api.dry_run("DescribeAvailabilityZones")
    except PollyError as error:
        return Check("credentials", False, error.message, error.remedy)
    if code in ("DryRunOperation", "UnauthorizedOperation"):
        return Check("credentials", True, f"EC2 in {api.region} knows them")
    return Check("credentials", False, f"EC2 in {api.region} answers {code}", "correct the keys and the region")


def _permissions(api: Api, settings: EbsSettings) -> Iterator[Check]:
    zone = settings.zone or f"{api.region}a"
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "polly:cluster", "Value": "check"}]}]
    snapshot_tags = [{**tags[0], "ResourceType": "snapshot"}]
    host: Json = {"InstanceId": "i-ffffffffffffffff0"}
    asked: dict[str, Json] = {
        "CreateVolume": {"AvailabilityZone": zone, "Size": 1, "VolumeType": "gp3", "TagSpecifications": tags},
        "DescribeVolumes": {},
        "DeleteVolume": _NOBODY,
        "AttachVolume": {**_NOBODY, **host, "Device": "/dev/sdf"},
        "DetachVolume": {**_NOBODY, **host},
        "ModifyVolume": {**_NOBODY, "Size": 2},
        "DescribeVolumesModifications": {},
        "CreateSnapshot": {**_NOBODY, "TagSpecifications": snapshot_tags},
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
        if code == "UnauthorizedOperation":
            needed = " (with ec2:CreateTags)" if "TagSpecifications" in parameters else ""
            yield Check(name, False, f"EC2 refuses it{needed}", _REMEDY)
        elif code == "DryRunOperation" or code.endswith(".NotFound"):
            yield Check(name, True, "allowed")
        else:
            yield Check(name, None, f"EC2 answers {code}")


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
