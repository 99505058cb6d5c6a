"""Google Persistent Disk and Hyperdisk, zonal and regional, through the Compute Engine API."""

from __future__ import annotations

from drivers.declaration import Driver

DRIVER = Driver(
    name="gce",
    controller="drivers.gce.controller:GceController",
    host="drivers.gce.host:GceHost",
    settings="drivers.gce.settings:GceSettings",
    options="drivers.gce.settings:GceOptions",
    host_settings=("attach_limit", "metadata_endpoint", "host_root"),
    granularity=1 << 30,
    minimum_size=4 << 30,
    old_names=("gcepd",),
    old_settings={
        "keyfile": "key_file",
        "defaultDiskType": "default_type",
        "statusTimeout": "operation_timeout",
    },
    dropped_settings={
        "tag": "Polly sees the disks of its own cluster; write tags: {libstoragetag: NAME} to label them as before",
        "statusMaxAttempts": "operations are waited for until operation_timeout, however often that takes looking",
        "statusInitialDelay": "the platform itself answers when an operation is done",
        "convertUnderscores": "disks are named after volume ids, which have no underscores",
    },
)
