"""Render the transition tables as Markdown: ``python -m polly_mesos.ledger.transitions [FILE]``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polly_mesos.ledger.transitions import FORMAT, OPERATION, PUBLICATION, VOLUME, Cell, Table

TABLES: tuple[Table[Any, Any], ...] = (VOLUME, PUBLICATION, OPERATION, FORMAT)

_TITLES = {
    "volume": "Volumes",
    "publication": "Publications",
    "operation": "Operations",
    "format": "Whether a volume was ever formatted",
}

_INTRODUCTION = """\
# What every event does in every state

This page is made by `make docs` out of `polly_mesos/ledger/transitions/`, where the ledger looks its next state up; a
test says that it is up to date, and another drives the ledger into every cell. Each table has one cell for each state
and event. `(none)` is where there is no such record, before the first event or after the last. An arrow gives the next
state; a point means that the state stays; else the event is refused with the error named, and nothing changes.

Beside its cell an event can be refused for what is no state: under an older generation, by another agent, or where
there is no space.
"""


def render() -> str:
    """All tables as one page."""
    return "\n".join([_INTRODUCTION, *(line for table in TABLES for line in _render(table))]) + "\n"


def _render(table: Table[Any, Any]) -> Iterator[str]:
    yield f"## {_TITLES[table.what]}"
    yield ""
    yield from _overview(table)
    yield ""
    yield from _diagram(table)
    for event, meaning in table.meanings.items():
        yield ""
        yield f"### {table.what.capitalize()}: {event}"
        yield ""
        yield f"{meaning}."
        yield ""
        yield "| in state | it | because |"
        yield "| --- | --- | --- |"
        for state in table.states:
            cell = table.cells[state, event]
            yield f"| {_state(state)} | {_outcome(cell)} | {_sentence(cell)} |"
    yield ""


def _overview(table: Table[Any, Any]) -> Iterator[str]:
    yield f"| event | {' | '.join(_state(state) for state in table.states)} |"
    yield f"| --- |{' --- |' * len(table.states)}"
    for event in table.meanings:
        cells = (table.cells[state, event] for state in table.states)
        yield f"| {event} | {' | '.join(_mark(cell) for cell in cells)} |"


def _diagram(table: Table[Any, Any]) -> Iterator[str]:
    yield "```mermaid"
    yield "stateDiagram-v2"
    moves: dict[tuple[Any, Any], list[str]] = {}
    for (state, event), cell in table.cells.items():
        if cell.refusal is None and cell.after != state:
            moves.setdefault((state, cell.after), []).append(str(event))
    for (before, after), events in moves.items():
        yield f"    {before or '[*]'} --> {after or '[*]'}: {', '.join(events)}"
    yield "```"


def _state(state: Any) -> str:
    return str(state) if state is not None else "(none)"


def _mark(cell: Cell[Any, Any]) -> str:
    if cell.refusal is not None:
        return cell.refusal.__name__
    return "·" if cell.after == cell.state else f"→ {_state(cell.after)}"


def _outcome(cell: Cell[Any, Any]) -> str:
    if cell.refusal is not None:
        return f"is refused: `{cell.refusal.__name__}`"
    return "stays" if cell.after == cell.state else f"becomes **{_state(cell.after)}**"


def _sentence(cell: Cell[Any, Any]) -> str:
    return f"{cell.because[0].upper()}{cell.because[1:]}."


def main(arguments: list[str]) -> None:
    """Print the page, or write it to the file named."""
    if arguments:
        Path(arguments[0]).write_text(render(), encoding="utf-8")
    else:
        sys.stdout.write(render())


if __name__ == "__main__":
    main(sys.argv[1:])
