"""What a host writes down about itself in a driver's directory, and reads there before it touches a volume.

The lease says which process of which machine acts for the host, so that the controller side, if it runs on that machine
too, can see whether the host is gone. It holds no time by which it ends: a host that is slow, stopped or cut off keeps
its volumes until it is seen to be gone.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import quote

from polly_mesos.errors import DeviceNotFound, HostError, PlatformError, PlatformUnavailable, VolumeInUse

_POLL = 0.01
_FOLDER = "hosts"
_STATE, _THREADS, _STARTED = 0, 17, 19


@dataclass(frozen=True, slots=True)
class Machine:
    """What tells one machine from another; where all that both sides know is equal, it is the same one.

    :param id: ``/etc/machine-id``, empty where there is none
    :param product: the firmware's identifier, empty where it may not be read
    """

    id: str
    hostname: str
    product: str

    def is_surely(self, other: Machine) -> bool:
        """Whether both are one machine beyond doubt; machines copied from one image differ in their host names."""
        products = {self.product, other.product} - {""}
        return bool(self.id) and (self.id, self.hostname) == (other.id, other.hostname) and len(products) < 2


@dataclass(frozen=True, slots=True)
class Lease:
    """Who acts for a host.

    :param node: ``host:port`` of its Mesos agent
    :param pid: the process of its executor half, as numbered in ``pid_namespace``
    :param started: clock ticks from boot to the start of that process, which tell it from a later one of that number
    :param since: ``started`` of the first such process since boot: what began before has no volume from it
    :param network_namespace: where its agent listens
    :param boot: the kernel's identifier of the time between two boots
    :param user: the effective user of the process; 0 is root
    :param sandboxes: the directory that the sandboxes of its agent are below, empty where unknown
    :param written: when it was written
    """

    node: str
    pid: int
    started: int
    since: int
    pid_namespace: str
    network_namespace: str
    boot: str
    machine: Machine
    user: int
    sandboxes: str
    written: float = 0.0


def this_machine() -> Machine:
    """The machine that this process runs on."""
    return Machine(_line("/etc/machine-id"), platform.node(), _line("/sys/class/dmi/id/product_uuid"))


def this_boot() -> str:
    """The kernel's identifier of the time since this machine was booted."""
    return _line("/proc/sys/kernel/random/boot_id")


def start_of(pid: int | str) -> int | None:
    """Clock ticks from boot to the start of a process; None where there is none, or only its exit status is left."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field, the name in parentheses, may itself contain spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    # A process whose first thread has ended is no more than its exit status once the others have ended too.
    ended = fields[_STATE] in "ZX" and int(fields[_THREADS]) <= 1
    return None if ended else int(fields[_STARTED])


def announce(directory: str, node: str, environment: Mapping[str, str] = os.environ) -> None:
    """Write the lease of this host, unless this process has written it already.

    :param environment: what the Mesos agent set; MESOS_DIRECTORY is this process's sandbox
    :raises HostError: it cannot be written
    """
    started = start_of("self") or 0
    lease = Lease(
        node=node,
        pid=os.getpid(),
        started=started,
        since=started,
        pid_namespace=os.readlink("/proc/self/ns/pid"),
        network_namespace=os.readlink("/proc/self/ns/net"),
        boot=this_boot(),
        machine=this_machine(),
        user=os.geteuid(),
        sandboxes=_sandboxes(environment.get("MESOS_DIRECTORY", "")),
    )
    path = _path(directory, node)
    try:
        known = _read(path)
        if known is not None and known.boot == lease.boot:
            lease = replace(lease, since=min(known.since, started))
        if known is None or replace(known, written=0.0) != lease:
            path.parent.mkdir(mode=0o755, exist_ok=True)
            _write(path, replace(lease, written=time.time()))
    except OSError as error:
        raise HostError(
            f"this host cannot write down in {path} that it is there: {error}",
            remedy=f"let the executor's user write in {path.parent}",
        ) from error


def read_lease(directory: str, node: str) -> Lease | None:
    """What a host wrote about itself, None where it never did.

    :raises PlatformUnavailable: it cannot be read
    :raises PlatformError: it is no lease
    """
    path = _path(directory, node)
    try:
        return _read(path)
    except OSError as error:
        raise PlatformUnavailable(f"the lease {path} cannot be read: {error}") from error


def wait_until_held(path: str, node: str, deadline: float) -> None:
    """Wait until a volume's record of its holder names this host.

    A host whose volume was taken by force finds another name there, or none, and must not touch the volume.

    :param path: the symbolic link whose text is the holder
    :param deadline: monotonic time
    :raises VolumeInUse: another host holds the volume
    :raises DeviceNotFound: no host does
    """
    while True:
        try:
            holder = os.readlink(path)
        except FileNotFoundError:
            holder = ""
        if holder == node:
            return
        if holder:
            raise VolumeInUse(f"{path} says that {holder} holds the volume, and {node} asked for it")
        if time.monotonic() >= deadline:
            raise DeviceNotFound(f"{path} does not say that {node} holds the volume", remedy="attach it again")
        time.sleep(_POLL)


def _path(directory: str, node: str) -> Path:
    return Path(directory) / _FOLDER / f"{quote(node, safe=':[]')}.lease"


def _read(path: Path) -> Lease | None:
    try:
        fields = json.loads(path.read_text())
        return Lease(**{**fields, "machine": Machine(**fields["machine"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise PlatformError(f"{path} is no lease: {error}", remedy="remove it; the host writes it again") from error


def _write(path: Path, lease: Lease) -> None:
    """Threads and executors that follow each other quickly write a file of their own each before they rename it."""
    new = path.with_suffix(f".{os.getpid()}-{threading.get_native_id()}")
    try:
        with open(new, "w") as file:
            json.dump(asdict(lease), file, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _sandboxes(sandbox: str) -> str:
    """Mesos makes sandboxes below ``<work_dir>/slaves`` (``src/slave/paths.cpp``)."""
    work_directory, slaves, _ = sandbox.partition("/slaves/")
    return f"{work_directory}{slaves.rstrip('/')}" if slaves else ""


def _line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
