"""A simulated host: its disks, mounts and tasks are facts that no crash of the scheduler half changes.

It asks the scheduler half what the executor half asks, in the same order, and does on its disks what that would do.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from polly_mesos.agent_api import (
    Application,
    HostReport,
    Progress,
    PublishRequest,
    PublishState,
    PublishTarget,
    Verdict,
    decode,
    encode,
)
from polly_mesos.errors import Conflict, NotFound, PollyError, SchedulerUnreachable, StaleGeneration
from polly_mesos.model import FormatState, HostIdentity, Json

if TYPE_CHECKING:
    from tests.faults.world import Scheduler, World

T = TypeVar("T")


@dataclass
class Disk:
    """What is on one platform volume."""

    formatted_as: str = ""
    data: str = ""


@dataclass
class Mount:
    """A volume that is mounted, and who uses it.

    :ivar cut: whether the platform took the volume while the host stood still, so that every write fails
    """

    volume: str
    platform_id: str
    generation: int
    tasks: int = 0
    cut: bool = False


@dataclass
class Host:
    """One host with its Mesos agent.

    :ivar node: ``host:port``, which outlives the agent's id
    :ivar starting: place -> disk of tasks that wait for their volume
    :ivar held: volume -> generation: the record of holdings, which outlives the executor
    :ivar reachable: whether it and the scheduler half can talk
    :ivar alive: whether it runs at all
    """

    world: World
    agent: str
    node: str
    mounts: dict[str, Mount] = field(default_factory=dict)
    starting: dict[str, Json] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    pending: list[Application] = field(default_factory=list)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    unacknowledged: list[str] = field(default_factory=list)
    reachable: bool = True
    alive: bool = True

    @property
    def is_there(self) -> bool:
        """Whether it runs, and can be talked to."""
        return self.alive and self.reachable

    def ask(self, call: Callable[[Scheduler], T]) -> T:
        """A request to the scheduler half.

        :raises SchedulerUnreachable: it crashed before it answered, or there is no way to it
        """
        if not self.is_there:
            raise SchedulerUnreachable("cut off")
        return self.world.request(call)

    # Operations of frameworks -----------------------------------------------------------------------------------

    def apply(self, info: Json) -> None:
        """The agent passes an operation on."""
        application = Application(str(uuid.UUID(int=self.world.number(), version=4)), info, "framework-1")
        self.world.asked(self, application)
        self.pending.append(application)
        self.judge()

    def judge(self) -> None:
        """Ask for every verdict that has not come yet, then acknowledge what has."""
        while self.pending:
            application = self.pending[0]
            body = encode(application)
            try:
                answer = self.ask(lambda half, body=body: half.judge(body, self.agent))
            except SchedulerUnreachable:
                return
            verdict = decode(Verdict, answer)
            self.pending.pop(0)
            self.verdicts[application.id] = verdict
            self.unacknowledged.append(application.id)
            self.world.judged(application, verdict)
        while self.unacknowledged:
            operation = self.unacknowledged[0]
            try:
                self.ask(lambda half, operation=operation: half.acknowledged(operation, self.agent))
            except SchedulerUnreachable:
                return
            except NotFound:
                pass  # Mesos gave the agent another id, and with it nobody waits for that any more.
            self.unacknowledged.pop(0)

    # Tasks ------------------------------------------------------------------------------------------------------

    def start_task(self, place: str, disk: Json) -> None:
        """A task is launched that uses a volume."""
        self.starting[place] = disk
        self.publish()

    def end_task(self, place: str) -> None:
        """The last task that uses a volume ends; it is still mounted."""
        self.starting.pop(place, None)
        if place in self.mounts:
            self.mounts[place].tasks = 0

    def uses(self, place: str) -> bool:
        """Whether a task uses what is there, or waits for it."""
        return place in self.starting or (place in self.mounts and self.mounts[place].tasks > 0)

    def publish(self) -> None:
        """Try once to bring each awaited volume to its place."""
        for place, disk in list(self.starting.items()):
            try:
                self._publish(place, disk)
            except (SchedulerUnreachable, StaleGeneration):
                continue

    def _publish(self, place: str, disk: Json) -> None:
        request = PublishRequest((disk,))
        answer = self.ask(lambda half: half.publications.answer(request, half.agent(self.agent)))
        (target,) = answer.targets
        if target.state is PublishState.REFUSED:
            del self.starting[place]
        elif target.state is PublishState.READY:
            self.world.expect(target.target == place, f"{target.volume} would be mounted at {target.target}")
            self._clear(target)
            self._map(target)
            del self.starting[place]
            self.mounts[place].tasks += 1
            self.world.task_reads(self.mounts[place])

    def _clear(self, target: PublishTarget) -> None:
        """Let go of what an earlier publication left in the way, as the executor's Mapper does."""
        if self.held.get(target.volume, target.generation) != target.generation:
            self._let_go(target.volume)
        there = self.mounts.get(target.target)
        if there is not None and there.volume != target.volume:
            self._let_go(there.volume)

    def _map(self, target: PublishTarget) -> None:
        platform_id = str(target.attachment["volume"])
        self.held[target.volume] = target.generation
        attached = self.world.platform.is_attached(platform_id, self.node)
        self.world.expect(attached, f"{target.volume} is said to be on {self.node} and is not")
        if target.target not in self.mounts:
            self._format(target, self.world.disks.setdefault(platform_id, Disk()))
            self.mounts[target.target] = Mount(target.volume, platform_id, target.generation)
            self.world.platform.busy.add((platform_id, self.node))
        self._step(target.volume, "published", target.generation)

    def _format(self, target: PublishTarget, disk: Disk) -> None:
        if target.format_state is FormatState.FORMATTED:
            self.world.expect(disk.formatted_as == target.volume, f"the data of {target.volume} is lost")
            return
        if target.format_state is FormatState.NEVER:
            self.world.expect(not disk.formatted_as, f"{target.volume} was formatted without an intent")
            self._step(target.volume, "formatting", target.generation)
        if not disk.formatted_as:
            self.world.expect(not disk.data, f"{target.volume} is formatted over its data")
            disk.formatted_as = target.volume
        self._step(target.volume, "formatted", target.generation)

    def _step(self, volume: str, step: str, generation: int) -> None:
        progress = Progress(generation)
        self.ask(lambda half: half.publications.progress(volume, step, progress, half.agent(self.agent)))

    # Letting go -------------------------------------------------------------------------------------------------

    def report(self) -> None:
        """Say who this host is, and what it holds; the first thing after a start."""
        mounted = {mount.volume: place for place, mount in self.mounts.items()}
        report = HostReport({"rack": HostIdentity(self.node)}, {}, mounted, dict(self.held))
        try:
            self.ask(lambda half: half.arrivals.report(self.agent, report))
        except (SchedulerUnreachable, NotFound):
            pass

    def look(self, *, idle: bool) -> None:
        """Let go of what the scheduler half wants back and, where the grace time is over, of what is ``idle``."""
        try:
            assignment = self.ask(lambda half: half.assignment(self))
        except (SchedulerUnreachable, NotFound):
            return
        for verdict in assignment.operations:
            if verdict.id not in self.unacknowledged:
                self.unacknowledged.append(verdict.id)
        for volume, over in assignment.stop.items():
            if self.held.get(volume, over + 1) <= over:
                self._kill_tasks(volume)
                self._try_to_let_go(volume)
        believed = {**assignment.keep, **assignment.revoke}
        for volume in sorted({*self.held, *believed}):
            generation = self.held.get(volume, believed.get(volume, 0))
            if self._is_used(volume):
                continue
            wanted_back = assignment.keep.get(volume, generation + 1) > generation
            if idle or wanted_back:
                self._try_to_let_go(volume, generation)

    def _is_used(self, volume: str) -> bool:
        if any(mount.volume == volume and mount.tasks for mount in self.mounts.values()):
            return True
        return any(self.world.place_of(volume) == place for place in self.starting)

    def _kill_tasks(self, volume: str) -> None:
        for place, mount in self.mounts.items():
            if mount.volume == volume:
                self.end_task(place)

    def _try_to_let_go(self, volume: str, generation: int = 0) -> None:
        try:
            self._let_go(volume, generation)
        except SchedulerUnreachable:
            pass

    def _let_go(self, volume: str, generation: int = 0) -> None:
        for place, mount in list(self.mounts.items()):
            if mount.volume == volume:
                del self.mounts[place]
                self.world.platform.busy.discard((mount.platform_id, self.node))
        try:
            self._step(volume, "unpublished", self.held.get(volume, generation))
        except (Conflict, NotFound):
            pass
        self.held.pop(volume, None)

    # What befalls hosts -----------------------------------------------------------------------------------------

    def die(self) -> None:
        """The power fails: tasks and mounts are gone, the records of holdings are not."""
        self.suspend()
        self._end_all_tasks()
        for mount in self.mounts.values():
            self.world.platform.busy.discard((mount.platform_id, self.node))
        self.mounts.clear()

    def suspend(self) -> None:
        """The machine is stopped as it is; it may go on later and know nothing of that."""
        self.alive = False
        self.world.platform.stopped.add(self.node)

    def resume(self) -> None:
        """It runs again. What the platform took meanwhile is still mounted, and cannot be written to."""
        self.alive = True
        self.world.platform.stopped.discard(self.node)
        for mount in self.mounts.values():
            mount.cut = not self.world.platform.is_attached(mount.platform_id, self.node)

    def become(self, agent: str) -> None:
        """The Mesos agent has lost its work directory: it begins as another one, without tasks and operations."""
        self._end_all_tasks()
        self.agent = agent

    def _end_all_tasks(self) -> None:
        self.pending.clear()
        self.unacknowledged.clear()
        self.starting.clear()
        for mount in self.mounts.values():
            mount.tasks = 0

    def settle(self) -> bool:
        """Do everything that can be done; whether there was nothing left to do."""
        if not self.is_there:
            return True
        try:
            self.report()
            self.judge()
            self.publish()
            self.look(idle=True)
        except PollyError as error:
            self.world.expect(False, f"host {self.node}: {error}")
        return not (self.pending or self.unacknowledged or self.starting)
