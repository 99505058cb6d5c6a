"""Which volumes a PUBLISH_RESOURCES names, and whether the host may have them now."""

from __future__ import annotations

import dataclasses
import json
import uuid
from typing import Any

import pytest

from polly_mesos.agent_api import Progress, PublishRequest, PublishState, PublishTarget
from polly_mesos.errors import InvalidRequest, StaleGeneration, UnknownVolume
from polly_mesos.ledger import CreateVolume, DestroyVolume, Ledger, Reserve
from polly_mesos.model import (
    MB,
    AgentState,
    FormatState,
    Operation,
    OperationState,
    PublicationState,
    Reclaim,
    Volume,
    VolumeKind,
    VolumeState,
)
from polly_mesos.scheduler.disks import volume_disk
from polly_mesos.scheduler.publications import Publications
from tests.unit.scheduler.conftest import AGENT, GOLD

OWNER = json.dumps([{"principal": "p", "role": "eng/db", "type": "DYNAMIC"}], sort_keys=True, separators=(",", ":"))


class Host:
    """An agent that asks for its volumes."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.looked_at: list[str] = []
        self.publications = Publications(ledger, {"gold": GOLD}, self.looked_at.append)

    def ask(self, *resources: dict[str, Any], agent: Any = AGENT) -> tuple[PublishTarget, ...]:
        return self.publications.answer(PublishRequest(resources), agent).targets

    def made(self, name: str = "pg#data#1", *, ready: bool = True) -> Volume:
        volume = Volume(
            str(uuid.uuid4()),
            "gold",
            "gold",
            "local",
            VolumeKind.PATH,
            64 * MB,
            VolumeState.CREATING,
            agent="a1",
            owner=OWNER,
            persistence_id=name,
            persistence={
                "persistence": {"id": name, "principal": "p"},
                "volume": {"mode": "RW", "container_path": "data"},
            },
        )
        self.ledger.admit(operation(), Reserve("gold", "a1", "", OWNER, 64 * MB))
        self.ledger.admit(operation(), CreateVolume(volume))
        return self.ledger.volume_created(volume.id, f"platform-{volume.id}") if ready else volume


def operation() -> Operation:
    return Operation(str(uuid.uuid4()), "mesos.TEST", "a1", OperationState.DONE, "a1")


def disk(volume: Volume) -> dict[str, Any]:
    return volume_disk(volume, GOLD, "/polly")


@pytest.fixture
def host(ledger: Ledger) -> Host:
    return Host(ledger)


def test_a_volume_is_waited_for_until_it_is_created_and_attached(host: Host, ledger: Ledger) -> None:
    volume = host.made(ready=False)
    (target,) = host.ask(disk(volume))
    assert (target.state, target.reason) == (PublishState.WAIT, "being created by the platform")
    ledger.volume_created(volume.id, "p1")
    (target,) = host.ask(disk(volume))
    assert target.state is PublishState.WAIT
    assert host.looked_at == [volume.id]
    publication = ledger.publication(volume.id)
    assert publication is not None
    ledger.attached(volume.id, publication.generation, {"image": "/x"})
    (target,) = host.ask(disk(volume))
    assert target.state is PublishState.READY
    assert target.attachment == {"image": "/x"}
    assert target.format_state is FormatState.NEVER
    assert target.generation == 1
    assert target.target == "/polly/gold/volumes/roles/eng db/pg#data#1"


def test_the_platforms_trouble_is_the_reason_to_wait(host: Host, ledger: Ledger) -> None:
    volume = host.made(ready=False)
    ledger.volume_failed(volume.id, "the disk is full", final=False)
    (target,) = host.ask(disk(volume))
    assert (target.state, target.reason) == (PublishState.WAIT, "the disk is full")


def test_a_volume_that_cannot_be_made_is_refused_with_the_reason(host: Host, ledger: Ledger) -> None:
    volume = host.made(ready=False)
    ledger.volume_failed(volume.id, "no such type", final=True)
    (target,) = host.ask(disk(volume))
    assert target.state is PublishState.REFUSED
    assert "no such type" in target.reason


def test_a_destroyed_volume_is_refused(host: Host, ledger: Ledger) -> None:
    volume = host.made()
    ledger.admit(operation(), DestroyVolume(volume.id, Reclaim.DELETE))
    (target,) = host.ask(disk(volume))
    assert target.state is PublishState.REFUSED


def test_another_agents_volume_is_refused(host: Host) -> None:
    volume = host.made()
    (target,) = host.ask(disk(volume), agent=dataclasses.replace(AGENT, id="a2"))
    assert target.state is PublishState.REFUSED


def test_a_host_that_does_not_know_itself_is_told_so(host: Host) -> None:
    volume = host.made()
    (target,) = host.ask(disk(volume), agent=dataclasses.replace(AGENT, identities={}))
    assert target.state is PublishState.REFUSED
    assert "local" in target.reason


def test_what_is_no_volume_is_scratch(host: Host) -> None:
    plain = {**disk(host.made())}
    plain["disk"] = {"source": plain["disk"]["source"]}
    foreign = {"name": "cpus", "type": "SCALAR", "scalar": {"value": 1.0}}
    answer = host.publications.answer(PublishRequest((plain, foreign)), AGENT)
    assert answer.targets == ()
    assert len(answer.scratch) == 2


def test_the_steps_of_a_host_are_recorded_under_its_generation(host: Host, ledger: Ledger) -> None:
    volume = host.made()
    host.ask(disk(volume))
    ledger.attached(volume.id, 1, {})
    host.publications.progress(volume.id, "formatting", Progress(1), AGENT)
    assert ledger.volume(volume.id).format_state is FormatState.FORMATTING
    host.publications.progress(volume.id, "formatted", Progress(1), AGENT)
    host.publications.progress(volume.id, "published", Progress(1, "/dev/loop0", "/t"), AGENT)
    publication = ledger.publication(volume.id)
    assert publication is not None
    assert (publication.state, publication.device) == (PublicationState.PUBLISHED, "/dev/loop0")
    host.publications.progress(volume.id, "unpublished", Progress(1), AGENT)
    publication = ledger.publication(volume.id)
    assert publication is not None
    assert publication.state is PublicationState.DETACHING
    assert host.looked_at[-1] == volume.id
    (target,) = host.ask(disk(volume))
    assert target.state is PublishState.WAIT


def test_a_request_that_outlives_its_host_gets_nothing(host: Host, ledger: Ledger) -> None:
    volume = host.made()
    ledger.set_agent_state("a1", AgentState.UNREACHABLE)
    (target,) = host.ask(disk(volume))
    assert (target.state, host.looked_at) == (PublishState.WAIT, [])
    assert "unreachable" in target.reason
    ledger.set_agent_state("a1", AgentState.FENCED)
    (target,) = host.ask(disk(volume))
    assert target.state is PublishState.REFUSED
    ledger.set_agent_state("a1", AgentState.CONNECTED)
    (target,) = host.ask(disk(volume))
    assert (target.state, host.looked_at) == (PublishState.WAIT, [volume.id])


def test_an_older_generation_has_lost_the_volume(host: Host, ledger: Ledger) -> None:
    volume = host.made()
    host.ask(disk(volume))
    ledger.attached(volume.id, 1, {})
    ledger.unpublished(volume.id, 1)
    ledger.detached(volume.id, 1)
    host.ask(disk(volume))
    with pytest.raises(StaleGeneration):
        host.publications.progress(volume.id, "formatting", Progress(1), AGENT)
    assert ledger.volume(volume.id).format_state is FormatState.NEVER


def test_another_agent_records_nothing(host: Host, ledger: Ledger) -> None:
    volume = host.made()
    host.ask(disk(volume))
    with pytest.raises(UnknownVolume):
        host.publications.progress(volume.id, "unpublished", Progress(1), dataclasses.replace(AGENT, id="a2"))
    with pytest.raises(InvalidRequest, match="explode"):
        host.publications.progress(volume.id, "explode", Progress(1), AGENT)


def test_letting_go_twice_is_fine(host: Host, ledger: Ledger) -> None:
    volume = host.made()
    host.ask(disk(volume))
    ledger.attached(volume.id, 1, {})
    for _ in range(2):
        host.publications.progress(volume.id, "unpublished", Progress(1), AGENT)
    ledger.detached(volume.id, 1)
    host.publications.progress(volume.id, "unpublished", Progress(1), AGENT)
    assert ledger.publication(volume.id) is None


def test_a_publication_known_from_its_hosts_word_alone_waits_until_the_platform_has_told_the_rest(
    host: Host, ledger: Ledger
) -> None:
    volume = host.made()
    ledger.adopt_publication(volume.id, "a1", "host1", 7, "/polly/target")
    (target,) = host.ask(disk(volume))
    assert target.state is PublishState.WAIT
    assert host.looked_at == [volume.id]
    ledger.attached(volume.id, 7, {"device": "vdb"})
    (target,) = host.ask(disk(volume))
    assert (target.state, target.generation, target.attachment) == (PublishState.READY, 7, {"device": "vdb"})
