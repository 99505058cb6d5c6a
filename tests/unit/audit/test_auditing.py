"""What only moves is no difference, and what could not be looked at is said."""

from __future__ import annotations

import uuid

from polly_mesos.audit.auditing import Audit
from polly_mesos.audit.gathering import Gathering
from polly_mesos.ledger import Reserve
from polly_mesos.model import MB, AgentState, HostIdentity, LeaseChange, Operation, OperationState, Volume
from polly_mesos.scheduler.advertisement import resources_of
from tests.unit.audit.conftest import GOLD, OWNER, Cluster


def test_what_is_put_right_between_the_looks_is_not_told(cluster: Cluster, volume: Volume) -> None:
    host = HostIdentity("a1.example:5051")
    cluster.platform.detach(volume.platform_id, host)
    cluster.meanwhile = lambda: cluster.platform.attach(volume.platform_id, host)
    assert cluster.codes() == []
    assert cluster.pauses == [2.0]


def test_what_comes_between_the_looks_is_not_told_yet(cluster: Cluster, volume: Volume) -> None:
    cluster.master.away = True

    def change() -> None:
        cluster.master.away = False
        cluster.platform_volume(str(uuid.uuid4()))

    cluster.meanwhile = change
    assert cluster.codes() == []
    cluster.meanwhile = lambda: None
    assert cluster.codes() == ["volume.orphan"]


def test_a_volume_that_is_published_anew_all_the_time_is_no_stale_mount(cluster: Cluster, volume: Volume) -> None:
    """The host is always one publication behind, and each time it is another one."""

    def again() -> None:
        generation = cluster.ledger.volume(volume.id).generation
        cluster.agree()
        cluster.ledger.unpublished(volume.id, generation)
        cluster.ledger.detached(volume.id, generation)
        cluster.publish(volume)

    again()
    cluster.meanwhile = again
    assert cluster.codes() == []


def test_totals_that_change_between_the_looks_are_on_their_way(cluster: Cluster) -> None:
    cluster.ledger.apply_leases([LeaseChange("gold", "a1", 1000 * MB, 900 * MB)])
    cluster.meanwhile = lambda: cluster.ledger.apply_leases([LeaseChange("gold", "a1", 900 * MB, 800 * MB)])
    assert cluster.codes() == []
    cluster.meanwhile = lambda: None
    assert cluster.codes() == ["provider.totals"]


def test_totals_do_not_count_while_an_operation_is_not_acknowledged(cluster: Cluster) -> None:
    operation = Operation(str(uuid.uuid4()), "mesos.RESERVE", "a1", OperationState.INTENT, "a1")
    cluster.ledger.admit(operation, Reserve("gold", "a1", "", OWNER, 64 * MB))
    assert cluster.codes() == []
    cluster.ledger.acknowledge(operation.id)
    assert cluster.codes() == ["provider.totals"]


def test_totals_do_not_count_of_an_agent_that_is_away(cluster: Cluster) -> None:
    cluster.register(cluster.ledger.agent("a2"), [])
    cluster.state("a2", AgentState.UNREACHABLE)
    assert cluster.codes() == []


def test_totals_in_other_pieces_and_with_other_mount_paths_are_the_same(cluster: Cluster, volume: Volume) -> None:
    agent = cluster.ledger.agent("a1")
    pool, *others = resources_of(cluster.ledger, agent, {"gold": GOLD})
    half = {**pool, "scalar": {"value": pool["scalar"]["value"] / 2}}
    cluster.register(agent, [*reversed(others), half, half])
    assert cluster.codes() == []


def test_a_report_that_came_before_it_was_asked_for_is_not_compared(cluster: Cluster, volume: Volume) -> None:
    cluster.says("a1", mounted={})
    cluster.ask(["a1"])
    cluster.now += 1
    del cluster.reports["a1"]
    report = cluster.audit.run()
    assert report.findings == ()
    assert report.unseen == ("host a1.example (a1) did not report its mounts in time",)


def test_what_an_agent_that_is_away_has_mounted_is_not_its_fault(cluster: Cluster, volume: Volume) -> None:
    cluster.state("a1", AgentState.UNREACHABLE)
    assert cluster.codes() == ["agent.unreachable"]


def test_a_fenced_publication_need_not_be_attached(cluster: Cluster, volume: Volume) -> None:
    cluster.ledger.fence("a1", "local", "the host was taken to pieces")
    cluster.platform.detach(volume.platform_id, HostIdentity("a1.example:5051"))
    del cluster.reports["a1"]
    cluster.state("a1", AgentState.FENCED)
    assert cluster.codes() == ["agent.fenced"]


def test_errors_come_first(cluster: Cluster) -> None:
    volume = cluster.volume()
    cluster.agree()
    cluster.platform.delete(volume.platform_id)
    cluster.platform_volume(str(uuid.uuid4()))
    assert cluster.codes() == ["volume.missing", "volume.orphan"]
    assert cluster.audit.run().errors == 1


def test_ledger_and_platforms_alone_can_be_looked_at(cluster: Cluster, volume: Volume) -> None:
    cluster.platform.detach(volume.platform_id, HostIdentity("a1.example:5051"))
    gathering = Gathering(cluster.ledger, cluster, {"gold": GOLD}, provider_type="org.polly.mesos")
    report = Audit(gathering, sleep=cluster.sleep).run()
    assert [finding.code for finding in report.findings] == ["attachment.missing"]
    assert report.unseen == ("the master was not asked", "the hosts were not asked")
