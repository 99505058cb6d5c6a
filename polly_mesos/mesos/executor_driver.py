"""The executor half's way to its Mesos agent: pymesos' executor driver with its hazards removed.

What differs from the plain class (each is shown by a test): status updates are kept until the agent has acknowledged
them, and sent again with every subscription; nothing raises while there is no connection; ``MESOS_CHECKPOINT=0`` means
no; the agent's own path and the executor's token are used; the process group is not killed behind the executor's back.

JSON objects are Mesos' v1 executor API (include/mesos/v1/executor/executor.proto).
"""

from __future__ import annotations

import base64
import logging
import os
import threading
import time
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

from polly_mesos.errors import AgentUnreachable, MesosError
from polly_mesos.mesos.driver_process import Backoff, DriverProcess, pymesos
from polly_mesos.mesos.event_stream import Reply
from polly_mesos.mesos.executor_environment import agent_address, duration, required
from polly_mesos.model import Json

logger = logging.getLogger(__name__)

HEARTBEAT_INTERVAL = 30 * 60.0
"""Seconds between the heartbeats that an agent sends to executors (src/slave/constants.hpp)."""

HEARTBEATS_MISSED = 2
"""The agent is taken for lost when it sends nothing for this many intervals."""

RECOVERY_TIMEOUT = 15 * 60.0
"""Seconds for which an executor waits for a lost agent where ``MESOS_RECOVERY_TIMEOUT`` does not say."""

UPDATE_RETRY = 0.25
"""Seconds after which updates are sent again to an agent that is not ready for them."""


class ExecutorCallbacks(Protocol):
    """What the driver tells. Called on its one thread, one after the other; calls of the driver may be made inside.

    An exception is logged with its traceback, counted in :attr:`ExecutorDriver.callback_errors`, and otherwise ends
    there; one in :meth:`launch` makes the task TASK_FAILED.
    """

    def registered(self, executor_info: Json, framework_info: Json, agent_info: Json) -> None:
        """The agent has confirmed the first subscription."""

    def reregistered(self, agent_info: Json) -> None:
        """The agent has confirmed another subscription after a disconnection."""

    def disconnected(self) -> None:
        """The subscription is lost. With checkpointing it will be made again, else :meth:`shutdown` follows."""

    def launch(self, task: Json) -> None:
        """Start a task, given as ``TaskInfo``, and report TASK_RUNNING."""

    def kill(self, task_id: str, grace_seconds: float | None) -> None:
        """End a task and report it; None where the framework names no grace period."""

    def message(self, data: bytes) -> None:
        """A message of the scheduler; Mesos may lose messages."""

    def shutdown(self, grace_seconds: float) -> None:
        """End everything and send the last updates before returning: the driver stops then, so that ``join`` returns.

        After the grace period the agent kills whatever is left of the executor.
        """


class ExecutorDriver(DriverProcess, pymesos.MesosExecutorDriver):  # type: ignore[misc]
    """An executor's subscription and calls.

    :param executor: told what happens
    :param environment: the variables that the agent gave to the executor
    :param request_timeout: seconds to wait for the answer to a call, and for a connection
    :param backoff: how long to wait between subscriptions. After its own restart an agent gives executors little time
        to subscribe (``--executor_reregistration_timeout``, 2 s), so the default is short.
    :raises ConfigurationError: a variable is missing or malformed
    """

    def __init__(
        self,
        executor: ExecutorCallbacks,
        environment: Mapping[str, str] = os.environ,
        *,
        request_timeout: float = 10.0,
        backoff: Backoff | None = None,
    ) -> None:
        # pymesos' own constructor is passed over: it reads os.environ and nothing else.
        super(pymesos.MesosExecutorDriver, self).__init__()
        self._prepare(request_timeout, backoff or Backoff(initial=0.1, maximum=1.0, settled=2.0))
        self._callbacks = executor
        self.executor = _ExecutorAdapter(self, executor)
        self.executor_id = {"value": required(environment, "MESOS_EXECUTOR_ID")}
        self._framework_id = required(environment, "MESOS_FRAMEWORK_ID")
        self._agent_id = environment.get("MESOS_SLAVE_ID", "")
        self._endpoint, self._agent_path = agent_address(environment)
        self._token = environment.get("MESOS_EXECUTOR_AUTHENTICATION_TOKEN")
        self.checkpoint = environment.get("MESOS_CHECKPOINT", "").lower() in ("1", "true")
        self.local = environment.get("MESOS_LOCAL", "").lower() in ("1", "true")
        self.grace_shutdown_period = duration(environment, "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", 0.0)
        self._recovery_timeout = duration(environment, "MESOS_RECOVERY_TIMEOUT", RECOVERY_TIMEOUT)
        self.executor_info: Json | None = None
        self.framework_info: Json | None = None
        self.tasks: dict[str, Json] = {}
        self.updates: dict[uuid.UUID, Json] = {}
        """Status updates that the agent has not acknowledged, oldest first; pymesos takes them out."""
        self._conn = None
        self._dict_cls = dict
        self._unsent: list[uuid.UUID] = []
        """Those that the agent has not got, neither as a call nor with the present subscription."""
        self._updates_lock = threading.Lock()
        self._sending = threading.Lock()
        self._send_later: threading.Timer | None = None

    def __repr__(self) -> str:
        state = "connected" if self.connected else "not connected"
        return f"<ExecutorDriver of {self.executor_id['value']} at {self._endpoint}{self._agent_path}, {state}>"

    @property
    def framework_id(self) -> str:
        """The framework that the executor belongs to."""
        return self._framework_id

    @property
    def agent_id(self) -> str:
        """The agent's id: of the last subscription, before the first as the environment says."""
        return self._agent_id

    @property
    def endpoint(self) -> str:
        """The agent's address (host:port)."""
        return self._endpoint

    @property
    def agent_path(self) -> str:
        """What the agent's HTTP paths begin with, such as ``/slave(1)``; empty where the environment does not say."""
        return self._agent_path

    def stop(self) -> None:
        """End the subscription; from any thread, callbacks included. The agent waits for the process to end, too."""
        with self._updates_lock:
            timer, self._send_later = self._send_later, None
        if timer is not None:
            timer.cancel()
        self._end()

    def send_update(
        self,
        task_id: str,
        state: str,
        *,
        message: str = "",
        reason: str = "",
        healthy: bool | None = None,
        data: bytes | None = None,
    ) -> bool:
        """Report a task's state (UPDATE). It is kept, and sent again after a disconnection, until it is acknowledged.

        :param state: such as ``TASK_RUNNING``
        :param reason: such as ``REASON_TASK_INVALID``
        :return: whether the agent has it already; False: it goes out when the agent is ready, or with the next
            subscription, unless the agent called it malformed, which the log says
        """
        status: Json = {"task_id": {"value": task_id}, "state": state}
        if message:
            status["message"] = message
        if reason:
            status["reason"] = reason
        if healthy is not None:
            status["healthy"] = healthy
        if data is not None:
            status["data"] = base64.b64encode(data).decode()
        return self.sendStatusUpdate(status)

    def sendStatusUpdate(self, status: Json) -> bool:  # noqa: N802 - pymesos' name
        """As :meth:`send_update`, with a whole ``TaskStatus``; what it lacks is filled in."""
        update_id = uuid.uuid4() if "uuid" not in status else uuid.UUID(bytes=base64.b64decode(status["uuid"]))
        status = {
            "timestamp": time.time(),
            "source": "SOURCE_EXECUTOR",
            "executor_id": self.executor_id,
            **status,
            "uuid": base64.b64encode(update_id.bytes).decode(),
        }
        # One lock for both steps, so that updates reach the agent in the order in which they were made.
        with self._sending:
            with self._updates_lock:
                self.updates[update_id] = {"status": status}
                self._unsent.append(update_id)
            return update_id in self._send_waiting()

    def send_message(self, data: bytes) -> bool:
        """Send the scheduler a message, which Mesos may lose (MESSAGE).

        :return: whether the agent took it
        """
        return self.sendFrameworkMessage(base64.b64encode(data).decode())

    def sendFrameworkMessage(self, data: str) -> bool:  # noqa: N802 - pymesos' name
        """As :meth:`send_message`, with the data as base64 text."""
        reply = self._executor_call("MESSAGE", message={"data": data})
        return reply is not None and reply.accepted

    def _send_waiting(self) -> set[uuid.UUID]:
        """Send what waits, oldest first, up to the first that the agent does not take; returns what it took."""
        taken: set[uuid.UUID] = set()
        while self.connected:
            with self._updates_lock:
                if not self._unsent:
                    break
                update_id = self._unsent[0]
                update = self.updates.get(update_id)
                if update is None:  # Acknowledged, so the call that was not answered had arrived.
                    del self._unsent[0]
                    continue
            reply = self._executor_call("UPDATE", update=update)
            if reply is not None and reply.accepted:
                taken.add(update_id)
            elif reply is not None and reply.status == 400:
                # The agent will never understand it: kept, it would spoil every subscription from now on.
                self.updates.pop(update_id, None)
                logger.error("the update %s is lost: the agent calls it malformed", update["status"]["state"])
            else:
                self._not_taken(reply)
                break
            with self._updates_lock:
                if update_id in self._unsent:
                    self._unsent.remove(update_id)
        return taken

    def _not_taken(self, reply: Reply | None) -> None:
        if reply is None or reply.status != 503:
            # Whether the agent has it is unknown. The next subscription carries it, in its place among the others.
            self._drop_stream()
            return
        # After its restart an agent accepts subscriptions for a while before it accepts updates.
        with self._updates_lock:
            if self._send_later is None and not self.aborted:
                self._send_later = threading.Timer(UPDATE_RETRY, self._try_again)
                self._send_later.daemon = True
                self._send_later.start()

    def _try_again(self) -> None:
        with self._updates_lock:
            self._send_later = None
        with self._sending:
            self._send_waiting()

    def _executor_call(self, call_type: str, **payload: Json) -> Reply | None:
        return self._call(self._named(call_type, payload))

    def _named(self, call_type: str, payload: Json) -> Json:
        framework_id = {"value": self._framework_id}
        return {"type": call_type, "executor_id": self.executor_id, "framework_id": framework_id, **payload}

    def on_subscribed(self, info: Json) -> None:
        """The agent confirmed the subscription."""
        first = self.executor_info is None
        self.executor_info, self.framework_info = info["executor_info"], info["framework_info"]
        agent_info = info["agent_info"]
        self._agent_id = agent_info.get("id", {}).get("value", self._agent_id)
        self._subscribed(HEARTBEAT_INTERVAL * HEARTBEATS_MISSED)
        logger.info("subscribed to the Mesos agent %s at %s", self._agent_id, self._endpoint)
        # What was made while the subscription was under way came too late to be part of it.
        with self._sending:
            self._send_waiting()
        if first:
            self.executor.registered(self, self.executor_info, self.framework_info, agent_info)
        else:
            self.executor.reregistered(self, agent_info)

    def on_kill(self, event: Json) -> None:
        """A task is to end; pymesos would lose the grace period."""
        grace = event.get("kill_policy", {}).get("grace_period", {}).get("nanoseconds")
        grace_seconds = None if grace is None else int(grace) / 1e9
        self._guard("kill", self._callbacks.kill, event["task_id"]["value"], grace_seconds)

    def _delay_kill(self) -> None:
        """Kill nobody: pymesos kills its process group, which may hold whoever started it. The agent kills executors
        that outlive their grace period by destroying their container."""

    @property
    def _path(self) -> str:
        return f"{self._agent_path}/api/v1/executor"

    def _locate(self) -> str:
        return self._endpoint

    def _authorization(self) -> dict[str, str]:
        return {} if self._token is None else {"Authorization": f"Bearer {self._token}"}

    def _subscribe_call(self) -> Json:
        with self._updates_lock:
            updates = dict(self.updates)
            self._unsent.clear()
        subscribe = {
            "unacknowledged_tasks": list(self.tasks.values()),
            "unacknowledged_updates": list(updates.values()),
        }
        return self._named("SUBSCRIBE", {"subscribe": subscribe})

    def _unreachable(self, reason: str) -> MesosError:
        return AgentUnreachable(f"the Mesos agent cannot be reached: {reason}")

    def _refused(self, answer: str) -> None:
        self._report(
            MesosError(f"the Mesos agent at {self._endpoint} refused executor {self.executor_id['value']}: {answer}")
        )

    def _gives_up(self, seconds_down: float) -> bool:
        if seconds_down < self._recovery_timeout:
            return False
        logger.error("the Mesos agent did not come back within %g s: shutting down", self._recovery_timeout)
        self.executor.shutdown(self)
        return True


class _ExecutorAdapter(pymesos.Executor):  # type: ignore[misc]
    """Our callbacks under the names by which pymesos calls them.

    What raises is caught one by one, as pymesos does more after some of them, stopping the driver for example.
    """

    def __init__(self, driver: ExecutorDriver, callbacks: ExecutorCallbacks) -> None:
        self._driver = driver
        self._callbacks = callbacks

    def registered(self, driver: Any, executor_info: Json, framework_info: Json, agent_info: Json) -> None:
        self._driver._guard("registered", self._callbacks.registered, executor_info, framework_info, agent_info)

    def reregistered(self, driver: Any, agent_info: Json) -> None:
        self._driver._guard("reregistered", self._callbacks.reregistered, agent_info)

    def disconnected(self, driver: Any) -> None:
        self._driver._guard("disconnected", self._callbacks.disconnected)

    def launchTask(self, driver: Any, task: Json) -> None:  # noqa: N802
        if not self._driver._guard("launch", self._callbacks.launch, task):
            message = "The executor failed to launch the task; its log says why."
            self._driver.send_update(task["task_id"]["value"], "TASK_FAILED", message=message)

    def launchTaskGroup(self, driver: Any, tasks: list[Json]) -> None:  # noqa: N802
        for task in tasks:
            self.launchTask(driver, task)

    def frameworkMessage(self, driver: Any, message: str) -> None:  # noqa: N802
        self._driver._guard("message", self._callbacks.message, base64.b64decode(message))

    def shutdown(self, driver: Any) -> None:
        self._driver._guard("shutdown", self._callbacks.shutdown, self._driver.grace_shutdown_period)

    def error(self, driver: Any, message: str) -> None:
        logger.error("the Mesos agent reports: %s", message)
