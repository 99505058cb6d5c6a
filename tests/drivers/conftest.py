"""What the tests of drivers share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.cinder_cloud import cloud
from tests.leftovers import assert_nothing_left, require_root


@pytest.fixture
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """Needs root; after the test no mount and no loop device of it remains."""
    require_root()
    yield
    assert_nothing_left(tmp_path)


@pytest.fixture(scope="session")
def needs_cloud() -> None:
    """The real OpenStack is up, or the test is skipped."""
    cloud()
