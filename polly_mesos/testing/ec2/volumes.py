"""CreateVolume, DescribeVolumes, DeleteVolume, ModifyVolume and DescribeVolumesModifications, strictly."""

from __future__ import annotations

from xml.etree import ElementTree

from polly_mesos.testing.ec2 import permissions
from polly_mesos.testing.ec2.answers import Element, Parameters, Refusal, add, page, set_text, text_of
from polly_mesos.testing.ec2.rules import check_id, check_tags, check_volume
from polly_mesos.testing.ec2.state import SIX_HOURS, Cloud, Instance, Modification, Volume

_VOLUME_FILTERS = (
    "volume-id",
    "snapshot-id",
    "availability-zone",
    "attachment.instance-id",
    "volume-type",
    "encrypted",
)


def create(cloud: Cloud, parameters: Parameters) -> Element:
    """CreateVolume, once for one ClientToken."""
    token, asked = parameters.get("ClientToken", ""), tuple(sorted(parameters.items()))
    if len(token) > 64 or not token.isascii():
        raise Refusal("InvalidParameterValue", "ClientToken must have at most 64 ASCII characters")
    if token and token in cloud.tokens:
        before, answer = cloud.tokens[token]
        if before != asked:
            message = "The client token you have provided is associated with a resource created with other parameters."
            raise Refusal("IdempotentParameterMismatch", message)
        return ElementTree.fromstring(answer)
    volume, root = _make(cloud, parameters)
    if token:
        cloud.tokens[token] = (asked, ElementTree.tostring(root, encoding="unicode"))
    cloud.volumes[volume.id] = volume
    return root


def _make(cloud: Cloud, parameters: Parameters) -> tuple[Volume, Element]:
    zone, snapshot = parameters.required("AvailabilityZone"), parameters.get("SnapshotId", "")
    if zone not in cloud.zones:
        raise Refusal("InvalidZone.NotFound", f"The zone '{zone}' does not exist.")
    size = _size(cloud, parameters, snapshot)
    kind = parameters.get("VolumeType", "gp2")
    iops, throughput = parameters.integer("Iops"), parameters.integer("Throughput")
    multi_attach = parameters.flag("MultiAttachEnabled")
    check_volume(kind, size, iops, throughput, multi_attach=multi_attach)
    check_tags(parameters.tags("volume"))
    if parameters.get("KmsKeyId") and not parameters.flag("Encrypted"):
        raise Refusal(
            "InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set."
        )
    if cloud.used(kind) + size > cloud.quotas[kind]:
        message = f"You have exceeded your maximum {kind} storage limit of {cloud.quotas[kind]} GiB in this region."
        raise Refusal("VolumeLimitExceeded", message)
    failed = _key_fails(cloud, parameters, snapshot)
    forwarded = parameters.without("ClientToken", "KmsKeyId")
    root = cloud.wire.ask("CreateVolume", {**forwarded, "Size": str(size)})
    now = cloud.now()
    volume = Volume(
        id=text_of(root, "volumeId"),
        number=cloud.next_number(),
        size=size,
        kind=kind,
        iops=iops if iops is not None else 3000 if kind == "gp3" else None,
        throughput=throughput if throughput is not None else 125 if kind == "gp3" else None,
        zone=zone,
        multi_attach=multi_attach,
        ready=now + cloud.delays.create,
        visible=now + cloud.delays.visible,
        failed=failed,
    )
    if key := cloud.key(parameters.get("KmsKeyId", "")) or cloud.key_of.get(snapshot):
        set_text(root, "kmsKeyId", key.arn(cloud.region))
        cloud.key_of[volume.id] = key
    cloud.disks.create(volume.id, size, snapshot)
    set_text(root, "status", "creating")
    return volume, root


def _key_fails(cloud: Cloud, parameters: Parameters, snapshot: str) -> bool:
    """A key that is wrong, disabled or not allowed is not refused: the volume fails a moment later.

    Source: the API reference, CreateVolume, KmsKeyId.
    """
    name, before = parameters.get("KmsKeyId", ""), cloud.key_of.get(snapshot)
    key = cloud.key(name) if name else before
    if key is None:
        return bool(name)
    needed = permissions.DATA_KEY if before is None else permissions.DATA_KEY + permissions.OTHER_KEY
    return not permissions.can_use(cloud, parameters.policy, key, needed)


def _size(cloud: Cloud, parameters: Parameters, snapshot: str) -> int:
    size = parameters.integer("Size")
    if not snapshot:
        if size is None:
            raise Refusal("MissingParameter", "The request must contain the parameter size or snapshotId")
        return size
    check_id("snapshot", snapshot)
    found = cloud.snapshots.get(snapshot)
    if found is None:
        raise Refusal("InvalidSnapshot.NotFound", f"The snapshot '{snapshot}' does not exist.")
    if cloud.now() < found.ready:
        raise Refusal("IncorrectState", f"Snapshot {snapshot} is in the 'pending' state.")
    if size is not None and size < found.size:
        raise Refusal(
            "InvalidParameterValue",
            f"Volume of size {size}GB is smaller than snapshot '{snapshot}', expect size >= {found.size}GB",
        )
    return found.size if size is None else size


def describe(cloud: Cloud, parameters: Parameters) -> Element:
    """DescribeVolumes with pages, and with the states that moto does not have."""
    ids = parameters.several("VolumeId")
    parameters.filters(_VOLUME_FILTERS)
    for volume_id in ids:
        check_id("volume", volume_id)
        if not _is_visible(cloud, volume_id):
            raise Refusal("InvalidVolume.NotFound", f"The volume '{volume_id}' does not exist.")
    root = cloud.wire.ask("DescribeVolumes", parameters.without("MaxResults", "NextToken"))
    items = root.find("volumeSet")
    assert items is not None
    known: dict[str, Volume | Instance] = {**cloud.roots(), **cloud.volumes}
    found = [item for item in items if _is_visible(cloud, text_of(item, "volumeId"))]
    shown, token = page(parameters, found, lambda item: known[text_of(item, "volumeId")].number, with_ids=bool(ids))
    for item in list(items):
        items.remove(item)
    for item in shown:
        if text_of(item, "volumeId") in cloud.volumes:
            _complete(cloud, item, cloud.volumes[text_of(item, "volumeId")])
        items.append(item)
    if token:
        set_text(root, "nextToken", token)
    return root


def _is_visible(cloud: Cloud, volume_id: str) -> bool:
    known = cloud.volumes.get(volume_id)
    return volume_id in cloud.roots() if known is None else cloud.now() >= known.visible


def _complete(cloud: Cloud, item: Element, volume: Volume) -> None:
    set_text(item, "status", status_of(cloud, volume))
    set_text(item, "multiAttachEnabled", str(volume.multi_attach).lower())
    if volume.id in cloud.key_of:
        set_text(item, "encrypted", "true")
        set_text(item, "kmsKeyId", cloud.key_of[volume.id].arn(cloud.region))
    for name, value in (("iops", volume.iops), ("throughput", volume.throughput)):
        if value is not None:
            set_text(item, name, str(value))
    for old in item.findall("attachmentSet"):
        item.remove(old)
    attachments = add(item, "attachmentSet")
    for instance, attachment in volume.attachments.items():
        add(
            attachments,
            "item",
            volumeId=volume.id,
            instanceId=instance,
            device=attachment.device,
            status=attachment.state,
            attachTime="2026-01-01T00:00:00.000Z",
            deleteOnTermination="false",
        )


def status_of(cloud: Cloud, volume: Volume) -> str:
    """The volume's state in EC2's words."""
    if volume.gone is not None:
        return "deleting"
    if cloud.now() < volume.ready:
        return "creating"
    if volume.failed:
        return "error"
    return "in-use" if volume.attachments else "available"


def delete(cloud: Cloud, parameters: Parameters) -> Element:
    """DeleteVolume; refused while an instance has it."""
    check_id("volume", parameters.required("VolumeId"))
    volume = cloud.volume(parameters["VolumeId"])
    if volume.attachments:
        raise Refusal("VolumeInUse", f"Volume {volume.id} is currently attached to {next(iter(volume.attachments))}")
    if status_of(cloud, volume) == "creating":
        raise Refusal("IncorrectState", f"The volume '{volume.id}' is 'creating'")
    volume.gone = cloud.now() + cloud.delays.delete
    root = ElementTree.Element("DeleteVolumeResponse")
    set_text(root, "return", "true")
    cloud.settle()
    return root


def create_tags(cloud: Cloud, parameters: Parameters) -> Element:
    """CreateTags of what there is already; whether it is there is not looked at."""
    check_tags(parameters.listed_tags("Tag"))
    return cloud.wire.ask("CreateTags", parameters)


def modify(cloud: Cloud, parameters: Parameters) -> Element:
    """ModifyVolume, once in six hours, and never to a smaller size."""
    check_id("volume", parameters.required("VolumeId"))
    volume, now = cloud.volume(parameters["VolumeId"]), cloud.now()
    last = volume.modification
    if status_of(cloud, volume) not in ("available", "in-use"):
        raise Refusal("IncorrectState", f"The volume '{volume.id}' is '{status_of(cloud, volume)}'")
    if last is not None and last.state(now) != "completed":
        raise Refusal(
            "IncorrectModificationState",
            f"Volume {volume.id} cannot be modified in modification state {last.state(now).upper()}",
        )
    if last is not None and now - last.begun < SIX_HOURS:
        message = "The maximum modification rate per volume is reached. Wait at least 6 hours between modifications."
        raise Refusal("VolumeModificationRateExceeded", message)
    size = parameters.integer("Size") or volume.size
    kind = parameters.get("VolumeType", volume.kind)
    iops = parameters.integer("Iops") or volume.iops
    throughput = parameters.integer("Throughput") or volume.throughput
    if size < volume.size:
        raise Refusal("InvalidParameterValue", "New size cannot be smaller than existing size")
    check_volume(kind, size, iops, throughput, multi_attach=volume.multi_attach)
    if cloud.used(kind) + size - (volume.size if kind == volume.kind else 0) > cloud.quotas[kind]:
        raise Refusal("VolumeLimitExceeded", f"You have exceeded your maximum {kind} storage limit in this region.")
    effective = now + cloud.delays.modify
    before = (volume.size, volume.kind, volume.iops, volume.throughput)
    after = (size, kind, iops, throughput)
    volume.modification = Modification(now, effective, effective + cloud.delays.optimize, before, after)
    root = ElementTree.Element("ModifyVolumeResponse")
    _describe_modification(cloud, root, "volumeModification", volume, volume.modification)
    cloud.settle()
    return root


def describe_modifications(cloud: Cloud, parameters: Parameters) -> Element:
    """DescribeVolumesModifications of the volumes that are named."""
    root = ElementTree.Element("DescribeVolumesModificationsResponse")
    items = add(root, "volumeModificationSet")
    for volume_id in parameters.several("VolumeId"):
        check_id("volume", volume_id)
        volume = cloud.volume(volume_id)
        if volume.modification is None:
            raise Refusal(
                "InvalidVolumeModification.NotFound", f"Modification for volume '{volume_id}' does not exist."
            )
        _describe_modification(cloud, items, "item", volume, volume.modification)
    return root


def _describe_modification(cloud: Cloud, parent: Element, name: str, volume: Volume, change: Modification) -> None:
    now = cloud.now()
    part = (now - change.effective) / max(change.complete - change.effective, 0.001)
    add(
        parent,
        name,
        volumeId=volume.id,
        modificationState=change.state(now),
        originalSize=str(change.before[0]),
        targetSize=str(change.after[0]),
        originalVolumeType=change.before[1],
        targetVolumeType=change.after[1],
        progress=str(round(100 * min(max(part, 0.0), 1.0))),
        startTime="2026-01-01T00:00:00.000Z",
    )
