"""The hazards of pymesos' scheduler driver, shown on the plain class, and that ours has none of them."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from polly_mesos.errors import ConfigurationError

OFFER = {"id": {"value": "o-1"}, "agent_id": {"value": "a-1"}}
STATUS = {
    "task_id": {"value": "t-1"},
    "agent_id": {"value": "a-1"},
    "state": "TASK_RUNNING",
    "uuid": "Y2NjY2NjY2NjY2NjY2NjYw==",
}
OPERATION_STATUS = {
    "operation_id": {"value": "op-1"},
    "state": "OPERATION_FINISHED",
    "uuid": {"value": "ZGRkZGRkZGRkZGRkZGRkZA=="},
    "agent_id": {"value": "a-1"},
    "resource_provider_id": {"value": "rp-1"},
}


class TestCallbacks:
    def test_plain_pymesos_tears_the_framework_down_when_a_callback_raises(
        self, master: Any, recorder: Any, run_plain: Any, plain: Any
    ) -> None:
        recorder.raising = ["resourceOffers"]
        run_plain(plain(recorder, master.address))
        master.stream().event("OFFERS", {"offers": [OFFER]})
        assert master.call("TEARDOWN").body["framework_id"] == {"value": "F-1"}

    def test_an_exception_in_a_callback_is_logged_and_the_driver_lives_on(
        self, master: Any, recorder: Any, run: Any, caplog: pytest.LogCaptureFixture, hardened: Any
    ) -> None:
        recorder.raising = ["offers"]
        driver = run(hardened(recorder, master.address))
        master.stream().event("OFFERS", {"offers": [OFFER]})
        master.stream().event("OFFERS", {"offers": [OFFER]})
        assert recorder.heard("offers", 2) == ([OFFER],)
        assert driver.callback_errors == 1
        assert "RuntimeError: defect in offers" in caplog.text
        assert driver.connected
        driver.stop()
        driver.join()
        assert [call.type for call in master.calls] == ["SUBSCRIBE"]

    @pytest.mark.parametrize("name", ["registered", "disconnected", "refused"])
    def test_an_exception_in_any_other_callback_does_no_more(
        self, name: str, master: Any, recorder: Any, answer: Any, run: Any, hardened: Any
    ) -> None:
        master.script("SUBSCRIBE", answer(403, "not yet"))
        recorder.raising = [name]
        driver = run(hardened(recorder, master.address))
        master.stream(1).close()
        assert recorder.heard("registered", 2)[0] == "F-1"
        driver.stop()
        driver.join()
        assert driver.callback_errors == 1
        assert {call.type for call in master.calls} == {"SUBSCRIBE"}

    def test_events_reach_the_callbacks_as_plain_values(
        self, master: Any, recorder: Any, run: Any, hardened: Any
    ) -> None:
        run(hardened(recorder, master.address))
        stream, agent, executor = master.stream(), {"value": "a-1"}, {"value": "e-1"}
        stream.event("HEARTBEAT")
        stream.event("RESCIND", {"offer_id": {"value": "o-1"}})
        stream.event("MESSAGE", {"executor_id": executor, "agent_id": agent, "data": "AP8="})
        stream.event("FAILURE", {"agent_id": agent})
        stream.event("FAILURE", {"agent_id": agent, "executor_id": executor, "status": 9})
        stream.event("FAILURE", {"agent_id": agent, "executor_id": executor})
        stream.event("INVERSE_OFFERS", {"inverse_offers": [{"id": {"value": "i-1"}}]})
        stream.event("SOMETHING_NEW", {})
        stream.event("OFFERS", {"offers": [OFFER]})
        recorder.heard("offers")
        framework_id, master_info = recorder.heard("registered")
        assert (framework_id, master_info["id"], master_info["hostname"]) == ("F-1", "m-1", "127.0.0.1")
        assert recorder.told[1:] == [
            ("rescinded", ("o-1",)),
            ("message", ("e-1", "a-1", b"\x00\xff")),
            ("agent_lost", ("a-1",)),
            ("executor_lost", ("e-1", "a-1", 9)),
            ("executor_lost", ("e-1", "a-1", -1)),
            ("offers", ([OFFER],)),
        ]

    def test_an_event_that_arrives_in_pieces_is_one_event(
        self, master: Any, recorder: Any, run: Any, hardened: Any
    ) -> None:
        run(hardened(recorder, master.address))
        record = b'{"type": "RESCIND", "rescind": {"offer_id": {"value": "o-9"}}}'
        for byte in b"%d\n%b" % (len(record), record):
            master.stream().raw(bytes([byte]))
        assert recorder.heard("rescinded") == ("o-9",)


class TestAcknowledgements:
    def test_a_status_is_acknowledged_only_when_its_callback_succeeded(
        self, master: Any, recorder: Any, run: Any, hardened: Any
    ) -> None:
        recorder.raising = ["update"]
        run(hardened(recorder, master.address))
        master.stream().event("UPDATE", {"status": {**STATUS, "uuid": "Zmlyc3Q="}})
        master.stream().event("UPDATE", {"status": STATUS})
        acknowledged = master.call("ACKNOWLEDGE").body["acknowledge"]
        assert acknowledged == {name: STATUS[name] for name in ("task_id", "agent_id", "uuid")}

    def test_a_status_without_uuid_is_not_acknowledged(
        self, master: Any, recorder: Any, run: Any, hardened: Any
    ) -> None:
        run(hardened(recorder, master.address))
        without = {name: value for name, value in STATUS.items() if name != "uuid"}
        master.stream().event("UPDATE", {"status": without})
        master.stream().event("UPDATE", {"status": STATUS})
        master.call("ACKNOWLEDGE")
        assert len(recorder.of("update")) == 2
        assert len(master.of("ACKNOWLEDGE")) == 1

    def test_plain_pymesos_acknowledges_operations_in_a_form_that_the_master_refuses(
        self, master: Any, recorder: Any, run_plain: Any, plain: Any
    ) -> None:
        driver = run_plain(plain(recorder, master.address))
        recorder.heard("registered")
        with pytest.raises(RuntimeError, match=r"400.*Not expecting a JSON object for field 'uuid'"):
            driver.acknowledgeOperationStatusUpdate(OPERATION_STATUS)

    def test_operation_statuses_are_acknowledged_after_their_callback(
        self, master: Any, recorder: Any, run: Any, hardened: Any
    ) -> None:
        recorder.operation_update = recorder.operation_update  # Now an attribute, so that the protocol is satisfied.
        recorder.raising = ["operation_update"]
        driver = run(hardened(recorder, master.address))
        master.stream().event("UPDATE_OPERATION_STATUS", {"status": OPERATION_STATUS})
        master.stream().event("UPDATE_OPERATION_STATUS", {"status": {**OPERATION_STATUS, "state": "OPERATION_FAILED"}})
        assert master.call("ACKNOWLEDGE_OPERATION_STATUS").body["acknowledge_operation_status"] == {
            "uuid": OPERATION_STATUS["uuid"]["value"],
            "operation_id": {"value": "op-1"},
            "agent_id": {"value": "a-1"},
            "resource_provider_id": {"value": "rp-1"},
        }
        assert driver.acknowledge_operation(OPERATION_STATUS)
        assert driver.acknowledge_operation({"state": "OPERATION_PENDING"}), "nothing to acknowledge"
        assert len(recorder.of("operation_update")) == 2
        assert len(master.of("ACKNOWLEDGE_OPERATION_STATUS")) == 2


class TestCalls:
    def test_plain_pymesos_waits_a_day_for_an_answer(
        self, master: Any, recorder: Any, run_plain: Any, plain: Any
    ) -> None:
        driver = run_plain(plain(recorder, master.address))
        recorder.heard("registered")
        assert driver._get_conn().timeout == 24 * 3600

    def test_a_master_that_does_not_answer_a_call_costs_the_request_timeout(
        self, master: Any, recorder: Any, answer: Any, run: Any, caplog: pytest.LogCaptureFixture, hardened: Any
    ) -> None:
        master.script("ACCEPT", answer(hang=True))
        driver = run(hardened(recorder, master.address, request_timeout=0.2))
        recorder.heard("registered")
        assert driver.accept([OFFER["id"]], [], 5.0) is False
        assert "ACCEPT" in caplog.text
        assert driver.decline([OFFER["id"]], 5.0) is True, "the next call is not in the way of the lost one"
        assert driver.connected

    def test_calls_have_the_form_that_mesos_wants(self, master: Any, recorder: Any, run: Any, hardened: Any) -> None:
        driver = run(hardened(recorder, master.address))
        recorder.heard("registered")
        operation = {"type": "LAUNCH", "launch": {"task_infos": []}}
        assert driver.accept([OFFER["id"]], [operation], 5.0)
        assert driver.decline([OFFER["id"]], 3600.0)
        assert driver.suppress()
        assert driver.revive()
        assert driver.send_to_executor("e-1", "a-1", b"\x00\xff")
        assert driver.kill("t-1", "a-1")
        assert driver.reconcile([STATUS])
        assert driver.reconcile([])
        agent, framework = {"value": "a-1"}, {"framework_id": {"value": "F-1"}}
        task = {"task_id": {"value": "t-1"}, "agent_id": agent}
        accept = {"offer_ids": [OFFER["id"]], "operations": [operation], "filters": {"refuse_seconds": 5.0}}
        decline = {"offer_ids": [OFFER["id"]], "filters": {"refuse_seconds": 3600.0}}
        message = {"executor_id": {"value": "e-1"}, "agent_id": agent, "data": "AP8="}
        assert [call.body for call in master.calls[1:]] == [
            {"type": "ACCEPT", **framework, "accept": accept},
            {"type": "DECLINE", **framework, "decline": decline},
            {"type": "SUPPRESS", **framework},
            {"type": "REVIVE", **framework},
            {"type": "MESSAGE", **framework, "message": message},
            {"type": "KILL", **framework, "kill": task},
            {"type": "RECONCILE", **framework, "reconcile": {"tasks": [task]}},
            {"type": "RECONCILE", **framework, "reconcile": {"tasks": []}},
        ]

    def test_calls_answer_false_while_there_is_no_connection(self, recorder: Any, hardened: Any) -> None:
        driver = hardened(recorder, "127.0.0.1:1")
        assert not driver.connected
        assert driver.accept([], [], 1.0) is False
        assert driver.decline([], 1.0) is False
        assert driver.suppress() is False
        assert driver.revive() is False
        assert driver.send_to_executor("e", "a", b"") is False
        assert driver.kill("t", "a") is False
        assert driver.reconcile([]) is False
        assert driver.acknowledge_operation(OPERATION_STATUS) is False

    def test_a_refused_call_answers_false_with_the_reason_in_the_log(
        self, master: Any, recorder: Any, answer: Any, run: Any, caplog: pytest.LogCaptureFixture, hardened: Any
    ) -> None:
        master.script("SUPPRESS", answer(403, "Framework is not subscribed"))
        driver = run(hardened(recorder, master.address))
        recorder.heard("registered")
        assert driver.suppress() is False
        assert "Framework is not subscribed" in caplog.text


class TestStopping:
    def test_stopping_leaves_the_framework_alone(self, master: Any, recorder: Any, run: Any, hardened: Any) -> None:
        driver = run(hardened(recorder, master.address))
        recorder.heard("registered")
        assert driver.stop() is True
        driver.join()
        assert not driver.connected
        assert [call.type for call in master.calls] == ["SUBSCRIBE"]

    def test_a_teardown_is_sent_when_asked_for(self, master: Any, recorder: Any, run: Any, hardened: Any) -> None:
        driver = run(hardened(recorder, master.address))
        recorder.heard("registered")
        assert driver.stop(teardown=True) is True
        assert master.call("TEARDOWN").body == {"type": "TEARDOWN", "framework_id": {"value": "F-1"}}
        assert driver.framework_id is None

    def test_a_teardown_that_cannot_be_delivered_says_so(self, recorder: Any, hardened: Any) -> None:
        assert hardened(recorder, "127.0.0.1:1").stop(teardown=True) is False

    def test_a_stopped_driver_can_be_started_again(self, master: Any, recorder: Any, run: Any, hardened: Any) -> None:
        driver = run(hardened(recorder, master.address))
        recorder.heard("registered")
        driver.stop()
        driver.start()
        assert recorder.heard("registered", 2)[0] == "F-1"


class TestFrameworkInfo:
    def test_plain_pymesos_cannot_read_the_version_of_a_development_build(
        self, master: Any, recorder: Any, plain: Any
    ) -> None:
        master.version = "1.11.0-dev"
        driver = plain(recorder, master.address)
        driver.change_master(master.address)
        with pytest.raises(ValueError, match="0-dev"):
            _ = driver.framework

    def test_a_development_build_is_a_master_like_any_other(
        self, master: Any, recorder: Any, run: Any, hardened: Any
    ) -> None:
        master.version = "1.11.0-dev"
        run(hardened(recorder, master.address))
        master.stream().event("OFFERS", {"offers": [OFFER]})
        recorder.heard("offers")
        assert recorder.heard("registered")[1]["version"] == "1.11.0-dev"

    def test_what_the_framework_does_not_say_has_defaults(
        self, master: Any, recorder: Any, run: Any, hardened: Any
    ) -> None:
        run(hardened(recorder, master.address))
        info = master.call("SUBSCRIBE").body["subscribe"]["framework_info"]
        assert info["failover_timeout"] == 7 * 24 * 3600
        assert info["capabilities"] == [{"type": "MULTI_ROLE"}, {"type": "GPU_RESOURCES"}]
        assert "principal" not in info


class TestCredentials:
    SECRET = "pässwörd-of-polly"

    def test_plain_pymesos_cannot_use_every_secret_and_shows_it(self, recorder: Any, plain: Any) -> None:
        with pytest.raises(UnicodeEncodeError) as caught:
            plain(recorder, "127.0.0.1:1", principal="polly", secret=self.SECRET)
        assert self.SECRET in caught.value.object

    def test_principal_and_secret_go_with_every_call(self, master: Any, recorder: Any, run: Any, hardened: Any) -> None:
        master.authorization = "Basic cG9sbHk6cMOkc3N3w7ZyZC1vZi1wb2xseQ=="
        driver = run(hardened(recorder, master.address, principal="polly", secret=self.SECRET))
        recorder.heard("registered")
        assert driver.suppress()
        assert master.call("SUBSCRIBE").body["subscribe"]["framework_info"]["principal"] == "polly"

    def test_the_secret_shows_nowhere(
        self, master: Any, recorder: Any, run: Any, caplog: pytest.LogCaptureFixture, hardened: Any
    ) -> None:
        caplog.set_level(logging.DEBUG)
        master.authorization = "Basic of somebody else"
        driver = run(hardened(recorder, master.address, principal="polly", secret=self.SECRET))
        recorder.heard("refused", 2)
        shown = caplog.text + repr(driver) + str(driver) + str(driver.problem)
        assert "who are you?" in shown
        assert self.SECRET not in shown
        assert "Basic" not in shown

    @pytest.mark.parametrize("principal", [None, "", "a:b"])
    def test_a_secret_needs_a_usable_principal(self, principal: str | None, recorder: Any, hardened: Any) -> None:
        with pytest.raises(ConfigurationError, match="principal") as caught:
            hardened(recorder, "127.0.0.1:1", principal=principal, secret=self.SECRET)
        assert self.SECRET not in str(caught.value)
