"""The life of a volume on its platform."""

from __future__ import annotations

import enum

from polly_mesos.errors import AlreadyExists, UnknownVolume, WrongState
from polly_mesos.ledger.transitions.table import Rule, Table, becomes, refused, stays
from polly_mesos.model import VolumeState


class VolumeEvent(enum.StrEnum):
    """What can happen to a volume."""

    ASKED_FOR = "asked for"
    FOUND = "found"
    FOUND_RELEASED = "found, released"
    CREATED = "created"
    FAILED = "failed"
    FAILED_FOR_GOOD = "failed for good"
    DESTROYED = "destroyed"
    RETAINED = "destroyed, retained"
    RENAMED = "renamed"
    UNWANTED = "unwanted"
    DELETED = "deleted"
    PUBLISH = "publish"
    MOVED = "moved"
    PARKED = "parked"
    ADOPTED = "adopted"
    PUBLICATION_ADOPTED = "publication adopted"
    AGENT_REPLACED = "agent replaced"
    AGENT_FORGOTTEN = "agent forgotten"
    PRUNED = "pruned"


_MEANINGS = {
    VolumeEvent.ASKED_FOR: "A CREATE or CREATE_DISK is admitted, or an operator adds a volume",
    VolumeEvent.FOUND: "The platform has a volume with our tag, and somebody owns it (`adopt_volume`)",
    VolumeEvent.FOUND_RELEASED: "The platform has a volume with our tag that was retained (`adopt_volume`)",
    VolumeEvent.CREATED: "The platform has made it (`volume_created`)",
    VolumeEvent.FAILED: "A step on the platform failed and is tried again (`volume_failed`)",
    VolumeEvent.FAILED_FOR_GOOD: "A step on the platform failed and is not tried again (`volume_failed`)",
    VolumeEvent.DESTROYED: "A DESTROY or DESTROY_DISK is admitted, and its data shall go",
    VolumeEvent.RETAINED: "A DESTROY is admitted, and its data shall stay",
    VolumeEvent.RENAMED: "A disk gets another owner, gets a persistence id, or loses it and stays a disk",
    VolumeEvent.UNWANTED: "An operator, or a retention that ended, wants it gone (`delete_volume`)",
    VolumeEvent.DELETED: "The platform has deleted it (`volume_deleted`)",
    VolumeEvent.PUBLISH: "A task needs it on a host (`publish`)",
    VolumeEvent.MOVED: "Another agent is to offer it (`move_volume`)",
    VolumeEvent.PARKED: "No agent is to offer it (`move_volume`)",
    VolumeEvent.ADOPTED: "A CREATE gets it, which its owner has abandoned (`AdoptVolume`)",
    VolumeEvent.PUBLICATION_ADOPTED: "A host has it, and the ledger did not know (`adopt_publication`)",
    VolumeEvent.AGENT_REPLACED: "Its agent came back under another id (`replace_agent`)",
    VolumeEvent.AGENT_FORGOTTEN: "Its dead agent is forgotten (`forget_agent`)",
    VolumeEvent.PRUNED: "Its record is old (`prune`)",
}

_LOOK = "look at it: polly ledger show"
_UNKNOWN = "see which there are: polly ledger show"
_CREATING, _READY, _FAILED = VolumeState.CREATING, VolumeState.READY, VolumeState.FAILED
_RELEASED, _DELETING, _DELETED = VolumeState.RELEASED, VolumeState.DELETING, VolumeState.DELETED
_NONE: None = None


def _unknown() -> Rule[VolumeState]:
    return refused(UnknownVolume, "nothing can happen to a volume that the ledger does not have", _UNKNOWN, _NONE)


def _not_its_owners() -> Rule[VolumeState]:
    because = "it is not its owner's any more"
    return refused(WrongState, because, _LOOK, _RELEASED, _DELETING, _DELETED)


VOLUME: Table[VolumeState, VolumeEvent] = Table(
    "volume",
    VolumeState,
    _MEANINGS,
    {
        VolumeEvent.ASKED_FOR: [
            becomes(_CREATING, "its bytes are taken at once and its platform is asked afterwards", _NONE),
            refused(
                AlreadyExists,
                "an id is given once, so that no volume is made twice",
                "make up another id",
                *VolumeState,
            ),
        ],
        VolumeEvent.FOUND: [
            becomes(_READY, "its data exist, and the ledger had lost them", _NONE),
            refused(
                AlreadyExists,
                "the ledger knows it as one that its platform has not made",
                "let the volume controller find it: it looks for the tag before it makes anything",
                _CREATING,
                _FAILED,
            ),
            stays("the ledger knows it already", _READY, _RELEASED, _DELETING),
            refused(
                AlreadyExists,
                "the ledger knows that it was deleted",
                "delete it on its platform, or give the data another id",
                _DELETED,
            ),
        ],
        VolumeEvent.FOUND_RELEASED: [
            becomes(_RELEASED, "its data exist, and its owner had given it up", _NONE),
            refused(
                AlreadyExists,
                "the ledger knows it as one that its platform has not made",
                "let the volume controller find it: it looks for the tag before it makes anything",
                _CREATING,
                _FAILED,
            ),
            stays("the ledger knows it already, and better", _READY, _RELEASED, _DELETING),
            refused(
                AlreadyExists,
                "the ledger knows that it was deleted",
                "delete it on its platform, or give the data another id",
                _DELETED,
            ),
        ],
        VolumeEvent.CREATED: [
            _unknown(),
            becomes(_READY, "it can be used now", _CREATING),
            becomes(_READY, "a time-out that counted as a failure did make it", _FAILED),
            stays("it was said before", _READY),
            stays("it was given up meanwhile, and its platform's name for it is needed to delete it", _DELETING),
            stays("it was retained meanwhile, and its platform's name for it is kept", _RELEASED),
            refused(WrongState, "it cannot be created any more", _LOOK, _DELETED),
        ],
        VolumeEvent.FAILED: [
            _unknown(),
            stays("the step is tried again, and the error is shown until then", _CREATING, _READY, _DELETING),
            stays("it failed before, and the newest error is shown", _FAILED),
            stays("its data are not touched", _RELEASED),
            refused(WrongState, "it cannot fail any more", _LOOK, _DELETED),
        ],
        VolumeEvent.FAILED_FOR_GOOD: [
            _unknown(),
            becomes(_FAILED, "its platform will not make it: its owner can only destroy it", _CREATING),
            stays("its data exist whatever failed, and only the error is shown", _READY, _RELEASED),
            stays("it failed before, and the newest error is shown", _FAILED),
            stays("deleting it is wanted until it is done", _DELETING),
            refused(WrongState, "it cannot fail any more", _LOOK, _DELETED),
        ],
        VolumeEvent.DESTROYED: [
            _unknown(),
            becomes(_DELETING, "its owner wants it gone", _CREATING, _READY, _FAILED),
            _not_its_owners(),
        ],
        VolumeEvent.RETAINED: [
            _unknown(),
            becomes(_RELEASED, "its owner has no use for it, and its profile keeps the data", _CREATING, _READY),
            becomes(_RELEASED, "its owner gave it up, and whatever its platform may still have is kept", _FAILED),
            _not_its_owners(),
        ],
        VolumeEvent.RENAMED: [
            _unknown(),
            stays("its names are Mesos' and say nothing about its data", _CREATING, _READY, _FAILED),
            _not_its_owners(),
        ],
        VolumeEvent.UNWANTED: [
            _unknown(),
            becomes(_DELETING, "what is wanted gone is deleted, whoever owned it", _CREATING, _READY, _FAILED),
            becomes(_DELETING, "nobody needs its data any longer", _RELEASED),
            stays("it was wanted before", _DELETING),
            refused(WrongState, "it cannot be deleted again", _LOOK, _DELETED),
        ],
        VolumeEvent.DELETED: [
            _unknown(),
            becomes(_DELETED, "its bytes go to who waits for them", _DELETING),
            stays("it was said before", _DELETED),
            refused(
                WrongState, "it cannot be gone: nobody wanted it deleted", _LOOK, _CREATING, _READY, _FAILED, _RELEASED
            ),
        ],
        VolumeEvent.PUBLISH: [
            _unknown(),
            stays("a host may be chosen while it is made, and is attached afterwards", _CREATING),
            stays("publishing says where it is, not what it is", _READY),
            refused(
                WrongState,
                "it failed and cannot be published",
                "destroy it and create another",
                _FAILED,
            ),
            refused(
                WrongState,
                "it was destroyed and cannot be published",
                "destroy it and create another",
                _RELEASED,
                _DELETING,
                _DELETED,
            ),
        ],
        VolumeEvent.MOVED: [
            _unknown(),
            stays("who offers it says nothing about its data", _CREATING, _READY, _FAILED),
            _not_its_owners(),
        ],
        VolumeEvent.PARKED: [
            _unknown(),
            stays("it keeps its owner and its data until an agent offers it", _CREATING, _READY, _FAILED),
            _not_its_owners(),
        ],
        VolumeEvent.ADOPTED: [
            _unknown(),
            stays("it is made or being made, and gets new names only", _CREATING, _READY),
            refused(WrongState, "it failed and has no data to adopt", "create a new volume", _FAILED),
            refused(
                WrongState,
                "its owner destroyed it, so that it cannot be adopted",
                "create a new volume",
                _RELEASED,
                _DELETING,
                _DELETED,
            ),
        ],
        VolumeEvent.PUBLICATION_ADOPTED: [
            _unknown(),
            stays("the host has it, and it is what it was", _READY),
            stays("the host has it although its owner destroyed it, and lets go of it first", _RELEASED, _DELETING),
            refused(
                WrongState,
                "a host says that it has what its platform has not made",
                "look for it on its platform: polly check",
                _CREATING,
                _FAILED,
            ),
            refused(
                WrongState,
                "a host says that it has what its platform has deleted",
                "look for it on its platform: polly check",
                _DELETED,
            ),
        ],
        VolumeEvent.AGENT_REPLACED: [
            stays("there is nothing to hand over", _NONE),
            stays("the host is the same, and so are its volumes", _CREATING, _READY, _FAILED),
            stays("the space that it gives back is handed over too", _RELEASED, _DELETING),
            stays("the record is kept under the agent's new id", _DELETED),
        ],
        VolumeEvent.AGENT_FORGOTTEN: [
            stays("there is nothing to keep", _NONE),
            refused(
                WrongState,
                "an agent with volumes is not forgotten",
                "move them to another agent, or park them",
                _CREATING,
                _READY,
                _FAILED,
            ),
            stays("nobody offers it anyway, and its bytes go to the pool when it is gone", _RELEASED, _DELETING),
            stays("the record is kept without its agent", _DELETED),
        ],
        VolumeEvent.PRUNED: [
            stays("there is nothing to forget", _NONE),
            stays("what exists is never forgotten", _CREATING, _READY, _FAILED, _RELEASED, _DELETING),
            becomes(None, "it is gone, and nothing refers to it", _DELETED),
        ],
    },
)
