"""The whole way of a volume on the real Mesos and a real Cinder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.testing.openstack.cloud import PROJECT, USER
from tests.drivers.cinder_cloud import cloud
from tests.leftovers import loop_devices_below, require_root
from tests.mesos.framework import Framework
from tests.mesos.polly import Polly
from tests.mesos.volume_story import goes_the_whole_way

pytestmark = [
    pytest.mark.mesos,
    pytest.mark.root,
    pytest.mark.openstack,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]


def volume_of_cinder_is_used(
    cluster: LocalCluster, directory: Path, service: dict[str, Any], **asked: str | bool
) -> None:
    """The whole way, with a service that has these settings and a profile that asks for this."""
    volumes = cloud().connect(USER, PROJECT).block_storage
    found: list[str] = []

    def written() -> None:
        (ours,) = [one for one in volumes.volumes() if one.metadata.get("polly:cluster") == "test"]
        assert (ours.size, ours.metadata["polly:profile"]) == (1, "gold")
        assert ours.is_encrypted is bool(asked)
        found.append(ours.id)

    service = {"driver": "cinder", "capacity": "8GiB", **service}
    profile = {"service": "cloud", "minimum_size": "1GiB", **asked}
    with Polly(cluster, directory, services={"cloud": service}, profiles={"gold": profile}) as polly:
        polly.connected(1)
        with Framework(cluster.master) as framework:
            goes_the_whole_way(
                framework,
                1024.0,
                written=written,
                attached=lambda: volumes.get_volume(found[0]).status != "available",
                there=lambda: found[0] in [one.id for one in volumes.volumes()],
            )


@pytest.mark.parametrize(
    "asked", [{}, {"type": "encrypted", "encryption": True}], ids=["of the cloud's choice", "encrypted"]
)
def test_a_task_finds_its_data_again_on_a_volume_of_cinder(
    cluster_factory: Callable[..., LocalCluster],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, str | bool],
) -> None:
    require_root()
    cluster = cluster_factory(agents=1)
    monkeypatch.setenv("CINDER_PASSWORD", cloud().password)
    volume_of_cinder_is_used(cluster, tmp_path, cloud().login(password="${CINDER_PASSWORD}"), **asked)
    assert loop_devices_below(cloud().instances.root) == []
