"""The whole conformance suite of Polly, on this driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polly_driver_folder import DRIVER
from polly_driver_folder.controller import FolderController
from polly_driver_folder.settings import FolderSettings
from polly_mesos.errors import PlatformUnavailable
from polly_mesos.model import HostIdentity
from polly_mesos.testing import driver_suite


def settings(tmp_path: Path) -> dict[str, Any]:
    return {"directory": str(tmp_path)}


TestConformance = driver_suite(DRIVER, settings)


def test_a_share_that_is_not_mounted_is_not_an_empty_one(tmp_path: Path) -> None:
    controller = FolderController(FolderSettings(str(tmp_path / "missing")), "test")
    for look in (controller.list, lambda: controller.get("volume"), lambda: controller.delete("volume")):
        with pytest.raises(PlatformUnavailable):
            look()
    with pytest.raises(PlatformUnavailable):
        controller.detach("volume", HostIdentity("192.0.2.1:5051"))


def test_what_others_keep_on_the_share_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "photo").touch()
    (tmp_path / "letter").touch()
    controller = FolderController(FolderSettings(str(tmp_path)), "test")
    assert controller.list().volumes == ()
    for name in ("photos", "letter", "", ".", "..", "photos/photo"):
        controller.delete(name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["letter", "photo", "photos"]
