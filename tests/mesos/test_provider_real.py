"""Each sequence that is known to take a Mesos agent or master down, tried through our client on the real ones.

Every test ends with the same agent and master processes that it began with, unless it ended one of them itself.
"""

from __future__ import annotations

import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from polly_mesos.agent_api import Application, Verdict
from polly_mesos.errors import AgentUnreachable, SchedulerUnreachable
from polly_mesos.mesos import resources as arithmetic
from polly_mesos.mesos.agent_client import AgentClient
from polly_mesos.mesos.local.agent import LocalAgent
from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.mesos.local.record import load
from polly_mesos.mesos.master_client import MasterClient
from polly_mesos.mesos.provider import ProviderIdentity, ProviderState, ResourceProvider, messages
from polly_mesos.model import Json

from .conftest import ClusterFactory
from .framework import Framework, wait_until

pytestmark = pytest.mark.mesos

SECONDS = 30.0
POOL = {"root": "/nowhere/gold", "profile": "gold", "vendor": "polly.gold"}
RAW = {"profile": "raw", "vendor": "polly.raw"}
Judge = Callable[[Application], Verdict]


def pool(size: float, **more: Any) -> Json:
    return arithmetic.pool_disk(size, **POOL, **more)


def verdict(application: Application, state: str = "OPERATION_FINISHED", **more: Any) -> Verdict:
    fields = {"status_uuid": str(uuid.uuid4()), "info": application.info, "framework": application.framework, **more}
    return Verdict(id=application.id, state=state, **fields)


class Owner:
    """The executor half for these tests: a ledger of one agent, in memory."""

    def __init__(self) -> None:
        self.judge: Judge = verdict
        self.applied: list[Application] = []
        self.verdicts: list[Verdict] = []
        self.settled: list[str] = []
        self.published: list[list[Json]] = []
        self.known_as: list[tuple[str, str]] = []

    def apply(self, application: Application) -> Verdict:
        self.applied.append(application)
        answer = self.judge(application)
        self.verdicts.append(answer)
        return answer

    def publish(self, resources: Any) -> bool:
        self.published.append(list(resources))
        return True

    def acknowledged(self, operation_id: str) -> None:
        self.settled.append(operation_id)

    def subscribed(self, agent_id: str, provider_id: str) -> None:
        self.known_as.append((agent_id, provider_id))


class Bench:
    """One agent, its providers, and a look at both from outside."""

    def __init__(self, cluster: LocalCluster, agent: LocalAgent, directory: Path) -> None:
        self.cluster = cluster
        self.local = agent
        self.agent = AgentClient(agent.endpoint)
        self.master = MasterClient(cluster.master)
        self.directory = directory
        self.name = f"test-{uuid.uuid4()}"
        self._providers: list[ResourceProvider] = []

    def provider(self, owner: Owner, *totals: Json, lock: str = "lock", **identity: str) -> ResourceProvider:
        who = ProviderIdentity("org.polly.mesos", self.name, **identity)
        made = ResourceProvider(
            self.agent, owner, who, lock_path=self.directory / lock, settle=0.3, minimum_interval=0.3
        )
        self._providers.append(made)
        if totals:
            made.set_desired(totals)
        made.start()
        return made

    def ready(self, owner: Owner, *totals: Json, **more: str) -> ResourceProvider:
        made = self.provider(owner, *totals, **more)
        assert made.wait_for_state(ProviderState.READY, SECONDS), made.state
        return made

    def totals(self) -> list[Json]:
        """The provider's totals as the agent has them, without provider id."""
        return [
            arithmetic.normalise({key: value for key, value in resource.items() if key != "provider_id"})
            for provider in self.agent.resource_providers()
            if provider.name == self.name
            for resource in provider.resources
        ]

    def wait_for_totals(self, *resources: Json) -> None:
        wait_until(lambda: arithmetic.equal(self.totals(), resources))

    def processes(self) -> object:
        """The agent's and the master's process; a process that was started anew is another one."""
        record = load(self.cluster.layout.record)
        assert record is not None
        assert self.local.alive()
        return self.local.pid, record.master.process

    def stop(self) -> None:
        for one in self._providers:
            one.stop()

    def close(self) -> None:
        self.stop()
        self.agent.close()
        self.master.close()


@pytest.fixture
def bench(cluster: LocalCluster, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(cluster, cluster.agents[0], tmp_path)
    before = made.processes()
    try:
        yield made
        made.stop()
        assert made.processes() == before, "a process of Mesos died"
        assert made.agent.agent_id()
        assert made.cluster.status().alive
        assert made.master.agents()
    finally:
        made.close()


@pytest.fixture
def framework(bench: Bench) -> Iterator[Framework]:
    with Framework(bench.cluster.master) as made:
        yield made


def offer_with(framework: Framework, bench: Bench, **source: str) -> tuple[Json, Json]:
    """An offer with a disk of the provider, and that disk."""
    agent_id = bench.agent.agent_id()
    provider_ids = {one.id for one in bench.agent.resource_providers() if one.name == bench.name}
    for _ in range(200):
        offer = framework.offer(agent_id)
        for resource in offer["resources"]:
            wanted = {"type": "PATH", **source}.items() <= resource.get("disk", {}).get("source", {}).items()
            if wanted and arithmetic.provider_of(resource) in provider_ids:
                return offer, resource
        framework.accept(offer)
    raise AssertionError(f"the disk {source} is not offered")


def reserved(disk: Json, size: float) -> Json:
    return {**disk, "scalar": {"value": size}, "role": "test", "reservation": {}, "reservations": []}


def persistent(disk: Json, size: float, name: str) -> Json:
    info = {"persistence": {"id": name}, "volume": {"container_path": "data", "mode": "RW"}}
    return {**reserved(disk, size), "disk": {**disk["disk"], **info}}


def reserve(disk: Json, size: float) -> Json:
    return {"type": "RESERVE", "reserve": {"resources": [reserved(disk, size)]}}


def create(disk: Json, size: float, name: str) -> Json:
    return {"type": "CREATE", "create": {"volumes": [persistent(disk, size, name)]}}


def create_disk(disk: Json, size: float) -> Json:
    source = {**disk, "scalar": {"value": size}}
    return {"type": "CREATE_DISK", "create_disk": {"source": source, "target_type": "MOUNT"}}


def mounted(size: float) -> Json:
    return arithmetic.mount_disk(size, root="/nowhere/raw", disk_id="v1", **RAW)


OWNED = arithmetic.owner_of({"role": "test", "reservation": {}})


def sever(provider: ResourceProvider) -> None:
    """Cut the stream as a network would."""
    provider._transport._present.close()


def test_a_pool_is_offered_and_a_volume_is_made_of_it(bench: Bench, framework: Framework) -> None:
    owner = Owner()
    bench.ready(owner, pool(100))
    offer, disk = offer_with(framework, bench)
    framework.accept(offer, reserve(disk, 30), create(disk, 30, "v"))
    bench.wait_for_totals(pool(70), pool(30, owner=OWNED, disk={"persistence": {"id": "v"}}))
    wait_until(lambda: len(owner.settled) == 2)
    assert [one.info["type"] for one in owner.applied] == ["RESERVE", "CREATE"]
    assert owner.settled == [one.id for one in owner.applied]


def test_a_task_waits_for_its_volume_to_be_published(bench: Bench, framework: Framework) -> None:
    root = bench.directory / "gold"
    owner = Owner()
    bench.ready(owner, arithmetic.pool_disk(100, root=str(root), profile="gold", vendor="polly.gold"))
    (root / "volumes/roles/test/v").mkdir(parents=True)
    offer, disk = offer_with(framework, bench)
    volume = {**persistent(disk, 30, "v"), "allocation_info": {"role": "test"}}
    cpus = {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}, "allocation_info": {"role": "test"}}
    task = {
        "name": "t",
        "task_id": {"value": f"t-{bench.name}"},
        "agent_id": offer["agent_id"],
        "command": {"value": "echo hello > data/file; sleep 600"},
        "resources": [cpus, {**cpus, "name": "mem", "scalar": {"value": 32}}, volume],
    }
    launch = {"type": "LAUNCH", "launch": {"task_infos": [task]}}
    framework.accept(offer, reserve(disk, 30), create(disk, 30, "v"), launch)
    framework.wait_for(task["task_id"]["value"], "TASK_RUNNING")
    # The agent asks again when the task's own executor has registered.
    assert {tuple(map(arithmetic.persistence_of, one)) for one in owner.published} == {("v",)}
    wait_until(lambda: (root / "volumes/roles/test/v/file").exists())
    assert bench.agent.places_in_use() >= {f"{root}/volumes/roles/test/v"}
    framework.kill(task)
    framework.wait_for(task["task_id"]["value"], "TASK_KILLED")
    wait_until(lambda: f"{root}/volumes/roles/test/v" not in bench.agent.places_in_use())


def test_a_cut_stream_is_taken_up_again_with_the_same_id(bench: Bench) -> None:
    owner = Owner()
    provider = bench.ready(owner, pool(100))
    first = provider.identity
    for count in (2, 3):
        sever(provider)
        wait_until(lambda expected=count: len(owner.known_as) == expected)
        assert provider.wait_for_state(ProviderState.READY, SECONDS)
        bench.wait_for_totals(pool(100))
    assert provider.identity == first


def test_a_second_client_waits_for_the_lock(bench: Bench) -> None:
    first = bench.ready(Owner(), pool(100))
    second = bench.provider(Owner(), pool(50), id=first.identity.id, agent_id=first.identity.agent_id)
    assert second.wait_for_state(ProviderState.LOCKED_OUT, SECONDS)
    first.stop()
    assert second.wait_for_state(ProviderState.READY, SECONDS)
    bench.wait_for_totals(pool(50))
    assert second.identity.id == first.identity.id


def test_a_second_client_with_another_lock_waits_until_the_agent_has_forgotten_the_first(bench: Bench) -> None:
    first = bench.ready(Owner(), pool(100))
    second = bench.provider(Owner(), pool(50), lock="other", id=first.identity.id, agent_id=first.identity.agent_id)
    assert second.wait_for_state(ProviderState.DRAINING, SECONDS)
    assert not second.wait_for_state((ProviderState.SUBSCRIBING, ProviderState.READY), 4.0)
    first.stop()
    assert second.wait_for_state(ProviderState.READY, SECONDS)
    bench.wait_for_totals(pool(50))


def test_refused_operations_leave_the_pool_as_it_was(bench: Bench, framework: Framework) -> None:
    owner = Owner()
    owner.judge = lambda application: verdict(application, "OPERATION_FAILED", message="no space")
    bench.ready(owner, pool(100))
    offer, disk = offer_with(framework, bench)
    framework.accept(offer, reserve(disk, 30), create(disk, 30, "v"))
    wait_until(lambda: len(owner.settled) == 2)
    bench.wait_for_totals(pool(100))
    _, disk = offer_with(framework, bench)
    assert arithmetic.megabytes(disk) == 100


def test_what_mesos_would_not_survive_is_not_sent(bench: Bench, framework: Framework) -> None:
    owner = Owner()
    answers = iter(
        [
            lambda one: verdict(one, converted=(mounted(11),)),
            lambda one: verdict(one, converted=(mounted(10),), status_uuid="AAAA"),
            lambda one: verdict(one, "OPERATION_PENDING"),
            lambda one: verdict(one, converted=(mounted(10),)),
        ]
    )
    owner.judge = lambda application: next(answers)(application)
    bench.ready(owner, arithmetic.raw_disk(50, **RAW))
    for count in range(1, 5):
        offer, disk = offer_with(framework, bench, type="RAW")
        framework.accept(offer, create_disk(disk, 10))
        wait_until(lambda expected=count: len(owner.settled) == expected)
    bench.wait_for_totals(arithmetic.raw_disk(40, **RAW), mounted(10))


def test_an_operation_stays_pending_while_the_ledger_is_away(bench: Bench, framework: Framework) -> None:
    owner = Owner()

    def judge(application: Application) -> Verdict:
        if len(owner.applied) < 3:
            raise SchedulerUnreachable("away")
        return verdict(application)

    owner.judge = judge
    bench.ready(owner, pool(100))
    offer, disk = offer_with(framework, bench)
    framework.accept(offer, reserve(disk, 30), create(disk, 30, "v"))
    wait_until(lambda: len(owner.settled) == 2)
    assert [one.info["type"] for one in owner.applied] == ["RESERVE", "RESERVE", "RESERVE", "CREATE"]


def test_a_status_of_before_a_restart_waits_for_the_totals_and_is_acknowledged(
    bench: Bench, framework: Framework
) -> None:
    owner, stopped = Owner(), threading.Event()

    def judge(application: Application) -> Verdict:
        assert stopped.wait(SECONDS)
        return verdict(application)

    owner.judge = judge
    first = bench.ready(owner, pool(100))
    offer, disk = offer_with(framework, bench)
    framework.accept(offer, reserve(disk, 30))
    wait_until(lambda: owner.applied)
    first.stop()
    stopped.set()
    wait_until(lambda: owner.verdicts)

    successor = Owner()
    second = bench.provider(successor, id=first.identity.id, agent_id=first.identity.agent_id)
    second.set_unacknowledged(owner.verdicts)
    assert second.wait_for_state(ProviderState.WAITING, SECONDS)
    assert bench.totals() == []
    second.set_desired([pool(70), pool(30, owner=OWNED)])
    wait_until(lambda: successor.settled == [owner.applied[0].id])
    bench.wait_for_totals(pool(70), pool(30, owner=OWNED))


def test_an_operation_that_the_agent_has_forgotten_is_reconciled(bench: Bench, framework: Framework) -> None:
    owner, forgotten = Owner(), threading.Event()

    def judge(application: Application) -> Verdict:
        assert forgotten.wait(SECONDS)
        return verdict(application, "OPERATION_FAILED")

    owner.judge = judge
    raw = arithmetic.raw_disk(50, **RAW)
    provider = bench.ready(owner, raw)
    offer, disk = offer_with(framework, bench, type="RAW")
    framework.accept(offer, create_disk(disk, 10))
    wait_until(lambda: owner.applied)
    totals = [arithmetic.normalise(raw, provider.identity.id)]
    state = messages.update_state(provider.identity.id, totals, [], uuid.uuid4())
    bench.agent.call_provider_api(state, provider._transport._present.id)
    forgotten.set()
    # The master gives the resources back only once it knows the outcome.
    _, disk = offer_with(framework, bench, type="RAW")
    assert arithmetic.megabytes(disk) == 50


def test_totals_shrink_and_grow_while_operations_arrive(bench: Bench, framework: Framework) -> None:
    owner = Owner()
    ledger = [pool(1000)]
    lock = threading.Lock()

    def judge(application: Application) -> Verdict:
        nonlocal ledger
        with lock:
            bare = arithmetic.normalise(reserved(pool(1), 1))
            ledger = arithmetic.add(arithmetic.subtract(ledger, [pool(1)]), [bare])
        return verdict(application)

    owner.judge = judge
    provider = bench.ready(owner, *ledger)
    for count in range(1, 13):
        offer, disk = offer_with(framework, bench)
        if disk.get("role", "*") != "*":
            framework.accept(offer)
            continue
        framework.accept(offer, reserve(disk, 1))
        with lock:
            change = [pool(20)]
            ledger = arithmetic.subtract(ledger, change) if count % 2 else arithmetic.add(ledger, change)
            provider.set_desired(ledger)
    wait_until(lambda: len(owner.verdicts) == len(owner.applied))
    with lock:
        provider.set_desired(ledger)
    bench.wait_for_totals(*ledger)


@pytest.mark.slow
def test_an_agent_that_is_killed_gets_its_provider_back(cluster_factory: ClusterFactory, tmp_path: Path) -> None:
    cluster = cluster_factory(agents=1)
    bench = Bench(cluster, cluster.agents[0], tmp_path)
    try:
        owner = Owner()
        volume = pool(30, owner=OWNED, disk={"persistence": {"id": "v"}})
        provider = bench.ready(owner, pool(70), volume)
        first = provider.identity
        bench.local.kill()
        assert provider.wait_for_state(ProviderState.FINDING, SECONDS)
        with pytest.raises(AgentUnreachable):
            bench.agent.agent_id()
        bench.local.start()
        assert provider.wait_for_state(ProviderState.READY, SECONDS)
        bench.wait_for_totals(pool(70), volume)
        assert provider.identity == first
        with Framework(cluster.master) as framework:
            _, disk = offer_with(framework, bench)
            assert arithmetic.provider_of(disk) == first.id

        bench.local.kill()
        shutil.rmtree(bench.local.work_dir / "meta")
        bench.local.start()
        wait_until(lambda: len(owner.known_as) == 3)
        assert provider.state is ProviderState.WAITING, "what was desired on the former agent must not appear here"
        assert bench.totals() == []
        assert provider.identity.agent_id != first.agent_id
        assert provider.identity.id != first.id
        provider.set_desired([pool(100)])
        bench.wait_for_totals(pool(100))
        assert bench.local.alive()
    finally:
        bench.close()


def test_an_id_that_the_agent_does_not_know_is_given_up(bench: Bench) -> None:
    unknown = str(uuid.uuid4())
    provider = bench.ready(Owner(), pool(100), id=unknown, agent_id=bench.agent.agent_id())
    assert provider.identity.id != unknown
    bench.wait_for_totals(pool(100))
