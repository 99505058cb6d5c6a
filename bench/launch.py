"""What a volume adds to a task's launch: from a framework's ACCEPT to TASK_RUNNING, on a real Mesos on this machine.

One ACCEPT has RESERVE, CREATE and LAUNCH; meanwhile the ledger admits, the volume is created, attached, formatted and
mounted. It stands beside a LAUNCH without a volume, taken in turns. Run it with ``python -m bench.launch``.
"""

from __future__ import annotations

import copy
import getpass
import queue
import statistics
import time
import uuid
from collections.abc import Callable

from polly_mesos.demo.directory import DemoDirectory
from polly_mesos.demo.environment import PROFILE, VOLUME_MB, choose_storage, write_configuration
from polly_mesos.demo.run import end
from polly_mesos.demo.supervise import Supervisor
from polly_mesos.errors import LocalMesosError
from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.mesos.scheduler_driver import SchedulerDriver
from polly_mesos.model import Json

_ROUNDS = 5
_WAIT_SECONDS = 60.0
_ROLE = "bench"
_TASK = {"cpus": 0.1, "mem": 32.0}


def run() -> list[tuple[str, float, float, float]]:
    """Name, seconds with a volume, seconds without, their ratio; medians."""
    directory = DemoDirectory.prepare()
    try:
        cluster = LocalCluster(directory.mesos, agents=1)
        cluster.up()
        Supervisor(directory).start_polly(write_configuration(directory, cluster, choose_storage()))
        framework = Framework(cluster.master)
        try:
            times = [(framework.launch(volume=True), framework.launch(volume=False)) for _ in range(_ROUNDS)]
        finally:
            framework.stop()
    finally:
        end(directory)
    directory.remove()
    ours, without = (statistics.median(column) for column in zip(*times, strict=True))
    return [
        ("ACCEPT to TASK_RUNNING with a new volume", ours, without, ours / without),
        ("what the volume adds to it", ours - without, without, (ours - without) / without),
    ]


class Framework:
    """Launches tasks one by one, and frees what they used."""

    def __init__(self, master: str) -> None:
        self._events: queue.Queue[tuple[str, Json]] = queue.Queue()
        info = {"name": "bench", "user": getpass.getuser(), "roles": [_ROLE], "principal": _ROLE, "failover_timeout": 0}
        info["capabilities"] = [{"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}]
        self._driver = SchedulerDriver(self, info, master)
        self._driver.start()

    def stop(self) -> None:
        """Leave nothing in Mesos."""
        self._driver.stop(teardown=True)
        self._driver.join()

    def launch(self, *, volume: bool) -> float:
        """Launch one task on an agent whose pool is on offer, and return the seconds from ACCEPT to TASK_RUNNING."""
        offer = self.offer(is_pool)
        task_id = str(uuid.uuid4())
        operations, disks = make_volume(offer, task_id) if volume else ([], [])
        begun = time.perf_counter()
        self.accept(offer, *operations, task_on(offer, task_id, disks, "sleep 0.1"))
        self.wait_for(task_id, "TASK_RUNNING")
        seconds = time.perf_counter() - begun
        self.wait_for(task_id, "TASK_FINISHED")
        if volume:
            self.free()
        return seconds

    def accept(self, offer: Json, *operations: Json) -> None:
        """Use an offer; what is left of it may be offered again at once."""
        self._driver.accept([offer["id"]], list(operations), 0.0)

    def free(self) -> None:
        """Destroy the next volume that is on offer."""
        offer = self.offer(is_volume)
        volumes = list(filter(is_volume, offer["resources"]))
        plain = copy.deepcopy(volumes)
        for resource in plain:
            del resource["disk"]["persistence"], resource["disk"]["volume"]
        destroy = {"type": "DESTROY", "destroy": {"volumes": volumes}}
        unreserve = {"type": "UNRESERVE", "unreserve": {"resources": plain}}
        self._driver.accept([offer["id"]], [destroy, unreserve], 0.0)

    def offer(self, wanted: Callable[[Json], bool]) -> Json:
        """The next offer that has such a resource and room for the task."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while time.monotonic() < deadline:
            kind, offer = self._next(deadline)
            if kind == "offer" and any(map(wanted, offer["resources"])):
                return offer
            if kind == "offer":
                self._driver.decline([offer["id"]], 0.1)
        raise LocalMesosError(f"no offer of pool {PROFILE} came in {_WAIT_SECONDS:.0f} s")

    def wait_for(self, task_id: str, state: str) -> None:
        """Wait until a task has reached a state.

        :raises LocalMesosError: it ended otherwise, or Mesos was silent
        """
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            kind, status = self._next(deadline)
            if kind == "offer":
                self._driver.decline([status["id"]], 0.1)
            elif status["task_id"]["value"] == task_id:
                if status["state"] == state:
                    return
                if status["state"] not in ("TASK_STARTING", "TASK_RUNNING", "TASK_STAGING"):
                    raise LocalMesosError(f"the task is {status['state']}: {status.get('message', '')}")

    def _next(self, deadline: float) -> tuple[str, Json]:
        try:
            return self._events.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise LocalMesosError(f"Mesos was silent for {_WAIT_SECONDS:.0f} s") from None

    # ---- what the driver calls

    def registered(self, framework_id: str, master_info: Json) -> None:
        """Nothing is left of an earlier subscription."""

    def disconnected(self) -> None:
        """The driver comes back by itself."""

    def offers(self, offers: list[Json]) -> None:
        """For whoever waits."""
        for offer in offers:
            self._events.put(("offer", offer))

    def rescinded(self, offer_id: str) -> None:
        """A task that is launched on it is reported as lost."""

    def update(self, status: Json) -> None:
        """For whoever waits."""
        self._events.put(("update", status))

    def message(self, executor_id: str, agent_id: str, data: bytes) -> None:
        """No executor of ours sends any."""

    def agent_lost(self, agent_id: str) -> None:
        """Its tasks are reported as lost."""

    def executor_lost(self, executor_id: str, agent_id: str, status: int) -> None:
        """Its tasks are reported as lost."""

    def refused(self, message: str) -> None:
        """Shows as silence."""


def is_pool(resource: Json) -> bool:
    source = resource.get("disk", {}).get("source", {})
    large = resource["name"] == "disk" and resource["scalar"]["value"] >= VOLUME_MB
    return large and not resource.get("reservations") and source.get("profile") == PROFILE


def is_volume(resource: Json) -> bool:
    return "persistence" in resource.get("disk", {})


def make_volume(offer: Json, name: str) -> tuple[list[Json], list[Json]]:
    """The operations that make a volume of the pool on offer, and the volume's disk."""
    pool = next(filter(is_pool, offer["resources"]))
    disk = _reserved({**pool, "scalar": {"value": float(VOLUME_MB)}})
    persistent = copy.deepcopy(disk)
    persistent["disk"]["persistence"] = {"id": name, "principal": _ROLE}
    persistent["disk"]["volume"] = {"mode": "RW", "container_path": "data"}
    operations: list[Json] = [
        {"type": "RESERVE", "reserve": {"resources": [disk]}},
        {"type": "CREATE", "create": {"volumes": [persistent]}},
    ]
    return operations, [persistent]


def task_on(offer: Json, task_id: str, disks: list[Json], command: str) -> Json:
    """A LAUNCH of a task with these disks."""
    plain = [_scalar(name, amount) for name, amount in _TASK.items()]
    task = {
        "name": "bench",
        "task_id": {"value": task_id},
        "agent_id": offer["agent_id"],
        "resources": [*plain, *disks],
        "command": {"shell": True, "value": command},
    }
    return {"type": "LAUNCH", "launch": {"task_infos": [task]}}


def _reserved(resource: Json) -> Json:
    plain = {name: copy.deepcopy(value) for name, value in resource.items() if name != "allocation_info"}
    return {**plain, "reservations": [{"type": "DYNAMIC", "role": _ROLE, "principal": _ROLE}]}


def _scalar(name: str, value: float) -> Json:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}}


if __name__ == "__main__":
    for row in run():
        print(f"{row[0]:<45} {row[1]:8.3f} s {row[2]:8.3f} s {row[3]:6.2f} x")
