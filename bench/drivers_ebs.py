"""EBS volumes through the driver, beside the bare SDK making the same calls to the same counterpart."""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Callable

import boto3
from botocore.config import Config

from drivers.base import CreateRequest, Tags
from drivers.ebs.controller import EbsController
from drivers.ebs.settings import EbsSettings
from drivers.ebs.tags import CLUSTER, to_platform
from polly_mesos.testing.ec2 import KEY, SECRET, Ec2

Row = tuple[str, float, float, float]

_GIB = 1 << 30
_ROUNDS, _VOLUMES, _MANY, _CALLS = 7, 30, 1000, 3


class _Ours:
    """Create and delete through the driver."""

    def __init__(self, ec2: Ec2) -> None:
        settings = EbsSettings(
            region=ec2.region,
            zone=f"{ec2.region}a",
            access_key=KEY,
            secret_key=SECRET,
            endpoint=ec2.url,
            quotas_endpoint=ec2.url,
            requests_per_second=100_000.0,
        )
        self.controller = EbsController(settings, "bench")

    def create(self) -> str:
        token = str(uuid.uuid4())
        return self.controller.create(CreateRequest(token, _GIB, Tags("bench", token, "gold"))).id

    def make_and_delete(self) -> None:
        for _ in range(_VOLUMES):
            self.controller.delete(self.create())


class _Sdk:
    """The same calls: CreateVolume, DescribeVolumes by id and cluster, DeleteVolume."""

    def __init__(self, ec2: Ec2) -> None:
        self._zone = f"{ec2.region}a"
        self._client = boto3.client(
            "ec2",
            region_name=ec2.region,
            endpoint_url=ec2.url,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def make_and_delete(self) -> None:
        for _ in range(_VOLUMES):
            token = str(uuid.uuid4())
            tags = to_platform(Tags("bench", token, "gold"), "volume", 1)
            made = self._client.create_volume(
                AvailabilityZone=self._zone,
                Size=1,
                VolumeType="gp3",
                ClientToken=token,
                TagSpecifications=[{"ResourceType": "volume", "Tags": tags}],
            )["VolumeId"]
            filters = [{"Name": "volume-id", "Values": [made]}, {"Name": f"tag:{CLUSTER}", "Values": ["bench"]}]
            self._client.describe_volumes(Filters=filters, MaxResults=500)
            self._client.delete_volume(VolumeId=made)


def run() -> list[Row]:
    """Volumes made and deleted in a second, and the calls that a list of 1,000 takes."""
    with Ec2() as ec2:
        ours, sdk = _Ours(ec2), _Sdk(ec2)
        for warm in (ours.make_and_delete, sdk.make_and_delete):
            warm()
        rates: tuple[list[float], list[float]] = ([], [])
        for _ in range(_ROUNDS):
            # In turns, so that both meet the same load.
            rates[0].append(_rate(ours.make_and_delete))
            rates[1].append(_rate(sdk.make_and_delete))
        mine, theirs = map(statistics.median, rates)
        rows = [("ebs: volumes made and deleted in a second", mine, theirs, mine / theirs)]
        for _ in range(_MANY):
            ours.create()
        before, found, page = ec2.calls["DescribeVolumes"], 0, ours.controller.list()
        found += len(page.volumes)
        while page.next is not None:
            page = ours.controller.list(page.next)
            found += len(page.volumes)
        calls = float(ec2.calls["DescribeVolumes"] - before)
        if found != _MANY:
            raise RuntimeError(f"{found} volumes were listed of {_MANY}")
        rows.append((f"ebs: calls to list 1,000 volumes (at most {_CALLS})", _CALLS, calls, _CALLS / calls))
        return rows


def _rate(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return _VOLUMES / (time.perf_counter() - begun)


if __name__ == "__main__":
    for row in run():
        print(f"{row[0]:<55} {row[1]:8.1f} {row[2]:8.1f} {row[3]:6.2f} x")
