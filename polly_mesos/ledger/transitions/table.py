"""A transition table: one cell for each state and event, none left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Generic, TypeVar

from polly_mesos.errors import PollyError

State = TypeVar("State", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)


class _Same(Enum):
    """The state after, where it is the one before."""

    STATE = "same"


SAME = _Same.STATE


@dataclass(frozen=True, slots=True)
class Rule(Generic[State]):
    """What an event does in some states.

    :param states: the states before; None where there is no record
    :param after: the state after; None where the record goes or does not come; unused where it is refused
    :param because: why, as a clause without capital and full stop; part of the error's message
    """

    states: tuple[State | None, ...]
    after: State | _Same | None
    because: str
    refusal: type[PollyError] | None = None
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Cell(Generic[State, Event]):
    """What one event does in one state."""

    state: State | None
    event: Event
    after: State | None
    because: str
    refusal: type[PollyError] | None = None
    remedy: str = ""


class Table(Generic[State, Event]):
    """All cells of one kind of record.

    :param what: the kind of record, in one word
    :param states: all of its states; there is also None, where there is no such record, unless there ``always`` is one
    :param meanings: each event in words
    :param rules: what each event does
    :raises ValueError: a cell is missing, or given twice
    """

    def __init__(
        self,
        what: str,
        states: type[State],
        meanings: Mapping[Event, str],
        rules: Mapping[Event, Iterable[Rule[State]]],
        *,
        always: bool = False,
    ) -> None:
        self.what = what
        self.states: tuple[State | None, ...] = tuple(states) if always else (None, *states)
        self.meanings = meanings
        self.cells: dict[tuple[State | None, Event], Cell[State, Event]] = {}
        for event, parts in rules.items():
            for rule in parts:
                for state in rule.states:
                    self._add(rule, state, event)
        missing = {(state, event) for state in self.states for event in meanings} ^ self.cells.keys()
        if missing:
            raise ValueError(f"the transition table of {what} lacks or has needlessly: {missing}")

    def _add(self, rule: Rule[State], state: State | None, event: Event) -> None:
        if (state, event) in self.cells:
            raise ValueError(f"the transition table of {self.what} has {event} in state {state} twice")
        after = state if isinstance(rule.after, _Same) else rule.after
        self.cells[state, event] = Cell(state, event, after, rule.because, rule.refusal, rule.remedy)

    def after(self, state: State | None, event: Event, name: str, note: str = "") -> State | None:
        """The state after an event; None where there is no record then.

        :param name: of the record, for the error's message
        :param note: what else is to be said in the message
        :raises PollyError: the event is refused in that state; of the class that the cell names
        """
        cell = self.cells[state, event]
        if cell.refusal is not None:
            found = f"{name} is {state}" if state is not None else f"the ledger has no {name}"
            raise cell.refusal(f"{found}: {cell.because}{note}", remedy=cell.remedy)
        return cell.after

    def kept(self, state: State | None, event: Event, name: str, note: str = "") -> State:
        """The state after an event after which there is a record, as :meth:`after` gives it.

        :raises LookupError: there is none: whoever asks does not know the table
        """
        found = self.after(state, event, name, note)
        if found is None:
            raise LookupError(f"{self.what}: there is no record after {event} in state {state}")
        return found

    def leading_to(self, after: State | None, event: Event) -> tuple[State, ...]:
        """The states in which an event leads to ``after``, in the order in which they are defined."""
        found = (self.cells[state, event] for state in self.states)
        return tuple(cell.state for cell in found if cell.state and cell.after == after and not cell.refusal)


def becomes(after: State | None, because: str, *states: State | None) -> Rule[State]:
    """In each of ``states`` the record becomes ``after``; None where it goes."""
    return Rule(states, after, because)


def stays(because: str, *states: State | None) -> Rule[State]:
    """In each of ``states`` the state stays what it is."""
    return Rule(states, SAME, because)


def refused(refusal: type[PollyError], because: str, remedy: str, *states: State | None) -> Rule[State]:
    """In each of ``states`` the event is refused with an error of that class, and nothing changes."""
    return Rule(states, SAME, because, refusal, remedy)
