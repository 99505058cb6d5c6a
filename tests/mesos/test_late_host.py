"""A host that was away and has lost a volume meanwhile: its task is killed on the real agent, and the mount goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.base import CreateRequest, Tags
from drivers.declaration import load_class
from drivers.loop import DRIVER
from drivers.loop.settings import LoopSettings
from polly_mesos.agent_api import PublishState, PublishTarget, Welcome
from polly_mesos.executor.agent_view import MesosAgent
from polly_mesos.executor.eviction import Evictions
from polly_mesos.executor.holdings import Holdings
from polly_mesos.executor.linux import LinuxHost
from polly_mesos.executor.mapping import Mapper
from polly_mesos.executor.publisher import Publisher
from polly_mesos.executor.scheduler_client import SchedulerClient
from polly_mesos.mesos import resources as arithmetic
from polly_mesos.model import MB, Filesystem, HostIdentity, Json
from tests.leftovers import assert_nothing_left, loop_devices_below, mounts_below, require_root
from tests.unit.executor.fakes import TOKEN, VOLUME, FakeScheduler

from .conftest import ClusterFactory
from .framework import Framework, wait_until
from .operations import create, launch, persistent, reserve
from .test_provider_real import Bench, Owner, offer_with

pytestmark = [pytest.mark.mesos, pytest.mark.root]

SIZE_MB = 32


class Host:
    """The executor half's way of a volume on the host, with a scheduler half that is played."""

    def __init__(self, bench: Bench, volume_root: Path, images: Path) -> None:
        images.mkdir()
        self.node = bench.local.endpoint
        self.controller = load_class(DRIVER.controller)(LoopSettings(str(images)), "test")
        self.driver = load_class(DRIVER.host)({"directory": str(images)}, self.node)
        self.scheduler = FakeScheduler(Welcome("org.polly.mesos", "test", "", (), str(volume_root)))
        self.client = SchedulerClient(self.scheduler.url, TOKEN)
        self.tools = LinuxHost()
        self.holdings = Holdings(str(volume_root))
        mapper = Mapper(self.client, {"loop": self.driver}, self.tools, self.holdings)
        self.publisher = Publisher(self.client, mapper, self.holdings, allow_scratch=False, patience=30.0)
        self.evictions = Evictions(
            MesosAgent(bench.agent).end_users,
            mapper,
            self.holdings,
            self.publisher,
            self.tools,
            volume_root=str(volume_root),
        )

    def attach(self, volume: Json) -> str:
        """The platform has attached the volume here; returns where it is to be mounted."""
        identity = self.driver.identify() or HostIdentity(self.node)
        made = self.controller.create(CreateRequest(VOLUME, SIZE_MB * MB, Tags("test", VOLUME, "gold")))
        place = arithmetic.volume_path(volume)
        self.scheduler.show(
            place,
            PublishTarget(
                volume=VOLUME,
                state=PublishState.READY,
                target=place,
                generation=4,
                service="loop",
                filesystem=Filesystem.EXT4,
                attachment=self.controller.attach(made.id, identity),
            ),
        )
        return place

    def end(self) -> None:
        self.evictions.stop()
        for target in self.tools.mounted(str(self.holdings._directory.parent)).values():
            self.tools.unpublish(target, lazily=True)
        for holding in self.holdings.all():
            self.driver.release(holding.attachment)
        self.client.close()
        self.scheduler.down()


@pytest.fixture
def bench(cluster_factory: ClusterFactory, tmp_path: Path) -> Iterator[Bench]:
    require_root()
    cluster = cluster_factory(agents=1)
    made = Bench(cluster, cluster.agents[0], tmp_path)
    yield made
    made.close()


@pytest.fixture
def host(bench: Bench, tmp_path: Path) -> Iterator[Host]:
    # below a directory of the cluster's, where mounts reach the tasks whatever its isolation
    volume_root = bench.cluster.volumes / "root"
    volume_root.mkdir(parents=True)
    made = Host(bench, volume_root, tmp_path / "images")
    yield made
    made.end()
    assert mounts_below(volume_root) == []
    assert loop_devices_below(tmp_path) == []


def test_a_task_on_a_volume_that_its_host_has_lost_is_killed_and_the_mount_goes(
    bench: Bench, host: Host, tmp_path: Path
) -> None:
    root = bench.cluster.volumes / "root" / "gold"
    owner = Owner()
    owner.publish = host.publisher.publish  # type: ignore[method-assign]
    pool: dict[str, Any] = {"root": str(root), "profile": "gold", "vendor": "polly.gold"}
    bench.ready(owner, arithmetic.pool_disk(100, **pool))
    with Framework(bench.cluster.master) as framework:
        offer, disk = offer_with(framework, bench)
        volume = persistent(disk, SIZE_MB, "precious")
        place = host.attach(volume)
        command = "echo begun > data/file; exec 9>>data/file; while true; do echo more >&9; sleep 0.1; done"
        task = launch(offer, "writer", volume, command)
        bystander = launch(offer, "bystander", volume, "sleep 600")
        infos = bystander["launch"]["task_infos"][0]
        infos["resources"] = infos["resources"][:2]
        framework.accept(offer, reserve(disk, SIZE_MB), create(disk, SIZE_MB, "precious"), task, bystander)
        framework.wait_for("writer", "TASK_RUNNING")
        framework.wait_for("bystander", "TASK_RUNNING")
        wait_until(lambda: Path(place, "file").exists())
        assert bench.agent.containers_using(place)[0].tasks == ("writer",)

        host.evictions.assigned({VOLUME: 3})
        host.evictions.assigned({VOLUME: 4})
        framework.wait_for("writer", "TASK_FAILED")
        wait_until(lambda: host.holdings.all() == ())
        assert mounts_below(root) == []
        assert loop_devices_below(tmp_path) == []
        assert host.scheduler.steps_of(VOLUME)[-1] == "unpublished"
        assert not [one for one in framework.updates("bystander") if one["state"] != "TASK_STARTING"][1:]
        assert bench.local.alive()
    assert_nothing_left_of(tmp_path)


def assert_nothing_left_of(directory: Path) -> None:
    """The volume itself stays on its platform."""
    (image,) = (directory / "images").rglob("*.img")
    image.unlink()
    (holder,) = (directory / "images").rglob("*.holder")
    holder.unlink()
    assert_nothing_left(directory)
