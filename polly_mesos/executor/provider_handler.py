"""What the resource provider asks of the executor half, and how it is answered.

The provider asks in threads of its own, so every answer may wait for the scheduler half; what raises is asked again.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Sequence

from polly_mesos.agent_api import Application, ProviderReport, Verdict
from polly_mesos.errors import PollyError, UnknownAgent
from polly_mesos.executor.publisher import Publisher
from polly_mesos.executor.scheduler_client import SchedulerClient
from polly_mesos.faults import fault_point
from polly_mesos.model import Json

log = logging.getLogger(__name__)


class ProviderHandler:
    """Answers the questions of one provider.

    :param agent_id: the agent's id that the scheduler half was greeted with
    :param desire: tells the provider again what was assigned: it forgets that when the agent gives it a new id
    """

    def __init__(
        self, client: SchedulerClient, publisher: Publisher, agent_id: str, desire: Callable[[], None]
    ) -> None:
        self._client = client
        self._publisher = publisher
        self._desire = desire
        self._renewal = threading.Event()
        self.agent_id = agent_id

    @property
    def renewal_needed(self) -> bool:
        """Whether the scheduler half must be greeted anew: it does not know this agent, or the agent has another id."""
        return self._renewal.is_set()

    def apply(self, application: Application) -> Verdict:
        """The ledger's judgement of an operation, waiting for the scheduler half for as long as it takes.

        :raises PollyError: there is no judgement now; the operation stays pending and is asked about again
        """
        try:
            fault_point("operation.apply.before-ask")
            verdict = self._client.apply(application)
            fault_point("operation.apply.after-answer")
        except UnknownAgent:
            self._renewal.set()
            raise
        except PollyError as error:
            if error.retryable:
                raise
            log.error("operation %s cannot be judged and fails: %s", application.id, error)
            return _failed(application, str(error))
        log.info(
            "operation %s %s: %s%s",
            application.info.get("type"),
            application.id,
            verdict.state,
            f": {verdict.message}" if verdict.message else "",
        )
        return verdict

    def publish(self, resources: Sequence[Json]) -> bool:
        """Whether every volume that the resources name is mounted where the agent looks for it."""
        fault_point("provider.publish.before-map")
        published = self._publisher.publish(resources)
        fault_point("provider.publish.after-map")
        return published

    def acknowledged(self, operation_id: str) -> None:
        """The agent has acknowledged the status of an operation."""
        fault_point("operation.acknowledge.before-ask")
        self._client.acknowledged(operation_id)
        fault_point("operation.acknowledge.after-answer")

    def subscribed(self, agent_id: str, provider_id: str) -> None:
        """The agent has accepted the provider under this id."""
        if agent_id != self.agent_id:
            log.warning("the agent's id changed from %s to %s", self.agent_id, agent_id)
            self._renewal.set()
            return
        self._desire()
        try:
            fault_point("provider.subscribed.before-report")
            self._client.provider(ProviderReport(agent_id, provider_id))
            fault_point("provider.subscribed.after-report")
        except UnknownAgent:
            self._renewal.set()


def _failed(application: Application, message: str) -> Verdict:
    return Verdict(
        id=application.id,
        state="OPERATION_FAILED",
        status_uuid=str(uuid.uuid4()),
        info=application.info,
        framework=application.framework,
        message=message,
    )
