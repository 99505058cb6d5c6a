"""The failure stories of Mesos' own storage provider, told with ours on the real agent.

==================================================  ===================================================================
story                                               test
==================================================  ===================================================================
create and destroy with recovery                    ``test_a_volumes_life_with_both_sides_restarted_between_its_steps``
changed metadata                                    ``unit/executor/test_publisher.py``:
                                                    ``test_a_volume_that_is_attached_in_another_way_is_mapped_anew``
duplicated volumes                                  ``test_two_volumes_of_one_name_are_two_and_neither_gets_lost``
profile appeared and disappeared                    ``test_profiles_come_and_go_between_two_starts``
agent failover with a killed plugin                 ``test_an_agent_comes_back_and_its_executor_was_killed_meanwhile``
agent registered with a new id                      ``test_provider_real.py``:
                                                    ``test_an_agent_that_is_killed_gets_its_provider_back``
dropped operation reconciled                        ``test_an_operation_that_never_arrived_is_told_to_be_dropped``
status update retried to the agent                  ``test_provider_real.py``:
                                                    ``test_a_status_of_before_a_restart_waits_for_the_totals_...``
status update retried to the scheduler              ``test_a_status_comes_again_until_the_framework_acknowledges_it``
retry with exponential backoff                      ``unit/mesos/test_provider_pace.py``:
                                                    ``test_a_status_is_sent_again_after_waits_that_double``
pre-provisioned volumes                             ``test_scheduler_half.py``:
                                                    ``test_a_pre_created_volume_is_offered_to_its_role_as_a_mount_disk``
==================================================  ===================================================================
"""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from polly_mesos.agent_api import Application, Verdict
from polly_mesos.mesos import resources as arithmetic
from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.mesos.provider import ProviderState, ResourceProvider
from polly_mesos.model import Json

from .conftest import ClusterFactory
from .framework import Framework, wait_until
from .operations import OperationFramework, create, destroy, reserve, unreserve
from .polly import Polly
from .test_provider_real import OWNED, SECONDS, Bench, Owner, offer_with, pool, sever
from .test_scheduler_half import disks

pytestmark = [pytest.mark.mesos, pytest.mark.slow]


@pytest.fixture
def bench(cluster_factory: ClusterFactory, tmp_path: Path) -> Iterator[Bench]:
    """An agent of its own, which the test may end."""
    cluster = cluster_factory(agents=1)
    made = Bench(cluster, cluster.agents[0], tmp_path)
    yield made
    made.close()


class SignallingOwner(Owner):
    """Tells when an operation comes."""

    def __init__(self) -> None:
        super().__init__()
        self.operation_came = threading.Event()

    def apply(self, application: Application) -> Verdict:
        answer = super().apply(application)
        self.operation_came.set()
        return answer


def with_id(operation: Json) -> Json:
    """The operation with an id, so that the framework hears of its outcome."""
    return {**operation, "id": {"value": str(uuid.uuid4())}}


def volume(size: float, name: str, owner: str = OWNED) -> Json:
    """A volume as the totals have it."""
    mounted = {"container_path": "data", "mode": "RW"}
    return pool(size, owner=owner, disk={"persistence": {"id": name}, "volume": mounted})


def restart_both(bench: Bench, provider: ResourceProvider, owner: Owner, *totals: Json) -> ResourceProvider:
    """A new executor process and a new agent process, both with what the ones before them left."""
    known = provider.identity
    sever(provider)
    provider.stop()
    bench.local.kill()
    bench.local.start()
    return bench.ready(owner, *totals, id=known.id, agent_id=known.agent_id)


def test_a_volumes_life_with_both_sides_restarted_between_its_steps(bench: Bench) -> None:
    owner = SignallingOwner()
    provider = bench.ready(owner, pool(100))
    steps = (
        (lambda disk: reserve(disk, 30), {}, (pool(70), pool(30, owner=OWNED))),
        (lambda disk: create(disk, 30, "v"), {"role": "test"}, (pool(70), volume(30, "v"))),
        (destroy, {"persistence": "v"}, (pool(70), pool(30, owner=OWNED))),
        (unreserve, {"role": "test"}, (pool(100),)),
    )
    with Framework(bench.cluster.master) as framework:
        for count, (operation, wanted, totals) in enumerate(steps, 1):
            while len(owner.applied) < count:  # what was offered before the restarts is worth nothing after them
                offer, disk = _offered(framework, bench, **wanted)
                framework.accept(offer, operation(disk))
                owner.operation_came.wait(SECONDS / 6)
                owner.operation_came.clear()
            wait_until(lambda expected=count: len(owner.settled) == expected)
            bench.wait_for_totals(*totals)
            provider = restart_both(bench, provider, owner, *totals)
            bench.wait_for_totals(*totals)
    assert [one.info["type"] for one in owner.applied] == ["RESERVE", "CREATE", "DESTROY", "UNRESERVE"]
    assert bench.local.alive()


def _offered(framework: Framework, bench: Bench, role: str = "", persistence: str = "") -> tuple[Json, Json]:
    """An offer with the provider's disk of that role and persistence id."""

    def look() -> tuple[Json, Json] | None:
        offer = framework.offer(bench.agent.agent_id())
        for disk in offer["resources"]:
            named = arithmetic.provider_of(disk) and arithmetic.persistence_of(disk) == persistence
            if named and (persistence or arithmetic.role_of(disk) == role):
                return offer, disk
        framework.accept(offer)
        return None

    found: tuple[Json, Json] = wait_until(look)
    return found


def test_two_volumes_of_one_name_are_two_and_neither_gets_lost(bench: Bench) -> None:
    others = arithmetic.owner_of({"role": "others", "reservation": {}})
    totals = (pool(40), volume(30, "data"), volume(30, "data", others))
    provider = bench.ready(Owner(), *totals)
    bench.wait_for_totals(*totals)
    with Framework(bench.cluster.master, roles=["others"]) as framework:
        _, disk = _offered(framework, bench, persistence="data")
        assert arithmetic.role_of(disk) == "others"
    restart_both(bench, provider, Owner(), *totals)
    bench.wait_for_totals(*totals)
    assert bench.local.alive()


def test_an_agent_comes_back_and_its_executor_was_killed_meanwhile(bench: Bench) -> None:
    totals = (pool(70), volume(30, "v"))
    provider = bench.ready(Owner(), *totals)
    bench.local.kill()
    provider.stop()
    bench.local.start()
    assert bench.totals() == [], "nobody speaks for the disks"
    successor = bench.ready(Owner(), *totals, id=provider.identity.id, agent_id=provider.identity.agent_id)
    bench.wait_for_totals(*totals)
    assert successor.identity == provider.identity
    with Framework(bench.cluster.master) as framework:
        _offered(framework, bench, persistence="v")


def test_an_operation_that_never_arrived_is_told_to_be_dropped(bench: Bench) -> None:
    owner = Owner()
    provider = bench.ready(owner, pool(100))
    with OperationFramework(bench.cluster.master) as framework:
        offer, disk = offer_with(framework, bench)
        lost = with_id(reserve(disk, 30))
        os.kill(bench.local.pid, signal.SIGSTOP)
        framework.accept(offer, lost)
        wait_until(lambda: lost["id"]["value"] in bench.cluster.master_log.read_text())
        bench.local.kill()
        bench.local.start()
        assert provider.wait_for_state(ProviderState.READY, SECONDS)
        framework.reconcile(lost["id"]["value"], bench.agent.agent_id(), provider.identity.id)
        status = framework.await_outcome(lost["id"]["value"])
        assert status["state"] in ("OPERATION_DROPPED", "OPERATION_UNKNOWN")
        assert owner.applied == []
        bench.wait_for_totals(pool(100))
        _, disk = offer_with(framework, bench)
        assert arithmetic.megabytes(disk) == 100


def test_a_status_comes_again_until_the_framework_acknowledges_it(bench: Bench) -> None:
    owner, seen = Owner(), []

    def at_the_second_time(status: Json) -> bool:
        seen.append(status["uuid"]["value"])
        return len(seen) > 1

    bench.ready(owner, pool(100))
    with OperationFramework(bench.cluster.master, acknowledge=at_the_second_time) as framework:
        offer, disk = offer_with(framework, bench)
        asked = with_id(reserve(disk, 30))
        framework.accept(offer, asked)
        assert framework.await_outcome(asked["id"]["value"])["state"] == "OPERATION_FINISHED"
        assert owner.settled == []
        assert framework.await_outcome(asked["id"]["value"], 2)["state"] == "OPERATION_FINISHED"
        wait_until(lambda: owner.settled == [owner.applied[0].id])
        assert len(set(seen)) == 1, "it is the same status"


@pytest.mark.timeout(240)
def test_profiles_come_and_go_between_two_starts(cluster_factory: ClusterFactory, tmp_path: Path) -> None:
    cluster: LocalCluster = cluster_factory(agents=1)
    with Polly(cluster, tmp_path) as polly, Framework(cluster.master, principal="test") as framework:
        polly.connected(1)
        disks(framework, type="PATH", profile="gold")
        polly.stop()
        _profiles(polly, gold={}, silver={})
        polly.start()
        polly.connected(1)
        disks(framework, type="PATH", profile="silver")
        polly.stop()
        _profiles(polly, gold={})
        polly.start()
        polly.connected(1)
        offer, _ = disks(framework, type="PATH", profile="gold")
        assert not [
            one for one in offer["resources"] if one.get("disk", {}).get("source", {}).get("profile") == "silver"
        ]


def _profiles(polly: Polly, **profiles: Json) -> None:
    settings = yaml.safe_load(polly.configuration.read_text())
    common = {"service": "local", "minimum_size": "16MiB"}
    settings["profiles"] = {name: {**common, **own} for name, own in profiles.items()}
    polly.configuration.write_text(yaml.safe_dump(settings))
