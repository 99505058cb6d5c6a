"""How the demo speaks while it runs: with colour and a spinner on a terminal, in plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.status import Status
from rich.text import Text

from polly_mesos.demo.report import Report
from polly_mesos.demo.steps import Step, World


class Narrator:
    """Tells each step when it is reached, and what is being waited for.

    :param stream: where to
    """

    def __init__(self, stream: TextIO) -> None:
        self._terminal = stream.isatty()
        self.console = Console(file=stream, highlight=False, soft_wrap=True, no_color=not self._terminal)
        self._status: Status | None = None

    def __enter__(self) -> Narrator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop_waiting()

    def say(self, text: str) -> None:
        """A line of its own."""
        self.console.print(text, markup=False)

    def note(self, text: str) -> None:
        """Something beside the steps."""
        self.console.print(Text(f"          {text}", style="dim"))

    def waiting(self, text: str) -> None:
        """What is being waited for now; shown on a terminal only."""
        self._stop_waiting()
        if self._terminal:
            self._status = self.console.status(text)
            self._status.start()

    def reached(self, title: str, detail: str, look: str, seconds: float) -> None:
        """A step is done.

        :param seconds: since the demo began
        """
        self._stop_waiting()
        line = Text(f"{seconds:7.1f} s ", style="dim")
        line.append(title, style="bold").append(f": {detail}", style="default")
        self.console.print(line)
        self.console.print(Text(f"          see: {look}", style="dim"))

    def step(self, step: Step, world: World, detail: str, seconds: float) -> None:
        """As :meth:`reached`, for one of the listed steps."""
        self.reached(step.title, detail, step.look(world), seconds)

    def finish(self, report: Report, addresses: Mapping[str, str]) -> None:
        """The tables, and where everything is that was left running."""
        self._stop_waiting()
        report.print(self.console)
        if addresses:
            self.say("\nEverything is left running:")
            for name, address in addresses.items():
                self.say(f"  {name:10}{address}")
        else:
            self.say("\nNothing is left: no process, mount, loop device or file.")

    def _stop_waiting(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
