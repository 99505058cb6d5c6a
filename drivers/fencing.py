"""Whether a host that shares the controller side's machine is gone, as that machine's kernel shows it.

A host on another machine cannot be seen from here, so nothing is ever proven about it.
"""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drivers.base import Fence
from drivers.hosts import Lease, read_lease, start_of, this_boot, this_machine

_INITIAL_PID_NAMESPACE = "pid:[4026531836]"
"""The namespace from which all processes are seen; the kernel's PROC_PID_INIT_INO."""

_HIDDEN = "hidden"
_NO_NETWORK = (errno.EINVAL, errno.ENXIO)
"""What reading the ports of a process that has just ended gives."""
_LISTENING = "0A"
_ANY_ADDRESS = {"0" * 8, "0" * 32}


class Sight(enum.Enum):
    """What is seen of a host: that it is gone, that something of it is there, or neither."""

    GONE = "gone"
    THERE = "there"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked for and found.

    :param reason: one sentence
    :param lease: of a host that is gone and whose tasks may be there all the same
    """

    sight: Sight
    reason: str
    lease: Lease | None = None

    def as_fence(self) -> Fence:
        """The answer that a driver gives: only what is seen to be gone is proven."""
        return Fence(self.sight is Sight.GONE, self.reason)


class CannotLook(Exception):
    """This process may not see what it would have to see; the text says what."""


def look_for_host(directory: str, node: str) -> Finding:
    """Look for the executor half of a host and for its Mesos agent.

    Its tasks are not looked for: a driver must see by itself whether its volumes are in use.

    :param directory: of the driver's service, where the host wrote its lease
    """
    lease = read_lease(directory, node)
    if lease is None:
        return Finding(Sight.UNKNOWN, f"{node} never wrote in {directory} on which machine it runs")
    if lease.boot != this_boot():
        return _after_another_boot(lease)
    try:
        found = _executor(lease) or _agent(lease)
    except CannotLook as error:
        return Finding(Sight.UNKNOWN, f"{error}, so nobody knows whether {node} runs")
    if found:
        return Finding(Sight.THERE, found)
    reason = f"process {lease.pid} of {node} is gone, and nothing listens on its agent's port"
    return Finding(Sight.GONE, reason, lease)


def _after_another_boot(lease: Lease) -> Finding:
    if lease.machine.is_surely(this_machine()):
        return Finding(Sight.GONE, f"the machine of {lease.node} has been restarted since it was seen last")
    elsewhere = f"{lease.node} runs on another machine ({lease.machine.hostname}), which cannot be seen from here"
    return Finding(Sight.UNKNOWN, elsewhere)


def _executor(lease: Lease) -> str:
    own = os.readlink("/proc/self/ns/pid")
    if os.readlink("/proc/self") != str(os.getpid()) or own not in (lease.pid_namespace, _INITIAL_PID_NAMESPACE):
        raise CannotLook(f"process {lease.pid} of {lease.node} is in a namespace that cannot be seen from here")
    pid = lease.pid if own == lease.pid_namespace else _outer_pid(lease)
    if pid is None or start_of(pid) != lease.started:
        return ""
    return f"process {pid}, the executor of {lease.node}, is there"


def _outer_pid(lease: Lease) -> int | None:
    """The number here of a process that another namespace numbers otherwise."""
    for pid in processes():
        numbers = status_of(pid, "NSpid").split()
        if len(numbers) > 1 and int(numbers[-1]) == lease.pid and start_of(pid) == lease.started:
            return pid
    return None


def _agent(lease: Lease) -> str:
    """The agent is known by what it listens on: it may have been restarted since the lease was written."""
    host, _, port = lease.node.rpartition(":")
    if any(_listens(pid, host, int(port)) for pid in _in_network(lease.network_namespace)):
        return f"something listens on port {port}, as the agent of {lease.node} does"
    return ""


def _in_network(namespace: str) -> Iterator[int | str]:
    """A process in the network namespace, after all of which that may not be known: their ports can be seen as well.

    Root too may not look at every process, the first one of a container for example.
    """
    if os.readlink("/proc/self/ns/net") == namespace:
        yield "self"
        return
    for pid in processes():
        found = _network_of(pid)
        if found in (namespace, _HIDDEN):
            yield pid
        if found == namespace:
            return


def _listens(pid: int | str, host: str, port: int) -> bool:
    """Whether anything in the network of this process listens on the port, at what is or may be the host's address."""
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError as error:
            if error.errno in _NO_NETWORK:
                continue
            raise CannotLook(f"the ports of {host} cannot be seen: {error}") from error
        for line in lines:
            address, _, number = line.split()[1].partition(":")
            if line.split()[3] == _LISTENING and int(number, 16) == port and _may_be(address, host):
                return True
    return False


def _may_be(address: str, host: str) -> bool:
    """Whether the kernel's hexadecimal address may be the host's; only another IPv4 address surely is not."""
    if address in _ANY_ADDRESS or len(address) > len("7F000001"):
        return True
    written = ".".join(str(number) for number in int(address, 16).to_bytes(4, "little"))
    return written == host or not host.replace(".", "").isdigit()


def _network_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    except PermissionError:
        return _HIDDEN


def processes() -> Iterator[int]:
    """The numbers of all processes that can be seen now; each may end while it is looked at."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def status_of(pid: int, field: str) -> str:
    """A field of ``/proc/PID/status``; empty where the process or the field is not there."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{field}:")), "")
