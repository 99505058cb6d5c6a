"""A client of the Mesos agent's resource provider API that cannot take the agent or the master down.

That API checks almost nothing: several legal-looking sequences of calls abort the agent, or even the leading master.
The rules that avoid them are in :mod:`polly_mesos.mesos.provider.machine`, which decides everything and does nothing;
:mod:`~polly_mesos.mesos.provider.client` does what it decides.
"""

from __future__ import annotations

from polly_mesos.mesos.provider.client import ResourceProvider
from polly_mesos.mesos.provider.contract import ProviderHandler, ProviderIdentity, ProviderState

__all__ = ["ProviderHandler", "ProviderIdentity", "ProviderState", "ResourceProvider"]
