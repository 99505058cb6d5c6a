"""What a campaign tells in the end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from chaos.plan import Kind
from chaos.report import Outcome, percentile, write_docs


def outcome(seed: int = 7, violations: list[str] | None = None) -> Outcome:
    return Outcome(
        seed,
        "loop",
        faults=Counter({Kind.KILL_AGENT: 3, Kind.CUT_LINK: 1}),
        rounds=2,
        operations=Counter({"CREATE": 12, "record acknowledged": 3456}),
        recoveries=[1.0, 4.0],
        rests=[2.0, 8.0],
        violations=violations or [],
        seconds=90.0,
    )


def test_the_table_has_every_figure() -> None:
    rows = dict(outcome().rows())
    assert rows["rounds"] == "2"
    assert rows["faults"] == "4"
    assert rows["… agent killed"] == "3"
    assert "… driver slow" not in rows
    assert rows["CREATE"] == "12"
    assert rows["records synced and acknowledged"] == "3,456"
    assert rows["time to serve again, p50 / p99"] == "1.0 s / 4.0 s"
    assert rows["violations"] == "0"
    assert rows["duration"] == "1.5 min"


@pytest.mark.parametrize(("percent", "value"), [(50, 5), (99, 10), (100, 10), (1, 1)])
def test_percentiles_are_values_that_were_measured(percent: float, value: float) -> None:
    assert percentile(range(10, 0, -1), percent) == value


def test_without_a_round_there_is_no_time() -> None:
    assert percentile([], 50) == 0.0


def test_a_table_replaces_the_earlier_one_of_its_seed_and_leaves_the_others(tmp_path: Path) -> None:
    page = tmp_path / "chaos.md"
    page.write_text("# Title\n\nWords.\n")
    write_docs(page, outcome(1))
    write_docs(page, outcome(2))
    before = page.read_text()
    assert before.startswith("# Title\n\nWords.\n\n")
    write_docs(page, outcome(1, ["round 2: something"]))
    after = page.read_text()
    assert after.count("seed 1, driver") == after.count("seed 2, driver") == 1
    assert "- round 2: something" in after
    write_docs(page, outcome(1))
    assert page.read_text() == before
