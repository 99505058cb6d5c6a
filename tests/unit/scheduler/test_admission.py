"""What becomes of the operations that frameworks send, and what is advertised after each."""

from __future__ import annotations

import dataclasses
import json
import uuid
from typing import Any

import pytest

from polly_mesos.agent_api import Application, Verdict
from polly_mesos.ledger import Ledger
from polly_mesos.mesos.resources import apply, normalise
from polly_mesos.model import MB, Offering, VolumeState
from polly_mesos.scheduler.admission import Admission
from polly_mesos.scheduler.advertisement import resources_of
from tests.unit.scheduler.conftest import AGENT, GOLD

LABELS = {"labels": [{"key": "marathon_framework_id", "value": "f"}, {"key": "marathon_task_id", "value": "pg.1"}]}
RESERVATION = {"type": "DYNAMIC", "role": "marathon", "principal": "marathon", "labels": LABELS}


def canonical(resources: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(normalise(resource), sort_keys=True) for resource in resources)


class Agent:
    """Believes what a Mesos agent would: applies operations before it passes them on."""

    def __init__(self, ledger: Ledger, profile: Any = GOLD, *, shared: bool = False) -> None:
        self.ledger = ledger
        self.profiles = {profile.name: profile}
        self.volumes: list[str] = []
        self.admission = Admission(ledger, self.profiles, shared=shared, on_volume=self.volumes.append)
        self.view = {"gold": 9500 * MB} if shared else None
        self.totals = self.advertised()

    def advertised(self) -> list[dict[str, Any]]:
        return resources_of(self.ledger, AGENT, self.profiles, self.view)

    def send(self, kind: str, body: dict[str, Any], *, expect: str = "OPERATION_FINISHED") -> Verdict:
        info = {"type": kind, kind.lower(): body}
        verdict = self.admission.apply(Application(str(uuid.uuid4()), info, "framework-1"), AGENT)
        assert verdict.state == expect, verdict.message
        if expect == "OPERATION_FINISHED":
            self.totals = apply(self.totals, info, list(verdict.converted))
        return verdict

    def assert_agrees(self) -> None:
        """What the agent believes is, bit for bit, what the ledger would advertise."""
        assert canonical(self.totals) == canonical(self.advertised())


@pytest.fixture
def agent(ledger: Ledger) -> Agent:
    return Agent(ledger)


def pool_disk(size_mb: float, *reservations: dict[str, Any]) -> dict[str, Any]:
    disk: dict[str, Any] = {
        "name": "disk",
        "type": "SCALAR",
        "scalar": {"value": size_mb},
        "disk": {
            "source": {"type": "PATH", "path": {"root": "/polly/gold"}, "profile": "gold", "vendor": "polly.gold"}
        },
    }
    if reservations:
        disk["reservations"] = list(reservations)
    return disk


def volume_disk(size_mb: float, name: str = "pg#data#1") -> dict[str, Any]:
    disk = pool_disk(size_mb, RESERVATION)
    disk["disk"] |= {
        "persistence": {"id": name, "principal": "marathon"},
        "volume": {"mode": "RW", "container_path": "data"},
    }
    return disk


def test_the_whole_way_of_a_volume_keeps_agent_and_ledger_agreed(agent: Agent, ledger: Ledger) -> None:
    agent.send("RESERVE", {"resources": [pool_disk(512, RESERVATION)]})
    agent.assert_agrees()
    agent.send("CREATE", {"volumes": [volume_disk(512)]})
    agent.assert_agrees()
    (volume,) = ledger.volumes(agent="a1")
    assert (volume.size, volume.state, volume.persistence_id) == (512 * MB, VolumeState.CREATING, "pg#data#1")
    assert agent.volumes == [volume.id]
    ledger.volume_created(volume.id, "platform-1")
    agent.send("DESTROY", {"volumes": [volume_disk(512)]})
    agent.assert_agrees()
    assert ledger.volume(volume.id).state is VolumeState.DELETING
    agent.send("UNRESERVE", {"resources": [pool_disk(512, RESERVATION)]})
    ledger.volume_deleted(volume.id)
    agent.assert_agrees()
    (lease,) = ledger.leases("a1")
    assert lease.size == 6000 * MB


def test_an_operation_that_comes_twice_is_judged_once(agent: Agent, ledger: Ledger) -> None:
    info = {"type": "RESERVE", "reserve": {"resources": [pool_disk(512, RESERVATION)]}}
    application = Application(str(uuid.uuid4()), info, "framework-1")
    first = agent.admission.apply(application, AGENT)
    assert agent.admission.apply(application, AGENT) == first
    (reservation,) = ledger.reservations("a1")
    assert reservation.size == 512 * MB


def test_more_than_the_lease_is_refused_and_nothing_changes(agent: Agent, ledger: Ledger) -> None:
    verdict = agent.send("RESERVE", {"resources": [pool_disk(6001, RESERVATION)]}, expect="OPERATION_FAILED")
    assert "6001" in verdict.message or str(6001 * MB) in verdict.message
    agent.assert_agrees()
    assert not ledger.reservations("a1")


def test_several_resources_are_admitted_together_or_not_at_all(agent: Agent, ledger: Ledger) -> None:
    other = {**RESERVATION, "principal": "somebody"}
    both = [pool_disk(100, RESERVATION), pool_disk(6000, other)]
    agent.send("RESERVE", {"resources": both}, expect="OPERATION_FAILED")
    assert not ledger.reservations("a1")
    agent.send("RESERVE", {"resources": [pool_disk(100, RESERVATION), pool_disk(200, other)]})
    agent.assert_agrees()


@pytest.mark.parametrize(
    ("size_mb", "says"),
    [(0.5, "whole number"), (0, "positive"), (-1, "at least 0"), (100.25, "101")],
)
def test_sizes_that_are_no_whole_mb_are_refused(agent: Agent, size_mb: float, says: str) -> None:
    resources = {"resources": [pool_disk(size_mb, RESERVATION)]}
    assert says in agent.send("RESERVE", resources, expect="OPERATION_FAILED").message


def test_a_volume_between_the_steps_of_its_platform_is_refused_with_the_next_size(ledger: Ledger) -> None:
    agent = Agent(ledger, dataclasses.replace(GOLD, granularity=1024 * MB))
    agent.send("RESERVE", {"resources": [pool_disk(1500, RESERVATION)]})
    verdict = agent.send("CREATE", {"volumes": [volume_disk(1500)]}, expect="OPERATION_FAILED")
    assert "steps of 1024 MB" in verdict.message
    assert "ask for 2048 MB" in verdict.message
    assert not ledger.volumes(agent="a1")
    agent.send("CREATE", {"volumes": [volume_disk(1024)]})


@pytest.mark.parametrize(("size_mb", "says"), [(8, "at least 16 MB"), (5000, "at most 4096 MB")])
def test_a_volume_outside_the_profile_is_refused(agent: Agent, size_mb: int, says: str) -> None:
    agent.send("RESERVE", {"resources": [pool_disk(size_mb, RESERVATION)]})
    verdict = agent.send("CREATE", {"volumes": [volume_disk(size_mb)]}, expect="OPERATION_FAILED")
    assert says in verdict.message
    agent.assert_agrees()


def test_a_persistence_id_is_not_used_twice(agent: Agent) -> None:
    agent.send("RESERVE", {"resources": [pool_disk(200, RESERVATION)]})
    agent.send("CREATE", {"volumes": [volume_disk(100)]})
    agent.send("CREATE", {"volumes": [volume_disk(100)]}, expect="OPERATION_FAILED")
    agent.assert_agrees()


def test_a_lone_unreserve_is_understood(agent: Agent) -> None:
    agent.send("RESERVE", {"resources": [pool_disk(200, RESERVATION)]})
    agent.send("UNRESERVE", {"resources": [pool_disk(150, RESERVATION)]})
    agent.assert_agrees()


def test_refined_reservations_keep_their_depth(agent: Agent) -> None:
    inner = {"type": "DYNAMIC", "role": "marathon/eng", "principal": "x"}
    agent.send("RESERVE", {"resources": [pool_disk(200, RESERVATION)]})
    agent.send("RESERVE", {"resources": [pool_disk(200, RESERVATION, inner)]})
    agent.assert_agrees()
    agent.send("UNRESERVE", {"resources": [pool_disk(200, RESERVATION, inner)]})
    agent.assert_agrees()


def test_an_unknown_profile_is_refused_by_name(agent: Agent) -> None:
    disk = pool_disk(100, RESERVATION)
    disk["disk"]["source"]["profile"] = "platinum"
    assert "platinum" in agent.send("RESERVE", {"resources": [disk]}, expect="OPERATION_FAILED").message


def test_growing_a_volume_is_refused_with_what_is_possible(agent: Agent) -> None:
    verdict = agent.send("GROW_VOLUME", {"volume": volume_disk(100)}, expect="OPERATION_FAILED")
    assert "GROW_VOLUME" in verdict.message
    assert "RESERVE" in verdict.message


def test_raw_disks_become_mount_disks_and_back(ledger: Ledger) -> None:
    import dataclasses

    agent = Agent(ledger, dataclasses.replace(GOLD, offering=Offering.RAW))
    (pool,) = agent.advertised()
    assert pool["disk"]["source"]["type"] == "RAW"
    part = {**pool, "scalar": {"value": 256.0}}
    verdict = agent.send("CREATE_DISK", {"source": part, "target_type": "MOUNT"})
    agent.assert_agrees()
    (mount,) = verdict.converted
    (volume,) = ledger.volumes(agent="a1")
    assert mount["disk"]["source"]["id"] == volume.id
    reserved = {**mount, "reservations": [RESERVATION]}
    agent.send("RESERVE", {"resources": [reserved]})
    agent.assert_agrees()
    persistent = {**reserved, "disk": {**mount["disk"], "persistence": {"id": "db"}, "volume": {"mode": "RW"}}}
    agent.send("CREATE", {"volumes": [persistent]})
    agent.assert_agrees()
    agent.send("DESTROY_DISK", {"source": mount}, expect="OPERATION_FAILED")
    agent.send("CREATE_DISK", {"source": part, "target_type": "BLOCK"}, expect="OPERATION_FAILED")


def test_shared_pools_are_judged_by_what_is_free(ledger: Ledger) -> None:
    from polly_mesos.model import LeaseChange

    ledger.apply_leases([LeaseChange("gold", "a1", 6000 * MB, 0)])
    agent = Agent(ledger, shared=True)
    agent.send("RESERVE", {"resources": [pool_disk(9000, RESERVATION)]})
    agent.send("RESERVE", {"resources": [pool_disk(2000, RESERVATION)]}, expect="OPERATION_FAILED")
    agent.send("UNRESERVE", {"resources": [pool_disk(9000, RESERVATION)]})
    agent.send("RESERVE", {"resources": [pool_disk(9500, RESERVATION)]})
    (reservation,) = ledger.reservations("a1")
    assert reservation.backed == 9500 * MB


# Marathon's way -----------------------------------------------------------------------------------------------------


@pytest.fixture
def adopting(ledger: Ledger) -> Agent:
    return Agent(ledger, dataclasses.replace(GOLD, adopt=True))


def abandoned(agent: Agent, name: str = "pg#data#1", size_mb: float = 64) -> str:
    """A volume whose agent is gone for good and which nobody offers; returns its id."""
    agent.send("RESERVE", {"resources": [pool_disk(size_mb, RESERVATION)]})
    agent.send("CREATE", {"volumes": [volume_disk(size_mb, name)]})
    volume = agent.volumes.pop()
    agent.ledger.volume_created(volume, f"platform-{volume}")
    agent.ledger.move_volume(volume, "")
    return volume


def create(agent: Agent, name: str, size_mb: float = 64) -> str:
    """What the framework's next CREATE makes; returns the volume's id."""
    agent.totals = agent.advertised()
    agent.send("RESERVE", {"resources": [pool_disk(size_mb, RESERVATION)]})
    agent.send("CREATE", {"volumes": [volume_disk(size_mb, name)]})
    agent.assert_agrees()
    return agent.volumes.pop()


def test_a_successor_gets_the_volume_that_was_abandoned_and_its_space_is_not_taken_twice(adopting: Agent) -> None:
    volume = abandoned(adopting)
    free = adopting.ledger.balance()["gold"].free
    assert create(adopting, "pg#data#2") == volume
    found = adopting.ledger.volume(volume)
    assert (found.persistence_id, found.agent, found.state) == ("pg#data#2", "a1", VolumeState.READY)
    assert adopting.ledger.balance()["gold"].free == free + 64 * MB, "its reservation's bytes are free again"
    (event,) = adopting.ledger.events(kinds=["volume.adopted"])
    assert "pg#data#1" in event.message
    assert "pg#data#2" in event.message


def test_a_successor_that_asks_again_gets_the_same_answer(adopting: Agent) -> None:
    volume = abandoned(adopting)
    adopting.totals = adopting.advertised()
    adopting.send("RESERVE", {"resources": [pool_disk(64, RESERVATION)]})
    application = Application(
        str(uuid.uuid4()), {"type": "CREATE", "create": {"volumes": [volume_disk(64, "pg#data#2")]}}, "framework-1"
    )
    first = adopting.admission.apply(application, AGENT)
    assert adopting.admission.apply(application, AGENT) == first
    assert [known.id for known in adopting.ledger.volumes(agent="a1")] == [volume]


@pytest.mark.parametrize(
    ("name", "size_mb"),
    [("pg#logs#2", 64), ("other#data#2", 64), ("pg#data#2", 65), ("plain", 64), ("pg#data", 64)],
    ids=["another path", "another app", "another size", "no such form", "too short"],
)
def test_what_is_no_successor_gets_an_empty_volume(adopting: Agent, name: str, size_mb: float) -> None:
    volume = abandoned(adopting)
    assert create(adopting, name, size_mb) != volume
    assert adopting.ledger.volume(volume).agent == ""


def test_another_framework_of_the_role_does_not_get_the_volume(adopting: Agent) -> None:
    volume = abandoned(adopting)
    adopting.totals = adopting.advertised()
    adopting.send("RESERVE", {"resources": [pool_disk(64, RESERVATION)]})
    info = {"type": "CREATE", "create": {"volumes": [volume_disk(64, "pg#data#2")]}}
    verdict = adopting.admission.apply(Application(str(uuid.uuid4()), info, "framework-2"), AGENT)
    assert verdict.state == "OPERATION_FINISHED"
    assert adopting.volumes.pop() != volume


def test_nothing_is_adopted_unless_the_profile_says_so(agent: Agent) -> None:
    volume = abandoned(agent)
    assert create(agent, "pg#data#2") != volume


def test_a_volume_that_an_agent_still_offers_is_never_adopted(adopting: Agent) -> None:
    adopting.send("RESERVE", {"resources": [pool_disk(64, RESERVATION)]})
    adopting.send("CREATE", {"volumes": [volume_disk(64, "pg#data#1")]})
    volume = adopting.volumes.pop()
    adopting.ledger.volume_created(volume, "platform-1")
    assert create(adopting, "pg#data#2") != volume
