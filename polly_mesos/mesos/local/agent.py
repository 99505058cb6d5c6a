"""One agent of a local cluster."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polly_mesos.mesos.local.cluster import LocalCluster


class LocalAgent:
    """One agent of a cluster that is up."""

    def __init__(self, cluster: LocalCluster, name: str) -> None:
        self._cluster = cluster
        self.name = name

    @property
    def endpoint(self) -> str:
        """``host:port`` of its API; stays the same across restarts."""
        return f"{self._cluster.ip}:{self._cluster.node(self.name).port}"

    @property
    def pid(self) -> int:
        """The number of the process that runs it, or ran it last."""
        process = self._cluster.node(self.name).process
        return process.pid if process else 0

    @property
    def log(self) -> Path:
        """Its log, of all its starts."""
        return self._cluster.layout.log(self.name)

    @property
    def work_dir(self) -> Path:
        """Mesos' ``--work_dir``, with the sandboxes in it."""
        return self._cluster.layout.work(self.name)

    def alive(self) -> bool:
        """Whether its process runs."""
        process = self._cluster.node(self.name).process
        return process is not None and process.alive()

    def start(self) -> None:
        """Start it again with its state, and wait until the master knows it. Nothing happens where it runs.

        :raises LocalMesosError: it ended at once, or did not register in time
        """
        self._cluster.start_agent(self.name)

    def stop(self) -> None:
        """End it with SIGTERM; its executors and tasks go on, as they do when an operator restarts an agent."""
        self._cluster.end_agent(self.name, signal.SIGTERM)

    def kill(self) -> None:
        """End it with SIGKILL; its executors and tasks go on."""
        self._cluster.end_agent(self.name, signal.SIGKILL)
