"""The whole way of a volume on the real Mesos, with EBS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.testing.ec2 import KEY, SECRET, Delays, Ec2
from tests.leftovers import assert_nothing_left
from tests.mesos.framework import Framework
from tests.mesos.polly import Polly
from tests.mesos.volume_story import goes_the_whole_way

pytestmark = [pytest.mark.mesos, pytest.mark.root, pytest.mark.timeout(240)]

_DELAYS = Delays(create=0.2, attach=0.2, detach=0.2, delete=0.2)


@pytest.fixture(params=["m5.large", "m4.large"], ids=["nitro", "xen"])
def ec2(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Ec2]:
    with Ec2(tmp_path / "ec2", delays=_DELAYS, default_type=request.param) as ec2:
        yield ec2
    assert_nothing_left(tmp_path)


def _sections(ec2: Ec2) -> dict[str, Any]:
    service = {
        **ec2.settings,
        "driver": "ebs",
        "access_key": "${POLLY_TEST_ACCESS_KEY}",
        "secret_key": "${POLLY_TEST_SECRET_KEY}",
        "capacity": "8GiB",
    }
    return {"services": {"local": service}, "profiles": {"gold": {"service": "local", "minimum_size": "1GiB"}}}


def test_a_volume_is_made_used_by_two_tasks_and_destroyed(
    cluster_factory: Callable[..., LocalCluster], tmp_path: Path, ec2: Ec2
) -> None:
    cluster = cluster_factory(agents=1)
    polly = Polly(cluster, tmp_path, **_sections(ec2))
    polly.environment |= {"POLLY_TEST_ACCESS_KEY": KEY, "POLLY_TEST_SECRET_KEY": SECRET}
    with polly, Framework(cluster.master) as framework:
        (agent,) = polly.connected(1)
        instance = ec2.instance(agent["endpoint"])
        assert agent["identities"]["local"]["attach_limit"] == instance.limit - 1, "EC2's own, less the root volume"

        def written() -> None:
            (volume,) = ec2.cloud.volumes.values()
            assert (volume.size, list(volume.attachments)) == (1, [instance.id])

        goes_the_whole_way(
            framework,
            1024.0,
            written=written,
            attached=lambda: any(volume.attachments for volume in list(ec2.cloud.volumes.values())),
            there=lambda: bool(_left(ec2)),
        )
        assert SECRET not in polly.log.read_text()


def _left(ec2: Ec2) -> list[str]:
    with ec2.cloud.lock:
        ec2.cloud.settle()
        return list(ec2.cloud.volumes)
