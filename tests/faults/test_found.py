"""What the world has found, each in its shortest form."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from polly_mesos.errors import PlatformUnavailable
from polly_mesos.testing import Fault
from tests.faults.world import World, create, destroy, is_reserved, is_volume, reserve


def the_answer_is_lost(world: World) -> None:
    fault = Fault(after=PlatformUnavailable("no answer", outcome_unknown=True))
    world.platform.inject("create", fault)


def it_takes_long(world: World) -> None:
    world.platform.create_steps = 1000


def the_call_fails(world: World) -> None:
    world.platform.inject("create", Fault(before=ZeroDivisionError("a mistake in a driver")))


@pytest.mark.parametrize("trouble", [the_answer_is_lost, it_takes_long, the_call_fails])
@pytest.mark.parametrize("deleting", [Fault(), Fault(after=PlatformUnavailable("no answer", outcome_unknown=True))])
def test_a_volume_that_is_given_up_before_it_was_heard_of_is_deleted_though_it_is_not_listed(
    trouble: Callable[[World], None], deleting: Fault
) -> None:
    # With this seed the first volume is listed only some steps after it was made.
    world = World(list_lag=6, seed=2)
    try:
        (host, *_) = world.hosts
        host.apply(reserve(world.offered(host)[0], "r1", 4))
        host.apply(create(next(disk for disk in world.offered(host) if is_reserved(disk)), "data", 4))
        trouble(world)
        for volume in list(world.scheduler.looks):
            world.step(volume)
        host.apply(destroy(next(disk for disk in world.offered(host) if is_volume(disk))))
        world.platform.inject("delete", deleting)
        for _ in range(3):
            world.go_on()
        world.come_to_rest()
        world.check_at_rest()
        assert world.platform.volumes() == ()
    finally:
        world.close()
