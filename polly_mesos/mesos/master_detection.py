"""Where the leading Mesos master is: a fixed address, or what the masters announced in ZooKeeper.

The driver asks whenever it has no connection; nothing is watched meanwhile. A master that loses its leadership exits
(Mesos' docs/high-availability.md), so its stream ends and the question is asked again.
"""

from __future__ import annotations

import json
from typing import Protocol
from urllib.parse import urlsplit

from polly_mesos.errors import ConfigurationError, MasterUnreachable
from polly_mesos.mesos.event_stream import join_address, split_address

DEFAULT_PORT = 5050

_ANNOUNCEMENT = "json.info_"
_REMEDY = "Give host:port or zk://host1:2181,host2:2181/mesos."


class MasterLocator(Protocol):
    """Finds the leading master; its text form holds no password."""

    def locate(self, timeout: float) -> str:
        """Address (host:port) of the master that leads now, as far as is known.

        :raises MasterUnreachable: nobody can say, or nobody leads
        """


def master_locator(master: str) -> MasterLocator:
    """Understand a master as people write it: ``host``, ``host:port`` or ``zk://[user:password@]host:port,.../path``.

    :raises ConfigurationError: it is none of these
    """
    if master.startswith("zk://"):
        return ZooKeeperMaster(master)
    try:
        return FixedMaster(join_address(*split_address(master, DEFAULT_PORT)))
    except ValueError as error:
        # The address is repeated only where it cannot hold a password.
        shown = "the given text" if "@" in master else repr(master)
        raise ConfigurationError(f"{shown} is not the address of a Mesos master", remedy=_REMEDY) from error


class FixedMaster:
    """A master with a known address; one that does not lead redirects to the one that does."""

    def __init__(self, address: str) -> None:
        self._address = address

    def __str__(self) -> str:
        return self._address

    def locate(self, timeout: float) -> str:
        """The address."""
        return self._address


class ZooKeeperMaster:
    """The master with the lowest number among those that announced themselves below a path in ZooKeeper.

    :raises ConfigurationError: no hosts or no path
    """

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        credentials, _, self._hosts = parts.netloc.rpartition("@")
        self._credentials = credentials
        self._path = parts.path.rstrip("/")
        if not self._hosts or not self._path:
            raise ConfigurationError("the ZooKeeper address of the Mesos master lacks hosts or path", remedy=_REMEDY)

    def __str__(self) -> str:
        return f"zk://{self._hosts}{self._path}"

    def locate(self, timeout: float) -> str:
        """Read the announcement of the leading master (Mesos' MasterInfo as JSON)."""
        # Imported here because agents, where kazoo need not be installed, never come this way.
        from kazoo.client import KazooClient
        from kazoo.exceptions import KazooException, NoNodeError
        from kazoo.handlers.threading import KazooTimeoutError

        client = KazooClient(
            hosts=self._hosts,
            timeout=timeout,
            read_only=True,
            auth_data=[("digest", self._credentials)] if self._credentials else None,
        )
        try:
            client.start(timeout=timeout)
            names = [name for name in client.get_children(self._path) if name.startswith(_ANNOUNCEMENT)]
            if not names:
                raise self._nobody_leads()
            data, _ = client.get(f"{self._path}/{min(names)}")
        except NoNodeError:
            raise self._nobody_leads() from None
        except (KazooException, KazooTimeoutError) as error:
            raise MasterUnreachable(
                f"ZooKeeper at {self._hosts} does not answer: {error or type(error).__name__}",
                remedy="Check that it runs and that the addresses are right.",
            ) from error
        finally:
            client.stop()
            client.close()
        return self._address(data)

    def _nobody_leads(self) -> MasterUnreachable:
        return MasterUnreachable(
            f"no Mesos master has announced itself at {self}", remedy="Check the path, and that a master runs with it."
        )

    def _address(self, announcement: bytes) -> str:
        try:
            address = json.loads(announcement)["address"]
            return join_address(address.get("ip") or address["hostname"], int(address["port"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise MasterUnreachable(f"the announcement of the master at {self} lacks an address") from error
