"""What the counterpart knows beside moto: states that take time, and who holds what."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from polly_mesos.testing.ec2.answers import Refusal, text_of
from polly_mesos.testing.ec2.disks import Disks
from polly_mesos.testing.ec2.rules import slot
from polly_mesos.testing.ec2.wire import Wire

SIX_HOURS = 6 * 3600.0
TIB = 1024
"""GiB in a TiB."""
ROOT_SIZE, ROOT_TYPE = 8, "gp2"
"""The root volume of an instance, in GiB."""


@dataclass(slots=True)
class Delays:
    """How long EC2 takes, in seconds. What takes no time is done before it is answered.

    :param visible: how long a new volume or snapshot is not known to the describing calls
    :param optimize: how long a modification is ``optimizing`` after it was ``modifying``
    """

    create: float = 0.0
    attach: float = 0.0
    detach: float = 0.0
    delete: float = 0.0
    snapshot: float = 0.0
    modify: float = 0.0
    optimize: float = 0.0
    visible: float = 0.0


ACCOUNT = "123456789012"


@dataclass(eq=False, slots=True)
class Key:
    """A key of AWS KMS.

    :param state: Enabled, Disabled or PendingDeletion
    """

    id: str
    aliases: tuple[str, ...] = ()
    state: str = "Enabled"

    def arn(self, region: str) -> str:
        """Its name for policies."""
        return f"arn:aws:kms:{region}:{ACCOUNT}:key/{self.id}"


@dataclass(slots=True)
class Attachment:
    """One volume on one instance.

    :param state: attaching, attached, busy or detaching
    :param due: when the state passes
    """

    device: str
    state: str
    due: float


@dataclass(slots=True)
class Modification:
    """A change of a volume: modifying until ``effective``, optimizing until ``complete``."""

    begun: float
    effective: float
    complete: float
    before: tuple[int, str, int | None, int | None]
    after: tuple[int, str, int | None, int | None]
    applied: bool = False

    def state(self, now: float) -> str:
        """In EC2's words."""
        if now < self.effective:
            return "modifying"
        return "optimizing" if now < self.complete else "completed"


@dataclass(slots=True)
class Volume:
    """What moto does not know of a volume. Sizes in GiB."""

    id: str
    number: int
    size: int
    kind: str
    iops: int | None
    throughput: int | None
    zone: str
    multi_attach: bool
    ready: float
    visible: float
    attachments: dict[str, Attachment] = field(default_factory=dict)
    modification: Modification | None = None
    gone: float | None = None
    failed: bool = False


@dataclass(slots=True)
class Snapshot:
    """What moto does not know of a snapshot."""

    id: str
    number: int
    volume: str
    size: int
    ready: float
    visible: float
    started: str
    failed: bool = False


@dataclass(slots=True)
class Instance:
    """A virtual machine.

    :param node: name of its host tree and its path on the metadata service
    :param limit: how many volumes it can hold with one network interface, the root volume included
    :param shared: whether further network interfaces take the places of volumes
    :param root: the id of its root volume
    :param mapping: what it got at its start beside the root volume, as its metadata names it: ``ebs1``, ``ephemeral0``
    """

    id: str
    node: str
    kind: str
    zone: str
    nitro: bool
    limit: int
    shared: bool
    root: str
    number: int
    state: str = "running"
    interfaces: int = 1
    mapping: tuple[str, ...] = ()

    @property
    def places(self) -> int:
        """How many volumes can be attached to it beside what it got at its start."""
        further = self.interfaces - 1 if self.shared else 0
        return self.limit - further - 1 - sum(name.startswith("ebs") for name in self.mapping)


class Cloud:
    """One region. Every public method must be called with :attr:`lock` held, but those that say that they take it."""

    def __init__(
        self,
        wire: Wire,
        region: str,
        disks: Disks,
        delays: Delays,
        quotas: dict[str, int],
        limit: int | None = None,
    ) -> None:
        self.wire = wire
        self.region = region
        self.disks = disks
        self.delays = delays
        self.quotas = quotas
        self.limit = limit
        self.zones = [f"{region}{letter}" for letter in "abc"]
        self.lock = threading.RLock()
        self.volumes: dict[str, Volume] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self.instances: dict[str, Instance] = {}
        self.tokens: dict[str, tuple[object, str]] = {}
        self.kms_keys: list[Key] = []
        self.key_of: dict[str, Key] = {}
        """Encrypted volumes and snapshots of keys of the account's own."""
        self.failed_volumes_stay = False
        """Whether a volume that EC2 cannot encrypt is shown in state ``error`` instead of vanishing."""
        self.default_quotas: set[str] = set()
        self._number = 0
        self._advanced = 0.0

    def now(self) -> float:
        """Seconds of this cloud's own clock."""
        return time.monotonic() + self._advanced

    def stamp(self) -> str:
        """The date and time of this cloud, as its answers have it."""
        now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=self._advanced)
        return now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}Z"

    def advance(self, seconds: float) -> None:
        """Let time pass at once; takes the lock."""
        with self.lock:
            self._advanced += seconds
            self.settle()

    def next_number(self) -> int:
        """Where a new thing stands in lists."""
        self._number += 1
        return self._number

    def settle(self) -> None:
        """Finish what is due."""
        now = self.now()
        for volume in list(self.volumes.values()):
            for instance, attachment in list(volume.attachments.items()):
                self._settle_attachment(volume, instance, attachment, now)
            change = volume.modification
            if change is not None and not change.applied and now >= change.effective:
                self._apply(volume, change)
            if volume.failed and now >= volume.ready and not self.failed_volumes_stay:
                volume.gone = volume.gone or now
            if volume.gone is not None and now >= volume.gone:
                self.wire.ask("DeleteVolume", {"VolumeId": volume.id})
                self.disks.delete(volume.id)
                del self.volumes[volume.id]

    def _settle_attachment(self, volume: Volume, instance: str, attachment: Attachment, now: float) -> None:
        if attachment.state == "attaching" and now >= attachment.due:
            attachment.state = "attached"
            host = self.instances[instance]
            self.disks.plug(host.node, volume.id, attachment.device, nitro=host.nitro)
        elif attachment.state in ("detaching", "busy") and now >= attachment.due:
            host = self.instances[instance]
            if host.state == "running" and self.disks.is_used(host.node, volume.id):
                attachment.state = "busy"
            else:
                self.let_go(volume, instance)

    def let_go(self, volume: Volume, instance: str) -> None:
        """End an attachment."""
        self.disks.unplug(self.instances[instance].node, volume.id)
        del volume.attachments[instance]
        if not volume.attachments:
            self.wire.ask("DetachVolume", {"VolumeId": volume.id, "InstanceId": instance})

    def _apply(self, volume: Volume, change: Modification) -> None:
        size, kind, _, _ = change.after
        parameters = {"VolumeId": volume.id, "Size": str(size), "VolumeType": kind}
        self.wire.ask("ModifyVolume", parameters)
        volume.size, volume.kind, volume.iops, volume.throughput = change.after
        self.disks.resize(volume.id, size)
        change.applied = True

    def key(self, name: str) -> Key | None:
        """The key of an id, an alias or an ARN; None where there is none."""
        return next((key for key in self.kms_keys if name in (key.id, key.arn(self.region), *key.aliases)), None)

    def volume(self, volume_id: str) -> Volume:
        """A volume that can be changed.

        :raises Refusal: there is none
        """
        volume = self.volumes.get(volume_id)
        if volume is None or volume.gone is not None:
            raise Refusal("InvalidVolume.NotFound", f"The volume '{volume_id}' does not exist.")
        return volume

    def instance(self, instance_id: str) -> Instance:
        """An instance.

        :raises Refusal: there is none
        """
        if instance_id not in self.instances:
            raise Refusal("InvalidInstanceID.NotFound", f"The instance ID '{instance_id}' does not exist")
        return self.instances[instance_id]

    def held_by(self, instance_id: str) -> Iterator[tuple[Volume, Attachment]]:
        """The volumes that an instance has, or is getting or losing; its root volume is not among them."""
        for volume in self.volumes.values():
            if instance_id in volume.attachments:
                yield volume, volume.attachments[instance_id]

    def slots_of(self, instance_id: str) -> set[str]:
        """The device names of an instance that are taken."""
        return {slot("/dev/sda1"), *(slot(attachment.device) for _, attachment in self.held_by(instance_id))}

    def used(self, kind: str) -> int:
        """GiB of one type that count against the quota."""
        roots = ROOT_SIZE * len(self.roots()) if kind == ROOT_TYPE else 0
        return roots + sum(volume.size for volume in self.volumes.values() if volume.kind == kind)

    def roots(self) -> dict[str, Instance]:
        """The root volumes and whose they are; with an instance its root volume ends."""
        return {one.root: one for one in self.instances.values() if one.state != "terminated"}

    def run_instance(self, node: str, kind: str, zone: str) -> Instance:
        """Start an instance; takes the lock."""
        with self.lock:
            for instance in self.instances.values():
                if instance.node == node and instance.state != "terminated":
                    return instance
            parameters = {
                "ImageId": "ami-12c6146b",
                "MinCount": "1",
                "MaxCount": "1",
                "InstanceType": kind,
                "Placement.AvailabilityZone": zone,
            }
            answer = self.wire.ask("RunInstances", parameters)
            found = answer.find("instancesSet/item")
            assert found is not None
            nitro = kind.partition(".")[0] not in _XEN
            root = self.wire.ask("DescribeInstances", {"InstanceId.1": text_of(found, "instanceId")})
            told = self.wire.instance_type(kind)
            assert told is not None
            made = Instance(
                text_of(found, "instanceId"),
                node,
                kind,
                zone,
                nitro,
                self.limit or int(told.findtext(".//maximumEbsAttachments") or 0),
                told.findtext(".//attachmentLimitType") == "shared",
                root.findtext(".//blockDeviceMapping/item/ebs/volumeId") or "",
                self.next_number(),
            )
            self.instances[made.id] = made
            return made

    def stop_instance(self, instance_id: str, state: str = "stopped") -> None:
        """Take the power of an instance, for a while or (``terminated``) for good; takes the lock."""
        with self.lock:
            instance = self.instances[instance_id]
            action = "TerminateInstances" if state == "terminated" else "StopInstances"
            held = list(self.held_by(instance_id))
            self.wire.ask(action, {"InstanceId.1": instance_id})
            instance.state = state
            for volume, _ in held:
                if state == "terminated":
                    self.disks.unplug(instance.node, volume.id)
                    del volume.attachments[instance_id]

    def forget_instance(self, instance_id: str) -> None:
        """Know a terminated instance no more, as EC2 does after an hour; takes the lock."""
        with self.lock:
            assert self.instances[instance_id].state == "terminated"
            del self.instances[instance_id]

    def start_instance(self, instance_id: str) -> None:
        """Give an instance its power back; takes the lock."""
        with self.lock:
            self.wire.ask("StartInstances", {"InstanceId.1": instance_id})
            self.instances[instance_id].state = "running"


_XEN = {"t2", "c3", "c4", "m3", "m4", "r3", "r4", "d2", "h1", "i2", "i3", "x1", "x1e"}
