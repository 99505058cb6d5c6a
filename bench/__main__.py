"""Everything that is measured, as one table: ``python -m bench [--json]``.

Each figure stands beside one that was taken in the same run on the same machine, and their ratio: only ratios can be
compared between machines. Exit status 1 if something could not be measured.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from polly_mesos.errors import PollyError

Row = tuple[str, float, float, float]
"""What was measured, ours, what it is compared with, ours through the other."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A module of this package with a function ``run() -> list[Row]``.

    :param unit: of both figures
    :param against: what the second figure is
    :param goal: what the ratio should be
    """

    module: str
    unit: str
    against: str
    goal: str


BENCHMARKS = (
    Benchmark("bench.ledger", "operations/s", "an intent's row committed by sqlite3 alone", "at least 0.8"),
    Benchmark("bench.planner", "agent decisions/s", "the goal", "at least 1"),
    Benchmark("bench.publish", "s", "the same work by hand", "at most 1.5"),
    Benchmark("bench.launch", "s", "the same without a volume", ""),
    Benchmark("bench.recovery", "s", "what each row names", ""),
    Benchmark("bench.drivers_ebs", "volumes/s, or calls", "the bare SDK doing the same calls", "at least 0.9"),
    Benchmark("bench.drivers_gce", "volumes/s", "the bare SDK doing the same calls", "at least 0.9"),
    Benchmark("bench.drivers_cinder", "volumes/s", "the bare SDK doing the same calls", "at least 0.9"),
)


def main() -> int:
    """Measure, print, and tell by the exit status whether all could be measured."""
    parser = argparse.ArgumentParser(prog="bench", description="Measure how fast Polly is.")
    parser.add_argument("--json", action="store_true", help="print the figures for programs")
    known = {benchmark.module.removeprefix("bench."): benchmark for benchmark in BENCHMARKS}
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(known)}; all if none")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in known]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = [known[name] for name in arguments.names or known]

    results: dict[Benchmark, list[Row]] = {}
    problems: dict[str, str] = {}
    progress = Console(stderr=True)
    for benchmark in chosen:
        with progress.status(f"measuring {benchmark.module} ..."):
            try:
                results[benchmark] = list(importlib.import_module(benchmark.module).run())
            except ModuleNotFoundError as error:
                if error.name != benchmark.module:
                    raise
                problems[benchmark.module] = "there is no such module"
            except PollyError as error:
                problems[benchmark.module] = str(error)
    if arguments.json:
        print(json.dumps(_plain(results, problems), indent=2))
    else:
        Console().print(_table(results))
        for module, problem in problems.items():
            progress.print(f"[red]{module} could not be measured:[/red] {problem}")
    return 1 if problems else 0


def _plain(results: dict[Benchmark, list[Row]], problems: dict[str, str]) -> dict[str, object]:
    figures = [
        {
            "benchmark": benchmark.module,
            "name": name,
            "ours": ours,
            "other": other,
            "ratio": ratio,
            "unit": benchmark.unit,
            "against": benchmark.against,
            "goal": benchmark.goal,
        }
        for benchmark, rows in results.items()
        for name, ours, other, ratio in rows
    ]
    return {"figures": figures, "problems": problems}


def _table(results: dict[Benchmark, list[Row]]) -> Table:
    table = Table(title="How fast Polly is")
    table.add_column("measured")
    for column in ("ours", "other", "ratio", "should be"):
        table.add_column(column, justify="right", no_wrap=True)
    for benchmark, rows in results.items():
        table.add_row(f"[bold]{benchmark.unit}; other: {benchmark.against}[/bold]")
        for name, ours, other, ratio in rows:
            table.add_row(name, _number(ours), _number(other), f"{ratio:.2f}", benchmark.goal)
        table.add_section()
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.4g}"


if __name__ == "__main__":
    sys.exit(main())
