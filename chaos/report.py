"""What a campaign has to tell in the end, on the terminal and in the documentation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaos.plan import Kind

_BEGIN, _END = "<!-- seed {seed} begins -->", "<!-- seed {seed} ends -->"
_OPERATIONS = {
    "RESERVE": "RESERVE",
    "CREATE": "CREATE",
    "LAUNCH": "LAUNCH",
    "DESTROY": "DESTROY",
    "UNRESERVE": "UNRESERVE",
    "task finished": "tasks that found all their data",
    "record acknowledged": "records synced and acknowledged",
}


@dataclass
class Outcome:
    """What happened in one campaign.

    :param kept: where its logs are, None where they are gone
    :param recoveries: seconds, one of each round: from the last healing until every agent is served again
    :param rests: seconds, one of each round: from the last healing until all is finished and all data was found
    :param leaked: images, loop devices and mounts that belong to no volume
    :param aborts: ends of an agent or the master that the campaign did not cause
    :param windows: ends of an agent or the master in a window of Mesos' own, after the campaign killed an executor
    """

    seed: int
    storage: str
    faults: Counter[Kind] = field(default_factory=Counter)
    rounds: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    recoveries: list[float] = field(default_factory=list)
    rests: list[float] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    leaked: int = 0
    aborts: int = 0
    windows: int = 0
    seconds: float = 0.0
    kept: Path | None = None

    def rows(self) -> list[tuple[str, str]]:
        """Everything that was counted, as name and figure."""
        rows = [("rounds", str(self.rounds)), ("faults", str(self.faults.total()))]
        rows += [(f"… {kind}", str(count)) for kind in Kind if (count := self.faults[kind])]
        rows += [(words, f"{self.operations[name]:,}") for name, words in _OPERATIONS.items()]
        rows += [
            ("time to serve again, p50 / p99", _both(self.recoveries)),
            ("time until all data was found, p50 / p99", _both(self.rests)),
            ("violations", str(len(self.violations))),
            ("volumes leaked", str(self.leaked)),
            ("aborts of an agent or the master", str(self.aborts)),
            ("… in a window of Mesos' own (see above)", str(self.windows)),
            ("duration", f"{self.seconds / 60:.1f} min"),
        ]
        return rows

    def markdown(self) -> str:
        """The table of this campaign as a section of a page."""
        lines = [f"| seed {self.seed}, driver `{self.storage}` | |", "| --- | ---: |"]
        lines += [f"| {name} | {figure} |" for name, figure in self.rows()]
        lines += ["", *(f"- {violation}" for violation in self.violations)]
        return "\n".join(lines).rstrip() + "\n"


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of all are not above (nearest rank); 0 where there are none."""
    if not values:
        return 0.0
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def _both(values: Sequence[float]) -> str:
    return f"{percentile(values, 50):.1f} s / {percentile(values, 99):.1f} s"


def write_docs(page: Path, outcome: Outcome) -> None:
    """Put the campaign's table into a page, in place of what an earlier one with that seed left there, else at the end.

    :raises OSError: the page cannot be written
    """
    begin, end = _BEGIN.format(seed=outcome.seed), _END.format(seed=outcome.seed)
    section = f"{begin}\n{outcome.markdown()}{end}\n"
    text = page.read_text()
    before, found, rest = text.partition(f"{begin}\n")
    after = rest.partition(f"{end}\n")[2]
    page.write_text(before + section + after if found else f"{text.rstrip()}\n\n{section}")
