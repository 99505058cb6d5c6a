"""A local Mesos cluster: started, looked at and ended, from this process or another one on the same directory.

::

    cluster = LocalCluster(Path("/tmp/mesos"), agents=2)
    cluster.up()
    cluster.master                # "127.0.0.1:21750"
    cluster.agents[0].kill()      # the agent's process alone; power_off() takes all that runs on its host
    cluster.agents[0].start()     # the same agent, with its state
    cluster.master_node.pause()   # the master answers nothing
    cluster.cut("master", "agent-1")  # with network="namespaces"
    cluster.down()                # no process, mount, control group or namespace is left

In the directory: ``master/`` and ``agents/<name>/`` with ``log``, ``work/`` (Mesos' work directory, with the sandboxes)
and ``run/``; ``zookeeper/`` with its log and data; ``launcher/``; ``volumes/``; ``cluster.json`` while it is up.
``down`` leaves the logs and sandboxes for whoever wants to look; the next ``up`` begins anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from polly_mesos.errors import ConfigurationError, LocalMesosError
from polly_mesos.mesos.local import lifecycle
from polly_mesos.mesos.local.agent import LocalAgent
from polly_mesos.mesos.local.isolation import Isolation, Wanted, check_wanted, prepare_isolation
from polly_mesos.mesos.local.launcher import write_launcher
from polly_mesos.mesos.local.layout import MASTER, ZOOKEEPER, Layout
from polly_mesos.mesos.local.locking import exclusive
from polly_mesos.mesos.local.master_api import registered_agents
from polly_mesos.mesos.local.network import MOST_AGENTS, SCHEDULER, Network, check_places, check_possible, free_subnet
from polly_mesos.mesos.local.nodes import LocalMaster, LocalNode
from polly_mesos.mesos.local.package import Mesos, ensure_mesos
from polly_mesos.mesos.local.plan import Wishes, plan
from polly_mesos.mesos.local.ports import free_ports
from polly_mesos.mesos.local.progress import Progress, Step, ignore
from polly_mesos.mesos.local.record import Node, Record, load, save
from polly_mesos.mesos.local.status import ClusterStatus, status_of
from polly_mesos.mesos.local.zookeeper import find_java, master_url

NetworkKind = Literal["host", "namespaces"]

QUICK_FAILURES: Mapping[str, str] = {
    "MESOS_AGENT_PING_TIMEOUT": "1secs",
    "MESOS_MAX_AGENT_PING_TIMEOUTS": "4",
    "MESOS_ZK_SESSION_TIMEOUT": "4secs",
}
"""An ``environment`` for tests of failures: master and agents miss each other within seconds, not within 75, and
ZooKeeper misses the master within 4, not within 10. A master that misses ZooKeeper for that long ends itself.

Mesos allows no less than 10 minutes for agents to come back to a new master (``--agent_reregister_timeout``)."""

_PORT_TAKEN = "Address already in use"


class LocalCluster:
    """One Mesos master and some agents on this machine, kept in a directory.

    :param directory: where everything of it is kept; made where missing
    :param agents: how many, named ``agent-1`` and so on, each with that name as attribute ``node``
    :param port: the master's; 0 chooses a free one. The agents' are always chosen
    :param isolation: ``linux``, ``posix`` or ``auto`` (see :mod:`.isolation`)
    :param agent_resources: of each agent, in Mesos' notation; sizes in MiB
    :param environment: further Mesos flags as ``MESOS_<FLAG>``, or variables for all executors; they win over ours
    :param ip: the address that all servers listen on; not for namespaces, which have addresses of their own
    :param zookeeper: start a ZooKeeper too, which elects the master and by which the agents find it
    :param network: ``namespaces`` gives every node an address of its own, so that links can be cut (needs root)
    :raises ConfigurationError: an argument is out of range

    The arguments after ``directory`` count for :meth:`up`; everything else is about the cluster that is up there.
    """

    def __init__(
        self,
        directory: Path,
        *,
        agents: int = 2,
        port: int = 0,
        isolation: Wanted = "auto",
        agent_resources: str = "cpus:4;mem:4096;disk:10240",
        environment: Mapping[str, str] | None = None,
        ip: str = "127.0.0.1",
        zookeeper: bool = False,
        network: NetworkKind = "host",
    ) -> None:
        check_wanted(isolation)
        _check_range("agents", agents, 0, MOST_AGENTS if network == "namespaces" else 1000)
        _check_range("port", port, 0, 65535)
        if network not in ("host", "namespaces"):
            raise ConfigurationError(
                f"there is no network {network!r}", remedy="choose host or namespaces", field="network", value=network
            )
        # the kernel's mount table knows real paths only
        self.layout = Layout(Path(directory).expanduser().resolve())
        self._count, self._port, self._isolation = agents, port, isolation
        self._ip, self._resources, self._environment = ip, agent_resources, dict(environment or {})
        self._zookeeper, self._network = zookeeper, network

    # ---- what is there

    @property
    def directory(self) -> Path:
        """Where everything of it is kept."""
        return self.layout.directory

    @property
    def ip(self) -> str:
        """This machine's address, as the cluster's nodes see it: where a scheduler for them listens.

        :raises LocalMesosError: the cluster is not up (this goes for all properties)
        """
        return self._up().ip

    @property
    def master(self) -> str:
        """``host:port`` of the master."""
        return self._up().master.endpoint

    @property
    def master_url(self) -> str:
        """Where schedulers find the master: ``zk://host:port/mesos`` with a ZooKeeper, else ``host:port``."""
        record = self._up()
        return master_url(record.zookeeper.endpoint) if record.zookeeper else record.master.endpoint

    @property
    def master_node(self) -> LocalMaster:
        """The master's process."""
        return LocalMaster(self, MASTER)

    @property
    def zookeeper_node(self) -> LocalNode:
        """ZooKeeper's process.

        :raises LocalMesosError: the cluster has none
        """
        if self._up().zookeeper is None:
            raise LocalMesosError("this local Mesos has no ZooKeeper", remedy="start one with --zookeeper")
        return LocalNode(self, ZOOKEEPER)

    @property
    def agents(self) -> list[LocalAgent]:
        """The agents, running or not."""
        return [LocalAgent(self, node.name) for node in self._up().agents]

    @property
    def isolation(self) -> str:
        """The isolation chosen: ``linux`` or ``posix``."""
        return self._up().isolation.kind

    @property
    def isolation_reason(self) -> str:
        """One sentence: which isolation, and why."""
        return self._up().isolation.reason

    @property
    def volumes(self) -> Path:
        """A directory for mounted volumes. With the linux isolation it is a shared mount, so that it can be a HOST_PATH
        volume with BIDIRECTIONAL propagation."""
        return self.layout.volumes

    @property
    def master_log(self) -> Path:
        """The master's log."""
        return self.layout.log(MASTER)

    def agent(self, name: str) -> LocalAgent:
        """One agent by name.

        :raises UnknownAgent: there is none of that name
        """
        return LocalAgent(self, self._up().agent(name).name)

    def node(self, name: str) -> Node:
        """What is recorded of a node.

        :raises UnknownAgent: there is none of that name
        """
        return self._up().node(name)

    def status(self) -> ClusterStatus:
        """What is there at the moment; also where nothing is."""
        record = load(self.layout.record)
        if record is None:
            return ClusterStatus(self.directory, up=False)
        return status_of(record, self.layout, registered_agents(record.master) or {})

    # ---- up and down

    def up(self, progress: Progress | None = None) -> None:
        """Start all nodes, and wait until all agents are registered. Whatever fails, nothing stays running.

        :param progress: told each step; the first time, Mesos is downloaded
        :raises LocalMesosError: a cluster is up in this directory already; a process ended at once (with the end of its
            log) or was not ready in time; what a ZooKeeper or namespaces need is not there
        :raises DownloadFailed: see :func:`.package.ensure_mesos`
        :raises UnsupportedPlatform: see there
        """
        tell = progress or ignore
        java = find_java() if self._zookeeper else ""
        if self._network == "namespaces":
            check_possible()
        mesos = ensure_mesos(tell)
        with self._lock():
            old = load(self.layout.record)
            if old is not None and any(node.runs for node in old.nodes):
                raise LocalMesosError(
                    f"a local Mesos is up in {self.directory} already",
                    remedy=f"use it, run `polly local down --dir {self.directory}`, or choose another directory",
                )
            if old is not None:
                lifecycle.remove(self.layout, old)
            tell(Step("Preparing the isolation"))
            isolation = self._prepare_directory(mesos)
            tell(Step(isolation.reason))
            with_zookeeper = " with a ZooKeeper" if java else ""
            tell(Step(f"Starting the master{with_zookeeper} and {self._count} agent{'' if self._count == 1 else 's'}"))
            self._start_all(mesos, isolation, java)
            tell(Step(f"The Mesos master listens on {self.master}"))

    def down(self) -> None:
        """End all processes, tasks included, and remove mounts, control groups and namespaces. Nothing happens where
        none is up.

        :raises LocalMesosError: something could not be ended; run it again then
        """
        if not self.directory.exists():
            return
        with self._lock():
            record = load(self.layout.record)
            if record is not None:
                lifecycle.remove(self.layout, record)
            # also what a start left that was killed before it could record anything
            lifecycle.unmount_all(self.layout)

    def _prepare_directory(self, mesos: Mesos) -> Isolation:
        """Clear what an earlier cluster left, write the launcher directory, choose the isolation and mount for it."""
        lifecycle.unmount_all(self.layout)
        for old in (
            *(self.layout.home(MASTER), self.layout.home(ZOOKEEPER)),
            *(self.layout.agents, self.layout.launcher),
        ):
            shutil.rmtree(old, ignore_errors=True)
        for directory in (self.layout.launcher, self.layout.volumes, self.layout.freezer):
            directory.mkdir(parents=True, exist_ok=True)
        write_launcher(self.layout.launcher, mesos.libraries)
        try:
            return prepare_isolation(self._isolation, volumes=self.layout.volumes, freezer=self.layout.freezer)
        except BaseException:
            lifecycle.unmount_all(self.layout)
            raise

    def _start_all(self, mesos: Mesos, isolation: Isolation, java: str) -> None:
        attempts = 1 if self._port else 3
        while True:
            attempts -= 1
            record = self._plan(mesos, isolation, java)
            save(record, self.layout.record)
            try:
                if record.subnet:
                    Network(record.id, record.subnet).create([node.name for node in record.nodes])
                for node in record.nodes:
                    lifecycle.start_node(self.layout, record, node)
                    if node is record.zookeeper:
                        lifecycle.wait_zookeeper(self.layout, node)
                lifecycle.wait_ready(self.layout, record, record.agents)
            except LocalMesosError as error:
                lifecycle.end_processes(self.layout, record)
                if attempts and _PORT_TAKEN in error.message and not record.subnet:
                    continue
                lifecycle.remove(self.layout, record)
                raise
            except BaseException:
                lifecycle.remove(self.layout, record)
                raise
            return

    def _plan(self, mesos: Mesos, isolation: Isolation, java: str) -> Record:
        subnet = free_subnet() if self._network == "namespaces" else ""
        # in its namespace each node has all ports; different ones name the agents' volume directories
        master_port, zookeeper_port, *agent_ports = free_ports("127.0.0.1" if subnet else self._ip, self._count + 2)
        return plan(
            self.layout,
            mesos.library,
            isolation,
            Wishes(self._ip, self._resources, self._environment, java, subnet),
            master_port=self._port or master_port,
            zookeeper_port=zookeeper_port,
            agent_ports=agent_ports,
            inherited=os.environ,
        )

    def wait_registered(self) -> None:
        """Wait until the master leads, and all agents that run, and are not paused, are registered with it.

        :raises LocalMesosError: it took more than a minute, or the master does not run
        """
        record = self._up()
        running = [node for node in record.agents if node.process and node.runs and not node.process.paused()]
        lifecycle.wait_ready(self.layout, record, running)

    # ---- links, with network="namespaces"

    @property
    def places(self) -> list[str]:
        """What links are between: ``scheduler`` (this machine), ``master``, ``zookeeper`` and the agents."""
        return [SCHEDULER, *(node.name for node in self._up().nodes)]

    def cut(self, one: str, other: str) -> None:
        """Lose all that two places send to each other, on open connections as on new ones, without any error for them.

        :raises LocalMesosError: the cluster is up without namespaces
        :raises ConfigurationError: one is no place of it, or they are the same
        """
        check_places((one, other), self.places)
        self._links().cut(one, other)

    def heal(self, one: str, other: str) -> None:
        """End :meth:`cut`; where the link is whole nothing happens. Raises the same errors."""
        check_places((one, other), self.places)
        self._links().heal(one, other)

    def heal_all(self) -> None:
        """End every :meth:`cut`.

        :raises LocalMesosError: the cluster is up without namespaces
        """
        for one, other in self.cuts():
            self._links().heal(one, other)

    def cuts(self) -> list[tuple[str, str]]:
        """The links that are cut at the moment, each once.

        :raises LocalMesosError: the cluster is up without namespaces
        """
        return self._links().cuts(self.places)

    def _links(self) -> Network:
        record = self._up()
        if not record.subnet:
            raise LocalMesosError("this local Mesos has no links to cut", remedy="start it with network namespaces")
        return Network(record.id, record.subnet)

    # ---- the record

    def _up(self) -> Record:
        record = load(self.layout.record)
        if record is None:
            raise LocalMesosError(
                f"no local Mesos is up in {self.directory}", remedy=f"start one: polly local up --dir {self.directory}"
            )
        return record

    @contextmanager
    def changing(self) -> Iterator[Record]:
        """The record of the cluster that is up, while nobody else changes it; for this package's own nodes."""
        with self._lock():
            yield self._up()

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self.directory.mkdir(parents=True, exist_ok=True)
        with exclusive(
            self.layout.lock,
            what=f"another process is starting or ending the local Mesos in {self.directory}",
            seconds=2 * lifecycle.READY_SECONDS,
        ):
            yield


def _check_range(field: str, value: int, lowest: int, highest: int) -> None:
    if not lowest <= value <= highest:
        raise ConfigurationError(
            f"{field} is {value}, and must be from {lowest} to {highest}", field=field, value=value
        )
