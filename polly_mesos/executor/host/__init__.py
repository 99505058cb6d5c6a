"""The host's side of a volume's way: find out what is on its device, format it safely, mount it, unmount it.

Nothing here remembers anything: each answer comes from the kernel and the device, so that a restarted executor knows
what the one before it did.
"""

from __future__ import annotations

from polly_mesos.executor.host.formatting import grow
from polly_mesos.executor.host.mounts import Propagation, shared_mount_of
from polly_mesos.executor.host.programs import missing_tools
from polly_mesos.executor.host.publishing import mounted, publish, unpublish

__all__ = ["Propagation", "grow", "missing_tools", "mounted", "publish", "shared_mount_of", "unpublish"]
