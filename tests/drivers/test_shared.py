"""What drivers of network platforms share: paced calls, waits that end, metadata."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.metadata import fetch, fill
from drivers.rate import RateLimiter
from drivers.waiting import Waiter
from polly_mesos.errors import HostError, PlatformUnavailable


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limiter(clock: Clock, rate: float = 10.0, burst: int = 5) -> RateLimiter:
    return RateLimiter(rate, burst, clock=clock, sleep=clock.sleep)


@given(rate=st.floats(0.5, 100), burst=st.integers(1, 50), calls=st.integers(1, 200))
def test_no_more_calls_go_out_than_the_rate_and_the_burst_allow(rate: float, burst: int, calls: int) -> None:
    clock = Clock()
    limit = limiter(clock, rate, burst)
    for _ in range(calls):
        limit.acquire()
    assert clock.now - 100.0 == pytest.approx(max(0, calls - burst) / rate, abs=1e-6)


def test_a_platform_that_throttles_is_asked_half_as_often_and_in_a_minute_as_before(clock: Clock) -> None:
    limit = limiter(clock)
    limit.throttled()
    begun = clock.now
    for _ in range(10):
        limit.acquire()
    assert clock.now - begun > 1.5
    clock.now += 60
    limit.acquire()
    assert limit.rate == 10.0


def test_many_refusals_of_one_moment_count_once_and_the_rate_never_ends(clock: Clock) -> None:
    limit = limiter(clock)
    for _ in range(50):
        limit.throttled()
    assert limit.rate == pytest.approx(5.0)
    for _ in range(1000):
        limit.throttled()
        clock.now += 0.3
    assert limit.rate > 0.05


def test_a_rate_that_lets_nothing_through_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="lets nothing through"):
        RateLimiter(0)


def test_a_wait_ends_with_the_first_answer() -> None:
    answers = iter([None, None, "there"])
    assert Waiter().until(lambda: next(answers), 10.0, "it", first=0.001) == "there"


def test_what_is_there_at_once_is_not_waited_for() -> None:
    assert Waiter().until(lambda: "there", 0.0, "it") == "there"


def test_a_wait_in_vain_says_what_it_was_for_and_that_it_may_come_yet() -> None:
    with pytest.raises(PlatformUnavailable, match="volume vol-1 to be attached") as caught:
        Waiter().until(lambda: None, 0.01, "volume vol-1 to be attached", first=0.001)
    assert caught.value.outcome_unknown


def test_closing_ends_a_wait_that_would_be_long() -> None:
    waiter, looked = Waiter(), threading.Event()

    def look() -> None:
        looked.set()

    caught: list[BaseException] = []

    def wait() -> None:
        try:
            waiter.until(look, 3600.0, "it", first=3600.0, longest=3600.0)
        except PlatformUnavailable as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert looked.wait(10)
    waiter.close()
    thread.join(10)
    assert not thread.is_alive()
    assert "Polly stops" in str(caught[0])


def test_an_error_while_waiting_is_told_as_it_is() -> None:
    with pytest.raises(KeyError):
        Waiter().until(lambda: {}["missing"], 10.0, "it")


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = 200 if self.headers["Metadata-Flavor"] == "Google" else 403
        self.send_response(status)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"i-1")

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def metadata() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_metadata_is_read_past_any_proxy(metadata: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert fetch(f"{metadata}/id", headers={"Metadata-Flavor": "Google"}) == b"i-1"


def test_a_metadata_service_that_refuses_is_named(metadata: str) -> None:
    with pytest.raises(HostError, match=f"GET {metadata}/id: 403"):
        fetch(f"{metadata}/id")


def test_a_host_without_metadata_service_says_what_is_to_be_done() -> None:
    with pytest.raises(HostError, match="must be an instance of the platform"):
        fetch("http://127.0.0.1:1/latest", timeout=1.0)


def test_a_setting_can_name_the_agent() -> None:
    assert fill("http://m/{hostname}/{port}/{node}", "10.0.0.1:5051") == "http://m/10.0.0.1/5051/10.0.0.1:5051"
