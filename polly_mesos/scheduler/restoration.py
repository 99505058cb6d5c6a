"""Putting a copy of the ledger back, and bringing it closer to what has happened since it was taken.

What is dangerous to believe is changed by :func:`polly_mesos.ledger.backup.restore`. Here the copy is compared with
platforms and agents: a volume that was made since, and that an agent offers, is adopted with its owner and its
persistence id. Everything else is only told: nothing is deleted, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from polly_mesos.config import Configuration
from polly_mesos.errors import Conflict, PollyError
from polly_mesos.ledger import Ledger
from polly_mesos.ledger.backup import Contents, inspect, moment, restore
from polly_mesos.model import Json, Volume, VolumeState
from polly_mesos.scheduler.rebuild_evidence import Evidence, gather
from polly_mesos.scheduler.rebuild_plan import Plan, Recovered, plan
from polly_mesos.scheduler.services import Services

_ON_PLATFORM = frozenset({VolumeState.READY, VolumeState.RELEASED, VolumeState.FAILED})

NEXT = (
    "start polly serve: executors greet anew and say what their hosts hold, and what is newer is believed",
    "then run polly check, and again after a few minutes: it names every difference that is left, with its remedy",
    "frameworks may see reservations and volumes as they were when the copy was taken; they correct that themselves",
)
"""What the operator does next, and should know."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One volume of which the copy and the world say different things.

    :param kind: ``adopted``, ``orphan`` (made since, not adopted), ``missing`` (the platform has it no more), ``moved``
    :param what: one sentence for people
    """

    kind: str
    volume: Volume
    what: str


@dataclass(frozen=True, slots=True)
class Restoration:
    """What became of it.

    :param kept: where the ledger is that was there before; None where there was none
    :param compared: why the copy could not be compared with the world, empty where it was
    """

    path: Path
    contents: Contents
    epoch: int
    kept: Path | None
    differences: tuple[Difference, ...]
    not_compared: str = ""

    @property
    def warnings(self) -> Iterator[str]:
        """What the operator should know beside the differences."""
        yield (
            f"the copy ends {moment(self.contents.newest)}; what happened since is known only as far as platforms,"
            " agents and hosts tell"
        )
        if self.not_compared:
            yield f"platforms and agents could not be asked what happened since: {self.not_compared}"

    def as_json(self) -> Json:
        """The whole of it for programs."""
        contents = self.contents
        return {
            "ledger": str(self.path),
            "kept": str(self.kept) if self.kept is not None else None,
            "cluster": contents.cluster,
            "epoch": self.epoch,
            "newest": contents.newest,
            "volumes": contents.volumes,
            "not_compared": self.not_compared,
            "differences": [
                {
                    "kind": one.kind,
                    "volume": one.volume.id,
                    "platform_id": one.volume.platform_id,
                    "agent": one.volume.agent,
                    "persistence_id": one.volume.persistence_id,
                    "size": one.volume.size,
                    "what": one.what,
                }
                for one in self.differences
            ],
            "warnings": list(self.warnings),
            "next": list(NEXT),
        }


def restore_ledger(
    configuration: Configuration, copy: Path, *, ask: Callable[[Configuration, Services], Evidence] = gather
) -> Restoration:
    """Put the copy where ``configuration`` wants its ledger.

    :param ask: gathers what platforms and agents tell
    :raises Conflict: a scheduler half is connected to the master
    :raises LedgerLocked: a scheduler half has the ledger open
    :raises LedgerError: the copy is missing, damaged, another cluster's or of a newer Polly; nothing was changed
    """
    path = configuration.ledger.path
    inspect(copy, configuration.cluster)
    evidence, not_compared = None, ""
    try:
        evidence = ask(configuration, Services(configuration))
    except Conflict:
        raise
    except PollyError as error:
        not_compared = str(error)
    restored = restore(copy, path, configuration.cluster)
    differences: tuple[Difference, ...] = ()
    if evidence is not None:
        with Ledger.open(path, configuration.cluster) as ledger:
            try:
                differences = tuple(_compare(ledger, evidence, configuration))
            except PollyError as error:
                not_compared = str(error)
    return Restoration(path, restored.contents, restored.epoch, restored.kept, differences, not_compared)


def _compare(ledger: Ledger, evidence: Evidence, configuration: Configuration) -> Iterator[Difference]:
    told = plan(
        evidence,
        cluster=configuration.cluster,
        profiles=configuration.profiles,
        root_on=configuration.agents.root_on,
    )
    known = {volume.id: volume for volume in ledger.volumes()}
    platforms = {service: {found.id for found in volumes} for service, volumes in evidence.platforms.items()}
    for volume in known.values():
        on_platform = volume.state in _ON_PLATFORM and volume.platform_id
        if on_platform and volume.service in platforms and volume.platform_id not in platforms[volume.service]:
            yield Difference("missing", volume, f"{volume.service} has no {volume.platform_id} (any more)")
    for recovered in told.volumes:
        before = known.get(recovered.volume.id)
        if before is None and recovered.volume.platform_id:
            yield _adopt(ledger, told, recovered)
        elif before is not None and recovered.said_by == "agent" and before.agent != recovered.volume.agent:
            what = f"agent {recovered.volume.agent} offers it, and the copy says {before.agent or 'nobody'}"
            yield Difference("moved", before, what)


def _adopt(ledger: Ledger, told: Plan, recovered: Recovered) -> Difference:
    # Its host says under which generation it has the volume.
    volume = replace(recovered.volume, generation=0)
    if recovered.said_by != "agent" or volume.state is not VolumeState.READY:
        reason = recovered.remark or f"it is {volume.state}"
        return Difference("orphan", volume, f"it was made since, and nobody offers it: {reason}")
    try:
        if volume.agent not in ledger.agents():
            (agent,) = [agent for agent in told.ledger.agents if agent.id == volume.agent]
            ledger.put_agent(agent)
        ledger.adopt_volume(volume)
    except PollyError as error:
        return Difference("orphan", volume, f"it was made since, and could not be adopted: {error}")
    return Difference("adopted", volume, f"it was made since, and agent {volume.agent} offers it")
