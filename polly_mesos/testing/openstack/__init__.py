"""A real OpenStack block storage service on this machine, for tests: Keystone and Cinder as they are released.

Beside them stands what cannot run here: a strict stand-in for Nova that drives Cinder's attachments as Nova does and
plugs the volumes into made-up hosts, its metadata service, and Rackspace's identity service. Everything listens on
127.0.0.1 and keeps its files in one temporary directory. Needs root.
"""

from __future__ import annotations

from polly_mesos.testing.openstack.cloud import OpenStack

__all__ = ["OpenStack"]
