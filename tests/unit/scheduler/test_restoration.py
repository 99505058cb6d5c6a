"""A copy of the ledger is put back after the world went on: what was made since is found again, the rest is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polly_mesos.agent_api import HostReport
from polly_mesos.errors import Conflict, LedgerCorrupt, LedgerLocked, MasterUnreachable
from polly_mesos.ledger import Ledger
from polly_mesos.ledger.backup import backup
from polly_mesos.ledger.check import check
from polly_mesos.model import FormatState, HostIdentity, LeaseChange, PublicationState, VolumeState
from polly_mesos.scheduler.rebuild_evidence import Evidence
from polly_mesos.scheduler.restoration import Restoration, restore_ledger
from tests.unit.scheduler.lost_cluster import Cluster, until


def copy_of(cluster: Cluster) -> Path:
    path = cluster.configuration.ledger.path
    copy = path.with_name("copy")
    backup(path, copy, "test")
    return copy


def restore(cluster: Cluster, copy: Path, evidence: Evidence) -> Restoration:
    """Stop the scheduler half, restore, and have another one go on."""
    cluster.half.stop()
    done = restore_ledger(cluster.configuration, copy, ask=lambda *_: evidence)
    with Ledger.open(cluster.configuration.ledger.path, "test", read_only=True) as ledger:
        assert check(ledger) == []
    cluster.half = cluster.start()
    json.dumps(done.as_json())
    return done


def test_volumes_that_were_made_since_come_back_with_their_owners(cluster: Cluster) -> None:
    cluster.create("a1", "before")
    copy = copy_of(cluster)
    since = cluster.create("a2", "since", 128)
    generation = cluster.publish(since)
    before, evidence = cluster.shown(), cluster.evidence()
    done = restore(cluster, copy, evidence)
    assert [(one.kind, one.volume.id) for one in done.differences] == [("adopted", since.id)]
    assert cluster.shown() == before
    report = HostReport(
        {"local": HostIdentity("127.0.0.1:5052")}, mounted={since.id: "/target"}, generations={since.id: generation}
    )
    cluster.half.arrivals.report("a2", report)
    publication = cluster.publication(since.id)
    assert (publication.state, publication.generation) == (PublicationState.PUBLISHED, generation)


def test_a_host_may_not_go_on_with_what_was_published_twice_since(cluster: Cluster) -> None:
    """The copy knows one publication, the host holds the second: no third one can have the same number."""
    volume = cluster.create("a1", "db")
    cluster.unpublish(volume, cluster.publish(volume))
    copy = copy_of(cluster)
    generation = cluster.publish(volume)
    restore(cluster, copy, cluster.evidence())
    assert cluster.ledger.publish(volume.id, "a1", "127.0.0.1:5051").generation > generation


def test_a_volume_that_was_deleted_since_is_told(cluster: Cluster) -> None:
    volume = cluster.create("a1", "db")
    copy = copy_of(cluster)
    (offered,) = cluster.shown()["a1"]
    cluster.apply("a1", "DESTROY", {"volumes": [offered]})
    until(lambda: cluster.ledger.volume(volume.id).state is VolumeState.DELETED)
    done = restore(cluster, copy, cluster.evidence())
    assert [(one.kind, one.volume.id) for one in done.differences] == [("missing", volume.id)]


def test_a_volume_whose_agent_does_not_answer_is_told_and_not_guessed(cluster: Cluster) -> None:
    copy = copy_of(cluster)
    since = cluster.create("a1", "since")
    done = restore(cluster, copy, cluster.evidence(a1=None))
    ((kind, volume, what),) = [(one.kind, one.volume, one.what) for one in done.differences]
    assert (kind, volume.id, volume.persistence_id) == ("orphan", since.id, "since")
    assert "could not be asked" in what
    assert [one.id for one in cluster.ledger.volumes()] == []


def test_a_volume_that_moved_since_is_told(cluster: Cluster) -> None:
    volume = cluster.create("a1", "db")
    copy = copy_of(cluster)
    cluster.ledger.move_volume(volume.id, "a2")
    done = restore(cluster, copy, cluster.evidence())
    assert [(one.kind, one.volume.id) for one in done.differences] == [("moved", volume.id)]
    assert "a2 offers it" in done.differences[0].what


def test_a_volume_that_was_formatted_since_is_never_formatted_again(cluster: Cluster) -> None:
    volume = cluster.create("a1", "db")
    generation = cluster.publish(volume)
    cluster.ledger.formatting(volume.id, generation)
    copy = copy_of(cluster)
    cluster.ledger.formatted(volume.id, generation)
    restore(cluster, copy, cluster.evidence())
    assert cluster.ledger.volume(volume.id).format_state is FormatState.FORMATTED


def test_what_has_no_room_in_the_restored_ledger_is_told_and_kept(cluster: Cluster) -> None:
    copy = copy_of(cluster)
    since = cluster.create("a1", "since")
    cluster.half.stop()
    with Ledger.open(copy, "test") as aged:
        for lease in aged.leases():
            aged.apply_leases([LeaseChange("gold", lease.agent, lease.size, 0)])
        pool = aged.pools()["gold"]
        aged.set_pool(type(pool)(pool.name, pool.profile, pool.service, pool.zone, 0))
    cluster.half = cluster.start()
    done = restore(cluster, copy, cluster.evidence())
    assert [(one.kind, one.volume.id) for one in done.differences] == [("orphan", since.id)]
    assert "could not be adopted" in done.differences[0].what


@pytest.mark.parametrize("error", [MasterUnreachable("no master answers")])
def test_without_mesos_or_platforms_the_copy_is_restored_and_that_is_told(cluster: Cluster, error: Exception) -> None:
    copy = copy_of(cluster)
    cluster.half.stop()

    def silent(*_: Any) -> Evidence:
        raise error

    done = restore_ledger(cluster.configuration, copy, ask=silent)
    assert done.epoch == 2
    assert any("no master answers" in warning for warning in done.warnings)


def test_nothing_is_restored_while_a_scheduler_lives_here_or_elsewhere(cluster: Cluster) -> None:
    copy, evidence = copy_of(cluster), cluster.evidence()
    with pytest.raises(LedgerLocked):
        restore_ledger(cluster.configuration, copy, ask=lambda *_: evidence)
    cluster.half.stop()

    def elsewhere(*_: Any) -> Evidence:
        raise Conflict("a scheduler named 'polly' is connected to the master")

    with pytest.raises(Conflict):
        restore_ledger(cluster.configuration, copy, ask=elsewhere)
    assert not list(copy.parent.glob("*before-restore*"))


def test_a_damaged_copy_is_refused_before_anybody_is_asked(cluster: Cluster) -> None:
    copy = copy_of(cluster)
    copy.write_bytes(copy.read_bytes()[:10_000])
    with pytest.raises(LedgerCorrupt):
        restore_ledger(cluster.configuration, copy, ask=lambda *_: pytest.fail("asked"))
