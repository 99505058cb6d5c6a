"""One executor half's surroundings, fresh for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from polly_mesos.agent_api import Assignment, PublishState, PublishTarget
from polly_mesos.executor.eviction import Evictions
from polly_mesos.executor.holdings import Holdings
from polly_mesos.executor.mapping import Mapper
from polly_mesos.executor.publisher import Publisher
from polly_mesos.executor.recovery import recover
from polly_mesos.executor.scheduler_client import SchedulerClient
from polly_mesos.executor.usage import UsageWatch
from polly_mesos.mesos.resources import volume_path
from polly_mesos.model import Filesystem, FormatState, Json
from tests.unit.executor.fakes import TOKEN, VOLUME, FakeAgent, FakeHost, FakeHostDriver, FakeScheduler, welcome_to


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "volumes")


@pytest.fixture
def scheduler(root: str) -> Iterator[FakeScheduler]:
    fake = FakeScheduler(welcome_to(root))
    yield fake
    fake.down()


@pytest.fixture
def client(scheduler: FakeScheduler) -> Iterator[SchedulerClient]:
    made = SchedulerClient(scheduler.url, TOKEN, shortest_pause=0.01, longest_pause=0.05)
    yield made
    made.close()


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
def agent() -> FakeAgent:
    return FakeAgent()


@dataclass
class Mappings:
    """All that publishes and unpublishes, without the threads around it; time stands still until :meth:`pass_time`."""

    root: str
    scheduler: FakeScheduler
    client: SchedulerClient
    host: FakeHost
    agent: FakeAgent
    driver: FakeHostDriver
    allow_scratch: bool = False
    patience: float = 5.0
    late: float = field(default=0.0)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new process: nothing is left but what is on the host and with the scheduler half."""
        self.holdings = Holdings(self.root)
        mapper = Mapper(self.client, {"block": self.driver}, self.host, self.holdings)
        self.publisher = Publisher(
            self.client, mapper, self.holdings, allow_scratch=self.allow_scratch, patience=self.patience
        )
        self.usage = UsageWatch(
            self.agent.places_in_use,
            mapper,
            self.holdings,
            self.publisher,
            self.host,
            volume_root=self.root,
            grace=10.0,
            clock=self.now,
        )
        self.evictions = Evictions(
            self.agent.end_users,
            mapper,
            self.holdings,
            self.publisher,
            self.host,
            volume_root=self.root,
            clock=self.now,
        )

    def now(self) -> float:
        import time

        return time.monotonic() + self.late

    def pass_time(self, seconds: float) -> None:
        self.late += seconds

    def ready(self, resource: Json, volume: str = VOLUME, **changes: Any) -> PublishTarget:
        """Let the scheduler half have the volume attached to this host."""
        place = volume_path(resource)
        target = PublishTarget(
            **{
                "volume": volume,
                "state": PublishState.READY,
                "target": place,
                "generation": 1,
                "service": "block",
                "filesystem": Filesystem.EXT4,
                "format_state": FormatState.NEVER,
                "attachment": {"device": f"/dev/{volume[:8]}"},
                **changes,
            }
        )
        self.scheduler.show(place, target)
        return target

    def recover(self, **assigned: dict[str, int]) -> None:
        """What a new process does when it hears from the scheduler half for the first time."""
        assignment = Assignment(2, (), (), **{"keep": {}, **assigned})
        recover(self.holdings, {"block": self.driver}, self.host, self.root, assignment)
        self.usage.assigned(assignment, asked=self.now())

    def assign(self, keep: dict[str, int] | None = None, revoke: dict[str, int] | None = None) -> None:
        """What the scheduler half wants now."""
        self.usage.assigned(Assignment(2, (), (), keep or {}, revoke or {}), asked=self.now())


@pytest.fixture
def mappings(
    root: str, scheduler: FakeScheduler, client: SchedulerClient, host: FakeHost, agent: FakeAgent
) -> Mappings:
    return Mappings(root, scheduler, client, host, agent, FakeHostDriver({}, "host-a:5051"))


MakeMappings = Callable[..., Mappings]


@pytest.fixture
def make_mappings(
    root: str, scheduler: FakeScheduler, client: SchedulerClient, host: FakeHost, agent: FakeAgent
) -> MakeMappings:
    return lambda **changes: Mappings(
        root, scheduler, client, host, agent, FakeHostDriver({}, "host-a:5051"), **changes
    )
