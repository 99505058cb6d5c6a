"""Drivers of third parties: found by entry point, and harmless when broken."""

from __future__ import annotations

import logging
from importlib.metadata import EntryPoint

import pytest

from drivers.declaration import Driver
from polly_mesos import plugins
from polly_mesos.errors import UnknownDriver


def test_our_own_drivers_are_installed() -> None:
    assert {"loop", "directory"} <= plugins.installed_drivers().keys()
    assert plugins.find_driver("loop").name == "loop"


def test_an_unknown_driver_is_named_with_what_there_is() -> None:
    with pytest.raises(
        UnknownDriver, match=r"no driver 'lopp' is installed \(did you mean loop\? installed are: .*loop"
    ):
        plugins.find_driver("lopp")


@pytest.mark.parametrize(
    ("target", "reason"),
    [("no_such_module:DRIVER", "cannot be imported"), ("json:loads", "is not a drivers.declaration.Driver")],
)
def test_a_broken_driver_is_reported_and_does_not_harm_the_others(
    target: str, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entries = [
        EntryPoint("broken", target, plugins.GROUP),
        EntryPoint("loop", "drivers.loop:DRIVER", plugins.GROUP),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: entries)
    with caplog.at_level(logging.WARNING):
        assert list(plugins.installed_drivers()) == ["loop"]
    assert f"driver 'broken' ({target}) {reason}" in caplog.text
    assert isinstance(plugins.find_driver("loop"), Driver)
    with pytest.raises(UnknownDriver, match=reason):
        plugins.find_driver("broken")
