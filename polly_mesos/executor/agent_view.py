"""What the executor half asks of its agent."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from polly_mesos.errors import AgentUnreachable
from polly_mesos.mesos.agent_client import AgentClient


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

    def places_in_use(self) -> AbstractSet[str]:
        """Paths of the volumes that tasks and executors use or wait for."""
        return self._client.places_in_use()
