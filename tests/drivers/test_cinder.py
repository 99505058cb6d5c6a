"""The Cinder driver on a real Keystone and a real Cinder."""

from __future__ import annotations

import pytest

from drivers.cinder import DRIVER, GIB
from polly_mesos.testing import driver_suite
from tests.drivers.cinder_cloud import cloud, instance, losing_an_answer

pytestmark = [pytest.mark.root, pytest.mark.openstack, pytest.mark.timeout(600), pytest.mark.usefixtures("needs_cloud")]

TestConformance = driver_suite(
    DRIVER,
    lambda _: cloud().login(),
    size=GIB,
    machines=instance,
    many=100,
    lost_answers=losing_an_answer,
)
