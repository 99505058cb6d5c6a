"""What is to go wrong is decided by the seed alone, and the faults of a round do not undo each other."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.plan import NATURES, SPREAD, Kind, Round, Target, draw, draw_round

AGENTS = ("agent-1", "agent-2", "agent-3")
seeds = st.integers(0, 2**32)
numbers = st.integers(1, 10_000)
some_kinds = st.sets(st.sampled_from(Kind), min_size=1)


def untimed(function: Callable[..., None]) -> Callable[..., None]:
    """Other work on this machine is no failure."""
    return settings(deadline=None)(function)


@untimed
@given(seeds, numbers, some_kinds)
def test_the_same_seed_gives_the_same_round(seed: int, number: int, kinds: set[Kind]) -> None:
    backwards = sorted(kinds, key=lambda kind: kind.name, reverse=True)
    assert draw_round(seed, number, kinds, AGENTS) == draw_round(seed, number, backwards, AGENTS[::-1])


def test_seeds_and_rounds_differ() -> None:
    rounds = {draw_round(seed, number, Kind, AGENTS).faults for seed in range(5) for number in range(1, 6)}
    assert len(rounds) == 25


@untimed
@given(seeds, numbers, some_kinds)
def test_only_what_was_allowed_is_drawn_and_every_round_has_a_fault(seed: int, number: int, kinds: set[Kind]) -> None:
    drawn = draw_round(seed, number, kinds, AGENTS)
    assert drawn.faults
    assert {fault.kind for fault in drawn.faults} <= kinds
    for fault in drawn.faults:
        nature = NATURES[fault.kind]
        assert 0 <= fault.at <= SPREAD
        assert nature.shortest - 0.01 <= fault.lasts <= nature.longest + 0.01
    assert list(drawn.faults) == sorted(drawn.faults, key=lambda fault: fault.at)


@untimed
@given(seeds, numbers)
def test_healing_one_fault_never_heals_another(seed: int, number: int) -> None:
    for one, other in itertools.combinations(draw_round(seed, number, Kind, AGENTS).faults, 2):
        same = set(one.target.split("|")) == set(other.target.split("|"))
        if same and NATURES[one.kind].target == NATURES[other.kind].target:
            assert one.ends < other.at or other.ends < one.at


@untimed
@given(seeds)
def test_links_have_two_different_ends(seed: int) -> None:
    ends = {*AGENTS, "master", "scheduler"}
    for fault in draw_round(seed, 1, {Kind.CUT_LINK}, AGENTS).faults:
        one, other = fault.target.split("|")
        assert one != other
        assert {one, other} <= ends


def test_a_long_campaign_has_every_kind_and_every_target() -> None:
    faults = [fault for drawn in draw(1, Kind, AGENTS, faults=500) for fault in drawn.faults]
    counted = Counter(fault.kind for fault in faults)
    assert set(counted) == set(Kind)
    assert min(counted.values()) >= 5
    assert {fault.target for fault in faults if NATURES[fault.kind].target is Target.AGENT} == set(AGENTS)


@untimed
@given(seeds, st.integers(1, 100))
def test_a_campaign_has_as_many_faults_as_were_asked_for_and_no_round_too_many(seed: int, faults: int) -> None:
    rounds = list(draw(seed, Kind, AGENTS, faults=faults))
    assert _count(rounds) >= faults > _count(rounds[:-1])


@untimed
@given(seeds, st.integers(1, 20))
def test_rounds_that_are_asked_for_by_number_are_the_first_ones_of_a_longer_campaign(seed: int, rounds: int) -> None:
    longer = draw(seed, Kind, AGENTS, faults=10_000)
    assert list(draw(seed, Kind, AGENTS, rounds=rounds)) == list(itertools.islice(longer, rounds))


def _count(rounds: list[Round]) -> int:
    return sum(len(drawn.faults) for drawn in rounds)
