"""The lock, and what the agent's list of providers means."""

from __future__ import annotations

import subprocess
import sys

import pytest

from polly_mesos.errors import AgentUnreachable, InvalidRequest
from polly_mesos.mesos import resources as arithmetic
from polly_mesos.mesos.agent_client import AgentClient, SubscribedProvider
from polly_mesos.mesos.http import MesosRefused
from polly_mesos.mesos.provider import ProviderIdentity, ProviderState, ResourceProvider
from polly_mesos.mesos.provider.transport import Lock, look

US = ProviderIdentity("org.polly.mesos", "test", "rp", "agent")


def test_the_lock_is_held_by_one_at_a_time(tmp_path):
    first, second = Lock(tmp_path / "below" / "lock"), Lock(tmp_path / "below" / "lock")
    assert first.try_acquire()
    assert first.try_acquire()
    assert not second.try_acquire()
    first.release()
    assert second.try_acquire()
    second.release()


def test_the_lock_of_a_dead_process_is_free(tmp_path):
    program = (
        "import os, sys, pathlib; from polly_mesos.mesos.provider.transport import Lock\n"
        "print(Lock(pathlib.Path(sys.argv[1])).try_acquire(), flush=True); os._exit(1)"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path / "lock")]
    assert subprocess.run(arguments, capture_output=True, text=True, check=False).stdout == "True\n"
    lock = Lock(tmp_path / "lock")
    assert lock.try_acquire()
    lock.release()


class Agent:
    """Names providers, or fails."""

    def __init__(self, *answer):
        self.answer = answer

    def resource_providers(self):
        if isinstance(self.answer[0], Exception):
            raise self.answer[0]
        return [SubscribedProvider(*fields, ()) for fields in self.answer[0]]


@pytest.mark.parametrize(
    ("present", "held"),
    [
        ([], False),
        ([("other", "org.polly.mesos", "another")], False),
        ([("rp", "org.polly.mesos", "test")], True),
        ([("other", "org.polly.mesos", "test")], True),
        (MesosRefused("no", status=403), None),
    ],
)
def test_whether_the_agent_holds_a_stream_of_ours(present, held):
    assert look(Agent(present), US) is held


def test_an_agent_that_is_away_is_not_an_agent_without_providers():
    with pytest.raises(AgentUnreachable):
        look(Agent(AgentUnreachable("away")), US)


@pytest.mark.parametrize(
    "resource",
    [
        {"name": "cpus", "scalar": {"value": 1}},
        {"name": "disk", "scalar": {"value": 1}},
        {
            **arithmetic.raw_disk(1, profile="p", vendor="v"),
            "disk": {"source": {"type": "RAW"}, "persistence": {"id": "x"}},
        },
        {"name": "disk", "scalar": {"value": -1}},
    ],
)
def test_what_a_provider_cannot_have_is_refused_at_once(resource, tmp_path):
    provider = ResourceProvider(AgentClient("127.0.0.1:1"), None, US, lock_path=tmp_path / "lock")
    with pytest.raises(InvalidRequest):
        provider.set_desired([resource])


def test_a_provider_whose_agent_is_away_can_be_stopped(tmp_path):
    provider = ResourceProvider(AgentClient("127.0.0.1:1"), None, US, lock_path=tmp_path / "lock")
    provider.start()
    assert provider.wait_for_state(ProviderState.FINDING, 10)
    provider.stop()
    assert provider.state is ProviderState.STOPPED
    assert Lock(tmp_path / "lock").try_acquire()


class BrokenAgent:
    """Answers nothing that could be expected."""

    def agent_id(self):
        return "agent"

    def resource_providers(self):
        return []

    def subscribe_provider(self, call):
        raise RuntimeError("no such thing")

    call_provider_api = subscribe_provider


def test_a_mistake_ends_the_provider_gives_the_lock_back_and_is_told(tmp_path, monkeypatch):
    provider = ResourceProvider(BrokenAgent(), None, US, lock_path=tmp_path / "lock")
    monkeypatch.setattr(provider, "_act", lambda action: BrokenAgent().subscribe_provider(action))
    provider.start()
    assert provider.wait_for_state(ProviderState.STOPPED, 10.0)
    assert provider.failed
    lock = Lock(tmp_path / "lock")
    assert lock.try_acquire()
    lock.release()
