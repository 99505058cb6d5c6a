"""What the local cluster asks its own master."""

from __future__ import annotations

import http.client
import json
from typing import Any

from polly_mesos.mesos.local.network import inside
from polly_mesos.mesos.local.record import Node


def registered_agents(master: Node, *, seconds: float = 2.0) -> dict[int, dict[str, Any]] | None:
    """The master's agents by the port that they listen on (master ``GET /slaves``); None where it does not lead.

    It is asked on its own host, so that the answer comes also where its links are cut.
    """
    connection = http.client.HTTPConnection(master.ip, master.port, timeout=seconds)
    try:
        with inside(master.namespace):
            connection.connect()
        connection.request("GET", "/slaves")
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            return None
        return {agent["port"]: agent for agent in json.load(answer)["slaves"]}
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def registration(agent: dict[str, Any] | None) -> object:
    """What changes when the agent registers again; None where it is not registered now."""
    if agent is None or not agent["active"]:
        return None
    return agent["id"], agent.get("reregistered_time", agent["registered_time"])
