"""What the two halves say to each other: the agent API, where alone they meet.

The executor half calls, the scheduler half answers: JSON over HTTP, authenticated by the executor's own token
(``Authorization: Bearer``). The token itself never travels in a TaskInfo: the scheduler half sends a
:class:`Summons` as a Mesos framework message, which Mesos keeps nowhere.

Sizes are bytes unless the name says otherwise; Mesos resources and operations are plain JSON objects as Mesos writes
them. Runs on the agents' Python: standard library and cattrs only.

====================================================  =======================  =======================
route                                                 request                  answer
====================================================  =======================  =======================
POST /agent/v1/hello                                  :class:`Hello`           :class:`Welcome`
POST /agent/v1/host                                   :class:`HostReport`      204
POST /agent/v1/provider                               :class:`ProviderReport`  204
GET  /agent/v1/assignment?after=VERSION&wait=SECONDS                           :class:`Assignment`
POST /agent/v1/operations                             :class:`Application`     :class:`Verdict`
POST /agent/v1/operations/ID/acknowledged                                      204
POST /agent/v1/publications                           :class:`PublishRequest`  :class:`PublishAnswer`
POST /agent/v1/publications/VOLUME/STEP               :class:`Progress`        204
====================================================  =======================  =======================

STEP is ``formatting`` (the intent, before mkfs), ``formatted``, ``published`` or ``unpublished``. Errors have the JSON
body of :meth:`polly_mesos.errors.PollyError.as_json`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import cattrs

from polly_mesos.errors import FieldError, PollyError, UnsafeFormat
from polly_mesos.model import Filesystem, FormatState, HostIdentity, Json

T = TypeVar("T")

ALREADY_SERVING = "this executor serves one task in its life"
"""The message of the TASK_FAILED of a task for which an executor has no use, because it runs an earlier one."""

_converter = cattrs.Converter(forbid_extra_keys=False)


def encode(value: Any) -> Json:
    """A message as a JSON object."""
    data: Json = _converter.unstructure(value)
    return data


def decode(kind: type[T], data: Any) -> T:
    """A message from a JSON object; raises cattrs' errors, which name the field, where it does not fit."""
    return _converter.structure(data, kind)


@dataclass(frozen=True, slots=True)
class Summons:
    """Framework message to an executor: where the scheduler half is and the token to show there."""

    scheduler: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Hello:
    """An executor's first words, after every start and whenever the agent's id changed.

    :param agent: Mesos' agent id, from the agent itself
    :param version: Polly's version
    :param node: ``host:port`` of the agent's API: the name of the agent that outlives its id
    """

    agent: str
    hostname: str
    node: str
    version: str


@dataclass(frozen=True, slots=True)
class HostService:
    """A service whose volumes this host may be given.

    :param driver: ``module:class`` of the driver's host side
    :param filesystems: what its profiles format with, so that missing tools are found early
    """

    name: str
    driver: str
    settings: Mapping[str, Any]
    filesystems: tuple[Filesystem, ...]


@dataclass(frozen=True, slots=True)
class Welcome:
    """What the executor needs to begin.

    :param provider_id: the id to subscribe with, empty for a new provider
    :param volume_root: absolute path below which pools have their roots on this host
    :param unpublish_grace: seconds that a volume stays mounted after its last task
    :param settle: seconds without operations before totals may be replaced
    :param allow_scratch: whether tasks may use a pool's disk without making a volume
    """

    provider_type: str
    provider_name: str
    provider_id: str
    services: tuple[HostService, ...]
    volume_root: str
    unpublish_grace: float = 10.0
    settle: float = 2.0
    allow_scratch: bool = False


@dataclass(frozen=True, slots=True)
class HostReport:
    """Who the host is to each service, what it lacks, and what Polly's mounts it has.

    :param problems: service name -> what is missing and how to get it; such a service gets no lease here
    :param mounted: volume id -> target path of every volume of ours mounted below the volume root
    :param generations: volume id -> generation under which this host holds it, mounted or not
    :param build: name of the artifact that runs, empty where the executor half was not started by Mesos
    """

    identities: Mapping[str, HostIdentity]
    problems: Mapping[str, str] = field(default_factory=dict)
    mounted: Mapping[str, str] = field(default_factory=dict)
    generations: Mapping[str, int] = field(default_factory=dict)
    build: str = ""


@dataclass(frozen=True, slots=True)
class ProviderReport:
    """The id that the agent gave our provider."""

    agent: str
    provider_id: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """What this agent is to advertise, and which volumes it may keep mounted.

    :param version: grows with every change; the next long poll asks for what comes after it
    :param resources: the provider's totals without ``provider_id``, which the executor adds
    :param operations: finished Mesos operations whose status is not acknowledged: :class:`Verdict` each
    :param keep: volume id -> generation of the publications this host holds; what else is mounted is to be unmounted
    :param revoke: volume id -> generation of the publications that are to end as soon as no task uses them: unmounted
        where mounted, released, and reported ``unpublished`` in any case
    :param stop: volume id -> newest generation that is over: this host lost the volume to another or was fenced. What
        it still holds under that generation or an older one is to end at once, tasks that use it first
    :param look: changes when the host is to look at its mounts and to report them at once
    """

    version: int
    resources: tuple[Json, ...]
    operations: tuple[Verdict, ...]
    keep: Mapping[str, int]
    revoke: Mapping[str, int] = field(default_factory=dict)
    stop: Mapping[str, int] = field(default_factory=dict)
    look: int = 0


@dataclass(frozen=True, slots=True)
class Application:
    """An APPLY_OPERATION event of the resource provider API.

    :param id: the operation's UUID as text
    :param info: Mesos' Offer.Operation
    """

    id: str
    info: Json
    framework: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The ledger's answer to an operation: the same for the same id, however often it is asked.

    :param state: OPERATION_FINISHED, OPERATION_FAILED or OPERATION_DROPPED
    :param status_uuid: UUID of the status, as text
    :param version: version of the first :class:`Assignment` that shows what the operation did, so that an older one
        which arrives later does not undo it; 0 where that is not known
    """

    id: str
    state: str
    status_uuid: str
    info: Json
    framework: str = ""
    message: str = ""
    converted: tuple[Json, ...] = ()
    version: int = 0


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """The resources of a PUBLISH_RESOURCES event; ``wait`` seconds at most are spent waiting for the platform."""

    resources: tuple[Json, ...]
    wait: float = 0.0


class PublishState(enum.StrEnum):
    """WAIT: ask again. READY: the platform has attached it. REFUSED: it will not come."""

    WAIT = "wait"
    READY = "ready"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class PublishTarget:
    """One volume to be mapped to this host.

    :param target: absolute path where the agent will look for it
    :param format_state: NEVER: may be formatted if blank; FORMATTING: a format was begun and may be finished;
        FORMATTED: never to be formatted again
    :param reason: why it waits or is refused
    :param secrets: belongs to the attachment for the one call that connects, and must not be kept or shown
    """

    volume: str
    state: PublishState
    target: str = ""
    generation: int = 0
    service: str = ""
    filesystem: Filesystem = Filesystem.EXT4
    mount_options: tuple[str, ...] = ()
    format_state: FormatState = FormatState.NEVER
    attachment: Json = field(default_factory=dict)
    reason: str = ""
    secrets: Json = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class PublishAnswer:
    """All volumes that the resources name; resources that name no volume are in ``scratch``."""

    targets: tuple[PublishTarget, ...]
    scratch: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """A step done on the host, under the publication's generation."""

    generation: int
    device: str = ""
    target: str = ""


def error_from_json(data: Mapping[str, object]) -> PollyError:
    """The error that :meth:`PollyError.as_json` wrote; a plain PollyError where the code is not known here."""
    classes = _by_code(PollyError)
    kind = classes.get(str(data.get("code", "")), PollyError)
    message, remedy = str(data.get("message", "")), str(data.get("remedy", ""))
    if issubclass(kind, FieldError):
        return kind(message, remedy=remedy, field=str(data.get("field", "")), value=data.get("value"))
    if issubclass(kind, UnsafeFormat):
        return kind(message, remedy=remedy, found=str(data.get("found", "")))
    return kind(message, remedy=remedy)


def _by_code(kind: type[PollyError]) -> dict[str, type[PollyError]]:
    found = {kind.code: kind} if "code" in vars(kind) else {}
    for child in kind.__subclasses__():
        found.update(_by_code(child))
    return found
