"""Copies of a ledger: of one moment, looked at, and put back so that nothing old is believed that could do harm."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sqlite3
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from polly_mesos.errors import (
    AlreadyExists,
    LedgerCorrupt,
    LedgerError,
    LedgerLocked,
    LedgerOfAnotherCluster,
    LedgerTooNew,
    StaleGeneration,
)
from polly_mesos.ledger import Ledger, migrate, sqlite
from polly_mesos.ledger.backup import UNSEEN_EPOCHS, backup, inspect, restore
from polly_mesos.ledger.check import check
from polly_mesos.model import MB, FormatState, PublicationState, Volume, VolumeState

if TYPE_CHECKING:
    from tests.unit.ledger.conftest import Desk

GB = 1024 * MB


@pytest.fixture
def volume(desk: Desk) -> Volume:
    """One volume that its platform has made, out of a reservation of 3 GB."""
    desk.lease(20 * GB)
    desk.reserve(3 * GB)
    made = desk.create(1 * GB)
    return desk.ledger.volume_created(made.id, "p1")


def publish(ledger: Ledger, volume: Volume, agent: str = "a1") -> int:
    generation = ledger.publish(volume.id, agent, f"{agent}.example").generation
    ledger.attached(volume.id, generation, {"device": "vdb"})
    return generation


def test_a_copy_taken_while_a_scheduler_works_is_one_private_file_with_all_that_was_committed(
    desk: Desk, volume: Volume, path: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copies" / "one"
    copy.parent.mkdir()
    contents = backup(path, copy, "test")
    assert [entry.name for entry in copy.parent.iterdir()] == ["one"]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert contents.volumes == {"ready": 1}
    assert (contents.pools, contents.agents, contents.reservations, contents.publications) == (1, 2, 1, 0)
    assert contents.newest == pytest.approx(volume.updated)
    with Ledger.open(copy, "test", read_only=True) as read:
        assert read.volumes() == desk.ledger.volumes()
        assert read.holdings() == desk.ledger.holdings()


def test_copies_taken_during_changes_are_each_of_one_moment(desk: Desk, path: Path, tmp_path: Path) -> None:
    """Every change moves bytes between a lease and a reservation: of one moment, their sum is always the same."""
    desk.lease(1000 * MB)
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            desk.reserve(1 * MB)
            desk.unreserve(1 * MB)

    writer = threading.Thread(target=change)
    writer.start()
    try:
        for number in range(20):
            backup(path, tmp_path / f"copy-{number}", "test")
    finally:
        done.set()
        writer.join()
    for number in range(20):
        with Ledger.open(tmp_path / f"copy-{number}", "test", read_only=True) as read:
            assert sum(holding.size for holding in read.holdings()) == 1000 * MB


def test_a_file_is_replaced_only_when_told_to(desk: Desk, path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_text("precious")
    with pytest.raises(AlreadyExists, match="nothing was written"):
        backup(path, copy, "test")
    assert copy.read_text() == "precious"
    backup(path, copy, "test", force=True)
    assert inspect(copy, "test").pools == 1


def test_the_ledger_itself_is_no_place_for_its_copy(desk: Desk, path: Path) -> None:
    with pytest.raises(AlreadyExists, match="the ledger itself"):
        backup(path, path, "test", force=True)
    assert desk.ledger.pools()


def test_a_directory_that_is_not_there_is_told(path: Path, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be written") as refused:
        backup(path, tmp_path / "none" / "copy", "test")
    assert refused.value.remedy


def test_a_damaged_ledger_gives_no_copy(path: Path, tmp_path: Path) -> None:
    _damage(path)
    with pytest.raises(LedgerCorrupt):
        backup(path, tmp_path / "copy", "test")
    assert not (tmp_path / "copy").exists()
    assert not (tmp_path / "copy.new").exists()


def test_another_clusters_ledger_gives_no_copy(path: Path, tmp_path: Path) -> None:
    with pytest.raises(LedgerOfAnotherCluster):
        backup(path, tmp_path / "copy", "prod")
    assert not (tmp_path / "copy").exists()


def test_what_was_there_is_kept_and_every_restoration_begins_a_new_epoch(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    backup(path, copy, "test")
    with Ledger.open(path, "test") as ledger:
        ledger.set_framework_id("framework-2")
    first = restore(copy, path, "test")
    second = restore(copy, path, "test")
    assert (first.epoch, second.epoch) == (2, 3)
    assert first.kept is not None
    assert second.kept is not None
    assert [first.kept.name, second.kept.name] == [f"{path.name}.before-restore-{number}" for number in (1, 2)]
    with Ledger.open(first.kept, "test", read_only=True) as kept:
        assert (kept.epoch, kept.framework_id()) == (1, "framework-2")
    with Ledger.open(path, "test") as ledger:
        assert ledger.epoch == 3
        assert ledger.framework_id() == "framework-2", "Mesos knows us by the newest id, not by the copy's"
        assert [event.kind for event in ledger.events()] == ["ledger.restored"]
        assert check(ledger) == []


def test_a_ledger_that_is_gone_is_restored_in_an_epoch_above_those_that_nobody_remembers(
    path: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    backup(path, copy, "test")
    path.unlink()
    path.with_name(path.name + "-wal").write_bytes(b"left behind")
    restored = restore(copy, path, "test")
    assert restored.epoch == 1 + UNSEEN_EPOCHS
    assert restored.kept is not None
    assert restored.kept.with_name(restored.kept.name + "-wal").read_bytes() == b"left behind"
    Ledger.open(path, "test").close()


def test_a_damaged_ledger_is_kept_as_it_was_with_its_log(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    backup(path, copy, "test")
    _damage(path)
    damaged = path.read_bytes()
    path.with_name(path.name + "-wal").write_bytes(b"log")
    restored = restore(copy, path, "test")
    assert restored.kept is not None
    assert restored.kept.read_bytes() == damaged
    assert restored.kept.with_name(restored.kept.name + "-wal").read_bytes() == b"log"
    with Ledger.open(path, "test") as ledger:
        assert check(ledger) == []


def test_nothing_is_restored_under_a_running_scheduler(desk: Desk, path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    backup(path, copy, "test")
    with pytest.raises(LedgerLocked, match=f"process id {os.getpid()}"):
        restore(copy, path, "test")
    assert desk.ledger.epoch == 1
    assert not list(tmp_path.glob("*.before-restore*"))


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:8192] = b"\xa5" * 4096
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20000])


def _make_newer(path: Path) -> None:
    _execute(path, "UPDATE alembic_version SET version_num = '9999'")


def _give_away(path: Path) -> None:
    _execute(path, "UPDATE ledger SET cluster = 'prod'")


def _break_a_reference(path: Path) -> None:
    _execute(path, "INSERT INTO holdings VALUES ('no such pool', 'nor agent', '', 1, 1)")


def _execute(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (_damage, LedgerCorrupt),
        (_truncate, LedgerCorrupt),
        (_break_a_reference, LedgerCorrupt),
        (_make_newer, LedgerTooNew),
        (_give_away, LedgerOfAnotherCluster),
        (Path.unlink, LedgerError),
        (lambda copy: copy.write_text("cluster: test"), LedgerCorrupt),
    ],
)
def test_a_copy_that_is_not_to_be_trusted_replaces_nothing(
    path: Path, tmp_path: Path, spoil: object, error: type[LedgerError]
) -> None:
    assert callable(spoil)
    copy = tmp_path / "copy"
    backup(path, copy, "test")
    spoil(copy)
    before = path.read_bytes()
    with pytest.raises(error) as refused:
        restore(copy, path, "test")
    assert refused.value.remedy
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.before-restore*"))


def test_another_clusters_ledger_is_not_replaced(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    backup(path, copy, "test")
    _give_away(path)
    with pytest.raises(LedgerOfAnotherCluster, match="would be replaced"):
        restore(copy, path, "test")
    assert not list(tmp_path.glob("*.before-restore*"))


def test_a_ledger_is_no_copy_of_itself(path: Path) -> None:
    with pytest.raises(LedgerError, match="the ledger itself"):
        restore(path, path, "test")


@pytest.mark.parametrize("revision", migrate.revisions())
def test_a_copy_of_an_earlier_version_is_brought_up_to_date_and_stays_what_it_was(
    tmp_path: Path, revision: str
) -> None:
    copy, path = tmp_path / "copy", tmp_path / "ledger.sqlite"
    engine = sqlite.engine(copy, mode="rwc", write_ahead=False)
    with engine.begin() as connection:
        migrate.upgrade(connection, revision)
        connection.exec_driver_sql("INSERT INTO ledger (id, cluster, epoch, framework_id) VALUES (1, 'test', 7, 'f')")
    engine.dispose()
    before = copy.read_bytes()
    assert inspect(copy, "test").revision == revision
    restore(copy, path, "test")
    assert copy.read_bytes() == before
    with Ledger.open(path, "test") as ledger:
        assert (ledger.epoch, ledger.framework_id()) == (7 + UNSEEN_EPOCHS, "f")


def test_a_plain_copy_with_its_log_is_restored_with_what_the_log_has(
    desk: Desk, volume: Volume, path: Path, tmp_path: Path
) -> None:
    copy, target = tmp_path / "copy", tmp_path / "restored"
    shutil.copy(path, copy)
    shutil.copy(sqlite.log_of(path), sqlite.log_of(copy))
    restore(copy, target, "test")
    with Ledger.open(target, "test", read_only=True) as ledger:
        assert ledger.volume(volume.id).platform_id == "p1"


class Aged:
    """A ledger that was copied, went on, and was then replaced by the copy."""

    def __init__(self, desk: Desk, path: Path, tmp_path: Path) -> None:
        self._desk, self._path, self._copy = desk, path, tmp_path / "copy"

    def copy(self) -> None:
        backup(self._path, self._copy, "test")

    def restored(self) -> Ledger:
        self._desk.ledger.close()
        restore(self._copy, self._path, "test")
        return Ledger.open(self._path, "test")


@pytest.fixture
def aged(desk: Desk, path: Path, tmp_path: Path) -> Aged:
    return Aged(desk, path, tmp_path)


def test_a_generation_that_a_host_may_hold_is_never_given_again(desk: Desk, volume: Volume, aged: Aged) -> None:
    aged.copy()
    since = publish(desk.ledger, volume)
    with aged.restored() as ledger:
        new = ledger.publish(volume.id, "a1", "a1.example").generation
        assert new > since
        with pytest.raises(StaleGeneration):
            ledger.published(volume.id, since, "/dev/loop1", "/target")


def test_a_host_that_has_the_volume_since_keeps_it(desk: Desk, volume: Volume, aged: Aged) -> None:
    aged.copy()
    since = publish(desk.ledger, volume)
    with aged.restored() as ledger:
        ledger.adopt_publication(volume.id, "a1", "a1.example", since, "/target")
        publication = ledger.publication(volume.id)
        assert publication is not None
        assert (publication.generation, publication.state) == (since, PublicationState.PUBLISHED)
        assert ledger.volume(volume.id).format_state is FormatState.FORMATTED
        assert check(ledger) == []


def test_what_was_attached_is_attached_again_before_a_host_looks_for_it(desk: Desk, volume: Volume, aged: Aged) -> None:
    """It may have been detached since, and a host would look for its device in vain."""
    generation = publish(desk.ledger, volume)
    aged.copy()
    with aged.restored() as ledger:
        (attaching,) = ledger.publications()
        assert (attaching.state, attaching.generation) == (PublicationState.ATTACHING, generation)


def test_of_what_was_published_only_the_host_is_believed(desk: Desk, volume: Volume, aged: Aged) -> None:
    generation = publish(desk.ledger, volume)
    desk.ledger.published(volume.id, generation, "/dev/loop1", "/target")
    aged.copy()
    with aged.restored() as ledger:
        (published,) = ledger.publications()
        assert (published.state, published.target) == (PublicationState.PUBLISHED, "/target")
        assert (published.device, published.attachment) == ("", {})


def test_a_format_that_was_under_way_counts_as_done(desk: Desk, volume: Volume, aged: Aged) -> None:
    """The volume may hold data since, and finishing a format can mean to begin it again."""
    generation = publish(desk.ledger, volume)
    desk.ledger.formatting(volume.id, generation)
    aged.copy()
    with aged.restored() as ledger:
        assert ledger.volume(volume.id).format_state is FormatState.FORMATTED


def test_executors_must_greet_anew_so_that_they_say_what_they_hold(desk: Desk, aged: Aged) -> None:
    by_mesos, by_hand = desk.ledger.agent("a1"), desk.ledger.agent("a2")
    desk.ledger.put_agent(dataclasses.replace(by_mesos, token_hash="one"))
    desk.ledger.put_agent(dataclasses.replace(by_hand, token_hash="two", standalone=True))
    aged.copy()
    with aged.restored() as ledger:
        assert ledger.agent_by_token("one") is None
        assert ledger.agent_by_token("two") is not None


def test_an_answer_that_mesos_has_long_since_is_not_sent_again_and_stays_the_same(desk: Desk, aged: Aged) -> None:
    desk.lease(1 * GB)
    asked = desk.operation(operation_id="op-1")
    answered = desk.ledger.refuse(asked, LedgerError("no"))
    aged.copy()
    with aged.restored() as ledger:
        assert ledger.unacknowledged("a1") == []
        assert ledger.operation("op-1").status_uuid == answered.status_uuid
        assert ledger.refuse(asked, LedgerError("another reason")).outcome == answered.outcome


def test_a_volume_that_was_being_made_is_made_by_its_token_and_not_twice(desk: Desk, aged: Aged) -> None:
    desk.lease(20 * GB)
    desk.reserve(1 * GB)
    volume = desk.create(1 * GB)
    desk.ledger.begin("volume.create", volume.id, {}, "a1")
    aged.copy()
    desk.ledger.volume_created(volume.id, "p1")
    with aged.restored() as ledger:
        assert ledger.volume(volume.id).state is VolumeState.CREATING
        assert [operation.subject for operation in ledger.operations() if operation.kind == "volume.create"] == [
            volume.id
        ]
