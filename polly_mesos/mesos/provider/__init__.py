"""A client of the Mesos agent's resource provider API that does nothing by which the agent or the master aborts.

That API checks almost nothing: several legal-looking sequences of calls abort the agent, or even the leading master.
The rules that avoid them are in :mod:`polly_mesos.mesos.provider.machine`, which decides everything and does nothing;
:mod:`~polly_mesos.mesos.provider.client` does what it decides.

What aborts a Mesos agent or master, and what rules it out in :mod:`~.machine` (sources in Mesos 1.11):

- A second stream with the id of one that lives, or whose end the agent has not digested yet: see :mod:`~.connection`.
- A status before the first UPDATE_STATE of a stream (slave.cpp, apply): all calls wait for READY.
- Operations in UPDATE_STATE that the master did not send, or of another provider (master.cpp, slave.cpp): only
  terminal ones that came to us by an event or from the ledger, and whose resources are ours, are listed.
- Totals without resources that an operation takes (slave.cpp, apply): totals are replaced only while no operation is
  unanswered and none came for a while. A CREATE_DISK or DESTROY_DISK that was sent before the agent had the present
  totals is dropped, as it would be applied to them only now.
- Operations, and acknowledgements of statuses, that reach the agent just after the end of the stream (slave.cpp,
  addOperation and removeOperation), and offers that are accepted after it (master.cpp): see :mod:`~.leaving`. Where the
  stream breaks or the process is killed nothing rules this out.
- UUIDs that are not 16 bytes, conversions that change the size: see :mod:`~.messages` and :mod:`~.journal`.
"""

from __future__ import annotations

from polly_mesos.mesos.provider.client import ResourceProvider
from polly_mesos.mesos.provider.contract import ProviderHandler, ProviderIdentity, ProviderState

__all__ = ["ProviderHandler", "ProviderIdentity", "ProviderState", "ResourceProvider"]
