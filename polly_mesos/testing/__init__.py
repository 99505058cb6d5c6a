"""What is shipped for the tests of others: the conformance suite of drivers, faults to inject, stories to tell.

A driver's whole test is one call::

    from polly_mesos.testing import Machine, Machines, driver_suite
    from my_driver import DRIVER

    TestMyDriver = driver_suite(DRIVER, lambda tmp_path: {"endpoint": "...", "project": "..."})
"""

from __future__ import annotations

from polly_mesos.testing.driver_suite import Machine, Machines, driver_suite
from polly_mesos.testing.faulty import Fault, FaultyController

__all__ = ["Fault", "FaultyController", "Machine", "Machines", "driver_suite"]
