"""Ports for servers on this machine."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from pathlib import Path

_LOWEST = 15000


def free_ports(ip: str, count: int) -> list[int]:
    """Ports that nobody listens on now, below those that the kernel gives to outgoing connections.

    The kernel may give one of its own away between this look and the server's start, and again while an agent is down
    that must come back on it.
    """
    highest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    for port in random.sample(range(_LOWEST, max(highest, _LOWEST + 1000)), k=1000):
        with suppress(OSError), socket.socket() as probe:
            probe.bind((ip, port))
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"no {count} free ports on {ip}")
