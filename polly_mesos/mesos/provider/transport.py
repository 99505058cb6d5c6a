"""Carries out what the machine decides about the stream: opens it, reads it, sends calls on it, ends it."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from polly_mesos.errors import AgentUnreachable, MesosError
from polly_mesos.faults import fault_point
from polly_mesos.mesos.agent_client import STREAM_ID, AgentClient
from polly_mesos.mesos.http import EventStream, MesosRefused
from polly_mesos.mesos.provider import messages, steps
from polly_mesos.mesos.provider.contract import ProviderIdentity

log = logging.getLogger(__name__)


class Lock:
    """At most one provider per agent on this host: a file that is locked for as long as this process holds it.

    :param path: the same for everyone who may subscribe with the same agent
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Whether the lock is ours now."""
        if self._descriptor is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let the next one have it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Transport:
    """The present stream of a provider. Methods are called from one thread.

    :param tell: takes Received, Ended and CallFailed, from any thread
    """

    def __init__(self, agent: AgentClient, tell: Callable[[steps.Event], None]) -> None:
        self._agent = agent
        self._tell = tell
        self._present = _Stream(0)

    def subscribe(self, stream: int, identity: ProviderIdentity) -> None:
        """Open a stream and read it in a thread of its own."""
        self._present = _Stream(stream)
        threading.Thread(
            target=self._read, args=(self._present, identity), name=f"provider-stream-{stream}", daemon=True
        ).start()

    def close(self, stream: int) -> None:
        """End the stream, also one that is just being opened."""
        if stream == self._present.number:
            self._present.close()

    def abandon(self) -> None:
        """End whatever stream there is."""
        self._present.close()

    def call(self, call: steps.Call) -> None:
        """Send a call and wait until the agent has taken it."""
        present = self._present
        if call.stream != present.number or present.broken:
            return
        try:
            fault_point("provider.call.before-send")
            self._agent.call_provider_api(call.body, present.id)
            fault_point("provider.call.after-send")
        except MesosError as error:
            present.broken = True
            self._tell(steps.CallFailed(call.stream, str(error)))

    def _read(self, stream: _Stream, identity: ProviderIdentity) -> None:
        reason, clean = "a mistake in Polly", False
        try:
            fault_point("provider.subscribe.before-send")
            with self._agent.subscribe_provider(messages.subscribe(identity)) as events:
                stream.opened(events)
                for event in events:
                    self._tell(steps.Received(stream.number, event))
            reason, clean = "the agent ended it" if not stream.closed else "we ended it", not stream.closed
        except MesosError as error:
            reason = str(error)
        finally:
            self._tell(steps.Ended(stream.number, reason, clean))


class _Stream:
    def __init__(self, number: int) -> None:
        self.number = number
        self.broken = False
        self.closed = False
        self.id = ""
        self._events: EventStream | None = None
        self._lock = threading.Lock()

    def opened(self, events: EventStream) -> None:
        with self._lock:
            self._events = events
            self.id = events.response.headers.get(STREAM_ID, "")
            if self.closed:
                events.close()

    def close(self) -> None:
        with self._lock:
            self.broken = self.closed = True
            if self._events is not None:
                self._events.close()


def look(agent: AgentClient, identity: ProviderIdentity) -> bool | None:
    """Whether the agent holds a stream of this provider, None where it does not tell.

    :raises AgentUnreachable: the agent does not answer
    """
    try:
        present = agent.resource_providers()
    except AgentUnreachable:
        raise
    except MesosRefused as error:
        log.debug("the agent does not name its providers: %s", error)
        return None
    return any(one.id == identity.id or (one.type, one.name) == (identity.type, identity.name) for one in present)
