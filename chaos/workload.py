"""The frameworks that use volumes while everything around them fails."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Collection, Iterator

from chaos.framework import Framework
from chaos.volumes import Memory
from polly_mesos.mesos.driver_process import Backoff
from polly_mesos.mesos.scheduler_driver import SchedulerDriver

_TICK_SECONDS = 1.0
_FRAMEWORKS = (("orders", "orders", True), ("metrics", "metrics", False), ("archive", "team/archive", True))
"""Name, role, and whether its operations have ids; one as Marathon, one in a nested role."""


class Workload:
    """All frameworks, subscribed from :meth:`start` to :meth:`stop`.

    :param master: as for a scheduler driver
    """

    def __init__(self, master: str, memory: Memory, seed: int) -> None:
        self.memory = memory
        self.frameworks = [
            Framework(name, role, memory, identify=identify, chance=random.Random(f"{seed}/{name}"))
            for name, role, identify in _FRAMEWORKS
        ]
        self._drivers: list[SchedulerDriver] = []
        for framework in self.frameworks:
            driver = SchedulerDriver(framework, framework.info, master, backoff=Backoff(maximum=1.0, settled=1.0))
            framework.bind(driver)
            self._drivers.append(driver)
        self._stopping = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="workload", daemon=True)

    def start(self) -> None:
        """Subscribe; each framework begins with its first offer."""
        for driver in self._drivers:
            driver.start()
        self._ticker.start()

    def stop(self) -> None:
        """End the subscriptions. Volumes and tasks stay where they are."""
        self._stopping.set()
        for driver in self._drivers:
            driver.stop()
        for driver in self._drivers:
            driver.join()

    def work(self, round_number: int) -> None:
        """Make, use and destroy volumes from now on."""
        for framework in self.frameworks:
            framework.work(round_number)

    def settle(self) -> None:
        """Begin nothing new, and look once at the data of every volume."""
        for framework in self.frameworks:
            framework.settle()

    def unsettled(self, agents: Collection[str]) -> Iterator[str]:
        """What is not finished yet, in words.

        :param agents: ids of those that the master has
        """
        for framework in self.frameworks:
            yield from framework.unsettled(agents)
            if framework.refused_with:
                yield f"the master refuses {framework.name}: {framework.refused_with}"

    def violations(self) -> Iterator[str]:
        """What tasks and frameworks have found, and defects of the workload itself."""
        yield from self.memory.violations()
        for driver in self._drivers:
            if driver.callback_errors:
                yield f"the workload itself failed, see the campaign's log: {driver}"

    def needed(self) -> dict[str, dict[str, int]]:
        """Role -> persistence id -> MB of the volumes that must be there."""
        return {framework.role: framework.needed() for framework in self.frameworks}

    def done(self) -> Counter[str]:
        """What all frameworks have done: operation -> how often."""
        total: Counter[str] = Counter()
        for framework in self.frameworks:
            total.update(framework.done)
        total["record acknowledged"] = self.memory.records()
        return total

    def _tick(self) -> None:
        while not self._stopping.wait(_TICK_SECONDS):
            for framework in self.frameworks:
                framework.tick()
