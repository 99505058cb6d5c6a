"""A strict counterpart of Compute Engine's disks, for the tests of the driver ``gce``; see :class:`FakeCompute`.

Needs google-api-python-client, whose discovery documents judge every request and every answer.
"""

from __future__ import annotations

from polly_mesos.testing.gce.faults import Kind
from polly_mesos.testing.gce.server import FakeCompute

__all__ = ["FakeCompute", "Kind"]
