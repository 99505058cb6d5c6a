"""How the long steps here tell a person what they are doing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """What is being done now.

    :param text: one line for a person
    :param done: bytes done so far, 0 where the step is not counted
    :param total: bytes to do; None where unknown or not counted
    """

    text: str
    done: int = 0
    total: int | None = None


Progress = Callable[[Step], None]
"""Called with each step, from the thread that does the work; a counted step comes again and again as it advances."""


def ignore(_step: Step) -> None:
    """The progress of whoever does not want to see any."""
