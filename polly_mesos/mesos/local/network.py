"""Every node as a host of its own, as far as the network can tell: namespaces on one switch (root, iproute2).

A namespace for each node and one for the switch, a bridge; a pair of virtual Ethernet devices between each node and
the switch, and one more to this machine, which is the place named ``scheduler``. A link between two places is cut by
telling each that the other has a hardware address which nobody has: what they send is lost without a word, on
connections that are open as on new ones. Only the network is apart: files, mounts and processes are the machine's.
"""

from __future__ import annotations

import ctypes
import ipaddress
import itertools
import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from polly_mesos.errors import ConfigurationError, LocalMesosError
from polly_mesos.mesos.local.layout import MASTER, ZOOKEEPER

SCHEDULER = "scheduler"
"""This machine itself, where schedulers and frameworks run, as a place in the network."""
MOST_AGENTS = 200

_SWITCH = "switch"
_DEVICE = "eth0"
_NOBODY = "02:00:00:00:00:00"
_NAMESPACES = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_FIXED_PLACES = {SCHEDULER: 1, MASTER: 2, ZOOKEEPER: 3}
_FIRST_AGENT = 11
_libc = ctypes.CDLL(None, use_errno=True)


def check_possible() -> None:
    """Refuse where namespaces cannot be made.

    :raises LocalMesosError: this is not root, or a program is missing
    """
    if os.geteuid() != 0:
        raise LocalMesosError("network namespaces need root", remedy="run as root, or without namespaces")
    for program, package in (("ip", "iproute2"), ("nsenter", "util-linux")):
        if shutil.which(program) is None:
            raise LocalMesosError(
                f"network namespaces need the program {program}",
                remedy=f"as root on Debian or Ubuntu: apt-get install {package}",
            )


def free_subnet() -> str:
    """The first three numbers of 256 private addresses to which no route of this machine leads.

    :raises LocalMesosError: there are none
    """
    routes = json.loads(_ip("-json", "-4", "route", "show", "table", "all"))
    # a wider route, to a company's network for example, stays as it is but for our 256 addresses
    taken = [
        network
        for route in routes
        if route["dst"] != "default" and (network := ipaddress.ip_network(route["dst"])).prefixlen >= 16
    ]
    for second, third in random.sample(list(itertools.product(range(64, 128), range(256))), k=1000):
        candidate = ipaddress.ip_network(f"10.{second}.{third}.0/24")
        if not any(candidate.overlaps(network) for network in taken):
            return f"10.{second}.{third}"
    raise LocalMesosError("this machine has routes to all private addresses from 10.64.0.0 to 10.127.255.255")


def enter(namespace: str) -> list[str]:
    """What goes before a command line to run it in a namespace, with nothing else changed; nothing for our own."""
    return [shutil.which("nsenter") or "nsenter", f"--net={_NAMESPACES / namespace}"] if namespace else []


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Make this thread's new sockets those of a namespace; they stay so afterwards. Nothing happens for our own.

    :raises OSError: there is no such namespace
    """
    if not namespace:
        yield
        return
    with open("/proc/thread-self/ns/net") as back, (_NAMESPACES / namespace).open() as there:
        _switch(there.fileno())
        try:
            yield
        finally:
            _switch(back.fileno())


def _switch(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"the network namespace cannot be entered: {os.strerror(number)}")


@dataclass(frozen=True)
class Network:
    """The namespaces of one cluster.

    :param id: the cluster's
    :param subnet: the first three numbers of its addresses
    """

    id: str
    subnet: str

    @property
    def device(self) -> str:
        """The network device by which this machine takes part; Linux allows 15 characters."""
        return f"polly{self.id[:10]}"

    def address(self, place: str) -> str:
        """The address of a place."""
        number = _FIXED_PLACES.get(place) or _FIRST_AGENT - 1 + int(place.removeprefix("agent-"))
        return f"{self.subnet}.{number}"

    def namespace(self, place: str) -> str:
        """The namespace of a place; empty for this machine itself."""
        return "" if place == SCHEDULER else f"polly-{self.id}-{place}"

    def create(self, places: Sequence[str]) -> None:
        """Make the switch and the namespaces of the places, and connect them and this machine.

        :raises LocalMesosError: ``ip`` said why not
        """
        switch = self.namespace(_SWITCH)
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        self._connect(SCHEDULER, "", self.device)
        for place in places:
            namespace = self.namespace(place)
            _ip("netns", "add", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
            self._connect(place, namespace, _DEVICE)

    def _connect(self, place: str, namespace: str, device: str) -> None:
        """Put a device with the place's address into its namespace, and the device's other end into the switch."""
        switch, port = self.namespace(_SWITCH), f"to-{place}"
        where = ["netns", namespace] if namespace else []
        _ip("link", "add", "name", device, *where, "type", "veth", "peer", "name", port, "netns", switch)
        _ip("-n", switch, "link", "set", port, "master", "bridge", "up")
        _ip(*_in(namespace), "address", "add", f"{self.address(place)}/24", "dev", device)
        _ip(*_in(namespace), "link", "set", device, "up")

    def remove(self) -> None:
        """Remove all of it; the rest of it where a part is gone.

        :raises LocalMesosError: ``ip`` said why not
        """
        if Path(f"/sys/class/net/{self.device}").exists():
            _ip("link", "delete", self.device)
        for namespace in _NAMESPACES.glob(f"polly-{self.id}-*"):
            _ip("netns", "delete", namespace.name)

    def cut(self, one: str, other: str) -> None:
        """Lose all that two places send to each other."""
        for here, there in ((one, other), (other, one)):
            self._neighbour(here, "replace", self.address(there), "lladdr", _NOBODY, "nud", "permanent")

    def heal(self, one: str, other: str) -> None:
        """End :meth:`cut`; what was sent meanwhile is lost unless its sender repeats it."""
        for here, there in ((one, other), (other, one)):
            if there in self._lost(here, [there]):
                self._neighbour(here, "delete", self.address(there))

    def cuts(self, places: Sequence[str]) -> list[tuple[str, str]]:
        """The pairs among the places whose link is cut, each once."""
        lost = {place: self._lost(place, places) for place in places}
        return [(one, other) for one, other in itertools.combinations(places, 2) if other in lost[one]]

    def _lost(self, here: str, places: Sequence[str]) -> list[str]:
        """To which of the places nothing gets from here."""
        shown = json.loads(self._neighbour(here, "show", "nud", "permanent") or "[]")
        lost = {entry["dst"] for entry in shown if entry.get("lladdr") == _NOBODY}
        return [place for place in places if self.address(place) in lost]

    def _neighbour(self, here: str, action: str, *arguments: str) -> str:
        device = self.device if here == SCHEDULER else _DEVICE
        return _ip(*_in(self.namespace(here)), "-json", "neighbour", action, *arguments, "dev", device)


def check_places(places: Sequence[str], known: Sequence[str]) -> None:
    """Refuse places that a cluster does not have.

    :raises ConfigurationError: one is unknown, or they are one and the same
    """
    for place in places:
        if place not in known:
            raise ConfigurationError(
                f"the local Mesos has no place {place!r} in its network", remedy=f"its places are {', '.join(known)}"
            )
    if len(set(places)) < len(places):
        raise ConfigurationError(f"{places[0]!r} cannot be cut from itself")


def _in(namespace: str) -> list[str]:
    return ["-n", namespace] if namespace else []


def _ip(*arguments: str) -> str:
    ran = subprocess.run([shutil.which("ip") or "ip", *arguments], capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise LocalMesosError(f"`ip {' '.join(arguments)}` failed: {ran.stderr.strip()}")
    return ran.stdout
