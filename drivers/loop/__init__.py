"""Volumes as image files in a directory, mapped by loop devices: real block storage without an account. Needs root.

Every host that uses the service must see the directory at the same path; on one machine that is so by itself.
"""

from __future__ import annotations

from drivers.declaration import Driver

DRIVER = Driver(
    name="loop",
    controller="drivers.loop.controller:LoopController",
    host="drivers.loop.host:LoopHost",
    settings="drivers.loop.settings:LoopSettings",
    host_settings=("directory", "zone"),
)
