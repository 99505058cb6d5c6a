"""Wears a real Mesos out: providers that come and go, and frameworks that never wait for anybody.

Built on the provider client alone, with a ledger in memory, so that a disturbance takes seconds. What is done
to each provider follows from the seed; what threads and Mesos make of the order of all together is chance.
"""

from __future__ import annotations

import random
import re
import shutil
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from polly_mesos.agent_api import Application, Verdict
from polly_mesos.errors import MesosError, PollyError, SchedulerUnreachable
from polly_mesos.mesos import resources as arithmetic
from polly_mesos.mesos.agent_client import AgentClient
from polly_mesos.mesos.local.agent import LocalAgent
from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.mesos.local.record import load
from polly_mesos.mesos.provider import ProviderIdentity, ProviderState, ResourceProvider, steps
from polly_mesos.model import Json

from .operations import BusyFramework

TYPE = "org.polly.mesos"
POOL_MB = 200
SETTLE = 1.5
CONVERGE_SECONDS = 90.0
REST_SECONDS = 0.7
BURST_SECONDS = 0.6
FATAL = re.compile(r"^F\d{4} .*|.*Check failed.*|.*\*\*\* Aborted.*|.*\*\*\* SIG.*", re.MULTILINE)


class MemoryLedger:
    """One provider's ledger, which outlives the provider client as the real one outlives an executor.

    :param refuse: share of the operations that fail
    """

    def __init__(self, chance: random.Random, root: Path, refuse: float = 0.15) -> None:
        self._chance = chance
        self._refuse = refuse
        self._lock = threading.Lock()
        source = {"root": str(root), "profile": root.name, "vendor": f"polly.{root.name}"}
        self._pool = lambda size: arithmetic.pool_disk(size, **source)
        self.totals: list[Json] = [self._pool(POOL_MB)]
        self.version = 1
        self.verdicts: dict[str, Verdict] = {}
        self.unacknowledged: dict[str, Verdict] = {}
        self.away = threading.Event()
        self.counts: Counter[str] = Counter()
        self.known_as = ("", "")

    def apply(self, application: Application) -> Verdict:
        if self.away.is_set():
            raise SchedulerUnreachable("the ledger is away")
        with self._lock:
            if application.id not in self.verdicts:
                verdict = self._judge(application)
                self.verdicts[application.id] = self.unacknowledged[application.id] = verdict
                self.counts[verdict.state] += 1
            return self.verdicts[application.id]

    def _judge(self, application: Application) -> Verdict:
        state, message = "OPERATION_FINISHED", ""
        try:
            if self._chance.random() < self._refuse:
                raise SchedulerUnreachable("the ledger refuses, for once")
            self.totals = arithmetic.apply(self.totals, _bare(application.info))
            self.version += 1
        except PollyError as error:
            state, message = "OPERATION_FAILED", str(error)
        return Verdict(
            application.id,
            state,
            str(uuid.uuid4()),
            application.info,
            application.framework,
            message=message,
            version=self.version,
        )

    def publish(self, resources: Sequence[Json]) -> bool:
        for resource in resources:
            if arithmetic.persistence_of(resource):
                Path(arithmetic.volume_path(resource)).mkdir(parents=True, exist_ok=True)
        self.counts["PUBLISH"] += 1
        return True

    def acknowledged(self, operation_id: str) -> None:
        if self.away.is_set():
            raise SchedulerUnreachable("the ledger is away")
        with self._lock:
            self.unacknowledged.pop(operation_id, None)

    def subscribed(self, agent_id: str, provider_id: str) -> None:
        self.known_as = (agent_id, provider_id)
        self.counts["SUBSCRIBED"] += 1

    def resize(self) -> None:
        """More or less of the pool is free, as when leases move between agents."""
        with self._lock:
            change = [self._pool(self._chance.randrange(1, 60))]
            try:
                self.totals = arithmetic.subtract(self.totals, change)
            except PollyError:
                self.totals = arithmetic.add(self.totals, change)
            self.version += 1

    def wishes(self) -> tuple[list[Verdict], list[Json], int]:
        with self._lock:
            return list(self.unacknowledged.values()), self.totals, self.version


def _bare(info: Json) -> Json:
    """The operation without the provider's id, which the ledger's resources do not carry."""
    kind = str(info["type"]).lower()
    key = "volumes" if kind in ("create", "destroy") else "resources"
    listed = [{name: value for name, value in one.items() if name != "provider_id"} for one in info[kind][key]]
    return {"type": info["type"], kind: {key: listed}}


class Worn:
    """One provider on one agent, and what is done to it."""

    def __init__(self, agent: LocalAgent, directory: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.name = f"worn-{seed}"
        self.local = agent
        self.client = AgentClient(agent.endpoint)
        self._lock_path = directory / f"{self.name}.lock"
        self.ledger = MemoryLedger(self.chance, directory / self.name)
        self.provider = self._begin()

    def _begin(self) -> ResourceProvider:
        agent_id, provider_id = self.ledger.known_as
        identity = ProviderIdentity(TYPE, self.name, id=provider_id, agent_id=agent_id)
        made = ResourceProvider(
            self.client, self.ledger, identity, lock_path=self._lock_path, settle=SETTLE, minimum_interval=0.1
        )
        self.provider = made
        self.desire()
        made.start()
        return made

    def desire(self) -> None:
        """What a new assignment does."""
        verdicts, totals, version = self.ledger.wishes()
        self.provider.set_unacknowledged(verdicts)
        self.provider.set_desired(totals, version=version)

    def start_anew(self) -> None:
        """As a new executor process does, with operations in flight and statuses that nobody acknowledged."""
        self.provider.stop()
        assert self.provider.wait_for_state(ProviderState.STOPPED, CONVERGE_SECONDS)
        self._begin()

    def cut(self) -> None:
        """As a network does."""
        self.provider._transport._present.close()

    def resize(self) -> None:
        self.ledger.resize()
        self.desire()

    def kill_the_agent(self) -> None:
        """And start it with its state."""
        self.local.kill()
        self.local.start()

    def disturb(self) -> str:
        """One cycle; returns what it was. What the ledger did not judge before is in flight meanwhile."""
        todo: Sequence[Callable[[], None]] = (self.start_anew, self.cut, self.resize, self.kill_the_agent)
        (done,) = self.chance.choices(todo, weights=(8, 6, 6, 1))
        done()
        time.sleep(self.chance.uniform(0.0, 0.2))
        self.ledger.away.clear()
        return done.__name__

    @property
    def rests(self) -> bool:
        """Whether no operation came and no status was sent for a while."""
        machine = self.provider._machine
        return time.monotonic() - max(machine._operation_at, machine._status_at) > REST_SECONDS

    @property
    def told(self) -> bool:
        """Whether the agent has the totals that it is to have, or cannot get them while the ledger is away."""
        machine = self.provider._machine
        return self.provider.state is ProviderState.READY and machine._update_due() == steps.NEVER

    def difference(self) -> str:
        """How the agent's view differs from the ledger's, empty where it does not."""
        _, wanted, _ = self.ledger.wishes()
        try:
            found = [one for one in self.client.resource_providers() if one.name == self.name]
        except MesosError as error:
            return str(error)
        if len(found) != 1:
            return f"{self.name}: the agent has {len(found)} of it, and it is {self.provider.state}"
        bare = [{key: value for key, value in one.items() if key != "provider_id"} for one in found[0].resources]
        if not arithmetic.equal(bare, wanted):
            return f"{self.name}: the agent has {arithmetic.canonical(bare)}, not {arithmetic.canonical(wanted)}"
        # Those with a framework's id count as heard: where an acknowledgement is lost between master and provider, the
        # master has forgotten the operation and does not pass on another one (src/master/master.cpp:5994).
        waiting = [verdict.id for verdict in list(self.ledger.unacknowledged.values()) if "id" not in verdict.info]
        return f"{self.name}: nobody acknowledges {waiting}" if waiting else ""


class Endurance:
    """A cluster, a provider on each agent, and a framework; :meth:`run` disturbs them, and they must come through it.

    The framework works in bursts that are shorter than the providers' ``settle``, and rests while they are disturbed:
    what is in flight then are operations that are not judged and statuses that are not acknowledged, not messages
    between master and agent. Mesos 1.11 has windows, mostly of a millisecond, once of seconds, in which such a message
    aborts a process, and which no provider can close: it does not know of offers, and may be killed at any moment.

    - An operation, or the acknowledgement of one's status, that reaches the agent between the end of its provider's
      stream and the master's learning of that aborts the agent (``CHECK_NOTNULL`` in Slave::addOperation and
      removeOperation, src/slave/slave.cpp:9131 and 9262).
    - An offer that the allocator has made and the master has not sent when it learns that the provider has gone is sent
      all the same, and aborts the master when it is accepted (``resourceProviders.contains`` in Master::_apply,
      src/master/master.cpp:11687).
    - An operation that reaches the agent after totals that lack what it takes, made out of an offer of before, aborts
      the agent (``CHECK_SOME`` in Slave::apply, src/slave/slave.cpp:9371). The client makes this rare: it replaces
      totals only when no operation has come for a while (:class:`polly_mesos.mesos.provider.steps.Timing`).
    """

    def __init__(self, cluster: LocalCluster, framework: BusyFramework, directory: Path, *, seed: int) -> None:
        self._cluster = cluster
        self._framework = framework
        self._chance = random.Random(seed)
        self.worn = [Worn(agent, directory, seed * 1000 + number) for number, agent in enumerate(cluster.agents)]
        self.done: Counter[str] = Counter()
        self._looked_at: Counter[Path] = Counter()
        self._processes = self._seen()

    @property
    def cycles(self) -> int:
        """Disturbances so far."""
        return sum(self.done.values())

    def run(self, cycles: int) -> None:
        """Disturb so often in all; raises where Mesos did not come through it."""
        goal = self.cycles + cycles
        with ThreadPoolExecutor(len(self.worn)) as pool:
            while self.cycles < goal:
                self._burst()
                self.done.update(pool.map(Worn.disturb, self.worn))
                self._processes = self._seen()
                self._await(lambda: all(one.told for one in self.worn), "totals that the agents have")
        self.converge()

    def _burst(self) -> None:
        self._framework.resume()
        time.sleep(self._chance.uniform(0.2, BURST_SECONDS))
        for one in self._chance.sample(self.worn, len(self.worn) // 2):
            one.ledger.away.set()
        time.sleep(self._chance.uniform(0.0, BURST_SECONDS))
        self._framework.pause()
        self._await(lambda: all(one.rests for one in self.worn), "rest after a burst")
        self._await(lambda: self._framework.offers_rest(REST_SECONDS), "all offers to be held")

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + CONVERGE_SECONDS
        while not condition():
            self.check()
            assert time.monotonic() < deadline, f"no {what}: {[(one.name, one.provider.state) for one in self.worn]}"
            time.sleep(0.02)
        self.check()

    def _seen(self) -> object:
        record = load(self._cluster.layout.record)
        assert record is not None
        return record.master.process, tuple(agent.pid for agent in self._cluster.agents)

    def check(self) -> None:
        """No process of Mesos has ended by itself, and none says that it is about to."""
        for agent in self._cluster.agents:
            assert agent.alive(), f"{agent.name} ended by itself: {_last_words(agent.log)}"
        assert self._cluster.status().alive, f"the master ended by itself: {_last_words(self._cluster.master_log)}"
        assert self._seen() == self._processes
        for log in (self._cluster.master_log, *(agent.log for agent in self._cluster.agents)):
            found = FATAL.search(self._news_in(log))
            assert found is None, f"{log.name}: {found.group()}"

    def _news_in(self, log: Path) -> str:
        """The lines that were not looked at before: the whole grows to tens of megabytes."""
        with open(log, "rb") as file:
            file.seek(self._looked_at[log])
            news = file.read()
        whole_lines = news[: news.rfind(b"\n") + 1]
        self._looked_at[log] += len(whole_lines)
        return whole_lines.decode(errors="replace")

    def converge(self) -> None:
        """Wait until agents and ledgers agree, and no operation is left that anybody waits for."""
        deadline = time.monotonic() + CONVERGE_SECONDS
        while differences := [*self._differences()]:
            self.check()
            assert time.monotonic() < deadline, differences
            self._framework.ask_for_outcomes()
            time.sleep(1.0)
        self.check()

    def _differences(self) -> Iterator[str]:
        for one in self.worn:
            one.desire()
            if words := one.difference():
                yield words
        if waiting := self._framework.unanswered:
            yield f"the framework hears nothing of {waiting}"

    def close(self) -> None:
        for one in self.worn:
            one.provider.stop()
        for one in self.worn:
            one.client.close()

    @property
    def counts(self) -> Counter[str]:
        """Everything that happened, by kind."""
        return sum((one.ledger.counts for one in self.worn), Counter(self.done))


def _last_words(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-40:])


@contextmanager
def endurance(*, seed: int, agents: int = 4) -> Iterator[Endurance]:
    """A cluster of its own for one endurance run, ended whatever happens."""
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="polly-endurance-"))
        stack.callback(shutil.rmtree, directory)
        directory.chmod(0o755)
        often = {"MESOS_ALLOCATION_INTERVAL": "100ms"}  # as many offers as in ten times the time
        cluster = LocalCluster(directory / "mesos", agents=agents, isolation="posix", environment=often)
        stack.callback(cluster.down)
        cluster.up()
        framework = stack.enter_context(BusyFramework(cluster.master, seed))
        made = Endurance(cluster, framework, directory, seed=seed)
        stack.callback(made.close)
        yield made
