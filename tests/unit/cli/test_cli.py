"""The command line: help with examples everywhere, and errors that say what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from polly_mesos.cli.main import main, polly
from polly_mesos.cli.output import human_size

NOWHERE = "http://127.0.0.1:9"


def commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command, as the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*words, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))


def leaves() -> list[tuple[str, ...]]:
    found = list(commands(polly))
    return [words for words in found if not any(other[: len(words)] == words and other != words for other in found)]


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run ``polly WORDS``; returns its exit status, stdout and stderr."""
    monkeypatch.setattr("sys.argv", ["polly", *words])
    status = 0
    try:
        main()
    except SystemExit as end:
        status = int(end.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize("words", leaves(), ids=" ".join)
def test_every_command_has_help_with_an_example(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(polly, [*words, "--help"])
    assert shown.exit_code == 0, shown.output
    assert "Example" in shown.output
    assert f"polly {words[0]}" in shown.output


def test_an_absent_scheduler_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(monkeypatch, capsys, "pool", "list", "--scheduler", NOWHERE)
    assert status != 0
    assert not out
    assert NOWHERE in err
    assert "polly serve" in err


def test_errors_are_json_for_programs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(monkeypatch, capsys, "pool", "list", "--scheduler", NOWHERE, "--format", "json")
    assert status != 0
    error = json.loads(err)["error"]
    assert error["code"] == "scheduler-unreachable"
    assert error["remedy"]


@pytest.mark.parametrize("size", ["0", "-1GiB", "10G", "many"])
def test_a_wrong_size_is_refused_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, size: str
) -> None:
    token = tmp_path / "token"
    token.write_text("x")
    options = ("--profile", "gold", "--role", "r", "--token-file", str(token), "--scheduler", NOWHERE)
    status, _, err = run(monkeypatch, capsys, "volume", "create", "--size", size, *options)
    assert status == 2
    assert size in err
    assert NOWHERE not in err


def test_every_mistake_of_a_configuration_is_told_with_its_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "polly.yml"
    file.write_text(
        "cluster: demo\n"
        "mesos: {master: nonsense}\n"
        "services:\n"
        "  local: {driver: lopo, directory: /x}\n"
        "profiles:\n"
        "  gold: {service: locl, filesystem: ext5}\n"
    )
    status, _, err = run(monkeypatch, capsys, "config", "check", str(file))
    assert status == 2
    for line, word in ((2, "nonsense"), (4, "loop"), (6, "ext5")):
        assert any(f":{line}:" in text and word in text for text in err.splitlines()), err


def test_an_unknown_command_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(monkeypatch, capsys, "volumes")
    assert status == 2
    assert "volumes" in err


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1536, "1.5 KiB"), (10 << 30, "10 GiB"), (3 << 60, "3072 PiB")])
def test_sizes_as_people_read_them(size: int, text: str) -> None:
    assert human_size(size) == text
