"""What came of the demo: tables for people, one JSON document for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from rich.console import Console
from rich.table import Table

from polly_mesos.cli.output import human_size
from polly_mesos.demo.observe import Space
from polly_mesos.model import Json


@dataclass(frozen=True)
class Reached:
    """A step that was reached.

    :param at: seconds since the demo began
    :param took: seconds since the step before it
    """

    name: str
    title: str
    detail: str
    at: float
    took: float


@dataclass
class Report:
    """All that is told at the end. Sizes are bytes.

    :param restarts: how often the scheduler half had to be started again
    :param ledger: what ``polly ledger check`` said
    """

    isolation: str = ""
    driver: str = ""
    steps: list[Reached] = field(default_factory=list)
    volume: Json = field(default_factory=dict)
    before: Space | None = None
    during: Space | None = None
    after: Space | None = None
    restarts: int = 0
    ledger: str = ""

    def reach(self, name: str, title: str, detail: str, at: float) -> None:
        """Note a step."""
        took = at - (self.steps[-1].at if self.steps else 0.0)
        self.steps.append(Reached(name, title, detail, round(at, 3), round(took, 3)))

    def as_json(self) -> Json:
        """The report for programs."""
        capacity = {
            name: asdict(space)
            for name, space in (("before", self.before), ("during", self.during), ("after", self.after))
            if space is not None
        }
        return {
            "isolation": self.isolation,
            "driver": self.driver,
            "seconds": self.steps[-1].at if self.steps else 0.0,
            "steps": [asdict(step) for step in self.steps],
            "volume": self.volume,
            "capacity": capacity,
            "restarts": self.restarts,
            "ledger": self.ledger,
        }

    def print(self, console: Console) -> None:
        """The report for people."""
        console.print()
        console.print(self._steps_table())
        console.print()
        console.print(self._capacity_table())
        console.print()
        publication = self.volume.get("publication") or {}
        facts = {
            "Volume": f"{self.volume['id']}, {human_size(self.volume['size'])}, profile {self.volume['profile']}",
            "Persistence id": self.volume["persistence_id"],
            "Agent": self.volume["agent"],
            "Mounted": f"{publication.get('device') or 'a directory'} at {publication.get('target') or 'unknown'}",
            "Ledger": self.ledger,
        }
        for name, fact in facts.items():
            console.print(f"{name + ':':16}{fact}", markup=False)

    def _steps_table(self) -> Table:
        table = Table("STEP", box=None, pad_edge=False, header_style="bold")
        table.add_column("AT", justify="right")
        table.add_column("TOOK", justify="right")
        for step in self.steps:
            table.add_row(step.title, f"{step.at:.1f} s", f"{step.took:.1f} s")
        return table

    def _capacity_table(self) -> Table:
        caption = "ON OFFER and CLAIMED as the Mesos master has it, the others as Polly's ledger has it"
        table = Table(
            "CAPACITY", box=None, pad_edge=False, header_style="bold", caption=caption, caption_justify="left"
        )
        headings = {
            "capacity": "POOL",
            "leased": "LEASED",
            "reserved": "RESERVED",
            "volumes": "VOLUMES",
            "free": "FREE",
            "offered": "ON OFFER",
            "claimed": "CLAIMED",
        }
        for heading in headings.values():
            table.add_column(heading, justify="right")
        for name, space in (("before", self.before), ("during", self.during), ("after", self.after)):
            if space is not None:
                table.add_row(name, *(human_size(getattr(space, part)) for part in headings))
        return table
