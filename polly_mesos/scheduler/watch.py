"""Watches the master for agents, so that new ones are noticed while our offers are suppressed.

Source: Mesos' master operator API, ``SUBSCRIBE`` (v1 ``master.proto``).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from polly_mesos.errors import PollyError
from polly_mesos.mesos.http import EventStream
from polly_mesos.mesos.master_client import MasterClient, registered_agent
from polly_mesos.model import Json
from polly_mesos.scheduler.placement import AgentFacts

log = logging.getLogger(__name__)

_RETRY = 2.0


class AgentWatch:
    """Tells of every agent that the master has, once at the start and whenever one comes."""

    def __init__(self, client: Callable[[], MasterClient], seen: Callable[[AgentFacts], None]) -> None:
        self._client = client
        self._seen = seen
        self._stopping = threading.Event()
        self._stream: EventStream | None = None
        self._thread = threading.Thread(target=self._run, name="agent-watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the watch."""
        self._stopping.set()
        if self._stream is not None:
            self._stream.close()
        if self._thread.ident is not None:
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._stream = self._client().events()
                for event in self._stream:
                    if self._stopping.is_set():
                        return
                    self._on_event(event)
            except PollyError as error:
                if not self._stopping.is_set():
                    log.debug("watching the master: %s", error)
            self._stopping.wait(_RETRY)

    def _on_event(self, event: Json) -> None:
        if event["type"] == "SUBSCRIBED":
            agents = event.get("subscribed", {}).get("get_state", {}).get("get_agents", {}).get("agents", ())
            for agent in agents:
                self._seen(facts_of_agent(agent))
        elif event["type"] == "AGENT_ADDED":
            self._seen(facts_of_agent(event["agent_added"]["agent"]))


def facts_of_agent(agent: Json) -> AgentFacts:
    """An agent as the operator API describes it."""
    known = registered_agent(agent)
    return AgentFacts(known.id, known.hostname, known.endpoint, known.attributes)
