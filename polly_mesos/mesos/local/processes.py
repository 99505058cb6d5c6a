"""The processes of a local cluster: started apart from us, known again by start time, and ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from polly_mesos.errors import LocalMesosError

MARK = "POLLY_LOCAL_CLUSTER"
"""Environment variable with the cluster's id, which every process of the cluster and every task inherits."""
NODE_MARK = "POLLY_LOCAL_NODE"
"""Environment variable with the cluster's id and the node's name, ``ID/NAME``."""


@dataclass(frozen=True)
class Process:
    """A process that cannot be taken for a later one with the same number.

    :param pid: its number
    :param started: when it started, in clock ticks since boot
    """

    pid: int
    started: int

    def alive(self) -> bool:
        """Whether it still runs; a dead child of ours is reaped here."""
        with suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        return _start_time(self.pid) == self.started

    def paused(self) -> bool:
        """Whether it is stopped by SIGSTOP."""
        return self.alive() and _fields(self.pid)[:1] == ["T"]

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it is gone."""
        if self.alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def end(self, number: signal.Signals, *, seconds: float = 10.0) -> None:
        """Send it a signal, unless it is gone, and wait until it is; a paused one goes on so that it can end.

        :raises LocalMesosError: it did not end in time
        """
        self.send(number)
        self.send(signal.SIGCONT)
        self.wait(seconds=seconds)

    def wait(self, *, seconds: float) -> None:
        """Wait until it has ended.

        :raises LocalMesosError: it did not end in time
        """
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > deadline:
                raise LocalMesosError(f"process {self.pid} did not end in {seconds:.0f} s")
            time.sleep(0.005)


def _start_time(pid: int) -> int | None:
    """When the process started; None where there is none, or only its exit status is left of it (a zombie)."""
    fields = _fields(pid)
    return None if not fields or fields[0] in "ZX" else int(fields[19])


def _fields(pid: int) -> list[str]:
    """The state of a process and what follows it in ``/proc/PID/stat`` (see proc(5)); empty where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    # the second field, the name in parentheses, may itself contain spaces and parentheses
    return text.rpartition(")")[2].split()


def spawn(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
    """Start a program in a session of its own, writing to a log that is appended to; it outlives us.

    :raises OSError: it cannot be started
    """
    log_file = (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    pid = os.posix_spawn(
        command[0],
        list(command),
        dict(environment),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            log_file,
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    return Process(pid, _start_time(pid) or 0)


def kill_marked(mark: str, sandboxes: Path, *, seconds: float = 10.0) -> None:
    """Kill every process that :func:`find_marked` finds.

    :raises LocalMesosError: one did not die in time
    """
    deadline = time.monotonic() + seconds
    while marked := find_marked(mark, sandboxes):
        for pid in marked:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise LocalMesosError(f"the processes {marked} of the local Mesos did not end in {seconds:.0f} s")
        time.sleep(0.005)


def find_marked(mark: str, sandboxes: Path) -> list[int]:
    """The processes that carry a mark, or whose sandbox is below a directory.

    The latter are executors and tasks, which outlive their agent. Mesos gives a custom executor none of the agent's
    environment, but tells it its sandbox.

    :param mark: an assignment, ``NAME=value``, of the environment
    :param sandboxes: the directory that has all their sandboxes below it
    """
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            # gone meanwhile, or another user's: then it is not one of ours
            with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                environment = (directory / "environ").read_bytes().split(b"\0")
                sandbox = f"MESOS_DIRECTORY={sandboxes}/".encode()
                if mark.encode() in environment or any(variable.startswith(sandbox) for variable in environment):
                    found.append(int(directory.name))
    return found
