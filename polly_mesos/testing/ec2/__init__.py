"""A strict counterpart of EC2's volumes: moto as the wire, and before it what EC2 refuses and moto does not.

With a directory (and root) it shows attached volumes to its instances as disks in made-up host trees.
"""

from __future__ import annotations

import re
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from polly_mesos.testing.ec2.answers import Refusal
from polly_mesos.testing.ec2.disks import Disks
from polly_mesos.testing.ec2.faults import Fault, Faults
from polly_mesos.testing.ec2.front import Front
from polly_mesos.testing.ec2.metadata import MetadataService
from polly_mesos.testing.ec2.policy import Need, Policy
from polly_mesos.testing.ec2.signature import Account
from polly_mesos.testing.ec2.state import TIB, Cloud, Delays, Instance, Key
from polly_mesos.testing.ec2.wire import Wire

__all__ = ["TIB", "Account", "Delays", "Ec2", "Fault", "Instance", "Key", "Need", "Policy", "Refusal"]

KEY, SECRET = "AKIAPOLLYTEST0000000", "made-up-secret-of-the-counterpart"
_NODE = re.compile(r"[A-Za-z0-9.:_-]{1,100}")


class Ec2:
    """One region with one account, from ``with`` to its end.

    :param directory: where images and host trees are; None for volumes that no host sees
    :param default_type: the type of instances that are made because a node asked its metadata
    :param limit: how many volumes an instance can hold, its root volume included; what EC2 says of its type where None
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        region: str = "us-east-1",
        delays: Delays | None = None,
        default_type: str = "m5.large",
        limit: int | None = None,
        wire: Wire | None = None,
    ) -> None:
        self._stack = ExitStack()
        self._wire = wire
        self._directory = directory
        self._default_type = default_type
        self._limit = limit
        self.region = region
        self.delays = delays or Delays()
        self.faults = Faults()
        self.accounts = {KEY: Account(SECRET)}

    def __enter__(self) -> Ec2:
        try:
            wire = self._wire or self._stack.enter_context(Wire(self.region))
            wire.reset()
            disks = Disks(self._directory)
            self._stack.callback(disks.close)
            quotas = dict.fromkeys(("gp2", "gp3", "io1", "io2", "st1", "sc1"), 50 * TIB)
            self.cloud = Cloud(wire, self.region, disks, self.delays, quotas, self._limit)
            self.front = Front(self.cloud, self.faults, self.accounts)
            self._stack.callback(self.front.server.close)
            self.metadata = MetadataService(self.cloud, self._find)
            self._stack.callback(self.metadata.server.close)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """The endpoint of EC2 and of Service Quotas."""
        return self.front.server.url

    @property
    def calls(self) -> Counter[str]:
        """The calls so far, by action."""
        return self.faults.calls

    @property
    def settings(self) -> dict[str, object]:
        """What a service in polly.yml needs to use this counterpart."""
        found: dict[str, object] = {
            "region": self.region,
            "endpoint": self.url,
            "quotas_endpoint": self.url,
            "zone": f"{self.region}a",
            "access_key": KEY,
            "secret_key": SECRET,
            "metadata_endpoint": f"{self.metadata.server.url}/{{node}}",
        }
        if self._directory is not None:
            found["host_root"] = str(self._directory / "hosts" / "{node}")
        return found

    def instance(self, node: str, kind: str = "", zone: str = "") -> Instance:
        """The instance of a node, made where there is none."""
        return self.cloud.run_instance(node, kind or self._default_type, zone or f"{self.region}a")

    def _find(self, node: str) -> Instance | None:
        return self.instance(node) if _NODE.fullmatch(node) else None
