"""Starting, waiting for and removing the nodes of a recorded cluster; each step is fine where it was done before."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from polly_mesos.errors import LocalMesosError
from polly_mesos.mesos.local import cgroups
from polly_mesos.mesos.local.layout import ZOOKEEPER, Layout
from polly_mesos.mesos.local.master_api import registered_agents, registration
from polly_mesos.mesos.local.mounts import mounts_below, unmount
from polly_mesos.mesos.local.network import Network, enter
from polly_mesos.mesos.local.processes import MARK, kill_marked, spawn
from polly_mesos.mesos.local.record import Node, Record, save
from polly_mesos.mesos.local.zookeeper import answers, write_configuration

READY_SECONDS = 60.0
_LOG_TAIL_LINES = 15
_LOG_LINE_LENGTH = 500


def start_node(layout: Layout, record: Record, node: Node, flags: Mapping[str, str] | None = None) -> None:
    """Start its process, and record it.

    :param flags: further environment, for this start only
    :raises LocalMesosError: there is no such program or namespace
    """
    layout.home(node.name).mkdir(parents=True, exist_ok=True)
    if node.name == ZOOKEEPER:
        write_configuration(layout.home(node.name), node.ip, node.port)
    try:
        command = [*enter(node.namespace), *node.command]
        node.process = spawn(command, {**node.environment, **(flags or {})}, layout.log(node.name))
    except OSError as error:
        raise LocalMesosError(f"{node.name} cannot be started: {error}") from error
    save(record, layout.record)


def wait_ready(
    layout: Layout, record: Record, agents: Sequence[Node], before: Mapping[int, object] | None = None
) -> None:
    """Until ZooKeeper answers, the master leads and knows the agents (again).

    :param before: by port, the registration that is no news
    :raises LocalMesosError: a process ended (with the end of its log), or it took too long
    """
    old = before or {}

    def ready() -> bool:
        for node in (record.master, *agents):
            if not node.runs:
                raise LocalMesosError(
                    f"{node.name} ended while it was starting:\n{_log_end(layout, node)}",
                    remedy=f"its log is {layout.log(node.name)}",
                )
        known = registered_agents(record.master)
        if known is None:
            return False
        now = [(registration(known.get(node.port)), old.get(node.port)) for node in agents]
        return all(current is not None and current != previous for current, previous in now)

    _wait(ready, layout, [record.master, *agents])


def wait_zookeeper(layout: Layout, node: Node) -> None:
    """Until it answers.

    :raises LocalMesosError: as :func:`wait_ready`
    """

    def ready() -> bool:
        if not node.runs:
            raise LocalMesosError(
                f"{node.name} ended while it was starting:\n{_log_end(layout, node)}",
                remedy=f"its log is {layout.log(node.name)}",
            )
        return answers(node.ip, node.port, node.namespace)

    _wait(ready, layout, [node])


def _wait(condition: Callable[[], bool], layout: Layout, nodes: Sequence[Node]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            logs = "\n".join(f"{node.name}: {_log_end(layout, node)}" for node in nodes)
            raise LocalMesosError(f"the local Mesos was not ready after {READY_SECONDS:.0f} s:\n{logs}")
        time.sleep(0.02)


def _log_end(layout: Layout, node: Node) -> str:
    lines = layout.log(node.name).read_text(errors="replace").splitlines()
    # an agent that starts writes all its flags into one line
    return "\n".join(line[:_LOG_LINE_LENGTH] for line in lines[-_LOG_TAIL_LINES:])


def remove(layout: Layout, record: Record) -> None:
    """Everything of a cluster but its logs and sandboxes.

    :raises LocalMesosError: a process or a namespace did not go
    """
    end_processes(layout, record)
    unmount_all(layout)
    if record.subnet:
        Network(record.id, record.subnet).remove()
    layout.record.unlink(missing_ok=True)


def end_processes(layout: Layout, record: Record) -> None:
    """Kill all nodes, executors and tasks.

    :raises LocalMesosError: one did not die in time
    """
    for node in record.nodes:
        if node.process:
            node.process.end(signal.SIGKILL)
    for agent in record.agents:
        cgroups.remove(record.cgroup(agent.name))
    kill_marked(f"{MARK}={record.id}", layout.directory)


def unmount_all(layout: Layout) -> None:
    """Unmount all in the cluster's own subdirectories: work directories and sandboxes, volumes, the freezer."""
    for directory in (layout.agents, layout.volumes, layout.freezer):
        unmount_below(directory)


def unmount_below(directory: Path) -> None:
    """Unmount what is mounted on a directory and below it."""
    for mount in mounts_below(directory):
        # a shared mount's unmounting may have taken this one with it
        with suppress(FileNotFoundError):
            unmount(mount.target)
