"""CreateSnapshot, DescribeSnapshots and DeleteSnapshot, strictly. CreateSnapshot knows no ClientToken."""

from __future__ import annotations

from xml.etree import ElementTree

from polly_mesos.testing.ec2.answers import Element, Parameters, Refusal, page, set_text, text_of
from polly_mesos.testing.ec2.rules import check_id, check_tags
from polly_mesos.testing.ec2.state import Cloud, Snapshot
from polly_mesos.testing.ec2.volumes import status_of

_FILTERS = ("snapshot-id", "volume-id", "owner-id", "status", "description")


def create(cloud: Cloud, parameters: Parameters) -> Element:
    """CreateSnapshot: what is on the volume now, ready a while later."""
    check_id("volume", parameters.required("VolumeId"))
    volume = cloud.volume(parameters["VolumeId"])
    check_tags(parameters.tags("snapshot"))
    if (status := status_of(cloud, volume)) not in ("available", "in-use"):
        raise Refusal("IncorrectState", f"The volume '{volume.id}' is '{status}'")
    root = cloud.wire.ask("CreateSnapshot", parameters.without("MaxResults"))
    now = cloud.now()
    snapshot = Snapshot(
        text_of(root, "snapshotId"),
        cloud.next_number(),
        volume.id,
        volume.size,
        now + cloud.delays.snapshot,
        now + cloud.delays.visible,
        cloud.stamp(),
    )
    cloud.snapshots[snapshot.id] = snapshot
    if (key := cloud.key_of.get(volume.id)) is not None:
        cloud.key_of[snapshot.id] = key
        snapshot.failed = key.state != "Enabled"
    cloud.disks.copy(volume.id, snapshot.id)
    set_text(root, "status", "pending")
    set_text(root, "startTime", snapshot.started)
    return root


def describe(cloud: Cloud, parameters: Parameters) -> Element:
    """DescribeSnapshots of those that were made here; the public ones that moto knows are left out."""
    ids = parameters.several("SnapshotId")
    parameters.filters(_FILTERS)
    for snapshot_id in ids:
        check_id("snapshot", snapshot_id)
        known = cloud.snapshots.get(snapshot_id)
        if known is None or cloud.now() < known.visible:
            raise Refusal("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")
    root = cloud.wire.ask("DescribeSnapshots", parameters.without("MaxResults", "NextToken", "Owner"))
    items = root.find("snapshotSet")
    assert items is not None
    found = [item for item in items if _is_visible(cloud, text_of(item, "snapshotId"))]
    shown, token = page(
        parameters, found, lambda item: cloud.snapshots[text_of(item, "snapshotId")].number, with_ids=bool(ids)
    )
    for item in list(items):
        items.remove(item)
    for item in shown:
        snapshot = cloud.snapshots[text_of(item, "snapshotId")]
        ended = "error" if snapshot.failed else "completed"
        set_text(item, "status", ended if cloud.now() >= snapshot.ready else "pending")
        if snapshot.failed:
            set_text(item, "statusMessage", "Given key ID is not accessible")
        set_text(item, "volumeSize", str(snapshot.size))
        set_text(item, "startTime", snapshot.started)
        items.append(item)
    if token:
        set_text(root, "nextToken", token)
    return root


def _is_visible(cloud: Cloud, snapshot_id: str) -> bool:
    known = cloud.snapshots.get(snapshot_id)
    return known is not None and cloud.now() >= known.visible


def delete(cloud: Cloud, parameters: Parameters) -> Element:
    """DeleteSnapshot."""
    check_id("snapshot", parameters.required("SnapshotId"))
    snapshot = cloud.snapshots.get(parameters["SnapshotId"])
    if snapshot is None:
        raise Refusal("InvalidSnapshot.NotFound", f"The snapshot '{parameters['SnapshotId']}' does not exist.")
    cloud.wire.ask("DeleteSnapshot", {"SnapshotId": snapshot.id})
    cloud.disks.delete(snapshot.id)
    del cloud.snapshots[snapshot.id]
    root = ElementTree.Element("DeleteSnapshotResponse")
    set_text(root, "return", "true")
    return root
