"""The names of our tasks: the executor's on each agent, and the one by which the master is asked about an agent."""

from __future__ import annotations

_PREFIX = "polly."
_PROBE = "probe"


def task_of(agent_id: str, suffix: str) -> str:
    """A task id for an agent; ``suffix`` tells one start of its executor from another and has no dot."""
    return f"{_PREFIX}{agent_id}.{suffix}"


def probe_of(agent_id: str) -> str:
    """The id of a task that never was: the master's answer to it is about its agent."""
    return task_of(agent_id, _PROBE)


def agent_of_task(task_id: str) -> str:
    """The agent id inside one of our task ids."""
    return task_id.removeprefix(_PREFIX).rpartition(".")[0]
