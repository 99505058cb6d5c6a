"""Secrets of attachments: asked of the platform when a host is about to connect, and kept by nobody."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from polly_mesos.agent_api import PublishState, PublishTarget
from polly_mesos.errors import PlatformDenied, PlatformUnavailable, PollyError
from polly_mesos.ledger import Ledger
from polly_mesos.model import Json, Volume
from polly_mesos.scheduler import secrets
from polly_mesos.scheduler.publications import Publications
from polly_mesos.scheduler.secrets import Secrets
from tests.unit.scheduler.conftest import GOLD
from tests.unit.scheduler.test_publications import Host, disk

SECRET = {"password": "only-once"}


class Platform:
    """A platform that tells secrets, or what is wrong, when it is let."""

    def __init__(self) -> None:
        self.asked: list[Json] = []
        self.fails: PollyError | None = None
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.told: list[str] = []
        self.answered = threading.Event()

    def ask(self, volume: Volume, attachment: Json) -> Json:
        self.asked.append(attachment)
        assert self.may_answer.wait(30.0)
        if self.fails is not None:
            raise self.fails
        return SECRET

    def tell(self, agent: str) -> None:
        self.told.append(agent)
        self.answered.set()


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
def asking(platform: Platform) -> Iterator[Secrets]:
    made = Secrets(platform.ask, platform.tell)
    yield made
    platform.may_answer.set()
    made.close()


class Attached(Host):
    """A host whose volume the platform has attached."""

    def __init__(self, ledger: Ledger, asking: Secrets) -> None:
        super().__init__(ledger)
        self.publications = Publications(ledger, {"gold": GOLD}, self.looked_at.append, asking.of)
        self.volume = self.made()
        self.ask(disk(self.volume))
        publication = ledger.publication(self.volume.id)
        assert publication is not None
        ledger.attached(self.volume.id, publication.generation, {"image": "/x"})

    def target(self) -> PublishTarget:
        (target,) = self.ask(disk(self.volume))
        return target


@pytest.fixture
def host(ledger: Ledger, asking: Secrets) -> Attached:
    return Attached(ledger, asking)


def test_a_volume_that_is_ready_comes_with_its_secrets_which_the_ledger_never_has(
    host: Attached, platform: Platform, ledger: Ledger
) -> None:
    target = host.target()
    assert (target.state, target.attachment, target.secrets) == (PublishState.READY, {"image": "/x"}, SECRET)
    assert platform.asked == [{"image": "/x"}]
    assert "only-once" not in repr(target)
    assert "only-once" not in repr((ledger.publications(), ledger.operations(), ledger.volumes()))


def test_they_are_asked_anew_each_time(host: Attached, platform: Platform) -> None:
    assert host.target().secrets == host.target().secrets == SECRET
    assert len(platform.asked) == 2


def test_a_platform_that_is_away_is_waited_for_and_nothing_is_lost(host: Attached, platform: Platform) -> None:
    platform.fails = PlatformUnavailable("Cinder is away")
    target = host.target()
    assert (target.state, target.secrets) == (PublishState.WAIT, {})
    assert "Cinder is away" in target.reason
    platform.fails = None
    assert (host.target().state, host.target().secrets) == (PublishState.READY, SECRET)


def test_a_refusal_is_told_to_the_host(host: Attached, platform: Platform) -> None:
    platform.fails = PlatformDenied("the role may not look at attachments")
    target = host.target()
    assert target.state is PublishState.REFUSED
    assert "may not look" in target.reason


def test_a_slow_platform_is_asked_once_and_the_agent_hears_when_it_has_answered(
    host: Attached, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "_PATIENCE", 0.01)
    platform.may_answer.clear()
    assert {host.target().state for _ in range(3)} == {PublishState.WAIT}
    assert len(platform.asked) == 1
    platform.may_answer.set()
    assert platform.answered.wait(30.0)
    assert platform.told == ["a1"]
    monkeypatch.setattr(secrets, "_PATIENCE", 10.0)
    assert host.target().secrets == SECRET
    assert len(platform.asked) == 1


def test_an_answer_that_nobody_fetches_is_forgotten(
    host: Attached, platform: Platform, asking: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "_PATIENCE", 0.01)
    platform.may_answer.clear()
    host.target()
    platform.may_answer.set()
    assert platform.answered.wait(30.0)
    monkeypatch.setattr(secrets, "_KEPT", -1.0)
    monkeypatch.setattr(secrets, "_PATIENCE", 10.0)
    assert host.target().secrets == SECRET
    assert len(platform.asked) == 2
    assert "only-once" not in repr(vars(asking))
