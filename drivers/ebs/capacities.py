"""What an account may have of one volume type, from Service Quotas."""

from __future__ import annotations

from drivers.base import Capacity
from drivers.ebs.api import Api
from drivers.ebs.tags import plain
from drivers.ebs.volume_types import GIB, VolumeType
from polly_mesos.errors import NotFound, NotSupported, PlatformDenied, PlatformUnavailable
from polly_mesos.model import Json

_TIB = 1024 * GIB


def capacity(api: Api, zone: str, kind: VolumeType, ours: Json) -> Capacity:
    """The quota, less what others have of it; nothing is known where Service Quotas may not be asked.

    :param ours: the filter that our volumes pass
    :raises NotSupported: the region has no such zone
    """
    if zone:
        refuse_unknown_zone(api, zone)
    limit = quota(api, kind)
    if limit is None:
        return Capacity(None)
    mine = others = 0
    key, values = str(ours["Name"]).removeprefix("tag:"), ours["Values"]
    more: Json = {}
    filters = [{"Name": "volume-type", "Values": [kind.name]}]
    while True:
        answer = api.call("DescribeVolumes", "adding up what counts", Filters=filters, MaxResults=500, **more)
        for volume in answer.get("Volumes", []):
            size = int(volume["Size"]) * GIB
            if plain(volume.get("Tags", [])).get(key) in values:
                mine += size
            else:
                others += size
        if not answer.get("NextToken"):
            total = max(0, limit - others)
            return Capacity(total, max(0, total - mine))
        more = {"NextToken": answer["NextToken"]}


def quota(api: Api, kind: VolumeType) -> int | None:
    """Bytes of one type that the account may have in the region; None where nobody tells us."""
    for action in ("GetServiceQuota", "GetAWSDefaultServiceQuota"):
        try:
            answer = api.call(
                action, f"the quota of {kind.name}", service="service-quotas", ServiceCode="ebs", QuotaCode=kind.quota
            )
            return int(float(answer["Quota"]["Value"]) * _TIB) // GIB * GIB
        except NotFound:
            continue
        except (PlatformDenied, PlatformUnavailable, KeyError, ValueError, TypeError):
            return None
    return None


def refuse_unknown_zone(api: Api, zone: str) -> None:
    """:raises NotSupported: the region has no such zone"""
    if zone not in zones(api):
        known = ", ".join(zones(api))
        raise NotSupported(f"region {api.region} has no zone {zone!r}", remedy=f"there are {known}")


def zones(api: Api) -> list[str]:
    """The zones of the region that this account can use."""
    answer = api.call("DescribeAvailabilityZones", f"the zones of {api.region}")
    return [str(zone["ZoneName"]) for zone in answer.get("AvailabilityZones", []) if zone.get("State") == "available"]
