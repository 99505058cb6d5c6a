"""What polly.yml says about a service of this driver, and about its profiles."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from drivers.declaration import DriverSettings
from polly_mesos.errors import ConfigurationError
from polly_mesos.model import Profile

GIB = 1 << 30
LARGEST = 65536 * GIB
SMALLEST = {"pd-standard": 10, "pd-balanced": 10, "pd-ssd": 10, "pd-extreme": 500, "hyperdisk-balanced": 4}
SMALLEST |= {"hyperdisk-extreme": 64, "hyperdisk-throughput": 2048, "hyperdisk-balanced-high-availability": 4}
"""GiB of the smallest disk (https://docs.cloud.google.com/compute/docs/disks)."""
SMALLEST_REGIONAL = {"pd-standard": 200, "pd-balanced": 10, "pd-ssd": 10, "hyperdisk-balanced-high-availability": 4}
"""GiB of the smallest disk with replicas, of the types that have them
(https://docs.cloud.google.com/compute/docs/disks/about-regional-persistent-disk)."""
ONLY_REGIONAL = {"hyperdisk-balanced-high-availability"}
TAKES_IOPS = {"pd-extreme", "hyperdisk-balanced", "hyperdisk-extreme", "hyperdisk-balanced-high-availability"}
TAKES_THROUGHPUT = {"hyperdisk-balanced", "hyperdisk-throughput", "hyperdisk-balanced-high-availability"}
LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")

_ZONE = re.compile(r"[a-z]+-[a-z]+[0-9]+-[a-z]")


@dataclass(frozen=True, slots=True)
class GceOptions:
    """What a profile's ``options`` may have.

    :param throughput: MB/s of a Hyperdisk; the platform's default where None
    :param replica_zones: two zones of one region: the volumes are regional disks
    :param kms_key: ``projects/P/locations/L/keyRings/R/cryptoKeys/K``; the service's where empty
    """

    throughput: int | None = None
    replica_zones: tuple[str, ...] = ()
    kms_key: str = ""


@dataclass(frozen=True, slots=True)
class GceSettings(DriverSettings):
    """One project.

    :param project: its id; that of the credentials where empty
    :param zone: of volumes whose profile has none
    :param key_file: of a service account; Application Default Credentials where empty
    :param default_type: of volumes whose profile has none
    :param kms_key: with which disks of profiles with ``encryption: true`` are encrypted; Google's own where empty
    :param capacity: bytes that volumes may take in all; None for what the quotas allow
    :param operation_timeout: seconds that attaching, detaching, growing and deleting may take
    :param request_timeout: seconds that one request may take
    :param requests_per_second: at most
    :param endpoint: of the Compute Engine API; Google's own where empty
    :param resource_manager_endpoint: of the API that tells what the credentials may do
    :param attach_limit: how many volumes an instance can have; by its machine type and its other disks where None
    :param metadata_endpoint: of the agents' metadata server
    :param host_root: where the agents' /sys and /dev are
    """

    project: str = ""
    zone: str = ""
    key_file: str = ""
    default_type: str = "pd-balanced"
    kms_key: str = ""
    capacity: int | None = None
    operation_timeout: float = field(default=120.0, metadata={"unit": "seconds"})
    request_timeout: float = field(default=30.0, metadata={"unit": "seconds"})
    requests_per_second: float = 20.0
    endpoint: str = ""
    resource_manager_endpoint: str = "https://cloudresourcemanager.googleapis.com"
    attach_limit: int | None = None
    metadata_endpoint: str = "http://metadata.google.internal"
    host_root: str = "/"

    def __post_init__(self) -> None:
        if self.zone and not _ZONE.fullmatch(self.zone):
            raise ValueError(f"zone must be a zone, as europe-west3-a, and {self.zone!r} is not")
        for name in ("operation_timeout", "request_timeout", "requests_per_second"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0, and {getattr(self, name)} is not")
        if self.attach_limit is not None and self.attach_limit <= 0:
            raise ValueError(f"attach_limit must be more than 0, and {self.attach_limit} is not")
        if self.capacity is not None and self.capacity <= 0:
            raise ValueError(f"capacity must be more than 0 bytes, and {self.capacity} is not")

    def zone_of(self, profile: Profile) -> str:
        """A regional disk counts as the first of its zones where none is named; the service's own is for others."""
        return profile.zone or next(iter(profile.options.get("replica_zones", ())), "") or self.zone

    def reach_of(self, profile: Profile) -> tuple[str, ...]:
        """Instances of both its zones can have a regional disk."""
        return tuple(profile.options.get("replica_zones", ())) or DriverSettings.reach_of(self, profile)

    def check_profile(self, profile: Profile) -> None:
        """Refuse what no disk of the type can be."""
        kind = profile.platform_type or self.default_type
        replicas = tuple(profile.options.get("replica_zones", ()))
        if kind not in SMALLEST:
            raise _refused("type", kind, "is not a type of disk", f"write one of {', '.join(SMALLEST)}")
        if not self.zone_of(profile):
            raise _refused("zone", "", "is missing", "write a zone here or in the service")
        if profile.iops is not None and kind not in TAKES_IOPS:
            raise _refused(
                "iops", profile.iops, f"cannot be provisioned for {kind}", "leave it out, or change the type"
            )
        if profile.options.get("throughput") is not None and kind not in TAKES_THROUGHPUT:
            value = profile.options["throughput"]
            raise _refused("options.throughput", value, f"cannot be provisioned for {kind}", "leave it out")
        if replicas or kind in ONLY_REGIONAL:
            _check_replicas(kind, profile.zone, replicas)
        smallest = SMALLEST_REGIONAL.get(kind, SMALLEST[kind]) if replicas else SMALLEST[kind]
        if profile.minimum_size < smallest * GIB:
            what = f"is too small for {'a regional ' if replicas else ''}{kind}"
            remedy = f"write minimum_size: {smallest}GiB or more"
            raise _refused("minimum_size", profile.minimum_size, what, remedy)
        if profile.options.get("kms_key") and not profile.encryption:
            raise _refused("options.kms_key", profile.options["kms_key"], "needs encryption", "write encryption: true")
        for key, value in profile.tags.items():
            # The driver could write others in labels' letters, but then nobody would find them as they were written.
            if not LABEL_KEY.fullmatch(key) or not LABEL_VALUE.fullmatch(value) or key.startswith("polly_"):
                remedy = "use small letters, digits, _ and -, at most 63; keys begin with a letter and not with polly_"
                raise _refused("tags", f"{key}: {value}", "is not a label that Google takes", remedy)


def _check_replicas(kind: str, zone: str, replicas: tuple[str, ...]) -> None:
    """Refuse replicas that a type has not, or not there."""
    name, remedy = "options.replica_zones", "write two zones, as [europe-west3-a, europe-west3-b]"
    if not replicas:
        raise _refused(name, "", f"are missing: {kind} is regional", remedy)
    if kind not in SMALLEST_REGIONAL:
        what = f"cannot be had of {kind}"
        raise _refused(name, replicas, what, f"leave them out, or write one of {', '.join(SMALLEST_REGIONAL)} as type")
    regions = {one.rpartition("-")[0] for one in replicas}
    if len(replicas) != 2 or len(set(replicas)) != 2 or len(regions) != 1 or not all(map(_ZONE.fullmatch, replicas)):
        raise _refused(name, replicas, "are not two zones of one region", remedy)
    if zone and zone not in replicas:
        raise _refused("zone", zone, "is none of the disk's replica_zones", f"write one of {', '.join(replicas)}")


def _refused(name: str, value: object, what: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what}; {value!r} is written" if value else what, remedy=remedy, field=name, value=value
    )
