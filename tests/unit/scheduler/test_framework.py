"""What the framework does with offers, updates and messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from polly_mesos.agent_api import ALREADY_SERVING
from polly_mesos.config import AgentSettings, Constraint
from polly_mesos.ledger import Ledger
from polly_mesos.model import Agent, AgentState
from polly_mesos.scheduler.framework import Framework
from polly_mesos.scheduler.placement import AgentFacts, ExecutorSettings
from polly_mesos.scheduler.presence import Presence
from polly_mesos.scheduler.roster import Roster
from polly_mesos.scheduler.tokens import Tokens, token_hash
from polly_mesos.testing.offers import Story


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.db", "test") as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(ledger: Ledger, clock: Clock, *, isolates: bool = False, **agents: object) -> Story:
    framework = Framework(
        ledger,
        Tokens(ledger),
        role="polly",
        agents=AgentSettings.model_validate({"volume_root": "/var/lib/polly/{port}", **agents}),
        settings=ExecutorSettings("polly", 0.1, 128 << 20, "python3", "root", "http://s/agent/v1/artifact/p.pyz"),
        scheduler_url="http://scheduler:7979",
        isolates=lambda endpoint: isolates,
        presence=Presence(ledger, Roster(), patience=60.0, clock=clock),
        clock=clock,
    )
    return Story(framework)


@pytest.fixture
def story(ledger: Ledger, clock: Clock) -> Story:
    story = make(ledger, clock)
    story.registered()
    return story


def test_an_executor_is_launched_on_every_agent_and_then_offers_are_suppressed(story: Story, clock: Clock) -> None:
    clock.now += 10
    for agent in ("a1", "a2"):
        story.offer(agent)
        task = story.expect_launch(agent)
        assert task["executor"]["executor_id"] == {"value": "polly"}
        story.update(agent, "TASK_RUNNING")
    assert story.expect_declined(story.offer("a1")) > 60
    story.expect_suppressed()
    assert len(story.driver.accepted) == 2


def test_the_framework_id_is_kept_in_the_ledger(story: Story, ledger: Ledger) -> None:
    assert ledger.framework_id() == "framework-1"


def test_only_chosen_agents_get_an_executor(ledger: Ledger, clock: Clock) -> None:
    constraint = Constraint.model_validate({"attribute": "disk", "equals": "ssd"})
    story = make(ledger, clock, constraints=[constraint])
    story.registered()
    assert story.expect_declined(story.offer("a1", attributes={"disk": "hdd"})) > 60
    story.offer("a2", attributes={"disk": "ssd"})
    story.expect_launch("a2")


def test_a_small_offer_is_declined_briefly_and_the_next_one_used(story: Story) -> None:
    assert story.expect_declined(story.offer("a1", mem=64)) < 60
    story.expect_offers_wanted()
    story.offer("a1", mem=256)
    story.expect_launch("a1")


def test_an_executor_that_ended_is_launched_again_after_a_pause(story: Story, clock: Clock) -> None:
    clock.now += 10
    story.offer("a1")
    first = story.task_on("a1")
    story.update("a1", "TASK_RUNNING")
    story.offer("a1")
    story.expect_suppressed()
    story.update("a1", "TASK_FAILED", message="killed")
    assert story.expect_declined(story.offer("a1")) < 60
    clock.now += 2
    story.framework.tick()
    story.expect_offers_wanted()
    story.offer("a1")
    assert story.expect_launch("a1")["task_id"]["value"] != first


def test_the_end_of_an_older_task_does_not_count_against_the_newer(story: Story, clock: Clock) -> None:
    clock.now += 10
    story.offer("a1")
    first = story.task_on("a1")
    story.update("a1", "TASK_FAILED")
    clock.now += 5
    story.offer("a1")
    story.update("a1", "TASK_RUNNING")
    story.update("a1", "TASK_FAILED", task=first)
    assert story.expect_declined(story.offer("a1")) > 60


def test_an_unreachable_agent_is_not_given_up(story: Story, ledger: Ledger, clock: Clock) -> None:
    clock.now += 10
    story.offer("a1")
    story.update("a1", "TASK_RUNNING")
    story.update("a1", "TASK_UNREACHABLE")
    assert ledger.agent("a1").state is not AgentState.LOST
    story.update("a1", "TASK_GONE_BY_OPERATOR")
    assert ledger.agent("a1").state is AgentState.LOST


def test_after_a_restart_running_executors_are_adopted_before_new_ones_are_launched(
    ledger: Ledger, clock: Clock
) -> None:
    ledger.put_agent(Agent("a1", "a1", "127.0.0.1:5051", AgentState.CONNECTED))
    story = make(ledger, clock)
    story.registered()
    assert story.driver.reconciled == 1
    story.expect_declined(story.offer("a1"))
    assert not story.driver.accepted
    story.update("a1", "TASK_RUNNING", task="polly.a1.old-1")
    clock.now += 10
    story.expect_declined(story.offer("a1"))
    assert not story.driver.accepted
    story.expect_suppressed()


def test_after_a_restart_a_vanished_executor_is_launched_anew(ledger: Ledger, clock: Clock) -> None:
    ledger.put_agent(Agent("a1", "a1", "127.0.0.1:5051", AgentState.CONNECTED))
    story = make(ledger, clock)
    story.registered()
    story.expect_declined(story.offer("a1"))
    clock.now += 10
    story.offer("a1")
    story.expect_launch("a1")


def facts(agent: str) -> AgentFacts:
    return AgentFacts(agent, agent, "127.0.0.1:5051", {})


def test_offers_are_taken_until_an_agent_whose_offer_was_declined_has_its_executor(
    ledger: Ledger, clock: Clock
) -> None:
    for agent in ("a1", "a2"):
        ledger.put_agent(Agent(agent, agent, "127.0.0.1:5051", AgentState.CONNECTED))
    story = make(ledger, clock)
    story.registered()
    story.expect_declined(story.offer("a1"))
    story.expect_declined(story.offer("a2"))
    clock.now += 10
    story.offer("a1")
    story.expect_launch("a1")
    story.expect_offers_wanted()
    story.offer("a2")
    story.expect_launch("a2")
    story.expect_suppressed()


def test_an_agent_that_the_master_knows_is_waited_for_though_its_offer_comes_late(story: Story, clock: Clock) -> None:
    story.framework.agent_seen(facts("a1"))
    story.framework.agent_seen(facts("a2"))
    clock.now += 10
    story.offer("a1")
    story.expect_offers_wanted()
    story.offer("a2")
    story.expect_launch("a2")
    story.expect_suppressed()


def test_an_agent_that_was_removed_is_not_waited_for(story: Story, clock: Clock) -> None:
    story.framework.agent_seen(facts("a1"))
    story.framework.agent_seen(facts("a2"))
    story.framework.agent_lost("a2")
    clock.now += 10
    story.offer("a1")
    story.expect_suppressed()


def test_offers_that_were_declined_for_long_are_revived_when_their_executor_ends(story: Story, clock: Clock) -> None:
    clock.now += 10
    story.framework.agent_seen(facts("a2"))
    story.offer("a1")
    story.update("a1", "TASK_RUNNING")
    assert story.expect_declined(story.offer("a1")) > 60
    story.expect_offers_wanted()
    story.update("a1", "TASK_FAILED")
    revived = story.driver.revived
    clock.now += 2
    story.framework.tick()
    assert story.driver.revived == revived + 1, "without REVIVE, Mesos keeps the declined offer back"


def test_an_end_that_mesos_tells_of_several_times_counts_once(story: Story, clock: Clock) -> None:
    clock.now += 10
    story.offer("a1")
    for _ in range(6):
        story.update("a1", "TASK_FAILED", message="Unreachable agent re-reregistered")
    clock.now += 1
    story.offer("a1")
    assert len(story.driver.accepted) == 2, "launched again after the first pause, not after the sixth"


def test_a_launch_that_the_agent_drops_is_no_failure_of_the_executor(story: Story, clock: Clock) -> None:
    """The agent has not cleared away the last one, for it still waits until we acknowledge that one's end."""
    clock.now += 10
    story.offer("a1")
    first = story.task_on("a1")
    story.update("a1", "TASK_FAILED")
    for _ in range(6):
        clock.now += 2
        story.offer("a1")
        story.update("a1", "TASK_DROPPED", message="Master wants to launch executor, but one already exists")
    story.update("a1", "TASK_FAILED", task=first)
    clock.now += 2
    story.offer("a1")
    assert len(story.driver.accepted) == 8, "every two seconds, and the first one's end counts once"


def test_an_executor_that_runs_unheard_of_is_asked_for_and_left_alone(
    story: Story, ledger: Ledger, clock: Clock
) -> None:
    """A new leader did not know of its task when we asked, for its agent came back later."""
    clock.now += 10
    story.offer("a1")
    ledger.set_agent_state("a1", AgentState.CONNECTED)
    asked = story.driver.reconciled
    story.update("a1", "TASK_FAILED", message=ALREADY_SERVING)
    assert story.driver.reconciled == asked + 1
    assert ledger.agent("a1").state is AgentState.CONNECTED
    story.update("a1", "TASK_RUNNING", task="polly.a1.of-before")
    clock.now += 10
    story.offer("a1")
    assert len(story.driver.accepted) == 1
    story.update("a1", "TASK_FAILED", task="polly.a1.of-before")
    clock.now += 0.6
    story.offer("a1")
    assert len(story.driver.accepted) == 2, "the pause has not grown"


def test_an_ended_executor_on_an_agent_that_was_cut_off_is_launched_again(story: Story, clock: Clock) -> None:
    clock.now += 10
    story.offer("a1")
    story.update("a1", "TASK_RUNNING")
    for state in ("TASK_FAILED", "TASK_UNREACHABLE", "TASK_FAILED"):
        story.update("a1", state)
    clock.now += 5
    story.offer("a1")
    assert len(story.driver.accepted) == 2, "a task that has ended is not running because its agent was unreachable"


def test_an_executor_that_does_not_greet_is_asked_about(story: Story, ledger: Ledger, clock: Clock) -> None:
    clock.now += 10
    story.offer("a1")
    story.update("a1", "TASK_RUNNING")
    asked = story.driver.reconciled
    story.framework.listed({"a1"})
    assert story.driver.reconciled == asked + 1
    ledger.set_agent_state("a1", AgentState.CONNECTED)
    story.framework.listed({"a1"})
    assert story.driver.reconciled == asked + 1


def test_an_agent_that_is_missing_from_the_masters_list_is_asked_about_and_given_up_on_its_word(
    story: Story, ledger: Ledger, clock: Clock
) -> None:
    ledger.put_agent(Agent("a1", "a1", "127.0.0.1:5051", AgentState.CONNECTED))
    asked = story.driver.reconciled
    story.framework.listed(frozenset())
    assert story.driver.reconciled == asked + 1
    assert ledger.agent("a1").state is AgentState.UNREACHABLE
    story.update("a1", "TASK_UNREACHABLE", task="polly.a1.probe")
    story.update("a1", "TASK_UNKNOWN", task="polly.a1.probe")
    assert ledger.agent("a1").state is AgentState.UNREACHABLE, "the master may have just lost its memory"
    clock.now += 61
    story.update("a1", "TASK_UNKNOWN", task="polly.a1.probe")
    assert ledger.agent("a1").state is AgentState.LOST


def test_the_masters_answer_about_an_agent_is_not_taken_for_an_executor(story: Story, clock: Clock) -> None:
    clock.now += 10
    story.update("a1", "TASK_UNREACHABLE", task="polly.a1.probe")
    story.offer("a1")
    story.expect_launch("a1")


def test_an_agent_that_an_operator_marked_gone_is_lost(story: Story, ledger: Ledger) -> None:
    ledger.put_agent(Agent("a1", "a1", "127.0.0.1:5051", AgentState.CONNECTED))
    story.update("a1", "TASK_GONE_BY_OPERATOR", task="polly.a1.probe")
    assert ledger.agent("a1").state is AgentState.LOST


def test_an_executor_whose_agent_the_ledger_has_forgotten_gets_its_token_once_the_master_has_told_of_it(
    story: Story, ledger: Ledger
) -> None:
    story.framework.message("polly", "a1", b'{"want": "summons"}')
    assert not story.driver.messages
    story.framework.agent_seen(facts("a1"))
    story.framework.message("polly", "a1", b'{"want": "summons"}')
    assert ledger.agent("a1").token_hash == token_hash(story.expect_summons("a1").token)


def test_an_executor_started_by_hand_is_left_alone(ledger: Ledger, clock: Clock) -> None:
    ledger.put_agent(Agent("a1", "a1", "127.0.0.1:5051", AgentState.CONNECTED, standalone=True))
    story = make(ledger, clock)
    story.registered()
    clock.now += 10
    assert story.expect_declined(story.offer("a1")) > 60


def test_mounts_reach_the_host_where_file_systems_are_isolated(ledger: Ledger, clock: Clock) -> None:
    story = make(ledger, clock, isolates=True)
    story.registered()
    story.offer("a1", port=5052)
    container = story.expect_launch("a1")["executor"]["container"]
    (volume,) = container["volumes"]
    assert volume["container_path"] == "/var/lib/polly/5052"
    assert volume["source"]["host_path"]["mount_propagation"] == {"mode": "BIDIRECTIONAL"}


def test_the_token_travels_by_message_only(story: Story, ledger: Ledger) -> None:
    story.offer("a1")
    task = story.expect_launch("a1")
    story.framework.message("polly", "a1", b'{"want": "summons"}')
    summons = story.expect_summons("a1")
    assert summons.scheduler == "http://scheduler:7979"
    assert summons.token not in json.dumps(task)
    assert ledger.agent("a1").token_hash == token_hash(summons.token)
    assert summons.token not in repr(ledger.agent("a1"))
    story.framework.message("polly", "a1", b'{"want": "summons"}')
    assert story.expect_summons("a1") == summons


@pytest.mark.parametrize("data", [b"", b"nonsense", b'{"want": "gold"}'])
def test_a_message_that_is_not_understood_changes_nothing(story: Story, data: bytes) -> None:
    story.framework.message("polly", "a1", data)
    assert not story.driver.messages
