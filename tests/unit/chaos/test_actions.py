"""Every kind of fault can be caused, and what it arms exists."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from chaos.actions import ACTIONS
from chaos.plan import NATURES, Fault, Kind, Target
from polly_mesos.faults import parse

ARMING = [kind for kind in Kind if NATURES[kind].target is Target.FAULT_POINTS]


def test_every_kind_has_its_nature_and_its_action() -> None:
    assert set(NATURES) == set(ACTIONS) == set(Kind)


class Armed:
    """Stands for the stage and its scheduler, and understands what is armed as Polly does."""

    def __init__(self) -> None:
        self.scheduler = self
        self.faults: list[int] = []

    def arm(self, faults: list[str]) -> None:
        self.faults.append(len(parse("\n".join(faults))))

    def start(self) -> None:
        """The scheduler is started again."""

    def away(self, name: str) -> Any:
        return nullcontext()


@pytest.mark.parametrize("kind", ARMING)
@pytest.mark.parametrize("choice", [0.0, 0.2, 0.5, 0.77, 0.9999])
def test_what_is_armed_exists_and_is_disarmed_again(kind: Kind, choice: float) -> None:
    armed: Any = Armed()
    with ACTIONS[kind](armed, Fault(kind, "fault points", 0.0, 1.0, choice)):
        assert armed.faults[-1] >= 1
    assert armed.faults[-1] == 0
