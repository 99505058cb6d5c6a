"""Every kind of difference is found when it is there, alone and with a remedy; and none is where all agree."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import uuid
from pathlib import Path

import pytest

from drivers.base import ControllerDriver, PlatformState
from polly_mesos.audit.findings import KINDS, Finding
from polly_mesos.errors import PlatformUnavailable
from polly_mesos.ledger import check
from polly_mesos.ledger.check import Finding as LedgerFinding
from polly_mesos.mesos.master_client import RegisteredProvider
from polly_mesos.model import MB, AgentState, HostIdentity, Pool, Severity, Volume
from tests.unit.audit.conftest import SIZE, Cluster


def only(cluster: Cluster, *codes: str) -> Finding:
    """The first finding, once exactly these codes were found, in any order."""
    found = cluster.found()
    assert sorted(finding.code for finding in found) == sorted(codes), found
    for finding in found:
        assert finding.what, finding
        assert finding.remedy, finding
        assert finding.severity is KINDS[finding.code][0]
    return next(finding for finding in found if finding.code == codes[0])


def record(directory: Path, volume: Volume) -> Path:
    """The platform's own record of a volume, for tests that damage it."""
    return directory / "volumes" / f"{volume.platform_id}.json"


def test_nothing_is_found_where_all_agree(cluster: Cluster, volume: Volume) -> None:
    cluster.volume("idle", "a2")
    cluster.agree()
    report = cluster.audit.run()
    assert report.findings == ()
    assert report.unseen == ()
    assert cluster.pauses == [], "one clean look is enough"


# Platforms


def test_a_platform_that_is_away(cluster: Cluster, volume: Volume) -> None:
    shutil.rmtree(cluster.directory)
    cluster.drivers = {"local": Away()}
    assert "the rack is dark" in only(cluster, "platform.unreachable").what


class Away:
    """A platform that does not answer."""

    def list(self, page: str | None = None) -> None:
        raise PlatformUnavailable("the rack is dark")


def test_a_driver_with_a_mistake_is_a_platform_that_is_away(cluster: Cluster, volume: Volume) -> None:
    cluster.drivers = {"local": object()}  # type: ignore[dict-item]
    assert "AttributeError" in only(cluster, "platform.unreachable").what


def test_a_service_that_is_not_configured_any_more(cluster: Cluster, volume: Volume) -> None:
    cluster.drivers = {}
    assert only(cluster, "service.unknown").subject == "local"


def test_a_volume_that_is_gone_from_its_platform(cluster: Cluster) -> None:
    volume = cluster.volume()
    cluster.agree()
    cluster.platform.delete(volume.platform_id)
    found = only(cluster, "volume.missing")
    assert found.subject == volume.id
    assert found.action is None


def test_a_volume_that_a_list_lacks_and_the_platform_has_is_not_missing(cluster: Cluster) -> None:
    volume = cluster.volume()
    cluster.agree()
    cluster.drivers = {"local": Forgetful(cluster.platform, volume.platform_id)}  # type: ignore[dict-item]
    assert cluster.codes() == []


class Forgetful:
    """A platform whose list comes true late."""

    def __init__(self, real: ControllerDriver, hidden: str) -> None:
        self.real, self.hidden = real, hidden
        self.get = real.get

    def list(self, page: str | None = None) -> object:
        whole = self.real.list(page)
        return dataclasses.replace(whole, volumes=tuple(v for v in whole.volumes if v.id != self.hidden))


def test_a_volume_that_is_being_deleted_may_be_gone(cluster: Cluster) -> None:
    volume = cluster.volume()
    cluster.ledger.delete_volume(volume.id)
    cluster.agree()
    cluster.platform.delete(volume.platform_id)
    assert cluster.codes() == []


def test_a_volume_that_its_platform_says_is_broken(cluster: Cluster, volume: Volume) -> None:
    shutil.rmtree(cluster.directory / "volumes" / volume.platform_id)
    assert cluster.platform.get(volume.platform_id).state is PlatformState.ERROR
    assert only(cluster, "volume.broken").subject == volume.id


def test_a_volume_that_is_smaller_than_recorded(cluster: Cluster, volume: Volume) -> None:
    file = record(cluster.directory, volume)
    file.write_text(json.dumps({**json.loads(file.read_text()), "size": SIZE - MB}))
    assert str(SIZE) in only(cluster, "volume.shrunk").what


def test_a_platform_volume_that_the_ledger_does_not_know(cluster: Cluster) -> None:
    tag = str(uuid.uuid4())
    made = cluster.platform_volume(tag)
    found = only(cluster, "volume.orphan")
    assert found.subject == f"local/{made.id}"
    assert f"polly volume adopt local {made.id}" in found.remedy


def test_an_orphan_that_two_services_show_is_told_once_under_its_profiles_service(cluster: Cluster) -> None:
    cluster.drivers = {"another": cluster.platform, "local": cluster.platform, "third": cluster.platform}
    made = cluster.platform_volume(str(uuid.uuid4()))
    assert only(cluster, "volume.orphan").subject == f"local/{made.id}"


def test_a_volume_that_two_services_show_is_no_orphan(cluster: Cluster, volume: Volume) -> None:
    cluster.drivers = {"another": cluster.platform, "local": cluster.platform}
    assert cluster.codes() == []


def test_a_platform_volume_that_the_ledger_knows_as_deleted(cluster: Cluster) -> None:
    volume = cluster.volume()
    cluster.ledger.delete_volume(volume.id)
    deleted = cluster.ledger.volume_deleted(volume.id)
    cluster.agree()
    cluster.now = deleted.updated + 30
    cluster.ledger.put_agent(dataclasses.replace(cluster.ledger.agent("a1"), seen=cluster.now))
    assert "volume.orphan-deleted" not in cluster.codes(), "a list may lag"
    cluster.now = deleted.updated + 61
    cluster.agree()
    only(cluster, "volume.orphan-deleted")


def test_two_platform_volumes_with_one_tag(cluster: Cluster, volume: Volume) -> None:
    second = cluster.platform_volume(volume.id, token="made-twice")
    found = only(cluster, "volume.duplicate")
    assert found.subject == f"local/{second.id}"
    assert volume.platform_id in found.what


def test_what_a_creation_has_left_is_no_orphan_while_the_controller_may_find_it(cluster: Cluster) -> None:
    volume = cluster.volume()
    cluster.ledger.delete_volume(volume.id)
    cluster.agree()
    assert cluster.codes() == []


def test_a_volume_that_no_agent_offers(cluster: Cluster) -> None:
    volume = cluster.volume()
    cluster.ledger.move_volume(volume.id, "")
    cluster.agree()
    assert only(cluster, "volume.parked").subject == volume.id


# Attachments


def test_an_attachment_without_publication(cluster: Cluster) -> None:
    volume = cluster.volume()
    cluster.agree()
    cluster.platform.attach(volume.platform_id, HostIdentity("stranger"))
    found = only(cluster, "attachment.unexpected")
    assert "stranger" in found.what
    assert found.action is None, "who that host is nobody knows"


def test_an_attachment_that_the_platform_has_lost(cluster: Cluster, volume: Volume) -> None:
    cluster.platform.detach(volume.platform_id, HostIdentity("a1.example:5051"))
    found = only(cluster, "attachment.missing")
    assert found.subject == volume.id
    assert found.action is None, "the host still has it mounted"


# Hosts


def test_a_host_that_has_mounted_what_is_published_nowhere(cluster: Cluster, volume: Volume) -> None:
    cluster.ledger.unpublished(volume.id, 1)
    cluster.platform.detach(volume.platform_id, HostIdentity("a1.example:5051"))
    cluster.ledger.detached(volume.id, 1)
    assert only(cluster, "mount.unexpected").subject == f"{volume.id}@a1"


def test_a_host_that_has_mounted_what_is_being_detached(cluster: Cluster, volume: Volume) -> None:
    cluster.ledger.unpublished(volume.id, 1)
    assert "being detached" in only(cluster, "mount.unexpected").what


def test_a_host_with_another_generation_than_the_ledgers(cluster: Cluster, volume: Volume) -> None:
    cluster.ledger.unpublished(volume.id, 1)
    cluster.ledger.detached(volume.id, 1)
    cluster.publish(volume)
    only(cluster, "mount.stale")


def test_a_mount_that_is_gone(cluster: Cluster, volume: Volume) -> None:
    cluster.says("a1", mounted={})
    assert only(cluster, "mount.missing").subject == f"{volume.id}@a1"


def test_a_mount_at_another_place(cluster: Cluster, volume: Volume) -> None:
    cluster.says("a1", mounted={volume.id: "/polly/gold/elsewhere"})
    assert "/polly/gold/data" in only(cluster, "mount.elsewhere").what


def test_a_volume_that_two_hosts_have_mounted(cluster: Cluster, volume: Volume) -> None:
    cluster.says("a2", mounted={volume.id: "/polly/gold/data"}, generations={volume.id: 1})
    found = only(cluster, "mount.twice", "mount.unexpected")
    assert "a1.example, a2.example" in found.what


@pytest.mark.parametrize("lie", ["unknown volume", "foreign service", "outside its root"])
def test_a_host_that_lies(cluster: Cluster, lie: str) -> None:
    volume = cluster.volume()
    if lie == "unknown volume":
        cluster.agree()
        cluster.says("a1", mounted={str(uuid.uuid4()): "/polly/gold/x"})
    elif lie == "foreign service":
        cluster.ledger.put_agent(dataclasses.replace(cluster.ledger.agent("a2"), identities={}))
        cluster.agree()
        cluster.says("a2", generations={volume.id: 1})
    else:
        cluster.publish(volume)
        cluster.agree()
        cluster.says("a1", mounted={volume.id: "/etc"})
    only(cluster, "mount.impossible")


# Agents


def test_an_executor_that_is_silent(cluster: Cluster) -> None:
    del cluster.reports["a2"]
    cluster.now += 91
    found = only(cluster, "agent.silent")
    assert found.subject == "a2"
    assert any("a2.example" in words for words in cluster.audit.run().unseen)


def test_an_agent_that_the_master_does_not_know(cluster: Cluster) -> None:
    del cluster.master.agents["a2"]
    assert only(cluster, "agent.unregistered").subject == "a2"
    cluster.master.awaited = frozenset({"a2"})
    assert "still waits" in only(cluster, "agent.unregistered").what


@pytest.mark.parametrize(
    ("state", "code", "command"),
    [
        (AgentState.UNREACHABLE, "agent.unreachable", "polly agent fence a1"),
        (AgentState.LOST, "agent.lost", "polly agent fence a1"),
        (AgentState.FENCED, "agent.fenced", "polly agent list"),
    ],
)
def test_volumes_that_wait_for_an_agent(
    cluster: Cluster, volume: Volume, state: AgentState, code: str, command: str
) -> None:
    cluster.state("a1", state)
    found = only(cluster, code)
    assert found.subject == "a1"
    assert volume.id in found.what
    assert command in found.remedy


def test_an_agent_without_volumes_is_waited_for_by_nobody(cluster: Cluster) -> None:
    cluster.state("a2", AgentState.LOST)
    assert cluster.codes() == []


# The master


def test_a_master_that_does_not_answer(cluster: Cluster) -> None:
    cluster.master.away = True
    only(cluster, "master.unreachable")


def test_totals_that_are_not_the_ledgers(cluster: Cluster, volume: Volume) -> None:
    agent = cluster.ledger.agent("a1")
    cluster.register(agent, [])
    found = only(cluster, "provider.totals")
    assert "as volume data" in found.what
    assert "for role eng" in found.what
    assert cluster.pauses == [9.0], "totals settle for two seconds, are replaced every five, and then on their way"


def test_a_provider_that_the_master_has_lost(cluster: Cluster) -> None:
    known = cluster.master.agents["a1"]
    cluster.master.agents["a1"] = dataclasses.replace(known, providers=())
    only(cluster, "provider.totals")


def test_a_provider_of_ours_that_the_ledger_does_not_know(cluster: Cluster) -> None:
    known = cluster.master.agents["a2"]
    stranger = RegisteredProvider("stranger", "org.polly.mesos", "test", known.providers[0].resources)
    empty = RegisteredProvider("retired", "org.polly.mesos", "test", ())
    foreign = RegisteredProvider("foreign", "org.polly.mesos", "another", known.providers[0].resources)
    cluster.master.agents["a2"] = dataclasses.replace(known, providers=(*known.providers, stranger, empty, foreign))
    assert only(cluster, "provider.unknown").subject == "stranger@a2"


# The ledger's own


def test_a_step_without_outcome_for_long(cluster: Cluster, volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.ledger.begin("volume.detach", volume.id, {})
    monkeypatch.setattr("polly_mesos.ledger.check.time", Later())
    assert only(cluster, "operation.unfinished").subject == volume.id


class Later:
    """The time in an hour."""

    @staticmethod
    def time() -> float:
        import time

        return time.time() + 3600


def test_a_pool_that_promised_too_much(cluster: Cluster) -> None:
    cluster.volume()
    cluster.ledger.set_pool(Pool("gold", "gold", "local", "", MB))
    cluster.agree()
    assert only(cluster, "pool.overcommitted").subject == "gold"


def test_all_else_that_the_ledger_tells_of_itself_is_passed_on(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = sorted(of_the_ledger() & KINDS.keys())
    told = [LedgerFinding(KINDS[code][0], code, f"of {code}", "what", "remedy") for code in codes]
    monkeypatch.setattr("polly_mesos.audit.gathering.check", lambda ledger, thorough: told)
    only(cluster, *codes)


def of_the_ledger() -> set[str]:
    """The codes that the check of the ledger has, by its source."""
    return written_in(Path(check.__file__))


def written_in(source: Path) -> set[str]:
    return set(re.findall(r'"([a-z]+\.[a-z-]+)"', source.read_text()))


def test_every_kind_has_its_test() -> None:
    assert len(of_the_ledger()) > 10
    told_as_agent_lost = {"agent.dead-with-volumes"}
    assert of_the_ledger() - told_as_agent_lost <= KINDS.keys(), "each has its severity and meaning"
    assert written_in(Path(__file__)) | of_the_ledger() >= KINDS.keys(), "each is made to appear"


def test_codes_do_not_change_their_form() -> None:
    for code, (severity, meaning) in KINDS.items():
        assert re.fullmatch(r"[a-z]+\.[a-z-]+", code)
        assert severity in (Severity.ERROR, Severity.WARNING)
        assert meaning
