"""What the faults happen to: a real Mesos, Polly, the storage below; made here, and removed without a trace."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from chaos.disks import SmallDisk, free_loop_devices
from chaos.framework import PROFILE
from chaos.plan import Kind
from chaos.scheduler import Scheduler
from polly_mesos.demo.environment import choose_storage
from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.mesos.local.mounts import mounts_below, unmount
from polly_mesos.mesos.local.ports import free_ports
from polly_mesos.mesos.local.record import load

AGENTS = ("agent-1", "agent-2", "agent-3")
MASTER = "master"
SCHEDULER = "scheduler"
CAPACITY_MB = 768

_LEDGER_MB = 64
_MESOS = {
    # Offers soon, and an agent that is silent for three seconds is unreachable.
    "MESOS_ALLOCATION_INTERVAL": "200ms",
    "MESOS_OFFER_TIMEOUT": "5secs",
    "MESOS_AGENT_PING_TIMEOUT": "1secs",
    "MESOS_MAX_AGENT_PING_TIMEOUTS": "3",
    "MESOS_EXECUTOR_REREGISTRATION_TIMEOUT": "5secs",
    "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "1secs",
}
_ROOT_ONLY = frozenset({Kind.FILL_LEDGER_DISK, Kind.FILL_PLATFORM_DISK})
_NOT_YET = frozenset({Kind.WIPE_AGENT, Kind.POWER_OFF, Kind.KILL_MASTER, Kind.CUT_LINK})


class Stage:
    """One cluster with one Polly, from :meth:`prepare` to :meth:`close`.

    :param directory: an empty one; logs stay in it
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.storage = choose_storage()
        self.cluster = LocalCluster(
            self.directory / "mesos",
            agents=len(AGENTS),
            agent_resources="cpus:8;mem:4096;disk:1024",
            environment=_MESOS,
        )
        self.ledger_disk = SmallDisk(self.directory / "ledger")
        self.platform_disk = SmallDisk(self.directory / "platform")
        self.memory = self.directory / "acknowledged"
        self._root = os.geteuid() == 0
        self._away: Counter[str] = Counter()
        self._guard = threading.Lock()

    @property
    def kinds(self) -> frozenset[Kind]:
        """The faults that can be caused here."""
        return frozenset(Kind) - _NOT_YET - (frozenset() if self._root else _ROOT_ONLY)

    # ---- up and down

    def prepare(self) -> None:
        """Start everything. Whatever fails, :meth:`close` removes what was made.

        :raises PollyError: a part could not be started
        """
        self.memory.mkdir()
        if self._root:
            self.ledger_disk.mount(_LEDGER_MB)
            self.platform_disk.mount(2 * CAPACITY_MB)
        else:
            self.ledger_disk.directory.mkdir()
            self.platform_disk.directory.mkdir()
        self.cluster.up()
        self.url, configuration = self._configure()
        self.scheduler = Scheduler(configuration, self.directory / "polly.log", self.directory / "faults")
        self.scheduler.start()

    def close(self) -> None:
        """End all processes, and remove mounts, loop devices and control groups; logs and the ledger's copy stay."""
        if hasattr(self, "scheduler"):
            self.scheduler.end()
        self._keep_ledger()
        for name in AGENTS:
            for pid in self.executors(name):
                _send(pid, signal.SIGCONT)
        self.cluster.down()
        for mount in mounts_below(self.directory):
            with suppress(FileNotFoundError):
                unmount(mount.target)
        free_loop_devices(self.directory)

    def _keep_ledger(self) -> None:
        """The ledger's file system goes; its files stay beside the logs."""
        for file in self.ledger_disk.directory.glob("ledger.db*"):
            (self.directory / file.name).write_bytes(file.read_bytes())

    def _configure(self) -> tuple[str, Path]:
        address = f"127.0.0.1:{free_ports('127.0.0.1', 1)[0]}"
        for agent in self.cluster.agents:
            (self.cluster.volumes / agent.endpoint.rpartition(":")[2]).mkdir(parents=True, exist_ok=True)
        settings = {
            "cluster": "chaos",
            "mesos": {"master": self.cluster.master, "failover_timeout": "1h"},
            "http": {"listen": address},
            "ledger": {"path": str(self.ledger)},
            "agents": {
                "volume_root": f"{self.cluster.volumes}/{{port}}",
                "python": sys.executable,
                "isolation": self.cluster.isolation,
                "unpublish_grace": "500ms",
                "settle": "500ms",
            },
            "services": {
                "local": {
                    "driver": self.storage.driver,
                    "directory": str(self.platform_disk.directory),
                    "capacity": f"{CAPACITY_MB}MiB",
                }
            },
            "profiles": {PROFILE: {"service": "local", "minimum_size": "16MiB"}},
            "planner": {"interval": "1s", "rotate": "5s"},
        }
        path = self.directory / "polly.yml"
        path.write_text(yaml.safe_dump(settings, sort_keys=False))
        return f"http://{address}", path

    # ---- what is there

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.ledger_disk.directory / "ledger.db"

    def logs(self) -> dict[str, Path]:
        """The logs of the master and the agents."""
        return {name: self.cluster.layout.log(name) for name in (MASTER, *AGENTS)}

    def pid(self, node: str) -> int:
        """The process of the master or an agent; 0 where it runs not."""
        record = load(self.cluster.layout.record)
        for known in record.nodes if record is not None else ():
            if known.name == node and known.process is not None and known.process.alive():
                return known.process.pid
        return 0

    def executors(self, agent: str) -> list[int]:
        """The processes of Polly's executor on an agent, found by the artifact that they run."""
        home = str(self.cluster.layout.home(agent))
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                runs_artifact = entry.name.isdigit() and b"./polly-executor-" in (entry / "cmdline").read_bytes()
                if runs_artifact and os.readlink(entry / "cwd").startswith(f"{home}/"):
                    found.append(int(entry.name))
        return found

    # ---- what happens to it

    @contextmanager
    def away(self, name: str) -> Iterator[None]:
        """Meanwhile the master, an agent or the scheduler may be dead without having died by itself."""
        with self._guard:
            self._away[name] += 1
        try:
            yield
        finally:
            with self._guard:
                self._away[name] -= 1

    def is_away(self, name: str) -> bool:
        """Whether the campaign itself keeps it from running."""
        with self._guard:
            return self._away[name] > 0

    def signal_executor(self, agent: str, number: signal.Signals) -> None:
        """Send every process of an agent's executor a signal."""
        for pid in self.executors(agent):
            _send(pid, number)

    def signal_node(self, node: str, number: signal.Signals) -> None:
        """Send the master or an agent a signal."""
        if pid := self.pid(node):
            _send(pid, number)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
