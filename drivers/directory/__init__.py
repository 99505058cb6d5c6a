"""Volumes as plain directories: any user, no device, no mount. The size of a volume is NOT enforced.

A task can write more than its volume's size, until the file system below is full. Every host that uses the service must
see the directory at the same path; on one machine that is so by itself.
"""

from __future__ import annotations

from drivers.declaration import Driver
from polly_mesos.model import Filesystem

DRIVER = Driver(
    name="directory",
    controller="drivers.directory.controller:DirectoryController",
    host="drivers.directory.host:DirectoryHost",
    settings="drivers.directory.settings:DirectorySettings",
    host_settings=("directory", "zone"),
    filesystems=(Filesystem.NONE,),
)
