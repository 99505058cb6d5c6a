"""The executor half's calls to the scheduler half: patient, honest about errors, and silent about the token."""

from __future__ import annotations

import logging
import threading

import pytest

from polly_mesos.agent_api import Application, Assignment, Hello, Progress, Summons, Verdict
from polly_mesos.errors import (
    ConfigurationError,
    InvalidRequest,
    PlatformUnavailable,
    PollyError,
    SchedulerUnreachable,
    StaleGeneration,
)
from polly_mesos.executor.scheduler_client import SchedulerClient
from tests.unit.executor.fakes import AGENT, TOKEN, VOLUME, FakeScheduler, eventually

HELLO = Hello(AGENT, "host-a", "host-a:5051", "0.1.0")


def in_background(call: object) -> tuple[threading.Thread, list[object]]:
    """Run a call that is expected to wait; its result or its error lands in the list."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(call())  # type: ignore[operator]
        except PollyError as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, results


def test_hello_is_answered_with_the_welcome(client: SchedulerClient, scheduler: FakeScheduler) -> None:
    assert client.hello(HELLO) == scheduler.welcome
    assert scheduler.hellos == [HELLO]


def test_a_call_waits_until_the_scheduler_is_back(client: SchedulerClient, scheduler: FakeScheduler) -> None:
    scheduler.down()
    thread, results = in_background(lambda: client.hello(HELLO))
    thread.join(0.1)
    assert not results
    scheduler.up()
    eventually(lambda: results)
    assert results == [scheduler.welcome]


def test_answers_that_say_try_later_are_tried_again(client: SchedulerClient, scheduler: FakeScheduler) -> None:
    scheduler.failures = [
        (503, None),
        (500, {"code": "internal", "message": "m"}),
        (503, PlatformUnavailable("p").as_json()),
    ]
    assert client.hello(HELLO) == scheduler.welcome
    assert not scheduler.failures


def test_a_refusal_comes_back_as_the_error_that_it_was(client: SchedulerClient, scheduler: FakeScheduler) -> None:
    scheduler.stale.add(VOLUME)
    with pytest.raises(StaleGeneration, match="on another host now"):
        client.step(VOLUME, "published", Progress(1), patience=5.0)
    assert scheduler.requests == [("POST", f"/agent/v1/publications/{VOLUME}/published")]


def test_an_answer_of_another_version_names_what_does_not_fit(
    client: SchedulerClient, scheduler: FakeScheduler
) -> None:
    scheduler.failures = [(200, {"something": "else"})]
    with pytest.raises(PollyError, match="not a Welcome"):
        client.hello(HELLO)
    scheduler.failures = [(422, None)]
    with pytest.raises(InvalidRequest, match="HTTP 422"):
        client.hello(HELLO)


def test_patience_ends(client: SchedulerClient, scheduler: FakeScheduler) -> None:
    scheduler.down()
    with pytest.raises(SchedulerUnreachable, match=scheduler.url):
        client.step(VOLUME, "published", Progress(1), patience=0.1)


def test_a_call_without_a_token_waits_for_the_summons(scheduler: FakeScheduler) -> None:
    client = SchedulerClient()
    thread, results = in_background(lambda: client.hello(HELLO))
    thread.join(0.05)
    assert not results
    assert not client.summoned
    client.summon(Summons(scheduler.url, TOKEN))
    eventually(lambda: results)
    assert results == [scheduler.welcome]
    client.close()


def test_a_refused_token_is_forgotten_and_a_new_one_used(client: SchedulerClient, scheduler: FakeScheduler) -> None:
    scheduler.token = "another"
    _, results = in_background(lambda: client.hello(HELLO))
    eventually(lambda: not client.summoned)
    assert len(scheduler.requests) == 1, "a refused token is not tried again"
    assert not client.summon(Summons(scheduler.url, TOKEN)), "and not taken again"
    assert client.summon(Summons(scheduler.url, "another"))
    eventually(lambda: results)
    assert results == [scheduler.welcome]


def test_closing_ends_calls_that_wait(client: SchedulerClient, scheduler: FakeScheduler) -> None:
    scheduler.down()
    _, results = in_background(lambda: client.hello(HELLO))
    client.close()
    eventually(lambda: results)
    assert isinstance(results[0], SchedulerUnreachable)


def test_the_long_poll_answers_when_something_changes(client: SchedulerClient, scheduler: FakeScheduler) -> None:
    _, results = in_background(lambda: client.assignment(after=1, wait=30.0))
    eventually(lambda: scheduler.requests)
    assert not results
    scheduler.assign(Assignment(0, ({"name": "disk"},), (), {VOLUME: 3}))
    eventually(lambda: results)
    assert results == [Assignment(2, ({"name": "disk"},), (), {VOLUME: 3})]


def test_a_verdict_travels_whole(client: SchedulerClient, scheduler: FakeScheduler) -> None:
    info = {"type": "RESERVE", "reserve": {"resources": [{"name": "disk"}]}}
    verdict = Verdict("op", "OPERATION_FINISHED", "uuid", info, "framework", "", ({"name": "disk"},))
    scheduler.verdicts["op"] = verdict
    assert client.apply(Application("op", info, "framework")) == verdict
    client.acknowledged("op")
    assert scheduler.acknowledged == ["op"]


@pytest.mark.parametrize("address", ["", "10.0.0.1:8080", "ftp://scheduler", "http://"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="http://HOST:PORT"):
        SchedulerClient().summon(Summons(address, TOKEN))


def test_the_token_is_in_no_representation_and_no_log(
    client: SchedulerClient, scheduler: FakeScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client.hello(HELLO)
    scheduler.down()
    with pytest.raises(SchedulerUnreachable) as failure:
        client.step(VOLUME, "published", Progress(1), patience=0.0)
    scheduler.up()
    scheduler.token = "another"
    in_background(lambda: client.hello(HELLO))
    eventually(lambda: not client.summoned)
    assert "refused the token" in caplog.text
    assert TOKEN not in caplog.text + repr(client) + repr(failure.value)
