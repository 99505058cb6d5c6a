"""The life of the executor half, with everything around it played by strict stand-ins."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from polly_mesos.agent_api import Application, Assignment, HostService, Summons, Verdict, Welcome, encode
from polly_mesos.executor import half, logs
from polly_mesos.executor.half import ExecutorHalf
from polly_mesos.executor.mesos_executor import WANT_SUMMONS, PollyExecutor
from polly_mesos.executor.provider_handler import ProviderHandler
from polly_mesos.executor.scheduler_client import SchedulerClient
from polly_mesos.mesos.resources import volume_path
from polly_mesos.model import Filesystem
from tests.unit.executor.conftest import Mappings
from tests.unit.executor.fakes import (
    AGENT,
    OTHER,
    TOKEN,
    VOLUME,
    FakeAgent,
    FakeHost,
    FakeProvider,
    FakeScheduler,
    eventually,
    path_volume,
    welcome_to,
)

POOL = {"name": "disk", "type": "SCALAR", "scalar": {"value": 1024}}
VERDICT = Verdict("op", "OPERATION_FINISHED", "uuid", {"type": "RESERVE"}, "framework")


@dataclass
class Life:
    """An executor half and the providers that it made, one after the other."""

    client: SchedulerClient
    agent: FakeAgent
    host: FakeHost
    providers: list[FakeProvider] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.half = ExecutorHalf(self.client, self.agent, self.host, self._provider, node="host-a:5051", retry=0.02)

    def _provider(self, handler: ProviderHandler, welcome: Welcome) -> FakeProvider:
        self.providers.append(FakeProvider(handler, welcome, self.agent))
        return self.providers[-1]

    @property
    def provider(self) -> FakeProvider:
        return self.providers[-1]

    def begin(self) -> None:
        self.half.start()
        eventually(lambda: self.half.serving)


@pytest.fixture
def life(client: SchedulerClient, agent: FakeAgent, host: FakeHost) -> Iterator[Life]:
    made = Life(client, agent, host)
    yield made
    made.half.stop()


def test_it_greets_reports_and_advertises_what_is_assigned(life: Life, scheduler: FakeScheduler) -> None:
    scheduler.assign(Assignment(0, (POOL,), (VERDICT,), {}))
    life.begin()
    (hello,) = scheduler.hellos
    assert (hello.agent, hello.hostname, hello.node) == (AGENT, "host-a", "host-a:5051")
    (report,) = scheduler.reports
    assert report.identities["block"].host == "host-a:5051"
    assert not report.problems
    assert life.provider.running
    assert tuple(life.provider.desired or ()) == (POOL,)
    assert tuple(life.provider.unacknowledged) == (VERDICT,)
    eventually(lambda: scheduler.providers)
    assert (scheduler.providers[0].agent, scheduler.providers[0].provider_id) == (AGENT, "provider-1")


def test_assignments_are_followed(life: Life, scheduler: FakeScheduler) -> None:
    life.begin()
    scheduler.assign(Assignment(0, (POOL,), (), {}))
    eventually(lambda: tuple(life.provider.desired or ()) == (POOL,))


def test_operations_go_to_the_ledger_and_acknowledgements_too(life: Life, scheduler: FakeScheduler) -> None:
    life.begin()
    scheduler.verdicts["op"] = VERDICT
    assert life.provider.handler.apply(Application("op", {"type": "RESERVE"}, "framework")) == VERDICT
    life.provider.handler.acknowledged("op")
    eventually(lambda: scheduler.acknowledged == ["op"])


def test_an_operation_that_cannot_be_judged_fails(life: Life) -> None:
    life.begin()
    verdict = life.provider.handler.apply(Application("unprepared", {"type": "RESERVE"}, "framework"))
    assert (verdict.id, verdict.state, verdict.framework) == ("unprepared", "OPERATION_FAILED", "framework")
    assert "was not prepared" in verdict.message


def test_a_task_gets_its_volume_and_the_volume_goes_after_it(
    life: Life, scheduler: FakeScheduler, host: FakeHost, mappings: Mappings
) -> None:
    life.begin()
    resource = path_volume(mappings.root)
    mappings.ready(resource)
    life.agent.in_use = {volume_path(resource)}
    assert life.provider.handler.publish([resource])
    scheduler.assign(Assignment(0, (POOL,), (), {VOLUME: 1}))
    asked = life.agent.asked
    eventually(lambda: life.agent.asked > asked + 2)
    assert host.mounts
    life.agent.in_use = set()
    eventually(lambda: not host.mounts)
    eventually(lambda: scheduler.steps_of(VOLUME)[-1] == "unpublished")


def test_stopping_closes_the_stream_and_leaves_mounts_alone(life: Life, host: FakeHost, mappings: Mappings) -> None:
    life.begin()
    resource = path_volume(mappings.root)
    mappings.ready(resource)
    assert life.provider.handler.publish([resource])
    life.half.stop()
    assert life.provider.stopped
    assert host.mounts


def test_a_provider_that_a_mistake_has_ended_is_replaced_by_a_new_one(life: Life) -> None:
    life.begin()
    first = life.provider
    first.failed = True
    eventually(lambda: len(life.providers) > 1 and life.half.serving)
    assert first.stopped


def test_mounts_that_are_there_at_the_start_are_reported_and_kept(
    life: Life, scheduler: FakeScheduler, host: FakeHost, root: str
) -> None:
    kept, dropped = f"{root}/gold/volumes/roles/team/data", f"{root}/gold/volumes/roles/team/old"
    host.mounts = {kept: (VOLUME, "/dev/a"), dropped: (OTHER, "/dev/b")}
    life.agent.in_use = {kept}
    scheduler.assign(Assignment(0, (), (), {VOLUME: 1}))
    life.begin()
    assert scheduler.reports[0].mounted == {VOLUME: kept, OTHER: dropped}
    eventually(lambda: dropped not in host.mounts)
    assert kept in host.mounts


def test_what_this_host_holds_is_reported_whenever_it_changes(
    life: Life, scheduler: FakeScheduler, mappings: Mappings
) -> None:
    life.begin()
    assert scheduler.reports[0].generations == {}
    resource = path_volume(mappings.root)
    mappings.ready(resource, generation=7)
    life.agent.in_use = {volume_path(resource)}
    assert life.provider.handler.publish([resource])
    eventually(lambda: scheduler.reports[-1].generations == {VOLUME: 7})
    eventually(lambda: scheduler.reports[-1].mounted == {VOLUME: volume_path(resource)})
    life.agent.in_use = set()
    scheduler.assign(Assignment(0, (), (), {VOLUME: 7}))
    eventually(lambda: scheduler.reports[-1].generations == scheduler.reports[-1].mounted == {})


def test_the_host_is_reported_at_once_when_that_is_asked_for(life: Life, scheduler: FakeScheduler) -> None:
    scheduler.assign(Assignment(0, (), (), {}, look=4))
    life.begin()
    assert len(scheduler.reports) == 1
    scheduler.assign(Assignment(0, (POOL,), (), {}, look=4))
    eventually(lambda: tuple(life.provider.desired or ()) == (POOL,))
    assert len(scheduler.reports) == 1, "nobody asked"
    scheduler.assign(Assignment(0, (POOL,), (), {}, look=5))
    eventually(lambda: len(scheduler.reports) == 2)


def test_the_first_report_names_what_an_earlier_process_held(
    life: Life, scheduler: FakeScheduler, mappings: Mappings
) -> None:
    resource = path_volume(mappings.root)
    mappings.ready(resource, generation=7)
    assert mappings.publisher.publish([resource])
    life.begin()
    assert scheduler.reports[0].generations == {VOLUME: 7}


def test_a_host_on_which_nothing_changes_reports_now_and_then(
    life: Life, scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert half._LOOK_AGAIN_SECONDS < 30.0, "a host that is silent for so long is taken for gone"
    monkeypatch.setattr(half, "_LOOK_AGAIN_SECONDS", 0.0)
    life.begin()
    eventually(lambda: len(scheduler.reports) >= 3)


def test_a_report_that_is_asked_for_comes_at_once(life: Life, scheduler: FakeScheduler) -> None:
    life.begin()
    before = len(scheduler.reports)
    scheduler.assign(Assignment(0, (), (), {}, look=1))
    eventually(lambda: len(scheduler.reports) > before)


def test_a_host_that_lost_a_volume_kills_its_tasks(
    life: Life, scheduler: FakeScheduler, host: FakeHost, mappings: Mappings
) -> None:
    life.begin()
    resource = path_volume(mappings.root)
    mappings.ready(resource)
    assert life.provider.handler.publish([resource])
    life.agent.in_use = {volume_path(resource)}
    scheduler.assign(Assignment(0, (), (), {}))
    asked = life.agent.asked
    eventually(lambda: life.agent.asked > asked + 2)
    assert life.agent.killed == [], "not being mentioned is no loss"
    scheduler.assign(Assignment(0, (), (), {}, stop={VOLUME: 1}))
    eventually(lambda: not host.mounts)
    eventually(lambda: life.agent.killed == [volume_path(resource)])
    eventually(lambda: scheduler.steps_of(VOLUME)[-1] == "unpublished")


def test_mounts_that_are_in_use_outlast_a_scheduler_that_is_away_for_long(
    life: Life, scheduler: FakeScheduler, host: FakeHost, mappings: Mappings
) -> None:
    life.begin()
    used, idle = path_volume(mappings.root, "used"), path_volume(mappings.root, "idle")
    mappings.ready(used)
    mappings.ready(idle, OTHER)
    life.agent.in_use = {volume_path(used)}
    assert life.provider.handler.publish([used, idle])
    scheduler.down()
    eventually(lambda: volume_path(idle) not in host.mounts)
    asked = life.agent.asked
    eventually(lambda: life.agent.asked > asked + 5)
    assert volume_path(used) in host.mounts
    assert life.provider.running, "its disks stay on offer"
    assert life.provider.handler.publish([used]), "what is mounted needs no scheduler half"
    scheduler.up()
    eventually(lambda: scheduler.steps_of(OTHER)[-1] == "unpublished")


def test_a_fresh_ledger_that_knows_none_of_our_volumes_costs_nobody_a_mount_that_is_in_use(
    life: Life, scheduler: FakeScheduler, host: FakeHost, mappings: Mappings
) -> None:
    life.begin()
    used, idle = path_volume(mappings.root, "used"), path_volume(mappings.root, "idle")
    mappings.ready(used)
    mappings.ready(idle, OTHER)
    life.agent.in_use = {volume_path(used)}
    assert life.provider.handler.publish([used, idle])
    scheduler.forgotten = True
    scheduler.assign(Assignment(0, (), (), {}))
    eventually(lambda: len(scheduler.hellos) == 2)
    eventually(lambda: volume_path(idle) not in host.mounts)
    asked = life.agent.asked
    eventually(lambda: life.agent.asked > asked + 5)
    assert volume_path(used) in host.mounts
    assert life.agent.killed == []
    assert host.formatted, "unmounting loses nothing"
    eventually(lambda: scheduler.reports[-1].generations == {VOLUME: 1})


def test_another_clusters_scheduler_half_is_told_nothing_and_changes_nothing(
    life: Life, scheduler: FakeScheduler, host: FakeHost, mappings: Mappings
) -> None:
    life.begin()
    resource = path_volume(mappings.root)
    mappings.ready(resource)
    assert life.provider.handler.publish([resource])
    scheduler.token, scheduler.welcome = "the-other-clusters", replace(scheduler.welcome, provider_name="other")
    scheduler.assign(Assignment(0, (), (), {}))
    life.agent.in_use = {volume_path(resource)}
    eventually(lambda: not life.client.summoned)
    assert host.mounts
    assert life.provider.running


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda host: setattr(host, "missing", "mkfs.ext4 is missing; install e2fsprogs"), "install e2fsprogs"),
        (lambda host: setattr(host, "unshared", "/v is not under a shared mount"), "not under a shared mount"),
    ],
)
def test_what_the_host_lacks_is_reported_and_the_service_not_identified(
    life: Life, scheduler: FakeScheduler, host: FakeHost, prepare: Callable[[FakeHost], None], words: str
) -> None:
    prepare(host)
    life.begin()
    assert words in scheduler.reports[0].problems["block"]
    assert not scheduler.reports[0].identities


def test_a_driver_that_does_not_load_spoils_its_own_service_only(
    life: Life, scheduler: FakeScheduler, root: str
) -> None:
    bad = HostService("other", "no.such.module:Driver", {}, (Filesystem.EXT4,))
    scheduler.welcome = replace(welcome_to(root), services=(*welcome_to(root).services, bad))
    life.begin()
    assert "no.such.module" in scheduler.reports[0].problems["other"]
    assert list(scheduler.reports[0].identities) == ["block"]


def test_an_agent_with_another_id_is_greeted_anew(life: Life, scheduler: FakeScheduler) -> None:
    life.begin()
    life.agent.id = "8d8a9ab3-S7"
    life.provider.handler.subscribed("8d8a9ab3-S7", "provider-2")
    eventually(lambda: len(scheduler.hellos) == 2)
    assert scheduler.hellos[1].agent == "8d8a9ab3-S7"
    eventually(lambda: life.half.serving and life.provider.running)
    assert life.providers[0].stopped


def test_a_scheduler_that_forgot_the_agent_is_greeted_anew(life: Life, scheduler: FakeScheduler) -> None:
    life.begin()
    scheduler.forgotten = True
    scheduler.assign(Assignment(0, (), (), {}))
    eventually(lambda: len(scheduler.hellos) == 2)
    eventually(lambda: life.half.serving)


def test_it_waits_for_an_agent_that_is_still_starting(life: Life, scheduler: FakeScheduler) -> None:
    life.agent.reachable = False
    life.half.start()
    assert not scheduler.hellos
    life.agent.reachable = True
    eventually(lambda: life.half.serving)


class FakeDriver:
    """The executor driver: what was sent to the agent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.messages: list[bytes] = []
        self.updates: dict[Any, Any] = {}
        self.stopped = False

    def send_update(self, task_id: str, state: str, *, message: str = "") -> bool:
        assert not self.stopped, "an update after stop() gets lost"
        self.sent.append((task_id, state))
        return True

    def send_message(self, data: bytes) -> bool:
        self.messages.append(data)
        return True

    def stop(self) -> None:
        self.stopped = True


@dataclass
class Summoned:
    """An executor as Mesos starts it: without a token."""

    executor: PollyExecutor
    driver: FakeDriver
    client: SchedulerClient
    life: Life

    def summon(self, scheduler: FakeScheduler) -> None:
        self.executor.message(json.dumps(encode(Summons(scheduler.url, scheduler.token))).encode())


@pytest.fixture
def summoned(agent: FakeAgent, host: FakeHost) -> Iterator[Summoned]:
    client = SchedulerClient(shortest_pause=0.01, longest_pause=0.05)
    life = Life(client, agent, host)
    executor = PollyExecutor(client, lambda: life.half, ask_again=0.02)
    driver = FakeDriver()
    executor.bind(driver)
    executor.registered({}, {}, {"hostname": "host-a"})
    yield Summoned(executor, driver, client, life)
    executor.end("the test is over")


TASK = {"task_id": {"value": "polly-1"}}


def test_the_token_comes_by_message_and_is_asked_for_until_it_does(
    summoned: Summoned, scheduler: FakeScheduler
) -> None:
    summoned.executor.launch(TASK)
    assert summoned.driver.sent == [("polly-1", "TASK_RUNNING")]
    eventually(lambda: len(summoned.driver.messages) >= 2)
    assert set(summoned.driver.messages) == {WANT_SUMMONS}
    assert not scheduler.requests
    summoned.summon(scheduler)
    eventually(lambda: summoned.life.half.serving)


def test_a_refused_token_is_asked_for_anew(summoned: Summoned, scheduler: FakeScheduler) -> None:
    summoned.executor.launch(TASK)
    summoned.summon(scheduler)
    eventually(lambda: summoned.life.half.serving)
    scheduler.token = "the-next-token"
    scheduler.assign(Assignment(0, (), (), {}))
    eventually(lambda: not summoned.client.summoned)
    before = len(summoned.driver.messages)
    eventually(lambda: len(summoned.driver.messages) > before)
    summoned.summon(scheduler)
    scheduler.assign(Assignment(0, (POOL,), (), {}))
    eventually(lambda: tuple(summoned.life.provider.desired or ()) == (POOL,))
    assert len(summoned.life.providers) == 1, "a new token is no reason to leave the agent"


def test_a_killed_task_leaves_the_agent_and_ends(summoned: Summoned, scheduler: FakeScheduler) -> None:
    summoned.executor.launch(TASK)
    summoned.summon(scheduler)
    eventually(lambda: summoned.life.half.serving)
    summoned.executor.kill("polly-1", 3.0)
    eventually(lambda: summoned.driver.stopped)
    assert summoned.driver.sent[-1] == ("polly-1", "TASK_KILLED")
    assert summoned.life.provider.stopped


@pytest.fixture
def mounted(summoned: Summoned, scheduler: FakeScheduler, agent: FakeAgent, mappings: Mappings) -> str:
    """The path of a volume that a task uses on the agent of a running executor half."""
    scheduler.assign(Assignment(0, (POOL,), (), {VOLUME: 1}))
    summoned.executor.launch(TASK)
    summoned.summon(scheduler)
    eventually(lambda: summoned.life.half.serving)
    disk = path_volume(mappings.root)
    mappings.ready(disk)
    agent.in_use = {volume_path(disk)}
    assert summoned.life.provider.handler.publish([disk])
    return volume_path(disk)


def test_on_a_drained_agent_a_volume_is_let_go_of_when_its_task_has_ended_and_then_the_executor_ends(
    summoned: Summoned, mounted: str, agent: FakeAgent, host: FakeHost
) -> None:
    agent.drained = True
    asked = agent.asked
    summoned.executor.kill("polly-1", None)
    eventually(lambda: agent.asked > asked + 1)
    assert host.mounts
    assert not summoned.driver.stopped
    agent.in_use = set()
    eventually(lambda: summoned.driver.stopped)
    assert not host.mounts


def test_on_an_agent_that_is_not_drained_a_killed_executor_leaves_everything_mounted(
    summoned: Summoned, mounted: str, host: FakeHost
) -> None:
    summoned.executor.kill("polly-1", None)
    eventually(lambda: summoned.driver.stopped)
    assert host.mounts


def test_a_drained_executor_does_not_wait_longer_than_its_grace_period(
    summoned: Summoned, mounted: str, agent: FakeAgent, host: FakeHost
) -> None:
    agent.drained = True
    summoned.executor.kill("polly-1", 0.1)
    eventually(lambda: summoned.driver.stopped)
    assert host.mounts, "its task still uses it"


def test_shutdown_has_said_its_last_words_when_it_returns(summoned: Summoned) -> None:
    summoned.executor.launch(TASK)
    summoned.executor.shutdown(5.0)
    assert summoned.driver.sent[-1] == ("polly-1", "TASK_KILLED")
    assert summoned.driver.stopped


def test_a_second_task_is_refused(summoned: Summoned) -> None:
    summoned.executor.launch(TASK)
    summoned.executor.launch({"task_id": {"value": "polly-2"}})
    assert summoned.driver.sent == [("polly-1", "TASK_RUNNING"), ("polly-2", "TASK_FAILED")]


def test_secrets_are_in_no_log(summoned: Summoned, scheduler: FakeScheduler, root: str) -> None:
    stream = io.StringIO()
    before = (logging.root.handlers[:], logging.root.level)
    logs.log_to(stream, verbose=True)
    try:
        secret = "a-secret-of-the-service"
        service = replace(welcome_to(root).services[0], settings={"password": secret})
        scheduler.welcome = replace(welcome_to(root), services=(service,))
        summoned.executor.launch(TASK)
        summoned.executor.message(TOKEN.encode())
        summoned.executor.message(json.dumps({"token": TOKEN}).encode())
        summoned.summon(scheduler)
        eventually(lambda: summoned.life.half.serving)
        scheduler.token = "the-next-token"
        scheduler.assign(Assignment(0, (), (), {}))
        eventually(lambda: not summoned.client.summoned)
    finally:
        logging.root.handlers[:], level = before
        logging.root.setLevel(level)
    text = stream.getvalue()
    assert "is not a summons" in text
    assert "welcomed as agent" in text
    assert TOKEN not in text
    assert secret not in text


def test_an_event_is_one_line_with_its_traceback() -> None:
    record = logging.LogRecord("polly", logging.ERROR, "", 0, "first\nsecond", (), None)
    line = logs.OneLine().format(record)
    assert line.endswith("ERROR   polly: first | second")
    assert line.count("\n") == 0
