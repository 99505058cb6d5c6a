"""Agents that go away: who may still write, who gets their volumes, and what a host that comes late is told."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Collection

import pytest

from drivers.base import Fence
from polly_mesos.agent_api import HostReport
from polly_mesos.config import Fencing as Policy
from polly_mesos.errors import Conflict, InvalidRequest, PlatformUnavailable
from polly_mesos.ledger import CreateVolume, Ledger, Reserve
from polly_mesos.mesos.master_client import RegisteredAgent
from polly_mesos.model import (
    MB,
    AgentState,
    HostIdentity,
    Operation,
    OperationState,
    PublicationState,
    Volume,
    VolumeKind,
    VolumeState,
)
from polly_mesos.scheduler.arrivals import Arrivals, over
from polly_mesos.scheduler.evacuation import Evacuation
from polly_mesos.scheduler.fencing import Fencing
from polly_mesos.scheduler.hosts import HostViews
from polly_mesos.scheduler.placement import AgentFacts
from polly_mesos.scheduler.presence import Presence
from polly_mesos.scheduler.roster import Roster
from tests.unit.scheduler.conftest import AGENT, GOLD

OWNER = '[{"role":"db","type":"DYNAMIC"}]'
PATIENCE = 60.0
SECOND = dataclasses.replace(
    AGENT, id="a2", hostname="host2", endpoint="127.0.0.1:5052", identities={"local": HostIdentity("127.0.0.1:5052")}
)


class Platform:
    """Services with one platform, which says of hosts what the test lets it say."""

    def __init__(self) -> None:
        self.answer: Fence | Exception = Fence(False, "the host runs")
        self.policy = Policy.PLATFORM
        self.asked = 0
        self.asked_of: list[str] = []

    def controller(self, service: str) -> Platform:
        return self

    def fencing(self, service: str) -> Policy:
        return self.policy

    def fence_from(self, host: HostIdentity, volumes: Collection[str]) -> Fence:
        self.asked += 1
        self.asked_of = list(volumes)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class World:
    """A ledger with two agents, and everything that looks after agents."""

    def __init__(self, ledger: Ledger) -> None:
        self.now = 1000.0
        self.ledger = ledger
        ledger.put_agent(SECOND)
        self.platform = Platform()
        self.roster = Roster()
        self.presence = Presence(ledger, self.roster, patience=PATIENCE, clock=lambda: self.now)
        self.looked: list[str] = []
        self.fencing = Fencing(
            ledger,
            self.platform,  # type: ignore[arg-type]
            self.looked.append,
            patience=PATIENCE,
            clock=lambda: self.now,
        )
        self.profile = GOLD
        self.hosts = HostViews()
        self.changed: list[str] = []
        self.arrivals = Arrivals(
            ledger, self.roster, self.hosts, changed=lambda agents: self.changed.extend(agents), plan=lambda: None
        )
        self.roll("a1", "a2")

    def roll(self, *agents: str, draining: str = "", machines: frozenset[str] = frozenset()) -> None:
        known = self.ledger.agents()
        self.roster.call(
            [
                RegisteredAgent(
                    name, known[name].hostname, known[name].endpoint, "slave(1)", True, {}, name == draining
                )
                for name in agents
            ],
            machines,
        )
        for agent in self.presence.listed(()):
            self.asked_about = agent

    def evacuate(self) -> int:
        evacuation = Evacuation(self.ledger, {"gold": self.profile}, self.roster.draining, self.fencing.fenced_services)
        return evacuation.once()

    def state(self, agent: str) -> AgentState:
        return self.ledger.agent(agent).state

    def volume(self, name: str = "data", *, agent: str = "a1", size: int = 100 * MB) -> str:
        """A READY volume of the role ``db``; returns its id."""
        volume = str(uuid.uuid4())
        wanted = Volume(
            volume,
            "gold",
            "gold",
            "local",
            VolumeKind.PATH,
            size,
            VolumeState.CREATING,
            agent,
            OWNER,
            name,
            {"persistence": {"id": name}},
            framework="framework-1",
        )
        self.ledger.admit(
            Operation(str(uuid.uuid4()), "mesos.CREATE", agent, OperationState.INTENT, agent),
            Reserve("gold", agent, "", OWNER, size, shared=True),
            CreateVolume(wanted),
        )
        self.ledger.volume_created(volume, f"platform-{name}")
        return volume

    def published(self, name: str = "data") -> str:
        """A volume that the host of ``a1`` has mounted; returns its id."""
        volume = self.volume(name)
        generation = self.ledger.publish(volume, "a1", "127.0.0.1:5051").generation
        self.ledger.attached(volume, generation, {"device": "x"})
        self.ledger.published(volume, generation, "/dev/x", "/polly/x")
        return volume

    def lose(self, agent: str = "a1") -> None:
        """The master does not reach the agent any more, for longer than anybody is patient."""
        self.presence.lost(agent)
        self.fencing.once()
        self.now += PATIENCE + 1


@pytest.fixture
def world(ledger: Ledger) -> World:
    return World(ledger)


# Unreachable is not dead ------------------------------------------------------------------------------------------


def test_nothing_is_taken_from_an_unreachable_host_that_its_platform_sees_running(world: World) -> None:
    volume = world.published()
    world.lose()
    world.fencing.once()
    assert world.platform.asked == 1
    assert world.state("a1") is AgentState.UNREACHABLE
    assert world.evacuate() == 0
    publication = world.ledger.publication(volume)
    assert publication is not None
    assert publication.state is PublicationState.PUBLISHED
    assert world.fencing.waits_for(world.ledger.agent("a1")) == {"local": "the host runs"}


def test_the_platform_is_not_asked_before_patience_is_over(world: World) -> None:
    world.platform.answer = Fence(True, "stopped")
    world.presence.lost("a1")
    world.fencing.once()
    world.now += PATIENCE - 1
    world.fencing.once()
    assert world.platform.asked == 0
    assert world.state("a1") is AgentState.UNREACHABLE


def test_an_agent_that_came_back_in_between_has_to_be_away_for_the_whole_time_again(world: World) -> None:
    world.platform.answer = Fence(True, "stopped")
    world.lose()
    world.presence.found(AgentFacts("a1", "host1", "127.0.0.1:5051", {}))
    world.fencing.once()
    world.presence.lost("a1")
    world.fencing.once()
    assert world.platform.asked == 0


def test_a_platform_that_does_not_answer_proves_nothing(world: World) -> None:
    world.platform.answer = PlatformUnavailable("no answer")
    world.lose()
    world.fencing.once()
    assert world.state("a1") is AgentState.UNREACHABLE


# Fenced -----------------------------------------------------------------------------------------------------------


def test_a_host_that_is_proven_stopped_loses_its_volumes_and_another_agent_offers_them_with_their_names(
    world: World,
) -> None:
    volume = world.published()
    before = world.ledger.volume(volume)
    world.platform.answer = Fence(True, "instance i-1 is stopped")
    world.lose()
    world.fencing.once()
    assert world.looked == [volume]
    assert world.platform.asked_of == [before.platform_id]
    taken = world.ledger.publication(volume)
    assert taken is not None
    assert (taken.state, taken.fenced) == (PublicationState.DETACHING, True)
    assert world.evacuate() == 0, "not before the platform has taken it from the host"
    world.ledger.detached(volume, taken.generation)
    assert world.evacuate() == 1
    after = world.ledger.volume(volume)
    assert after.agent == "a2"
    names = ("owner", "persistence_id", "persistence", "size", "platform_id", "format_state", "framework")
    assert [getattr(after, name) for name in names] == [getattr(before, name) for name in names]
    assert [event.kind for event in world.ledger.events()] == ["agent.fenced", "volume.moved"]


def test_a_fenced_agent_gives_its_lease_and_reservations_back(world: World) -> None:
    world.platform.answer = Fence(True, "stopped")
    world.lose()
    world.fencing.once()
    assert world.state("a1") is AgentState.FENCED
    world.evacuate()
    assert world.ledger.leases("a1") == []
    assert world.ledger.balance()["gold"].leased == 0


def test_what_a_host_was_given_after_it_came_back_is_not_fenced_by_an_older_proof(world: World) -> None:
    volume = world.published()

    def comes_back(host: HostIdentity, volumes: Collection[str]) -> Fence:
        generation = world.ledger.volume(volume).generation
        world.ledger.unpublished(volume, generation)
        world.ledger.detached(volume, generation)
        world.ledger.set_agent_state("a1", AgentState.CONNECTED)
        world.ledger.publish(volume, "a1", "127.0.0.1:5051")
        return Fence(True, "stopped a moment ago")

    world.platform.fence_from = comes_back  # type: ignore[method-assign]
    world.lose()
    world.fencing.once()
    publication = world.ledger.publication(volume)
    assert publication is not None
    assert not publication.fenced


def test_an_operator_must_say_it_where_the_policy_says_so(world: World) -> None:
    volume = world.published()
    world.platform.policy = Policy.OPERATOR
    world.platform.answer = Fence(True, "stopped")
    world.lose()
    world.fencing.once()
    assert world.platform.asked == 0
    assert "polly agent fence" in world.fencing.waits_for(world.ledger.agent("a1"))["local"]
    fenced = world.fencing.by_operator(world.ledger.agent("a1"))
    assert world.looked == [volume]
    assert fenced.state is AgentState.FENCED


@pytest.mark.parametrize("state", [AgentState.CONNECTED, AgentState.CHOSEN])
def test_an_operator_cannot_fence_an_agent_that_is_there(world: World, state: AgentState) -> None:
    world.ledger.set_agent_state("a1", state)
    with pytest.raises(Conflict, match="may be writing") as refusal:
        world.fencing.by_operator(world.ledger.agent("a1"))
    assert "drain" in refusal.value.remedy


def test_an_operator_who_names_another_service_is_told_which_there_are(world: World) -> None:
    world.presence.lost("a1")
    with pytest.raises(InvalidRequest, match="no service gold") as refusal:
        world.fencing.by_operator(world.ledger.agent("a1"), ["gold"])
    assert "local" in refusal.value.remedy


def test_of_two_services_only_the_one_that_is_fenced_gives_its_volumes_away(world: World) -> None:
    volume = world.published()
    identities = {"local": HostIdentity("127.0.0.1:5051"), "other": HostIdentity("x")}
    world.ledger.change_agent("a1", lambda agent: dataclasses.replace(agent, identities=identities))
    world.presence.lost("a1")
    world.fencing.by_operator(world.ledger.agent("a1"), ["local"])
    assert world.state("a1") is AgentState.UNREACHABLE
    assert world.fencing.fenced_services(world.ledger.agent("a1")) == {"local"}
    taken = world.ledger.publication(volume)
    assert taken is not None
    world.ledger.detached(volume, taken.generation)
    assert world.evacuate() == 1


# Gone, drained ----------------------------------------------------------------------------------------------------


def test_idle_volumes_of_an_agent_that_is_gone_move_without_fencing_and_mounted_ones_wait(world: World) -> None:
    idle, mounted = world.volume("idle"), world.published("mounted")
    world.presence.gone("a1")
    assert world.evacuate() == 1
    assert world.ledger.volume(idle).agent == "a2"
    assert world.ledger.volume(mounted).agent == "a1"


@pytest.mark.parametrize("how", ["drain", "maintenance"])
def test_a_drained_agent_gives_its_idle_volumes_away_without_fencing(world: World, how: str) -> None:
    idle, mounted = world.volume("idle"), world.published("mounted")
    if how == "drain":
        world.roll("a1", "a2", draining="a1")
    else:
        world.roll("a1", "a2", machines=frozenset({"host1"}))
    assert world.evacuate() == 1
    assert world.ledger.volume(idle).agent == "a2"
    assert world.ledger.volume(mounted).agent == "a1"
    assert world.evacuate() == 0


def test_volumes_never_move_to_an_agent_that_is_drained_or_away(world: World) -> None:
    volume = world.volume()
    world.roll("a2", draining="a2")
    world.presence.gone("a1")
    assert world.evacuate() == 0
    assert world.ledger.volume(volume).agent == "a1"
    (event,) = world.ledger.events(kinds=["volume.waits"])
    assert "no other agent is connected" in event.message


@pytest.mark.parametrize(
    ("identity", "why"),
    [
        ({}, "cannot use service local"),
        ({"local": HostIdentity("x", zone="b")}, "not in zone a"),
        ({"local": HostIdentity("x", zone="a", attach_limit=0)}, "no attach slot free"),
    ],
)
def test_a_volume_waits_for_an_agent_that_fits(world: World, identity: dict[str, HostIdentity], why: str) -> None:
    world.profile = dataclasses.replace(GOLD, reach=("a",))
    world.ledger.change_agent("a2", lambda agent: dataclasses.replace(agent, identities=identity))
    volume = world.volume()
    world.presence.gone("a1")
    world.evacuate()
    assert world.ledger.volume(volume).agent == "a1"
    (event,) = world.ledger.events(kinds=["volume.waits"])
    assert why in event.message


def test_a_volume_does_not_move_beside_one_of_the_same_role_and_name(world: World) -> None:
    world.volume("data", agent="a2")
    volume = world.volume("data")
    world.presence.gone("a1")
    assert world.evacuate() == 0
    assert world.ledger.volume(volume).agent == "a1"


def test_volumes_are_spread_over_the_agents_that_have_the_fewest(world: World) -> None:
    third = dataclasses.replace(SECOND, id="a3", hostname="host3", endpoint="127.0.0.1:5053")
    world.ledger.put_agent(third)
    for number in range(4):
        world.volume(f"data-{number}")
    world.presence.gone("a1")
    assert world.evacuate() == 4
    assert len(world.ledger.volumes(agent="a2")) == len(world.ledger.volumes(agent="a3")) == 2


# What the master says ---------------------------------------------------------------------------------------------


def test_an_agent_that_is_not_on_the_masters_list_is_unreachable_and_is_asked_about(world: World) -> None:
    world.roll("a2")
    assert world.state("a1") is AgentState.UNREACHABLE
    assert world.asked_about == "a1"


def test_a_new_leader_that_still_waits_for_an_agent_does_not_make_it_unreachable(world: World) -> None:
    world.roster.call([])
    assert list(world.presence.listed({"a1", "a2"})) == []
    assert world.state("a1") is AgentState.CONNECTED


def test_an_agent_that_a_new_leader_waits_for_in_vain_is_unreachable_unless_its_host_reports(world: World) -> None:
    world.roster.call([])
    world.ledger.change_agent("a2", lambda agent: dataclasses.replace(agent, seen=time.time()))
    assert list(world.presence.listed({"a1", "a2"})) == []
    world.now += PATIENCE
    assert list(world.presence.listed({"a1", "a2"})) == [], "a new leader says nothing of an agent that it waits for"
    assert (world.state("a1"), world.state("a2")) == (AgentState.UNREACHABLE, AgentState.CONNECTED)


def test_a_master_without_memory_is_believed_only_after_a_while(world: World) -> None:
    world.presence.lost("a1")
    world.presence.unknown("a1")
    assert world.state("a1") is AgentState.UNREACHABLE
    world.now += PATIENCE
    world.presence.unknown("a1")
    assert world.state("a1") is AgentState.LOST


def test_a_fenced_agent_that_the_master_has_again_is_used_again(world: World) -> None:
    world.ledger.set_agent_state("a1", AgentState.FENCED)
    world.presence.found(AgentFacts("a1", "host1", "127.0.0.1:5051", {}))
    assert world.state("a1") is AgentState.CHOSEN


# Hosts that report ------------------------------------------------------------------------------------------------


def report(**held: int) -> HostReport:
    return HostReport({"local": HostIdentity("127.0.0.1:5051")}, generations=held)


def newcomer(world: World) -> None:
    """``a9`` registers with the master where ``a1`` was."""
    world.ledger.put_agent(dataclasses.replace(AGENT, id="a9", state=AgentState.CHOSEN, identities={}))
    world.roster.add("a9", AGENT.endpoint)


def test_the_same_host_under_a_new_agent_id_has_all_that_it_had(world: World) -> None:
    volume = world.published()
    leases = [(lease.pool, lease.size) for lease in world.ledger.leases("a1")]
    newcomer(world)
    world.arrivals.report("a9", report(**{volume: 1}))
    assert "a1" not in world.ledger.agents()
    assert world.ledger.volume(volume).agent == "a9"
    publication = world.ledger.publication(volume)
    assert publication is not None
    assert (publication.agent, publication.state) == ("a9", PublicationState.PUBLISHED)
    assert [(lease.pool, lease.size) for lease in world.ledger.leases("a9")] == leases


def test_another_machine_at_the_same_address_takes_nothing_over(world: World) -> None:
    volume = world.published()
    newcomer(world)
    world.arrivals.report("a9", HostReport({"local": HostIdentity("another machine")}))
    assert world.ledger.volume(volume).agent == "a1"


def test_a_host_that_does_not_know_who_it_is_takes_nothing_over_that_is_mounted(world: World) -> None:
    volume = world.published()
    newcomer(world)
    world.arrivals.report("a9", HostReport({}, problems={"local": "no /dev/loop-control"}))
    assert world.ledger.volume(volume).agent == "a1"


def test_an_agent_that_the_master_still_has_is_not_replaced(world: World) -> None:
    world.volume()
    newcomer(world)
    world.roll("a1", "a2", "a9")
    world.arrivals.report("a9", report())
    assert "a1" in world.ledger.agents()


def test_an_executor_that_outlives_its_agent_does_not_make_it_connected(world: World) -> None:
    world.presence.lost("a1")
    world.arrivals.report("a1", report())
    assert world.state("a1") is AgentState.UNREACHABLE
    world.roster.add("a1", "127.0.0.1:5051")
    world.arrivals.report("a1", report())
    assert world.state("a1") is AgentState.CONNECTED


def test_a_late_host_is_told_to_stop_what_another_has_now(world: World) -> None:
    volume = world.published()
    assert over(world.ledger, "a1", {volume: 1}) == {}
    world.platform.answer = Fence(True, "stopped")
    world.lose()
    world.fencing.once()
    assert over(world.ledger, "a1", {volume: 1}) == {volume: 1}
    world.ledger.detached(volume, 1)
    world.evacuate()
    world.ledger.publish(volume, "a2", "127.0.0.1:5052")
    assert over(world.ledger, "a1", {volume: 1}) == {volume: 1}
    assert over(world.ledger, "a2", {volume: 2}) == {}


def test_a_host_is_never_told_to_stop_what_the_ledger_does_not_know(world: World) -> None:
    volume = world.volume()
    assert over(world.ledger, "a1", {str(uuid.uuid4()): 3, volume: 7}) == {}


def test_a_ledger_that_is_older_than_a_host_learns_from_it(world: World) -> None:
    volume = world.volume()
    world.arrivals.report("a1", report(**{volume: 7}))
    publication = world.ledger.publication(volume)
    assert publication is not None
    assert (publication.generation, publication.state) == (7, PublicationState.PUBLISHED)
    assert world.ledger.volume(volume).generation == 7


def test_two_hosts_that_say_that_they_have_one_volume_are_an_error_and_neither_is_stopped_by_it(world: World) -> None:
    volume = world.published()
    for _ in range(2):
        world.arrivals.report("a2", report(**{volume: 9}))
    (event,) = world.ledger.events(kinds=["publication.conflict"])
    assert "host2" in event.message
    assert over(world.ledger, "a1", {volume: 1}) == {}
    assert over(world.ledger, "a2", {volume: 9}) == {}
