"""``mesos-executor``: runs one ordinary command task (Mesos' ``src/launcher/executor.cpp``).

The agent starts it in the task's sandbox as the task's user and gives it the task through the executor API. It ends
when the task has ended and the agent has acknowledged that.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from polly_mesos.mesos.executor_driver import ExecutorDriver
from polly_mesos.mesos.local.helpers.health import HealthChecker, command_arguments, command_environment
from polly_mesos.model import Json

logger = logging.getLogger(__name__)

KILL_GRACE_SECONDS = 3.0
"""From SIGTERM to SIGKILL where neither the kill nor the task says."""

_SHUTDOWN_MARGIN_SECONDS = 2.0
_ACKNOWLEDGE_SECONDS = 60.0
_UNDERSTOOD_FLAGS = ("--launcher_dir",)


class CommandExecutor:
    """One task, its process and its health check."""

    def __init__(self) -> None:
        self.driver = ExecutorDriver(self)
        self._announces_killing = False
        self._task_id = ""
        self._task: Json = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._health: HealthChecker | None = None
        self._lock = threading.Lock()
        self._kill_at: float | None = None
        self._killer: threading.Timer | None = None
        self._overtime: threading.Timer | None = None
        self._unhealthy = self._too_long = False
        self._ended = threading.Event()

    def run(self) -> None:
        """Until the task has ended and all about it is acknowledged, or the agent tells us to end."""
        self.driver.start()
        self.driver.join()

    # ---- what the driver tells

    def registered(self, executor_info: Json, framework_info: Json, agent_info: Json) -> None:
        """Learn whether the framework wants to hear that a task is being killed."""
        capabilities = framework_info.get("capabilities", [])
        self._announces_killing = {"type": "TASK_KILLING_STATE"} in capabilities

    def reregistered(self, agent_info: Json) -> None:
        """The agent is back; the driver has sent what it missed."""

    def disconnected(self) -> None:
        """The task goes on without the agent."""

    def message(self, data: bytes) -> None:
        """Command tasks get no messages."""

    def launch(self, task: Json) -> None:
        """Start the task."""
        task_id = task["task_id"]["value"]
        if self._task_id:
            self.driver.send_update(task_id, "TASK_FAILED", message="a command executor runs one task only")
            return
        self._task_id, self._task = task_id, task
        self.driver.send_update(task_id, "TASK_STARTING")
        try:
            self._start(task)
        except (OSError, ValueError) as error:
            self.driver.send_update(task_id, "TASK_FAILED", message=f"Command could not be started: {error}")
            self._end_when_acknowledged()
            return
        self.driver.send_update(task_id, "TASK_RUNNING")
        threading.Thread(target=self._watch, name="task").start()
        if self._health:
            self._health.start()

    def kill(self, task_id: str, grace_seconds: float | None) -> None:
        """End the task."""
        if self._process is None:
            self.driver.stop()
            return
        if grace_seconds is None:
            nanoseconds = self._task.get("kill_policy", {}).get("grace_period", {}).get("nanoseconds")
            grace_seconds = KILL_GRACE_SECONDS if nanoseconds is None else int(nanoseconds) / 1e9
        self._kill(grace_seconds)

    def shutdown(self, grace_seconds: float) -> None:
        """End the task in time for its last update, before the agent ends us."""
        if self._process is not None:
            self._kill(max(0.0, grace_seconds - _SHUTDOWN_MARGIN_SECONDS))
            self._ended.wait(grace_seconds)

    # ---- the task

    def _start(self, task: Json) -> None:
        if "check" in task:
            raise ValueError("a general check is not supported by the local Mesos; use a health check")
        if "health_check" in task:
            self._health = HealthChecker(task["health_check"], self._health_changed)
        command = task["command"]
        arguments, program = command_arguments(command)
        environment = command_environment(command, os.environ)
        if role := next(
            (r["allocation_info"]["role"] for r in task.get("resources", []) if "allocation_info" in r), ""
        ):
            environment["MESOS_ALLOCATION_ROLE"] = role
        # a session of its own: its processes are signalled as a group, and we are not in it
        self._process = subprocess.Popen(
            arguments, executable=program, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
        )
        logger.info("task %s runs as process %d", self._task_id, self._process.pid)
        if limit := int(task.get("max_completion_time", {}).get("nanoseconds", 0)):
            self._overtime = threading.Timer(limit / 1e9, self._took_too_long)
            self._overtime.daemon = True
            self._overtime.start()

    def _watch(self) -> None:
        assert self._process is not None
        # not reaped yet, so that its number is still the group's: what the task left behind ends with it
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        self._signal(signal.SIGKILL)
        with self._lock:
            status = self._process.wait()
            for timer in (self._killer, self._overtime):
                if timer:
                    timer.cancel()
        if self._health:
            self._health.stop()
        self._report_end(status)
        self._end_when_acknowledged()

    def _report_end(self, status: int) -> None:
        message = f"Command exited with status {status}"
        if status < 0:
            message = f"Command terminated with signal {signal.strsignal(-status)}"
        state, reason = "TASK_FINISHED" if status == 0 else "TASK_FAILED", ""
        if self._too_long:
            state, reason = "TASK_FAILED", "REASON_MAX_COMPLETION_TIME_REACHED"
        elif self._kill_at is not None:
            state = "TASK_KILLED"
        healthy = False if self._unhealthy else None
        logger.info("task %s: %s, %s", self._task_id, state, message)
        self.driver.send_update(self._task_id, state, message=message, reason=reason, healthy=healthy)
        self._ended.set()

    def _end_when_acknowledged(self) -> None:
        threading.Thread(target=self._stop_driver, name="end", daemon=True).start()

    def _stop_driver(self) -> None:
        deadline = time.monotonic() + _ACKNOWLEDGE_SECONDS
        while self.driver.updates and time.monotonic() < deadline:
            time.sleep(0.02)
        self.driver.stop()

    def _kill(self, grace_seconds: float) -> None:
        """SIGTERM now and SIGKILL later; another kill can bring the SIGKILL forward, never put it off."""
        at = time.monotonic() + grace_seconds
        with self._lock:
            assert self._process is not None
            if self._process.returncode is not None or (self._kill_at is not None and at >= self._kill_at):
                return
            first, self._kill_at = self._kill_at is None, at
            if self._killer:
                self._killer.cancel()
            self._killer = threading.Timer(grace_seconds, self._signal, [signal.SIGKILL])
            self._killer.daemon = True
            self._killer.start()
        if first:
            if self._health:
                self._health.stop()
            if self._announces_killing and not self._too_long:
                self.driver.send_update(self._task_id, "TASK_KILLING")
            self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            assert self._process is not None
            if self._process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, number)

    def _took_too_long(self) -> None:
        self._too_long = True
        self._kill(0.0)

    def _health_changed(self, healthy: bool, kill: bool) -> None:
        self.driver.send_update(
            self._task_id, "TASK_RUNNING", healthy=healthy, reason="REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"
        )
        if kill:
            self._unhealthy = True
            self.kill(self._task_id, None)


def unknown_flags(arguments: Sequence[str]) -> list[str]:
    """The flags that ask for what is not supported, such as ``--rootfs`` for a task with a container image."""
    return [argument for argument in arguments if argument.partition("=")[0] not in _UNDERSTOOD_FLAGS]


def main() -> int:
    """Run the executor."""
    logging.basicConfig(level=logging.INFO, format="mesos-executor: %(message)s")
    if unknown := unknown_flags(sys.argv[1:]):
        logger.error("not supported by the local Mesos: %s; use a Mesos that runs elsewhere", " ".join(unknown))
        return 1
    CommandExecutor().run()
    return 0
