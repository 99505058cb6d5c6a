"""What ``polly ledger check`` finds, and what ``show`` prints."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from polly_mesos.cli.ledger import ledger as command
from polly_mesos.errors import ConfigurationError
from polly_mesos.ledger import DestroyVolume
from polly_mesos.ledger.check import Severity, check
from polly_mesos.model import MB, Reclaim

if TYPE_CHECKING:
    from tests.unit.ledger.conftest import Desk

GB = 1024 * MB


@pytest.fixture
def busy(desk: Desk) -> Desk:
    """Something of everything: a published volume, a deleted one, a lease, a reservation."""
    desk.lease(10 * GB)
    desk.reserve(8 * GB)
    kept, gone = desk.create(2 * GB, "kept"), desk.create(3 * GB, "gone")
    desk.ledger.volume_created(kept.id, "vol-1")
    desk.ledger.publish(kept.id, "a1", "host1")
    desk.ledger.attached(kept.id, 1, {"device": "/dev/loop1"})
    desk.admit(DestroyVolume(gone.id, Reclaim.DELETE))
    return desk


def tamper(desk: Desk, *statements: str) -> None:
    connection = desk.ledger._write()._pooled.dbapi_connection
    assert connection is not None
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("PRAGMA ignore_check_constraints = ON")
    for statement in statements:
        connection.execute(statement)


def test_a_ledger_in_the_midst_of_its_work_is_clean(busy: Desk) -> None:
    assert check(busy.ledger) == []


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE pools SET capacity = 100", "pool gold has promised"),
        ("UPDATE holdings SET backed = backed - 4096 WHERE owner <> ''", "agent a1 waits for"),
        ("UPDATE volumes SET agent = 'a9'", "row .* refers to agents"),
        ("UPDATE publications SET volume = 'v9'", "row .* refers to volumes"),
        ("UPDATE publications SET generation = 2", "generation 2, its volume 1"),
        ("UPDATE volumes SET state = 'deleted' WHERE generation = 1", "published and deleted"),
        ("UPDATE volumes SET platform_id = ''", "ready and has no platform id"),
        ("UPDATE volumes SET persistence_id = 'same', state = 'creating'", "2 volumes of role marathon"),
        ("UPDATE volumes SET owner = ''", "belongs to nobody"),
        ("UPDATE verdicts SET id = 'twice' WHERE id = (SELECT min(id) FROM verdicts)", "recorded 2 times"),
        ("UPDATE volumes SET size = -1", "CHECK constraint failed"),
        ("UPDATE publications SET fenced = 1", "is fenced and attached"),
        ("UPDATE publications SET agent = 'a2'", "of agent a2 is offered by agent a1"),
        ("UPDATE volumes SET agent = NULL WHERE generation = 1", "of agent a1 is offered by nobody"),
    ],
)
def test_a_contradiction_is_found(busy: Desk, statement: str, words: str) -> None:
    begun = busy.ledger.begin("volume.create", "v1", {})
    tamper(busy, f"UPDATE intents SET id = 'twice' WHERE id = '{begun.id}'", statement)
    found = check(busy.ledger)
    assert found
    assert any(re.search(words, finding.what) for finding in found), found
    assert found[0].severity is Severity.ERROR
    assert all(finding.remedy for finding in found)


def test_an_old_intent_and_an_interrupted_format_are_worth_a_look(busy: Desk) -> None:
    (publication,) = busy.ledger.publications()
    busy.ledger.formatting(publication.volume, 1)
    busy.ledger.begin("volume.attach", publication.volume, {})
    assert check(busy.ledger) == []
    busy.ledger.unpublished(publication.volume, 1)
    busy.ledger.detached(publication.volume, 1)
    tamper(busy, "UPDATE intents SET created = created - 3600")
    assert [(finding.severity, finding.what.split(" ", 2)[2]) for finding in check(busy.ledger)] == [
        (Severity.WARNING, "was being formatted when its host let go of it"),
        (Severity.WARNING, check(busy.ledger)[1].what.split(" ", 2)[2]),
    ]
    assert "begun 60 minutes ago" in check(busy.ledger)[1].what
    assert len(check(busy.ledger, intent_age=7200)) == 1


@pytest.mark.parametrize("state", ["lost", "fenced"])
def test_what_a_dead_agent_still_has_is_worth_a_look(busy: Desk, state: str) -> None:
    tamper(busy, f"UPDATE agents SET state = '{state}' WHERE id = 'a1'")
    assert [(finding.severity, finding.code, finding.subject) for finding in check(busy.ledger)] == [
        (Severity.WARNING, "agent.dead-with-space", "a1"),
        (Severity.WARNING, "agent.dead-with-volumes", "a1"),
    ]
    tamper(busy, "UPDATE agents SET state = 'unreachable' WHERE id = 'a1'")
    assert check(busy.ledger) == []


def test_show_prints_everything_while_a_scheduler_runs(busy: Desk, path: Path) -> None:
    begun = busy.ledger.begin("volume.attach", "v1", {})
    shown = CliRunner().invoke(command, ["show", "--ledger", str(path)])
    assert shown.exit_code == 0, shown.output
    (publication,) = busy.ledger.publications()
    for word in ("cluster test", "gold", "100 GiB", publication.volume, "host1", "kept", begun.id, "marathon"):
        assert word in shown.output


def test_show_says_the_same_to_programs(busy: Desk, path: Path) -> None:
    shown = CliRunner().invoke(command, ["show", "--ledger", str(path), "--format", "json"])
    content = json.loads(shown.output)
    assert content["cluster"] == "test"
    assert content["pools"][0]["free"] == busy.free()
    assert {volume["persistence_id"] for volume in content["volumes"]} == {"kept", "gone"}
    assert [lease["size"] for lease in content["leases"]] == [2 * GB]


def test_check_exits_with_zero_only_where_the_ledger_is_clean(busy: Desk, path: Path) -> None:
    clean = CliRunner().invoke(command, ["check", "--ledger", str(path)])
    assert (clean.exit_code, clean.output) == (0, "The ledger is clean.\n")
    tamper(busy, "UPDATE publications SET generation = 2")
    found = CliRunner().invoke(command, ["check", "--ledger", str(path), "--format", "json"])
    assert found.exit_code == 1
    assert json.loads(found.output)[0]["severity"] == "error"


@pytest.mark.parametrize("name", ["show", "check"])
def test_exactly_one_ledger_has_to_be_named(name: str, path: Path) -> None:
    for arguments in ([name], [name, "--ledger", str(path), "--config", "polly.yml"]):
        result = CliRunner().invoke(command, arguments)
        assert isinstance(result.exception, ConfigurationError)
        assert "--ledger FILE" in result.exception.remedy


@pytest.mark.parametrize("name", ["show", "check"])
def test_help_has_examples(name: str) -> None:
    assert f"polly ledger {name} --" in " ".join(CliRunner().invoke(command, [name, "--help"]).output.split())
