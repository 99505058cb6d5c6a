"""A repair does what cannot lose data, says so, and leaves the rest."""

from __future__ import annotations

import dataclasses
import uuid

import pytest

from polly_mesos.model import (
    MB,
    FormatState,
    HostIdentity,
    Pool,
    PublicationState,
    Volume,
    VolumeState,
)
from tests.unit.audit.conftest import Cluster
from tests.unit.audit.test_findings import Later


def results(cluster: Cluster) -> dict[str, bool]:
    """Code -> whether something was done."""
    return {repaired.finding.code: repaired.done for repaired in cluster.repaired()}


def test_a_publication_that_nobody_has_is_detached_in_the_ordinary_way(cluster: Cluster, volume: Volume) -> None:
    cluster.platform.detach(volume.platform_id, HostIdentity("a1.example:5051"))
    cluster.says("a1", mounted={}, generations={})
    assert results(cluster) == {"attachment.missing": True, "mount.missing": True}
    publication = cluster.ledger.publication(volume.id)
    assert publication is not None
    assert publication.state is PublicationState.DETACHING
    assert cluster.looked_at == [volume.id], "one repair serves both findings"


def test_a_publication_that_the_host_still_has_is_left(cluster: Cluster, volume: Volume) -> None:
    cluster.platform.detach(volume.platform_id, HostIdentity("a1.example:5051"))
    assert results(cluster) == {"attachment.missing": False}
    assert cluster.ledger.publication(volume.id).state is PublicationState.PUBLISHED  # type: ignore[union-attr]


def test_a_publication_of_which_the_host_says_nothing_is_left(cluster: Cluster, volume: Volume) -> None:
    cluster.platform.detach(volume.platform_id, HostIdentity("a1.example:5051"))
    del cluster.reports["a1"]
    assert results(cluster) == {"attachment.missing": False}


def test_a_mount_that_is_gone_while_the_platform_has_it_attached_is_only_told_to_the_host(
    cluster: Cluster, volume: Volume
) -> None:
    cluster.says("a1", mounted={}, generations={})
    assert results(cluster) == {"mount.missing": True}
    assert cluster.told == ["a1"]
    assert cluster.ledger.publication(volume.id).state is PublicationState.PUBLISHED  # type: ignore[union-attr]


def test_leases_above_the_capacity_are_taken_back(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = cluster.volume()
    with monkeypatch.context() as patch:
        patch.setattr("polly_mesos.ledger.space.take_back_leases", lambda *_, **__: None)
        cluster.ledger.set_pool(Pool("gold", "gold", "local", "", 1500 * MB))
    cluster.agree()
    assert results(cluster) == {"pool.overcommitted": True}
    assert cluster.ledger.balance()["gold"].free == 0
    assert cluster.ledger.volume(volume.id).state is VolumeState.READY


def test_volumes_above_the_capacity_are_left(cluster: Cluster) -> None:
    cluster.volume()
    cluster.ledger.set_pool(Pool("gold", "gold", "local", "", MB))
    cluster.agree()
    assert results(cluster) == {"pool.overcommitted": False}


def test_a_step_without_outcome_is_looked_at_again(
    cluster: Cluster, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.ledger.begin("volume.attach", volume.id, {})
    monkeypatch.setattr("polly_mesos.ledger.check.time", Later())
    assert results(cluster) == {"operation.unfinished": True}
    assert cluster.looked_at == [volume.id]


def test_a_host_with_a_newer_generation_is_believed_after_a_restore(cluster: Cluster) -> None:
    volume = cluster.volume()
    cluster.platform.attach(volume.platform_id, HostIdentity("a1.example:5051"))
    cluster.agree()
    cluster.says("a1", mounted={volume.id: "/polly/gold/data"}, generations={volume.id: 7})
    assert results(cluster) == {"attachment.unexpected": True, "mount.unexpected": True}
    publication = cluster.ledger.publication(volume.id)
    assert publication is not None
    assert (publication.generation, publication.agent, publication.target) == (7, "a1", "/polly/gold/data")
    assert cluster.ledger.volume(volume.id).generation == 7
    assert cluster.codes() == []


def test_a_host_with_an_older_generation_is_told_to_let_go(cluster: Cluster, volume: Volume) -> None:
    cluster.ledger.unpublished(volume.id, 1)
    cluster.platform.detach(volume.platform_id, HostIdentity("a1.example:5051"))
    cluster.ledger.detached(volume.id, 1)
    assert results(cluster) == {"mount.unexpected": True}
    assert cluster.told == ["a1"]
    assert cluster.ledger.publication(volume.id) is None


def test_an_attachment_that_its_host_denies_is_ended_in_the_ordinary_way(cluster: Cluster) -> None:
    volume = cluster.volume()
    cluster.agree()
    cluster.platform.attach(volume.platform_id, HostIdentity("a1.example:5051"))
    assert results(cluster) == {"attachment.unexpected": True}
    publication = cluster.ledger.publication(volume.id)
    assert publication is not None
    assert publication.state is PublicationState.DETACHING
    assert cluster.ledger.volume(volume.id).format_state is FormatState.NEVER, "it was never formatted, and may be"
    assert cluster.looked_at == [volume.id]


def test_an_attachment_of_which_its_host_says_nothing_is_left(cluster: Cluster) -> None:
    volume = cluster.volume()
    cluster.agree()
    cluster.platform.attach(volume.platform_id, HostIdentity("a1.example:5051"))
    del cluster.reports["a1"]
    assert results(cluster) == {"attachment.unexpected": False}


def test_what_the_ledger_refuses_is_left_with_the_reason(cluster: Cluster) -> None:
    volume = cluster.volume()
    cluster.ledger.move_volume(volume.id, "a2")
    cluster.agree()
    cluster.platform.attach(volume.platform_id, HostIdentity("a1.example:5051"))
    (repaired,) = cluster.repaired()
    assert not repaired.done
    assert "a2" in repaired.result


def test_orphans_missing_volumes_and_foreign_mounts_are_left_to_people(cluster: Cluster) -> None:
    volume = cluster.volume()
    cluster.agree()
    cluster.platform.delete(volume.platform_id)
    orphan = cluster.platform_volume(str(uuid.uuid4()))
    cluster.says("a1", mounted={str(uuid.uuid4()): "/polly/gold/x"})
    assert results(cluster) == {"mount.impossible": False, "volume.missing": False, "volume.orphan": False}
    assert cluster.platform.get(orphan.id)
    assert cluster.ledger.volume(volume.id).state is VolumeState.READY


def test_totals_are_told_again(cluster: Cluster) -> None:
    cluster.register(dataclasses.replace(cluster.ledger.agent("a2")), [])
    assert results(cluster) == {"provider.totals": True}
    assert cluster.told == ["a2"]
