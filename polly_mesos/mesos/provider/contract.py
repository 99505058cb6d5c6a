"""What the resource provider client asks of its owner, and what it tells about itself."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from polly_mesos.agent_api import Application, Verdict
from polly_mesos.model import Json


@dataclass(frozen=True, slots=True)
class ProviderIdentity:
    """Who we are to an agent. Type and name must stay the same for as long as the id is used.

    :param id: the id that the agent gave us earlier, empty for a new provider
    :param agent_id: the agent that gave it; with another agent the id is worth nothing
    """

    type: str
    name: str
    id: str = ""
    agent_id: str = ""


class ProviderState(enum.Enum):
    """Where a resource provider stands with its agent."""

    IDLE = "not started"
    LOCKED_OUT = "another process holds the lock"
    FINDING = "asking the agent who it is"
    DRAINING = "waiting until the agent has forgotten the former stream"
    SUBSCRIBING = "waiting for the agent to accept the subscription"
    WAITING = "subscribed; the totals, or answers to earlier operations, are not known yet"
    READY = "the agent has the totals"
    CLOSING = "ending the stream"
    RETIRED = "the agent's operator removed the provider for good"
    STOPPED = "stopped"


class ProviderHandler(Protocol):
    """Answers what the agent asks. Called from threads of the provider's own, which may wait."""

    def apply(self, application: Application) -> Verdict:
        """Judge an operation. Called for one operation at a time, in the order in which they came.

        Whatever it raises is logged and it is called again later: the operation stays pending, which Mesos allows.
        """

    def publish(self, resources: Sequence[Json]) -> bool:
        """Make all these volumes available on the host, or say that it cannot be done. Called concurrently.

        An exception counts as False. Mesos knows no time-out here; no answer hangs the task's launch.
        """

    def acknowledged(self, operation_id: str) -> None:
        """The operation's status has arrived, or nobody waits for it any more. Called again if it raises."""

    def subscribed(self, agent_id: str, provider_id: str) -> None:
        """The agent knows us by this id from now on. Called again if it raises.

        With another agent than the identity's, all that was desired before is forgotten: desire anew.
        """
