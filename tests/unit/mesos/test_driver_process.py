"""What both drivers share: importing pymesos safely, and how long they wait before the next attempt."""

from __future__ import annotations

import subprocess
import sys

from polly_mesos.mesos.driver_process import Backoff


def in_a_thread(statement: str) -> subprocess.CompletedProcess[str]:
    """Run a statement in a thread of a new interpreter, then say whether SIGINT's handler is still the same."""
    program = f"""
import signal, threading
before = signal.getsignal(signal.SIGINT)
def work():
    {statement}
    print("imported")
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(signal.getsignal(signal.SIGINT) is before)
"""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)


def test_plain_pymesos_cannot_be_imported_outside_the_main_thread() -> None:
    ended = in_a_thread("import pymesos")
    assert "imported" not in ended.stdout
    assert "signal only works in main thread" in ended.stderr


def test_our_drivers_can_be_imported_anywhere_and_leave_the_signals_alone() -> None:
    ended = in_a_thread("import polly_mesos.mesos.scheduler_driver, polly_mesos.mesos.executor_driver")
    assert ended.stdout.split() == ["imported", "True"], ended.stderr


def test_delays_double_up_to_the_maximum_with_jitter() -> None:
    backoff = Backoff(initial=1.0, maximum=8.0)
    for failures, longest in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 8.0), (10_000, 8.0)):
        delays = {backoff.delay(failures) for _ in range(50)}
        assert len(delays) > 1
        assert longest / 2 <= min(delays) <= max(delays) <= longest
