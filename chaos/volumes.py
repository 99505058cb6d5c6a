"""What a framework of the workload knows of its volumes: what it asked for, what it saw, and what must be there."""

from __future__ import annotations

import enum
import threading
from dataclasses import dataclass
from pathlib import Path

from chaos import writer


class Stage(enum.StrEnum):
    """Life of a volume in the eyes of its framework.

    ASKED: a CREATE was sent, and nothing came of it that anybody could rely on. REAL: a task has used it, or Mesos has
    said that the CREATE is done; from here on it must not vanish. DOOMED: a DESTROY was sent, or the asking was given
    up; it may vanish, and where it shows it is destroyed again.
    """

    ASKED = "asked"
    REAL = "real"
    DOOMED = "doomed"


@dataclass(slots=True)
class Wanted:
    """One volume.

    :param id: its persistence id
    :param lifetime: after so many tasks it is destroyed
    :param asked: monotonic time at which the last CREATE was sent
    :param task: the task that uses it, empty where none does
    """

    id: str
    size_mb: int
    lifetime: int
    asked: float
    stage: Stage = Stage.ASKED
    task: str = ""
    tasks_run: int = 0


class Memory:
    """What the tasks have acknowledged, in files that nothing of the campaign breaks."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = threading.Lock()

    def was_used(self, volume: str) -> bool:
        """Whether a task has been on the volume: it must not be lost from then on."""
        return (self.directory / volume).exists()

    def acknowledged(self, volume: str) -> int:
        """How many records must be on it."""
        return len(writer.acknowledged(self.directory, volume))

    def is_verified(self, volume: str, round_number: int) -> bool:
        """Whether a task of that round has found everything on it."""
        try:
            lines = (self.directory / volume / "verified").read_text().split("\n")
        except FileNotFoundError:
            return False
        return str(round_number) in lines

    def report(self, volume: str, violation: str) -> None:
        """Note a violation that the framework itself has seen."""
        with self._lock:
            writer.note(self.directory, volume, "violations", violation)

    def violations(self) -> list[str]:
        """Everything that tasks and frameworks have complained of."""
        found = []
        for path in sorted(self.directory.glob("*/violations")):
            found += [f"volume {path.parent.name}: {line}" for line in path.read_text().splitlines()]
        return found

    def records(self) -> int:
        """How many records were ever acknowledged, on all volumes."""
        return sum(self.acknowledged(path.name) for path in self.directory.iterdir() if path.is_dir())
