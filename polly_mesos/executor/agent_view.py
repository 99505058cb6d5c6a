"""What the executor half asks of its agent."""

from __future__ import annotations

import logging
from collections.abc import Set as AbstractSet

from polly_mesos.errors import AgentUnreachable
from polly_mesos.mesos.agent_client import AgentClient
from polly_mesos.mesos.http import MesosRefused

log = logging.getLogger(__name__)


class MesosAgent:
    """The agent, through its own HTTP API."""

    def __init__(self, client: AgentClient) -> None:
        self._client = client

    def identity(self) -> tuple[str, str]:
        """The agent's id and host name.

        :raises AgentUnreachable: it does not answer, or has not registered with a master yet
        """
        info = self._client.info()
        agent_id = str(info.get("id", {}).get("value", ""))
        if not agent_id:
            raise AgentUnreachable(f"agent {self._client.endpoint} has not registered with a master yet")
        return agent_id, str(info.get("hostname", ""))

    def draining(self) -> bool:
        """Whether an operator has the agent drained (DRAIN_AGENT).

        :raises AgentUnreachable: it does not answer
        """
        return self._client.draining()

    def places_in_use(self) -> AbstractSet[str]:
        """Paths of the volumes that tasks and executors use or wait for."""
        return self._client.places_in_use()

    def end_users(self, place: str, reason: str) -> int:
        """Kill the containers of all tasks and executors that use the volume at this path; how many there were.

        :param reason: what the log says of each
        :raises AgentUnreachable: the agent does not answer, or may not be told to kill
        """
        found = self._client.containers_using(place)
        for container in found:
            tasks = ", ".join(container.tasks) or "none"
            log.error(
                "killing container %s (framework %s, executor %s, tasks %s): %s",
                container.id,
                container.framework,
                container.executor,
                tasks,
                reason,
            )
            try:
                self._client.kill_container(container)
            except MesosRefused as error:
                raise AgentUnreachable(
                    f"container {container.id} cannot be killed: {error}",
                    remedy="end its tasks by hand: what they write may be lost or do harm",
                ) from error
        return len(found)
