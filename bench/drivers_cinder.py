"""Volumes made and deleted through the Cinder driver, beside the bare SDK making the same calls to the same Cinder.

Keystone and Cinder are real; see :mod:`polly_mesos.testing.openstack`. Both take turns, and the best round counts:
how long the volume service takes for a volume differs more than what is measured here. Needs root.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from openstack import exceptions

from bench.rates import compare, show
from drivers.base import CreateRequest, PlatformState, Tags
from drivers.cinder import GIB
from drivers.cinder.controller import CinderController
from drivers.cinder.metadata import encode
from drivers.cinder.settings import CinderSettings
from polly_mesos.testing.openstack import OpenStack
from polly_mesos.testing.openstack.cloud import PROJECT, USER

ROUNDS = 5
REPEATS = 6
_PAUSE = 0.1


def run() -> list[tuple[str, float, float, float]]:
    """Name, ours per second, the bare SDK's per second, and their ratio."""
    with OpenStack() as cloud:
        return [compare("cinder: volume created and deleted", *_both(cloud), rounds=ROUNDS, repeats=REPEATS)]


def _both(cloud: OpenStack) -> tuple[Callable[[], None], Callable[[], None]]:
    controller = CinderController(CinderSettings(**cloud.login(calls_per_second=10_000.0)), "bench")
    volumes = cloud.connect(USER, PROJECT).block_storage

    def ours() -> None:
        token = str(uuid.uuid4())
        volume = controller.create(CreateRequest(token, GIB, Tags("bench", token, "gold")))
        while volume.state is not PlatformState.AVAILABLE:
            time.sleep(_PAUSE)
            volume = controller.get(volume.id)
        controller.delete(volume.id)

    def bare() -> None:
        token = str(uuid.uuid4())
        metadata = encode(Tags("bench", token, "gold"), token, GIB)
        list(volumes.volumes(metadata=str({"polly:token": token})))  # whether it was made already
        volume = volumes.create_volume(size=1, name=f"polly-{token}", metadata=metadata)
        while volume.status != "available":
            time.sleep(_PAUSE)
            volume = volumes.get_volume(volume.id)
        volumes.get_volume(volume.id)  # whose it is, as the driver looks before it deletes
        volumes.delete_volume(volume.id)
        pause = _PAUSE
        while True:
            try:
                volumes.get_volume(volume.id)
            except exceptions.NotFoundException:
                return
            time.sleep(pause)
            pause *= 1.5

    return ours, bare


if __name__ == "__main__":
    show(run())
