"""Hosts that can lose their power, for the tests of fencing."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from drivers.base import HostDriver
from drivers.declaration import Driver, load_class
from polly_mesos.model import HostIdentity, Json


class Machine(ABC):
    """A host that runs until it is stopped.

    :ivar identity: who it is to the platform
    """

    identity: HostIdentity

    @abstractmethod
    def use(self, attachment: Json) -> None:
        """Find an attached volume on this host, and have it open from then on."""

    @abstractmethod
    def stop(self) -> None:
        """Take its power away: when this returns, nothing of the host runs, and its kernel holds nothing."""


Machines = Callable[[Mapping[str, Any], str], AbstractContextManager[Machine]]
"""Starts a machine, given the service's settings and a node. After the block it is stopped."""


class ProcessMachine(Machine):
    """The host side in a process of its own on this machine: for drivers that know hosts by their processes.

    What its kernel would forget is let go of by another object of the host side.
    """

    def __init__(self, driver: Driver, known: Mapping[str, Any], node: str) -> None:
        self._stand_in: HostDriver = load_class(driver.host)(known, node)
        self._used: list[Json] = []
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, json.dumps([sys.path, driver.host, dict(known), node])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self.identity = HostIdentity(**self._answer())
        except BaseException:
            self.stop()
            raise

    def use(self, attachment: Json) -> None:
        assert self._process.stdin is not None
        self._used.append(attachment)
        print(json.dumps(attachment), file=self._process.stdin, flush=True)
        self._answer()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        while self._used:
            self._stand_in.release(self._used.pop())

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the host side raised an error; it is above"
        return json.loads(line)


_PROGRAM = """
import dataclasses, json, os, sys
path, driver, settings, node = json.loads(sys.argv[1])
sys.path[:] = path
from drivers.declaration import load_class
host = load_class(driver)(settings, node)
print(json.dumps(dataclasses.asdict(host.identify())), flush=True)
used = []
for line in sys.stdin:
    place = host.locate(json.loads(line), 60.0)
    used.append(open(place, "r+b", 0) if type(host).block else open(os.path.join(place, "in-use"), "ab"))
    print("{}", flush=True)
"""
