"""Where a local cluster keeps what, in its directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MASTER = "master"
ZOOKEEPER = "zookeeper"


@dataclass(frozen=True)
class Layout:
    """The paths of one cluster.

    :param directory: the cluster's, absolute and without symbolic links, as the kernel's mount table shows it
    """

    directory: Path

    @property
    def record(self) -> Path:
        """What is up; absent where nothing is."""
        return self.directory / "cluster.json"

    @property
    def lock(self) -> Path:
        """Held by whoever starts or ends something."""
        return self.directory / "lock"

    @property
    def launcher(self) -> Path:
        """Mesos' ``--launcher_dir``."""
        return self.directory / "launcher"

    @property
    def agents(self) -> Path:
        """The parent of the agents' homes."""
        return self.directory / "agents"

    @property
    def volumes(self) -> Path:
        """For mounted volumes."""
        return self.directory / "volumes"

    @property
    def freezer(self) -> Path:
        """Where a freezer hierarchy of the cluster's own is mounted; Mesos wants it named so."""
        return self.directory / "cgroup" / "freezer"

    def home(self, node: str) -> Path:
        """What a node keeps."""
        return self.agents / node if node.startswith("agent-") else self.directory / node

    def log(self, node: str) -> Path:
        """The log of all starts of a node."""
        return self.home(node) / "log"

    def work(self, node: str) -> Path:
        """Mesos' ``--work_dir``."""
        return self.home(node) / "work"

    def run(self, node: str) -> Path:
        """Mesos' ``--runtime_dir``, which a host loses when it loses power."""
        return self.home(node) / "run"
