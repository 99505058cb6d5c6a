"""A volume is a folder on a share that every host mounts at the same path. Sizes are not enforced."""

from __future__ import annotations

from drivers.declaration import Driver
from polly_mesos.model import Filesystem

DRIVER = Driver(
    name="folder",
    controller="polly_driver_folder.controller:FolderController",
    host="polly_driver_folder.host:FolderHost",
    settings="polly_driver_folder.settings:FolderSettings",
    host_settings=("directory",),
    filesystems=(Filesystem.NONE,),
)
