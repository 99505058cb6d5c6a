"""How many of Polly's volumes an instance can have: EC2's own number for its type, less what others have there.

EC2's number counts volumes, the root volume among them. On many types network interfaces take the same places
(``attachmentLimitType`` is ``shared``): the first interface and the instance's own disks are left out of the number
already, and each further interface takes one more. Source: the EC2 API reference, EbsInfo, and the EC2 user guide,
"Amazon EBS volume limits for Amazon EC2 instances".
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from drivers.ebs.api import Api
from drivers.ebs.batch import MOST_KEYS
from drivers.ebs.tags import plain
from polly_mesos.errors import PollyError
from polly_mesos.model import HostIdentity, Json

log = logging.getLogger(__name__)

_FRESH = 600.0
"""Seconds after which others may have attached or detached volumes of their own."""
_AGAIN = 60.0
"""Seconds after which what EC2 did not tell is asked for again."""
_PATIENCE = 2.0
"""Seconds that a host waits for EC2; then what it said of itself counts, until it says it again."""


@dataclass(frozen=True, slots=True)
class TypeLimit:
    """What an instance type can have.

    :param shared: whether network interfaces take the places of volumes
    """

    most: int
    shared: bool


class HostLimits:
    """What EC2 says of instances and their types. Safe to use from several threads; EC2 is asked in one of its own.

    :param ours: the filter that our volumes pass
    :param reserved: places that are not for Polly; None to count what others have attached
    """

    def __init__(self, api: Api, ours: Json, reserved: int | None) -> None:
        self._api = api
        self._key, self._values = str(ours["Name"]).removeprefix("tag:"), ours["Values"]
        self._reserved = reserved
        self._changed = threading.Condition()
        self._types: dict[str, TypeLimit] = {}
        self._others: dict[str, int] = {}
        self._asked: dict[str, float] = {}
        self._waiting: dict[str, str] = {}
        self._asking: dict[str, str] = {}
        self._works = False

    def refine(self, host: HostIdentity) -> HostIdentity:
        """The host with the limit that EC2 gives it, or as it came where EC2 has not told it."""
        kind = host.details.get("instance_type", "")
        if not kind:
            return host
        with self._changed:
            self._want(host.host, kind)
            if not self._knows(host.host, kind):
                self._changed.wait_for(lambda: host.host not in {**self._waiting, **self._asking}, _PATIENCE)
            return self._refined(host, kind)

    def _want(self, instance: str, kind: str) -> None:
        pause = _FRESH if self._knows(instance, kind) else _AGAIN
        now = time.monotonic()
        if instance in self._asked and now - self._asked[instance] < pause:
            return
        self._asked[instance] = now
        self._waiting[instance] = kind
        if not self._works:
            self._works = True
            threading.Thread(target=self._work, name="ebs-host-limits", daemon=True).start()

    def _knows(self, instance: str, kind: str) -> bool:
        return kind in self._types and (self._reserved is not None or instance in self._others)

    def _refined(self, host: HostIdentity, kind: str) -> HostIdentity:
        if not self._knows(host.host, kind):
            return host
        limit, interfaces = self._types[kind], host.details.get("interfaces", "")
        if limit.shared and not interfaces.isdigit():
            return host
        taken = self._others[host.host] if self._reserved is None else self._reserved
        further = max(0, int(interfaces) - 1) if limit.shared else 0
        return dataclasses.replace(host, attach_limit=max(0, limit.most - further - taken))

    def _work(self) -> None:
        """Ask for all who wait, until nobody does."""
        while True:
            with self._changed:
                self._asking, self._waiting = self._waiting, {}
                if not self._asking:
                    self._works = False
                    return
            types: Mapping[str, TypeLimit] = {}
            others: Mapping[str, int] = {}
            try:
                types = self._look_at_types(sorted(set(self._asking.values()) - self._types.keys()))
                others = self._look_at_instances(sorted(self._asking)) if self._reserved is None else {}
            except PollyError as error:
                log.warning("what instances can have is not known now, and what they say themselves counts: %s", error)
            except Exception:
                log.exception("what instances can have could not be found out; what they say themselves counts")
            with self._changed:
                self._types.update(types)
                self._others.update(others)
                self._asking = {}
                self._changed.notify_all()

    def _look_at_types(self, kinds: Sequence[str]) -> dict[str, TypeLimit]:
        found: dict[str, TypeLimit] = {}
        # By a filter, as one type that EC2 does not have would spoil the answer for all.
        for told in self._pages("DescribeInstanceTypes", "InstanceTypes", "instance-type", kinds, 100):
            limits = told.get("EbsInfo", {})
            if "MaximumEbsAttachments" in limits:
                # What is neither said to be shared nor to be dedicated is counted the careful way.
                shared = limits.get("AttachmentLimitType") != "dedicated"
                found[str(told["InstanceType"])] = TypeLimit(int(limits["MaximumEbsAttachments"]), shared)
        return found

    def _look_at_instances(self, instances: Sequence[str]) -> Mapping[str, int]:
        """The volumes that are not ours, the root volume among them."""
        found: Counter[str] = Counter(dict.fromkeys(instances, 0))
        for volume in self._pages("DescribeVolumes", "Volumes", "attachment.instance-id", instances, 500):
            if plain(volume.get("Tags", [])).get(self._key) not in self._values:
                found.update(one["InstanceId"] for one in volume.get("Attachments", []) if one["InstanceId"] in found)
        return found

    def _pages(self, action: str, items: str, name: str, values: Sequence[str], most: int) -> Iterator[Json]:
        for first in range(0, len(values), MOST_KEYS):
            filters = [{"Name": name, "Values": values[first : first + MOST_KEYS]}]
            more: Json = {}
            while True:
                what = "looking at what instances can have"
                answer = self._api.call(action, what, Filters=filters, MaxResults=most, **more)
                yield from answer.get(items, [])
                if not answer.get("NextToken"):
                    break
                more = {"NextToken": answer["NextToken"]}
