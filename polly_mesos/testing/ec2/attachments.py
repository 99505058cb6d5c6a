"""AttachVolume, DetachVolume, DescribeInstances and DescribeAvailabilityZones, strictly."""

from __future__ import annotations

from polly_mesos.testing.ec2 import permissions
from polly_mesos.testing.ec2.answers import Element, Parameters, Refusal, add, page, set_text, text_of
from polly_mesos.testing.ec2.policy import Policy
from polly_mesos.testing.ec2.rules import check_device, check_id, slot
from polly_mesos.testing.ec2.state import Attachment, Cloud, Instance, Volume
from polly_mesos.testing.ec2.volumes import status_of

_INSTANCE_FILTERS = ("instance-id", "availability-zone", "instance-state-name")


def attach(cloud: Cloud, parameters: Parameters) -> Element:
    """AttachVolume: one place, in one zone, on a host that runs or is stopped."""
    device = parameters.required("Device")
    check_id("volume", parameters.required("VolumeId"))
    check_id("instance", parameters.required("InstanceId"))
    volume, instance = cloud.volume(parameters["VolumeId"]), cloud.instance(parameters["InstanceId"])
    check_device(device)
    _check_attach(cloud, parameters.policy, volume, instance, device)
    if not volume.attachments:
        wanted = {"VolumeId": volume.id, "InstanceId": instance.id, "Device": device}
        cloud.wire.ask("AttachVolume", wanted)
    volume.attachments[instance.id] = Attachment(device, "attaching", cloud.now() + cloud.delays.attach)
    root = _answer("AttachVolumeResponse", volume, instance.id, device, "attaching")
    cloud.settle()
    return root


def _check_attach(cloud: Cloud, policy: Policy | None, volume: Volume, instance: Instance, device: str) -> None:
    if instance.state not in ("running", "stopped"):
        raise Refusal("IncorrectState", f"Instance '{instance.id}' is not 'running'.")
    if instance.id in volume.attachments or (volume.attachments and not volume.multi_attach):
        raise Refusal("VolumeInUse", f"{volume.id} is already attached to an instance")
    if (status := status_of(cloud, volume)) not in ("available", "in-use"):
        raise Refusal("IncorrectState", f"{volume.id} is not 'available': it is '{status}'.")
    if volume.zone != instance.zone:
        message = f"The volume '{volume.id}' is not in the same availability zone as instance '{instance.id}'"
        raise Refusal("InvalidVolume.ZoneMismatch", message)
    key = cloud.key_of.get(volume.id)
    if key is not None and not permissions.can_use(cloud, policy, key, permissions.GRANT):
        message = f"Volume {volume.id} cannot be attached. The encrypted volume was unable to access the KMS key."
        raise Refusal("CustomerKeyHasBeenRevoked", message)
    if slot(device) in cloud.slots_of(instance.id):
        message = f"Invalid value '{device}' for unixDevice. Attachment point {device} is already in use"
        raise Refusal("InvalidParameterValue", message)
    if len(list(cloud.held_by(instance.id))) >= instance.places:
        message = f"Volume {volume.id} cannot be attached: instance {instance.id} has all that it can have"
        raise Refusal("AttachmentLimitExceeded", message)


def detach(cloud: Cloud, parameters: Parameters) -> Element:
    """DetachVolume, also without the instance's id; a host that uses the volume keeps it, unless by force."""
    check_id("volume", parameters.required("VolumeId"))
    volume, named = cloud.volume(parameters["VolumeId"]), parameters.get("InstanceId", "")
    if named:
        check_id("instance", named)
        cloud.instance(named)
    if not volume.attachments:
        raise Refusal("IncorrectState", f"Volume '{volume.id}' is in the 'available' state.")
    if not named and len(volume.attachments) > 1:
        raise Refusal("MissingParameter", "The request must contain the parameter instanceId")
    holder = named or next(iter(volume.attachments))
    if holder not in volume.attachments:
        raise Refusal("InvalidAttachment.NotFound", f"The volume {volume.id} is not attached to instance {holder}")
    attachment = volume.attachments[holder]
    if attachment.state not in ("detaching", "busy"):
        attachment.state, attachment.due = "detaching", cloud.now() + cloud.delays.detach
    root = _answer("DetachVolumeResponse", volume, holder, attachment.device, attachment.state)
    if parameters.flag("Force"):
        cloud.let_go(volume, holder)
    cloud.settle()
    return root


def _answer(name: str, volume: Volume, instance: str, device: str, state: str) -> Element:
    root = Element(name)
    texts = {"volumeId": volume.id, "instanceId": instance, "device": device, "status": state}
    for key, text in {**texts, "attachTime": "2026-01-01T00:00:00.000Z"}.items():
        set_text(root, key, text)
    return root


def describe_instances(cloud: Cloud, parameters: Parameters) -> Element:
    """DescribeInstances, with the disks that moto does not keep apart."""
    ids = parameters.several("InstanceId")
    parameters.filters(_INSTANCE_FILTERS)
    for instance_id in ids:
        check_id("instance", instance_id)
        cloud.instance(instance_id)
    root = cloud.wire.ask("DescribeInstances", parameters.without("MaxResults", "NextToken"))
    reservations = root.find("reservationSet")
    assert reservations is not None
    numbers = {instance_id: number for number, instance_id in enumerate(cloud.instances)}
    shown, token = page(
        parameters,
        [item for item in reservations if text_of(item, "instancesSet/item/instanceId") in numbers],
        lambda item: numbers[text_of(item, "instancesSet/item/instanceId")],
        with_ids=bool(ids),
    )
    for reservation in list(reservations):
        if reservation not in shown:
            reservations.remove(reservation)
    for item in root.findall("reservationSet/item/instancesSet/item"):
        _complete(cloud, item)
    if token:
        set_text(root, "nextToken", token)
    return root


def _complete(cloud: Cloud, item: Element) -> None:
    disks = item.find("blockDeviceMapping")
    if disks is None:
        disks = add(item, "blockDeviceMapping")
    root_device = text_of(item, "rootDeviceName")
    for disk in list(disks):
        if text_of(disk, "deviceName") != root_device:
            disks.remove(disk)
    for volume, attachment in cloud.held_by(text_of(item, "instanceId")):
        disk = add(disks, "item", deviceName=attachment.device)
        add(disk, "ebs", volumeId=volume.id, status=attachment.state, attachTime="2026-01-01T00:00:00.000Z")


def describe_instance_types(cloud: Cloud, parameters: Parameters) -> Element:
    """DescribeInstanceTypes by a filter: moto has EC2's own answers."""
    if parameters.several("InstanceType"):
        raise Refusal("InvalidParameterCombination", "this counterpart takes the filter instance-type alone")
    kinds = parameters.filters(("instance-type",)).get("instance-type", [])
    found = [
        (number, told) for number, kind in enumerate(kinds) if (told := cloud.wire.instance_type(kind)) is not None
    ]
    shown, token = page(parameters, found, lambda each: each[0], with_ids=False)
    root = Element("DescribeInstanceTypesResponse")
    items = add(root, "instanceTypeSet")
    for _, told in shown:
        limit = told.find("ebsInfo/maximumEbsAttachments")
        if cloud.limit is not None and limit is not None:
            limit.text = str(cloud.limit)
        items.append(told)
    if token:
        set_text(root, "nextToken", token)
    return root


def describe_zones(cloud: Cloud, parameters: Parameters) -> Element:
    """DescribeAvailabilityZones."""
    for zone in parameters.several("ZoneName"):
        if zone not in cloud.zones:
            raise Refusal("InvalidParameterValue", f"Invalid availability zone: [{zone}]")
    root = Element("DescribeAvailabilityZonesResponse")
    items = add(root, "availabilityZoneInfo")
    for zone in parameters.several("ZoneName") or cloud.zones:
        add(items, "item", zoneName=zone, zoneState="available", regionName=cloud.region)
    return root
