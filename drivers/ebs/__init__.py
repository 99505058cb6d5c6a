"""Amazon EBS: volumes of gp2, gp3, io1, io2, st1 and sc1 on EC2 instances, Nitro and Xen.

See ``docs/drivers/ebs.md`` for settings, limits and the permissions that it needs.
"""

from __future__ import annotations

from drivers.declaration import Driver

_GIB = 1 << 30

DRIVER = Driver(
    name="ebs",
    controller="drivers.ebs.controller:EbsController",
    host="drivers.ebs.host:EbsHost",
    settings="drivers.ebs.settings:EbsSettings",
    options="drivers.ebs.settings:EbsOptions",
    host_settings=("metadata_endpoint", "host_root", "reserved_attachments"),
    granularity=_GIB,
    minimum_size=_GIB,
    old_names=("ec2", "aws"),
    old_settings={
        "accessKey": "access_key",
        "secretKey": "secret_key",
        "region": "region",
        "endpoint": "endpoint",
        "kmsKeyID": "kms_key",
        "useLargeDeviceRange": "large_device_range",
        "statusInitialDelay": "status_first_delay",
        "statusTimeout": "status_timeout",
    },
    dropped_settings={
        "maxRetries": "Polly's volume controller makes failed calls again, for as long as it takes",
        "statusMaxAttempts": "status_timeout says how long a state is waited for, however often it is asked for",
        "tag": "every volume carries the cluster's tag, and only volumes that do are seen",
        "nvmeBinPath": "the serial number of an NVMe disk is read from the kernel, without a program",
    },
)
