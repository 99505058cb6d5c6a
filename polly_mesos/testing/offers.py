"""A small language for stories about the framework: send it what Mesos would, expect what it must do.

::

    story = Story(framework)
    story.registered()
    story.offer(agent="a1")
    story.expect_launch("a1")
    story.update("a1", "TASK_RUNNING")
    story.expect_suppressed()

A story that a real Mesos would tell differently is a bug in the story.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

from polly_mesos.agent_api import Summons, decode
from polly_mesos.model import Json
from polly_mesos.scheduler.framework import Framework


class RecordingDriver:
    """Stands where the scheduler driver stands and writes down what the framework asks of it."""

    def __init__(self) -> None:
        self.accepted: list[tuple[str, Sequence[Json]]] = []
        self.declined: list[tuple[str, float]] = []
        self.messages: list[tuple[str, bytes]] = []
        self.killed: list[str] = []
        self.reconciled = 0
        self.revived = 0
        self.suppressed = False
        self.connected = True

    def accept(self, offer_ids: Sequence[Json], operations: Sequence[Json], refuse_seconds: float) -> bool:
        """Record an ACCEPT."""
        self.accepted.extend((offer["value"], operations) for offer in offer_ids)
        return self.connected

    def decline(self, offer_ids: Sequence[Json], refuse_seconds: float) -> bool:
        """Record a DECLINE."""
        self.declined.extend((offer["value"], refuse_seconds) for offer in offer_ids)
        return self.connected

    def suppress(self) -> bool:
        """Record a SUPPRESS."""
        self.suppressed = True
        return self.connected

    def revive(self) -> bool:
        """Record a REVIVE."""
        self.suppressed = False
        self.revived += 1
        return self.connected

    def reconcile(self, tasks: Sequence[Json]) -> bool:
        """Record a RECONCILE."""
        self.reconciled += 1
        return self.connected

    def kill(self, task_id: str, agent_id: str) -> bool:
        """Record a KILL."""
        self.killed.append(task_id)
        return self.connected

    def send_to_executor(self, executor_id: str, agent_id: str, data: bytes) -> bool:
        """Record a MESSAGE."""
        self.messages.append((agent_id, data))
        return self.connected


class Story:
    """Drives a framework and holds its answers against what is expected."""

    def __init__(self, framework: Framework) -> None:
        self.driver = RecordingDriver()
        self.framework = framework
        self._numbers = itertools.count(1)
        framework.bind(self.driver)

    def registered(self, framework_id: str = "framework-1") -> None:
        """The master has registered the framework, for the first time or again."""
        self.framework.registered(framework_id, {"address": {"hostname": "master", "port": 5050}})

    def offer(
        self,
        agent: str,
        *,
        cpus: float = 4.0,
        mem: float = 4096.0,
        hostname: str = "",
        port: int = 5051,
        attributes: dict[str, str] | None = None,
    ) -> str:
        """The master offers cpus and mem (MB) of an agent; returns the offer's id."""
        offer_id = f"offer-{next(self._numbers)}"
        self.framework.offers(
            [
                {
                    "id": {"value": offer_id},
                    "agent_id": {"value": agent},
                    "hostname": hostname or agent,
                    "url": {"address": {"hostname": hostname or agent, "ip": "127.0.0.1", "port": port}},
                    "attributes": [
                        {"name": name, "type": "TEXT", "text": {"value": text}}
                        for name, text in (attributes or {}).items()
                    ],
                    "resources": [
                        {"name": "cpus", "type": "SCALAR", "scalar": {"value": cpus}},
                        {"name": "mem", "type": "SCALAR", "scalar": {"value": mem}},
                    ],
                }
            ]
        )
        return offer_id

    def update(self, agent: str, state: str, *, message: str = "", task: str = "") -> None:
        """The agent, or the master, tells the state of the executor's task there."""
        self.framework.update(
            {
                "task_id": {"value": task or self.task_on(agent)},
                "agent_id": {"value": agent},
                "state": state,
                "message": message,
            }
        )

    def task_on(self, agent: str) -> str:
        """The id of the last task that was launched on an agent."""
        for _, operations in reversed(self.driver.accepted):
            for task in operations[0]["launch"]["task_infos"]:
                if task["agent_id"]["value"] == agent:
                    return str(task["task_id"]["value"])
        raise AssertionError(f"nothing was launched on {agent}")

    def expect_launch(self, agent: str) -> Json:
        """The last offer was used to launch the executor there; returns its TaskInfo."""
        assert self.driver.accepted, "no offer was accepted"
        task: Json = self.driver.accepted[-1][1][0]["launch"]["task_infos"][0]
        assert task["agent_id"]["value"] == agent, f"launched on {task['agent_id']['value']}"
        return task

    def expect_declined(self, offer_id: str) -> float:
        """An offer was declined; returns for how many seconds."""
        declined = dict(self.driver.declined)
        assert offer_id in declined, f"{offer_id} was not declined"
        return declined[offer_id]

    def expect_suppressed(self) -> None:
        """No more offers are wanted."""
        assert self.driver.suppressed, "offers are not suppressed"

    def expect_offers_wanted(self) -> None:
        """Offers are wanted."""
        assert not self.driver.suppressed, "offers are suppressed"

    def expect_summons(self, agent: str) -> Summons:
        """The executor on an agent was last sent a summons; returns it."""
        assert self.driver.messages, "no message was sent"
        to, data = self.driver.messages[-1]
        assert to == agent, f"the message went to {to}"
        return decode(Summons, json.loads(data))
