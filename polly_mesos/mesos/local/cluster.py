"""A local Mesos cluster: started, looked at and ended, from this process or another one on the same directory.

::

    cluster = LocalCluster(Path("/tmp/mesos"), agents=2)
    cluster.up()
    cluster.master                # "127.0.0.1:21750"
    cluster.agents[0].kill()      # as if the host's power went
    cluster.agents[0].start()     # the same agent, with its state
    cluster.down()                # no process, mount or control group is left

In the directory: ``master/`` and ``agents/<name>/`` with ``log``, ``work/`` (Mesos' work directory, with the sandboxes)
and ``run/``; ``launcher/``; ``volumes/``; ``cluster.json`` while it is up. ``down`` leaves the logs and sandboxes for
whoever wants to look; the next ``up`` begins anew.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from polly_mesos.errors import ConfigurationError, LocalMesosError, UnknownAgent
from polly_mesos.mesos.local import cgroups
from polly_mesos.mesos.local.agent import LocalAgent
from polly_mesos.mesos.local.isolation import Isolation, Wanted, check_wanted, prepare_isolation
from polly_mesos.mesos.local.launcher import write_launcher
from polly_mesos.mesos.local.layout import MASTER, Layout
from polly_mesos.mesos.local.locking import exclusive
from polly_mesos.mesos.local.master_api import registered_agents, registration
from polly_mesos.mesos.local.mounts import mounts_below, unmount
from polly_mesos.mesos.local.package import Mesos, ensure_mesos
from polly_mesos.mesos.local.plan import Wishes, plan
from polly_mesos.mesos.local.ports import free_ports
from polly_mesos.mesos.local.processes import kill_marked, spawn
from polly_mesos.mesos.local.progress import Progress, Step, ignore
from polly_mesos.mesos.local.record import Node, Record, load, save
from polly_mesos.mesos.local.status import AgentStatus, ClusterStatus

READY_SECONDS = 60.0
_LOG_TAIL_LINES = 15
_LOG_LINE_LENGTH = 500
_PORT_TAKEN = "Address already in use"


class LocalCluster:
    """One Mesos master and some agents on this machine, kept in a directory.

    :param directory: where everything of it is kept; made where missing
    :param agents: how many, named ``agent-1`` and so on, each with that name as attribute ``node``
    :param port: the master's; 0 chooses a free one. The agents' are always chosen
    :param isolation: ``linux``, ``posix`` or ``auto`` (see :mod:`.isolation`)
    :param agent_resources: of each agent, in Mesos' notation; sizes in MiB
    :param environment: further Mesos flags as ``MESOS_<FLAG>``, or variables for all executors; they win over ours
    :param ip: the address that all servers listen on
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
    ) -> None:
        check_wanted(isolation)
        _check_range("agents", agents, 0, 1000)
        _check_range("port", port, 0, 65535)
        # the kernel's mount table knows real paths only
        self.layout = Layout(Path(directory).expanduser().resolve())
        self._count, self._port, self._wanted = agents, port, isolation
        self._wishes = Wishes(ip, agent_resources, dict(environment or {}))

    # ---- what is there

    @property
    def directory(self) -> Path:
        """Where everything of it is kept."""
        return self.layout.directory

    @property
    def ip(self) -> str:
        """The address that the servers listen on."""
        return self._up().ip

    @property
    def master(self) -> str:
        """``host:port`` of the master.

        :raises LocalMesosError: the cluster is not up (this goes for all properties)
        """
        record = self._up()
        return f"{record.ip}:{record.master.port}"

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
        return LocalAgent(self, self.node(name).name)

    def node(self, name: str) -> Node:
        """What is recorded of an agent.

        :raises UnknownAgent: there is none of that name
        """
        return _find(self._up(), name)

    def status(self) -> ClusterStatus:
        """What is there at the moment; also where nothing is."""
        record = load(self.layout.record)
        if record is None:
            return ClusterStatus(self.directory, up=False)
        known = registered_agents(record.ip, record.master.port) or {}
        return ClusterStatus(
            self.directory,
            up=True,
            master=f"{record.ip}:{record.master.port}",
            pid=record.master.process.pid if record.master.process else 0,
            alive=_runs(record.master),
            isolation=record.isolation.kind,
            isolation_reason=record.isolation.reason,
            agents=tuple(
                AgentStatus(
                    name=node.name,
                    endpoint=f"{record.ip}:{node.port}",
                    pid=node.process.pid if node.process else 0,
                    alive=_runs(node),
                    registered=registration(known.get(node.port)) is not None,
                    agent_id=known[node.port]["id"] if node.port in known else "",
                    log=self.layout.log(node.name),
                )
                for node in record.agents
            ),
        )

    # ---- up and down

    def up(self, progress: Progress | None = None) -> None:
        """Start the master and the agents, and wait until all are registered. Whatever fails, nothing stays running.

        :param progress: told each step; the first time, Mesos is downloaded
        :raises LocalMesosError: a cluster is up in this directory already; a process ended at once (with the end of its
            log) or was not ready in time
        :raises DownloadFailed: see :func:`.package.ensure_mesos`
        :raises UnsupportedPlatform: see there
        """
        tell = progress or ignore
        mesos = ensure_mesos(tell)
        with self._changing():
            old = load(self.layout.record)
            if old is not None and any(_runs(node) for node in old.nodes):
                raise LocalMesosError(
                    f"a local Mesos is up in {self.directory} already",
                    remedy=f"use it, run `polly local down --dir {self.directory}`, or choose another directory",
                )
            if old is not None:
                self._remove(old)
            tell(Step("Preparing the isolation"))
            isolation = self._prepare_directory(mesos)
            tell(Step(isolation.reason))
            tell(Step(f"Starting the master and {self._count} agent{'' if self._count == 1 else 's'}"))
            self._start_all(mesos, isolation)
            tell(Step(f"The Mesos master listens on {self.master}"))

    def down(self) -> None:
        """End all processes, tasks included, and remove mounts and control groups. Nothing happens where none is up.

        :raises LocalMesosError: something could not be ended; run it again then
        """
        if not self.directory.exists():
            return
        with self._changing():
            record = load(self.layout.record)
            if record is not None:
                self._remove(record)
            # also what a start left that was killed before it could record anything
            self._unmount()

    def _prepare_directory(self, mesos: Mesos) -> Isolation:
        """Clear what an earlier cluster left, write the launcher directory, choose the isolation and mount for it."""
        self._unmount()
        for old in (self.layout.home(MASTER), self.layout.agents, self.layout.launcher):
            shutil.rmtree(old, ignore_errors=True)
        for directory in (self.layout.launcher, self.layout.volumes, self.layout.freezer):
            directory.mkdir(parents=True, exist_ok=True)
        write_launcher(self.layout.launcher, mesos.libraries)
        try:
            return prepare_isolation(self._wanted, volumes=self.layout.volumes, freezer=self.layout.freezer)
        except BaseException:
            self._unmount()
            raise

    def _start_all(self, mesos: Mesos, isolation: Isolation) -> None:
        attempts = 1 if self._port else 3
        while True:
            attempts -= 1
            ports = free_ports(self._wishes.ip, self._count + 1)
            record = plan(
                self.layout,
                mesos.library,
                isolation,
                self._wishes,
                master_port=self._port or ports[0],
                agent_ports=ports[1:],
                inherited=os.environ,
            )
            save(record, self.layout.record)
            try:
                for node in record.nodes:
                    self._spawn(record, node)
                self._wait_ready(record, record.agents, {})
            except LocalMesosError as error:
                self._end_processes(record)
                if attempts and _PORT_TAKEN in error.message:
                    continue
                self._remove(record)
                raise
            except BaseException:
                self._remove(record)
                raise
            return

    def _remove(self, record: Record) -> None:
        """Everything of a cluster but its logs and sandboxes; each step is fine where it was done before."""
        self._end_processes(record)
        self._unmount()
        self.layout.record.unlink(missing_ok=True)

    def _end_processes(self, record: Record) -> None:
        for node in record.nodes:
            if node.process:
                node.process.end(signal.SIGKILL)
        for agent in record.agents:
            cgroups.remove(record.cgroup(agent.name))
        kill_marked(record.id, self.layout.directory)

    def _unmount(self) -> None:
        """Unmount all in our own subdirectories: Mesos' work directories and sandboxes, volumes, the freezer."""
        for directory in (self.layout.agents, self.layout.volumes, self.layout.freezer):
            for mount in mounts_below(directory):
                # a shared mount's unmounting may have taken this one with it
                with suppress(FileNotFoundError):
                    unmount(mount.target)

    # ---- one agent

    def start_agent(self, name: str) -> None:
        """See :meth:`LocalAgent.start`."""
        with self._changing():
            record = self._up()
            node = _find(record, name)
            if _runs(node):
                return
            before = registered_agents(record.ip, record.master.port) or {}
            self._spawn(record, node)
            self._wait_ready(record, [node], {node.port: registration(before.get(node.port))})

    def end_agent(self, name: str, number: signal.Signals) -> None:
        """See :meth:`LocalAgent.stop` and :meth:`LocalAgent.kill`."""
        with self._changing():
            node = _find(self._up(), name)
            if node.process:
                node.process.end(number)

    def _spawn(self, record: Record, node: Node) -> None:
        self.layout.home(node.name).mkdir(parents=True, exist_ok=True)
        try:
            node.process = spawn(node.command, node.environment, self.layout.log(node.name))
        except OSError as error:
            raise LocalMesosError(f"{node.name} cannot be started: {error}") from error
        save(record, self.layout.record)

    def _wait_ready(self, record: Record, agents: list[Node], before: Mapping[int, object]) -> None:
        """Until the master knows the agents (again).

        :param before: by port, the registration that is no news
        """

        def ready() -> bool:
            for node in [record.master, *agents]:
                if not _runs(node):
                    raise LocalMesosError(
                        f"{node.name} ended while it was starting:\n{self._log_end(node)}",
                        remedy=f"its log is {self.layout.log(node.name)}",
                    )
            known = registered_agents(record.ip, record.master.port)
            if known is None:
                return False
            now = [(registration(known.get(node.port)), before.get(node.port)) for node in agents]
            return all(current is not None and current != old for current, old in now)

        if not _wait(ready, READY_SECONDS):
            slow = "\n".join(f"{node.name}: {self._log_end(node)}" for node in [record.master, *agents])
            raise LocalMesosError(f"the local Mesos was not ready after {READY_SECONDS:.0f} s:\n{slow}")

    def _log_end(self, node: Node) -> str:
        lines = self.layout.log(node.name).read_text(errors="replace").splitlines()
        # an agent that starts writes all its flags into one line
        return "\n".join(line[:_LOG_LINE_LENGTH] for line in lines[-_LOG_TAIL_LINES:])

    # ---- the record

    @property
    def _file(self) -> Path:
        return self.directory / "cluster.json"

    def _up(self) -> Record:
        record = load(self.layout.record)
        if record is None:
            raise LocalMesosError(
                f"no local Mesos is up in {self.directory}", remedy=f"start one: polly local up --dir {self.directory}"
            )
        return record

    @contextmanager
    def _changing(self) -> Iterator[None]:
        self.directory.mkdir(parents=True, exist_ok=True)
        with exclusive(
            self.layout.lock,
            what=f"another process is starting or ending the local Mesos in {self.directory}",
            seconds=2 * READY_SECONDS,
        ):
            yield


def _find(record: Record, name: str) -> Node:
    for node in record.agents:
        if node.name == name:
            return node
    names = ", ".join(node.name for node in record.agents)
    raise UnknownAgent(f"the local Mesos has no agent {name!r}", remedy=f"its agents are {names or 'none'}")


def _runs(node: Node) -> bool:
    return node.process is not None and node.process.alive()


def _check_range(field: str, value: int, lowest: int, highest: int) -> None:
    if not lowest <= value <= highest:
        raise ConfigurationError(
            f"{field} is {value}, and must be from {lowest} to {highest}", field=field, value=value
        )


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
