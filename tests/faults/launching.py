"""A simulated Mesos around the real framework: what it launched keeps running when the scheduler half crashes."""

from __future__ import annotations

import contextlib
import json

from polly_mesos.agent_api import Summons, decode
from polly_mesos.config import AgentSettings
from polly_mesos.errors import PollyError
from polly_mesos.executor.mesos_executor import WANT_SUMMONS
from polly_mesos.scheduler.framework import Framework
from polly_mesos.scheduler.placement import EXECUTOR_ID, ExecutorSettings
from polly_mesos.scheduler.tokens import Tokens
from polly_mesos.testing.offers import Story
from tests.faults.world import Crash, World

AGENT = "agent-9"
_LONG = 3600.0


class Launching:
    """One agent without an executor, and a master that offers it.

    :ivar running: agent -> task, of what Mesos has launched
    """

    def __init__(self, world: World) -> None:
        self.running: dict[str, str] = {}
        self._world = world
        self._token = ""
        self._start()

    def live_through_it(self) -> None:
        """Offers come until the executor runs, and it asks for its token until it has one."""
        for _ in range(3):
            with self._until_a_crash():
                self._story.offer(AGENT)
        for _ in range(3):
            with self._until_a_crash():
                self._story.framework.message(EXECUTOR_ID, AGENT, WANT_SUMMONS)
                for agent, data in self._story.driver.messages:
                    assert agent == AGENT
                    self._token = decode(Summons, json.loads(data)).token

    def token_is_accepted(self) -> bool:
        """Whether the scheduler half knows the executor by the newest token that it was given."""
        try:
            return self._tokens.check(self._token).id == AGENT
        except PollyError:
            return False

    @contextlib.contextmanager
    def _until_a_crash(self) -> object:
        try:
            yield
        except Crash:
            self._note_what_was_launched()
            self._world.restart()
            self._start()
        else:
            self._note_what_was_launched()

    def _note_what_was_launched(self) -> None:
        """Mesos has an executor's id once on an agent: a second launch fails."""
        for _, operations in self._story.driver.accepted:
            for task in operations[0]["launch"]["task_infos"]:
                known = self.running.setdefault(task["agent_id"]["value"], task["task_id"]["value"])
                assert known == task["task_id"]["value"], "a second executor is launched on one agent"

    def _start(self) -> None:
        """A new process registers, and Mesos tells it what runs."""
        half = self._world.scheduler
        self._tokens = Tokens(half.ledger)
        framework = Framework(
            half.ledger,
            self._tokens,
            role="polly",
            agents=AgentSettings(volume_root="/var/lib/polly/{port}"),
            settings=ExecutorSettings("polly", 0.1, 128 << 20, "python3", "root", "http://s/p.pyz"),
            scheduler_url="http://scheduler:7979",
            isolates=lambda endpoint: False,
            presence=half.presence,
            # Far from the start of the machine, so that the time for reconciliation is over.
            clock=iter(range(int(_LONG), 10**9, int(_LONG))).__next__,
        )
        self._story = Story(framework)
        self._story.registered()
        for agent, task in self.running.items():
            self._story.update(agent, "TASK_RUNNING", task=task)
