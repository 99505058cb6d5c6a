"""Polly as a Mesos framework: what it does when Mesos calls.

It keeps exactly one executor on every chosen agent, takes offers only while one is missing, and hands each executor its
token by framework message, which Mesos keeps nowhere.

Offers are judged here; how an executor is launched stands in :mod:`polly_mesos.scheduler.placement`.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from polly_mesos.agent_api import ALREADY_SERVING, Summons, encode
from polly_mesos.config import AgentSettings
from polly_mesos.errors import PollyError, UnknownAgent
from polly_mesos.faults import fault_point
from polly_mesos.ledger import Ledger
from polly_mesos.model import AgentState, Json
from polly_mesos.scheduler import placement
from polly_mesos.scheduler.placement import AgentFacts, ExecutorSettings
from polly_mesos.scheduler.presence import Presence
from polly_mesos.scheduler.tasks import agent_of_task, probe_of, task_of
from polly_mesos.scheduler.tokens import Tokens

log = logging.getLogger(__name__)

REFUSE_UNSUITABLE = 3600.0
"""Seconds for which an offer that we have no use for is declined."""
REFUSE_TOO_SMALL = 5.0
"""Seconds after which an agent without room for the executor is looked at again."""
_RECONCILE = 3.0
_FIRST_RELAUNCH = 0.5
_LONGEST_RELAUNCH = 60.0
_REFUSED_RELAUNCH = 2.0
"""Seconds after which a launch is tried again that an agent or an executor had no use for: the last one is not gone."""
_ENDED = {
    "TASK_FINISHED",
    "TASK_FAILED",
    "TASK_KILLED",
    "TASK_ERROR",
    "TASK_LOST",
    "TASK_DROPPED",
    "TASK_GONE",
    "TASK_GONE_BY_OPERATOR",
}
_AWAY = (AgentState.UNREACHABLE, AgentState.LOST, AgentState.FENCED)


class Driver(Protocol):
    """The part of :class:`polly_mesos.mesos.scheduler_driver.SchedulerDriver` that the framework uses."""

    def accept(self, offer_ids: Sequence[Json], operations: Sequence[Json], refuse_seconds: float) -> bool: ...

    def decline(self, offer_ids: Sequence[Json], refuse_seconds: float) -> bool: ...

    def suppress(self) -> bool: ...

    def revive(self) -> bool: ...

    def reconcile(self, tasks: Sequence[Json]) -> bool: ...

    def kill(self, task_id: str, agent_id: str) -> bool: ...

    def send_to_executor(self, executor_id: str, agent_id: str, data: bytes) -> bool: ...


@dataclass(slots=True)
class _Executor:
    """What is known of the executor on one agent. ``task`` is empty while none is launched.

    ``ended`` is the last task whose end was counted: Mesos tells of an end more than once.
    """

    task: str = ""
    ended: str = ""
    failures: int = 0
    not_before: float = 0.0


class Framework:
    """The scheduler callbacks. Called from the driver's thread and from the timer of the scheduler half.

    :param isolates: tells whether an agent (``host:port``) isolates file systems, so that mounts need propagation
    """

    def __init__(
        self,
        ledger: Ledger,
        tokens: Tokens,
        *,
        role: str,
        agents: AgentSettings,
        settings: ExecutorSettings,
        scheduler_url: str,
        isolates: Callable[[str], bool],
        presence: Presence,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._tokens = tokens
        self._role = role
        self._agents = agents
        self._settings = settings
        self._scheduler_url = scheduler_url
        self._isolates = isolates
        self._presence = presence
        self._clock = clock
        self._lock = threading.RLock()
        self._executors: dict[str, _Executor] = {}
        self._suppressed = False
        self._filtered = False
        """Whether offers that we now need may have been declined for long, while we had no need of them."""
        self._known_since = 0.0
        self._launches = 0
        self._driver: Driver | None = None
        self.refused_with = ""
        """Why the master refused the framework, empty while it did not."""
        self.connected = threading.Event()

    def bind(self, driver: Driver) -> None:
        """Tell the framework its driver, before the driver starts."""
        self._driver = driver

    @property
    def driver(self) -> Driver:
        """The driver, once bound."""
        assert self._driver is not None
        return self._driver

    # What Mesos calls -------------------------------------------------------------------------------------------

    def registered(self, framework_id: str, master_info: Json) -> None:
        """(Re-)registered: learn what runs, and offers from the start."""
        if self._ledger.framework_id() != framework_id:
            self._ledger.set_framework_id(framework_id)
        with self._lock:
            self._known_since = self._clock()
            self._suppressed = False
        log.info("registered with master %s as framework %s", master_info.get("address", {}), framework_id)
        self.connected.set()
        self.driver.reconcile([])
        self.driver.revive()

    def disconnected(self) -> None:
        """The master is gone for now."""
        self.connected.clear()
        log.warning("disconnected from the master")

    def offers(self, offers: list[Json]) -> None:
        """Use an offer where an executor is missing, decline it otherwise."""
        for offer in offers:
            self._consider(offer)
        self._suppress_when_satisfied()

    def rescinded(self, offer_id: str) -> None:
        """An offer was taken back before it was used; nothing is kept of offers."""

    def update(self, status: Json) -> None:
        """The state of one of our tasks."""
        task, state = status["task_id"]["value"], status["state"]
        agent_id = status.get("agent_id", {}).get("value", "") or agent_of_task(task)
        if state == "TASK_GONE_BY_OPERATOR":
            self._presence.gone(agent_id)
            with self._lock:
                self._executors.pop(agent_id, None)
            return
        if task == probe_of(agent_id):
            if state == "TASK_UNKNOWN":
                self._presence.unknown(agent_id)
            return
        with self._lock:
            executor = self._executors.setdefault(agent_id, _Executor())
            if state not in _ENDED:
                # Of a task that has ended, Mesos says that it is unreachable, too, while its agent is.
                if executor.ended != task:
                    executor.task = task
                if state == "TASK_RUNNING":
                    executor.failures = 0
                if state == "TASK_UNREACHABLE":
                    self._presence.lost(agent_id)
                return
            if executor.task not in ("", task) or executor.ended == task:
                return
            self._ended(agent_id, executor, status)

    def message(self, executor_id: str, agent_id: str, data: bytes) -> None:
        """An executor asks for its token."""
        try:
            wants = json.loads(data).get("want")
        except ValueError:
            wants = None
        if wants == "summons":
            self.summon(agent_id)
        else:
            log.warning("agent %s: message from executor %s not understood", agent_id, executor_id)

    def agent_lost(self, agent_id: str) -> None:
        """The master removed an agent, perhaps only because it cannot reach it: that is not the end of its volumes."""
        with self._lock:
            if not self._executors.get(agent_id, _Executor()).task:
                self._executors.pop(agent_id, None)
        self._presence.lost(agent_id)

    def executor_lost(self, executor_id: str, agent_id: str, status: int) -> None:
        """An executor ended; the update of its task says the rest."""
        log.warning("agent %s: executor %s ended with status %s", agent_id, executor_id, status)

    def refused(self, message: str) -> None:
        """The master refuses us; the scheduler half decides whether to go on."""
        self.refused_with = message
        log.error("the master refused the framework: %s", message)

    # What the scheduler half calls ------------------------------------------------------------------------------

    def summon(self, agent_id: str) -> None:
        """Send an executor its token and our address."""
        facts = self._presence.facts(agent_id)
        try:
            token = self._tokens.issue(agent_id)
        except UnknownAgent:
            if facts is None:
                log.warning(
                    "agent %s: its executor asks for a token, and the master has not told of the agent yet", agent_id
                )
                return
            # Its executor was launched under a ledger that is gone, or the agent had been forgotten.
            self._presence.remember(facts, self._agents.root_on(facts.hostname, facts.port))
            token = self._tokens.issue(agent_id)
        summons = json.dumps(encode(Summons(self._scheduler_url, token))).encode()
        self.driver.send_to_executor(placement.EXECUTOR_ID, agent_id, summons)

    def listed(self, awaited: Collection[str]) -> None:
        """The master has said which agents it has; whom it has not is unreachable at least.

        :param awaited: agents that a new leader still waits for
        """
        # The master answers for a task that it does not know by what it knows of the agent.
        asked = {agent_id: probe_of(agent_id) for agent_id in self._presence.listed(awaited)}
        with self._lock:
            running = {agent_id: executor.task for agent_id, executor in self._executors.items() if executor.task}
        # An executor that does not greet may have ended without our hearing of it.
        silent = {agent.id for agent in self._ledger.agents().values() if agent.state is AgentState.CHOSEN}
        asked |= {agent_id: task for agent_id, task in running.items() if agent_id in silent}
        if asked:
            self.driver.reconcile(
                [{"task_id": {"value": task}, "agent_id": {"value": agent_id}} for agent_id, task in asked.items()]
            )

    def agent_seen(self, facts: AgentFacts) -> None:
        """An agent is known to the master: take offers again if it lacks an executor."""
        self._presence.found(facts)
        if self._agents.admits(facts.hostname, facts.attributes) and self._missing(facts.id):
            self._wait_for(facts.id)
            self._take_offers()

    def end_executor(self, agent_id: str) -> bool:
        """Have the executor on an agent end, so that it is launched anew; False where none is known to run."""
        with self._lock:
            task = self._executors.get(agent_id, _Executor()).task
        return bool(task) and self.driver.kill(task, agent_id)

    def tick(self) -> None:
        """Called every second or so: takes offers again once an executor may be launched anew."""
        now = self._clock()
        with self._lock:
            due = any(not executor.task and executor.not_before <= now for executor in self._executors.values())
        if due:
            self._take_offers()

    # ------------------------------------------------------------------------------------------------------------

    def _consider(self, offer: Json) -> None:
        facts = placement.facts_of_offer(offer)
        offer_ids = [offer["id"]]
        self._presence.found(facts)
        if not self._agents.admits(facts.hostname, facts.attributes) or not self._missing(facts.id):
            self.driver.decline(offer_ids, REFUSE_UNSUITABLE)
            return
        self._wait_for(facts.id)
        if not self._may_launch(facts.id) or not placement.fits(offer, self._settings):
            self.driver.decline(offer_ids, REFUSE_TOO_SMALL if self._may_launch(facts.id) else 1.0)
            return
        self._launch(facts, offer_ids)

    def _launch(self, facts: AgentFacts, offer_ids: list[Json]) -> None:
        root = self._agents.root_on(facts.hostname, facts.port)
        try:
            isolates = self._isolates(facts.endpoint)
        except PollyError as error:
            log.warning("agent %s (%s): %s", facts.id, facts.endpoint, error)
            self.driver.decline(offer_ids, REFUSE_TOO_SMALL)
            return
        self._presence.remember(facts, root)
        with self._lock:
            self._launches += 1
            task_id = task_of(facts.id, f"{int(time.time() * 1000):x}-{self._launches}")
            self._executors.setdefault(facts.id, _Executor()).task = task_id
        operation = placement.launch(facts, self._settings, task_id, self._role, root if isolates else None)
        log.info("agent %s (%s): launching the executor", facts.id, facts.endpoint)
        fault_point("agent.launch.before-accept")
        if not self.driver.accept(offer_ids, [operation], REFUSE_TOO_SMALL):
            with self._lock:
                self._executors[facts.id].task = ""
        fault_point("agent.launch.after-accept")

    def _missing(self, agent_id: str) -> bool:
        with self._lock:
            if self._executors.get(agent_id, _Executor()).task:
                return False
        try:
            return not self._ledger.agent(agent_id).standalone
        except UnknownAgent:
            return True

    def _wait_for(self, agent_id: str) -> None:
        """Take offers until this agent, which lacks an executor, has one; its offer may come late."""
        with self._lock:
            self._executors.setdefault(agent_id, _Executor())

    def _may_launch(self, agent_id: str) -> bool:
        """False while an executor that we do not know of yet may still be reported, or one has just failed."""
        now = self._clock()
        with self._lock:
            if now < self._executors.get(agent_id, _Executor()).not_before:
                return False
            if now >= self._known_since + _RECONCILE:
                return True
        try:
            known = self._ledger.agent(agent_id)
        except UnknownAgent:
            return True
        return known.state in _AWAY

    def _ended(self, agent_id: str, executor: _Executor, status: Json) -> None:
        executor.task = ""
        self._filtered = True
        lives = status.get("message") == ALREADY_SERVING
        if lives or status["state"] == "TASK_DROPPED":
            delay = _REFUSED_RELAUNCH  # nothing ran, so nothing has failed
        else:
            executor.ended = status["task_id"]["value"]
            executor.failures += 1
            delay = min(_LONGEST_RELAUNCH, _FIRST_RELAUNCH * 2 ** (executor.failures - 1))
        executor.not_before = self._clock() + delay
        log.warning(
            "agent %s: executor task is %s (%s): %s%s; launching again in %.1f s",
            agent_id,
            status["state"],
            status.get("reason", ""),
            status.get("message", ""),
            _remedy(str(status.get("message", ""))),
            delay,
        )
        if lives:
            # It runs a task of which we have not heard, as behind a new leader whom its agent told of it later.
            self.driver.reconcile([])
        else:
            self._presence.idle(agent_id)

    def _take_offers(self) -> None:
        with self._lock:
            if not (self._suppressed or self._filtered):
                return
            self._suppressed = self._filtered = False
        self.driver.revive()

    def _suppress_when_satisfied(self) -> None:
        with self._lock:
            waiting = any(not executor.task for executor in self._executors.values())
            settled = self._clock() >= self._known_since + _RECONCILE
            if waiting or self._suppressed or not settled:
                return
            self._suppressed = True
        self.driver.suppress()


def _remedy(message: str) -> str:
    if "shared mount" in message or "mount propagation" in message:
        return (
            " -- the volume root must lie under a shared mount on that agent: run"
            " `mount --bind ROOT ROOT && mount --make-shared ROOT` there, ROOT being agents.volume_root"
        )
    return ""
