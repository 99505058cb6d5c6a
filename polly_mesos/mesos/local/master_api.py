"""What the local cluster asks its own master."""

from __future__ import annotations

import http.client
import json
from typing import Any


def registered_agents(ip: str, port: int, *, seconds: float = 2.0) -> dict[int, dict[str, Any]] | None:
    """The master's agents by the port that they listen on (master ``GET /slaves``); None where it does not answer."""
    connection = http.client.HTTPConnection(ip, port, timeout=seconds)
    try:
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
