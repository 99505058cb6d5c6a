"""Server processes that end when they are told, all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from polly_mesos.errors import LocalMesosError

_END_SECONDS = 10.0


class Daemon:
    """One server with its children, in a session of its own: so they are found and end together.

    It ends with this process at the latest.

    :param ready: whether it serves; asked until it does
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        ready: Callable[[], bool] = lambda: True,
        deadline: float = 60.0,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "--", *command],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=log.parent,
            )
        self._ready, self._deadline = ready, deadline

    def wait_until_ready(self) -> None:
        """Return when it serves.

        :raises LocalMesosError: it ended instead, or did not serve in time; with the end of its log
        """
        deadline = time.monotonic() + self._deadline
        while not self._ready():
            ended = self._process.poll()
            if ended is not None or time.monotonic() > deadline:
                told = f"ended with status {ended}" if ended is not None else f"not ready in {self._deadline:g} seconds"
                self.end()
                raise LocalMesosError(f"{self.name}: {told}: {self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def end(self) -> None:
        """End it and what it started: asked first, then by the kernel."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self._members():
                break
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            deadline = time.monotonic() + _END_SECONDS
            while self._members() and time.monotonic() < deadline:
                self._process.poll()
                time.sleep(0.02)
        self._process.wait()

    def _members(self) -> list[int]:
        """The living processes of its session; children that made groups of their own included."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, IndexError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == self._process.pid and fields[0] not in "ZX":
                    found.append(int(entry.name))
                    if int(fields[2]) != self._process.pid:
                        os.kill(int(entry.name), signal.SIGTERM)
        return found
