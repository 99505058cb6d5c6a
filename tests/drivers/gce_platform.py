"""A service of the gce driver on a counterpart without devices, for tests of the controller side."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from drivers.base import CreateRequest, PlatformState, PlatformVolume, Tags
from drivers.gce.controller import GceController
from drivers.gce.settings import GceSettings
from polly_mesos.model import HostIdentity
from polly_mesos.testing.gce import FakeCompute

GIB = 1 << 30
ZONE = "europe-west3-a"
REPLICAS = ("europe-west3-a", "europe-west3-b")


class Service:
    """A controller side and its counterpart."""

    def __init__(self, compute: FakeCompute, directory: Path) -> None:
        self.compute = compute
        self.settings = GceSettings(
            key_file=str(compute.key_file(directory / "key.json")),
            zone=ZONE,
            endpoint=compute.endpoint,
            resource_manager_endpoint=compute.endpoint,
            requests_per_second=1000.0,
            operation_timeout=20.0,
            request_timeout=5.0,
        )
        self.controller = self.restart()

    def restart(self, cluster: str = "test", **settings: Any) -> GceController:
        """A controller side that remembers nothing."""
        return GceController(replace(self.settings, **settings), cluster)

    def request(self, size: int = 10 * GIB, **fields: Any) -> CreateRequest:
        """A request that nobody made before."""
        token = str(uuid.uuid4())
        return CreateRequest(token, size, Tags("test", token, "gold", 3, {"note": 'ä "quoted"'}), **fields)

    def made(self, request: CreateRequest | None = None) -> PlatformVolume:
        """A volume that is available."""
        volume = self.controller.create(request or self.request())
        self.settle()
        volume = self.controller.get(volume.id)
        assert volume.state is PlatformState.AVAILABLE
        return volume

    def regional(self, size: int = 10 * GIB, **fields: Any) -> PlatformVolume:
        """A regional volume that is available."""
        return self.made(self.request(size, options={"replica_zones": REPLICAS}, **fields))

    def settle(self) -> None:
        """Wait until no operation is under way."""
        world = self.compute.world
        with world.lock:
            assert world.changed.wait_for(lambda: not self.compute.operations.running(), 20.0)

    def host(self, name: str = "one", zone: str = ZONE, **launch: Any) -> HostIdentity:
        """An instance that runs."""
        self.compute.instances.launch(name, zone, **launch)
        return HostIdentity(f"zones/{zone}/instances/{name}", zone)

    def disks(self) -> list[str]:
        """The names of all disks that there are."""
        return [one["name"] for one in list(self.compute.world.resources.values()) if one["kind"] == "compute#disk"]


@contextmanager
def running(directory: Path) -> Iterator[Service]:
    """A service on a counterpart that found nothing to object to when it ends."""
    with FakeCompute(directory / "platform") as compute:
        service = Service(compute, directory)
        yield service
        service.controller.close()
    assert compute.violations == []
