"""The way to a stream and from it: one stream at a time, and never two of one provider in the agent's eyes.

A second SUBSCRIBE with an id that the agent still holds, or whose end it has not digested, leads to an abort of the
agent at the next UPDATE_STATE (src/resource_provider/manager.cpp closes the old stream, and the news of that erases the
new provider in src/slave/slave.cpp). So a stream's end is awaited, the agent must say that it has forgotten the
provider, and a rest is kept in any case.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from polly_mesos.errors import ProviderGone
from polly_mesos.mesos.provider import steps
from polly_mesos.mesos.provider.contract import ProviderIdentity, ProviderState
from polly_mesos.mesos.provider.steps import NEVER, Attempts, Timing

log = logging.getLogger(__name__)

_REFUSALS = 2
_DRAIN_WARNING = 10.0
_OPEN = (ProviderState.SUBSCRIBING, ProviderState.WAITING, ProviderState.READY)


class Connection:
    """Finds the agent, drains, subscribes; begins again when the stream ends. Pure, as the machine is.

    :param identity: who we are; the id may be empty or no longer valid
    """

    def __init__(self, identity: ProviderIdentity, timing: Timing) -> None:
        self.state = ProviderState.IDLE
        self.identity = identity
        self.stream = 0
        """Number of the present stream, or of the last one."""
        self._timing = timing
        self._stopping = self._retiring = False
        self._finding = Attempts(timing.retry, 0.0)
        self._looking = Attempts((timing.look, timing.look), 0.0)
        self._draining_since = 0.0
        self._warn_at = 0.0
        self._quiet_until = 0.0
        self._subscribe_by = NEVER
        self._refusals = 0

    @property
    def subscribed(self) -> bool:
        """Whether the agent has accepted the present stream."""
        return self.state in (ProviderState.WAITING, ProviderState.READY)

    @property
    def over(self) -> bool:
        """Whether nothing will ever happen again."""
        return self.state in (ProviderState.STOPPED, ProviderState.RETIRED)

    @property
    def deadline(self) -> float:
        """When :meth:`proceed` is due."""
        if self.state is ProviderState.FINDING:
            return self._finding.deadline
        if self.state is ProviderState.DRAINING:
            return self._looking.deadline
        return self._subscribe_by if self.state is ProviderState.SUBSCRIBING else NEVER

    def proceed(self, now: float) -> list[steps.Action]:
        """What is due."""
        if self.state is ProviderState.FINDING and self._finding.due(now):
            self._finding.begin()
            return [steps.Find()]
        if self.state is ProviderState.DRAINING and self._looking.due(now):
            self._looking.begin()
            return [steps.Look(self.identity)]
        if self.state is ProviderState.SUBSCRIBING and now >= self._subscribe_by:
            log.warning("the agent took the subscription and says nothing")
            return self.close()
        return []

    def start(self, now: float) -> None:
        """Begin; the lock is held."""
        if self.state is ProviderState.IDLE and not self._stopping:
            self._enter(ProviderState.FINDING)
            self._finding.reset(now)
            if self.identity.id:
                # A process before us may have had a stream of which the agent has not seen the end.
                self._quiet_until = now + self._timing.drain

    def stop(self) -> list[steps.Action]:
        """Leave for good."""
        self._stopping = True
        actions = self.close()
        if self.state is not ProviderState.CLOSING:
            self._enter(ProviderState.STOPPED)
        return actions

    def retire(self) -> list[steps.Action]:
        """The agent wants us no more: leave, and do not come back."""
        log.error("%s", ProviderGone(f"agent {self.identity.agent_id} removed provider {self.identity.id} for good"))
        self._retiring = True
        return self.close()

    def close(self) -> list[steps.Action]:
        """End the stream if there is one."""
        if self.state not in _OPEN:
            return []
        self._enter(ProviderState.CLOSING)
        return [steps.Close(self.stream)]

    def found(self, agent_id: str, now: float) -> bool:
        """The agent's id is known; whether it is another agent than the one that we knew."""
        self._finding.running = False
        if self.state is not ProviderState.FINDING:
            return False
        another = self.identity.agent_id not in ("", agent_id)
        if another:
            log.warning("the agent is %s and was %s: the provider is a new one", agent_id, self.identity.agent_id)
            self.identity = replace(self.identity, id="")
        self.identity = replace(self.identity, agent_id=agent_id)
        self._enter(ProviderState.DRAINING)
        self._draining_since = now
        self._warn_at = now + _DRAIN_WARNING
        self._looking.reset(max(now, self._quiet_until))
        return another

    def looked(self, subscribed: bool | None, now: float) -> list[steps.Action]:
        """Whether the agent has a stream of ours: True, False, or None where it does not tell."""
        self._looking.running = False
        if self.state is not ProviderState.DRAINING:
            return []
        if subscribed:
            if now >= self._warn_at:
                log.warning("the agent still has a stream of provider %s: who else holds it?", self.identity.name)
                self._warn_at = now + _DRAIN_WARNING
            self._looking.failed(now)
            return []
        rested = self._draining_since + self._timing.drain
        if subscribed is None and now < rested:
            self._looking.at = rested
            return []
        self.stream += 1
        self._subscribe_by = now + self._timing.subscribe
        self._enter(ProviderState.SUBSCRIBING)
        return [steps.Subscribe(self.stream, self.identity)]

    def not_found(self, now: float) -> None:
        """The agent did not tell its id."""
        self._finding.failed(now)

    def not_looked(self, now: float) -> None:
        """The agent could not be asked: begin anew with who it is."""
        self._looking.running = False
        if self.state is ProviderState.DRAINING:
            self._enter(ProviderState.FINDING)
            self._finding.failed(now)

    def accepted(self, provider_id: str, now: float) -> bool:
        """SUBSCRIBED has come; whether it gives us another id than we had."""
        another = provider_id != self.identity.id
        self.identity = replace(self.identity, id=provider_id)
        self._refusals = 0
        self._finding.reset(now)
        self._enter(ProviderState.WAITING)
        return another

    def ready(self) -> None:
        """The totals of this stream are sent."""
        self._enter(ProviderState.READY)

    def ended(self, reason: str, clean: bool, now: float) -> None:
        """The present stream is over."""
        refused = self.state is ProviderState.SUBSCRIBING and clean and bool(self.identity.id)
        log.log(logging.INFO if self._stopping else logging.WARNING, "the provider's stream ended: %s", reason)
        self._quiet_until = now + self._timing.drain
        if self._stopping or self._retiring:
            self._enter(ProviderState.STOPPED if self._stopping else ProviderState.RETIRED)
            return
        self._enter(ProviderState.FINDING)
        self._finding.failed(now)
        if refused:
            self._count_refusal()

    def _count_refusal(self) -> None:
        # The agent says nothing where it does not know an id: it ends the stream. Once may be chance.
        self._refusals += 1
        if self._refusals >= _REFUSALS:
            log.error("%s", ProviderGone(f"agent {self.identity.agent_id} does not know provider {self.identity.id}"))
            self.identity = replace(self.identity, id="")
            self._refusals = 0

    def _enter(self, state: ProviderState) -> None:
        if state is not self.state:
            log.debug("%s -> %s", self.state.name, state.name)
        self.state = state
