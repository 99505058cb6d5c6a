"""The directory driver, as any user."""

from __future__ import annotations

from drivers.directory import DRIVER
from polly_mesos.model import MB
from polly_mesos.testing import driver_suite

TestConformance = driver_suite(DRIVER, lambda tmp_path: {"directory": str(tmp_path / "platform"), "capacity": 512 * MB})
