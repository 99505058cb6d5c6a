"""Runs a resource provider: does in threads what the machine decides."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from polly_mesos.agent_api import Verdict
from polly_mesos.errors import InvalidRequest, NotFound, PollyError
from polly_mesos.mesos import resources as arithmetic
from polly_mesos.mesos.agent_client import AgentClient
from polly_mesos.mesos.provider import steps
from polly_mesos.mesos.provider.contract import ProviderHandler, ProviderIdentity, ProviderState
from polly_mesos.mesos.provider.machine import Machine
from polly_mesos.mesos.provider.steps import NEVER, Timing
from polly_mesos.mesos.provider.transport import Lock, Transport, look
from polly_mesos.model import Json

log = logging.getLogger(__name__)

_LOCK_INTERVAL = 0.25


class ResourceProvider:
    """A resource provider that stays subscribed with one agent until it is stopped. All methods are thread-safe.

    It subscribes again, for ever, when the agent was away; and as a new provider where the agent has another id or does
    not know ours (any more). The agent has our totals once they are desired: before, it has none.

    :param identity: who we are; with the id from earlier, if there is one
    :param lock_path: a file that every process on this host that may subscribe with this agent locks
    :param settle: seconds without operations before totals may be replaced
    :param minimum_interval: seconds between replacements of totals, each of which rescinds offers
    """

    def __init__(
        self,
        agent: AgentClient,
        handler: ProviderHandler,
        identity: ProviderIdentity,
        *,
        lock_path: Path,
        settle: float = 2.0,
        minimum_interval: float = 5.0,
    ) -> None:
        self._agent = agent
        self._handler = handler
        self._lock = Lock(lock_path)
        self._machine = Machine(identity, Timing(settle=settle, minimum_interval=minimum_interval))
        self._events: queue.SimpleQueue[steps.Event] = queue.SimpleQueue()
        self._transport = Transport(agent, self._events.put)
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._state = ProviderState.IDLE
        self._identity = identity
        self.failed = False
        """Whether it ended by a mistake in Polly, so that a new one has to be made."""
        self._thread = threading.Thread(target=self._run, name="resource-provider", daemon=True)

    @property
    def state(self) -> ProviderState:
        """Where the provider stands with its agent."""
        return self._state

    @property
    def identity(self) -> ProviderIdentity:
        """Who we are to the agent, with the ids as far as they are known."""
        return self._identity

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Leave the agent, which takes our disks out of the offers, and give the lock back.

        :param timeout: seconds to wait for that; it goes on afterwards
        """
        self._stopping.set()
        self._events.put(steps.Stop())
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def set_desired(self, resources: Sequence[Json], *, version: int = 0) -> None:
        """The totals that the agent is to have, without ``provider_id``. It gets them when that is safe.

        :param version: of the assignment that they are from, see :class:`~polly_mesos.agent_api.Verdict`
        :raises InvalidRequest: not disks that a provider may have; nothing is changed
        """
        self._events.put(steps.Desire(tuple(map(_desirable, resources)), version))

    def set_unacknowledged(self, verdicts: Sequence[Verdict]) -> None:
        """Finished operations whose acknowledgement the ledger does not know of: their statuses are sent again.

        Call this before :meth:`set_desired` where both are new, which saves replacing the totals a second time.
        """
        self._events.put(steps.Unacknowledged(tuple(verdicts)))

    def wait_for_state(self, states: ProviderState | Collection[ProviderState], timeout: float) -> bool:
        """Wait until the provider is in one of these states; whether it is, after ``timeout`` seconds at most."""
        wanted = (states,) if isinstance(states, ProviderState) else states
        with self._changed:
            return self._changed.wait_for(lambda: self._state in wanted, timeout)

    def _run(self) -> None:
        try:
            self._show(ProviderState.LOCKED_OUT)
            while not self._lock.try_acquire():
                if self._stopping.wait(_LOCK_INTERVAL):
                    return
            self._handle(steps.Start())
            while self._machine.state is not ProviderState.STOPPED:
                self._handle(self._next_event())
        except Exception:
            log.exception("a mistake in Polly ended the resource provider; a new one has to be made")
            self.failed = True
            self._transport.abandon()
        finally:
            self._lock.release()
            self._show(ProviderState.STOPPED)

    def _next_event(self) -> steps.Event:
        deadline = self._machine.deadline
        try:
            return self._events.get(timeout=None if deadline == NEVER else max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return steps.Tick()

    def _handle(self, event: steps.Event) -> None:
        for action in self._machine.handle(event, time.monotonic()):
            self._act(action)
        self._show(self._machine.state)

    def _show(self, state: ProviderState) -> None:
        with self._changed:
            self._state, self._identity = state, self._machine.identity
            self._changed.notify_all()

    def _act(self, action: steps.Action) -> None:
        match action:
            case steps.Call():
                self._transport.call(action)
            case steps.Subscribe(stream, identity):
                self._transport.subscribe(stream, identity)
            case steps.Close(stream):
                self._transport.close(stream)
            case _:
                name = f"provider-{type(action).__name__.lower()}"
                threading.Thread(target=self._ask, args=(action,), name=name, daemon=True).start()

    def _ask(self, ask: steps.Ask) -> None:
        try:
            event = self._answer(ask)
        except (PollyError, OSError) as error:
            event = steps.Failed(ask, str(error))
        except Exception as error:
            log.exception("a mistake in Polly")
            event = steps.Failed(ask, repr(error))
        self._events.put(event)

    def _answer(self, ask: steps.Ask) -> steps.Event:
        match ask:
            case steps.Find():
                return steps.Found(self._agent.agent_id())
            case steps.Look(identity):
                return steps.Looked(look(self._agent, identity))
            case steps.Apply(operation, application):
                return steps.Judged(operation, self._handler.apply(application))
            case steps.Publish(stream, request, resources):
                return steps.Published(stream, request, self._handler.publish(resources))
            case steps.Tell(agent_id, provider_id):
                self._handler.subscribed(agent_id, provider_id)
            case steps.Acknowledge(operation):
                try:
                    self._handler.acknowledged(str(operation))
                except NotFound as error:
                    log.info("nobody waits for the acknowledgement: %s", error)
        return steps.Heard(ask)


def _desirable(resource: Json) -> Json:
    result = arithmetic.normalise(resource)
    result.pop("provider_id", None)
    kind = ((result.get("disk") or {}).get("source") or {}).get("type")
    if result["name"] != "disk" or kind not in ("PATH", "MOUNT", "RAW", "BLOCK"):
        raise InvalidRequest(f"not a disk with a source: {arithmetic.canonical(result)}", field="resources")
    if kind in ("RAW", "BLOCK") and arithmetic.persistence_of(result):
        raise InvalidRequest(
            f"a persistent volume on a {kind} disk, which would end the agent: {arithmetic.canonical(result)}",
            field="resources",
        )
    return result
