"""The states of agents by the master's word: there, unreachable, gone for good. Nothing is taken from anybody here."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable

from polly_mesos.errors import UnknownAgent
from polly_mesos.ledger import Ledger
from polly_mesos.model import Agent, AgentState
from polly_mesos.scheduler.placement import AgentFacts
from polly_mesos.scheduler.roster import Roster

log = logging.getLogger(__name__)

_NEVER_BACK = (AgentState.LOST, AgentState.FENCED)


class Presence:
    """Writes into the ledger what the master says of agents.

    :param patience: seconds that an agent must have been away before a master that knows nothing of it is believed, or
        one that waits for it is not waited for
    """

    def __init__(
        self, ledger: Ledger, roster: Roster, *, patience: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ledger = ledger
        self._roster = roster
        self._patience = patience
        self._clock = clock
        self._away_since: dict[str, float] = {}
        self._facts: dict[str, AgentFacts] = {}
        self._lock = threading.Lock()

    def found(self, facts: AgentFacts) -> None:
        """The master has the agent; it is connected once its executor half has reported."""
        with self._lock:
            self._facts[facts.id] = facts
            self._away_since.pop(facts.id, None)
        self._roster.add(facts.id, facts.endpoint)
        self._set(facts.id, AgentState.CHOSEN, unless=(AgentState.CONNECTED,))

    def idle(self, agent_id: str) -> None:
        """The agent's executor half has ended: the agent may be there or not."""
        if self._roster.heard and not self._roster.has(agent_id):
            self.lost(agent_id)
        else:
            self._set(agent_id, AgentState.CHOSEN)

    def lost(self, agent_id: str) -> None:
        """The master does not reach the agent. Its host may go on writing."""
        self._roster.remove(agent_id)
        with self._lock:
            self._away_since.setdefault(agent_id, self._clock())
        self._set(agent_id, AgentState.UNREACHABLE, unless=_NEVER_BACK)

    def gone(self, agent_id: str) -> None:
        """The master will never have this agent id again. Its host may go on writing all the same."""
        self._roster.remove(agent_id)
        self._set(agent_id, AgentState.LOST, unless=(AgentState.FENCED,))

    def unknown(self, agent_id: str) -> None:
        """The master knows nothing of the agent: removed, or the master has just lost its own memory."""
        with self._lock:
            since = self._away_since.setdefault(agent_id, self._clock())
        if self._clock() - since >= self._patience and not self._roster.has(agent_id):
            self.gone(agent_id)

    def listed(self, awaited: Collection[str]) -> Iterable[str]:
        """Hold the ledger's agents against the master's list; returns those that the master has to be asked about.

        :param awaited: agents that a new leader still waits for
        """
        for agent in self._ledger.agents().values():
            if self._roster.has(agent.id):
                self._set(agent.id, AgentState.CHOSEN, unless=(AgentState.CONNECTED,))
            elif agent.state.is_over:
                continue
            elif agent.id not in awaited:
                self.lost(agent.id)
                yield agent.id
            elif self._is_missed(agent):
                self.lost(agent.id)

    def _is_missed(self, agent: Agent) -> bool:
        """Whether an agent that a new leader waits for is long overdue, and its host says nothing either.

        The leader waits for 10 minutes at least, and says nothing of the agent meanwhile. Its host can be dead all the
        same, and a platform can know that.
        """
        with self._lock:
            since = self._away_since.setdefault(agent.id, self._clock())
        return self._clock() - since >= self._patience and time.time() - agent.seen >= self._patience

    def remember(self, facts: AgentFacts, volume_root: str) -> None:
        """Keep an agent that gets, or has, an executor of ours."""

        def renewed(agent: Agent) -> Agent:
            return dataclasses.replace(
                agent,
                hostname=facts.hostname,
                endpoint=facts.endpoint,
                attributes=facts.attributes,
                volume_root=volume_root,
                state=AgentState.CHOSEN,
            )

        try:
            self._ledger.change_agent(facts.id, renewed)
        except UnknownAgent:
            self._ledger.put_agent(renewed(Agent(facts.id, facts.hostname, facts.endpoint, AgentState.CHOSEN)))

    def facts(self, agent_id: str) -> AgentFacts | None:
        """What the master told of an agent since this process started."""
        with self._lock:
            return self._facts.get(agent_id)

    def _set(self, agent_id: str, state: AgentState, *, unless: Collection[AgentState] = ()) -> None:
        def changed(agent: Agent) -> Agent:
            return agent if agent.state in unless else dataclasses.replace(agent, state=state)

        try:
            self._ledger.change_agent(agent_id, changed)
        except UnknownAgent:
            log.debug("agent %s is not in the ledger and cannot become %s", agent_id, state)
