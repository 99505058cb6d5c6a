"""The hazards of pymesos' executor driver, shown on the plain class, and that ours has none of them."""

from __future__ import annotations

import base64
import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from polly_mesos.errors import AgentUnreachable, ConfigurationError
from polly_mesos.mesos.driver_process import Backoff
from polly_mesos.mesos.executor_driver import ExecutorDriver

# After ours, which keeps pymesos' import from replacing the handler of SIGINT.
from pymesos import MesosExecutorDriver  # isort: skip

SUBSCRIBED = {
    "executor_info": {"executor_id": {"value": "e-1"}},
    "framework_info": {"id": {"value": "F-1"}, "user": "root", "name": "polly"},
    "agent_info": {"id": {"value": "a-2"}, "hostname": "host"},
}
TASK = {"task_id": {"value": "t-1"}, "name": "polly"}
TOKEN = "header.claims.signature"
PLAIN_PATH = "/api/v1/executor"
AGENT_PATH = "/slave(1)/api/v1/executor"


@pytest.fixture
def agents(peers: Callable[..., Any]) -> Callable[..., Any]:
    def make(path: str = AGENT_PATH, **options: Any) -> Any:
        return peers(SUBSCRIBED, path=path, **options)

    return make


@pytest.fixture
def agent(agents: Callable[..., Any]) -> Any:
    return agents()


def environment(agent: Any, **changes: str) -> dict[str, str]:
    """What an agent gives to an executor."""
    return {
        "MESOS_AGENT_ENDPOINT": agent.address,
        "MESOS_SLAVE_PID": f"slave(1)@{agent.address}",
        "MESOS_SLAVE_ID": "a-1",
        "MESOS_FRAMEWORK_ID": "F-1",
        "MESOS_EXECUTOR_ID": "e-1",
        "MESOS_CHECKPOINT": "1",
        "MESOS_RECOVERY_TIMEOUT": "15mins",
        "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "5secs",
        **changes,
    }


def hardened(executor: Any, variables: Mapping[str, str], **options: Any) -> ExecutorDriver:
    return ExecutorDriver(executor, variables, **{"backoff": Backoff(initial=0.02, maximum=0.05), **options})


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def make(executor: Any, variables: Mapping[str, str]) -> Any:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return MesosExecutorDriver(executor)

    return make


def acknowledge(agent: Any, status: dict[str, Any], stream: int = 1) -> None:
    payload = {"task_id": status["task_id"], "uuid": status["uuid"]}
    agent.stream(stream).event("ACKNOWLEDGED", payload)


def unacknowledged(subscribe: Any) -> list[str]:
    updates = subscribe.body["subscribe"]["unacknowledged_updates"]
    return [update["status"]["state"] for update in updates]


class TestUpdates:
    def test_plain_pymesos_loses_updates_that_the_agent_did_not_acknowledge(
        self, agents: Callable[..., Any], recorder: Any, run_plain: Any, plain: Any
    ) -> None:
        agent = agents(PLAIN_PATH)
        driver = run_plain(plain(recorder, environment(agent)))
        recorder.heard("registered")
        driver.sendStatusUpdate({"task_id": TASK["task_id"], "state": "TASK_RUNNING"})
        agent.stream(1).close()
        assert unacknowledged(agent.call("SUBSCRIBE", 2)) == []

    def test_updates_are_sent_with_every_subscription_until_they_are_acknowledged(
        self, agent: Any, recorder: Any, run: Any
    ) -> None:
        driver = run(hardened(recorder, environment(agent)))
        agent.stream(1).event("LAUNCH", {"task": TASK})
        recorder.heard("launch")
        assert driver.send_update("t-1", "TASK_STARTING")
        assert driver.send_update("t-1", "TASK_RUNNING")
        agent.stream(1).close()
        subscribe = agent.call("SUBSCRIBE", 2)
        assert unacknowledged(subscribe) == ["TASK_STARTING", "TASK_RUNNING"]
        assert subscribe.body["subscribe"]["unacknowledged_tasks"] == [TASK]
        sent = [call.body["update"]["status"] for call in agent.of("UPDATE")]
        resent = [update["status"] for update in subscribe.body["subscribe"]["unacknowledged_updates"]]
        assert resent == sent, "the same updates with the same ids"

        acknowledge(agent, sent[0], stream=2)
        recorder.wait_for(lambda: len(driver.updates) == 1)
        agent.stream(2).close()
        subscribe = agent.call("SUBSCRIBE", 3)
        assert unacknowledged(subscribe) == ["TASK_RUNNING"]
        assert subscribe.body["subscribe"]["unacknowledged_tasks"] == []

    def test_plain_pymesos_raises_when_an_update_has_no_connection(self, agent: Any, recorder: Any, plain: Any) -> None:
        driver = plain(recorder, environment(agent))
        with pytest.raises(RuntimeError, match="Not connected yet"):
            driver.sendStatusUpdate({"task_id": TASK["task_id"], "state": "TASK_RUNNING"})

    def test_an_update_without_connection_goes_out_with_the_next_subscription(
        self, agent: Any, recorder: Any, run: Any
    ) -> None:
        driver = hardened(recorder, environment(agent))
        assert driver.send_update("t-1", "TASK_RUNNING") is False
        assert driver.send_message(b"lost") is False
        run(driver)
        assert unacknowledged(agent.call("SUBSCRIBE")) == ["TASK_RUNNING"]

    def test_an_update_made_while_subscribing_is_sent_once_subscribed(
        self, agent: Any, recorder: Any, run: Any
    ) -> None:
        agent.subscribed = None
        driver = run(hardened(recorder, environment(agent)))
        stream = agent.stream()
        assert driver.send_update("t-1", "TASK_RUNNING") is False
        assert agent.of("UPDATE") == []
        stream.event("SUBSCRIBED", SUBSCRIBED)
        assert agent.call("UPDATE").body["update"]["status"]["state"] == "TASK_RUNNING"

    def test_an_update_that_got_no_answer_goes_out_with_a_new_subscription(
        self, agent: Any, recorder: Any, answer: Any, run: Any
    ) -> None:
        agent.script("UPDATE", answer(hang=True))
        driver = run(hardened(recorder, environment(agent), request_timeout=0.2))
        recorder.heard("registered")
        assert driver.send_update("t-1", "TASK_RUNNING") is False
        assert unacknowledged(agent.call("SUBSCRIBE", 2)) == ["TASK_RUNNING"]
        recorder.heard("reregistered")

    def test_updates_wait_in_order_for_an_agent_that_is_not_ready(
        self, agent: Any, recorder: Any, answer: Any, run: Any
    ) -> None:
        agent.script("UPDATE", *[answer(503, "Agent has not finished recovery")] * 3)
        driver = run(hardened(recorder, environment(agent)))
        recorder.heard("registered")
        assert driver.send_update("t-1", "TASK_STARTING") is False
        assert driver.send_update("t-1", "TASK_RUNNING") is False
        agent.call("UPDATE", 5)
        states = [call.body["update"]["status"]["state"] for call in agent.of("UPDATE")]
        assert states == ["TASK_STARTING"] * 4 + ["TASK_RUNNING"]
        assert len(agent.of("SUBSCRIBE")) == 1, "the subscription is not given up for that"
        assert driver.send_update("t-1", "TASK_FINISHED") is True

    def test_an_update_that_the_agent_calls_malformed_is_not_kept(
        self, agent: Any, recorder: Any, answer: Any, run: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        agent.script("UPDATE", answer(400, "no such state"))
        driver = run(hardened(recorder, environment(agent)))
        recorder.heard("registered")
        assert driver.send_update("t-1", "TASK_RUNING") is False
        assert "no such state" in caplog.text
        agent.stream(1).close()
        assert unacknowledged(agent.call("SUBSCRIBE", 2)) == []

    def test_an_update_has_the_form_that_mesos_wants(self, agent: Any, recorder: Any, run: Any) -> None:
        driver = run(hardened(recorder, environment(agent)))
        recorder.heard("registered")
        driver.send_update(
            "t-1", "TASK_FAILED", message="why", reason="REASON_TASK_INVALID", healthy=False, data=b"\x00\xff"
        )
        body = agent.call("UPDATE").body
        status = body["update"]["status"]
        assert (body["framework_id"], body["executor_id"]) == ({"value": "F-1"}, {"value": "e-1"})
        assert len(base64.b64decode(status.pop("uuid"))) == 16
        assert status.pop("timestamp") > 0
        assert status == {
            "task_id": {"value": "t-1"},
            "executor_id": {"value": "e-1"},
            "state": "TASK_FAILED",
            "source": "SOURCE_EXECUTOR",
            "message": "why",
            "reason": "REASON_TASK_INVALID",
            "healthy": False,
            "data": "AP8=",
        }
        assert driver.send_message(b"\x00\xff")
        assert agent.call("MESSAGE").body["message"] == {"data": "AP8="}


class TestCallbacks:
    def test_events_reach_the_callbacks_as_plain_values(self, agent: Any, recorder: Any, run: Any) -> None:
        driver = run(hardened(recorder, environment(agent)))
        stream = agent.stream()
        stream.event("LAUNCH", {"task": TASK})
        stream.event("HEARTBEAT")
        stream.event(
            "KILL", {"task_id": {"value": "t-1"}, "kill_policy": {"grace_period": {"nanoseconds": 2500000000}}}
        )
        stream.event("KILL", {"task_id": {"value": "t-1"}})
        stream.event("MESSAGE", {"data": "AP8="})
        recorder.heard("message")
        assert recorder.told == [
            ("registered", (SUBSCRIBED["executor_info"], SUBSCRIBED["framework_info"], SUBSCRIBED["agent_info"])),
            ("launch", (TASK,)),
            ("kill", ("t-1", 2.5)),
            ("kill", ("t-1", None)),
            ("message", (b"\x00\xff",)),
        ]
        assert (driver.agent_id, driver.framework_id) == ("a-2", "F-1")
        stream.close()
        assert recorder.heard("reregistered") == (SUBSCRIBED["agent_info"],)

    def test_a_task_whose_launch_raises_has_failed(
        self, agent: Any, recorder: Any, run: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        recorder.raising = ["launch"]
        driver = run(hardened(recorder, environment(agent)))
        agent.stream().event("LAUNCH", {"task": TASK})
        status = agent.call("UPDATE").body["update"]["status"]
        assert (status["task_id"], status["state"]) == (TASK["task_id"], "TASK_FAILED")
        assert "RuntimeError: defect in launch" in caplog.text
        assert driver.callback_errors == 1

    @pytest.mark.parametrize("name", ["registered", "disconnected", "message", "kill", "reregistered"])
    def test_an_exception_in_any_other_callback_is_logged_and_the_driver_lives_on(
        self, name: str, agent: Any, recorder: Any, run: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        recorder.raising = [name]
        driver = run(hardened(recorder, environment(agent)))
        agent.stream(1).event("MESSAGE", {"data": ""})
        agent.stream(1).event("KILL", {"task_id": {"value": "t-1"}})
        agent.stream(1).close()
        agent.stream(2).event("MESSAGE", {"data": ""})
        recorder.heard("message", 2)
        assert driver.callback_errors == 1
        assert f"RuntimeError: defect in {name}" in caplog.text


class TestCheckpointing:
    def test_plain_pymesos_takes_zero_for_yes(self, agent: Any, recorder: Any, plain: Any) -> None:
        assert plain(recorder, environment(agent, MESOS_CHECKPOINT="0")).checkpoint is True

    @pytest.mark.parametrize("value", ["0", "", "false"])
    def test_without_checkpointing_a_lost_agent_is_the_end(
        self, value: str, agent: Any, recorder: Any, run: Any
    ) -> None:
        driver = run(hardened(recorder, environment(agent, MESOS_CHECKPOINT=value)))
        recorder.raising = ["disconnected"]
        agent.stream().close()
        assert recorder.heard("shutdown") == (5.0,)
        driver.join()
        assert [name for name, _ in recorder.told] == ["registered", "disconnected", "shutdown"]
        assert len(agent.calls) == 1

    def test_with_checkpointing_a_lost_agent_is_waited_for(
        self, agents: Callable[..., Any], recorder: Any, run: Any
    ) -> None:
        first = agents()
        driver = run(hardened(recorder, environment(first)))
        recorder.heard("registered")
        first.close()
        recorder.heard("disconnected")
        problem = recorder.wait_for(lambda: driver.problem)
        assert isinstance(problem, AgentUnreachable)
        agents(port=first.port)
        recorder.heard("reregistered")
        assert not recorder.of("shutdown")

    def test_an_agent_that_stays_away_for_the_recovery_timeout_is_the_end(
        self, agent: Any, recorder: Any, run: Any
    ) -> None:
        driver = run(hardened(recorder, environment(agent, MESOS_RECOVERY_TIMEOUT="200ms")))
        recorder.heard("registered")
        agent.close()
        assert recorder.heard("shutdown") == (5.0,)
        driver.join()
        assert driver.aborted

    def test_a_refused_subscription_is_tried_again(
        self, agent: Any, recorder: Any, answer: Any, run: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        agent.script("SUBSCRIBE", answer(503), answer(400, "Executor is not known"))
        run(hardened(recorder, environment(agent)))
        recorder.heard("registered")
        assert "refused executor e-1: HTTP 400 Bad Request: Executor is not known" in caplog.text


class TestShutdown:
    def test_plain_pymesos_kills_its_process_group(
        self, agents: Callable[..., Any], recorder: Any, run_plain: Any, plain: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        killed = threading.Event()
        monkeypatch.setattr(os, "killpg", lambda group, number: killed.set() if group == 0 else None)
        agent = agents(PLAIN_PATH)
        run_plain(plain(recorder, environment(agent, MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD="1ms")))
        agent.stream().event("SHUTDOWN")
        assert killed.wait(10)

    def test_a_shutdown_ends_the_driver_and_kills_nobody(
        self, agent: Any, recorder: Any, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_threads(*_: object, **__: object) -> None:
            raise AssertionError("a thread that kills")

        monkeypatch.setattr(os, "killpg", no_threads)
        driver = hardened(recorder, environment(agent, MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD="1ms"))
        recorder.actions["shutdown"] = lambda grace: driver.send_update("t-1", "TASK_KILLED")
        run(driver)
        recorder.heard("registered")
        monkeypatch.setattr("pymesos.executor.Thread", no_threads)
        agent.stream().event("SHUTDOWN")
        driver.join()
        assert recorder.heard("shutdown") == (0.001,)
        assert agent.call("UPDATE").body["update"]["status"]["state"] == "TASK_KILLED"
        assert driver.callback_errors == 0

    def test_a_shutdown_that_raises_ends_the_driver_too(self, agent: Any, recorder: Any, run: Any) -> None:
        recorder.raising = ["shutdown"]
        driver = run(hardened(recorder, environment(agent)))
        agent.stream().event("SHUTDOWN")
        driver.join()
        assert driver.aborted
        assert driver.callback_errors == 1


class TestAgent:
    def test_plain_pymesos_ignores_the_agents_own_path(
        self, agent: Any, recorder: Any, run_plain: Any, plain: Any
    ) -> None:
        run_plain(plain(recorder, environment(agent)))
        assert agent.call("SUBSCRIBE").path == PLAIN_PATH
        assert agent.streams == []

    def test_the_agents_own_path_is_used(self, agent: Any, recorder: Any, run: Any) -> None:
        driver = run(hardened(recorder, environment(agent)))
        recorder.heard("registered")
        driver.send_message(b"")
        assert {call.path for call in agent.calls} == {AGENT_PATH}
        assert (driver.endpoint, driver.agent_path) == (agent.address, "/slave(1)")

    def test_an_endpoint_without_pid_has_the_common_path(
        self, agents: Callable[..., Any], recorder: Any, run: Any
    ) -> None:
        agent = agents(PLAIN_PATH)
        run(hardened(recorder, environment(agent, MESOS_SLAVE_PID="")))
        recorder.heard("registered")

    def test_a_pid_without_endpoint_is_enough(self, agent: Any, recorder: Any, run: Any) -> None:
        run(hardened(recorder, environment(agent, MESOS_AGENT_ENDPOINT="")))
        recorder.heard("registered")

    def test_plain_pymesos_does_not_show_its_token(
        self, agents: Callable[..., Any], recorder: Any, run_plain: Any, plain: Any
    ) -> None:
        agent = agents(PLAIN_PATH)
        agent.authorization = f"Bearer {TOKEN}"
        driver = run_plain(plain(recorder, environment(agent, MESOS_EXECUTOR_AUTHENTICATION_TOKEN=TOKEN)))
        agent.wait_for(lambda: driver.aborted)
        assert "Authorization" not in agent.call("SUBSCRIBE").headers

    def test_the_token_goes_with_every_call_and_shows_nowhere(
        self, agent: Any, recorder: Any, run: Any, answer: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        agent.authorization = f"Bearer {TOKEN}"
        agent.script("SUBSCRIBE", answer(401, "not yet"))
        driver = run(hardened(recorder, environment(agent, MESOS_EXECUTOR_AUTHENTICATION_TOKEN=TOKEN)))
        recorder.heard("registered")
        assert driver.send_message(b"hello")
        assert "not yet" in caplog.text
        assert TOKEN not in caplog.text + repr(driver) + str(driver)

    @pytest.mark.parametrize("name", ["MESOS_FRAMEWORK_ID", "MESOS_EXECUTOR_ID"])
    def test_a_missing_variable_is_named(self, name: str, agent: Any, recorder: Any) -> None:
        with pytest.raises(ConfigurationError, match=f"{name} is not set.*Mesos agent"):
            hardened(recorder, environment(agent, **{name: ""}))

    def test_an_environment_without_an_agent_is_refused(self, agent: Any, recorder: Any) -> None:
        with pytest.raises(ConfigurationError, match="MESOS_AGENT_ENDPOINT is not set"):
            hardened(recorder, environment(agent, MESOS_AGENT_ENDPOINT="", MESOS_SLAVE_PID=""))

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("MESOS_AGENT_ENDPOINT", "host:port"),
            ("MESOS_RECOVERY_TIMEOUT", "15 minutes"),
            ("MESOS_RECOVERY_TIMEOUT", "mins"),
            ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "5"),
        ],
    )
    def test_a_malformed_variable_is_named(self, name: str, value: str, agent: Any, recorder: Any) -> None:
        with pytest.raises(ConfigurationError, match=name) as caught:
            hardened(recorder, environment(agent, **{name: value}))
        assert value in str(caught.value)
