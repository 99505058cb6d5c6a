"""What `make` installs must run on Debian 12's own Python, whose last number is small."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

LOCK = Path(__file__).resolve().parents[2] / "requirements.lock"
PINS = [line.strip() for line in LOCK.read_text().splitlines() if line.strip() and not line.startswith("#")]
DEBIAN_12 = "3.11.2"


@pytest.mark.parametrize("pin", PINS)
def test_every_pin_runs_on_debian_12(pin: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin), "a name and a version, nothing else"
    name, _, version = pin.partition("==")
    installed = importlib.metadata.distribution(name)
    assert installed.version == version, "what is installed is not what is locked: make clean"
    wanted = installed.metadata["Requires-Python"]
    assert wanted is None or DEBIAN_12 in SpecifierSet(wanted)
