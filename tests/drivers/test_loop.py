"""The loop driver, on real loop devices."""

from __future__ import annotations

import pytest

from drivers.loop import DRIVER
from polly_mesos.model import MB
from polly_mesos.testing import driver_suite

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("nothing_left")]

TestConformance = driver_suite(DRIVER, lambda tmp_path: {"directory": str(tmp_path / "platform"), "capacity": 512 * MB})
