"""``polly serve`` as a process of its own, to be killed, stopped and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from polly_mesos.demo.supervise import polly_command
from polly_mesos.faults import EXIT_STATUS, VARIABLE

_STOP_SECONDS = 20.0


class Scheduler:
    """The scheduler half. Safe to use from several threads.

    :param prefix: the beginning of the command line, for a process that is to run somewhere special
    :param faults: the file by which faults are armed in it while it runs
    """

    def __init__(self, configuration: Path, log: Path, faults: Path, prefix: Sequence[str] = ()) -> None:
        self.log = log
        self._faults = faults
        self._command = [*prefix, *polly_command("serve", "--config", str(configuration))]
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._ended_by_us = True
        faults.touch()

    def start(self) -> None:
        """Start it; nothing happens where it runs. It serves a little later."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return
            environment = {**os.environ, VARIABLE: f"@{self._faults}"}
            with self.log.open("ab") as log:
                # a session of its own, so that Ctrl-C reaches the campaign alone
                self._process = subprocess.Popen(
                    self._command, stdout=log, stderr=log, env=environment, start_new_session=True
                )
            self._ended_by_us = False

    def kill(self) -> None:
        """End it as the kernel would, and wait until it is gone."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._ended_by_us = True
                self._process.kill()
                self._process.wait(_STOP_SECONDS)

    def pause(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """End it as an init system would, or by force where it does not listen."""
        with self._lock:
            self._ended_by_us = True
            if self._process is None or self._process.poll() is not None:
                return
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(_STOP_SECONDS)

    def death(self) -> int | None:
        """The exit status if it has ended by itself since it was last started, else None."""
        with self._lock:
            status = self._process.poll() if self._process is not None else None
            return None if self._ended_by_us else status

    def arm(self, faults: Sequence[str]) -> None:
        """Arm these faults, and no others (see :mod:`polly_mesos.faults`)."""
        new = self._faults.with_suffix(".new")
        new.write_text("\n".join(faults) + "\n")
        new.rename(self._faults)

    def _signal(self, number: signal.Signals) -> None:
        with self._lock, suppress(ProcessLookupError):
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(number)


def ended_by_fault(status: int) -> bool:
    """Whether a process with that exit status was ended by an armed fault."""
    return status == EXIT_STATUS
