"""The scheduler half's way to the Mesos master: pymesos' scheduler driver with its hazards removed.

What differs from the plain class (each is shown by a test): an exception in a callback neither ends the driver nor
tears the framework down; TEARDOWN is sent only when asked for; a refused or lost subscription is tried again with
backoff for as long as it takes; silence of the master is noticed; calls have a time limit and answer False instead of
raising; operation statuses are acknowledged in the form that the master understands.

JSON objects are Mesos' v1 scheduler API (include/mesos/v1/scheduler/scheduler.proto).
"""

from __future__ import annotations

import base64
import copy
import logging
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from polly_mesos.errors import ConfigurationError, FrameworkRefused, MasterUnreachable, MesosError
from polly_mesos.mesos.driver_process import Backoff, DriverProcess, pymesos
from polly_mesos.mesos.event_stream import SubscriptionRefused, split_address
from polly_mesos.mesos.master_detection import master_locator
from polly_mesos.model import Json

logger = logging.getLogger(__name__)

FAILOVER_TIMEOUT = 7 * 24 * 3600.0
"""Seconds for which the master keeps our executors while no scheduler is subscribed, unless the framework says."""

HEARTBEATS_MISSED = 4
"""The master is taken for lost when it sends nothing for this many of its heartbeat intervals."""


class SchedulerCallbacks(Protocol):
    """What the driver tells. Called on its one thread, one after the other; calls of the driver may be made inside.

    An exception is logged with its traceback, counted in :attr:`SchedulerDriver.callback_errors`, and otherwise ends
    there.
    """

    def registered(self, framework_id: str, master_info: Json) -> None:
        """The master has confirmed the subscription: the first, or another after a disconnection."""

    def disconnected(self) -> None:
        """The subscription is lost and will be made again; offers held are void."""

    def offers(self, offers: list[Json]) -> None:
        """Mesos' ``Offer`` objects."""

    def rescinded(self, offer_id: str) -> None:
        """An offer is no longer valid."""

    def update(self, status: Json) -> None:
        """A ``TaskStatus``. Acknowledged when this returns; after an exception the agent sends it again."""

    def message(self, executor_id: str, agent_id: str, data: bytes) -> None:
        """An executor's message; Mesos may lose messages."""

    def agent_lost(self, agent_id: str) -> None:
        """The master has removed an agent."""

    def executor_lost(self, executor_id: str, agent_id: str, status: int) -> None:
        """An executor has ended, with this wait status; -1 where Mesos does not know it."""

    def refused(self, message: str) -> None:
        """The master refused us, in its own words.

        While subscribing, it is tried again after a while unless the callback stops the driver. Once subscribed, it
        means that another scheduler took over the framework id or that the framework was removed: the driver has
        stopped.
        """


@runtime_checkable
class OperationCallbacks(Protocol):
    """For schedulers that give their operations ids; others get the statuses acknowledged unseen."""

    def operation_update(self, status: Json) -> None:
        """An ``OperationStatus``. Acknowledged when this returns; after an exception it is sent again."""


class SchedulerDriver(DriverProcess, pymesos.MesosSchedulerDriver):  # type: ignore[misc]
    """A framework's subscription and calls.

    :param scheduler: told what happens
    :param framework: Mesos' ``FrameworkInfo``; with ``id`` to take over a framework that exists. It is copied.
    :param master: ``host:port``, or ``zk://host1:port1,host2:port2/path``
    :param principal: who we are to the master; becomes the framework's principal where that has none
    :param secret: proves it (HTTP basic authentication)
    :param request_timeout: seconds to wait for the answer to a call, and for a connection
    :param backoff: how long to wait between subscriptions
    :raises ConfigurationError: the master's address or the credentials are malformed
    """

    def __init__(
        self,
        scheduler: SchedulerCallbacks,
        framework: Json,
        master: str,
        *,
        principal: str | None = None,
        secret: str | None = None,
        request_timeout: float = 10.0,
        backoff: Backoff | None = None,
    ) -> None:
        self._locator = master_locator(master)
        super().__init__(_SchedulerAdapter(scheduler), copy.deepcopy(framework), master, failover=True)
        self._prepare(request_timeout, backoff or Backoff())
        self._basic_credential = _basic_credential(principal, secret)
        if principal is not None:
            self._framework.setdefault("principal", principal)

    def __repr__(self) -> str:
        state = "connected" if self.connected else "not connected"
        return f"<SchedulerDriver of framework {self.framework_id} at {self._locator}, {state}>"

    @property
    def framework(self) -> Json:
        """The ``FrameworkInfo`` sent to the master.

        Our executor uses no GPU, but has to run on agents that have some; without the capability the master does not
        offer those.
        """
        framework: Json = dict(self._framework)
        capabilities = list(framework.get("capabilities", []))
        if {"type": "GPU_RESOURCES"} not in capabilities:
            capabilities.append({"type": "GPU_RESOURCES"})
        framework["capabilities"] = capabilities
        framework.setdefault("failover_timeout", FAILOVER_TIMEOUT)
        return framework

    def stop(self, *, teardown: bool = False) -> bool:
        """End the subscription; executors and tasks keep running, and a later driver with the same id finds them.

        :param teardown: have the master remove the framework, with all its executors and tasks, for ever
        :return: False where a teardown was asked for and the master did not confirm it; the driver stops all the same
        """
        done = True
        if teardown:
            done = self._framework_call("TEARDOWN")
            if done:
                self._framework.pop("id", None)
        self._end()
        return done

    def accept(self, offer_ids: Sequence[Json], operations: Sequence[Json], refuse_seconds: float) -> bool:
        """Use offers of one agent (ACCEPT).

        :param offer_ids: ``OfferID`` objects
        :param operations: ``Offer.Operation`` objects; with none the offers are declined
        :param refuse_seconds: for how long not to offer again what is left of them
        :return: whether the master took the call; where it did not, or False, nothing is known until its next word
        """
        accept = {"offer_ids": list(offer_ids), "operations": list(operations), "filters": _filters(refuse_seconds)}
        return self._framework_call("ACCEPT", accept=accept)

    def decline(self, offer_ids: Sequence[Json], refuse_seconds: float) -> bool:
        """Give offers back, not to be offered again for so many seconds (DECLINE)."""
        decline = {"offer_ids": list(offer_ids), "filters": _filters(refuse_seconds)}
        return self._framework_call("DECLINE", decline=decline)

    def suppress(self) -> bool:
        """Ask for no more offers, in any role (SUPPRESS)."""
        return self._framework_call("SUPPRESS")

    def revive(self) -> bool:
        """Ask for offers in all roles again, also for those declined (REVIVE)."""
        return self._framework_call("REVIVE")

    def send_to_executor(self, executor_id: str, agent_id: str, data: bytes) -> bool:
        """Send an executor a message, which Mesos may lose (MESSAGE)."""
        message = {
            "executor_id": {"value": executor_id},
            "agent_id": {"value": agent_id},
            "data": base64.b64encode(data).decode(),
        }
        return self._framework_call("MESSAGE", message=message)

    def kill(self, task_id: str, agent_id: str) -> bool:
        """Kill a task (KILL); the outcome comes as a status update."""
        return self._framework_call("KILL", kill={"task_id": {"value": task_id}, "agent_id": {"value": agent_id}})

    def reconcile(self, tasks: Sequence[Json]) -> bool:
        """Ask for the state of tasks (RECONCILE); it comes as status updates.

        :param tasks: objects with ``task_id`` and, if known, ``agent_id``, such as ``TaskStatus``; none: all tasks
        """
        known = [{name: task[name] for name in ("task_id", "agent_id") if name in task} for task in tasks]
        return self._framework_call("RECONCILE", reconcile={"tasks": known})

    def acknowledge_operation(self, status: Json) -> bool:
        """Acknowledge an ``OperationStatus`` (ACKNOWLEDGE_OPERATION_STATUS).

        :return: also True where there is nothing to acknowledge: statuses without ``uuid`` are not sent again, and
            those without ``operation_id`` are not for frameworks
        """
        if "uuid" not in status or "operation_id" not in status:
            return True
        acknowledgement = {"uuid": status["uuid"]["value"]}
        for name in ("operation_id", "agent_id", "resource_provider_id"):
            if name in status:
                acknowledgement[name] = status[name]
        return self._framework_call("ACKNOWLEDGE_OPERATION_STATUS", acknowledge_operation_status=acknowledgement)

    def acknowledgeOperationStatusUpdate(self, status: Json) -> None:  # noqa: N802 - pymesos' name
        """As :meth:`acknowledge_operation`; pymesos calls it when the callback has returned."""
        self.acknowledge_operation(status)

    def on_subscribed(self, info: Json) -> None:
        """The master confirmed the subscription."""
        interval = float(info.get("heartbeat_interval_seconds", 0.0))
        self.framework_id = info["framework_id"]["value"]
        # A master that does not say how often it sends heartbeats sends none: silence then means nothing.
        self._subscribed(interval * HEARTBEATS_MISSED if interval > 0 else None)
        hostname, port = split_address(self.master, 0)
        master_info = {"hostname": hostname, "port": port, **info.get("master_info", {})}
        logger.info("subscribed to the Mesos master at %s as framework %s", self.master, self.framework_id)
        self.sched.registered(self, {"value": self.framework_id}, master_info)

    def on_failure(self, failure: Json) -> None:
        """An agent or an executor is gone; Mesos does not always know the executor's wait status."""
        super().on_failure({"status": -1, **failure})

    def on_error(self, event: Json) -> None:
        """The master refuses to go on with us."""
        message = event["message"]
        if not self.connected:
            raise SubscriptionRefused(message)
        # Another scheduler has our framework id, or the framework is gone: subscribing again would throw the other one
        # out, which would do the same to us.
        self._end()
        self._refused(message)

    def on_close(self) -> None:
        """The subscription has ended."""
        self.sched.disconnected(self)

    def _framework_call(self, call_type: str, **payload: Json) -> bool:
        return self._send({"type": call_type, "framework_id": {"value": self.framework_id}, **payload})

    @property
    def _path(self) -> str:
        return "/api/v1/scheduler"

    def _locate(self) -> str:
        return self._locator.locate(self._request_timeout)

    def _authorization(self) -> dict[str, str]:
        return {} if self._basic_credential is None else {"Authorization": self._basic_credential}

    def _subscribe_call(self) -> Json:
        call: Json = {"type": "SUBSCRIBE", "subscribe": {"framework_info": self.framework}}
        if self.framework_id:
            call["framework_id"] = {"value": self.framework_id}
        return call

    def _unreachable(self, reason: str) -> MesosError:
        return MasterUnreachable(
            f"the Mesos master at {self._locator} cannot be reached: {reason}",
            remedy="Check that it runs and that the address is right.",
        )

    def _refused(self, answer: str) -> None:
        framework = self.framework_id or self._framework.get("name")
        self._problem = FrameworkRefused(f"the Mesos master at {self._locator} refused framework {framework}: {answer}")
        logger.error("%s", self._problem)
        self._guard("refused", self.sched.error, self, answer)


class _SchedulerAdapter(pymesos.Scheduler):  # type: ignore[misc]
    """Our callbacks under the names by which pymesos calls them."""

    def __init__(self, callbacks: SchedulerCallbacks) -> None:
        self._callbacks = callbacks

    def registered(self, driver: Any, framework_id: Json, master_info: Json) -> None:
        self._callbacks.registered(framework_id["value"], master_info)

    def disconnected(self, driver: Any) -> None:
        self._callbacks.disconnected()

    def resourceOffers(self, driver: Any, offers: list[Json]) -> None:  # noqa: N802
        self._callbacks.offers(offers)

    def offerRescinded(self, driver: Any, offer_id: Json) -> None:  # noqa: N802
        self._callbacks.rescinded(offer_id["value"])

    def statusUpdate(self, driver: Any, status: Json) -> None:  # noqa: N802
        self._callbacks.update(status)

    def operationStatusUpdate(self, driver: Any, operation_status: Json) -> None:  # noqa: N802
        if isinstance(self._callbacks, OperationCallbacks):
            self._callbacks.operation_update(operation_status)

    def frameworkMessage(self, driver: Any, executor_id: Json, agent_id: Json, message: str) -> None:  # noqa: N802
        self._callbacks.message(executor_id["value"], agent_id["value"], base64.b64decode(message))

    def slaveLost(self, driver: Any, agent_id: Json) -> None:  # noqa: N802
        self._callbacks.agent_lost(agent_id["value"])

    def executorLost(self, driver: Any, executor_id: Json, agent_id: Json, status: int) -> None:  # noqa: N802
        self._callbacks.executor_lost(executor_id["value"], agent_id["value"], status)

    def error(self, driver: Any, message: str) -> None:
        self._callbacks.refused(message)


def _filters(refuse_seconds: float) -> Json:
    return {"refuse_seconds": refuse_seconds}


def _basic_credential(principal: str | None, secret: str | None) -> str | None:
    if secret is None:
        return None
    if not principal or ":" in principal:
        raise ConfigurationError(
            "a secret for the Mesos master was given without a principal that can be used with it",
            remedy="Give a principal without a colon.",
            field="principal",
        )
    return "Basic " + base64.b64encode(f"{principal}:{secret}".encode()).decode()
