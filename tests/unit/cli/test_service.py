"""``polly service``: what a service lacks is told without a scheduler and without harm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.test_cli import run


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "polly.yml"
    (tmp_path / "file").touch()
    path.write_text(
        "cluster: test\nmesos: {master: '127.0.0.1:5050'}\nservices:\n"
        f"  good: {{driver: directory, directory: {tmp_path}/good, capacity: 1GiB}}\n"
        f"  bad: {{driver: directory, directory: {tmp_path}/file/below}}\n"
        "profiles:\n  gold: {service: good}\n  silver: {service: bad}\n"
    )
    return path


def test_a_service_that_works_says_what_was_seen(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(monkeypatch, capsys, "service", "check", "good", "--config", str(config))
    assert status == 0
    assert "capacity of profile gold" in out
    assert "MISSING" not in out


def test_what_a_service_lacks_is_told_with_the_remedy(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(monkeypatch, capsys, "service", "check", "--config", str(config), "--format", "json")
    assert status == 3
    found = {(row["service"], row["passed"]) for row in json.loads(out)}
    assert found == {("good", True), ("bad", False)}
    (bad,) = [row for row in json.loads(out) if row["service"] == "bad"]
    assert "cannot be used" in bad["detail"]
    assert "make the directory" in bad["remedy"]


def test_a_service_that_is_not_there_is_told_with_those_that_are(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(monkeypatch, capsys, "service", "check", "godo", "--config", str(config))
    assert status == 3
    assert "good, bad" in err


def test_services_are_listed_with_what_draws_on_them(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(monkeypatch, capsys, "service", "list", "--config", str(config))
    assert status == 0
    assert "1 GiB" in out
    assert "gold" in out
