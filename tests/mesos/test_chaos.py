"""A short fault campaign: the long one is ``make chaos``, see docs/chaos.md."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

import pytest

from chaos.campaign import Campaign
from chaos.plan import Kind
from chaos.report import Outcome
from polly_mesos.mesos.local.package import Mesos
from tests.leftovers import assert_nothing_left

pytestmark = [pytest.mark.mesos, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def directory(mesos: Mesos) -> Path:
    """Not below pytest's own directories, whose paths are long; with its logs, it stays where the test fails."""
    path = Path(tempfile.mkdtemp(prefix="polly-chaos-"))
    path.chmod(0o755)
    return path


def run(directory: Path, *, rounds: int, kinds: set[Kind] | None = None) -> Outcome:
    """A campaign; pytest shows its log where the test fails."""
    return Campaign(directory, 20, kinds=kinds, tell=logging.getLogger(__name__).info).run(rounds=rounds)


def test_nothing_is_lost_in_a_short_campaign(directory: Path) -> None:
    outcome = run(directory, rounds=3)
    assert outcome.violations == []
    assert outcome.rounds == 3
    assert outcome.faults.total() >= 12
    assert outcome.operations["task finished"] >= 3
    assert outcome.operations["record acknowledged"] >= 3
    assert (outcome.leaked, outcome.aborts) == (0, 0)
    assert_nothing_left(directory)
    shutil.rmtree(directory)


def test_a_campaign_sees_what_is_lost(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task whose records are not on its volume acknowledges them all the same: the next task must say so."""
    forgetful = Path(__file__).with_name("forgetful_writer.py")
    monkeypatch.setattr("chaos.framework._WRITER", forgetful)
    outcome = run(directory, rounds=2, kinds={Kind.KILL_EXECUTOR})
    assert any("data lost" in violation for violation in outcome.violations)
    assert_nothing_left(directory)
    shutil.rmtree(directory)
