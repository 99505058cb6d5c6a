"""The processes that the demo starts beside Mesos: the scheduler half, which is started again if it dies, and the
framework."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from polly_mesos.demo.directory import DemoDirectory, Record
from polly_mesos.demo.errors import DemoFailed
from polly_mesos.errors import LocalMesosError
from polly_mesos.mesos.local.processes import spawn
from polly_mesos.model import Json

POLLY = "polly"
FRAMEWORK = "framework"
_DEATHS_IN_A_ROW = 3
_TAIL_LINES = 15
_FRAMEWORK_PROGRAM = Path(__file__).with_name("stateful_framework.py")
"""A link to the example, so that the package has it as well."""
_POLLY_COMMAND = (sys.executable, "-c", "from polly_mesos.cli.main import main; main()")


def polly_command(*arguments: str) -> list[str]:
    """The ``polly`` command of this very installation."""
    return [*_POLLY_COMMAND, *arguments]


class Supervisor:
    """Starts them, keeps their record, and ends them."""

    def __init__(self, directory: DemoDirectory) -> None:
        self._directory = directory
        self._record: Record = directory.load() or Record()
        self._read = 0
        self._deaths = 0
        self.restarts = 0

    @property
    def polly(self) -> str:
        """URL of the scheduler half."""
        return self._record.polly

    def start_polly(self, url: str) -> None:
        """Start the scheduler half."""
        self._record.polly = url
        self._spawn(POLLY, polly_command("serve", "--config", str(self._directory.configuration)))

    def start_framework(self, master: str, *, profile: str, size_mb: int) -> None:
        """Start the example framework."""
        arguments = [master, "--json", "--profile", profile, "--size", str(size_mb)]
        self._spawn(FRAMEWORK, [sys.executable, str(_FRAMEWORK_PROGRAM), *arguments])

    def keep_polly(self, *, healthy: bool) -> bool:
        """Start the scheduler half again if it has died, and say whether it had.

        :param healthy: whether it has answered since the last call
        :raises DemoFailed: it dies again and again without ever answering
        """
        if healthy:
            self._deaths = 0
        if self._record.processes[POLLY].alive():
            return False
        self._deaths += 1
        if self._deaths == _DEATHS_IN_A_ROW:
            raise DemoFailed(f"polly serve ends at once:\n{self.tail(POLLY)}")
        self.restarts += 1
        self.start_polly(self._record.polly)
        return True

    def framework_runs(self) -> bool:
        """Whether the framework has not ended."""
        return self._record.processes[FRAMEWORK].alive()

    def framework_events(self) -> list[Json]:
        """What the framework has told since the last call."""
        new = self._directory.log(FRAMEWORK).read_bytes()[self._read :]
        complete = new[: new.rfind(b"\n") + 1]
        self._read += len(complete)
        return [json.loads(line) for line in complete.splitlines() if line.startswith(b'{"event"')]

    def tail(self, process: str) -> str:
        """The end of a process's log."""
        log = self._directory.log(process)
        return "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]) if log.exists() else ""

    def end(self) -> None:
        """End all that run: politely, then not."""
        for name, process in list(self._record.processes.items()):
            try:
                process.end(signal.SIGTERM)
            except LocalMesosError:
                process.end(signal.SIGKILL)
            del self._record.processes[name]
            self._directory.save(self._record)

    def _spawn(self, name: str, command: list[str]) -> None:
        self._record.processes[name] = spawn(command, os.environ, self._directory.log(name))
        self._directory.save(self._record)
