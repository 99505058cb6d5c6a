"""The life of an operation: a step of ours, from intent to outcome, or one of Mesos', from verdict to acknowledged."""

from __future__ import annotations

import enum

from polly_mesos.errors import Conflict, UnknownOperation, WrongState
from polly_mesos.ledger.transitions.table import Table, becomes, refused, stays


class Stage(enum.StrEnum):
    """How far an operation is. ADMITTED and REFUSED are those of Mesos that it has not acknowledged."""

    INTENT = "intent"
    ADMITTED = "admitted"
    REFUSED = "refused"
    DONE = "done"
    FAILED = "failed"


class OperationEvent(enum.StrEnum):
    """What can happen to an operation."""

    BEGIN = "begin"
    FINISH = "finish"
    FINISH_FAILED = "finish, failed"
    ADMIT = "admit"
    REFUSE = "refuse"
    ACKNOWLEDGE = "acknowledge"
    AGENT_REPLACED = "agent replaced"
    AGENT_FORGOTTEN = "agent forgotten"
    PRUNED = "pruned"


_MEANINGS = {
    OperationEvent.BEGIN: "A step of ours with its kind and subject is about to be made (`begin`)",
    OperationEvent.FINISH: "The step was made (`finish`)",
    OperationEvent.FINISH_FAILED: "The step failed (`finish` with an error)",
    OperationEvent.ADMIT: "Mesos asks for it, and the ledger makes the changes (`admit`)",
    OperationEvent.REFUSE: "Mesos asks for it, and it is refused (`refuse`)",
    OperationEvent.ACKNOWLEDGE: "Mesos has its status (`acknowledge`)",
    OperationEvent.AGENT_REPLACED: "Its agent came back under another id (`replace_agent`)",
    OperationEvent.AGENT_FORGOTTEN: "Its dead agent is forgotten (`forget_agent`)",
    OperationEvent.PRUNED: "Its record is old (`prune`)",
}

_ANEW = "give every operation an id of its own"
_UNKNOWN = "see the newest ones: polly ledger show"
_NONE: None = None

OPERATION: Table[Stage, OperationEvent] = Table(
    "operation",
    Stage,
    _MEANINGS,
    {
        OperationEvent.BEGIN: [
            becomes(Stage.INTENT, "it is on the disk before anything is changed", _NONE),
            stays("the unfinished step is taken up again instead of a second one", Stage.INTENT),
            stays("that one is Mesos' and the new step is another operation", Stage.ADMITTED, Stage.REFUSED),
            stays("that one is over and the new step is another operation", Stage.DONE, Stage.FAILED),
        ],
        OperationEvent.FINISH: [
            refused(UnknownOperation, "only what was begun can be finished", _UNKNOWN, _NONE),
            becomes(Stage.DONE, "the step has its outcome", Stage.INTENT),
            stays("the same was said before", Stage.DONE),
            refused(WrongState, "it was finished otherwise", "begin a new operation", Stage.FAILED),
            refused(WrongState, "it is Mesos' and no step of ours", _ANEW, Stage.ADMITTED, Stage.REFUSED),
        ],
        OperationEvent.FINISH_FAILED: [
            refused(UnknownOperation, "only what was begun can be finished", _UNKNOWN, _NONE),
            becomes(Stage.FAILED, "the step has its outcome", Stage.INTENT),
            stays("the same was said before", Stage.FAILED),
            refused(WrongState, "it was finished otherwise", "begin a new operation", Stage.DONE),
            refused(WrongState, "it is Mesos' and no step of ours", _ANEW, Stage.ADMITTED, Stage.REFUSED),
        ],
        OperationEvent.ADMIT: [
            becomes(Stage.ADMITTED, "the changes and the verdict are one transaction", _NONE),
            refused(Conflict, "its id is that of a step of ours", _ANEW, Stage.INTENT),
            stays("a repeat gets the first answer, and changes nothing", Stage.ADMITTED, Stage.DONE),
            stays("a repeat gets the first answer: what was refused stays refused", Stage.REFUSED, Stage.FAILED),
        ],
        OperationEvent.REFUSE: [
            becomes(Stage.REFUSED, "nothing was changed, and Mesos is told why", _NONE),
            refused(Conflict, "its id is that of a step of ours", _ANEW, Stage.INTENT),
            stays("a repeat gets the first answer: what was admitted stays admitted", Stage.ADMITTED, Stage.DONE),
            stays("a repeat gets the first answer", Stage.REFUSED, Stage.FAILED),
        ],
        OperationEvent.ACKNOWLEDGE: [
            refused(UnknownOperation, "only what was decided can be acknowledged", _UNKNOWN, _NONE),
            refused(
                WrongState,
                "it has no outcome yet that could be acknowledged",
                "acknowledge operations that came through an agent only",
                Stage.INTENT,
            ),
            becomes(Stage.DONE, "its status need not be sent again", Stage.ADMITTED),
            becomes(Stage.FAILED, "its status need not be sent again", Stage.REFUSED),
            stays("it was said before", Stage.DONE, Stage.FAILED),
        ],
        OperationEvent.AGENT_REPLACED: [
            stays("there is nothing to hand over", _NONE),
            stays("the step goes on under the agent's new id", Stage.INTENT),
            becomes(Stage.DONE, "Mesos will not acknowledge it under an agent id that is gone", Stage.ADMITTED),
            becomes(Stage.FAILED, "Mesos will not acknowledge it under an agent id that is gone", Stage.REFUSED),
            stays("it is over", Stage.DONE, Stage.FAILED),
        ],
        OperationEvent.AGENT_FORGOTTEN: [
            stays("there is nothing to close", _NONE),
            stays("the step is finished by whoever began it", Stage.INTENT),
            becomes(Stage.DONE, "Mesos will not acknowledge it under an agent id that is gone", Stage.ADMITTED),
            becomes(Stage.FAILED, "Mesos will not acknowledge it under an agent id that is gone", Stage.REFUSED),
            stays("it is over", Stage.DONE, Stage.FAILED),
        ],
        OperationEvent.PRUNED: [
            stays("there is nothing to forget", _NONE),
            stays("it is to be finished, however old it is", Stage.INTENT),
            stays("Mesos has yet to hear of it, however old it is", Stage.ADMITTED, Stage.REFUSED),
            becomes(None, "it is over, and newer ones are enough for the record", Stage.DONE, Stage.FAILED),
        ],
    },
)
