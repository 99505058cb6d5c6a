"""Whatever happens in whatever order, crashes at every fault point among it: nothing is lost, nothing is made twice."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from polly_mesos.errors import PlatformError, PlatformThrottled, PlatformUnavailable
from polly_mesos.fault_catalogue import CATALOGUE, Half
from polly_mesos.model import Json
from polly_mesos.testing import Fault
from tests.faults.host import Host
from tests.faults.world import World, create, destroy, is_reserved, is_volume, reserve, unreserve

POINTS = [name for name, point in CATALOGUE.items() if point.half is Half.SCHEDULER]
LEDGER_POINTS = [name for name in POINTS if name.startswith("ledger.")]
PLATFORM_POINTS = [name for name in POINTS if name.startswith("volume.")]
OTHER_POINTS = [name for name in POINTS if name.startswith(("operation.", "publication.", "lease.", "assignment."))]
TROUBLES = {
    "throttled": Fault(before=PlatformThrottled("slow down")),
    "away": Fault(before=PlatformUnavailable("no way to the platform")),
    "lost answer": Fault(after=PlatformUnavailable("no answer", outcome_unknown=True)),
    "time-out": Fault(after=PlatformError("timed out", outcome_unknown=True)),
    "mistake before": Fault(before=ZeroDivisionError("a mistake in a driver")),
    "mistake after": Fault(after=ZeroDivisionError("a mistake in a driver")),
}

METHODS = ("create", "attach", "detach", "delete", "list")

numbers = st.integers(0, 7)
sizes = st.integers(1, 6)
names = st.sampled_from(["a", "b", "c", "d"])
roles = st.sampled_from(["r1", "r2"])


class WorldMachine(RuleBasedStateMachine):
    """Frameworks, hosts, the platform and the scheduler half, each doing one step at a time."""

    world: World

    @initialize(create_steps=st.integers(0, 4), list_lag=st.integers(0, 6), seed=st.integers(0, 99))
    def begin(self, create_steps: int, list_lag: int, seed: int) -> None:
        self.world = World(create_steps=create_steps, list_lag=list_lag, seed=seed)
        self.make(0, "a", "r1", 4)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            if sys.exc_info()[0] is None:
                self.world.come_to_rest()
                self.world.check_at_rest()
        finally:
            self.world.close()

    def host(self, number: int) -> Host:
        return self.world.hosts[number % len(self.world.hosts)]

    # Frameworks -------------------------------------------------------------------------------------------------

    @rule(host=numbers, name=names, role=roles, size=sizes)
    def make(self, host: int, name: str, role: str, size: int) -> None:
        self.reserve(host, 0, role, size)
        self.create(host, -1, name, size)

    def reserve(self, host: int, number: int, role: str, size: int) -> None:
        if disk := self.pick(self.world.offered(self.host(host)), number, reserved=False, volume=False):
            self.host(host).apply(reserve(disk, role, size))

    @rule(host=numbers, number=numbers, name=names, size=sizes)
    def create(self, host: int, number: int, name: str, size: int) -> None:
        if disk := self.pick(self.world.offered(self.host(host)), number, reserved=True, volume=False):
            self.host(host).apply(create(disk, name, size))

    @rule(host=numbers, number=numbers)
    def destroy(self, host: int, number: int) -> None:
        disk = self.pick(self.world.offered(self.host(host)), number, reserved=True, volume=True)
        # As the master: what a task uses is not destroyed.
        if disk and not self.host(host).uses(self.world.place(disk)):
            self.host(host).apply(destroy(disk))

    @rule(host=numbers, number=numbers, size=sizes)
    def unreserve(self, host: int, number: int, size: int) -> None:
        if disk := self.pick(self.world.offered(self.host(host)), number, reserved=True, volume=False):
            self.host(host).apply(unreserve(disk, size))

    def pick(self, disks: Sequence[Json], number: int, *, reserved: bool, volume: bool) -> Json | None:
        fitting = [disk for disk in disks if (is_reserved(disk), is_volume(disk)) == (reserved, volume)]
        return fitting[number % len(fitting)] if fitting else None

    @rule(number=numbers, rounds=st.integers(0, 6))
    def start_task(self, number: int, rounds: int) -> None:
        found = self.world.volumes_in_reach()
        if found:
            host, volume = found[number % len(found)]
            host.start_task(self.world.place_of(volume.id), self.world.disk_of(volume))
            for _ in range(rounds):
                self.work(9)
                host.publish()

    @rule(host=numbers, number=numbers)
    def write(self, host: int, number: int) -> None:
        running = [mount for mount in self.host(host).mounts.values() if mount.tasks]
        if running:
            self.world.task_writes(self.host(host), running[number % len(running)])

    @rule(host=numbers, number=numbers, rounds=st.integers(0, 3))
    def end_task(self, host: int, number: int, rounds: int) -> None:
        places = sorted({*self.host(host).mounts, *self.host(host).starting})
        if places:
            self.host(host).end_task(places[number % len(places)])
            for _ in range(rounds):
                self.host(host).look(idle=True)
                self.work(9)

    # Hosts ------------------------------------------------------------------------------------------------------

    @rule(host=numbers)
    def ask_again(self, host: int) -> None:
        self.host(host).judge()
        self.host(host).publish()

    @rule(host=numbers, idle=st.booleans())
    def look(self, host: int, idle: bool) -> None:
        self.host(host).look(idle=idle)

    @rule(host=numbers)
    def restart_executor(self, host: int) -> None:
        self.host(host).report()

    @rule(host=numbers, how=st.sampled_from(["die", "suspend", "cut off"]))
    def lose(self, host: int, how: str) -> None:
        chosen = self.host(host)
        if not chosen.is_there or sum(other.is_there for other in self.world.hosts) == 1:
            return
        if how == "cut off":
            chosen.reachable = False
        elif how == "suspend":
            chosen.suspend()
        else:
            chosen.die()

    @rule(host=numbers)
    def come_back(self, host: int) -> None:
        chosen = self.host(host)
        chosen.reachable = True
        if not chosen.alive:
            chosen.resume()

    @rule(host=numbers)
    def come_back_as_another_agent(self, host: int) -> None:
        if self.host(host).is_there:
            self.world.come_back_as_another_agent(self.host(host))

    # The scheduler half -----------------------------------------------------------------------------------------

    @rule(steps=st.integers(1, 9))
    def work(self, steps: int) -> None:
        for volume in list(self.world.scheduler.looks)[:steps]:
            self.world.step(volume)

    @rule()
    def plan(self) -> None:
        self.world.run(lambda half: half.planning.once())

    @precondition(lambda self: not self.world.armed)
    @rule(name=st.sampled_from(LEDGER_POINTS), passes=st.integers(1, 8))
    def crash_soon_at_a_commit(self, name: str, passes: int) -> None:
        self.world.arm(name, passes)

    @precondition(lambda self: not self.world.armed)
    @rule(name=st.sampled_from(PLATFORM_POINTS))
    def crash_soon_at_a_platform_call(self, name: str) -> None:
        self.world.arm(name)

    @precondition(lambda self: not self.world.armed)
    @rule(name=st.sampled_from(OTHER_POINTS), passes=st.integers(1, 2))
    def crash_soon(self, name: str, passes: int) -> None:
        self.world.arm(name, passes)

    # The platform -----------------------------------------------------------------------------------------------

    @rule(
        method=st.sampled_from(["create", "attach", "detach", "delete", "list"]), what=st.sampled_from(sorted(TROUBLES))
    )
    def trouble(self, method: str, what: str) -> None:
        self.world.platform.inject(method, TROUBLES[what])

    @rule(steps=st.integers(1, 4))
    def wait(self, steps: int) -> None:
        self.world.platform.wait(steps)

    # What must hold ---------------------------------------------------------------------------------------------

    @rule(rounds=st.integers(1, 4))
    def go_on(self, rounds: int) -> None:
        for _ in range(rounds):
            self.world.go_on()

    @invariant()
    def nothing_is_lost_and_nothing_is_made_twice(self) -> None:
        if hasattr(self, "world"):
            self.world.check_always()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of faults would fill the log."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_the_world_survives_everything() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        WorldMachine,
        settings=settings(
            max_examples=15, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
