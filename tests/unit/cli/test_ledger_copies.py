"""polly ledger backup, restore and rebuild: what they print, for people and for programs, and when they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from polly_mesos.ledger import Ledger
from polly_mesos.model import MB, Pool
from tests.unit.cli.test_cli import run

CONFIGURATION = """
cluster: test
mesos: {{master: "127.0.0.1:1"}}
ledger: {{path: ledger.db}}
services:
  local: {{driver: directory, directory: {directory}, capacity: 1GiB}}
profiles:
  gold: {{service: local}}
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def polly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda *words: run(monkeypatch, capsys, *(str(word) for word in words))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A polly.yml with a ledger of one pool; no master is there."""
    (tmp_path / "platform").mkdir()
    file = tmp_path / "polly.yml"
    file.write_text(CONFIGURATION.format(directory=tmp_path / "platform"))
    with Ledger.open(tmp_path / "ledger.db", "test") as ledger:
        ledger.set_pool(Pool("gold", "gold", "local", "", 64 * MB))
    return file


def test_a_copy_says_what_it_holds(polly: Run, config: Path, tmp_path: Path) -> None:
    status, out, _ = polly("ledger", "backup", tmp_path / "copy", "--config", config)
    assert status == 0
    assert "checked. Cluster test, epoch 1" in out
    status, out, _ = polly("ledger", "backup", tmp_path / "copy", "--config", config, "--force", "--format", "json")
    told = json.loads(out)
    assert (told["pools"], told["epoch"], told["bytes"]) == (1, 1, (tmp_path / "copy").stat().st_size)


def test_a_copy_is_not_overwritten(polly: Run, config: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").write_text("precious")
    status, _, err = polly("ledger", "backup", tmp_path / "copy", "--config", config)
    assert status == 5
    assert "--force" in err
    assert (tmp_path / "copy").read_text() == "precious"


def test_which_ledger_is_meant_has_to_be_said_once(polly: Run, config: Path, tmp_path: Path) -> None:
    for options in ((), ("--config", config, "--ledger", tmp_path / "ledger.db")):
        status, _, err = polly("ledger", "backup", tmp_path / "copy", *options)
        assert (status, "which ledger" in err) == (2, True)


def test_a_restoration_without_mesos_says_what_could_not_be_compared_and_what_comes_next(
    polly: Run, config: Path, tmp_path: Path
) -> None:
    polly("ledger", "backup", tmp_path / "copy", "--ledger", tmp_path / "ledger.db")
    status, out, _ = polly("ledger", "restore", tmp_path / "copy", "--config", config)
    assert status == 0
    assert "its epoch is 2 now" in out
    assert "could not be asked what happened since" in out
    assert "polly check" in out
    assert str(tmp_path / "ledger.db.before-restore-1") in out
    status, out, _ = polly("ledger", "restore", tmp_path / "copy", "--config", config, "--format", "json")
    told = json.loads(out)
    assert (told["epoch"], told["kept"]) == (3, str(tmp_path / "ledger.db.before-restore-2"))


def test_a_restoration_under_a_running_scheduler_is_refused_as_json(polly: Run, config: Path, tmp_path: Path) -> None:
    polly("ledger", "backup", tmp_path / "copy", "--config", config)
    with Ledger.open(tmp_path / "ledger.db", "test"):
        status, _, err = polly("ledger", "restore", tmp_path / "copy", "--config", config, "--format", "json")
    assert status == 10
    assert json.loads(err)["error"]["code"] == "ledger-locked"


def test_a_ledger_is_not_rebuilt_where_one_is(polly: Run, config: Path) -> None:
    status, _, err = polly("ledger", "rebuild", "--config", config)
    assert status == 5
    assert "polly ledger restore" in err


def test_a_ledger_is_not_rebuilt_without_mesos(polly: Run, config: Path, tmp_path: Path) -> None:
    (tmp_path / "ledger.db").unlink()
    status, _, err = polly("ledger", "rebuild", "--config", config)
    assert status == 11
    assert "127.0.0.1:1" in err
    assert not (tmp_path / "ledger.db").exists()
