"""A world in memory around the real scheduler half: one platform, some hosts, and crashes at any fault point.

The ledger's file, the platform and the hosts stay; everything else of the scheduler half is built anew after a crash.
Nothing runs by itself: a test makes every step, so that the same steps always give the same world.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import Mock

from polly_mesos import faults
from polly_mesos.agent_api import Application, Assignment, Verdict
from polly_mesos.api import agent as routes
from polly_mesos.config import AgentSettings, Configuration
from polly_mesos.config.configuration import Service
from polly_mesos.config.settings import CheckSettings, HttpSettings, LedgerSettings, MesosSettings, PlannerSettings
from polly_mesos.config.settings import Fencing as Policy
from polly_mesos.errors import NotFound, PollyError, SchedulerUnreachable
from polly_mesos.ledger import Ledger
from polly_mesos.ledger.check import check
from polly_mesos.mesos.resources import owner_of, volume_path
from polly_mesos.model import (
    MB,
    Agent,
    Json,
    OperationState,
    Profile,
    Publication,
    Severity,
    Volume,
    VolumeState,
)
from polly_mesos.scheduler.admission import Admission
from polly_mesos.scheduler.advertisement import assignment_of, resources_of
from polly_mesos.scheduler.arrivals import Arrivals
from polly_mesos.scheduler.board import Board
from polly_mesos.scheduler.controller import VolumeController
from polly_mesos.scheduler.disks import volume_disk
from polly_mesos.scheduler.evacuation import Evacuation
from polly_mesos.scheduler.fencing import Fencing
from polly_mesos.scheduler.hosts import HostViews
from polly_mesos.scheduler.placement import AgentFacts
from polly_mesos.scheduler.planning import Planning
from polly_mesos.scheduler.presence import Presence
from polly_mesos.scheduler.publications import Publications
from polly_mesos.scheduler.roster import Roster
from polly_mesos.scheduler.services import Services
from polly_mesos.testing.platform import DRIVER, Platform, PlatformSettings
from tests.faults.host import Disk, Host, Mount

T = TypeVar("T")

CLUSTER = "test"
CAPACITY = 64 * MB
GOLD = Profile(name="gold", service="rack")
_ROOT = "/polly"
_ROUNDS = 80
"""Rounds in which everything must have come to rest, however long the platform's lags are."""


class Crash(BaseException):
    """The scheduler half's process is gone."""


class Scheduler:
    """One process of the scheduler half, without its threads: what a crash takes with it."""

    def __init__(self, world: World) -> None:
        self._world = world
        configuration = world.configuration
        self.ledger = Ledger.open(world.path, CLUSTER)
        self.profiles = configuration.profiles
        self.services = Services(configuration)
        self.board = Board()
        self.hosts = HostViews()
        self.roster = Roster()
        self.looks: dict[str, None] = {}
        """Volumes that the volume controller was told to look at, in order."""
        self.controller = VolumeController(self.ledger, self.services, cluster=CLUSTER)
        self.controller.look_at = self.look_at  # type: ignore[method-assign]
        self.planning = Planning(
            self.ledger, configuration.planner, self.profiles, self.services.pools, lambda agents: None
        )
        self.admission = Admission(self.ledger, self.profiles, shared=False, on_volume=self.look_at)
        self.publications = Publications(self.ledger, self.profiles, self.look_at)
        self.arrivals = Arrivals(
            self.ledger, self.roster, self.hosts, changed=self.board.changed, plan=self.planning.look
        )
        self.presence = Presence(self.ledger, self.roster, patience=0.0)
        self.fencing = Fencing(self.ledger, self.services, self.look_at, patience=0.0)
        self.evacuation = Evacuation(self.ledger, self.profiles, set, self.fencing.fenced_services)
        self.controller.resume()

    def look_at(self, volume: str) -> None:
        """What the volume controller's queue would keep."""
        self.looks[volume] = None

    def agent(self, agent_id: str) -> Agent:
        """The agent whose executor shows its token."""
        return self.ledger.agent(agent_id)

    def judge(self, body: Json, agent_id: str) -> Json:
        """POST /agent/v1/operations."""
        request: Any = SimpleNamespace(app=SimpleNamespace(state=SimpleNamespace(metrics=Mock())))
        half: Any = self
        return routes.operations(body, self.agent(agent_id), half, request)

    def acknowledged(self, operation: str, agent_id: str) -> None:
        """POST /agent/v1/operations/ID/acknowledged."""
        half: Any = self
        routes.acknowledged(operation, self.agent(agent_id), half)

    def assignment(self, host: Host) -> Assignment:
        """What the agent API answers a long poll with."""
        agent = self.agent(host.agent)
        held = self.hosts.generations(host.agent)
        return assignment_of(self.ledger, agent, self.profiles, self.board.version(agent.id), None, held)


class World:
    """Everything. ``violations`` are what must never happen, in words.

    :param create_steps: see :class:`~polly_mesos.testing.platform.Platform`, as ``list_lag`` and ``seed``
    :param leases: whether the pool is divided between the agents already
    """

    def __init__(
        self, *, hosts: int = 3, create_steps: int = 0, list_lag: int = 0, seed: int = 0, leases: bool = True
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="polly-world-"))
        self.path = self.directory / "ledger.db"
        self.path.write_bytes(_new_ledger())
        self.platform = Platform.named(
            str(self.directory), capacity=CAPACITY, create_steps=create_steps, list_lag=list_lag, seed=seed
        )
        self.configuration = _configuration(self.path, str(self.directory))
        self.disks: dict[str, Disk] = {}
        self.data: dict[str, str] = {}
        self.owned: dict[str, str] = {}
        """Volume -> operation by which a framework made it, and has not destroyed it since."""
        self._doomed: dict[str, str] = {}
        self._destroyed: set[str] = set()
        self.violations: list[str] = []
        self.crashes = 0
        self.armed = ""
        """The fault point at which the next crash is to happen."""
        self._numbers = itertools.count(1)
        self._armed = contextlib.ExitStack()
        self.hosts = [Host(self, f"agent-{number}", f"10.0.0.{number}:5051") for number in range(1, hosts + 1)]
        self.scheduler = Scheduler(self)
        for host in self.hosts:
            self._introduce(host)
        for pool in self.scheduler.services.pools():
            self.scheduler.ledger.set_pool(pool)
        for _ in range(3 * leases):
            self.scheduler.planning.once()

    def _introduce(self, host: Host) -> None:
        """The agent gets its executor, which says who its host is."""
        facts = AgentFacts(host.agent, host.node, host.node, {})

        def add(half: Scheduler) -> None:
            half.roster.add(host.agent, host.node)
            half.presence.remember(facts, _ROOT)

        self.run(add)
        host.report()

    def close(self) -> None:
        """Leave nothing behind."""
        self.disarm()
        self.scheduler.ledger.close()
        Platform.forget(str(self.directory))
        shutil.rmtree(self.directory)

    def number(self) -> int:
        """A new one each time."""
        return next(self._numbers)

    def expect(self, condition: bool, otherwise: str) -> None:
        """Note what must never happen."""
        if not condition:
            self.violations.append(otherwise)

    # Crashes ----------------------------------------------------------------------------------------------------

    def arm(self, name: str, passes: int = 1) -> faults.Fault:
        """Let the scheduler half crash when it comes to a fault point for the n-th time; one at a time."""
        self.disarm()
        self.armed = name
        left = itertools.count(passes, -1)

        def act() -> None:
            if next(left) == 1:
                self.armed = ""
                raise Crash(name)

        return self._armed.enter_context(faults.armed(name, act))

    def disarm(self) -> None:
        """Let no more crashes happen."""
        self.armed = ""
        self._armed.close()

    def request(self, call: Callable[[Scheduler], T]) -> T:
        """A request to the scheduler half, from outside.

        :raises SchedulerUnreachable: it crashed before it answered
        """
        try:
            return call(self.scheduler)
        except Crash as crash:
            self.restart()
            raise SchedulerUnreachable(f"crashed at {crash}") from None

    def run(self, call: Callable[[Scheduler], object]) -> None:
        """Work that the scheduler half does by itself."""
        try:
            call(self.scheduler)
        except Crash:
            self.restart()
        except PollyError:
            pass  # Its loops log this, and come again.

    def restart(self) -> None:
        """The process is gone; another one begins with what is in the ledger's file."""
        self.crashes += 1
        self.scheduler.ledger.close()
        self.scheduler = Scheduler(self)
        for host in self.hosts:
            if host.is_there:
                self.scheduler.roster.add(host.agent, host.node)

    def notice(self) -> None:
        """The master says which agents it has, and which it does not reach any more."""
        for host in self.hosts:
            facts = AgentFacts(host.agent, host.node, host.node, {})
            if host.is_there:
                self.run(lambda half, facts=facts: half.presence.found(facts))
                try:
                    self.scheduler.agent(host.agent)
                except NotFound:
                    self._introduce(host)
            else:
                self.run(lambda half, facts=facts: half.presence.lost(facts.id))

    def come_back_as_another_agent(self, host: Host) -> None:
        """The agent on a host has lost its id; the master will never hear the old one again."""
        old = host.agent
        host.become(f"{old}-again-{self.number()}")
        self.run(lambda half: half.presence.gone(old))
        self._introduce(host)

    def step(self, volume: str) -> None:
        """The volume controller looks at one volume, if it was told to."""
        if volume not in self.scheduler.looks:
            return
        del self.scheduler.looks[volume]
        try:
            if self.scheduler.controller.step(volume) is not None:
                self.scheduler.look_at(volume)
        except Crash:
            self.restart()

    # What frameworks do -----------------------------------------------------------------------------------------

    def offered(self, host: Host) -> Sequence[Json]:
        """The disks that the host's provider advertises."""
        with contextlib.suppress(NotFound):
            return resources_of(self.scheduler.ledger, self.scheduler.agent(host.agent), self.scheduler.profiles)
        return []

    def asked(self, host: Host, application: Application) -> None:
        """A framework asks for an operation: what it wants destroyed is not its own any more."""
        if application.info["type"] == "DESTROY":
            (disk,) = application.info["destroy"]["volumes"]
            name = disk["disk"]["persistence"]["id"]
            volume = self.scheduler.ledger.find_volume(host.agent, owner_of(disk), name)
            if volume is not None:
                self.owned.pop(volume.id, "")
                self._doomed[application.id] = volume.id

    def judged(self, application: Application, verdict: Verdict) -> None:
        """A framework has the outcome of its operation."""
        doomed = self._doomed.pop(application.id, "")
        finished = verdict.state == "OPERATION_FINISHED"
        if finished and application.info["type"] == "CREATE":
            for volume in self.scheduler.ledger.operation(application.id).outcome["volumes"]:
                # The answer may come late, when the volume was offered elsewhere and destroyed there.
                if volume not in self._destroyed and volume not in self._doomed.values():
                    self.owned[volume] = application.id
        elif finished and doomed:
            self._destroyed.add(doomed)
        elif doomed and doomed not in self._destroyed and doomed not in self._doomed.values():
            self.owned[doomed] = application.id

    def task_reads(self, mount: Mount) -> None:
        """A task begins, and finds what the last one wrote."""
        found = self.disks[mount.platform_id].data
        self.expect(found == self.data.get(mount.volume, ""), f"a task found other data on {mount.volume}: {found!r}")

    def task_writes(self, host: Host, mount: Mount) -> None:
        """A task writes something that nobody wrote before."""
        if mount.cut or not host.alive:
            return
        attached = self.platform.is_attached(mount.platform_id, host.node)
        self.expect(attached, f"a task on {host.node} writes to {mount.volume}, which was taken from it")
        self.disks[mount.platform_id].data = self.data[mount.volume] = f"written-{self.number()}"

    def place_of(self, volume: str) -> str:
        """Where a volume's agent looks for it; empty where the ledger does not know it."""
        try:
            found = self.scheduler.ledger.volume(volume)
        except NotFound:
            return ""
        return self.place(self.disk_of(found)) if found.persistence_id else ""

    def disk_of(self, volume: Volume) -> Json:
        """The disk that a framework launches its task with."""
        return volume_disk(volume, GOLD, _ROOT)

    def place(self, disk: Json) -> str:
        """Where an agent looks for a persistent volume."""
        return volume_path(disk)

    # What must hold ---------------------------------------------------------------------------------------------

    def check_always(self) -> None:
        """What holds after every single step."""
        assert not self.violations, self.violations
        assert not self.platform.violations, self.platform.violations
        assert max(self.platform.made.values(), default=0) <= 1, self.platform.made
        ledger = self.scheduler.ledger
        known = {volume.id: volume for volume in ledger.volumes()}
        for volume in self.platform.volumes():
            assert volume.tags.volume in known, f"{volume.id} is on the platform and not in the ledger"
        for name, balance in ledger.balance().items():
            assert balance.free >= 0, f"pool {name} has promised too much: {balance}"
        assert sum(volume.size for volume in self.platform.volumes()) <= CAPACITY
        writers = [
            mount.volume for host in self.hosts for mount in host.mounts.values() if host.alive and not mount.cut
        ]
        assert len(writers) == len(set(writers)), f"a volume is in two writers' hands: {writers}"
        for volume_id in self.owned:
            volume = known.get(volume_id)
            assert volume is not None, f"volume {volume_id} is lost"
            assert volume.state in (VolumeState.CREATING, VolumeState.READY), volume

    def come_to_rest(self) -> int:
        """Let everything go on without further faults; how many rounds that took.

        Volumes that no task uses are let go of. Afterwards nothing is unfinished.
        """
        self.disarm()
        self.platform.heal()
        for host in self.hosts:
            host.reachable = True
        for rounds in range(1, _ROUNDS + 1):
            resting = self.go_on()
            self.check_always()
            if resting and not self.unfinished():
                return rounds
        raise AssertionError(f"after {_ROUNDS} rounds there is still {self.unfinished()}")

    def go_on(self) -> bool:
        """Everybody does once what there is to do; whether the hosts had nothing."""
        self.notice()
        resting = [host.settle() for host in self.hosts]
        self.run(lambda half: half.fencing.once())
        self.run(lambda half: half.evacuation.once())
        self.run(lambda half: half.planning.once())
        for volume in list(self.scheduler.looks):
            self.step(volume)
        self.platform.wait()
        return all(resting)

    def unfinished(self) -> list[str]:
        """What is still to be done, by the ledger."""
        ledger = self.scheduler.ledger
        left = [
            f"{operation.kind} of {operation.subject}" for operation in ledger.operations(state=OperationState.INTENT)
        ]
        left += [f"{v.id} is {v.state}: {v.error}" for v in ledger.volumes(states=_PASSING)]
        left += [f"{p.volume} is {p.state} on {p.host}" for p in ledger.publications() if not self._is_in_use(p)]
        left += [
            f"agent {host.agent} has unacknowledged"
            for host in self.hosts
            if host.is_there and ledger.unacknowledged(host.agent)
        ]
        return left

    def _is_in_use(self, publication: Publication) -> bool:
        return any(
            mount.volume == publication.volume and mount.tasks and not mount.cut
            for host in self.hosts
            if host.alive
            for mount in host.mounts.values()
        )

    def check_at_rest(self) -> None:
        """What holds once everything has come to rest: ledger, platform and hosts agree."""
        self.check_always()
        ledger = self.scheduler.ledger
        wanted = {volume.id: volume.platform_id for volume in ledger.volumes(states=_ON_PLATFORM)}
        found = {volume.tags.volume: volume.id for volume in self.platform.volumes(CLUSTER)}
        assert found == wanted, "the platform has other volumes than the ledger"
        assert set(self.owned) <= set(wanted)
        assert [finding for finding in check(ledger) if finding.severity is Severity.ERROR] == []
        published = {publication.volume: publication.host for publication in ledger.publications()}
        attached = {v.tags.volume: v.attached_to[0] for v in self.platform.volumes(CLUSTER) if v.attached_to}
        assert attached == published, "the platform has attached other volumes than the ledger has published"
        cut = [mount.volume for host in self.hosts if host.alive for mount in host.mounts.values() if mount.cut]
        assert cut == [], f"a host still has mounted what was taken from it: {cut}"
        for volume_id, written in self.data.items():
            if volume_id in self.owned:
                assert self.disks[wanted[volume_id]].data == written, f"the data of {volume_id} is lost"

    def volumes_in_reach(self) -> list[tuple[Host, Volume]]:
        """Volumes of frameworks on agents that can start tasks."""
        by_agent = {host.agent: host for host in self.hosts if host.is_there}
        volumes = self.scheduler.ledger.volumes(states={VolumeState.CREATING, VolumeState.READY})
        return [(by_agent[v.agent], v) for v in volumes if v.agent in by_agent and v.persistence_id]


_PASSING = {VolumeState.CREATING, VolumeState.DELETING}
_ON_PLATFORM = {VolumeState.READY, VolumeState.RELEASED}


def reserve(disk: Json, role: str, size_mb: int) -> Json:
    """RESERVE of a part of an unreserved disk."""
    reserved = _part(disk, size_mb)
    reserved["reservations"] = [*disk.get("reservations", []), {"type": "DYNAMIC", "role": role, "principal": "p"}]
    return {"type": "RESERVE", "reserve": {"resources": [reserved]}}


def create(disk: Json, name: str, size_mb: int) -> Json:
    """CREATE of a persistent volume on a part of a reserved disk."""
    made = _part(disk, size_mb)
    made["disk"] = {
        **disk["disk"],
        "persistence": {"id": name, "principal": "p"},
        "volume": {"mode": "RW", "container_path": "data"},
    }
    return {"type": "CREATE", "create": {"volumes": [made]}}


def destroy(disk: Json) -> Json:
    """DESTROY of a persistent volume."""
    return {"type": "DESTROY", "destroy": {"volumes": [disk]}}


def unreserve(disk: Json, size_mb: int) -> Json:
    """UNRESERVE of a part of a reserved disk."""
    return {"type": "UNRESERVE", "unreserve": {"resources": [_part(disk, size_mb)]}}


def _part(disk: Json, size_mb: int) -> Json:
    return {**disk, "scalar": {"value": min(float(size_mb), disk["scalar"]["value"])}}


def is_reserved(disk: Json) -> bool:
    """Whether somebody has it for himself."""
    return bool(disk.get("reservations"))


def is_volume(disk: Json) -> bool:
    """Whether it holds a persistent volume."""
    return "persistence" in disk["disk"]


@cache
def _new_ledger() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.db"
        Ledger.open(path, CLUSTER).close()
        return path.read_bytes()


def _configuration(path: Path, platform: str) -> Configuration:
    service = Service("rack", DRIVER, PlatformSettings(platform), CAPACITY, Policy.PLATFORM)
    return Configuration(
        path=path.with_name("polly.yml"),
        cluster=CLUSTER,
        mesos=MesosSettings(master="127.0.0.1:5050"),
        http=HttpSettings(),
        ledger=LedgerSettings(path=path),
        agents=AgentSettings(),
        services={"rack": service},
        profiles={"gold": GOLD},
        planner=PlannerSettings(),
        check=CheckSettings(),
        capacities={"gold": CAPACITY},
    )
