"""The nodes of a local cluster, as whoever breaks and mends them has them in hand."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

from polly_mesos.errors import LocalMesosError
from polly_mesos.mesos.local import lifecycle
from polly_mesos.mesos.local.record import Node

if TYPE_CHECKING:
    from polly_mesos.mesos.local.cluster import LocalCluster


class LocalNode:
    """One process of a cluster that is up; this class itself is for its ZooKeeper."""

    def __init__(self, cluster: LocalCluster, name: str) -> None:
        self.cluster = cluster
        self.name = name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def _node(self) -> Node:
        return self.cluster.node(self.name)

    @property
    def endpoint(self) -> str:
        """``host:port`` of its API; stays the same across restarts."""
        return self._node.endpoint

    @property
    def pid(self) -> int:
        """The number of the process that runs it, or ran it last."""
        process = self._node.process
        return process.pid if process else 0

    @property
    def log(self) -> Path:
        """Its log, of all its starts."""
        return self.cluster.layout.log(self.name)

    def alive(self) -> bool:
        """Whether its process is there; a paused one is."""
        return self._node.runs

    def paused(self) -> bool:
        """Whether its process is stopped by SIGSTOP."""
        process = self._node.process
        return process is not None and process.paused()

    def start(self) -> None:
        """Start it again with its state, and wait until it serves. Nothing happens where it runs.

        :raises LocalMesosError: it ended at once, or was not ready in time
        """
        with self.cluster.changing() as record:
            node = record.node(self.name)
            if not node.runs:
                lifecycle.start_node(self.cluster.layout, record, node)
                lifecycle.wait_zookeeper(self.cluster.layout, node)

    def launch(self) -> None:
        """Start its process with its state and wait for nothing, so that several can be started at once. Nothing
        happens where it runs.

        :raises LocalMesosError: the process cannot be started
        """
        with self.cluster.changing() as record:
            node = record.node(self.name)
            if not node.runs:
                lifecycle.start_node(self.cluster.layout, record, node)

    def stop(self) -> None:
        """End its process with SIGTERM, as an operator does; what an agent launched goes on."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End its process with SIGKILL; what an agent launched goes on."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Stop its process with SIGSTOP: it keeps its connections and answers nothing."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let its process go on after :meth:`pause`."""
        self._send(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        with self.cluster.changing() as record:
            process = record.node(self.name).process
            if process:
                process.end(number)

    def _send(self, number: signal.Signals) -> None:
        process = self._node.process
        if process is None or not process.alive():
            raise LocalMesosError(f"{self.name} does not run", remedy="start it")
        process.send(number)


class LocalMaster(LocalNode):
    """The master.

    With a ZooKeeper its registry survives it, and it leads again once ZooKeeper has ended the session of the last one
    (``MESOS_ZK_SESSION_TIMEOUT``). Without, it starts with an empty registry, learns of its agents when they miss
    its pings for long enough (``MESOS_AGENT_PING_TIMEOUT`` times ``MESOS_MAX_AGENT_PING_TIMEOUTS``), and of its
    frameworks when they subscribe again; all keep their ids either way.

    A master whose own session has ended, for example while it was paused or cut from ZooKeeper, ends itself.
    """

    def start(self) -> None:
        """Start it again, and wait until it leads; agents come back later (:meth:`LocalCluster.wait_registered`)."""
        with self.cluster.changing() as record:
            if not record.master.runs:
                lifecycle.start_node(self.cluster.layout, record, record.master)
                lifecycle.wait_ready(self.cluster.layout, record, [])
