"""Whether a volume was ever formatted: what keeps mkfs away from data."""

from __future__ import annotations

import enum

from polly_mesos.errors import WrongState
from polly_mesos.ledger.transitions.table import Table, becomes, refused, stays
from polly_mesos.model import FormatState


class FormatEvent(enum.StrEnum):
    """What can happen to a volume's format."""

    FORMATTING = "formatting"
    FORMATTED = "formatted"
    PUBLICATION_ADOPTED = "publication adopted"


_MEANINGS = {
    FormatEvent.FORMATTING: "The host is about to format it (`formatting`)",
    FormatEvent.FORMATTED: "The host has formatted it (`formatted`)",
    FormatEvent.PUBLICATION_ADOPTED: "A host has it mounted, and the ledger did not know (`adopt_publication`)",
}

FORMAT: Table[FormatState, FormatEvent] = Table(
    "format",
    FormatState,
    _MEANINGS,
    {
        FormatEvent.FORMATTING: [
            becomes(
                FormatState.FORMATTING, "the ledger knows of it before the first byte is written", FormatState.NEVER
            ),
            stays("a first format that was interrupted is made again", FormatState.FORMATTING),
            refused(
                WrongState,
                "it is not formatted again, for there may be data on it",
                "look at what is on it; nothing was changed",
                FormatState.FORMATTED,
            ),
        ],
        FormatEvent.FORMATTED: [
            becomes(
                FormatState.FORMATTED,
                "the host found the volume's own file system on it, which a restored ledger had forgotten",
                FormatState.NEVER,
            ),
            becomes(FormatState.FORMATTED, "from now on nothing ever formats it", FormatState.FORMATTING),
            stays("it was said before", FormatState.FORMATTED),
        ],
        FormatEvent.PUBLICATION_ADOPTED: [
            becomes(
                FormatState.FORMATTED,
                "what is mounted was formatted, whatever a restored ledger remembers",
                FormatState.NEVER,
                FormatState.FORMATTING,
            ),
            stays("it is known already", FormatState.FORMATTED),
        ],
    },
    always=True,
)
