"""A ZooKeeper for a local cluster: one server of the system's package, by which the master is elected and found."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

from polly_mesos.errors import LocalMesosError
from polly_mesos.mesos.local.network import inside

PATH = "/mesos"
"""Where the master announces itself."""

_JARS = Path("/usr/share/java")
# Chosen by name: among all that is there, several loggers would contend
_NEEDED_JARS = (
    *("zookeeper", "zookeeper-jute", "slf4j-api", "slf4j-simple"),
    *("netty-all", "snappy-java", "metrics-core", "commons-cli", "commons-io"),
)
_REMEDY = "as root on Debian or Ubuntu: apt-get install --no-install-recommends libzookeeper-java default-jre-headless"
# Sessions may be as short as two ticks; Mesos' --zk_session_timeout chooses
_CONFIGURATION = """\
tickTime=500
dataDir={data}
clientPort={port}
clientPortAddress={ip}
maxClientCnxns=0
admin.enableServer=false
"""


def find_java() -> str:
    """The Java program, once it is sure that ZooKeeper is there too.

    :raises LocalMesosError: either is not installed
    """
    if not (_JARS / "zookeeper.jar").exists():
        raise LocalMesosError(f"ZooKeeper is not installed: there is no {_JARS}/zookeeper.jar", remedy=_REMEDY)
    java = shutil.which("java")
    if java is None:
        raise LocalMesosError("ZooKeeper needs Java, and no java is on the PATH", remedy=_REMEDY)
    return java


def zookeeper_command(java: str, home: Path) -> list[str]:
    """The program and its arguments.

    :param home: the directory that :func:`write_configuration` prepared
    """
    # A small heap and one collector thread: it holds a dozen nodes, beside a Mesos that wants the processors.
    options = ["-Xmx128m", "-XX:+UseSerialGC", "-Djava.awt.headless=true"]
    jars = ":".join(str(_JARS / f"{name}.jar") for name in _NEEDED_JARS)
    main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
    return [java, *options, "-cp", jars, main, str(home / "zoo.cfg")]


def write_configuration(home: Path, ip: str, port: int) -> None:
    """Write the configuration, and make the directory for the data; both stay over restarts."""
    (home / "data").mkdir(parents=True, exist_ok=True)
    (home / "zoo.cfg").write_text(_CONFIGURATION.format(data=home / "data", ip=ip, port=port))


def master_url(endpoint: str) -> str:
    """How agents and schedulers are told to find the master by this ZooKeeper."""
    return f"zk://{endpoint}{PATH}"


def answers(ip: str, port: int, namespace: str) -> bool:
    """Whether the server there serves (its four-letter word ``srvr``)."""
    try:
        with inside(namespace), socket.create_connection((ip, port), timeout=2.0) as connection:
            connection.sendall(b"srvr")
            return b"Mode: " in connection.recv(4096)
    except OSError:
        return False
