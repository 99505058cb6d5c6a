"""Health checks of a command task, as Mesos' executors do them (``src/checks/health_checker.cpp``)."""

from __future__ import annotations

import logging
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress

from polly_mesos.model import Json

logger = logging.getLogger(__name__)

_HOST = "127.0.0.1"  # tasks share the host's network
_HEALTHY_STATUSES = range(200, 400)


class Unhealthy(Exception):
    """A check failed; the message says how."""


def command_environment(command: Json, base: Mapping[str, str]) -> dict[str, str]:
    """The environment of a ``CommandInfo``: that of the executor, and on top of it the command's own."""
    variables = command.get("environment", {}).get("variables", [])
    return {**base, **{variable["name"]: variable["value"] for variable in variables if "value" in variable}}


def command_arguments(command: Json) -> tuple[list[str], str | None]:
    """The argument vector of a ``CommandInfo`` and, where that is not its first element, the program."""
    if command.get("shell", True):
        return ["/bin/sh", "-c", command["value"]], None
    return command.get("arguments") or [command["value"]], command["value"]


class HealthChecker:
    """Checks again and again, on a thread of its own, and tells of changes and failures.

    :param check: ``HealthCheck``
    :param report: told ``(healthy, kill)``: of the first success, of the first after failures, and of each failure
        after the grace period; ``kill`` once there were ``consecutive_failures`` of them in a row
    :raises ValueError: the check is of no known type
    """

    def __init__(self, check: Json, report: Callable[[bool, bool], None]) -> None:
        self._check, self._report = check, report
        self._perform = {"COMMAND": self._command, "HTTP": self._http, "TCP": self._tcp}.get(check.get("type", ""))
        if self._perform is None:
            raise ValueError(f"there is no health check of type {check.get('type')!r}")
        timeout = float(check.get("timeout_seconds", 20))
        self._timeout = timeout if timeout > 0 else None
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin, with the delay that the check asks for."""
        threading.Thread(target=self._run, name="health", daemon=True).start()

    def stop(self) -> None:
        """Report nothing from now on."""
        self._stopped.set()

    def _run(self) -> None:
        started, failures, ever_healthy = time.monotonic(), 0, False
        grace = float(self._check.get("grace_period_seconds", 10))
        interval = float(self._check.get("interval_seconds", 10))
        wait = float(self._check.get("delay_seconds", 15))
        while not self._stopped.wait(wait):
            wait = interval
            problem = self._problem()
            if self._stopped.is_set():
                return
            if problem is None:
                if failures or not ever_healthy:
                    self._report(True, False)
                failures, ever_healthy = 0, True
            elif ever_healthy or time.monotonic() - started > grace:
                failures += 1
                logger.warning("health check failed %d times in a row: %s", failures, problem)
                self._report(False, failures >= int(self._check.get("consecutive_failures", 3)))
            else:
                logger.info("health check failed within the grace period: %s", problem)

    def _problem(self) -> str | None:
        assert self._perform is not None
        try:
            self._perform()
        except (Unhealthy, OSError) as error:
            return str(error)
        return None

    def _command(self) -> None:
        command = self._check["command"]
        arguments, program = command_arguments(command)
        # the sandbox's stderr has what it says, as with Mesos' own executor
        process = subprocess.Popen(
            arguments,
            executable=program,
            env=command_environment(command, os.environ),
            stdin=subprocess.DEVNULL,
            stdout=2,
            start_new_session=True,
        )
        try:
            status = process.wait(self._timeout)
        except subprocess.TimeoutExpired:
            raise Unhealthy(f"the command has not ended after {self._timeout:g} s") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if status != 0:
            raise Unhealthy(f"the command ended with status {status}")

    def _http(self) -> None:
        http = self._check["http"]
        url = f"{http.get('scheme', 'http')}://{_HOST}:{http['port']}{http.get('path', '')}"
        anyone = ssl.create_default_context()
        anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=anyone)
        )
        try:
            with opener.open(url, timeout=self._timeout) as answer:
                status = answer.status
        except urllib.error.HTTPError as error:
            error.close()
            status = error.code
        if status not in _HEALTHY_STATUSES:
            raise Unhealthy(f"{url} answered with status {status}")

    def _tcp(self) -> None:
        socket.create_connection((_HOST, self._check["tcp"]["port"]), timeout=self._timeout).close()
