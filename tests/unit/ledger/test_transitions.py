"""Every cell of the transition tables, driven on the real ledger; and the page that shows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polly_mesos.errors import PollyError
from polly_mesos.ledger import Ledger, tables
from polly_mesos.ledger.transitions import (
    FORMAT,
    OPERATION,
    PUBLICATION,
    VOLUME,
    Cell,
    OperationEvent,
    PublicationEvent,
    Stage,
    Table,
    VolumeEvent,
    __main__,
)
from polly_mesos.ledger.transitions.table import becomes, stays
from polly_mesos.model import VolumeKind, VolumeState
from tests.unit.ledger import records
from tests.unit.ledger.conftest import Desk

PAGE = Path(__file__).parents[3] / "docs" / "transitions.md"


def cells(table: Table[Any, Any]) -> list[Any]:
    return [pytest.param(cell, id=f"{cell.state}, {cell.event}") for cell in table.cells.values()]


def content(ledger: Ledger) -> dict[str, list[Any]]:
    with ledger.reading() as connection:
        return {
            name: list(map(tuple, connection.execute(table.select()))) for name, table in tables.metadata.tables.items()
        }


def see(desk: Desk, table: Table[Any, Any], cell: Cell[Any, Any]) -> None:
    """Bring the ledger into the cell's state, make its event happen, and see that it does what the cell says."""
    record, act, state_of = drive(desk, table, cell)
    assert state_of(desk, record) == cell.state
    before = content(desk.ledger)
    if not is_never_asked(cell):
        overrule(table, cell, act)
        assert content(desk.ledger) == before
    if cell.refusal is None:
        made = act()
        record = made if cell.state is None and isinstance(made, str) else record
        assert state_of(desk, record) == cell.after
        return
    with pytest.raises(cell.refusal) as refusal:
        act()
    assert type(refusal.value) is cell.refusal
    assert cell.because in refusal.value.message
    assert refusal.value.remedy
    assert content(desk.ledger) == before


def overrule(table: Table[Any, Any], cell: Cell[Any, Any], act: records.Act) -> None:
    """Say something else in the table, and see that the ledger does that: it has no second opinion."""
    other: Cell[Any, Any] = Cell(cell.state, cell.event, cell.state, "a test said so", Overruled)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(table.cells, (cell.state, cell.event), other)
        with pytest.raises(Overruled, match="a test said so"):
            act()


class Overruled(PollyError):
    """What a cell refuses that was changed by the test."""


def is_never_asked(cell: Cell[Any, Any]) -> bool:
    """Cells of records that the ledger does not look at: what is not there, is over, or is found by its state."""
    if cell.event in (VolumeEvent.PRUNED, OperationEvent.PRUNED):
        return True
    if cell.event is OperationEvent.BEGIN:
        return cell.state not in (None, Stage.INTENT)
    by_agent = ("agent replaced", "agent forgotten", "fenced")
    return cell.event in by_agent and cell.state in (None, Stage.DONE, Stage.FAILED)


@pytest.fixture(scope="module")
def furnished_ledger(tmp_path_factory: pytest.TempPathFactory, empty_ledger: bytes) -> bytes:
    path = tmp_path_factory.mktemp("furnished") / "ledger.sqlite"
    path.write_bytes(empty_ledger)
    with Ledger.open(path, "test") as ledger:
        desk = Desk(ledger)
        desk.furnish()
        records.furnish(desk)
    return path.read_bytes()


@pytest.fixture
def furnished(tmp_path: Path, furnished_ledger: bytes) -> Iterator[Desk]:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(furnished_ledger)
    with Ledger.open(path, "test") as ledger:
        yield Desk(ledger)


def drive(desk: Desk, table: Table[Any, Any], cell: Cell[Any, Any]) -> tuple[str, records.Act, Any]:
    """The ledger is in the cell's state: the record's id, what makes the event happen, and how to see the state."""
    if table is VOLUME:
        kind = VolumeKind.MOUNT if cell.event in records.OF_DISKS else VolumeKind.PATH
        record = records.VOLUME_STATES[cell.state](desk, kind)
        return record, records.VOLUME_EVENTS[cell.event](desk, record), records.state_of_volume
    if table is PUBLICATION:
        record = records.PUBLICATION_STATES[cell.state](desk)
        return record, records.PUBLICATION_EVENTS[cell.event](desk, record), records.state_of_publication
    if table is FORMAT:
        record = records.FORMAT_STATES[cell.state](desk)
        return record, records.FORMAT_EVENTS[cell.event](desk, record), records.state_of_format
    record = records.OPERATION_STATES[cell.state](desk, cell.event)
    return record, records.OPERATION_EVENTS[cell.event](desk, record), records.stage_of_operation


@pytest.mark.parametrize("cell", cells(VOLUME))
def test_a_volume_becomes_what_the_table_says(furnished: Desk, cell: Cell[Any, Any]) -> None:
    see(furnished, VOLUME, cell)


@pytest.mark.parametrize("cell", cells(PUBLICATION))
def test_a_publication_becomes_what_the_table_says(furnished: Desk, cell: Cell[Any, Any]) -> None:
    see(furnished, PUBLICATION, cell)


@pytest.mark.parametrize("cell", cells(OPERATION))
def test_an_operation_becomes_what_the_table_says(furnished: Desk, cell: Cell[Any, Any]) -> None:
    see(furnished, OPERATION, cell)


@pytest.mark.parametrize("cell", cells(FORMAT))
def test_a_format_becomes_what_the_table_says(furnished: Desk, cell: Cell[Any, Any]) -> None:
    see(furnished, FORMAT, cell)


def test_every_state_and_event_has_one_cell() -> None:
    assert len(VOLUME.cells) == (1 + len(VolumeState)) * len(VolumeEvent)
    assert len(PUBLICATION.cells) == 5 * len(PublicationEvent)
    assert len(OPERATION.cells) == (1 + len(Stage)) * len(OperationEvent)
    assert len(FORMAT.cells) == 3 * 3


def test_a_table_with_a_gap_or_a_contradiction_cannot_be_made() -> None:
    meanings = {VolumeEvent.MOVED: "it moves"}
    everywhere: Any = stays("so it is", None, *VolumeState)
    with pytest.raises(ValueError, match="lacks"):
        Table("volume", VolumeState, meanings, {VolumeEvent.MOVED: [stays("so it is", None)]})
    again: Any = becomes(None, "so it is", VolumeState.READY)
    with pytest.raises(ValueError, match="twice"):
        Table("volume", VolumeState, meanings, {VolumeEvent.MOVED: [everywhere, again]})
    with pytest.raises(ValueError, match="needlessly"):
        Table("volume", VolumeState, {}, {VolumeEvent.MOVED: [everywhere]})


def test_the_page_shows_the_tables_as_they_are(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert PAGE.read_text(encoding="utf-8") == __main__.render(), "make docs"
    __main__.main([])
    __main__.main([str(tmp_path / "page.md")])
    assert capsys.readouterr().out == (tmp_path / "page.md").read_text(encoding="utf-8") == __main__.render()


def test_the_page_has_every_reason() -> None:
    page = __main__.render()
    for table in (VOLUME, PUBLICATION, OPERATION, FORMAT):
        for cell in table.cells.values():
            assert cell.because[1:] in page
            assert not cell.because.endswith(".")
