"""A cluster whose ledger can be lost: two agents, the directory driver and a scheduler half, without Mesos."""

from __future__ import annotations

import dataclasses
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polly_mesos.agent_api import Application
from polly_mesos.config import Configuration, load
from polly_mesos.ledger import Ledger
from polly_mesos.ledger.check import check
from polly_mesos.model import (
    MB,
    Agent,
    AgentState,
    HostIdentity,
    Json,
    LeaseChange,
    Provider,
    PublicationState,
    Volume,
    VolumeState,
)
from polly_mesos.scheduler.advertisement import resources_of
from polly_mesos.scheduler.disks import disk, source_of
from polly_mesos.scheduler.half import PROVIDER_TYPE, SchedulerHalf
from polly_mesos.scheduler.rebuild import Rebuilt, rebuild
from polly_mesos.scheduler.rebuild_evidence import AgentWord, Evidence, list_volumes
from polly_mesos.scheduler.services import Services

CONFIGURATION = """
cluster: test
mesos: {{master: "127.0.0.1:1"}}
ledger: {{path: {directory}/ledger.db}}
agents: {{volume_root: "{directory}/volumes/{{port}}"}}
services:
  local: {{driver: directory, directory: {directory}/platform, capacity: 4GiB}}
profiles:
  gold: {{service: local, minimum_size: 16MiB, reclaim: {reclaim}}}
"""
FRAMEWORK = "framework-of-polly"
LABELS = {"labels": [{"key": "marathon_task_id", "value": "db.1"}, {"key": "app", "value": "db"}]}
RESERVATION = {"type": "DYNAMIC", "role": "marathon", "principal": "marathon", "labels": LABELS}


class Cluster:
    """Two agents and their ledger, as Polly works on them, without Mesos and without hosts."""

    def __init__(self, directory: Path, reclaim: str = "delete") -> None:
        (directory / "platform").mkdir()
        file = directory / "polly.yml"
        file.write_text(CONFIGURATION.format(directory=directory, reclaim=reclaim))
        self.configuration: Configuration = load(file)
        self.half = self.start()
        for number in (1, 2):
            endpoint = f"127.0.0.1:505{number}"
            root = self.configuration.agents.root_on("host", 5050 + number)
            agent = Agent(f"a{number}", f"host{number}", endpoint, AgentState.CONNECTED, volume_root=root)
            self.ledger.put_agent(
                dataclasses.replace(agent, attributes={"rack": "7"}, identities={"local": HostIdentity(endpoint)})
            )
            self.ledger.set_provider(Provider(agent.id, f"provider-{number}", PROVIDER_TYPE, "test"))
        self.ledger.set_framework_id(FRAMEWORK)

    @property
    def ledger(self) -> Ledger:
        return self.half.ledger

    def start(self) -> SchedulerHalf:
        """A scheduler half at work, with its pool learnt."""
        half = SchedulerHalf(self.configuration)
        half.start()
        until(lambda: "gold" in half.ledger.pools())
        return half

    def apply(self, agent: str, kind: str, body: Json) -> list[Json]:
        application = Application(str(uuid.uuid4()), {"type": kind, kind.lower(): body}, "marathon-1")
        verdict = self.half.admission.apply(application, self.ledger.agent(agent))
        assert verdict.state == "OPERATION_FINISHED", verdict.message
        self.ledger.acknowledge(application.id)
        return list(verdict.converted)

    def reserve(self, agent: str, size_mb: int) -> Json:
        leased = sum(lease.size for lease in self.ledger.leases(agent))
        if leased < size_mb * MB:
            assert self.ledger.apply_leases([LeaseChange("gold", agent, leased, size_mb * MB)])
        root = self.ledger.agent(agent).volume_root
        source = source_of(None, self.configuration.profiles["gold"], root, "")
        reserved = {**disk(source, size_mb * MB, ""), "reservations": [RESERVATION]}
        return self.apply(agent, "RESERVE", {"resources": [reserved]})[0]

    def create(self, agent: str, name: str, size_mb: int = 64) -> Volume:
        """A persistent volume as Marathon makes one, with its platform volume."""
        reserved = self.reserve(agent, size_mb)
        info = {"persistence": {"id": name, "principal": "marathon"}, "volume": {"mode": "RW", "container_path": "d"}}
        self.apply(agent, "CREATE", {"volumes": [{**reserved, "disk": {**reserved["disk"], **info}}]})
        (volume,) = [one for one in self.ledger.volumes(agent=agent) if one.persistence_id == name]
        until(lambda: self.ledger.volume(volume.id).state is VolumeState.READY)
        return self.ledger.volume(volume.id)

    def publish(self, volume: Volume) -> int:
        publication = self.ledger.publish(volume.id, volume.agent, self.ledger.agent(volume.agent).endpoint)
        self.half.controller.look_at(volume.id)
        until(lambda: self.publication(volume.id).state is PublicationState.ATTACHED)
        return publication.generation

    def unpublish(self, volume: Volume, generation: int) -> None:
        self.ledger.unpublished(volume.id, generation)
        self.half.controller.look_at(volume.id)
        until(lambda: self.ledger.publication(volume.id) is None)

    def publication(self, volume_id: str) -> Any:
        return self.ledger.publication(volume_id)

    def shown(self) -> dict[str, list[Json]]:
        """What each agent offers, leases left out: they are planned anew."""
        profiles = self.configuration.profiles
        everything = {agent.id: resources_of(self.ledger, agent, profiles) for agent in self.ledger.agents().values()}
        return {
            agent: [
                resource for resource in resources if "reservations" in resource or "id" in resource["disk"]["source"]
            ]
            for agent, resources in everything.items()
        }

    def evidence(self, **agents: Any) -> Evidence:
        """What platform and agents tell now; ``a1=None`` for an agent that does not tell, ``a1="gone"`` for none."""
        words = []
        for agent in self.ledger.agents().values():
            how = agents.get(agent.id, "tells")
            if how == "gone":
                continue
            totals = resources_of(self.ledger, agent, self.configuration.profiles)
            provider = f"provider-{agent.id[1:]}"
            word = AgentWord(agent.id, agent.hostname, agent.endpoint, dict(agent.attributes))
            if how is not None:
                offered = [{**resource, "provider_id": {"value": provider}} for resource in totals]
                word = dataclasses.replace(
                    word, provider=provider, resources=offered, frameworks=frozenset({FRAMEWORK})
                )
            else:
                word = dataclasses.replace(word, problem="no answer")
            words.append(word)
        services = Services(self.configuration)
        return Evidence(
            platforms={"local": list(list_volumes(services.controller("local")))},
            pools=services.pools(),
            agents=words,
            framework_id=FRAMEWORK,
        )

    def lose_ledger(self) -> None:
        """The scheduler half ends and its ledger is gone."""
        self.half.stop()
        for file in self.configuration.ledger.path.parent.glob("ledger.db*"):
            file.unlink()

    def rebuild(self, evidence: Evidence, **options: Any) -> Rebuilt:
        """Lose the ledger, rebuild it, and have a scheduler half go on with it."""
        self.lose_ledger()
        made = rebuild(self.configuration, ask=lambda *_: evidence, **options)
        with Ledger.open(self.configuration.ledger.path, "test", read_only=True) as ledger:
            assert check(ledger) == []
        self.half = self.start()
        return made


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10.0
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        pause.wait(0.005)
