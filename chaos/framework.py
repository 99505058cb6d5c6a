"""A framework of the workload: it makes volumes, runs tasks on them, destroys them, and trusts nothing but its offers.

It speaks the v1 scheduler API (mesos/v1/scheduler/scheduler.proto) and knows nothing of Polly but the profile's name.
"""

from __future__ import annotations

import getpass
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from chaos.volumes import Memory, Stage, Wanted
from polly_mesos.mesos.resources import normalise, persistence_of, role_of
from polly_mesos.model import Json

PROFILE = "gold"
VOLUME_LABEL = "chaos-volume"

_CAPABILITIES = ("MULTI_ROLE", "RESERVATION_REFINEMENT", "PARTITION_AWARE")
_WRITER = Path(__file__).with_name("writer.py")
_VOLUMES = 2
_SIZES_MB = (16, 24, 32, 48)
_TASK = {"cpus": 0.1, "mem": 32.0}
_GIVE_UP_SECONDS = 10.0
_RECONCILE_SECONDS = 2.0
_REFUSE_SECONDS = 0.8
"""Several of the allocator's intervals: whoever declines for less is asked again and again, and others never are."""
_GONE = {"FINISHED", "FAILED", "KILLED", "ERROR", "LOST", "DROPPED", "GONE", "GONE_BY_OPERATOR", "UNKNOWN"}


class Driver(Protocol):
    """The part of :class:`polly_mesos.mesos.scheduler_driver.SchedulerDriver` that is used here."""

    def accept(self, offer_ids: Sequence[Json], operations: Sequence[Json], refuse_seconds: float) -> bool: ...

    def decline(self, offer_ids: Sequence[Json], refuse_seconds: float) -> bool: ...

    def reconcile(self, tasks: Sequence[Json]) -> bool: ...

    def revive(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Task:
    """A task that has not ended as far as we know, with what Mesos needs to tell us more."""

    agent_id: Json
    volumes: list[Wanted]


class Framework:
    """The callbacks of one framework, in one role.

    :param memory: what the tasks acknowledge
    :param identify: whether operations carry ids, so that Mesos tells their outcome; Marathon's do not
    :param chance: what decides between the possible next steps
    """

    def __init__(
        self,
        name: str,
        role: str,
        memory: Memory,
        *,
        identify: bool,
        chance: random.Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.role, self.memory = name, role, memory
        self.volumes: dict[str, Wanted] = {}
        self.done: Counter[str] = Counter()
        """Kind of operation -> how many were sent; and how many tasks ended well."""
        self.refused_with = ""
        self._identify, self._chance, self._clock = identify, chance, clock
        self._lock = threading.RLock()
        self._settling = False
        self._round = 0
        self._numbers: Counter[str] = Counter()
        self._tasks: dict[str, _Task] = {}
        self._creating: dict[str, str] = {}
        self._reconciled = 0.0
        self._driver: Driver | None = None

    @property
    def info(self) -> Json:
        """``FrameworkInfo``: survives a master's or our own absence, and its tasks survive their agent's restart."""
        return {
            "name": self.name,
            "user": getpass.getuser(),
            "roles": [self.role],
            "principal": self.name,
            "failover_timeout": 3600.0,
            "checkpoint": True,
            "capabilities": [{"type": capability} for capability in _CAPABILITIES],
        }

    def bind(self, driver: Driver) -> None:
        """Tell the driver, before it starts."""
        self._driver = driver

    @property
    def driver(self) -> Driver:
        """The driver, once bound."""
        assert self._driver is not None
        return self._driver

    # ---- what the campaign asks

    def work(self, round_number: int) -> None:
        """Make, use and destroy volumes from now on."""
        with self._lock:
            self._settling, self._round = False, round_number

    def settle(self) -> None:
        """Begin nothing new: finish what was begun, and look once at the data of every volume."""
        with self._lock:
            self._settling = True
            for volume in self.volumes.values():
                self._judge_asked(volume)

    def unsettled(self, agents: Collection[str]) -> Iterator[str]:
        """What is not finished yet, in words.

        :param agents: ids of those that the master has
        """
        with self._lock:
            for name, task in self._tasks.items():
                away = task.agent_id["value"] not in agents
                if away and not any(volume.stage is Stage.REAL for volume in task.volumes):
                    continue  # nothing on it was ever acknowledged, and there is nobody to tell how it ended
                yield f"task {name} has not ended on {', '.join(volume.id for volume in task.volumes)}"
            for volume in self.volumes.values():
                self._judge_asked(volume)
                if volume.stage is Stage.REAL and not self.memory.is_verified(volume.id, self._round):
                    yield f"{self.name} has not seen the data of volume {volume.id} in this round"

    def needed(self) -> dict[str, int]:
        """Persistence id -> MB of the volumes that must be there."""
        with self._lock:
            return {volume.id: volume.size_mb for volume in self.volumes.values() if volume.stage is Stage.REAL}

    def tick(self) -> None:
        """Ask for news of the tasks now and then; called about every second."""
        now = self._clock()
        with self._lock:
            due = now >= self._reconciled + _RECONCILE_SECONDS and self._tasks
            tasks = [{"task_id": {"value": name}, "agent_id": task.agent_id} for name, task in self._tasks.items()]
            if due:
                self._reconciled = now
        if due:
            self.driver.reconcile(tasks)

    # ---- what the driver calls

    def registered(self, framework_id: str, master_info: Json) -> None:
        """Subscribed, for the first time or again."""
        self.driver.revive()
        self._reconciled = 0.0

    def disconnected(self) -> None:
        """The driver comes back by itself."""

    def offers(self, offers: list[Json]) -> None:
        """Take the next steps that an offer allows, or decline it."""
        for offer in offers:
            with self._lock:
                operations = self._answer(offer)
                self.done.update(operation["type"] for operation in operations)
            if operations:
                self.driver.accept([offer["id"]], operations, 0.0)
            else:
                self.driver.decline([offer["id"]], _REFUSE_SECONDS)

    def rescinded(self, offer_id: str) -> None:
        """Offers are answered at once; what was sent meanwhile fails and shows in the next ones."""

    def update(self, status: Json) -> None:
        """A task's state."""
        state = status["state"].removeprefix("TASK_")
        with self._lock:
            task = self._tasks.get(status["task_id"]["value"])
            if task is None or state not in _GONE:
                return
            self._end_task(status["task_id"]["value"])
            if state == "FINISHED":
                self.done["task finished"] += 1
                for volume in task.volumes:
                    self._note_real(volume)

    def operation_update(self, status: Json) -> None:
        """The outcome of an operation. Of one that the master has forgotten meanwhile it is told without any id."""
        operation = status.get("operation_id", {}).get("value", "")
        with self._lock:
            volume = self.volumes.get(self._creating.pop(operation, ""))
            if volume is not None and status["state"] == "OPERATION_FINISHED":
                self._note_real(volume)

    def message(self, executor_id: str, agent_id: str, data: bytes) -> None:
        """No executor of ours sends any."""

    def agent_lost(self, agent_id: str) -> None:
        """Its tasks are reported one by one."""

    def executor_lost(self, executor_id: str, agent_id: str, status: int) -> None:
        """Its tasks are reported one by one."""

    def refused(self, message: str) -> None:
        """The master does not have us any more."""
        self.refused_with = message

    # ---- deciding; everything below is called with the lock held

    def _answer(self, offer: Json) -> list[Json]:
        resources = [normalise(resource) for resource in offer["resources"] if resource["type"] == "SCALAR"]
        disks = [resource for resource in resources if resource["name"] == "disk" and resource.get("provider_id")]
        operations: list[Json] = []
        usable: list[tuple[Wanted, Json]] = []
        for disk in disks:
            if role_of(disk) == self.role:
                operations += self._use_ours(disk, usable)
            elif not role_of(disk):
                operations += self._make(disk, usable)
        task = self._launch(offer, resources, usable)
        return [*operations, *task]

    def _use_ours(self, disk: Json, usable: list[tuple[Wanted, Json]]) -> list[Json]:
        persistence_id = persistence_of(disk)
        if not persistence_id:
            return self._finish_or_free(disk, usable)
        volume = self.volumes.get(persistence_id)
        if volume is None:
            self.memory.report(persistence_id, f"{self.name} is offered a volume that it never asked for")
            return []
        if volume.task:
            # Mesos offers no volume that is in use, so the task is gone, whatever we heard of it.
            self._end_task(volume.task)
        self._judge_asked(volume)
        worn_out = volume.tasks_run >= volume.lifetime and not self._settling
        if volume.stage is Stage.DOOMED or worn_out:
            volume.stage = Stage.DOOMED
            return self._destroy(disk)
        if not self._settling or not self.memory.is_verified(volume.id, self._round):
            usable.append((volume, disk))
        return []

    def _finish_or_free(self, disk: Json, usable: list[tuple[Wanted, Json]]) -> list[Json]:
        """Space that we reserved and that is no volume: the CREATE never came, or the volume is destroyed."""
        volume = self.volumes.get(_label_of(disk))
        whole = volume is not None and disk["scalar"]["value"] == volume.size_mb
        if volume is not None and whole and volume.stage is Stage.ASKED and not self._settling:
            persistent = self._persistent(disk, volume)
            usable.append((volume, persistent))
            return [self._create(volume, persistent)]
        return [self._operation("UNRESERVE", "resources", [disk])]

    def _make(self, pool: Json, usable: list[tuple[Wanted, Json]]) -> list[Json]:
        source = pool["disk"]["source"]
        active = sum(volume.stage is not Stage.DOOMED for volume in self.volumes.values())
        size = self._chance.choice(_SIZES_MB)
        wrong = source["type"] != "PATH" or source.get("profile") != PROFILE or pool["scalar"]["value"] < size
        if wrong or self._settling or active >= _VOLUMES:
            return []
        self._numbers["volumes"] += 1
        name = f"{self.name}#data#{self._numbers['volumes']}"
        volume = self.volumes[name] = Wanted(name, size, self._chance.randint(1, 8), self._clock())
        labels = {"labels": [{"key": VOLUME_LABEL, "value": name}]}
        reservation = {"type": "DYNAMIC", "role": self.role, "principal": self.name, "labels": labels}
        reserved = {**pool, "scalar": {"value": float(size)}, "reservations": [reservation]}
        operations = [self._operation("RESERVE", "resources", [reserved])]
        if self._chance.random() < 0.2:
            return operations  # the CREATE follows when the reservation is offered
        persistent = self._persistent(reserved, volume)
        operations.append(self._create(volume, persistent))
        if self._chance.random() < 0.6:
            usable.append((volume, persistent))
        return operations

    def _persistent(self, disk: Json, volume: Wanted) -> Json:
        mapping = {"mode": "RW", "container_path": f"data-{volume.id.rpartition('#')[2]}"}
        persistence = {"id": volume.id, "principal": self.name}
        return {**disk, "disk": {**disk["disk"], "persistence": persistence, "volume": mapping}}

    def _create(self, volume: Wanted, persistent: Json) -> Json:
        volume.asked = self._clock()
        operation = self._operation("CREATE", "volumes", [persistent])
        if "id" in operation:
            self._creating[operation["id"]["value"]] = volume.id
        return operation

    def _destroy(self, disk: Json) -> list[Json]:
        plain = {**disk, "disk": {"source": disk["disk"]["source"]}}
        destroy = self._operation("DESTROY", "volumes", [disk])
        if self._chance.random() < 0.2:
            return [destroy]  # the space is freed when it is offered
        return [destroy, self._operation("UNRESERVE", "resources", [plain])]

    def _operation(self, kind: str, what: str, resources: Sequence[Json]) -> Json:
        operation: Json = {"type": kind, kind.lower(): {what: list(resources)}}
        if self._identify:
            self._numbers["operations"] += 1
            operation["id"] = {"value": f"{self.name}-{self._numbers['operations']}"}
        return operation

    def _launch(self, offer: Json, resources: list[Json], usable: list[tuple[Wanted, Json]]) -> list[Json]:
        """One task on all volumes of the offer that may be used, if the rest of the offer is enough."""
        plain = _take(resources, _TASK)
        if not usable or plain is None or (not self._settling and self._chance.random() < 0.1):
            return []
        self._numbers["tasks"] += 1
        name = f"{self.name}.{self._numbers['tasks']}"
        task = {
            "name": name,
            "task_id": {"value": name},
            "agent_id": offer["agent_id"],
            "resources": [*plain, *(disk for _, disk in usable)],
            "command": self._command(name, usable),
        }
        self._tasks[name] = _Task(offer["agent_id"], [volume for volume, _ in usable])
        for volume, _ in usable:
            volume.task = name
            volume.tasks_run += not self._settling
        return [{"type": "LAUNCH", "launch": {"task_infos": [task]}}]

    def _command(self, task: str, usable: list[tuple[Wanted, Json]]) -> Json:
        writes, pause = (0, 0.0) if self._settling else (self._chance.randint(1, 5), self._chance.uniform(0.0, 0.5))
        volumes = [f"{volume.id}={disk['disk']['volume']['container_path']}" for volume, disk in usable]
        arguments = [str(self.memory.directory), str(self._round), str(writes), f"{pause:.2f}", task, *volumes]
        program = [sys.executable, "-I", "-S", str(_WRITER), *arguments]
        return {"shell": False, "value": program[0], "arguments": program}

    def _end_task(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        for volume in task.volumes if task is not None else ():
            if volume.task == name:
                volume.task = ""
            self._judge_asked(volume)

    def _judge_asked(self, volume: Wanted) -> None:
        """Rely on a volume that was used; give one up that does not come, so that it is destroyed if it still does."""
        if volume.stage is not Stage.ASKED:
            return
        if self.memory.was_used(volume.id):
            volume.stage = Stage.REAL
        elif self._clock() > volume.asked + _GIVE_UP_SECONDS and not volume.task:
            volume.stage = Stage.DOOMED

    def _note_real(self, volume: Wanted) -> None:
        if volume.stage is Stage.ASKED:
            volume.stage = Stage.REAL


def _label_of(disk: Json) -> str:
    labels = disk["reservations"][-1].get("labels", {}).get("labels", [])
    return next((str(label["value"]) for label in labels if label["key"] == VOLUME_LABEL), "")


def _take(resources: list[Json], wanted: dict[str, float]) -> list[Json] | None:
    """So much of the offer's unreserved CPU and memory; None where it has not that much in one piece."""
    taken = []
    for name, amount in wanted.items():
        fitting = [
            resource
            for resource in resources
            if resource["name"] == name and not resource.get("reservations") and resource["scalar"]["value"] >= amount
        ]
        if not fitting:
            return None
        taken.append({**fitting[0], "scalar": {"value": amount}})
    return taken
