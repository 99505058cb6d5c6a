"""What is to go wrong, and when: pure, decided by the seed alone.

Every round is drawn from the seed and its own number, so a round is the same however many come before or after it.
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

SPREAD = 4.0
"""Seconds from a round's beginning within which its faults begin."""

_FEWEST, _MOST = 4, 8
_ATTEMPTS = 50
_APART = 0.3


class Target(enum.StrEnum):
    """The sorts of things that faults happen to."""

    SCHEDULER = "scheduler"
    MASTER = "master"
    AGENT = "agent"
    EXECUTOR = "executor"
    LINK = "link"
    LEDGER_DISK = "ledger disk"
    PLATFORM_DISK = "platform disk"
    FAULT_POINTS = "fault points"


class Kind(enum.StrEnum):
    """The kinds of faults, by the names that the report has."""

    KILL_SCHEDULER = "scheduler killed"
    STOP_SCHEDULER = "scheduler stopped for a while"
    KILL_EXECUTOR = "executor killed"
    STOP_EXECUTOR = "executor stopped for a while"
    KILL_AGENT = "agent killed"
    RESTART_AGENT = "agent restarted"
    STOP_AGENT = "agent stopped for a while"
    WIPE_AGENT = "agent lost its work directory"
    POWER_OFF = "host powered off"
    KILL_MASTER = "master killed"
    STOP_MASTER = "master stopped for a while"
    CUT_LINK = "link cut"
    FILL_LEDGER_DISK = "ledger's disk full"
    FILL_PLATFORM_DISK = "platform's disk full"
    SLOW_DRIVER = "driver slow"
    FAILING_DRIVER = "driver failing"
    CRASH_SCHEDULER = "scheduler crashed at a fault point"
    CRASH_EXECUTORS = "executors crashed at a fault point"


@dataclass(frozen=True, slots=True)
class Nature:
    """What is special about a kind.

    :param shortest: seconds that such a fault lasts at least, before it is healed
    :param weight: how often it is drawn, compared with the others
    """

    target: Target
    shortest: float
    longest: float
    weight: int = 2


NATURES = {
    Kind.KILL_SCHEDULER: Nature(Target.SCHEDULER, 0.0, 1.5, 3),
    Kind.STOP_SCHEDULER: Nature(Target.SCHEDULER, 0.5, 4.0),
    Kind.KILL_EXECUTOR: Nature(Target.EXECUTOR, 0.0, 0.0, 4),
    Kind.STOP_EXECUTOR: Nature(Target.EXECUTOR, 0.5, 4.0),
    Kind.KILL_AGENT: Nature(Target.AGENT, 0.0, 2.0, 3),
    Kind.RESTART_AGENT: Nature(Target.AGENT, 0.0, 1.0),
    Kind.STOP_AGENT: Nature(Target.AGENT, 0.5, 6.0),
    Kind.WIPE_AGENT: Nature(Target.AGENT, 0.0, 1.0, 1),
    Kind.POWER_OFF: Nature(Target.AGENT, 0.0, 0.0, 1),
    Kind.KILL_MASTER: Nature(Target.MASTER, 0.0, 1.0, 1),
    Kind.STOP_MASTER: Nature(Target.MASTER, 0.5, 2.0),
    Kind.CUT_LINK: Nature(Target.LINK, 0.5, 4.0, 4),
    Kind.FILL_LEDGER_DISK: Nature(Target.LEDGER_DISK, 0.5, 3.0),
    Kind.FILL_PLATFORM_DISK: Nature(Target.PLATFORM_DISK, 0.5, 3.0),
    Kind.SLOW_DRIVER: Nature(Target.FAULT_POINTS, 1.0, 4.0),
    Kind.FAILING_DRIVER: Nature(Target.FAULT_POINTS, 1.0, 4.0),
    Kind.CRASH_SCHEDULER: Nature(Target.FAULT_POINTS, 1.0, 3.0),
    Kind.CRASH_EXECUTORS: Nature(Target.FAULT_POINTS, 1.0, 3.0),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    :param target: the agent for kinds that happen to agents, executors and hosts; ``one end|other end`` for links; the
        sort of thing itself where there is only one
    :param at: seconds after the round's beginning
    :param lasts: seconds until it is healed
    :param choice: from 0 up to 1, for whatever the kind has to choose besides
    """

    kind: Kind
    target: str
    at: float
    lasts: float
    choice: float

    def __str__(self) -> str:
        duration = "until the rest is healed" if self.outlasts_round else f"for {self.lasts:.1f} s"
        where = "" if self.target == NATURES[self.kind].target else f" ({self.target.replace('|', ' and ')})"
        return f"{self.kind}{where} at {self.at:.1f} s {duration}"

    @property
    def outlasts_round(self) -> bool:
        """Whether everything has to come to rest without what it took away, before that comes back."""
        return self.kind is Kind.POWER_OFF

    @property
    def ends(self) -> float:
        """Seconds after the round's beginning."""
        return math.inf if self.outlasts_round else self.at + self.lasts

    def disturbs(self, other: Fault) -> bool:
        """Whether the two happen to the same thing at the same time, so that healing one would undo the other."""
        together = self.at < other.ends + _APART and other.at < self.ends + _APART
        return together and self.shares(other)

    def shares(self, other: Fault) -> bool:
        """Whether the two happen to the same thing."""
        return bool(self._touches() & other._touches())

    def _touches(self) -> frozenset[str]:
        sort = NATURES[self.kind].target
        touched = {f"{sort}:{self.target}"}
        if self.kind in (Kind.WIPE_AGENT, Kind.POWER_OFF):
            touched.add(f"{Target.EXECUTOR}:{self.target}")
        if self.outlasts_round:
            touched.add("host")  # never two of them, for the rest must have room
        if self.kind is Kind.CRASH_SCHEDULER:
            touched.add(f"{Target.SCHEDULER}:{Target.SCHEDULER}")
        return frozenset(touched)


@dataclass(frozen=True, slots=True)
class Round:
    """Some faults that overlap, in the order in which they begin."""

    number: int
    faults: tuple[Fault, ...]


def draw_round(seed: int, number: int, kinds: Collection[Kind], agents: Collection[str]) -> Round:
    """The round of that number; the same arguments give the same round.

    :param number: from 1
    :param kinds: what may be drawn
    """
    chance = random.Random(f"{seed}/{number}")
    possible = [kind for kind in Kind if kind in kinds]
    weights = [NATURES[kind].weight for kind in possible]
    names = sorted(agents)
    wanted = chance.randint(_FEWEST, _MOST)
    faults: list[Fault] = []
    for _ in range(_ATTEMPTS):
        kind = chance.choices(possible, weights)[0]
        fault = _draw_fault(chance, kind, names)
        if not any(fault.disturbs(other) for other in faults):
            faults.append(fault)
        if len(faults) == wanted:
            break
    return Round(number, tuple(sorted(faults, key=lambda fault: fault.at)))


def _draw_fault(chance: random.Random, kind: Kind, agents: list[str]) -> Fault:
    nature = NATURES[kind]
    if nature.target in (Target.AGENT, Target.EXECUTOR):
        target = chance.choice(agents)
    elif nature.target is Target.LINK:
        target = "|".join(sorted(chance.sample([*agents, "master", "scheduler"], 2)))
    else:
        target = str(nature.target)
    at, lasts = chance.uniform(0.0, SPREAD), chance.uniform(nature.shortest, nature.longest)
    return Fault(kind, target, round(at, 2), round(lasts, 2), round(chance.random(), 4))


def draw(
    seed: int, kinds: Collection[Kind], agents: Collection[str], *, faults: int = 0, rounds: int = 0
) -> Iterator[Round]:
    """As many rounds as are wanted.

    :param rounds: how many; 0: as many as have at least ``faults`` faults together
    """
    number = caused = 0
    while number < rounds if rounds else caused < faults:
        number += 1
        drawn = draw_round(seed, number, kinds, agents)
        caused += len(drawn.faults)
        yield drawn
