"""After an upgrade executors are replaced, one agent after the other."""

from __future__ import annotations

from polly_mesos.scheduler.renewal import Renewal


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.ended: list[str] = []
        self.possible = True
        self.renewal = Renewal("new.pyz", self._end, clock=lambda: self.now)

    def _end(self, agent_id: str) -> bool:
        if self.possible:
            self.ended.append(agent_id)
        return self.possible


def test_the_next_agent_has_its_turn_when_the_one_before_has_its_new_executor() -> None:
    world = World()
    for agent in ("a1", "a2"):
        world.renewal.reported(agent, "old.pyz")
    world.renewal.tick()
    world.renewal.tick()
    assert world.ended == ["a1"]
    world.renewal.reported("a1", "new.pyz")
    world.renewal.tick()
    assert world.ended == ["a1", "a2"]


def test_an_agent_whose_new_executor_does_not_come_does_not_hold_up_the_others_for_ever() -> None:
    world = World()
    for agent in ("a1", "a2"):
        world.renewal.reported(agent, "old.pyz")
    world.renewal.tick()
    world.now += 121
    world.renewal.tick()
    assert world.ended == ["a1", "a2"]


def test_an_executor_that_comes_back_with_the_old_build_is_not_ended_again_and_again() -> None:
    world = World()
    for _ in range(5):
        world.renewal.reported("a1", "old.pyz")
        world.renewal.tick()
        world.now += 130
    assert world.ended == ["a1"]


def test_what_runs_the_current_build_or_was_started_by_hand_is_left_alone() -> None:
    world = World()
    world.renewal.reported("a1", "new.pyz")
    world.renewal.reported("a2", "")
    world.renewal.tick()
    assert world.ended == []


def test_an_executor_that_cannot_be_ended_now_is_tried_again() -> None:
    world = World()
    world.possible = False
    world.renewal.reported("a1", "old.pyz")
    world.renewal.tick()
    world.possible = True
    world.renewal.tick()
    assert world.ended == ["a1"]
