"""What every host said last."""

from __future__ import annotations

import threading

from polly_mesos.agent_api import HostReport
from polly_mesos.scheduler.hosts import HostView, HostViews


def test_the_newest_report_of_each_agent_is_kept_with_its_time() -> None:
    now = [100.0]
    views = HostViews(clock=lambda: now[0])
    assert views.get("a1") is None
    views.put("a1", HostReport({}, mounted={"v": "/old"}))
    now[0] = 130.0
    views.put("a1", HostReport({}, mounted={"v": "/new"}))
    views.put("a2", HostReport({}))
    assert views.get("a1") == HostView(HostReport({}, mounted={"v": "/new"}), 130.0)
    assert set(views.all()) == {"a1", "a2"}


def test_what_all_gave_does_not_change_under_its_reader() -> None:
    views = HostViews()
    views.put("a1", HostReport({}))
    seen = views.all()
    views.put("a2", HostReport({}))
    assert set(seen) == {"a1"}


def test_an_agent_can_be_forgotten() -> None:
    views = HostViews()
    views.put("a1", HostReport({}))
    views.forget("a1")
    views.forget("a1")
    assert views.get("a1") is None


def test_a_report_that_was_asked_for_is_waited_for() -> None:
    now = [100.0]
    views = HostViews(clock=lambda: now[0])
    views.put("a1", HostReport({}))
    now[0] = 101.0
    assert not views.wait_for(["a1"], since=101.0, patience=0.01)
    answer = threading.Thread(target=views.put, args=("a1", HostReport({})))
    answer.start()
    assert views.wait_for(["a1"], since=101.0, patience=10.0)
    answer.join()
    assert views.wait_for([], since=101.0, patience=0.0)


def test_what_a_host_holds_is_nothing_before_it_said_so() -> None:
    views = HostViews()
    assert views.generations("a1") == {}
    views.put("a1", HostReport({}, generations={"v": 3}))
    assert views.generations("a1") == {"v": 3}


def test_each_request_for_a_report_can_be_told_from_the_one_before() -> None:
    views = HostViews()
    assert views.asked("a1") == 0
    views.ask(["a1"])
    views.ask(["a1", "a2"])
    assert (views.asked("a1"), views.asked("a2"), views.asked("a3")) == (2, 1, 0)
