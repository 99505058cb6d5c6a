"""What happens when a ledger is opened: made, brought up to date, shared, refused."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from polly_mesos.errors import LedgerCorrupt, LedgerError, LedgerLocked, LedgerOfAnotherCluster, LedgerTooNew
from polly_mesos.ledger import Ledger, migrate, sqlite, tables
from polly_mesos.model import Pool

if TYPE_CHECKING:
    from tests.unit.ledger.conftest import Desk

POOL = Pool("gold", "gold", "disks", "", 1 << 40, 12.5)


def test_a_missing_ledger_is_made_with_its_directory_and_keeps_what_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.sqlite"
    with Ledger.open(path, "prod") as ledger:
        ledger.set_pool(POOL)
        ledger.set_framework_id("framework-1")
    with Ledger.open(path, "prod") as ledger:
        assert (ledger.cluster, ledger.epoch) == ("prod", 1)
        assert (ledger.pools(), ledger.framework_id()) == ({"gold": POOL}, "framework-1")


def test_commits_wait_for_the_disk_and_references_are_enforced(ledger: Ledger) -> None:
    connection = ledger._write()._pooled.dbapi_connection
    assert connection is not None
    settings = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys")
    }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_the_migrations_make_exactly_the_tables_of_the_code(ledger: Ledger) -> None:
    with ledger.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


@pytest.mark.parametrize("revision", migrate.revisions())
def test_a_ledger_of_every_earlier_version_is_brought_up_to_date_with_its_content(
    tmp_path: Path, revision: str
) -> None:
    path = tmp_path / "old.sqlite"
    engine = sqlite.engine(path, mode="rwc", write_ahead=False)
    with engine.begin() as connection:
        migrate.upgrade(connection, revision)
        connection.exec_driver_sql(
            "INSERT INTO ledger (id, cluster, epoch, framework_id) VALUES (1, 'test', 7, 'framework-1')"
        )
    engine.dispose()
    with Ledger.open(path, "test") as ledger:
        assert (ledger.epoch, ledger.framework_id()) == (7, "framework-1")
        with ledger.reading() as connection:
            assert migrate.current(connection) == migrate.revisions()[-1]


def test_a_reader_does_not_bring_an_older_ledger_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "revisions", lambda: ("0001", "0002", "0003"))
    with pytest.raises(LedgerError, match="older Polly") as refusal:
        Ledger.open(path, "test", read_only=True)
    assert "polly serve" in refusal.value.remedy


def test_a_ledger_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(LedgerTooNew, match="9999"):
            Ledger.open(path, "test", read_only=read_only)
    assert path.read_bytes()[100:] == before[100:]


def test_another_clusters_ledger_is_refused(path: Path) -> None:
    for read_only in (False, True):
        with pytest.raises(LedgerOfAnotherCluster, match="'test', not to 'prod'"):
            Ledger.open(path, "prod", read_only=read_only)
    with Ledger.open(path, None, read_only=True) as ledger:
        assert ledger.cluster == "test"


def test_a_second_scheduler_is_refused_and_told_who_the_first_is(path: Path, ledger: Ledger) -> None:
    opener = "import sys; from polly_mesos.ledger import Ledger; Ledger.open(sys.argv[1], 'test')"
    second = subprocess.run([sys.executable, "-c", opener, str(path)], capture_output=True, text=True, check=False)
    assert second.returncode != 0
    assert "LedgerLocked" in second.stderr
    assert f"process id {os.getpid()} on host {socket.gethostname()}, since 20" in second.stderr
    with pytest.raises(LedgerLocked):
        Ledger.open(path, "test")


def test_a_ledger_can_be_read_while_a_scheduler_has_it(path: Path, desk: Desk) -> None:
    with Ledger.open(path, None, read_only=True) as reader:
        desk.lease(5 << 30)
        assert reader.leases() == desk.ledger.leases() != []
        with pytest.raises(LedgerError, match="reading only"):
            reader.set_framework_id("x")


def test_the_lock_goes_with_the_one_who_held_it(path: Path) -> None:
    Ledger.open(path, "test").close()
    with Ledger.open(path, "test") as ledger:
        ledger.close()
        with pytest.raises(LedgerError, match="closed"):
            ledger.pools()
        with pytest.raises(LedgerError, match="closed"):
            ledger.set_framework_id("x")


def test_a_refused_opening_leaves_no_lock_behind(path: Path) -> None:
    with pytest.raises(LedgerOfAnotherCluster):
        Ledger.open(path, "prod")
    Ledger.open(path, "test").close()


def test_a_reader_makes_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no ledger at"):
        Ledger.open(tmp_path / "none.sqlite", None, read_only=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 7, 100, 5000, 20000])
def test_a_truncated_ledger_is_refused(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    for read_only in (False, True):
        with pytest.raises(LedgerCorrupt, match="ledger") as refusal:
            Ledger.open(path, "test", read_only=read_only)
        assert refusal.value.remedy
    assert path.stat().st_size == keep


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("cluster: prod\n" * 1000)
    with pytest.raises(LedgerCorrupt, match="is not an SQLite file"):
        Ledger.open(path, "test")
    assert path.read_text() == "cluster: prod\n" * 1000


def test_an_sqlite_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()
    with pytest.raises(LedgerCorrupt, match="not a Polly ledger"):
        Ledger.open(path, "test")


def test_a_ledger_with_overwritten_pages_is_refused(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:8192] = b"\xa5" * 4096
    path.write_bytes(content)
    with pytest.raises(LedgerCorrupt, match="damaged"):
        Ledger.open(path, "test")


def test_a_log_without_its_ledger_is_not_replayed_onto_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.with_name("ledger.sqlite-wal").write_bytes(b"left behind")
    with pytest.raises(LedgerCorrupt, match="write-ahead log"):
        Ledger.open(path, "test")
    assert not path.exists()


def test_a_ledger_whose_making_was_interrupted_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.with_name("ledger.sqlite.new").write_bytes(b"half of one")
    with Ledger.open(path, "test") as ledger:
        assert ledger.pools() == {}
    assert not path.with_name("ledger.sqlite.new").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_reader_needs_no_right_to_write_beside_the_ledger(path: Path) -> None:
    path.parent.chmod(0o555)
    try:
        with Ledger.open(path, None, read_only=True) as ledger:
            assert ledger.pools() == {}
    finally:
        path.parent.chmod(0o755)


def test_a_full_disk_is_said_and_changes_nothing(desk: Desk) -> None:
    connection = desk.ledger._write()._pooled.dbapi_connection
    assert connection is not None
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")

    def fill() -> None:
        for number in range(1000):
            desk.ledger.begin("volume.create", f"v{number}", {"note": "x" * 1000})

    with pytest.raises(LedgerError, match="full; nothing was changed"):
        fill()
    begun = len(desk.ledger.operations(limit=2000))
    connection.execute("PRAGMA max_page_count = 1000000")
    desk.ledger.begin("volume.create", "after", {"note": "x" * 1000})
    assert len(desk.ledger.operations(limit=2000)) == begun + 1
