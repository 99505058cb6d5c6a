"""os-brick, the library by which Nova and Cinder reach storage, run by a Python of its own.

It and what it needs stay out of the executor. Requests may hold secrets: they go by standard input, and what comes back
in an error is cleaned of them. Source: ``os_brick.initiator.connector``.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from drivers.cinder import brick_program
from polly_mesos.errors import DeviceNotFound, HostError
from polly_mesos.model import Json

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_SHORTEST = 20.0
"""Seconds that os-brick is given at least: cut off while it logs in, it leaves more behind than when it fails."""

_LONGEST = 180.0
_HIDDEN = "***"
_NOT_FOUND = ("VolumeDeviceNotFound", "VolumePathsNotFound", "NoFibreChannelVolumeDeviceFound")
_REMEDY = (
    "install Debian's python3-os-brick; or install os-brick with pip in a virtual environment on this host, and name "
    "its python as os_brick_python"
)


class BrickMissing(HostError):
    """There is no os-brick where it was looked for, so nothing was done."""


class Brick:
    """os-brick on this host.

    :param python: the interpreter that has it
    :param directory: below which it mounts shares and keeps its lock files
    """

    def __init__(self, python: str, directory: Path) -> None:
        self._python = python
        self._locks, self.mounts = directory / "locks", directory / "mounts"

    def connector(self, host: str, address: str) -> Json:
        """With what this host reaches storage: ``get_connector_properties``.

        :raises HostError: os-brick is missing, or it failed
        """
        found: Json = self._ask({"do": "connector", "host": host, "address": address}, {}, _SHORTEST)
        return found

    def connect(self, connection: Json, secret: Json, timeout: float) -> Json:
        """Bring the volume to this host; the same again where it is here already: ``connect_volume``.

        :param secret: what belongs to the connection and must not be told
        :param timeout: seconds; :data:`_SHORTEST` at least
        :return: what os-brick says of the device: ``path``, and more that it wants back
        :raises DeviceNotFound: no device appeared
        :raises HostError: os-brick is missing, or it failed
        """
        device: Json = self._ask({"do": "connect", "connection": {**connection, **secret}}, secret, timeout)
        if not isinstance(device.get("path"), str):
            raise HostError(
                f"os-brick gives no device for storage of type {connection.get('driver_volume_type')!r}",
                remedy="use a back end whose volumes a host can have as a block device or a file",
            )
        return device

    def disconnect(self, connection: Json, device: Json) -> None:
        """Take the volume from this host; succeeds where it is not there: ``disconnect_volume``.

        :raises HostError: it is in use, could not be flushed, or os-brick is missing
        """
        self._ask({"do": "disconnect", "connection": connection, "device": device}, {}, _LONGEST)

    def extend(self, connection: Json) -> None:
        """Let the host see the size that the volume has now: ``extend_volume``."""
        self._ask({"do": "extend", "connection": connection}, {}, _LONGEST)

    def _ask(self, request: Json, secret: Json, timeout: float) -> Any:
        try:
            for directory in (self._locks, self.mounts):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise HostError(
                f"os-brick has no directory for its locks and mounts: {error}",
                remedy="let host_directory name a directory that root can write to on this host",
            ) from error
        whole = json.dumps({**request, "locks": str(self._locks), "mounts": str(self.mounts)})
        output, errors = _run(self._python, whole, max(timeout, _SHORTEST), request["do"])
        try:
            answer = json.loads(output)
        except ValueError:
            raise HostError(
                f"os-brick could not {request['do']}: {_without(_last_line(errors), secret) or 'it gave no answer'}",
                remedy="see whether os_brick_python runs, and whether its os-brick is whole",
            ) from None
        if "error" not in answer:
            return answer.get("answer")
        message = _without(str(answer["error"]), secret)
        if answer["kind"] == "missing":
            raise BrickMissing(f"{self._python} has no os-brick that works: {message}", remedy=_REMEDY)
        kind = DeviceNotFound if answer["kind"] in _NOT_FOUND else HostError
        raise kind(
            f"os-brick could not {request['do']}: {message} ({answer['kind']})",
            remedy="see the kernel's messages with `dmesg`, and whether this host reaches the storage",
        )


def _run(python: str, request: str, timeout: float, doing: str) -> tuple[str, str]:
    """Run the program once; all of it ends at the deadline."""
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:{_SBIN}", "LC_ALL": "C.UTF-8"}
    try:
        process = subprocess.Popen(
            [python, "-I", "-W", "ignore", "-c", inspect.getsource(brick_program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise BrickMissing(f"the Python with os-brick cannot be run: {error}", remedy=_REMEDY) from error
    with process:
        try:
            return process.communicate(request, timeout)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _end(process)
    raise DeviceNotFound(
        f"os-brick did not {doing} in {timeout:.0f} seconds",
        remedy="see whether this host reaches the storage; it is tried again when asked again",
    )


def _end(process: subprocess.Popen[str]) -> None:
    """End the program and what it started; succeeds where it has ended."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _without(text: str, secret: Mapping[str, Any]) -> str:
    """The text with all that is secret struck out."""
    for value in sorted(map(str, secret.values()), key=len, reverse=True):
        if value:
            text = text.replace(value, _HIDDEN)
    return text
