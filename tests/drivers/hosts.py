"""A host as real processes: one as its executor half, one as its Mesos agent, and tasks; each can die alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from drivers.declaration import Driver
from polly_mesos.model import Json

HOLDS_OPEN = """
import sys
file = open(sys.argv[1] + "/held-open", "a")
print("ready", flush=True)
sys.stdin.read()
"""
"""A task that has a file open in the directory that it is given."""

_EXECUTOR = """
import json, sys
from drivers.declaration import load_class
driver, settings, node = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
host = load_class(driver)(settings, node)
host.identify()
print("ready", flush=True)
for line in sys.stdin:
    print(host.locate(json.loads(line), 10.0), flush=True)
"""
_AGENT = """
import socket, sys
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("ready", flush=True)
sys.stdin.read()
"""
_OWN_NETWORK = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
_OWN_PROCESSES = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


class HostProcesses:
    """A host of one driver on this machine. All of its processes are gone after the block.

    :param directory: of the driver's service
    :param isolated: the host has a network of its own, and its executor numbers of processes of its own; needs root
    """

    def __init__(self, driver: Driver, directory: Path, sandboxes: Path, *, isolated: bool = False) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.node = f"127.0.0.1:{port}"
        self._started: list[subprocess.Popen[str]] = []
        self._sandbox = sandboxes / "slaves" / "S0" / "frameworks" / "F0"
        self._sandbox.mkdir(parents=True, exist_ok=True)
        self._executor = [_EXECUTOR, driver.host, json.dumps({"directory": str(directory)}), self.node]
        self.agent = self._start([_AGENT, str(port)], wrapped=_OWN_NETWORK if isolated else ())
        network = f"--net=/proc/{self.agent.pid}/ns/net"
        self._wrapped = ("nsenter", network, *_OWN_PROCESSES) if isolated else ()
        self.executor = self._start(self._executor, self._sandbox, wrapped=self._wrapped)

    def restart_executor(self) -> None:
        """Another process takes over, as after an upgrade."""
        self.executor = self._start(self._executor, self._sandbox, wrapped=self._wrapped)

    def locate(self, attachment: Json) -> str:
        """Where the executor finds an attached volume."""
        assert self.executor.stdin is not None
        assert self.executor.stdout is not None
        self.executor.stdin.write(json.dumps(attachment) + "\n")
        self.executor.stdin.flush()
        return self.executor.stdout.readline().rstrip("\n")

    def task(self, program: str, *arguments: str, told_sandbox: bool = False) -> subprocess.Popen[str]:
        """Start a task that prints a line once it does what it is for, and ends with its standard input."""
        return self._start([program, *arguments], self._sandbox if told_sandbox else None)

    def kill(self, *processes: subprocess.Popen[str]) -> None:
        """As a machine that loses power."""
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def power_off(self) -> None:
        """Nothing of the host is left but what the kernel keeps."""
        self.kill(*self._started)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.power_off()
        for process in self._started:
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                stream.close()

    def _start(
        self, program: Sequence[str], sandbox: Path | None = None, *, wrapped: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        if sandbox is not None:
            environment["MESOS_DIRECTORY"] = str(sandbox)
        process = subprocess.Popen(
            [*wrapped, sys.executable, "-c", *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd="/",
        )
        self._started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process
