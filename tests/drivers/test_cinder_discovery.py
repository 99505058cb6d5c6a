"""What Cinder can is found out before anything is asked of it; also where that fails at first."""

from __future__ import annotations

from typing import Any

import pytest

from polly_mesos.errors import PlatformError
from tests.drivers.cinder_cloud import cloud
from tests.drivers.test_cinder_failures import controller

pytestmark = [pytest.mark.root, pytest.mark.openstack, pytest.mark.timeout(600), pytest.mark.usefixtures("needs_cloud")]


@pytest.mark.parametrize("kind", ["lost", "html", "unavailable", "throttle", "not-json", "garbled"])
def test_an_answer_about_the_versions_that_is_no_good_is_not_taken_for_an_old_cinder(kind: Any) -> None:
    driver = controller()
    cloud().proxy.inject(kind, "GET", "", times=99)
    try:
        for _ in range(2):
            with pytest.raises(PlatformError) as caught:
                driver._calls.microversion("looking")
            assert caught.value.retryable
            assert not caught.value.outcome_unknown
    finally:
        cloud().proxy.clear()
    driver.list()
    assert driver._calls.microversion("looking") == (3, 44)


def test_one_that_comes_at_the_second_try_is_as_good() -> None:
    driver = controller()
    cloud().proxy.inject("lost", "GET", "", times=3)
    driver.list()
    assert driver._calls.microversion("looking") == (3, 44)
    cloud().proxy.clear()
