"""A crash at every fault point of the scheduler half: it starts again, what was begun is finished, nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from polly_mesos.fault_catalogue import CATALOGUE, Half
from polly_mesos.model import VolumeState
from tests.faults.launching import Launching
from tests.faults.world import World, create, destroy, is_reserved, is_volume, reserve, unreserve

POINTS = [name for name, point in CATALOGUE.items() if point.half is Half.SCHEDULER]
LAUNCH = [name for name in POINTS if name.startswith(("agent.", "token."))]
_ROUNDS = 40


@pytest.fixture
def world() -> Iterator[World]:
    # The platform takes a while to make a volume, so that its being made is met too.
    made = World(create_steps=2, list_lag=3, seed=1, leases=False)
    yield made
    made.close()


def until(world: World, condition: Callable[[], object]) -> None:
    """Let everybody go on until it is so."""
    for _ in range(_ROUNDS):
        if condition():
            return
        world.go_on()
        world.check_always()
    raise AssertionError(f"it did not come to that in {_ROUNDS} rounds")


def live_through_it(world: World) -> None:
    """The whole way of a volume: reserved, made, used twice, destroyed, given back."""
    (host, *_) = world.hosts
    until(world, lambda: world.offered(host))
    host.apply(reserve(offered(world, reserved=False), "r1", 4))
    until(world, lambda: not host.pending)
    host.apply(create(offered(world, reserved=True), "data", 4))
    until(world, lambda: world.owned)
    (volume,) = world.owned
    place, disk = world.place_of(volume), world.disk_of(world.scheduler.ledger.volume(volume))
    for _ in range(2):
        host.start_task(place, disk)
        until(world, lambda: place in host.mounts and host.mounts[place].tasks)
        world.task_writes(host, host.mounts[place])
        host.end_task(place)
        until(world, lambda: place not in host.mounts)
    host.apply(destroy(offered(world, reserved=True, volume=True)))
    until(world, lambda: not host.pending)
    host.apply(unreserve(offered(world, reserved=True), 4))
    until(world, lambda: world.scheduler.ledger.volume(volume).state is VolumeState.DELETED)


def offered(world: World, *, reserved: bool, volume: bool = False) -> dict[str, object]:
    disks = world.offered(world.hosts[0])
    return next(disk for disk in disks if (is_reserved(disk), is_volume(disk)) == (reserved, volume))


@pytest.mark.parametrize("point", [name for name in POINTS if name not in LAUNCH])
def test_after_a_crash_there_the_volumes_way_goes_on(world: World, point: str) -> None:
    world.arm(point)
    live_through_it(world)
    assert world.crashes == 1, f"the way of a volume does not come by {point}"
    world.come_to_rest()
    world.check_at_rest()
    assert world.platform.volumes() == ()
    assert list(world.platform.made.values()) == [1]
    assert not world.scheduler.ledger.reservations()


@pytest.mark.parametrize("point", LAUNCH)
def test_after_a_crash_there_the_executor_is_launched_once_and_gets_its_token(world: World, point: str) -> None:
    launching = Launching(world)
    world.arm(point)
    launching.live_through_it()
    assert world.crashes == 1
    assert len(launching.running) == 1
    assert launching.token_is_accepted()
