"""One agent of a local cluster, and the host that it stands for."""

from __future__ import annotations

import shutil
import signal
import uuid
from pathlib import Path

from polly_mesos.errors import LocalMesosError
from polly_mesos.mesos.local import cgroups, lifecycle
from polly_mesos.mesos.local.loops import loop_devices, release
from polly_mesos.mesos.local.master_api import registered_agents, registration
from polly_mesos.mesos.local.mounts import mounts_below
from polly_mesos.mesos.local.nodes import LocalNode
from polly_mesos.mesos.local.processes import NODE_MARK, find_marked, kill_marked
from polly_mesos.mesos.local.record import Record


class LocalAgent(LocalNode):
    """One agent, and what runs below it."""

    @property
    def work_dir(self) -> Path:
        """Mesos' ``--work_dir``, with the sandboxes in it."""
        return self.cluster.layout.work(self.name)

    @property
    def volumes(self) -> Path:
        """The directory for mounted volumes that stands for this host's own, named by the agent's port."""
        return self.cluster.volumes / str(self._node.port)

    def processes(self) -> list[int]:
        """The executors and tasks below it, and what these started."""
        with self.cluster.changing() as record:
            found = {*cgroups.processes(record.cgroup(self.name)), *find_marked(self._mark(record), self.work_dir)}
            return sorted(found - {self.pid})

    def start(self, *, cleanup: bool = False) -> None:
        """Start it again with its state, and wait until the master knows it. Nothing happens where it runs.

        :param cleanup: before that, run it once with ``--recover=cleanup``, with which it ends its executors and then
            itself, and remove ``meta/slaves/latest``, as Mesos tells operators to do: it registers as a new agent
        :raises LocalMesosError: it ended at once, or did not register in time
        """
        layout = self.cluster.layout
        with self.cluster.changing() as record:
            node = record.node(self.name)
            if node.runs:
                return
            if cleanup:
                lifecycle.start_node(layout, record, node, {"MESOS_RECOVER": "cleanup"})
                if node.process:
                    node.process.wait(seconds=lifecycle.READY_SECONDS)
                (self.work_dir / "meta" / "slaves" / "latest").unlink(missing_ok=True)
            before = registered_agents(record.master) or {}
            lifecycle.start_node(layout, record, node)
            lifecycle.wait_ready(layout, record, [node], {node.port: registration(before.get(node.port))})

    def power_off(self) -> None:
        """As if the host lost its power: agent, executors and tasks are killed; their control groups, what is mounted
        in :attr:`volumes` and the loop devices behind that are gone; what only a running host has (``--runtime_dir``,
        the boot id) is new when it starts again.

        What the kernel had not written yet is not lost, and a loop device that was bound and not mounted stays bound:
        nothing tells whose it is.

        :raises LocalMesosError: a process did not die in time
        """
        layout = self.cluster.layout
        with self.cluster.changing() as record:
            node = record.node(self.name)
            if node.process:
                node.process.end(signal.SIGKILL)
            cgroups.remove(record.cgroup(self.name))
            kill_marked(self._mark(record), self.work_dir)
            devices = loop_devices(mounts_below(self.volumes))
            for directory in (self.volumes, layout.home(self.name)):
                lifecycle.unmount_below(directory)
            for device in devices:
                release(device)
            shutil.rmtree(layout.run(self.name), ignore_errors=True)
            boot_id = self.work_dir / "meta" / "boot_id"
            if boot_id.exists():
                boot_id.write_text(str(uuid.uuid4()))

    def wipe(self) -> None:
        """Remove its work directory, while it does not run: it registers as a new agent then. Executors and tasks that
        still run are unknown to it.

        :raises LocalMesosError: it runs
        """
        with self.cluster.changing() as record:
            if record.node(self.name).runs:
                raise LocalMesosError(f"{self.name} runs", remedy="stop it before its work directory is removed")
            # sandboxes have volumes mounted in them, which must not be emptied
            lifecycle.unmount_below(self.work_dir)
            shutil.rmtree(self.work_dir, ignore_errors=True)

    def _mark(self, record: Record) -> str:
        return f"{NODE_MARK}={record.id}/{self.name}"
