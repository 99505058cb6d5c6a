"""Whatever is killed, the task goes on, its data stays, and the same disks are offered again, byte for byte."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from polly_mesos.mesos.local.cluster import QUICK_FAILURES, LocalCluster
from polly_mesos.mesos.local.package import Mesos

from .conftest import make_cluster, require_zookeeper
from .framework import wait_until
from .lasting import LastingFramework, Story, totals
from .polly import Polly
from .test_scheduler_half import executor_pids

pytestmark = [pytest.mark.mesos, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster(mesos: Mesos) -> Iterator[LocalCluster]:
    require_zookeeper()
    with ExitStack() as stack:
        yield make_cluster(stack, agents=2, zookeeper=True, environment=QUICK_FAILURES)


@pytest.fixture(scope="module")
def polly(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Polly]:
    # nothing but the faults is to move leases
    with Polly(cluster, tmp_path_factory.mktemp("polly"), planner={"interval": "1s", "rotate": "1h"}) as polly:
        polly.connected(2)
        wait_until(lambda: all(totals(agent) for agent in cluster.agents) and polly.pool()["free"] == 0)
        yield polly


@pytest.fixture(scope="module")
def begun(cluster: LocalCluster, polly: Polly) -> Iterator[Story]:
    with LastingFramework(cluster) as framework:
        story = Story(cluster, framework, cluster.agents[0])
        story.begin()
        yield story


@pytest.fixture
def story(begun: Story, polly: Polly) -> Iterator[Story]:
    """A task that writes; after the test it writes still, and `polly check` finds no error."""
    assert begun.writes()
    yield begun
    assert begun.writes()
    polly.call("check", "--pause", "0.5")


def settles_at(expected: list[str], look: Callable[[], list[str]]) -> None:
    """Wait until something is as expected; tell the difference where it never is."""
    seen: list[list[str]] = []

    def settled() -> bool:
        if found := look():
            seen[:] = [found]
        return found == expected

    try:
        wait_until(settled)
    except AssertionError:
        assert seen[-1:] == [expected]
        raise


class Remembered:
    """What agent and framework were shown before a fault, to be shown again after it."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.agent_id = story.agent_id
        self.totals = wait_until(story.totals)
        self.disks = story.totals(provider=False)
        assert len(self.totals) >= 3, "two volumes and what is left of the pool"
        self.offered = wait_until(lambda: self._complete(story.offered()))

    def _complete(self, offered: list[str]) -> list[str]:
        return offered if len(offered) == len(self.totals) - 1 else []

    def is_shown_again(self) -> None:
        settles_at(self.totals, self.story.totals)
        self.story.framework.forget()
        settles_at(self.offered, self.story.offered)
        assert self.story.agent_id == self.agent_id


def kill(pids: set[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def polly_executors(story: Story) -> set[int]:
    """The executors of Polly on the story's agent."""
    return executor_pids(story.cluster) & set(story.agent.processes())


def test_the_scheduler_is_killed(story: Story, polly: Polly) -> None:
    before, framework_id = Remembered(story), polly.get("/health")["framework_id"]
    polly.kill()
    assert story.writes()
    polly.start()
    assert polly.get("/health")["framework_id"] == framework_id
    polly.connected(2)
    before.is_shown_again()


def test_the_executor_is_killed(story: Story, polly: Polly) -> None:
    before, victims = Remembered(story), polly_executors(story)
    assert victims
    kill(victims)
    assert story.writes()
    wait_until(lambda: polly_executors(story) - victims)
    polly.connected(2)
    before.is_shown_again()


def test_the_agent_is_killed_and_started_under_the_same_id(story: Story, polly: Polly) -> None:
    before, executors = Remembered(story), polly_executors(story)
    story.agent.kill()
    assert story.writes()
    story.agent.start()
    polly.connected(2)
    before.is_shown_again()
    assert polly_executors(story) == executors, "the executor outlives its agent's process"


def test_the_master_is_killed_and_found_again_through_zookeeper(story: Story, polly: Polly) -> None:
    before, framework_id = Remembered(story), polly.get("/health")["framework_id"]
    story.cluster.master_node.kill()
    assert story.writes()
    story.cluster.master_node.start()
    story.cluster.wait_registered()
    wait_until(lambda: polly.get("/health")["registered"])
    assert polly.get("/health")["framework_id"] == framework_id
    before.is_shown_again()


def test_the_master_fails_over_while_an_operation_is_in_flight(story: Story, polly: Polly) -> None:
    before = Remembered(story)
    polly.pause()  # nobody can admit the operation now
    story.create("in-flight")
    wait_until(lambda: "in-flight" in story.pending())
    story.cluster.master_node.kill()
    polly.resume()
    story.cluster.master_node.start()
    story.cluster.wait_registered()
    wait_until(lambda: any('"in-flight"' in disk for disk in story.offered()))
    (known,) = [volume for volume in polly.get("/v1/volumes") if volume["persistence_id"] == "in-flight"]
    assert known["agent"] == story.agent_id
    story.destroy("in-flight")
    before.is_shown_again()


def test_everything_is_killed_at_once(story: Story, polly: Polly) -> None:
    before, framework_id = Remembered(story), polly.get("/health")["framework_id"]
    polly.kill()
    kill(executor_pids(story.cluster))
    story.agent.kill()
    story.cluster.master_node.kill()
    story.cluster.zookeeper_node.kill()
    assert story.writes()
    story.cluster.zookeeper_node.start()
    story.cluster.master_node.start()
    story.agent.start()
    polly.start()
    assert polly.get("/health")["framework_id"] == framework_id
    polly.connected(2)
    before.is_shown_again()


@pytest.mark.parametrize("loss", ["cleanup", "wipe"])
def test_the_agent_comes_back_under_a_new_id(story: Story, polly: Polly, loss: str) -> None:
    before = Remembered(story)
    volumes = {volume["id"]: volume["persistence_id"] for volume in polly.get("/v1/volumes")}
    story.agent.stop()
    if loss == "wipe":
        story.agent.wipe()
    story.agent.start(cleanup=loss == "cleanup")
    assert story.agent_id != before.agent_id
    wait_until(lambda: {agent["id"] for agent in polly.connected(2)} >= {story.agent_id})
    settles_at(before.disks, lambda: story.totals(provider=False))
    story.resume()
    assert {volume["id"]: volume["persistence_id"] for volume in polly.get("/v1/volumes")} == volumes
    assert {volume["agent"] for volume in polly.get("/v1/volumes")} == {story.agent_id}
    assert before.agent_id not in {agent["id"] for agent in polly.get("/v1/agents")}


def test_the_host_loses_its_power_and_comes_back_under_the_same_id(story: Story, polly: Polly) -> None:
    before = Remembered(story)
    story.agent.power_off()
    story.agent.start()
    polly.connected(2)
    settles_at(before.totals, story.totals)
    story.resume()
    before.is_shown_again()
