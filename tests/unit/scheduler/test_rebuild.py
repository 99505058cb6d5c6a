"""A ledger that is lost with all its copies is rebuilt from platforms and agents, and says what could not be known.

The volumes are made by the volume controller with the directory driver, and the agents offer what the old ledger had
them offer: so what comes back can be compared with what was, bit for bit.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from drivers.base import PlatformState, PlatformVolume, Tags
from polly_mesos.agent_api import HostReport
from polly_mesos.errors import AlreadyExists, ConfigurationError, LedgerLocked
from polly_mesos.ledger import Ledger
from polly_mesos.ledger.publications import first_generation
from polly_mesos.model import (
    MB,
    AgentState,
    FormatState,
    HostIdentity,
    Provider,
    PublicationState,
    Volume,
    VolumeKind,
    VolumeState,
)
from polly_mesos.scheduler.disks import static_owner
from polly_mesos.scheduler.half import PROVIDER_TYPE
from polly_mesos.scheduler.rebuild import rebuild
from polly_mesos.scheduler.rebuild_evidence import Evidence
from tests.unit.scheduler.lost_cluster import FRAMEWORK, Cluster, until


def test_what_agents_offer_comes_back_bit_for_bit(cluster: Cluster) -> None:
    first, second = cluster.create("a1", "db#data#1"), cluster.create("a2", "db#data#2", 128)
    cluster.reserve("a1", 32)
    before, evidence = cluster.shown(), cluster.evidence()
    made = cluster.rebuild(evidence)
    assert cluster.shown() == before
    for volume in (first, second):
        now = cluster.ledger.volume(volume.id)
        assert now.platform_id == volume.platform_id
        assert (now.owner, now.persistence, now.framework) == (volume.owner, volume.persistence, "marathon-1")
        assert (now.state, now.format_state) == (VolumeState.READY, FormatState.FORMATTED)
    assert {one.said_by for one in made.plan.volumes} == {"agent"}
    assert cluster.ledger.framework_id() == FRAMEWORK
    assert cluster.ledger.provider("a1") == Provider("a1", "provider-1", PROVIDER_TYPE, "test")
    assert cluster.ledger.agent("a2").attributes == {"rack": "7"}


def test_the_new_epoch_is_above_all_that_the_platforms_have_seen(cluster: Cluster) -> None:
    cluster.create("a1", "one")
    cluster.ledger.set_epoch(5)
    volume = cluster.create("a1", "two")
    cluster.rebuild(cluster.evidence())
    assert cluster.ledger.epoch > 5
    generation = cluster.ledger.publish(volume.id, "a1", "127.0.0.1:5051").generation
    assert generation > first_generation(6)


def test_a_pre_created_disk_comes_back_to_its_role(cluster: Cluster) -> None:
    volume = cluster.ledger.add_volume(
        Volume(
            str(uuid.uuid4()),
            "gold",
            "gold",
            "local",
            VolumeKind.MOUNT,
            64 * MB,
            VolumeState.CREATING,
            agent="a1",
            owner=static_owner("analytics"),
        )
    )
    cluster.half.controller.look_at(volume.id)
    until(lambda: cluster.ledger.volume(volume.id).state is VolumeState.READY)
    before = cluster.shown()
    cluster.rebuild(cluster.evidence())
    assert cluster.shown() == before
    assert cluster.ledger.volume(volume.id).owner == static_owner("analytics")


def test_a_volume_that_a_host_holds_is_nobody_elses_until_the_host_has_said_so_itself(cluster: Cluster) -> None:
    volume = cluster.create("a1", "db")
    cluster.unpublish(volume, cluster.publish(volume))
    generation = cluster.publish(volume)
    cluster.rebuild(cluster.evidence())
    until(lambda: cluster.publication(volume.id).attachment)
    assert cluster.publication(volume.id).host == "127.0.0.1:5051"
    report = HostReport(
        {"local": HostIdentity("127.0.0.1:5051")}, mounted={volume.id: "/target"}, generations={volume.id: generation}
    )
    cluster.half.arrivals.report("a1", report)
    publication = cluster.publication(volume.id)
    assert (publication.state, publication.generation) == (PublicationState.PUBLISHED, generation)


def test_a_platform_hold_that_the_host_does_not_confirm_ends_like_any_other(cluster: Cluster) -> None:
    volume = cluster.create("a1", "db")
    cluster.publish(volume)
    cluster.rebuild(cluster.evidence())
    until(lambda: cluster.publication(volume.id).state is PublicationState.ATTACHED)
    cluster.unpublish(volume, cluster.publication(volume.id).generation)
    cluster.publish(cluster.ledger.volume(volume.id))


def test_an_agent_that_does_not_answer_keeps_its_volumes_by_what_their_tags_say(cluster: Cluster) -> None:
    volume = cluster.create("a1", "db#data#1")
    before = cluster.shown()
    made = cluster.rebuild(cluster.evidence(a1=None))
    assert cluster.shown()["a1"] == before["a1"]
    (one,) = made.plan.volumes
    assert (one.said_by, one.volume.id) == ("tags", volume.id)
    assert any("changed since" in unknown for unknown in one.unknown)
    assert any("host1" in statement and "no answer" in statement for statement in made.plan.statements)


def test_an_agent_that_mesos_does_not_know_may_come_back_with_its_volumes(cluster: Cluster) -> None:
    volume = cluster.create("a1", "db#data#1")
    made = cluster.rebuild(cluster.evidence(a1="gone"))
    agent = cluster.ledger.agent("a1")
    assert (agent.state, agent.endpoint) == (AgentState.UNREACHABLE, "127.0.0.1:5051")
    assert cluster.ledger.volume(volume.id).state is VolumeState.READY
    assert any("polly agent fence" in statement for statement in made.plan.statements)


def test_an_agent_that_came_back_under_another_id_has_its_volumes(cluster: Cluster) -> None:
    volume = cluster.create("a1", "db#data#1")
    evidence = cluster.evidence(a1=None)
    (old,) = [word for word in evidence.agents if word.id == "a1"]
    new = dataclasses.replace(old, id="a1-again")
    cluster.rebuild(dataclasses.replace(evidence, agents=[new]))
    assert cluster.ledger.volume(volume.id).agent == "a1-again"


def test_a_volume_that_its_agent_no_longer_offers_is_kept_and_nobodys(retaining: Cluster) -> None:
    volume = retaining.create("a1", "db")
    (offered,) = retaining.shown()["a1"]
    retaining.apply("a1", "DESTROY", {"volumes": [offered]})
    made = retaining.rebuild(retaining.evidence())
    now = retaining.ledger.volume(volume.id)
    assert (now.state, now.platform_id) == (VolumeState.RELEASED, volume.platform_id)
    assert retaining.shown()["a1"] == [{**offered, "disk": {"source": offered["disk"]["source"]}}]
    assert "does not offer it" in made.plan.volumes[0].remark


def test_space_that_is_still_in_a_retained_volume_is_not_promised_twice(retaining: Cluster) -> None:
    retaining.create("a1", "db", 4096)
    (offered,) = retaining.shown()["a1"]
    retaining.apply("a1", "DESTROY", {"volumes": [offered]})
    retaining.rebuild(retaining.evidence())
    (reservation,) = retaining.ledger.reservations("a1")
    assert (reservation.size, reservation.backed) == (4096 * MB, 0)
    assert retaining.ledger.balance()["gold"].free == 0


def foreign(volume_id: str, platform_id: str, *, profile: str = "gold", user: dict[str, str] | None = None) -> Any:
    tags = Tags("test", volume_id, profile, 3, user or {})
    return PlatformVolume(platform_id, 64 * MB, PlatformState.AVAILABLE, tags)


def with_volumes(evidence: Evidence, *volumes: PlatformVolume) -> Evidence:
    return dataclasses.replace(evidence, platforms={"local": [*evidence.platforms["local"], *volumes]})


def test_volumes_whose_owner_nobody_tells_are_kept_and_nobodys(cluster: Cluster) -> None:
    identity = str(uuid.uuid4())
    made = cluster.rebuild(with_volumes(cluster.evidence(), foreign(identity, "vol-old")))
    volume = cluster.ledger.volume(identity)
    assert (volume.state, volume.platform_id, volume.owner) == (VolumeState.RELEASED, "vol-old", "")
    assert (made.plan.volumes[0].said_by, made.plan.volumes[0].remark) == ("nobody", "an older Polly made it")
    assert "its owner" in made.plan.volumes[0].unknown
    assert cluster.ledger.epoch > 3


def test_two_platform_volumes_of_one_id_are_both_left_alone(cluster: Cluster) -> None:
    volume = cluster.create("a1", "db")
    evidence = with_volumes(cluster.evidence(), foreign(volume.id, "vol-twin"))
    made = cluster.rebuild(evidence)
    said = [statement for statement in made.plan.statements if "left out" in statement]
    assert len(said) == 2
    (one,) = made.plan.volumes
    assert one.volume.state is VolumeState.FAILED, "a framework still sees its disk, and never with doubtful data"
    assert one.volume.persistence_id == "db"


def test_a_disk_that_could_be_several_volumes_gets_none_of_them(cluster: Cluster) -> None:
    volume = cluster.create("a1", "db")
    evidence = cluster.evidence()
    (there,) = evidence.platforms["local"]
    twin = dataclasses.replace(there, id="vol-2", tags=dataclasses.replace(there.tags, volume=str(uuid.uuid4())))
    cluster.rebuild(with_volumes(evidence, twin))
    states = {one.platform_id: one.state for one in cluster.ledger.volumes(agent="a1")}
    assert states == {
        volume.platform_id: VolumeState.RELEASED,
        "vol-2": VolumeState.RELEASED,
        "": VolumeState.FAILED,
    }


def test_of_two_volumes_of_one_name_the_one_that_a_host_holds_is_the_one_on_offer(retaining: Cluster) -> None:
    """The first was destroyed and is retained; the second has taken its name."""
    first = retaining.create("a1", "db")
    (offered,) = retaining.shown()["a1"]
    retaining.apply("a1", "DESTROY", {"volumes": [offered]})
    retaining.apply("a1", "CREATE", {"volumes": [offered]})
    until(lambda: len([one for one in retaining.ledger.volumes() if one.state is VolumeState.READY]) == 1)
    (second,) = [one for one in retaining.ledger.volumes() if one.id != first.id]
    retaining.publish(second)
    retaining.rebuild(retaining.evidence())
    assert retaining.ledger.volume(first.id).state is VolumeState.RELEASED
    assert retaining.ledger.volume(second.id).state is VolumeState.READY


def test_volumes_that_tags_alone_give_one_name_are_nobodys(cluster: Cluster) -> None:
    cluster.create("a1", "db")
    evidence = cluster.evidence(a1=None)
    (there,) = evidence.platforms["local"]
    twin = dataclasses.replace(there, id="vol-2", tags=dataclasses.replace(there.tags, volume=str(uuid.uuid4())))
    made = cluster.rebuild(with_volumes(evidence, twin))
    assert {one.state for one in cluster.ledger.volumes()} == {VolumeState.RELEASED}
    assert all("same persistence id" in one.remark for one in made.plan.volumes)


def test_a_volume_that_its_platform_is_still_making_is_finished(cluster: Cluster) -> None:
    volume = cluster.create("a1", "db")
    evidence = cluster.evidence()
    (there,) = evidence.platforms["local"]
    making = dataclasses.replace(there, state=PlatformState.CREATING)
    cluster.rebuild(dataclasses.replace(evidence, platforms={"local": [making]}))
    until(lambda: cluster.ledger.volume(volume.id).state is VolumeState.READY)
    assert cluster.ledger.volume(volume.id).format_state is FormatState.NEVER


def test_volumes_being_deleted_are_not_brought_back(cluster: Cluster) -> None:
    dying = dataclasses.replace(foreign(str(uuid.uuid4()), "vol-x"), state=PlatformState.DELETING)
    made = cluster.rebuild(with_volumes(cluster.evidence(), dying))
    assert made.plan.volumes == ()
    assert any("being deleted" in statement for statement in made.plan.statements)


def test_a_profile_that_is_missing_is_asked_for_before_anything_is_written(cluster: Cluster) -> None:
    evidence = with_volumes(cluster.evidence(), foreign(str(uuid.uuid4()), "vol-1", profile="silver"))
    cluster.lose_ledger()
    with pytest.raises(ConfigurationError, match="'silver'"):
        rebuild(cluster.configuration, ask=lambda *_: evidence)
    assert not cluster.configuration.ledger.path.exists()


def test_a_ledger_that_is_there_is_never_replaced_unasked(cluster: Cluster) -> None:
    evidence = cluster.evidence()
    with pytest.raises(AlreadyExists, match="nothing was changed"):
        rebuild(cluster.configuration, ask=lambda *_: evidence)
    with pytest.raises(LedgerLocked):
        rebuild(cluster.configuration, ask=lambda *_: evidence, force=True)
    cluster.half.stop()
    made = rebuild(cluster.configuration, ask=lambda *_: evidence, force=True)
    assert made.kept is not None
    with Ledger.open(made.kept, "test", read_only=True) as kept:
        assert kept.framework_id() == FRAMEWORK


def test_a_dry_run_says_the_same_and_writes_nothing(cluster: Cluster) -> None:
    cluster.create("a1", "db")
    evidence = cluster.evidence()
    cluster.lose_ledger()
    before = sorted(cluster.configuration.ledger.path.parent.iterdir())
    shown = rebuild(cluster.configuration, ask=lambda *_: evidence, dry_run=True)
    assert sorted(cluster.configuration.ledger.path.parent.iterdir()) == before
    done = rebuild(cluster.configuration, ask=lambda *_: evidence)
    assert shown.as_json() | {"written": True} == done.as_json()
    json.dumps(done.as_json())


def test_the_data_is_where_it_was(cluster: Cluster, tmp_path: Path) -> None:
    volume = cluster.create("a1", "db")
    data = tmp_path / "platform" / "volumes" / volume.platform_id / "data" / "file"
    data.write_text("precious")
    cluster.rebuild(cluster.evidence())
    generation = cluster.publish(cluster.ledger.volume(volume.id))
    publication = cluster.ledger.publication(volume.id)
    assert publication is not None
    assert publication.generation == generation
    assert Path(publication.attachment["data"], "file").read_text() == "precious"
