"""RabbitMQ from Debian, as the user rabbitmq, on 127.0.0.1 alone: Cinder's three processes talk through it."""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import suppress
from pathlib import Path

from polly_mesos.mesos.local.ports import free_ports
from polly_mesos.testing.openstack.environment import search_path
from polly_mesos.testing.openstack.processes import Daemon


class Broker:
    """A broker of its own, also with a port mapper of its own.

    :ivar url: for oslo.messaging
    """

    def __init__(self, directory: Path) -> None:
        port, distribution, mapper = free_ports("127.0.0.1", 3)
        home = directory / "rabbitmq"
        home.mkdir()
        (home / "advanced.config").write_text("[{kernel, [{inet_dist_use_interface, {127, 0, 0, 1}}]}].\n")
        (home / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\nloopback_users = none\n")
        (home / "enabled_plugins").write_text("[].\n")
        for path in (home, *home.iterdir()):
            shutil.chown(path, "rabbitmq", "rabbitmq")
        environment = {
            "PATH": search_path(),
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": f"polly-{os.getpid()}-{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(mapper),
        }
        self.url = f"rabbit://guest:guest@127.0.0.1:{port}//"
        program = shutil.which("rabbitmq-server", path=search_path()) or "rabbitmq-server"
        # The mapper would leave the session and stay behind; started here it ends with the rest.
        self._mapper = Daemon(
            "epmd",
            ["runuser", "-u", "rabbitmq", "--", "epmd", "-address", "127.0.0.1", "-port", str(mapper)],
            log=directory / "epmd.log",
            environment=environment,
            ready=lambda: answers(mapper),
        )
        self._mapper.wait_until_ready()
        self._server = Daemon(
            "rabbitmq-server",
            ["runuser", "-u", "rabbitmq", "--", program],
            log=directory / "rabbitmq.log",
            environment=environment,
            ready=lambda: answers(port),
        )

    def wait_until_ready(self) -> None:
        """Return when it takes connections."""
        self._server.wait_until_ready()

    def end(self) -> None:
        """End the broker and its port mapper."""
        self._server.end()
        self._mapper.end()


def answers(port: int) -> bool:
    """Whether something listens on that port of this machine."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False
