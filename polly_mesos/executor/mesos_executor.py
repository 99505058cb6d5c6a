"""The executor half as a Mesos executor: started by an agent, summoned by a framework message.

Mesos shows a TaskInfo to everyone who may read its state, so the token is not in it. The executor asks for it with a
framework message, on start and whenever the scheduler half refuses the one that it has.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import cattrs

from polly_mesos.agent_api import ALREADY_SERVING, Summons, decode
from polly_mesos.errors import PollyError
from polly_mesos.executor.half import ExecutorHalf
from polly_mesos.executor.scheduler_client import SchedulerClient
from polly_mesos.model import Json

log = logging.getLogger(__name__)

WANT_SUMMONS = json.dumps({"want": "summons"}).encode()
"""The framework message that asks for a :class:`Summons`."""

_ASK_AGAIN_SECONDS = 2.0
_LAST_WORDS_SECONDS = 2.0
_DRAIN_SECONDS = 120.0


class Driver(Protocol):
    """What is asked of :class:`polly_mesos.mesos.executor_driver.ExecutorDriver`."""

    @property
    def updates(self) -> Mapping[Any, Any]:
        """The updates that the agent has not acknowledged."""

    def send_update(self, task_id: str, state: str, *, message: str = "") -> bool:
        """Tell the framework the state of a task; sent until the agent acknowledges it."""

    def send_message(self, data: bytes) -> bool:
        """Send the framework's scheduler a message; it may get lost."""

    def stop(self) -> None:
        """Leave the agent."""


class PollyExecutor:
    """Callbacks of the executor driver. They return at once: the driver has one thread for all of them.

    :param make_half: makes the executor half, which is started with the task and stopped with it
    :param ask_again: seconds between two requests for a summons
    """

    def __init__(
        self, client: SchedulerClient, make_half: Callable[[], ExecutorHalf], *, ask_again: float = _ASK_AGAIN_SECONDS
    ) -> None:
        self._client = client
        self._make_half = make_half
        self._ask_again = ask_again
        self._driver: Driver | None = None
        self._guard = threading.Lock()
        self._task = ""
        self._half: ExecutorHalf | None = None
        self._ending = threading.Event()

    def bind(self, driver: Driver) -> None:
        """Name the driver that calls this, before it is started."""
        self._driver = driver

    def registered(self, executor_info: Json, framework_info: Json, agent_info: Json) -> None:
        """The agent knows us; from now on messages reach the framework."""
        log.info("registered with agent %s", agent_info.get("hostname", ""))
        threading.Thread(target=self._ask_for_summons, name="summons", daemon=True).start()

    def reregistered(self, agent_info: Json) -> None:
        """The agent was restarted and knows us again; the provider has its own stream and comes back by itself."""
        log.info("registered again with agent %s", agent_info.get("hostname", ""))

    def disconnected(self) -> None:
        """The agent is away; what is mounted stays, and the tasks that use it go on."""
        log.warning("the agent does not answer")

    def launch(self, task: Json) -> None:
        """Begin to serve: the task stands for the executor half."""
        task_id = str(task["task_id"]["value"])
        with self._guard:
            if self._task or self._ending.is_set():
                self._update(task_id, "TASK_FAILED", ALREADY_SERVING)
                return
            self._task = task_id
            self._half = self._make_half()
            self._half.start()
        self._update(task_id, "TASK_RUNNING")

    def kill(self, task_id: str, grace_seconds: float | None) -> None:
        """Stop serving; volumes stay mounted, for other tasks are using them.

        Only where the agent is drained, and so are its other tasks, are volumes let go of first.
        """
        log.info("task %s is to be killed", task_id)
        seconds = _DRAIN_SECONDS if grace_seconds is None else min(grace_seconds, _DRAIN_SECONDS)
        threading.Thread(target=self._leave, args=(seconds,), name="leave").start()

    def shutdown(self, grace_seconds: float) -> None:
        """The agent wants this executor gone; volumes stay mounted."""
        log.info("the agent shuts this executor down")
        self.end("the executor was shut down")

    def message(self, data: bytes) -> None:
        """A summons from the scheduler half; anything else is reported without its contents, which may be secret."""
        try:
            self._client.summon(decode(Summons, json.loads(data)))
        except (ValueError, cattrs.BaseValidationError):
            log.warning("a framework message of %d bytes is not a summons; it is ignored", len(data))
        except PollyError as error:
            log.error("the summons is not usable: %s", error)

    def end_soon(self, reason: str) -> None:
        """As :meth:`end`, in a thread of its own: for callbacks and signal handlers."""
        threading.Thread(target=self.end, args=(reason,), name="end").start()

    def _leave(self, seconds: float) -> None:
        half = self._half
        try:
            if half is not None:
                half.let_go(seconds)
        finally:
            self.end("killed by the framework")

    def end(self, reason: str) -> None:
        """Stop the half, report the task as killed and leave the agent; once only."""
        with self._guard:
            if self._ending.is_set():
                return
            self._ending.set()
        try:
            if self._half is not None:
                self._half.stop()
            if self._task and not self._update(self._task, "TASK_KILLED", reason):
                self._await_acknowledgements()
        finally:
            if self._driver is not None:
                self._driver.stop()

    def _await_acknowledgements(self) -> None:
        """Give an agent that is just coming back a moment to take the last update."""
        deadline = time.monotonic() + _LAST_WORDS_SECONDS
        while self._driver is not None and self._driver.updates and time.monotonic() < deadline:
            time.sleep(0.02)

    def _ask_for_summons(self) -> None:
        while not self._ending.is_set():
            if not self._client.summoned and self._driver is not None:
                self._driver.send_message(WANT_SUMMONS)
            self._ending.wait(self._ask_again)

    def _update(self, task_id: str, state: str, message: str = "") -> bool:
        return self._driver is not None and self._driver.send_update(task_id, state, message=message)
