"""The life of one volume's mapping to one host."""

from __future__ import annotations

import enum

from polly_mesos.errors import StaleGeneration, VolumeInUse, WrongState
from polly_mesos.ledger.transitions.table import Rule, Table, becomes, refused, stays
from polly_mesos.model import PublicationState


class PublicationEvent(enum.StrEnum):
    """What can happen to a publication. All but the first come under a generation, and an older one is refused."""

    PUBLISH = "publish"
    ATTACHED = "attached"
    FORMATTING = "formatting"
    FORMATTED = "formatted"
    PUBLISHED = "published"
    UNPUBLISHED = "unpublished"
    DETACHED = "detached"
    FENCED = "fenced"
    ADOPTED = "publication adopted"
    ADOPTED_NEWER = "publication adopted, newer"
    MOVED = "moved or parked"
    VOLUME_ADOPTED = "adopted"
    VOLUME_DELETED = "volume deleted"
    AGENT_REPLACED = "agent replaced"
    AGENT_FORGOTTEN = "agent forgotten"


_MEANINGS = {
    PublicationEvent.PUBLISH: "A task needs the volume on this host (`publish`)",
    PublicationEvent.ATTACHED: "The platform has given the volume to the host (`attached`)",
    PublicationEvent.FORMATTING: "The host is about to format it (`formatting`)",
    PublicationEvent.FORMATTED: "The host has formatted it (`formatted`)",
    PublicationEvent.PUBLISHED: "The host has mounted it (`published`)",
    PublicationEvent.UNPUBLISHED: "The host has let go of it, or shall (`unpublished`)",
    PublicationEvent.DETACHED: "The platform has taken it from the host (`detached`)",
    PublicationEvent.FENCED: "The host cannot write to it any more, which is proven or said by an operator (`fence`)",
    PublicationEvent.ADOPTED: "A host has it under the newest generation, and the ledger did not know that"
    " (`adopt_publication`)",
    PublicationEvent.ADOPTED_NEWER: "The host has it under a newer generation than the ledger's (`adopt_publication`)",
    PublicationEvent.MOVED: "Another agent or none is to offer the volume (`move_volume`)",
    PublicationEvent.VOLUME_ADOPTED: "A CREATE gets the volume, which its owner has abandoned (`AdoptVolume`)",
    PublicationEvent.VOLUME_DELETED: "The platform has deleted the volume (`volume_deleted`)",
    PublicationEvent.AGENT_REPLACED: "The host's agent came back under another id (`replace_agent`)",
    PublicationEvent.AGENT_FORGOTTEN: "The host's dead agent is forgotten (`forget_agent`)",
}

_ATTACHING, _ATTACHED = PublicationState.ATTACHING, PublicationState.ATTACHED
_PUBLISHED, _DETACHING = PublicationState.PUBLISHED, PublicationState.DETACHING
_NONE: None = None
_WAIT = "wait until it is detached there"


def _over() -> Rule[PublicationState]:
    because = "the host has lost the volume"
    return refused(StaleGeneration, because, "unmount it and stop using it", _NONE)


def _not_on_host(because: str) -> list[Rule[PublicationState]]:
    return [
        refused(WrongState, f"it is not attached, and {because}", "wait until it is attached", _ATTACHING),
        refused(WrongState, f"it is being taken back, and {because}", "let go of it", _DETACHING),
    ]


def _in_use(because: str) -> Rule[PublicationState]:
    return refused(VolumeInUse, because, _WAIT, *PublicationState)


PUBLICATION: Table[PublicationState, PublicationEvent] = Table(
    "publication",
    PublicationState,
    _MEANINGS,
    {
        PublicationEvent.PUBLISH: [
            becomes(_ATTACHING, "no host has the volume, and this one gets a generation of its own", _NONE),
            stays("it was asked for before, and is under way", _ATTACHING, _ATTACHED),
            stays("it is there already", _PUBLISHED),
            refused(VolumeInUse, "it is being detached, and can be had again afterwards", _WAIT, _DETACHING),
        ],
        PublicationEvent.ATTACHED: [
            _over(),
            becomes(_ATTACHED, "the host can look for its device", _ATTACHING),
            stays("it was said before", _ATTACHED),
            stays("it was said before, and the host went on", _PUBLISHED),
            stays("it was wanted back while the platform attached it", _DETACHING),
        ],
        PublicationEvent.FORMATTING: [
            _over(),
            stays("the host says so before it starts", _ATTACHED),
            stays("a report that comes late does no harm", _PUBLISHED),
            *_not_on_host("only a host that has it formats it"),
        ],
        PublicationEvent.FORMATTED: [
            _over(),
            stays("the host mounts it next", _ATTACHED),
            stays("a report that comes late does no harm", _PUBLISHED),
            *_not_on_host("only a host that has it formats it"),
        ],
        PublicationEvent.PUBLISHED: [
            _over(),
            becomes(_PUBLISHED, "the task can start", _ATTACHED),
            stays("it was said before", _PUBLISHED),
            *_not_on_host("only a host that has it mounts it"),
        ],
        PublicationEvent.UNPUBLISHED: [
            stays("the platform has taken it since", _NONE),
            becomes(_DETACHING, "it is taken back before the host got it", _ATTACHING),
            becomes(_DETACHING, "the host has let go, and the platform can take it", _ATTACHED, _PUBLISHED),
            stays("it was said before", _DETACHING),
        ],
        PublicationEvent.DETACHED: [
            stays("it was said before", _NONE),
            becomes(None, "another host may have it now", _DETACHING),
            refused(
                WrongState,
                "it cannot be detached under the host's hands",
                "unpublish it first",
                _ATTACHING,
                _ATTACHED,
                _PUBLISHED,
            ),
        ],
        PublicationEvent.FENCED: [
            stays("there is nothing to take from the host", _NONE),
            becomes(_DETACHING, "the host cannot write, so the platform may take it by force", *PublicationState),
        ],
        PublicationEvent.ADOPTED: [
            becomes(_PUBLISHED, "the ledger is the one that is behind, while that agent is still to have it", _NONE),
            becomes(_PUBLISHED, "the host went on after the ledger was last written", _ATTACHING, _ATTACHED),
            stays("the ledger knows it already", _PUBLISHED),
            stays("it is being taken back, and the host is told so", _DETACHING),
        ],
        PublicationEvent.ADOPTED_NEWER: [
            becomes(_PUBLISHED, "only a ledger gives generations, so one that was lost gave this", _NONE),
            becomes(_PUBLISHED, "the same host got it anew after the ledger was last written", *PublicationState),
        ],
        PublicationEvent.MOVED: [
            stays("no host has the volume, so another may be chosen", _NONE),
            _in_use("what a host may write to is offered nowhere else"),
        ],
        PublicationEvent.VOLUME_ADOPTED: [
            stays("no host has the volume, so it can be somebody else's", _NONE),
            _in_use("what a host may write to is given to nobody else"),
        ],
        PublicationEvent.VOLUME_DELETED: [
            stays("no host has the volume", _NONE),
            _in_use("what is still held by a host is not gone"),
        ],
        PublicationEvent.AGENT_REPLACED: [
            stays("there is nothing to hand over", _NONE),
            stays("the host is the same, and so is what it has", *PublicationState),
        ],
        PublicationEvent.AGENT_FORGOTTEN: [
            stays("the host has nothing", _NONE),
            refused(
                VolumeInUse,
                "an agent whose host has a volume is not forgotten",
                "fence the agent and wait until the volume is detached",
                *PublicationState,
            ),
        ],
    },
)
