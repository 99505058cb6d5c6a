"""Which last words of Mesos are a violation."""

from __future__ import annotations

import pytest

from chaos.watch import unexplained

WINDOW = "F1120 21:15:06.522560 18140 slave.cpp:9262] Check failed: 'resourceProvider' Must be non NULL "
OTHER = "F1120 21:15:06.522560 18140 slave.cpp:9371] CHECK_SOME(totalResources.apply(conversions)): no such disk"


@pytest.mark.parametrize(
    "line",
    [
        OTHER,
        "F1120 21:15:06.522560 18140 slave.cpp:8766] Check failed: 'resourceProvider' Must be non NULL ",
        "*** Aborted at 1700000000 (unix time) ***",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "F1120 21:15:06.522560 18140 resources.cpp:1738] Check failed: resource_->resource.has_allocation_info()",
    ],
)
def test_an_abort_is_found(line: str) -> None:
    assert unexplained(f"I1120 all is well\n{line}\nI1120 more") == [line]


def test_the_windows_of_mesos_own_are_told_apart_with_what_follows_them() -> None:
    after = "*** Check failure stack trace: ***\n*** Aborted at 1700000000 (unix time) ***"
    assert unexplained(f"{WINDOW}\n{after}") == []


def test_another_abort_beside_such_a_window_is_found() -> None:
    assert unexplained(f"{WINDOW}\n*** Check failure stack trace: ***\n{OTHER}") == [OTHER]
