"""What the faults happen to: a real Mesos, Polly, the storage below; made here, and removed without a trace."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from chaos.disks import SmallDisk, detach, loop_devices
from chaos.framework import PROFILE
from chaos.plan import Kind
from chaos.scheduler import Scheduler
from polly_mesos.demo.environment import choose_storage
from polly_mesos.errors import LocalMesosError
from polly_mesos.executor.host.mounts import mounts
from polly_mesos.mesos.local.cluster import QUICK_FAILURES, LocalCluster
from polly_mesos.mesos.local.mounts import mounts_below, unmount
from polly_mesos.mesos.local.nodes import LocalNode
from polly_mesos.mesos.local.ports import free_ports
from polly_mesos.mesos.local.zookeeper import find_java

AGENTS = ("agent-1", "agent-2", "agent-3")
MASTER = "master"
SCHEDULER = "scheduler"
CAPACITY_MB = 384

_LEDGER_MB = 64
_SPARE_MB = 128
_KILL_SECONDS = 10.0
_MESOS = {
    "MESOS_ALLOCATION_INTERVAL": "100ms",
    "MESOS_OFFER_TIMEOUT": "5secs",
    # longer than the master is ever paused, for it ends itself when its session has
    "MESOS_ZK_SESSION_TIMEOUT": "6secs",
    "MESOS_EXECUTOR_REREGISTRATION_TIMEOUT": "5secs",
    "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "1secs",
}
_ROOT_ONLY = frozenset({Kind.FILL_LEDGER_DISK, Kind.FILL_PLATFORM_DISK, Kind.CUT_LINK, Kind.POWER_OFF})


class Stage:
    """One cluster with one Polly, from :meth:`prepare` to :meth:`close`.

    :param directory: an empty one; logs stay in it
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.storage = choose_storage()
        self._root = os.geteuid() == 0
        self.cluster = LocalCluster(
            self.directory / "mesos",
            agents=len(AGENTS),
            agent_resources="cpus:8;mem:4096;disk:1024",
            environment={**QUICK_FAILURES, **_MESOS},
            zookeeper=_has_java(),
            network="namespaces" if self._root else "host",
        )
        self.ledger_disk = SmallDisk(self.directory / "ledger")
        self.platform_disk = SmallDisk(self.directory / "platform")
        self.memory = self.directory / "acknowledged"
        self._away: Counter[str] = Counter()
        self._guard = threading.Lock()

    @property
    def kinds(self) -> frozenset[Kind]:
        """The faults that can be caused here."""
        return frozenset(Kind) - (frozenset() if self._root else _ROOT_ONLY)

    # ---- up and down

    def prepare(self) -> None:
        """Start everything. Whatever fails, :meth:`close` removes what was made.

        :raises PollyError: a part could not be started
        """
        self.memory.mkdir()
        if self._root:
            self.ledger_disk.mount(_LEDGER_MB)
            self.platform_disk.mount(CAPACITY_MB + _SPARE_MB)
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
        # Before the file system of their images is gone, and with it the path by which they are found.
        for device in loop_devices(self.directory):
            detach(device)
        for mount in mounts_below(self.directory):
            with suppress(FileNotFoundError):
                unmount(mount.target)

    def _keep_ledger(self) -> None:
        """The ledger's file system goes; its files stay beside the logs."""
        for file in self.ledger_disk.directory.glob("ledger.db*"):
            (self.directory / file.name).write_bytes(file.read_bytes())

    def _configure(self) -> tuple[str, Path]:
        address = f"{self.cluster.ip}:{free_ports(self.cluster.ip, 1)[0]}"
        for agent in self.cluster.agents:
            agent.volumes.mkdir(parents=True, exist_ok=True)
        settings = {
            "cluster": "chaos",
            "mesos": {"master": self.cluster.master_url, "failover_timeout": "1h"},
            "http": {"listen": address, "advertise": f"http://{address}"},
            "ledger": {"path": str(self.ledger)},
            "agents": {
                "volume_root": f"{self.cluster.volumes}/{{port}}",
                "python": sys.executable,
                "isolation": self.cluster.isolation,
                "unpublish_grace": "500ms",
                "settle": "500ms",
                "fence_after": "1s",
            },
            "services": {
                "local": {
                    "driver": self.storage.driver,
                    "directory": str(self.platform_disk.directory),
                    "capacity": f"{CAPACITY_MB}MiB",
                }
            },
            "profiles": {PROFILE: {"service": "local", "minimum_size": "16MiB"}},
            "planner": {"interval": "1s", "rotate": "30s"},
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

    def node(self, name: str) -> LocalNode:
        """The master or an agent."""
        return self.cluster.master_node if name == MASTER else self.cluster.agent(name)

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

    def kill_tasks(self, agent: str) -> None:
        """End all that runs below an agent but Polly's executor.

        :raises LocalMesosError: something did not end in time
        """
        deadline = time.monotonic() + _KILL_SECONDS
        while tasks := set(self.cluster.agent(agent).processes()) - set(self.executors(agent)):
            if time.monotonic() > deadline:
                raise LocalMesosError(f"the processes {sorted(tasks)} of {agent} did not end")
            for pid in tasks:
                _send(pid, signal.SIGKILL)
            time.sleep(0.01)

    def release_devices(self, host: str) -> None:
        """Let go of the loop devices that a host without power had bound and had not mounted yet.

        :param host: as the ``loop`` driver notes it beside the image of each volume
        """
        mounted = {mount.source for mount in mounts()}
        for device, image in loop_devices(self.platform_disk.directory).items():
            with suppress(OSError):  # another host lets go of its own meanwhile
                if os.readlink(image.with_suffix(".holder")) == host and str(device) not in mounted:
                    detach(device)

    def signal_executor(self, agent: str, number: signal.Signals) -> None:
        """Send every process of an agent's executor a signal."""
        for pid in self.executors(agent):
            _send(pid, number)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _has_java() -> bool:
    """Whether a ZooKeeper can run here; without one, a master that is killed comes back with an empty registry."""
    try:
        find_java()
    except LocalMesosError:
        return False
    return True
