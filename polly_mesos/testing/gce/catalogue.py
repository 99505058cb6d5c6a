"""What the platform has to offer: zones, kinds of disks with their bounds, machine types with their limits.

The figures are those of https://docs.cloud.google.com/compute/docs/disks and .../hyperdisks as of November 2026, for
the types that the tests use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

REGIONS: Mapping[str, tuple[str, ...]] = {
    "europe-west3": ("europe-west3-a", "europe-west3-b", "europe-west3-c"),
    "us-central1": ("us-central1-a", "us-central1-b", "us-central1-f"),
}
ZONES = {zone: region for region, zones in REGIONS.items() for zone in zones}


@dataclass(frozen=True, slots=True)
class DiskType:
    """A kind of disk.

    :param smallest: GiB of a zonal disk
    :param largest: GiB
    :param metric: the quota that its sizes count in
    :param smallest_regional: GiB of a regional disk; None where there are only zonal ones
    :param only_regional: there are no zonal ones
    :param iops: bounds of what may be provisioned; None where nothing may
    :param throughput: the same in MB/s
    """

    smallest: int
    largest: int
    metric: str
    smallest_regional: int | None = None
    only_regional: bool = False
    iops: tuple[int, int] | None = None
    throughput: tuple[int, int] | None = None


DISK_TYPES: Mapping[str, DiskType] = {
    "pd-standard": DiskType(10, 65536, "DISKS_TOTAL_GB", smallest_regional=200),
    "pd-balanced": DiskType(10, 65536, "SSD_TOTAL_GB", smallest_regional=10),
    "pd-ssd": DiskType(10, 65536, "SSD_TOTAL_GB", smallest_regional=10),
    "pd-extreme": DiskType(500, 65536, "SSD_TOTAL_GB", iops=(10_000, 120_000)),
    "hyperdisk-balanced": DiskType(4, 65536, "HDB_TOTAL_GB", iops=(2_000, 160_000), throughput=(140, 2_400)),
    "hyperdisk-extreme": DiskType(64, 65536, "SSD_TOTAL_GB", iops=(2_000, 350_000)),
    "hyperdisk-throughput": DiskType(2048, 32768, "DISKS_TOTAL_GB", throughput=(20, 600)),
    "hyperdisk-balanced-high-availability": DiskType(
        4,
        65536,
        "HDB_TOTAL_GB",
        smallest_regional=4,
        only_regional=True,
        iops=(2_000, 100_000),
        throughput=(140, 1_200),
    ),
}


@dataclass(frozen=True, slots=True)
class MachineType:
    """A kind of virtual machine.

    :param disks: that may be attached, the boot disk among them and local SSDs not
    :param hyperdisks: how many of those may be hyperdisks of one type
    :param persistent: whether those may be persistent disks (``pd-*``)
    :param nvme: whether the guest sees its disks as NVMe rather than SCSI
    """

    disks: int
    hyperdisks: int = 0
    persistent: bool = True
    nvme: bool = False


def _fourth(disks: int) -> MachineType:
    """A type of the fourth generation, which boots from a hyperdisk, too."""
    return MachineType(disks, hyperdisks=disks, persistent=False, nvme=True)


MACHINE_TYPES: Mapping[str, MachineType] = {
    "e2-micro": MachineType(16),
    "e2-standard-4": MachineType(128),
    "n2-standard-4": MachineType(128, hyperdisks=64),
    "c3-standard-4": MachineType(128, hyperdisks=16, nvme=True),
    "c4-standard-2": _fourth(8),
    "c4-standard-4": _fourth(16),
    "c4-standard-8": _fourth(32),
    "c4a-standard-48": _fourth(32),
    "c4d-standard-2": _fourth(4),
    "n4-standard-16": _fourth(32),
    "n4d-standard-8": _fourth(16),
}
"""Limits as https://docs.cloud.google.com/compute/docs/general-purpose-machines has them."""


@dataclass(slots=True)
class Quotas:
    """Limits by metric, in GiB or pieces.

    :param region: of each region
    :param project: of all regions together
    """

    region: dict[str, float] = field(
        default_factory=lambda: {"DISKS_TOTAL_GB": 4096.0, "SSD_TOTAL_GB": 4096.0, "HDB_TOTAL_GB": 4096.0}
    )
    project: dict[str, float] = field(default_factory=lambda: {"SNAPSHOTS": 1000.0})
