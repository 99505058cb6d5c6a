"""A small cluster whose four witnesses agree, until a test makes one of them say something else."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from drivers.base import ControllerDriver, CreateRequest, PlatformVolume, Tags
from drivers.directory.controller import DirectoryController
from drivers.directory.settings import DirectorySettings
from polly_mesos.agent_api import HostReport
from polly_mesos.audit.auditing import Audit
from polly_mesos.audit.findings import Finding
from polly_mesos.audit.gathering import Gathering, Hosts
from polly_mesos.audit.repair import Repair, Repaired
from polly_mesos.errors import MasterUnreachable
from polly_mesos.ledger import CreateVolume, Ledger, Reserve
from polly_mesos.mesos.master_client import AgentRoll, RegisteredAgent, RegisteredProvider
from polly_mesos.model import (
    MB,
    Agent,
    AgentState,
    Filesystem,
    FormatState,
    HostIdentity,
    Json,
    LeaseChange,
    Operation,
    OperationState,
    Pool,
    Profile,
    Provider,
    PublicationState,
    Volume,
    VolumeKind,
    VolumeState,
)
from polly_mesos.scheduler.advertisement import resources_of
from polly_mesos.scheduler.hosts import HostViews

GOLD = Profile("gold", "local", filesystem=Filesystem.NONE)
OWNER = '[{"role":"eng","type":"DYNAMIC"}]'
SIZE = 64 * MB


class Master:
    """The master's operator API: what it is told to say."""

    def __init__(self) -> None:
        self.agents: dict[str, RegisteredAgent] = {}
        self.awaited: frozenset[str] = frozenset()
        self.away = False

    def roll(self) -> AgentRoll:
        if self.away:
            raise MasterUnreachable("nobody leads")
        return AgentRoll(tuple(self.agents.values()), self.awaited)

    def close(self) -> None:
        """Nothing is open."""


class Cluster:
    """Two agents, one directory as their platform, and a volume that a task on a1 uses."""

    def __init__(self, ledger: Ledger, directory: Path) -> None:
        self.now = 1_000_000.0
        self.ledger = ledger
        self.directory = directory
        self.platform = DirectoryController(DirectorySettings(str(directory)), "test")
        self.drivers: dict[str, ControllerDriver] = {"local": self.platform}
        self.master = Master()
        self.views = HostViews(clock=lambda: self.now)
        self.reports: dict[str, HostReport] = {}
        self.told: list[str] = []
        self.looked_at: list[str] = []
        self.pauses: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None
        gathering = Gathering(
            ledger,
            self,
            {"gold": GOLD},
            provider_type="org.polly.mesos",
            master=lambda: self.master,  # type: ignore[arg-type,return-value]
            hosts=Hosts(self.views, self.ask, patience=0.0),
            clock=lambda: self.now,
        )
        self.gathering = gathering
        self.audit = Audit(gathering, settle=2.0, sleep=self.sleep, clock=lambda: self.now)
        self.repair = Repair(ledger, self.looked_at.append, self.told.extend)

    # The services, as a gathering sees them

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.drivers)

    def controller(self, service: str) -> ControllerDriver:
        return self.drivers[service]

    # Making it

    def furnish(self) -> None:
        self.ledger.set_pool(Pool("gold", "gold", "local", "", 10_000 * MB))
        for name in ("a1", "a2"):
            self.ledger.put_agent(
                Agent(
                    name,
                    f"{name}.example",
                    f"{name}.example:5051",
                    AgentState.CONNECTED,
                    identities={"local": HostIdentity(f"{name}.example:5051")},
                    volume_root="/polly",
                    seen=self.now,
                )
            )
            self.ledger.set_provider(Provider(name, f"provider-{name}", "org.polly.mesos", "test"))
            self.ledger.apply_leases([LeaseChange("gold", name, 0, 1000 * MB)])

    def volume(self, name: str = "data", agent: str = "a1") -> Volume:
        """A volume that its framework made and its platform has."""
        self._admit(Reserve("gold", agent, "", OWNER, SIZE), agent)
        wanted = Volume(
            str(uuid.uuid4()),
            "gold",
            "gold",
            "local",
            VolumeKind.PATH,
            SIZE,
            VolumeState.CREATING,
            agent=agent,
            owner=OWNER,
            persistence_id=name,
            persistence={"persistence": {"id": name, "principal": "p"}},
        )
        self._admit(CreateVolume(wanted), agent)
        made = self.platform_volume(wanted.id)
        return self.ledger.volume_created(wanted.id, made.id)

    def _admit(self, change: Reserve | CreateVolume, agent: str) -> None:
        operation = Operation(str(uuid.uuid4()), "mesos.ANY", agent, OperationState.INTENT, agent)
        self.ledger.acknowledge(self.ledger.admit(operation, change).id)

    def platform_volume(self, tag: str, token: str = "") -> PlatformVolume:
        """A volume on the platform with a volume's tag."""
        tags = Tags("test", tag, "gold")
        return self.platform.create(CreateRequest(token or tag, SIZE, tags, filesystem=Filesystem.NONE))

    def publish(self, volume: Volume) -> int:
        """Map a volume to its agent, as a task that starts there does; returns the generation."""
        host = HostIdentity(f"{volume.agent}.example:5051")
        publication = self.ledger.publish(volume.id, volume.agent, host.host)
        generation = publication.generation
        self.ledger.attached(volume.id, generation, self.platform.attach(volume.platform_id, host))
        if volume.format_state is FormatState.NEVER:
            self.ledger.formatting(volume.id, generation)
            self.ledger.formatted(volume.id, generation)
        self.ledger.published(volume.id, generation, "/dev/x", f"/polly/gold/{volume.persistence_id}")
        return generation

    def agree(self) -> None:
        """Have master and hosts say what the ledger says."""
        for agent in self.ledger.agents().values():
            held = self.ledger.publications(agent.id)
            self.reports[agent.id] = HostReport(
                agent.identities,
                mounted={one.volume: one.target for one in held if one.state is PublicationState.PUBLISHED},
                generations={one.volume: one.generation for one in held},
            )
            self.register(agent, resources_of(self.ledger, agent, {"gold": GOLD}))

    def register(self, agent: Agent, resources: Iterable[Json]) -> None:
        provider = self.ledger.provider(agent.id)
        known = (
            (RegisteredProvider(provider.id, provider.type, provider.name, tuple(resources)),)
            if provider is not None
            else ()
        )
        self.master.agents[agent.id] = RegisteredAgent(
            agent.id, agent.hostname, agent.endpoint, "slave(1)", True, {}, providers=known
        )

    # Saying something else

    def says(self, agent: str, **changes: object) -> None:
        """Have a host report something else."""
        self.reports[agent] = dataclasses.replace(self.reports[agent], **changes)  # type: ignore[arg-type]

    def state(self, agent: str, state: AgentState) -> None:
        self.ledger.put_agent(dataclasses.replace(self.ledger.agent(agent), state=state))
        if state in (AgentState.LOST, AgentState.FENCED):
            self.ledger.dissolve(agent)

    # Looking

    def ask(self, agents: Iterable[str]) -> None:
        for agent in agents:
            if agent in self.reports:
                self.views.put(agent, self.reports[agent])

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        self.meanwhile()

    def found(self) -> list[Finding]:
        return list(self.audit.run().findings)

    def codes(self) -> list[str]:
        return [finding.code for finding in self.found()]

    def repaired(self) -> list[Repaired]:
        return self.repair.apply(self.audit.run().findings)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    (tmp_path / "platform").mkdir()
    with Ledger.open(tmp_path / "ledger.db", "test") as ledger:
        made = Cluster(ledger, tmp_path / "platform")
        made.furnish()
        made.agree()
        yield made


@pytest.fixture
def volume(cluster: Cluster) -> Volume:
    """A volume that a task on a1 uses, of which all witnesses say the same."""
    made = cluster.volume()
    cluster.publish(made)
    cluster.agree()
    return cluster.ledger.volume(made.id)
