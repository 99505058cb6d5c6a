"""Volumes of OpenStack Cinder, on Nova's instances or on hosts of their own; Rackspace among the clouds."""

from __future__ import annotations

from drivers.declaration import Driver

GIB = 1024**3
"""Cinder's unit of size."""

_ASKED_AGAIN = "Polly looks until the volume is made or the platform says that it cannot be"

DRIVER = Driver(
    name="cinder",
    controller="drivers.cinder.controller:CinderController",
    host="drivers.cinder.host:CinderHost",
    settings="drivers.cinder.settings:CinderSettings",
    host_settings=(
        "attach_by",
        "metadata_endpoint",
        "host_root",
        "config_drive",
        "os_brick_python",
        "host_directory",
    ),
    options="drivers.cinder.settings:CinderOptions",
    granularity=GIB,
    minimum_size=GIB,
    old_names=("openstack", "rackspace"),
    old_settings={
        "authURL": "auth_url",
        "userID": "user_id",
        "userName": "user_name",
        "tokenID": "token",
        "tenantID": "project_id",
        "tenantName": "project_name",
        "domainID": "domain_id",
        "domainName": "domain_name",
        "regionName": "region_name",
        "availabilityZoneName": "availability_zone",
        "trustID": "trust_id",
        "attachTimeout": "attach_timeout",
        "deleteTimeout": "delete_timeout",
        "CACert": "ca_cert",
    },
    dropped_settings={"createTimeout": _ASKED_AGAIN, "snapshotTimeout": _ASKED_AGAIN},
)
"""What polly.yml says about a service of this driver."""
