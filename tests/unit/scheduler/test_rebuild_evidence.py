"""Who is asked when a ledger is rebuilt, and what is made of those who do not answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from polly_mesos.errors import AgentUnreachable, Conflict, MasterUnreachable
from polly_mesos.mesos.agent_client import SubscribedProvider
from polly_mesos.mesos.master_client import RegisteredAgent, RegisteredFramework, RegisteredProvider
from polly_mesos.model import Json
from polly_mesos.scheduler.half import PROVIDER_TYPE
from polly_mesos.scheduler.rebuild_evidence import Evidence, gather
from polly_mesos.scheduler.services import Services
from tests.unit.scheduler.lost_cluster import Cluster

DISK: Json = {"name": "disk", "type": "SCALAR", "scalar": {"value": 64.0}}
OURS: Json = {"executor_id": {"value": "polly"}, "source": "polly", "framework_id": {"value": "f1"}}


@dataclass
class Master:
    """A master with these frameworks, and agents a1 and a2."""

    frameworks_: list[RegisteredFramework] = field(default_factory=list)
    silent: bool = False

    def frameworks(self) -> list[RegisteredFramework]:
        if self.silent:
            raise MasterUnreachable("no master answers")
        return self.frameworks_

    def agents(self) -> list[RegisteredAgent]:
        known = RegisteredProvider("p1", PROVIDER_TYPE, "test", (DISK,))
        return [
            RegisteredAgent(f"a{number}", f"host{number}", f"h{number}:5051", "slave(1)", True, {}, providers=(known,))
            for number in (1, 2)
        ]

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Agent:
    """An agent, or None of what it would say where it is silent."""

    providers: list[SubscribedProvider]
    executors_: list[Json]
    silent: bool = False

    def resource_providers(self) -> list[SubscribedProvider]:
        if self.silent:
            raise AgentUnreachable("agent does not answer")
        return self.providers

    def executors(self) -> list[Json]:
        return self.executors_

    def close(self) -> None:
        """Nothing is open."""


def serving(*executors: Json) -> Agent:
    foreign = SubscribedProvider("p9", "org.example", "test", (DISK, DISK))
    return Agent([foreign, SubscribedProvider("p1", PROVIDER_TYPE, "test", (DISK,))], list(executors))


def framework(identity: str, *, connected: bool = False, name: str = "polly") -> RegisteredFramework:
    return RegisteredFramework(identity, name, active=connected, connected=connected)


def ask(cluster: Cluster, master: Master, first: Agent, second: Agent | None = None) -> Evidence:
    agents = {"h1:5051": first, "h2:5051": second or serving(OURS)}

    def agent(endpoint: str, *, process: str) -> Any:
        return agents[endpoint]

    services = Services(cluster.configuration)
    return gather(cluster.configuration, services, master=lambda _: master, agent=agent)  # type: ignore[arg-type, return-value]


def test_an_agent_tells_its_provider_and_whose_executor_serves_it(cluster: Cluster) -> None:
    made = cluster.create("a1", "db")
    evidence = ask(cluster, Master([framework("f1"), framework("f0"), framework("m", name="marathon")]), serving(OURS))
    word = evidence.agents[0]
    assert (word.provider, word.resources, word.launched, word.tells) == ("p1", (DISK,), True, True)
    assert evidence.framework_id == "f1", "of the two frameworks of our name, the one whose executors run"
    assert [volume.tags.volume for volume in evidence.platforms["local"]] == [made.id]
    assert [pool.name for pool in evidence.pools] == ["gold"]


def test_the_masters_word_is_taken_for_an_agent_that_does_not_answer(cluster: Cluster) -> None:
    silent = Agent([], [], silent=True)
    evidence = ask(cluster, Master([framework("f1")]), silent)
    word = evidence.agents[0]
    assert (word.provider, word.resources) == ("p1", (DISK,))
    assert "does not answer" in word.problem
    assert evidence.framework_id == "f1"


def test_a_provider_without_an_executor_of_mesos_was_started_by_hand(cluster: Cluster) -> None:
    assert not ask(cluster, Master(), serving()).agents[0].launched


def test_an_agent_without_our_provider_tells_nothing(cluster: Cluster) -> None:
    assert not ask(cluster, Master(), Agent([], [])).agents[0].tells


def test_of_several_frameworks_none_is_guessed(cluster: Cluster) -> None:
    evidence = ask(cluster, Master([framework("f1"), framework("f2")]), serving(), serving())
    assert evidence.framework_id == ""


def test_a_scheduler_half_that_lives_anywhere_forbids_it(cluster: Cluster) -> None:
    with pytest.raises(Conflict, match="connected to master") as refused:
        ask(cluster, Master([framework("f1", connected=True)]), serving(OURS))
    assert "stop polly serve" in refused.value.remedy


def test_without_a_master_there_is_no_evidence(cluster: Cluster) -> None:
    with pytest.raises(MasterUnreachable):
        ask(cluster, Master(silent=True), serving(OURS))
