"""How the scheduler's subscription comes to be, is lost and comes back: pymesos' plain class, and ours."""

from __future__ import annotations

from typing import Any

import pytest

from polly_mesos.errors import FrameworkRefused, MasterUnreachable
from polly_mesos.mesos.driver_process import Backoff

OFFER = {"id": {"value": "o-1"}, "agent_id": {"value": "a-1"}}


class TestSubscription:
    def test_plain_pymesos_dies_of_a_refused_subscription(
        self, master: Any, recorder: Any, answer: Any, run_plain: Any, plain: Any
    ) -> None:
        master.script("SUBSCRIBE", answer(403, "no"))
        driver = run_plain(plain(recorder, master.address))
        master.wait_for(lambda: driver.aborted)
        assert len(master.calls) == 1

    def test_a_refusal_is_told_in_the_masters_words_and_tried_again(
        self, master: Any, recorder: Any, answer: Any, run: Any, hardened: Any
    ) -> None:
        master.script("SUBSCRIBE", answer(403, "Not authorized to use role 'polly'"))
        problems: list[Any] = []
        recorder.actions["refused"] = lambda message: problems.append(driver.problem)
        driver = hardened(recorder, master.address)
        run(driver)
        recorder.heard("registered")
        assert recorder.heard("refused") == ("HTTP 403 Forbidden: Not authorized to use role 'polly'",)
        assert isinstance(problems[0], FrameworkRefused)
        assert "Not authorized to use role 'polly'" in str(problems[0])
        assert driver.problem is None

    def test_a_refused_framework_id_is_told_and_tried_again(
        self, master: Any, recorder: Any, run: Any, hardened: Any
    ) -> None:
        master.subscribed = None
        driver = run(hardened(recorder, master.address, {"id": {"value": "F-0"}}))
        master.stream(1).event("ERROR", {"message": "Framework has been removed"})
        assert recorder.heard("refused") == ("Framework has been removed",)
        assert master.call("SUBSCRIBE", 2).body["framework_id"] == {"value": "F-0"}
        assert isinstance(driver.problem, FrameworkRefused)
        assert "F-0" in str(driver.problem)
        assert not recorder.of("disconnected"), "there was no subscription to lose"

    def test_a_driver_whose_framework_id_another_scheduler_took_stops(
        self, master: Any, recorder: Any, run: Any, hardened: Any
    ) -> None:
        driver = run(hardened(recorder, master.address))
        master.stream().event("ERROR", {"message": "Framework failed over"})
        assert recorder.heard("refused") == ("Framework failed over",)
        driver.join()
        assert driver.aborted
        assert len(master.calls) == 1

    def test_a_refused_scheduler_can_stop_its_driver_in_the_callback(
        self, master: Any, recorder: Any, answer: Any, hardened: Any
    ) -> None:
        master.script("SUBSCRIBE", answer(401, "who?"))
        driver = hardened(recorder, master.address)
        recorder.actions["refused"] = lambda message: driver.stop()
        driver.start()
        driver.join()
        assert len(master.calls) == 1

    def test_a_master_that_is_not_ready_is_waited_for(
        self, master: Any, recorder: Any, answer: Any, run: Any, hardened: Any
    ) -> None:
        master.script("SUBSCRIBE", answer(404, "404 Not Found."), answer(503))
        run(hardened(recorder, master.address))
        recorder.heard("registered")
        assert not recorder.of("refused")

    def test_an_unreachable_master_is_reported_and_waited_for(
        self, masters: Any, recorder: Any, run: Any, caplog: pytest.LogCaptureFixture, hardened: Any
    ) -> None:
        gone = masters()
        gone.close()
        driver = run(hardened(recorder, gone.address))
        problem = recorder.wait_for(lambda: driver.problem)
        assert isinstance(problem, MasterUnreachable)
        assert gone.address in str(problem)
        assert "Connection refused" in str(problem)
        back = masters(port=gone.port)
        recorder.heard("registered")
        assert back.calls
        assert driver.problem is None
        assert caplog.text.count("Connection refused") == 1, "the same problem is a warning once"

    def test_a_host_that_does_not_exist_is_an_unreachable_master(self, recorder: Any, run: Any, hardened: Any) -> None:
        driver = run(hardened(recorder, "master.invalid:5050"))
        problem = recorder.wait_for(lambda: driver.problem)
        assert isinstance(problem, MasterUnreachable)
        assert "master.invalid:5050" in str(problem)

    def test_a_lost_subscription_is_made_again_with_the_same_id(
        self, master: Any, recorder: Any, run: Any, hardened: Any
    ) -> None:
        run(hardened(recorder, master.address))
        master.stream(1).close()
        assert "framework_id" not in master.call("SUBSCRIBE", 1).body
        again = master.call("SUBSCRIBE", 2).body
        assert again["framework_id"] == again["subscribe"]["framework_info"]["id"] == {"value": "F-1"}
        recorder.heard("registered", 2)
        assert [name for name, _ in recorder.told] == ["registered", "disconnected", "registered"]

    def test_what_is_not_recordio_costs_the_connection_only(
        self, master: Any, recorder: Any, run: Any, hardened: Any
    ) -> None:
        driver = run(hardened(recorder, master.address))
        master.stream(1).raw(b"this is not a length\n")
        recorder.heard("registered", 2)
        assert driver.connected

    def test_a_redirection_is_followed_and_the_given_master_asked_again_later(
        self, masters: Any, master: Any, recorder: Any, answer: Any, run: Any, hardened: Any
    ) -> None:
        leader = masters()
        master.script("SUBSCRIBE", answer(307, headers={"Location": f"//{leader.address}"}))
        run(hardened(recorder, master.address))
        leader.stream(1).close()
        recorder.heard("registered", 2)
        assert len(leader.calls) == 1
        assert len(master.calls) == 2

    def test_two_masters_that_redirect_to_each_other_are_not_stormed(
        self, masters: Any, master: Any, recorder: Any, answer: Any, run: Any, hardened: Any
    ) -> None:
        other = masters()
        for here, there in ((master, other), (other, master)):
            here.script("SUBSCRIBE", *[answer(307, headers={"Location": f"http://{there.address}/"})] * 1000)
        driver = run(hardened(recorder, master.address, backoff=Backoff(initial=60.0, maximum=60.0)))
        other.call("SUBSCRIBE")
        recorder.wait_for(lambda: driver.problem is not None and master.address in str(driver.problem))
        assert len(master.calls) == 1
        assert len(other.calls) == 1


class TestHeartbeatsAndBackoff:
    def test_plain_pymesos_does_not_notice_a_silent_master_and_ours_does(
        self, masters: Any, recorder: Any, run: Any, run_plain: Any, hardened: Any, plain: Any
    ) -> None:
        master, for_plain = masters(heartbeat_interval_seconds=0.05), masters(heartbeat_interval_seconds=0.05)
        of_plain = type(recorder)()
        run_plain(plain(of_plain, for_plain.address))
        of_plain.heard("registered")
        run(hardened(recorder, master.address))
        recorder.heard("registered", 3)
        assert len(recorder.of("disconnected")) >= 2
        assert len(for_plain.of("SUBSCRIBE")) == 1

    def test_heartbeats_keep_a_subscription(self, masters: Any, recorder: Any, run: Any, hardened: Any) -> None:
        master, silent = masters(heartbeat_interval_seconds=0.2), masters(heartbeat_interval_seconds=0.2)
        driver = run(hardened(recorder, master.address))
        stream = master.stream()
        run(hardened(type(recorder)(), silent.address))

        def silence_was_noticed_twice() -> bool:
            stream.event("HEARTBEAT")
            return len(silent.of("SUBSCRIBE")) > 2

        silent.wait_for(silence_was_noticed_twice)
        assert driver.connected
        assert len(master.calls) == 1

    def test_plain_pymesos_storms_a_master_that_closes_at_once_and_ours_does_not(
        self, masters: Any, recorder: Any, run: Any, run_plain: Any, hardened: Any, plain: Any
    ) -> None:
        master, for_plain = masters(), masters()
        master.closes_at_once = for_plain.closes_at_once = True
        run(hardened(recorder, master.address, backoff=Backoff(initial=0.2)))
        run_plain(plain(type(recorder)(), for_plain.address))
        for_plain.call("SUBSCRIBE", 60)
        assert len(master.of("SUBSCRIBE")) < 12

    def test_a_driver_that_waits_stops_at_once(self, recorder: Any, hardened: Any) -> None:
        driver = hardened(recorder, "127.0.0.1:1", backoff=Backoff(initial=3600.0, maximum=3600.0))
        driver.start()
        recorder.wait_for(lambda: driver.problem)
        driver.stop()
        driver.join()
        assert driver.aborted
