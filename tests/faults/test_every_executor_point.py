"""A crash at every fault point of the executor half: a new process finishes the work, and formats nothing twice."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from polly_mesos import faults
from polly_mesos.agent_api import Application, Assignment, Verdict
from polly_mesos.errors import AgentUnreachable
from polly_mesos.executor.half import ExecutorHalf
from polly_mesos.executor.provider_handler import ProviderHandler
from polly_mesos.executor.scheduler_client import SchedulerClient
from polly_mesos.fault_catalogue import CATALOGUE, Half
from polly_mesos.mesos.provider import steps
from polly_mesos.mesos.provider.contract import ProviderIdentity
from polly_mesos.mesos.provider.transport import Transport
from polly_mesos.mesos.resources import volume_path
from tests.unit.executor.conftest import Mappings
from tests.unit.executor.fakes import (
    AGENT,
    TOKEN,
    VOLUME,
    FakeAgent,
    FakeHost,
    FakeHostDriver,
    FakeProvider,
    FakeScheduler,
    eventually,
    path_volume,
    welcome_to,
)

POINTS = [name for name, point in CATALOGUE.items() if point.half is Half.EXECUTOR]
OPERATION = "0f8fad5b-d9cb-469f-a165-70867728950e"
T = TypeVar("T")


class Crash(BaseException):
    """The executor half's process is gone."""


class Life:
    """Executor halves, one after the other, on one host.

    :ivar keep: what the scheduler half lets the host keep
    """

    def __init__(self, mappings: Mappings) -> None:
        self.mappings = mappings
        self.crashes = 0
        self.keep: dict[str, int] = {}

    @property
    def handler(self) -> ProviderHandler:
        return ProviderHandler(self.mappings.client, self.mappings.publisher, AGENT, desire=lambda: None)

    def until(self, done: Callable[[], object], act: Callable[[], object]) -> None:
        """Try until it is done; after a crash in a new process."""
        for _ in range(4):
            if done():
                return
            try:
                act()
            except Crash:
                self.crashes += 1
                self.mappings.restart()
                self.mappings.recover(keep=self.keep)
        assert done()


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[FakeScheduler]:
    fake = FakeScheduler(welcome_to(str(tmp_path / "volumes")))
    yield fake
    fake.down()


@pytest.fixture
def life(tmp_path: Path, scheduler: FakeScheduler) -> Iterator[Life]:
    client = SchedulerClient(scheduler.url, TOKEN, shortest_pause=0.01, longest_pause=0.05)
    root, driver = str(tmp_path / "volumes"), FakeHostDriver({}, "host-a:5051")
    yield Life(Mappings(root, scheduler, client, FakeHost(), FakeAgent(), driver))
    client.close()


@contextlib.contextmanager
def crash_once_at(point: str) -> Iterator[faults.Fault]:
    """Let the process crash there, the first time that it comes by."""
    left = [point]

    def act() -> None:
        if left:
            raise Crash(left.pop())

    with faults.armed(point, act) as fault:
        yield fault


def a_volume_comes_and_goes(life: Life) -> None:
    """PUBLISH_RESOURCES, a task, and the end of the task."""
    here = life.mappings
    resource = path_volume(here.root)
    place = volume_path(resource)
    here.ready(resource)
    life.keep = {VOLUME: 1}
    published: list[bool] = []
    life.until(lambda: published, lambda: published.append(life.handler.publish([resource])))
    assert published == [True]
    assert here.host.volume_at(place) == VOLUME
    assert here.scheduler.steps_of(VOLUME)[-1] == "published"
    assert here.host.formatted == {f"/dev/{VOLUME[:8]}": VOLUME}
    here.agent.in_use = {place}
    here.assign(keep=life.keep)
    here.usage.look()
    assert here.host.volume_at(place) == VOLUME

    here.agent.in_use = set()
    life.keep = {}
    here.assign(keep={})
    life.until(lambda: not here.holdings.all(), lambda: here.usage.look())
    assert not here.host.mounts
    assert not here.driver.held()
    assert here.scheduler.steps_of(VOLUME)[-1] == "unpublished"


def an_operation_is_judged_and_acknowledged(life: Life) -> None:
    """APPLY_OPERATION and ACKNOWLEDGE_OPERATION_STATUS."""
    application = Application(OPERATION, {"type": "RESERVE"}, "framework-1")
    verdict = Verdict(OPERATION, "OPERATION_FINISHED", OPERATION, application.info, "framework-1")
    life.mappings.scheduler.verdicts[OPERATION] = verdict
    answers: list[Verdict] = []
    life.until(lambda: answers, lambda: answers.append(life.handler.apply(application)))
    assert answers == [verdict]
    told: list[None] = []
    life.until(lambda: told, lambda: told.append(life.handler.acknowledged(OPERATION)))
    assert set(life.mappings.scheduler.acknowledged) == {OPERATION}


def the_agent_accepts_the_provider(life: Life) -> None:
    """SUBSCRIBED."""
    told: list[None] = []
    life.until(lambda: told, lambda: told.append(life.handler.subscribed(AGENT, "provider-1")))
    assert {report.provider_id for report in life.mappings.scheduler.providers} == {"provider-1"}


STORIES: dict[str, Callable[[Life], None]] = {
    "operation.": an_operation_is_judged_and_acknowledged,
    "provider.subscribed.": the_agent_accepts_the_provider,
    "provider.publish.": a_volume_comes_and_goes,
    "publication.": a_volume_comes_and_goes,
    "holding.": a_volume_comes_and_goes,
    "volume.": a_volume_comes_and_goes,
    "unpublication.": a_volume_comes_and_goes,
}
BEGINNING = [name for name in POINTS if name.startswith(("executor.", "host."))]
STREAM = [name for name in POINTS if name.startswith(("provider.subscribe.", "provider.call."))]


@pytest.mark.parametrize("point", [name for name in POINTS if name not in (*BEGINNING, *STREAM)])
def test_after_a_crash_there_a_new_process_finishes_the_work(life: Life, point: str) -> None:
    (story,) = (story for prefix, story in STORIES.items() if point.startswith(prefix))
    with crash_once_at(point) as fault:
        story(life)
    assert life.crashes == 1, f"{story.__doc__} does not come by {fault.name}"


@pytest.mark.parametrize("point", BEGINNING)
def test_an_executor_half_that_fails_at_its_beginning_begins_anew(scheduler: FakeScheduler, point: str) -> None:
    client, agent = SchedulerClient(scheduler.url, TOKEN, shortest_pause=0.01), FakeAgent()
    providers: list[FakeProvider] = []

    def make_provider(handler: ProviderHandler, welcome: Any) -> FakeProvider:
        providers.append(FakeProvider(handler, welcome, agent))
        return providers[-1]

    scheduler.assign(Assignment(2, (), (), {}))
    half = ExecutorHalf(client, agent, FakeHost(), make_provider, node="127.0.0.1:5051", retry=0.01)
    with faults.armed(point, "raise*1") as fault:
        half.start()
        eventually(lambda: half.serving)
        half.stop()
    assert fault.fired == 1
    assert scheduler.reports
    assert [provider.stopped for provider in providers] == [True] * len(providers)


class Agent:
    """The agent's end of a stream that never opens; ``calls`` are those that reached it."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def call_provider_api(self, body: Any, stream_id: str) -> None:
        self.calls.append(body)

    def subscribe_provider(self, body: Any) -> Any:
        raise AgentUnreachable("it does not answer")


@pytest.mark.parametrize("point", STREAM)
def test_a_failure_of_the_stream_is_told_and_ends_it(point: str) -> None:
    agent, told = Agent(), []
    transport = Transport(agent, told.append)  # type: ignore[arg-type]
    with faults.armed(point, "raise:AgentUnreachable") as fault:
        if point.startswith("provider.subscribe."):
            transport.subscribe(1, ProviderIdentity("org.polly.mesos", "test"))
            eventually(lambda: told)
            assert told == [steps.Ended(1, f"fault point {point}", clean=False)]
        else:
            transport.call(steps.Call(0, {"type": "UPDATE_STATE"}))
            transport.call(steps.Call(0, {"type": "UPDATE_STATE"}))
            assert told == [steps.CallFailed(0, f"fault point {point}")], "nothing is sent on a broken stream"
            assert len(agent.calls) == point.endswith(".after-send")
    assert fault.fired == 1
