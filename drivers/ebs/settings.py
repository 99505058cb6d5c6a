"""What polly.yml says about a service of this driver, and about its profiles."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from drivers.declaration import DriverSettings
from drivers.ebs.volume_types import GIB, check_shape, type_named
from polly_mesos.errors import ConfigurationError, FieldError
from polly_mesos.model import Profile


@dataclass(frozen=True, slots=True)
class EbsOptions:
    """What a profile can say under ``options``.

    :param throughput: MiB/s, for gp3
    :param kms_key: id, alias or ARN of the key that encrypts, instead of the service's
    :param multi_attach: make volumes that several instances can have at once (io1, io2)
    """

    throughput: int | None = None
    kms_key: str = ""
    multi_attach: bool = False


@dataclass(frozen=True, slots=True)
class EbsSettings(DriverSettings):
    """One region of one account.

    :param region: as ``eu-west-1``; empty for what the SDK finds in its environment and files
    :param zone: where volumes are made whose profile names no zone
    :param access_key: with ``secret_key``; both empty for the SDK's own chain of credentials
    :param session_token: of temporary credentials
    :param credentials_profile: a profile of the SDK's configuration files
    :param endpoint: URL of EC2's API, empty for Amazon's own
    :param quotas_endpoint: URL of the Service Quotas API, empty for Amazon's own
    :param kms_key: what encrypts the volumes of profiles with ``encryption: true``; empty for the account's default
    :param large_device_range: use device names beyond /dev/sdp on Xen instances too
    :param requests_per_second: what all calls together may take of the account's request limits
    :param status_timeout: seconds to wait for one change of state
    :param status_first_delay: seconds before a state is asked for again; the pauses grow from there
    :param call_timeout: seconds to wait for one answer
    :param consistency_timeout: seconds after which EC2 shows in its lists what was made
    :param metadata_endpoint: where hosts ask for their instance's metadata
    :param host_root: where a host's /sys and /dev are
    :param reserved_attachments: places for disks of an instance that are not for Polly; None to find out
    """

    region: str = ""
    zone: str = ""
    access_key: str = field(default="", repr=False, metadata={"secret": True})
    secret_key: str = field(default="", repr=False, metadata={"secret": True})
    session_token: str = field(default="", repr=False, metadata={"secret": True})
    credentials_profile: str = ""
    endpoint: str = ""
    quotas_endpoint: str = ""
    kms_key: str = ""
    large_device_range: bool = False
    requests_per_second: float = 20.0
    status_timeout: float = field(default=120.0, metadata={"unit": "seconds"})
    status_first_delay: float = field(default=0.2, metadata={"unit": "seconds"})
    call_timeout: float = field(default=30.0, metadata={"unit": "seconds"})
    consistency_timeout: float = field(default=60.0, metadata={"unit": "seconds"})
    metadata_endpoint: str = "http://169.254.169.254"
    host_root: str = "/"
    reserved_attachments: int | None = None

    def __post_init__(self) -> None:
        if bool(self.access_key) != bool(self.secret_key):
            missing = "secret_key" if self.access_key else "access_key"
            raise ConfigurationError(f"{missing} is missing", remedy="give both keys, or neither", field=missing)
        if self.region and self.zone and not self.zone.startswith(self.region):
            raise ConfigurationError(
                f"zone {self.zone!r} is not in region {self.region!r}", field="zone", value=self.zone
            )
        if self.requests_per_second <= 0:
            raise ValueError("requests_per_second must be more than 0")
        for name in ("status_timeout", "status_first_delay", "call_timeout", "consistency_timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")

    def zone_of(self, profile: Profile) -> str:
        return profile.zone or self.zone

    def check_profile(self, profile: Profile) -> None:
        kind = type_named(profile.platform_type)
        zone = self.zone_of(profile)
        if not zone:
            raise ConfigurationError(
                "EBS makes each volume in one zone, and none is named",
                remedy="write zone in the profile or in the service",
                field="zone",
                value="",
            )
        if self.region and not zone.startswith(self.region):
            raise ConfigurationError(f"zone {zone!r} is not in region {self.region!r}", field="zone", value=zone)
        smallest = max(profile.minimum_size, kind.smallest * GIB)
        if profile.minimum_size < kind.smallest * GIB and kind.smallest > 1:
            raise ConfigurationError(
                f"{kind.name} has no volumes below {kind.smallest} GiB",
                remedy=f"write minimum_size: {kind.smallest}GiB",
                field="minimum_size",
                value=profile.minimum_size,
            )
        if profile.maximum_size is not None and profile.maximum_size > kind.largest * GIB:
            raise ConfigurationError(
                f"{kind.name} has no volumes above {kind.largest} GiB", field="maximum_size", value=profile.maximum_size
            )
        options = EbsOptions(**profile.options)
        if (options.kms_key or self.kms_key) and options.kms_key and not profile.encryption:
            raise ConfigurationError(
                "a key is named, and the profile does not encrypt",
                remedy="write encryption: true",
                field="options.kms_key",
                value=options.kms_key,
            )
        try:
            size = -(-smallest // GIB)
            check_shape(kind, size, profile.iops, options.throughput, multi_attach=options.multi_attach)
        except FieldError as error:
            name = "minimum_size" if error.field == "size" else error.field
            raise ConfigurationError(error.message, remedy=error.remedy, field=name, value=error.value) from error
        for key in profile.tags:
            if re.match("(?i)aws:|polly:", key) or not 0 < len(key) <= 128 or len(profile.tags[key]) > 256:
                raise ConfigurationError(
                    f"tag {key!r} is not one that EC2 takes from us",
                    remedy="keys have 1 to 128 letters and do not begin with aws: or polly:, values at most 256",
                    field="tags",
                    value=key,
                )
