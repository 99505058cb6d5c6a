"""What every event does in every state, as data: the ledger looks its next state up here, and is refused by it.

``python -m polly_mesos.ledger.transitions`` renders the tables. Beside a table stand only conditions on other things
than the state: who asks, under which generation, whether there is space.
"""

from __future__ import annotations

from polly_mesos.ledger.transitions.format import FORMAT, FormatEvent
from polly_mesos.ledger.transitions.operation import OPERATION, OperationEvent, Stage
from polly_mesos.ledger.transitions.publication import PUBLICATION, PublicationEvent
from polly_mesos.ledger.transitions.table import Cell, Table
from polly_mesos.ledger.transitions.volume import VOLUME, VolumeEvent

__all__ = [
    "FORMAT",
    "OPERATION",
    "PUBLICATION",
    "VOLUME",
    "Cell",
    "FormatEvent",
    "OperationEvent",
    "PublicationEvent",
    "Stage",
    "Table",
    "VolumeEvent",
]
